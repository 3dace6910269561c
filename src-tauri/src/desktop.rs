//! What the dashboard may ask of the app: the same as the menu.

use perch_server::Desktop;
use tauri::{AppHandle, Manager};

use crate::login;
use crate::shell::Shell;

/// The app, for its window.
pub(crate) struct App(pub(crate) AppHandle);

impl Desktop for App {
    fn launches_at_login(&self) -> Result<bool, String> {
        Ok(login::is_on(&self.0))
    }

    fn launch_at_login(&self, on: bool) -> Result<(), String> {
        if login::is_on(&self.0) != on {
            login::toggle(&self.0)?;
        }
        // The menu shows it too.
        if let Some(shell) = self.0.try_state::<Shell>() {
            shell.redraw();
        }
        Ok(())
    }
}
