//! `menu_for`: what the menu holds in each state. Only what can be done now is offered.

use perch_protocol::{ModelState, Phase, State};
use perch_server::{Performance, Snapshot};

use super::words::{headline, resources, short, uptime, work, wrapped};
use super::{Action, Item};
use crate::updates::Known;

/// Models that the menu lists; the dashboard lists all.
const MODELS: usize = 15;
/// The keys of the lines that explain an error; there are as many as a text can have.
const DETAILS: [&str; 4] = ["detail:1", "detail:2", "detail:3", "detail:4"];
/// Likewise, of what an action failed with.
const NOTICES: [&str; 4] = ["notice:1", "notice:2", "notice:3", "notice:4"];

/// All that the menu shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct View {
    /// The server.
    pub(crate) seen: Snapshot,
    /// The ids of the models on this machine, while the server runs.
    pub(crate) models: Vec<String>,
    /// How much of the machine it takes.
    pub(crate) performance: Performance,
    /// Whether it starts with the session.
    pub(crate) at_login: bool,
    /// What is known about newer versions.
    pub(crate) updates: Known,
    /// What the last action failed with.
    pub(crate) notice: Option<String>,
    /// It is ending.
    pub(crate) quitting: bool,
    /// Milliseconds since 1970.
    pub(crate) now: u64,
}

/// The text beside the icon.
pub(crate) fn title_for(seen: &Snapshot) -> Option<String> {
    let answers = seen.server.phase == Phase::Running && seen.status.state == State::Active;
    (answers && seen.status.rates.decode >= 0.1).then(|| {
        let rate = seen.status.rates.decode;
        if rate < 10.0 { format!("{rate:.1} t/s") } else { format!("{rate:.0} t/s") }
    })
}

/// The whole menu.
pub(crate) fn menu_for(view: &View) -> Vec<Item> {
    let mut items = vec![Item::Line { key: "status", text: headline(&view.seen) }];
    let error = view.seen.server.error.as_ref().or(view.seen.status.error.as_ref());
    items.extend(lines(DETAILS, error.map(|error| &*error.message)));
    items.extend(lines(NOTICES, view.notice.as_deref()));
    if view.quitting {
        return items;
    }
    items.extend(power(&view.seen));
    let runs = view.seen.server.phase == Phase::Running;
    if runs {
        items.extend([Item::Separator(1), models(view), performance(view)]);
        items.push(Item::Separator(2));
        items.extend(figures(view));
    }
    items.push(Item::Separator(3));
    if runs {
        items.push(entry(Action::CopyUrl, "Copy Base URL"));
    }
    items.push(Item::Entry {
        action: Action::Dashboard,
        text: "Open Dashboard".to_owned(),
        keys: Some("CmdOrCtrl+,"),
    });
    if runs {
        items.push(entry(Action::ApiDocs, "API Documentation"));
    }
    items.push(Item::Separator(4));
    items.push(Item::Check {
        action: Action::LaunchAtLogin,
        text: "Launch at Login".to_owned(),
        checked: view.at_login,
        enabled: true,
    });
    items.push(updates(&view.updates));
    items.push(Item::About);
    items.push(Item::Separator(5));
    items.push(Item::Entry {
        action: Action::Quit,
        text: "Quit Perch".to_owned(),
        keys: Some("CmdOrCtrl+Q"),
    });
    items
}

fn entry(action: Action, text: &str) -> Item {
    Item::Entry { action, text: text.to_owned(), keys: None }
}

fn lines(keys: [&'static str; 4], text: Option<&str>) -> Vec<Item> {
    let lines = text.map(wrapped).unwrap_or_default();
    keys.into_iter().zip(lines).map(|(key, text)| Item::Line { key, text }).collect()
}

/// On and off, and the way out of an error.
fn power(seen: &Snapshot) -> Vec<Item> {
    let restart = || entry(Action::Restart, "Restart Server");
    match (seen.server.phase, seen.status.state) {
        (Phase::Stopped, _) => vec![entry(Action::Start, "Start Server")],
        (Phase::Starting | Phase::Stopping, _) => Vec::new(),
        (Phase::Running, State::Error) => vec![restart(), entry(Action::Stop, "Stop Server")],
        (Phase::Running, _) => vec![entry(Action::Stop, "Stop Server")],
        (Phase::Failed, _) => {
            let other = seen.server.free_port;
            let other = other.map(|port| entry(Action::StartOn(port), &format!("Use Port {port} Instead")));
            [restart()].into_iter().chain(other).collect()
        }
    }
}

fn models(view: &View) -> Item {
    let known = &view.seen.status.models;
    let state = |id: &str| known.iter().find(|model| model.id == id).map(|model| model.state);
    let mut ids: Vec<&String> = view.models.iter().collect();
    // In memory, but given by its path, or newer than the list.
    ids.extend(known.iter().map(|model| &model.id).filter(|id| !view.models.contains(id)));
    // Those in memory are always there to see.
    ids.sort_by_key(|id| state(id).is_none());
    let mut items: Vec<Item> = Vec::new();
    for &id in ids.iter().take(MODELS) {
        let (text, action) = (short(id), Action::Load(id.clone()));
        items.push(match state(id) {
            Some(ModelState::Loading) => {
                Item::Check { action, text: format!("{text} (loading)"), checked: false, enabled: false }
            }
            Some(ModelState::Failed) => {
                Item::Check { action, text: format!("{text} (failed)"), checked: false, enabled: true }
            }
            Some(_) => Item::Check { action, text, checked: true, enabled: true },
            None => Item::Check { action, text, checked: false, enabled: true },
        });
    }
    if ids.is_empty() {
        items.push(Item::Line { key: "no-models", text: "No models yet".to_owned() });
    }
    if ids.len() > MODELS {
        let text = format!("{} more in the dashboard", ids.len() - MODELS);
        items.push(Item::Line { key: "more-models", text });
    }
    let loaded = known
        .iter()
        .filter(|model| matches!(model.state, ModelState::Ready | ModelState::Restarting | ModelState::Hung));
    let unload: Vec<Item> = loaded
        .map(|model| entry(Action::Unload(model.id.clone()), &format!("Unload {}", short(&model.id))))
        .collect();
    if !unload.is_empty() {
        items.push(Item::Separator(1));
        items.extend(unload);
    }
    items.push(Item::Separator(2));
    items.push(entry(Action::Models, "Get More…"));
    Item::Menu { key: "models", text: "Models".to_owned(), items }
}

fn performance(view: &View) -> Item {
    let items = Performance::ALL.into_iter().map(|mode| {
        let text = match mode {
            Performance::Efficiency => "Efficiency",
            Performance::Balanced => "Balanced",
            Performance::Performance => "Performance",
        };
        let checked = view.performance == mode;
        Item::Check { action: Action::Performance(mode), text: text.to_owned(), checked, enabled: true }
    });
    Item::Menu { key: "performance", text: "Performance".to_owned(), items: items.collect() }
}

/// The next step towards a newer version.
fn updates(known: &Known) -> Item {
    let line = |text: String| Item::Line { key: "updating", text };
    match known {
        Known::OnTheWeb => entry(Action::Updates, "Check for Updates on the Web…"),
        Known::Unasked => entry(Action::Updates, "Check for Updates"),
        Known::Asking => line("Checking for Updates…".to_owned()),
        Known::Newest => entry(
            Action::Updates,
            concat!("Perch ", env!("CARGO_PKG_VERSION"), " Is the Newest; Check Again"),
        ),
        Known::Newer(version) => {
            entry(Action::InstallUpdate, &format!("Install Perch {version} and Restart"))
        }
        Known::Installing(version) => line(format!("Installing Perch {version}…")),
    }
}

/// What goes on, in numbers.
fn figures(view: &View) -> Vec<Item> {
    let status = &view.seen.status;
    let mut items = Vec::new();
    if let Some(used) = &status.resources {
        items.push(Item::Line { key: "resources", text: resources(used) });
    }
    items.push(Item::Line { key: "work", text: work(status) });
    if let Some(since) = status.started_at {
        items.push(Item::Line { key: "uptime", text: uptime(view.now.saturating_sub(since)) });
    }
    items
}
