//! `Desktop`: what only the app can have the system do, for the app's window.

/// What only the app can have the system do. Its calls may block.
pub trait Desktop: Send + Sync + 'static {
    /// Whether the system starts the app with the session.
    ///
    /// # Errors
    /// Why the system cannot say.
    fn launches_at_login(&self) -> Result<bool, String>;

    /// Has the system start the app with the session, or not.
    ///
    /// # Errors
    /// Why the system refuses.
    fn launch_at_login(&self, on: bool) -> Result<(), String>;
}
