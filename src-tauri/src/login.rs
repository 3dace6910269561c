//! Launch at login: the system's own list, and nothing else, is what counts.

use tauri::AppHandle;
use tauri_plugin_autostart::{Error, ManagerExt};

/// Whether the app starts with the session.
pub(crate) fn is_on(app: &AppHandle) -> bool {
    app.autolaunch().is_enabled().unwrap_or(false)
}

/// The other way round.
///
/// # Errors
/// When the system's list cannot be changed.
pub(crate) fn toggle(app: &AppHandle) -> Result<(), Error> {
    match is_on(app) {
        true => app.autolaunch().disable(),
        false => app.autolaunch().enable(),
    }
}

/// Writes the entry again if there is one: it names the program's place, and the app may have been moved.
pub(crate) fn renew(app: &AppHandle) {
    if is_on(app)
        && let Err(error) = app.autolaunch().enable()
    {
        tracing::warn!("launch at login could not be renewed: {error}");
    }
}
