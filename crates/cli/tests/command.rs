//! The command itself. With this test here, `cargo test --workspace` also builds the binary that the black-box tests drive.

use std::process::Command;

#[test]
fn the_version_is_the_packages_own() {
    let output = Command::new(env!("CARGO_BIN_EXE_perch")).arg("--version").output().expect("perch runs");
    assert!(output.status.success());
    let version = format!("perch {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), version);
}
