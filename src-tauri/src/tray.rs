//! The tray: an icon for each state, tokens a second beside it, and the menu under it.

use std::sync::{Mutex, PoisonError};

use tauri::image::Image;
use tauri::menu::{Menu, MenuEvent};
use tauri::tray::{TrayIcon, TrayIconBuilder};
use tauri::{AppHandle, Manager};

use crate::live::Live;
use crate::menu::{Action, Item, View, icon_for, menu_for, title_for};
use crate::shell::Shell;

/// The tray's id.
const TRAY: &str = "perch";

/// What is on the screen. Belongs to the main thread.
pub(crate) struct Tray {
    icon: TrayIcon,
    menu: Menu<tauri::Wry>,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    icon: &'static str,
    title: Option<String>,
    items: Vec<Live>,
}

/// What to draw.
#[derive(Clone)]
pub(crate) struct Picture {
    icon: &'static str,
    title: Option<String>,
    tooltip: String,
    items: Vec<Item>,
}

impl Picture {
    /// What to draw for `view`.
    pub(crate) fn of(view: &View) -> Self {
        let items = menu_for(view);
        let headline = items.iter().find_map(|item| match item {
            Item::Line { text, .. } => Some(text.clone()),
            _ => None,
        });
        let title = title_for(&view.seen);
        Self { icon: icon_for(&view.seen), title, tooltip: headline.unwrap_or_default(), items }
    }

    /// Whether it would look the same.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        self.icon == other.icon && self.title == other.title && self.items == other.items
    }
}

impl Tray {
    /// Puts an icon with an empty menu into the tray.
    pub(crate) fn new(app: &AppHandle) -> tauri::Result<Self> {
        let menu = Menu::new(app)?;
        let builder = TrayIconBuilder::with_id(TRAY)
            .menu(&menu)
            .icon(image("stopped")?)
            .icon_as_template(cfg!(target_os = "macos"))
            .tooltip("Perch")
            .show_menu_on_left_click(true);
        // On a Mac the app's own menu brings its clicks to the same handler.
        #[cfg(not(target_os = "macos"))]
        let builder = builder.on_menu_event(clicked);
        let icon = builder.build(app)?;
        Ok(Self { icon, menu, shown: Mutex::default() })
    }

    /// Draws. On the main thread only.
    pub(crate) fn draw(&self, app: &AppHandle, picture: Picture) -> tauri::Result<()> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.icon != picture.icon {
            // Setting an image by itself would forget that it is a template.
            self.icon.set_icon_with_as_template(Some(image(picture.icon)?), cfg!(target_os = "macos"))?;
            shown.icon = picture.icon;
        }
        if shown.title != picture.title {
            self.icon.set_title(picture.title.as_deref())?;
            shown.title = picture.title;
        }
        self.icon.set_tooltip(Some(&picture.tooltip))?;
        Live::draw(app, &self.menu, &mut shown.items, picture.items)
    }
}

/// A click in the menu.
pub(crate) fn clicked(app: &AppHandle, event: MenuEvent) {
    let Some(shell) = app.try_state::<Shell>() else { return };
    match Action::of(event.id().as_ref()) {
        Some(action) => shell.act(app, action),
        None => tracing::debug!(id = event.id().as_ref(), "a menu item without an action"),
    }
}

/// A state's image: a template on a Mac, which colours it to fit the bar; in colour elsewhere.
fn image(state: &str) -> tauri::Result<Image<'static>> {
    macro_rules! bytes {
        ($state:literal) => {
            if cfg!(target_os = "macos") {
                &include_bytes!(concat!("../../icons/tray/", $state, "-template.png"))[..]
            } else {
                &include_bytes!(concat!("../../icons/tray/", $state, ".png"))[..]
            }
        };
    }
    Image::from_bytes(match state {
        "starting" => bytes!("starting"),
        "idle" => bytes!("idle"),
        "active" => bytes!("active"),
        "error" => bytes!("error"),
        _ => bytes!("stopped"),
    })
}
