//! The app itself. With this test here, `cargo test --workspace` also builds the program that the black-box tests drive.

/// A tray needs a display; a server does not, and whoever has none should hear of it.
#[test]
#[cfg(target_os = "linux")]
fn without_a_display_the_app_says_what_runs_without_one() {
    let mut app = std::process::Command::new(env!("CARGO_BIN_EXE_perch-app"));
    let output = app.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").output().expect("the app starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("perch serve"));
}
