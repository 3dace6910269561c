//! What the app's own updates are made of: the signed archive of `Perch.app`, and the feed that names it.
//!
//! The signature is Tauri's (minisign), bound to the version, and has nothing to do with Apple's. See docs/app.md.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::macos::setting;
use super::{VERSION, write};
use crate::{setup, shell};

/// The signer; its version is that of the `tauri` in Cargo.lock, near enough.
const CLI: &str = "@tauri-apps/cli@2.12.5";
/// The private key: its text.
const KEY: &str = "TAURI_SIGNING_PRIVATE_KEY";
/// Where the files of this release will lie: an https address without the file's name.
const DOWNLOADS: &str = "PERCH_DOWNLOADS";

/// Makes the archive, its signature and `latest.json` beside the app, if there is a key to sign with.
pub(super) fn make(app: &Path) -> Result<()> {
    if setting(KEY).is_none() {
        eprintln!("No feed for updates: no {KEY}.");
        return Ok(());
    }
    let folder = app.parent().context("an app lies in a folder")?;
    let name = format!("Perch-{VERSION}-aarch64.app.tar.gz");
    let archive = folder.join(&name);
    let mut tar = Command::new("tar");
    // On a Mac tar would write a file of its own for every extended attribute.
    tar.env("COPYFILE_DISABLE", "1").arg("--create").arg("--gzip").arg("--file").arg(&archive);
    shell::run(tar.arg("--directory").arg(folder).arg(app.file_name().context("an app has a name")?))?;
    let signature = sign(&archive)?;
    let Some(downloads) = setting(DOWNLOADS) else {
        bail!("{DOWNLOADS} is not set: the feed must say where {name} will lie");
    };
    write(&folder.join("latest.json"), &feed(&downloads, &name, &signature))
}

/// Signs a file for this version; returns the signature, as the feed carries it.
fn sign(archive: &Path) -> Result<String> {
    setup::need("npx", &["npm"], "node")?;
    let mut sign = Command::new("npx");
    // The key and its password are in the environment, and stay off the command line.
    sign.args(["--yes", CLI, "signer", "sign", "--app-version", VERSION]);
    // Without this it would ask for one.
    if setting("TAURI_SIGNING_PRIVATE_KEY_PASSWORD").is_none() {
        sign.env("TAURI_SIGNING_PRIVATE_KEY_PASSWORD", "");
    }
    shell::run(sign.arg(archive))?;
    let file = archive.with_file_name(format!(
        "{}.sig",
        archive.file_name().context("an archive has a name")?.to_string_lossy()
    ));
    fs::read_to_string(&file).with_context(|| format!("the signer left no {}", file.display()))
}

fn feed(downloads: &str, name: &str, signature: &str) -> String {
    let url = format!("{}/{name}", downloads.trim_end_matches('/'));
    let mac = json!({ "url": url, "signature": signature.trim() });
    let feed = json!({ "version": VERSION, "platforms": { "darwin-aarch64": mac } });
    format!("{feed:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feed_names_the_archive_and_carries_its_signature() {
        let text = feed("https://example.org/v1/", "Perch.app.tar.gz", "c2ln\n");
        let feed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mac = &feed["platforms"]["darwin-aarch64"];
        assert_eq!(mac["url"], "https://example.org/v1/Perch.app.tar.gz");
        assert_eq!(mac["signature"], "c2ln");
        assert_eq!(feed["version"], VERSION);
    }
}
