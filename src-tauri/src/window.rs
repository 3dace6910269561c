//! The dashboard's window: made when it is wanted, gone when it is closed (a web view that nobody sees costs 200 MB).
//!
//! It shows the control surface and nothing else; other addresses go to the browser.

use tauri::webview::NewWindowResponse;
use tauri::{AppHandle, Manager, Url, WebviewUrl, WebviewWindowBuilder, WindowEvent};
use tauri_plugin_opener::OpenerExt;
use tauri_plugin_window_state::{AppHandleExt, StateFlags};

use crate::shell::Shell;

const LABEL: &str = "dashboard";

/// WebKit on Linux takes the page's language from the locale, and `C` is none: pages that format numbers in it would fail.
const LANGUAGE: &str = "try { new Intl.Locale(navigator.language) } catch {
  Object.defineProperty(Navigator.prototype, 'language', { get: () => 'en-US' });
  Object.defineProperty(Navigator.prototype, 'languages', { get: () => ['en-US'] });
}";

/// Shows the dashboard; at `place`, such as `#/models`, if it is not empty.
pub(crate) fn show(app: &AppHandle, place: &'static str) {
    if let Err(error) = try_show(app, place) {
        tracing::error!("the dashboard's window could not be shown: {error}");
    }
}

fn try_show(app: &AppHandle, place: &'static str) -> tauri::Result<()> {
    if let Some(window) = app.get_webview_window(LABEL) {
        if !place.is_empty() {
            window.eval(format!("location.hash = {place:?}"))?;
        }
        window.unminimize()?;
        window.show()?;
        return window.set_focus();
    }
    // A second instance may call before the first is ready.
    let Some(shell) = app.try_state::<Shell>() else { return Ok(()) };
    let origin = shell.surface().origin();
    let entrance: Url = shell.surface().entrance(place).parse().map_err(tauri::Error::InvalidUrl)?;
    let (for_pages, for_windows) = (app.clone(), app.clone());
    let window = WebviewWindowBuilder::new(app, LABEL, WebviewUrl::External(entrance))
        .title("Perch")
        .inner_size(1080.0, 760.0)
        .min_inner_size(560.0, 420.0)
        .initialization_script(LANGUAGE)
        .on_navigation(move |url| {
            let ours = url.origin().ascii_serialization() == origin;
            if !ours {
                browse(&for_pages, url.as_str());
            }
            ours
        })
        .on_new_window(move |url, _| {
            browse(&for_windows, url.as_str());
            NewWindowResponse::Deny
        })
        .build()?;
    let app = app.clone();
    window.on_window_event(move |event| {
        if matches!(event, WindowEvent::CloseRequested { .. }) {
            let kept = app.save_window_state(StateFlags::SIZE | StateFlags::POSITION | StateFlags::MAXIMIZED);
            if let Err(error) = kept {
                tracing::warn!("the window's size is not remembered: {error}");
            }
        }
    });
    window.set_focus()
}

/// Shows an address in the user's browser.
pub(crate) fn browse(app: &AppHandle, url: &str) {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return;
    }
    if let Err(error) = app.opener().open_url(url, None::<&str>) {
        tracing::error!("{url} could not be opened: {error}");
    }
}
