//! The Hugging Face cache: what goes with a model, and what stays for others.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use perch_hub::{RemoveError, RemoveOptions};

use crate::home::Home;

/// Two revisions that share a tokenizer, and a file of quantisations.
fn cache() -> Home {
    let home = Home::new();
    for (revision, weights) in [("aaaa", "old weights"), ("bbbb", "new weights")] {
        home.cached("o/ck", revision, "config.json", "{}");
        home.cached("o/ck", revision, "tokenizer.json", "{\"shared\": true}");
        home.cached("o/ck", revision, "model.safetensors", weights);
    }
    home.main("o/ck", "bbbb");
    for label in ["Q4_K_M", "Q8_0"] {
        home.cached("o/n-GGUF", "cccc", &format!("n-{label}.gguf"), &format!("GGUF{label}"));
    }
    home.cached("o/n-GGUF", "cccc", "README.md", "readme");
    home.main("o/n-GGUF", "cccc");
    home
}

#[test]
fn one_of_several_files_goes_alone_and_the_last_takes_the_repository_along() {
    let home = cache();
    let removal = home.remove("o/n-GGUF:Q8_0");
    assert_eq!(removal.freed_bytes(), 8);
    assert!(!home.blob("o/n-GGUF", "GGUFQ8_0").exists());
    assert!(home.blob("o/n-GGUF", "GGUFQ4_K_M").exists() && home.blob("o/n-GGUF", "readme").exists());
    assert_eq!(home.ids(), ["o/ck", "o/n-GGUF:Q4_K_M"]);

    let removal = home.remove("o/n-GGUF:Q4_K_M");
    // Two blobs, and the note of what `main` is.
    assert_eq!(removal.freed_bytes(), 10 + 6 + 4);
    assert!(!home.path("hf/hub/models--o--n-GGUF").exists());
}

#[test]
fn a_blob_that_another_revision_refers_to_stays() {
    let home = cache();
    let removal = home.remove("o/ck");
    assert_eq!(removal.freed_bytes(), "new weights".len() as u64 + 4);
    assert!(home.blob("o/ck", "{\"shared\": true}").exists() && home.blob("o/ck", "old weights").exists());
    assert!(
        !home.path("hf/hub/models--o--ck/refs/main").exists(),
        "a name without a revision is an error in Python"
    );
    assert!(removal.kept.iter().any(|kept| kept.path.ends_with("snapshots/aaaa")), "{:?}", removal.kept);
    assert_eq!(fs::read_to_string(home.model("o/ck").path.join("model.safetensors")).unwrap(), "old weights");
}

#[test]
fn all_revisions_go_when_that_is_asked_for() {
    let home = cache();
    home.remove_with("o/ck", RemoveOptions { all_revisions: true, ..RemoveOptions::default() });
    assert!(!home.path("hf/hub/models--o--ck").exists());
    assert_eq!(home.ids(), ["o/n-GGUF:Q4_K_M", "o/n-GGUF:Q8_0"]);
}

#[test]
fn what_a_plan_lists_is_what_goes_and_planning_changes_nothing() {
    let home = cache();
    let before = home.everything();
    let plan = home.storage().plan_removal("o/ck", &home.model("o/ck"), RemoveOptions::default()).unwrap();
    assert_eq!(home.everything(), before);
    let done = home.remove("o/ck");
    let paths = |items: &[perch_hub::Item]| items.iter().map(|item| item.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&plan.items), paths(&done.items));
    let gone = before.len() - home.everything().len();
    assert_eq!(gone, plan.items.iter().filter(|item| item.kind != perch_hub::ItemKind::Folder).count());
}

#[test]
fn a_model_that_a_link_elsewhere_needs_stays_whole() {
    let mut home = cache();
    let file = home.model("o/n-GGUF:Q8_0").path;
    home.references.push(perch_hub::Reference { id: "mine".to_owned(), path: file });
    let error =
        home.storage().plan_removal("o/n-GGUF:Q8_0", &home.model("o/n-GGUF:Q8_0"), RemoveOptions::default());
    match error.unwrap_err() {
        RemoveError::Needed { reason, .. } => assert!(reason.contains("`mine` needs it"), "{reason}"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_blob_that_is_being_downloaded_stays() {
    let home = cache();
    let digest = home.blob("o/ck", "new weights").file_name().unwrap().to_str().unwrap().to_owned();
    let lock = home.file(&format!("hf/hub/.locks/models--o--ck/{digest}.lock"), "");
    let lock = File::open(lock).unwrap();
    lock.lock().unwrap();
    let removal = home.remove("o/ck");
    assert!(home.blob("o/ck", "new weights").exists());
    assert!(removal.kept.iter().any(|kept| kept.reason.contains("downloading")), "{:?}", removal.kept);
}

#[test]
fn bytes_in_the_shared_store_go_with_the_last_repository_that_refers_to_them() {
    let home = Home::new();
    let hash = crate::home::sha256("xet");
    home.file("hf/hub/blobs/.huggingface-shared-blobs", "1\n");
    let payload = home.file(&format!("hf/hub/blobs/{}/{hash}", &hash[..2]), "GGUFshared");
    for repo in ["o/a", "o/b"] {
        let link = home.cached(repo, "aaaa", "m-Q8_0.gguf", "GGUFshared");
        let blob = link.parent().unwrap().join(fs::read_link(&link).unwrap());
        fs::remove_file(&blob).unwrap();
        symlink(format!("../../blobs/{}/{hash}", &hash[..2]), &blob).unwrap();
        home.main(repo, "aaaa");
    }
    // The library lists bytes once.
    assert_eq!(home.ids(), ["o/a:Q8_0"]);
    assert_eq!(home.remove("o/a:Q8_0").freed_bytes(), 4, "only the note of what `main` is");
    assert!(payload.exists());
    assert_eq!(home.ids(), ["o/b:Q8_0"]);
    assert_eq!(home.remove("o/b:Q8_0").freed_bytes(), 10 + 4);
    assert!(!payload.exists());
}
