//! `Live`: the menu on the screen, changed in place, so that it can be read while it is open.

use tauri::menu::{AboutMetadata, CheckMenuItem, IsMenuItem, Menu, MenuItem, PredefinedMenuItem, Submenu};
use tauri::{AppHandle, Result, Wry};

use crate::menu::Item;

/// An item on the screen, and what it shows.
pub(crate) struct Live {
    item: Item,
    handle: Handle,
}

enum Handle {
    Fixed(PredefinedMenuItem<Wry>),
    Entry(MenuItem<Wry>),
    Check(CheckMenuItem<Wry>),
    Menu(Submenu<Wry>, Vec<Live>),
}

/// A menu, or a menu within it.
pub(crate) trait Place {
    /// Puts an item in.
    fn put(&self, item: &dyn IsMenuItem<Wry>, at: usize) -> Result<()>;
    /// Takes an item out.
    fn take(&self, at: usize) -> Result<()>;
}

impl Place for Menu<Wry> {
    fn put(&self, item: &dyn IsMenuItem<Wry>, at: usize) -> Result<()> {
        self.insert(item, at)
    }

    fn take(&self, at: usize) -> Result<()> {
        self.remove_at(at).map(|_| ())
    }
}

impl Place for Submenu<Wry> {
    fn put(&self, item: &dyn IsMenuItem<Wry>, at: usize) -> Result<()> {
        self.insert(item, at)
    }

    fn take(&self, at: usize) -> Result<()> {
        self.remove_at(at).map(|_| ())
    }
}

impl Live {
    /// Makes `place`, which shows `live`, show `items`: what has the same key stays and changes, the rest goes or comes.
    pub(crate) fn draw(
        app: &AppHandle,
        place: &dyn Place,
        live: &mut Vec<Self>,
        items: Vec<Item>,
    ) -> Result<()> {
        let wanted = items.len();
        for (at, item) in items.into_iter().enumerate() {
            let key = item.key();
            match live[at..].iter().position(|shown| shown.item.key() == key) {
                Some(gone) => {
                    for _ in 0..gone {
                        place.take(at)?;
                        live.remove(at);
                    }
                    live[at].change(app, item)?;
                }
                None => {
                    let new = Self::new(app, item)?;
                    place.put(new.handle.as_item(), at)?;
                    live.insert(at, new);
                }
            }
        }
        while live.len() > wanted {
            place.take(wanted)?;
            live.remove(wanted);
        }
        Ok(())
    }

    fn new(app: &AppHandle, item: Item) -> Result<Self> {
        let handle = match &item {
            Item::Separator(_) => Handle::Fixed(PredefinedMenuItem::separator(app)?),
            Item::About => {
                Handle::Fixed(PredefinedMenuItem::about(app, Some("About Perch"), Some(about(app)))?)
            }
            Item::Line { key, text } => {
                Handle::Entry(MenuItem::with_id(app, *key, escaped(text), false, None::<&str>)?)
            }
            Item::Entry { action, text, keys } => {
                Handle::Entry(MenuItem::with_id(app, action.id(), escaped(text), true, *keys)?)
            }
            Item::Check { action, text, checked, enabled } => {
                let (id, text) = (action.id(), escaped(text));
                Handle::Check(CheckMenuItem::with_id(app, id, text, *enabled, *checked, None::<&str>)?)
            }
            Item::Menu { key, text, items } => {
                let menu = Submenu::with_id(app, *key, escaped(text), true)?;
                let mut live = Vec::new();
                Self::draw(app, &menu, &mut live, items.clone())?;
                Handle::Menu(menu, live)
            }
        };
        Ok(Self { item, handle })
    }

    fn change(&mut self, app: &AppHandle, item: Item) -> Result<()> {
        match (&mut self.handle, &self.item, &item) {
            (Handle::Entry(entry), Item::Line { text: old, .. }, Item::Line { text, .. })
            | (Handle::Entry(entry), Item::Entry { text: old, .. }, Item::Entry { text, .. })
                if old != text =>
            {
                entry.set_text(escaped(text))?;
            }
            (Handle::Check(check), Item::Check { text: old, enabled: was, .. }, Item::Check { .. }) => {
                let Item::Check { text, checked, enabled, .. } = &item else { return Ok(()) };
                if old != text {
                    check.set_text(escaped(text))?;
                }
                if was != enabled {
                    check.set_enabled(*enabled)?;
                }
                // A click checks it before anybody knows whether what it stands for will come true.
                if check.is_checked()? != *checked {
                    check.set_checked(*checked)?;
                }
            }
            (Handle::Menu(menu, live), _, Item::Menu { items, .. }) => {
                Self::draw(app, menu, live, items.clone())?;
            }
            _ => {}
        }
        self.item = item;
        Ok(())
    }
}

impl Handle {
    fn as_item(&self) -> &dyn IsMenuItem<Wry> {
        match self {
            Self::Fixed(item) => item,
            Self::Entry(item) => item,
            Self::Check(item) => item,
            Self::Menu(item, _) => item,
        }
    }
}

/// An ampersand would be taken for the sign of a mnemonic.
fn escaped(text: &str) -> String {
    text.replace('&', "&&")
}

fn about(app: &AppHandle) -> AboutMetadata<'static> {
    AboutMetadata {
        name: Some("Perch".to_owned()),
        version: Some(app.package_info().version.to_string()),
        comments: Some("Open language models on this machine.".to_owned()),
        license: Some("Apache-2.0".to_owned()),
        website: Some(env!("CARGO_PKG_REPOSITORY").to_owned()),
        icon: app.default_window_icon().cloned().map(tauri::image::Image::to_owned),
        ..AboutMetadata::default()
    }
}
