//! The bar's menus while the window is in front. On a Mac copy and paste, closing and quitting by keys come from here.

use tauri::menu::{Menu, MenuItem, PredefinedMenuItem, Submenu};
use tauri::{AppHandle, Result, Wry};

use crate::menu::Action;

/// Application, Edit and Window.
pub(crate) fn build(app: &AppHandle) -> Result<Menu<Wry>> {
    // An item of our own: the system's would end the app without letting answers finish.
    let quit = MenuItem::with_id(app, Action::Quit.id(), "Quit Perch", true, Some("Cmd+Q"))?;
    let hide = PredefinedMenuItem::hide(app, None)?;
    let line = PredefinedMenuItem::separator(app)?;
    let edit = [
        PredefinedMenuItem::undo(app, None)?,
        PredefinedMenuItem::redo(app, None)?,
        PredefinedMenuItem::separator(app)?,
        PredefinedMenuItem::cut(app, None)?,
        PredefinedMenuItem::copy(app, None)?,
        PredefinedMenuItem::paste(app, None)?,
        PredefinedMenuItem::select_all(app, None)?,
    ];
    let edit: Vec<&dyn tauri::menu::IsMenuItem<Wry>> = edit.iter().map(|item| item as _).collect();
    let (close, minimize) =
        (PredefinedMenuItem::close_window(app, None)?, PredefinedMenuItem::minimize(app, None)?);
    Menu::with_items(
        app,
        &[
            &Submenu::with_items(app, "Perch", true, &[&hide, &line, &quit])?,
            &Submenu::with_items(app, "Edit", true, &edit)?,
            &Submenu::with_items(app, "Window", true, &[&minimize, &close])?,
        ],
    )
}
