//! Folders of files: the user's, Perch's own, LM Studio's.

use std::fs;
use std::os::unix::fs::symlink;

use perch_hub::{ItemKind, Library, LibraryConfig, Programs, RemoveError, RemoveOptions, Storage};

use crate::home::Home;

const FILES: RemoveOptions = RemoveOptions { files: true, all_revisions: false };

#[test]
fn a_model_goes_with_all_its_parts_and_the_folders_it_leaves_empty() {
    let home = Home::new();
    for part in 1..=3 {
        home.gguf(&format!("models/o/big/big-Q4_0-0000{part}-of-00003.gguf"), "part");
    }
    home.gguf("models/o/other/x.gguf", "other");
    let removal = home.remove("o/big:Q4_0");
    assert_eq!(removal.freed_bytes(), 24);
    assert!(!home.path("models/o/big").exists() && home.path("models/o/other").exists());
}

#[test]
fn a_checkpoint_goes_with_what_belongs_to_it_and_leaves_what_does_not() {
    let home = Home::new();
    home.checkpoint("models/o/ck", "weights");
    home.file("models/o/ck/my notes.md", "mine");
    home.gguf("models/o/ck/also-Q8_0.gguf", "also");
    let removal = home.remove("o/ck");
    assert_eq!(home.everything(), ["models/o/ck/also-Q8_0.gguf", "models/o/ck/my notes.md"]);
    assert!(removal.kept.iter().any(|kept| kept.path.ends_with("my notes.md")), "{:?}", removal.kept);
}

#[test]
fn a_projector_goes_with_the_last_model_of_its_folder() {
    let home = Home::new();
    for name in ["v-Q4_0.gguf", "v-Q8_0.gguf", "mmproj-v-F16.gguf"] {
        home.gguf(&format!("models/o/v/{name}"), name);
    }
    home.remove("o/v:Q4_0");
    assert!(home.path("models/o/v/mmproj-v-F16.gguf").exists());
    home.remove("o/v:Q8_0");
    assert!(!home.path("models/o/v").exists());
}

#[test]
fn a_link_is_unlinked_and_its_target_stays_unless_asked() {
    let home = Home::new();
    let target = home.gguf("elsewhere/t-Q8_0.gguf", "target");
    fs::create_dir_all(home.path("data/models/t")).unwrap();
    let link = home.path("data/models/t/t-Q8_0.gguf");
    symlink(&target, &link).unwrap();
    let removal = home.remove("t-Q8_0");
    assert_eq!(removal.freed_bytes(), 0);
    assert_eq!(removal.items[0].kind, ItemKind::Link);
    assert!(removal.kept.iter().any(|kept| kept.path == target), "{:?}", removal.kept);
    assert!(target.exists() && !home.path("data/models/t").exists());

    fs::create_dir_all(home.path("data/models/t")).unwrap();
    symlink(&target, &link).unwrap();
    assert_eq!(home.remove_with("t-Q8_0", FILES).freed_bytes(), 10);
    assert!(!target.exists());
}

#[test]
fn a_linked_folder_is_unlinked_and_one_with_other_models_in_it_is_not() {
    let home = Home::new();
    let folder = home.checkpoint("elsewhere/ck", "weights");
    fs::create_dir_all(home.path("data/models/o")).unwrap();
    symlink(&folder, home.path("data/models/o/ck")).unwrap();
    home.remove("o/ck");
    assert!(!home.path("data/models/o").exists() && folder.join("model.safetensors").exists());

    home.gguf("shelf/a.gguf", "a");
    home.gguf("shelf/b.gguf", "b");
    fs::create_dir_all(home.path("data/models")).unwrap();
    symlink(home.path("shelf"), home.path("data/models/shelf")).unwrap();
    let plan = |options| home.storage().plan_removal("a", &home.model("a"), options);
    assert!(matches!(plan(RemoveOptions::default()), Err(RemoveError::LinkedFolder { .. })));
    home.remove_with("a", FILES);
    assert_eq!(home.ids(), ["b"]);
}

#[test]
fn a_link_of_perch_goes_with_the_bytes_that_it_leads_to() {
    let home = Home::new();
    let file = home.gguf("models/m.gguf", "bytes");
    fs::create_dir_all(home.path("data/models/copy")).unwrap();
    symlink(&file, home.path("data/models/copy/copy.gguf")).unwrap();
    assert_eq!(home.ids(), ["m"], "the same bytes are listed once");
    home.remove("m");
    assert_eq!(home.everything(), [""; 0]);
}

#[test]
fn another_programs_store_is_left_alone_unless_asked() {
    let home = Home::new();
    let file = home.gguf("lmstudio/models/p/m/m-Q4_0.gguf", "bytes");
    let library = Library::new(LibraryConfig {
        models_dirs: vec![home.path("lmstudio/models")],
        hf_home: Some(home.path("hf")),
        data_dir: home.path("data"),
    });
    let programs = Programs { lm_studio: vec![home.path("lmstudio/models")], ollama: Vec::new() };
    let storage = Storage::new(library.clone(), &programs, Vec::new());
    let model = library.find("p/m:Q4_0").unwrap();
    let refused = storage.remove(&model.id, &model, RemoveOptions::default());
    assert!(matches!(refused, Err(RemoveError::Foreign { .. })), "{refused:?}");
    assert!(file.exists());
    storage.remove(&model.id, &model, FILES).unwrap();
    assert!(!file.exists());
}

#[test]
fn a_second_name_of_the_same_bytes_frees_nothing() {
    let home = Home::new();
    let file = home.gguf("models/m.gguf", "bytes");
    fs::hard_link(&file, home.path("models/n.gguf")).unwrap();
    assert_eq!(home.remove("m").freed_bytes(), 0);
    assert_eq!(fs::read_to_string(home.path("models/n.gguf")).unwrap(), "GGUFbytes");
    assert_eq!(home.remove("n").freed_bytes(), 9);
}

#[test]
fn shared_bytes_count_once_in_the_statistics() {
    let home = Home::new();
    let file = home.gguf("models/m.gguf", "bytes");
    fs::hard_link(&file, home.path("models/n.gguf")).unwrap();
    for revision in ["aaaa", "bbbb"] {
        home.cached("o/ck", revision, "config.json", "{}");
        home.cached("o/ck", revision, "model.safetensors", "weights");
    }
    home.main("o/ck", "aaaa");
    let usage = home.storage().usage(&home.library().survey());
    assert_eq!((usage.total_bytes, usage.shared_bytes), (9 + 7 + 2, 9));
    let freed = |id: &str| usage.models.iter().find(|model| model.id == id).unwrap().freed_bytes;
    assert_eq!((freed("m"), freed("n"), freed("o/ck")), (0, 0, 0));
    assert!(usage.free_bytes > 0 && usage.stores.iter().all(|store| store.disk_bytes >= store.free_bytes));
}

/// Where the system tells what programs hold.
#[cfg(target_os = "linux")]
#[test]
fn a_model_that_a_program_has_open_stays_whole() {
    let home = Home::new();
    for part in 1..=2 {
        home.gguf(&format!("models/big-Q4_0-0000{part}-of-00002.gguf"), "part");
    }
    let second = fs::File::open(home.path("models/big-Q4_0-00002-of-00002.gguf")).unwrap();
    let mut program = std::process::Command::new("sleep").arg("60").stdin(second).spawn().unwrap();
    let refused = home.storage().remove("big-Q4_0", &home.model("big-Q4_0"), RemoveOptions::default());
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(matches!(&refused, Err(RemoveError::InUse { .. })), "{refused:?}");
    assert_eq!(home.everything().len(), 2);
    home.remove("big-Q4_0");
}
