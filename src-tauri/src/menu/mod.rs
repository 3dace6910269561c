//! The menu as plain data: what it says and offers, as a pure function of what there is to see.
//!
//! An item's key is its identity: while the menu is open, items with the same key change in place.

mod build;
mod words;

use perch_server::Performance;

pub(crate) use build::{View, menu_for, title_for};
pub(crate) use words::icon_for;

/// One line of the menu.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// A line between groups. The number tells one from another.
    Separator(u8),
    /// Something to read.
    Line { key: &'static str, text: String },
    /// Something to do.
    Entry { action: Action, text: String, keys: Option<&'static str> },
    /// Something that is on or off; `enabled` is false while it changes.
    Check { action: Action, text: String, checked: bool, enabled: bool },
    /// A menu within the menu.
    Menu { key: &'static str, text: String, items: Vec<Item> },
    /// The system's own About panel.
    About,
}

impl Item {
    /// Its identity.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Separator(number) => format!("separator:{number}"),
            Self::Line { key, .. } | Self::Menu { key, .. } => (*key).to_owned(),
            Self::Entry { action, .. } | Self::Check { action, .. } => action.id(),
            Self::About => "about".to_owned(),
        }
    }
}

/// What a click does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start the server.
    Start,
    /// Start it on another port.
    StartOn(u16),
    /// Stop it.
    Stop,
    /// Stop it if it runs, and start it.
    Restart,
    /// Load a model.
    Load(String),
    /// Unload a model.
    Unload(String),
    /// Show the dashboard's list of models.
    Models,
    /// Take so much of the machine.
    Performance(Performance),
    /// Put the address for clients on the clipboard.
    CopyUrl,
    /// Show the dashboard.
    Dashboard,
    /// Show the description of the API.
    ApiDocs,
    /// Start with the session, or no longer.
    LaunchAtLogin,
    /// Ask whether there is a newer version, or show where there would be.
    Updates,
    /// Install the newer version, and start it.
    InstallUpdate,
    /// End.
    Quit,
}

impl Action {
    /// Its name, as menu events carry it.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Start => "start".to_owned(),
            Self::StartOn(port) => format!("start-on:{port}"),
            Self::Stop => "stop".to_owned(),
            Self::Restart => "restart".to_owned(),
            Self::Load(model) => format!("load:{model}"),
            Self::Unload(model) => format!("unload:{model}"),
            Self::Models => "models".to_owned(),
            Self::Performance(mode) => format!("performance:{}", mode.as_str()),
            Self::CopyUrl => "copy-url".to_owned(),
            Self::Dashboard => "dashboard".to_owned(),
            Self::ApiDocs => "api-docs".to_owned(),
            Self::LaunchAtLogin => "launch-at-login".to_owned(),
            Self::Updates => "updates".to_owned(),
            Self::InstallUpdate => "install-update".to_owned(),
            Self::Quit => "quit".to_owned(),
        }
    }

    /// The action of that name.
    pub(crate) fn of(id: &str) -> Option<Self> {
        if let Some((name, value)) = id.split_once(':') {
            return match name {
                "start-on" => value.parse().ok().map(Self::StartOn),
                "load" => Some(Self::Load(value.to_owned())),
                "unload" => Some(Self::Unload(value.to_owned())),
                "performance" => {
                    Performance::ALL.into_iter().find(|mode| mode.as_str() == value).map(Self::Performance)
                }
                _ => None,
            };
        }
        let plain = [
            Self::Start,
            Self::Stop,
            Self::Restart,
            Self::Models,
            Self::CopyUrl,
            Self::Dashboard,
            Self::ApiDocs,
            Self::LaunchAtLogin,
            Self::Updates,
            Self::InstallUpdate,
            Self::Quit,
        ];
        plain.into_iter().find(|action| action.id() == id)
    }
}

#[cfg(test)]
mod tests;
