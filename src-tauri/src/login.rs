//! Launch at login: the system's own list, and nothing else, is what counts.

use std::path::Path;

use tauri::AppHandle;
use tauri_plugin_autostart::ManagerExt;

/// A word in the path of an app that macOS runs from a copy of its own: one that was downloaded and never moved. The copy
/// has another path after each start.
const TRANSLOCATED: &str = "/AppTranslocation/";

/// Whether the app starts with the session.
pub(crate) fn is_on(app: &AppHandle) -> bool {
    app.autolaunch().is_enabled().unwrap_or(false)
}

/// The other way round.
///
/// # Errors
/// Why the system's list cannot be changed, or would name a place that will not last.
pub(crate) fn toggle(app: &AppHandle) -> Result<(), String> {
    match is_on(app) {
        true => app.autolaunch().disable(),
        false if !lasts(&place()) => return Err("move Perch to Applications first".to_owned()),
        false => app.autolaunch().enable(),
    }
    .map_err(|error| error.to_string())
}

/// Writes the entry again if there is one: it names the program's place, and the app may have been moved.
pub(crate) fn renew(app: &AppHandle) {
    if is_on(app)
        && lasts(&place())
        && let Err(error) = app.autolaunch().enable()
    {
        tracing::warn!("launch at login could not be renewed: {error}");
    }
}

/// Where the program lies.
fn place() -> std::path::PathBuf {
    std::env::current_exe().unwrap_or_default()
}

/// Whether the program will be there at the next login.
fn lasts(program: &Path) -> bool {
    !program.to_string_lossy().contains(TRANSLOCATED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_macos_made_to_run_a_download_does_not_last() {
        let copy = "/private/var/folders/x1/T/AppTranslocation/5C6E/d/Perch.app/Contents/MacOS/perch-app";
        assert!(!lasts(Path::new(copy)));
        assert!(lasts(Path::new("/Applications/Perch.app/Contents/MacOS/perch-app")));
        assert!(lasts(Path::new("/usr/bin/perch-app")));
    }
}
