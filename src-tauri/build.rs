//! Embeds what Tauri needs to know: tauri.conf.json and the icons. Refuses a build that could not check its own updates.

use std::env;

fn main() {
    let [feed, key] = ["PERCH_UPDATE_FEED", "PERCH_UPDATE_KEY"].map(|name| {
        println!("cargo:rerun-if-env-changed={name}");
        env::var(name).unwrap_or_default()
    });
    assert_eq!(feed.is_empty(), key.is_empty(), "PERCH_UPDATE_FEED and PERCH_UPDATE_KEY belong together");
    assert!(feed.is_empty() || feed.starts_with("https://"), "PERCH_UPDATE_FEED has to begin with https://");
    tauri_build::build();
}
