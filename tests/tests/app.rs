//! The menu bar app as its user sees it: the real program in a real tray, clicked over D-Bus (`tests/app`).

use perch_tests::{desktop, play, skip};

macro_rules! scenarios {
    ($($name:ident: $scenario:literal;)*) => {
        $(
            #[test]
            fn $name() {
                if let Err(reason) = desktop() {
                    skip!("{reason}");
                }
                play($scenario);
            }
        )*
    };
}

scenarios! {
    the_menu_starts_and_stops_the_server_and_offers_what_can_be_done: "start_and_stop";
    running_answers_are_finished_when_the_server_stops: "running_answers_are_finished";
    a_taken_port_names_its_holder_and_the_next_one_is_a_click_away: "taken_port";
    a_port_that_has_become_free_is_taken_on_restart: "freed_port";
    a_damaged_model_is_an_error_with_its_reason_until_it_is_mended: "broken_model";
    models_are_loaded_and_unloaded_from_the_menu: "models";
    a_performance_mode_is_written_to_the_configuration: "performance";
    launch_at_login_is_an_entry_of_the_session_that_follows_the_app: "launch_at_login";
    a_second_instance_shows_the_window_of_the_first: "second_instance";
    the_window_comes_and_goes_while_the_tray_stays: "window";
    sigterm_lets_answers_finish: "terminated";
    the_dashboard_switches_the_server_from_its_window: "dashboard";
}

/// `TESTS_APP=target/release/perch-app cargo test -p perch-tests --test app footprint -- --ignored --nocapture`
#[test]
#[ignore = "measures; takes over a minute"]
fn footprint() {
    play("footprint");
}
