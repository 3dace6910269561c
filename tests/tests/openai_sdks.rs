//! The official OpenAI clients drive the real server: what they parse, what they raise.

use std::path::{Path, PathBuf};
use std::process::Command;

use perch_tests::{RandomModel, client_libraries, skip};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(name)
}

fn drive(mut client: Command) {
    let server = RandomModel::TINY.home("tiny").serve(["--model", "tiny"]);
    let output = client.arg(&server.url).arg("tiny").output().expect("the client runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_string();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    println!("{stdout}");
    assert!(output.status.success(), "{stdout}\n{stderr}");
}

#[test]
fn the_openai_python_client_drives_the_server() {
    let python = match client_libraries("TESTS_PYTHON") {
        Ok(python) => python,
        Err(reason) => skip!("{reason}"),
    };
    let mut client = Command::new(python);
    client.arg(script("openai_client.py"));
    drive(client);
}

#[test]
fn the_openai_javascript_client_drives_the_server() {
    let modules = match client_libraries("TESTS_NODE_MODULES") {
        Ok(modules) => modules,
        Err(reason) => skip!("{reason}"),
    };
    let mut client = Command::new("node");
    client.arg(script("openai_client.cjs")).env("NODE_PATH", modules);
    drive(client);
}
