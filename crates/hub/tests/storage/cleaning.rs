//! Cleaning up: what goes, what stays because somebody may need it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::time::Duration;

use perch_hub::{CleanupOptions, ItemKind, Removal};

use crate::home::Home;

fn paths(removal: &Removal, kind: ItemKind) -> Vec<String> {
    let of_kind = removal.items.iter().filter(|item| item.kind == kind);
    let mut names: Vec<String> =
        of_kind.map(|item| item.path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A cache with one of each kind of rubbish.
fn cluttered() -> Home {
    let home = Home::new();
    for (revision, text) in [("aaaa", "stale"), ("bbbb", "current")] {
        home.cached("o/ck", revision, "config.json", "{}");
        home.cached("o/ck", revision, "model.safetensors", text);
    }
    home.main("o/ck", "bbbb");
    home.file("hf/hub/models--o--ck/blobs/orphan", "orphan");
    home.file("hf/hub/models--o--ck/blobs/half.incomplete", "half");
    home.file("hf/hub/models--o--ck/refs/gone", "eeee");
    fs::create_dir_all(home.path("data/models/x")).unwrap();
    symlink(home.path("elsewhere/x.gguf"), home.path("data/models/x/x.gguf")).unwrap();
    home.gguf("data/models/.import-abc/model/y.gguf", "half imported");
    home.ollama("library/m/latest", &[("model", "GGUFollama")]);
    home.file(&format!("ollama/models/blobs/sha256-{}", crate::home::sha256("left")), "left");
    home.file(&format!("ollama/models/blobs/sha256-{}-partial", crate::home::sha256("half")), "half");
    home
}

#[test]
fn everything_that_nothing_needs_is_found_and_goes() {
    let home = cluttered();
    home.age();
    let before = home.everything();
    let plan = home.storage().plan_cleanup(&CleanupOptions::default());
    assert_eq!(home.everything(), before, "a plan changes nothing");
    assert_eq!(paths(&plan, ItemKind::UnreferencedSnapshot), ["config.json", "model.safetensors"]);
    assert_eq!(paths(&plan, ItemKind::BrokenLink), ["gone", "x.gguf"]);
    assert_eq!(paths(&plan, ItemKind::AbandonedImport), ["y.gguf"]);
    assert_eq!(paths(&plan, ItemKind::PartialDownload).len(), 2);
    let orphans = paths(&plan, ItemKind::OrphanedBlob);
    assert!(
        orphans.contains(&"orphan".to_owned()) && orphans.contains(&crate::home::sha256("stale")),
        "{orphans:?}"
    );
    // Two blobs of the cache, a partial download and a name of a revision, two of Ollama's, the abandoned import.
    assert_eq!(plan.freed_bytes(), 5 + 6 + 4 + 4 + 4 + 4 + 17);

    let done = home.storage().cleanup(&CleanupOptions::default());
    assert!(done.items.iter().all(|item| item.removed && item.error.is_none()), "{:?}", done.items);
    assert_eq!(done.freed_bytes(), plan.freed_bytes());
    assert_eq!(home.storage().plan_cleanup(&CleanupOptions::default()).items, []);
    assert_eq!(fs::read_to_string(home.model("o/ck").path.join("model.safetensors")).unwrap(), "current");
    assert!(
        home.path("ollama/models/blobs")
            .join(format!("sha256-{}", crate::home::sha256("GGUFollama")))
            .exists()
    );
    assert!(!home.path("data/models/x").exists() && !home.path("data/models/.import-abc").exists());
}

#[test]
fn what_was_written_a_short_time_ago_stays() {
    let home = cluttered();
    let plan = home.storage().plan_cleanup(&CleanupOptions { kinds: None, older_than: Duration::ZERO });
    assert_eq!(plan.items, []);
    assert!(plan.kept.iter().any(|kept| kept.reason.contains("a short time ago")));
}

#[test]
fn only_the_kinds_that_are_asked_for_go() {
    let home = cluttered();
    home.age();
    let kinds = Some(vec![ItemKind::PartialDownload]);
    let done = home.storage().cleanup(&CleanupOptions { kinds, ..CleanupOptions::default() });
    assert!(done.items.iter().all(|item| item.kind == ItemKind::PartialDownload));
    assert_eq!(done.freed_bytes(), 8);
}

#[test]
fn a_download_whose_lock_is_held_stays() {
    let home = cluttered();
    let lock = File::open(home.file("hf/hub/.locks/models--o--ck/half.lock", "")).unwrap();
    lock.lock().unwrap();
    home.age();
    let plan = home.storage().plan_cleanup(&CleanupOptions::default());
    assert!(plan.kept.iter().any(|kept| kept.path.ends_with("half.incomplete")), "{:?}", plan.kept);
    drop(lock);
    let plan = home.storage().plan_cleanup(&CleanupOptions::default());
    assert!(paths(&plan, ItemKind::PartialDownload).contains(&"half.incomplete".to_owned()));
}

/// Where the system tells what programs hold.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_a_program_has_open_stays() {
    use std::io::Read;
    use std::process::{Command, Stdio};

    let home = cluttered();
    home.age();
    let orphan = home.path("hf/hub/models--o--ck/blobs/orphan");
    let file = File::open(&orphan).unwrap();
    // Says a word when it runs, and holds the file until its input ends.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 9<&2; echo up; cat"]);
    let mut program = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).spawn().unwrap();
    program.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    let plan = home.storage().plan_cleanup(&CleanupOptions::default());
    drop(program.stdin.take());
    program.wait().unwrap();
    let kept = plan.kept.iter().find(|kept| kept.path == orphan).expect("it stays");
    assert!(kept.reason.contains(&program.id().to_string()), "{}", kept.reason);
}

#[test]
fn a_revision_without_a_name_stays_while_it_is_the_one_that_is_listed() {
    let home = Home::new();
    home.cached("o/ck", "aaaa", "config.json", "{}");
    home.cached("o/ck", "aaaa", "model.safetensors", "weights");
    home.age();
    assert_eq!(home.storage().cleanup(&CleanupOptions::default()).items, []);
    assert_eq!(home.ids(), ["o/ck"]);
}

#[test]
fn a_link_to_a_disk_that_is_not_connected_stays() {
    let home = Home::new();
    fs::create_dir_all(home.path("data/models/x")).unwrap();
    symlink("/Volumes/No such disk/x.gguf", home.path("data/models/x/x.gguf")).unwrap();
    home.age();
    let plan = home.storage().plan_cleanup(&CleanupOptions::default());
    assert_eq!(plan.items, []);
    assert!(plan.kept[0].reason.contains("not be connected"), "{:?}", plan.kept);
}

#[test]
fn a_manifest_that_cannot_be_read_keeps_all_of_ollamas_blobs() {
    let home = cluttered();
    home.file("ollama/models/manifests/registry.ollama.ai/library/m/broken", "{");
    home.age();
    let plan = home.storage().plan_cleanup(&CleanupOptions::default());
    assert!(plan.items.iter().all(|item| !item.path.starts_with(home.path("ollama"))), "{:?}", plan.items);
}
