//! The menu in every state.

use perch_protocol::{ModelState, ModelStatus, Phase, Problem, Rates, Resources, ServerState, State, Status};
use perch_server::Snapshot;

use super::*;
use crate::updates::Known;

fn seen(phase: Phase, state: State) -> Snapshot {
    let runs = matches!(phase, Phase::Running | Phase::Stopping);
    let url = runs.then(|| "http://127.0.0.1:8080".to_owned());
    Snapshot {
        server: ServerState { phase, url, ..ServerState::default() },
        status: Status { state, started_at: runs.then_some(0), ..Status::default() },
    }
}

fn running() -> View {
    View { seen: seen(Phase::Running, State::Idle), ..View::default() }
}

/// Everything that can be read, menus within the menu after a `>`.
fn texts(items: &[Item]) -> Vec<String> {
    let text = |item: &Item| match item {
        Item::Separator(_) => vec![],
        Item::Line { text, .. } | Item::Entry { text, .. } => vec![text.clone()],
        Item::Check { text, checked, .. } => vec![format!("{}{text}", if *checked { "✓ " } else { "" })],
        Item::Menu { text, items, .. } => {
            let inner = texts(items).into_iter().map(|inner| format!("{text} > {inner}"));
            inner.collect()
        }
        Item::About => vec!["About".to_owned()],
    };
    items.iter().flat_map(text).collect()
}

fn actions(items: &[Item]) -> Vec<Action> {
    let action = |item: &Item| match item {
        Item::Entry { action, .. } | Item::Check { action, .. } => vec![action.clone()],
        Item::Menu { items, .. } => actions(items),
        _ => vec![],
    };
    items.iter().flat_map(action).collect()
}

fn model(id: &str, state: ModelState) -> ModelStatus {
    serde_json::from_value(serde_json::json!({
        "id": id, "state": state, "error": null, "weight_bytes": 0, "context_length": null, "running": 0,
        "waiting": 0, "kv_bytes": 0, "kv_budget_bytes": 0, "expires_at": null, "loaded_at": null,
    }))
    .unwrap()
}

#[test]
fn only_what_can_be_done_now_is_offered() {
    let power = |phase, state| {
        let items = menu_for(&View { seen: seen(phase, state), ..View::default() });
        let wanted = [Action::Start, Action::Stop, Action::Restart];
        actions(&items).into_iter().filter(|action| wanted.contains(action)).collect::<Vec<_>>()
    };
    assert_eq!(power(Phase::Stopped, State::Stopped), [Action::Start]);
    assert_eq!(power(Phase::Starting, State::Starting), []);
    assert_eq!(power(Phase::Running, State::Starting), [Action::Stop]);
    assert_eq!(power(Phase::Running, State::Idle), [Action::Stop]);
    assert_eq!(power(Phase::Running, State::Active), [Action::Stop]);
    assert_eq!(power(Phase::Running, State::Error), [Action::Restart, Action::Stop]);
    assert_eq!(power(Phase::Stopping, State::Active), []);
    assert_eq!(power(Phase::Failed, State::Error), [Action::Restart]);
}

#[test]
fn what_needs_a_server_is_there_while_it_runs() {
    let needs = [Action::CopyUrl, Action::ApiDocs, Action::Models];
    for phase in [Phase::Stopped, Phase::Starting, Phase::Stopping, Phase::Failed, Phase::Running] {
        let offered = actions(&menu_for(&View { seen: seen(phase, State::Idle), ..View::default() }));
        let runs = phase == Phase::Running;
        assert!(needs.iter().all(|action| offered.contains(action) == runs), "{phase:?}");
        for always in [Action::Dashboard, Action::LaunchAtLogin, Action::Updates, Action::Quit] {
            assert!(offered.contains(&always), "{always:?} in {phase:?}");
        }
    }
}

#[test]
fn a_taken_port_names_its_holder_and_offers_the_next_one() {
    let mut seen = seen(Phase::Failed, State::Error);
    let message = "Port 8080 is taken by node (process 42)".to_owned();
    seen.server.error = Some(Problem { code: "conflict".to_owned(), message: message.clone() });
    seen.server.free_port = Some(8081);
    let items = menu_for(&View { seen, ..View::default() });
    assert_eq!(
        texts(&items)[..4],
        ["Perch could not start", &message, "Restart Server", "Use Port 8081 Instead"]
    );
    assert!(actions(&items).contains(&Action::StartOn(8081)));
}

#[test]
fn the_first_line_says_the_state_and_the_address() {
    let first =
        |phase, state| texts(&menu_for(&View { seen: seen(phase, state), ..View::default() })).swap_remove(0);
    assert_eq!(first(Phase::Stopped, State::Stopped), "Perch is stopped");
    assert_eq!(first(Phase::Starting, State::Starting), "Perch is starting");
    assert_eq!(first(Phase::Running, State::Idle), "Ready at 127.0.0.1:8080");
    assert_eq!(first(Phase::Running, State::Active), "Answering at 127.0.0.1:8080");
    assert_eq!(first(Phase::Stopping, State::Active), "Perch is stopping");
}

#[test]
fn models_in_memory_come_first_are_checked_and_can_be_unloaded() {
    let mut view = View { models: vec!["a".into(), "b".into(), "c".into()], ..running() };
    view.seen.status.models = vec![model("b", ModelState::Ready), model("c", ModelState::Loading)];
    let texts = texts(&menu_for(&view));
    let models: Vec<&String> = texts.iter().filter(|text| text.starts_with("Models")).collect();
    let expected =
        ["Models > ✓ b", "Models > c (loading)", "Models > a", "Models > Unload b", "Models > Get More…"];
    assert_eq!(models, expected);
}

#[test]
fn a_long_list_of_models_leaves_the_rest_to_the_dashboard() {
    let view = View { models: (0..40).map(|n| format!("model-{n:02}")).collect(), ..running() };
    let texts = texts(&menu_for(&view));
    assert!(texts.contains(&"Models > 25 more in the dashboard".to_owned()));
}

#[test]
fn figures_are_short_and_in_the_users_units() {
    let mut view = View { now: 3 * 3_600_000 + 12 * 60_000, ..running() };
    view.seen.status.state = State::Active;
    view.seen.status.requests.active = 2;
    view.seen.status.requests.completed = 128;
    view.seen.status.rates = Rates { prefill: 0.0, decode: 42.4 };
    view.seen.status.resources =
        Some(Resources { memory_bytes: 1_288_490_189, cpu_percent: 203.4, ..Resources::default() });
    let texts = texts(&menu_for(&view));
    for expected in ["Memory 1.2 GB, CPU 203 %", "2 now, 128 before, 42 tokens/s", "Up for 3 h 12 min"] {
        assert!(texts.contains(&expected.to_owned()), "{expected} in {texts:#?}");
    }
    assert_eq!(title_for(&view.seen), Some("42 t/s".to_owned()));
    assert_eq!(title_for(&running().seen), None);
}

#[test]
fn each_state_has_an_icon_of_its_own() {
    let icon = |phase, state| icon_for(&seen(phase, state));
    assert_eq!(icon(Phase::Stopped, State::Stopped), "stopped");
    assert_eq!(icon(Phase::Starting, State::Starting), "starting");
    assert_eq!(icon(Phase::Running, State::Starting), "starting");
    assert_eq!(icon(Phase::Running, State::Idle), "idle");
    assert_eq!(icon(Phase::Running, State::Active), "active");
    assert_eq!(icon(Phase::Running, State::Error), "error");
    assert_eq!(icon(Phase::Failed, State::Error), "error");
}

#[test]
fn one_performance_mode_is_checked() {
    let view = View { performance: Performance::Efficiency, ..running() };
    let checked: Vec<String> =
        texts(&menu_for(&view)).into_iter().filter(|t| t.contains("Performance > ✓")).collect();
    assert_eq!(checked, ["Performance > ✓ Efficiency"]);
}

#[test]
fn long_errors_are_wrapped_and_cut() {
    let text = "word ".repeat(200);
    let view = View { notice: Some(text), ..running() };
    let items = menu_for(&view);
    let notices: Vec<&Item> = items.iter().filter(|item| item.key().starts_with("notice")).collect();
    assert_eq!(notices.len(), 4);
    assert!(texts(&items).iter().all(|text| text.chars().count() <= 80), "{items:#?}");
}

#[test]
fn keys_are_unique_and_actions_are_found_by_their_names() {
    let mut view = View { models: vec!["org/a:Q4_K_M".into(), "b".into()], ..running() };
    view.seen.status.models = vec![model("b", ModelState::Ready)];
    fn check(items: &[Item]) {
        let mut keys: Vec<String> = items.iter().map(Item::key).collect();
        keys.sort();
        let all = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), all, "{items:#?}");
        for item in items {
            if let Item::Menu { items, .. } = item {
                check(items);
            }
        }
    }
    let items = menu_for(&view);
    check(&items);
    let more = [Action::Start, Action::Restart, Action::StartOn(8081)];
    for action in actions(&items).into_iter().chain(more) {
        assert_eq!(Action::of(&action.id()), Some(action));
    }
    assert_eq!(Action::of("frobnicate"), None);
}

#[test]
fn nothing_can_be_clicked_while_it_ends() {
    let items = menu_for(&View { quitting: true, ..running() });
    assert_eq!(actions(&items), []);
}

#[test]
fn updates_say_what_a_click_does() {
    let offered = |updates: Known| {
        let items = menu_for(&View { updates, ..running() });
        let texts: Vec<String> = texts(&items).into_iter().filter(|text| text.contains("pdat")).collect();
        let wanted = [Action::Updates, Action::InstallUpdate];
        let clicks: Vec<Action> = actions(&items).into_iter().filter(|a| wanted.contains(a)).collect();
        (texts.first().cloned(), clicks)
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(offered(Known::OnTheWeb), (text("Check for Updates on the Web…"), vec![Action::Updates]));
    assert_eq!(offered(Known::Unasked), (text("Check for Updates"), vec![Action::Updates]));
    assert_eq!(offered(Known::Asking), (text("Checking for Updates…"), vec![]));
    assert_eq!(offered(Known::Newest).1, [Action::Updates]);
    assert_eq!(offered(Known::Newer("9.9.9".into())).1, [Action::InstallUpdate]);
    assert_eq!(offered(Known::Installing("9.9.9".into())).1, []);
}
