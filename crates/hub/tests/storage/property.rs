//! No sequence of imports, deletions and clean-ups takes a byte from a model that remains.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use perch_hub::{CleanupOptions, ImportMode, ImportOptions, ImportSource, RemoveOptions};
use proptest::prelude::*;

use crate::home::Home;

#[derive(Debug, Clone)]
enum Step {
    Import {
        source: usize,
        mode: usize,
    },
    Remove {
        pick: usize,
        files: bool,
        all_revisions: bool,
    },
    CleanUp,
    /// Another program deletes a model of its own.
    Lose {
        pick: usize,
    },
    /// A download brings another revision.
    Update {
        pick: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..5usize, 0..3usize).prop_map(|(source, mode)| Step::Import { source, mode }),
        4 => (any::<usize>(), any::<bool>(), any::<bool>())
            .prop_map(|(pick, files, all_revisions)| Step::Remove { pick, files, all_revisions }),
        2 => Just(Step::CleanUp),
        1 => any::<usize>().prop_map(|pick| Step::Lose { pick }),
        1 => any::<usize>().prop_map(|pick| Step::Update { pick }),
    ]
}

/// A machine with every kind of sharing: blobs between revisions, hard links, links, splits, two programs' stores.
fn machine() -> Home {
    let home = Home::new();
    for revision in ["aaaa", "bbbb"] {
        home.cached("o/ck", revision, "config.json", "{}");
        home.cached("o/ck", revision, "tokenizer.json", "{\"t\": 1}");
        home.cached("o/ck", revision, "model.safetensors", &format!("weights of {revision}"));
        home.cached("o/g", revision, "g-Q4_0.gguf", "GGUFsame in both");
        home.cached("o/g", revision, "g-Q8_0.gguf", &format!("GGUF{revision}"));
    }
    home.main("o/ck", "bbbb");
    home.main("o/g", "aaaa");
    home.gguf("models/m.gguf", "m");
    fs::hard_link(home.path("models/m.gguf"), home.path("models/twin.gguf")).unwrap();
    home.checkpoint("models/a/ck", "user's");
    home.gguf("models/a/ck/beside-Q8_0.gguf", "beside");
    for part in 1..=2 {
        home.gguf(&format!("lmstudio/models/p/r/big-Q4_0-0000{part}-of-00002.gguf"), &format!("part {part}"));
    }
    home.gguf("lmstudio/models/p/r/small-Q8_0.gguf", "small");
    home.ollama("library/one/latest", &[("model", "GGUFone"), ("params", "{\"top_k\": 5}")]);
    home.ollama("library/two/latest", &[("model", "GGUFone"), ("params", "{\"top_k\": 6}")]);
    home.gguf("elsewhere/x/x.gguf", "x");
    home.checkpoint("elsewhere/y", "y");
    home
}

/// What each model that requests could name is made of: its files, and those that a checkpoint cannot be read without.
fn contents(home: &Home) -> BTreeMap<(String, PathBuf), Vec<(PathBuf, String)>> {
    let mut models = home.library().scan();
    for entry in home.storage().settings_file().entries().unwrap() {
        let Some(path) = entry.path else { continue };
        if let Ok(model) = home.library().at_path(&path) {
            models.push(perch_hub::LocalModel { id: entry.id, ..model });
        }
    }
    let read = |file: PathBuf| fs::read_to_string(&file).ok().map(|text| (file, text));
    let of = |model: &perch_hub::LocalModel| {
        let beside = ["config.json", "tokenizer.json"].map(|name| model.path.join(name));
        model.files.iter().cloned().chain(beside).filter_map(read).collect::<Vec<_>>()
    };
    models.iter().map(|model| ((model.id.clone(), model.path.clone()), of(model))).collect()
}

fn carry_out(home: &Home, step: &Step) -> (Vec<PathBuf>, String) {
    let sources = [
        ImportSource::LmStudio(home.path("lmstudio/models")),
        ImportSource::Ollama(home.path("ollama/models")),
        ImportSource::Path(home.path("elsewhere")),
        ImportSource::Path(home.path("hf/hub")),
        ImportSource::Path(home.path("models")),
    ];
    match step {
        Step::Import { source, mode } => {
            let mode = [ImportMode::Link, ImportMode::Reference, ImportMode::Copy][*mode];
            let options = ImportOptions { mode, ..ImportOptions::default() };
            let _ = home.storage().import(&sources[*source], &options, &crate::home::check);
        }
        Step::Remove { pick, files, all_revisions } => {
            let all: Vec<(String, PathBuf)> = contents(home).into_keys().collect();
            if all.is_empty() {
                return Default::default();
            }
            let (id, path) = &all[pick % all.len()];
            let found =
                home.library().scan().into_iter().find(|model| model.id == *id && model.path == *path);
            let model = found.unwrap_or_else(|| home.library().at_path(path).unwrap());
            let options = RemoveOptions { files: *files, all_revisions: *all_revisions };
            if let Ok(removal) = home.storage().remove(id, &model, options) {
                for item in &removal.items {
                    assert_eq!(item.error, None, "{item:?}");
                }
            }
            return (vec![path.clone()], id.clone());
        }
        Step::CleanUp => {
            home.age();
            home.storage().cleanup(&CleanupOptions::default());
        }
        Step::Lose { pick } => {
            let lost = ["lmstudio/models/p/r/small-Q8_0.gguf", "elsewhere/x/x.gguf"][pick % 2];
            let _ = fs::remove_file(home.path(lost));
        }
        Step::Update { pick } => {
            let revision = ["cccc", "dddd"][pick % 2];
            home.cached("o/g", revision, "g-Q4_0.gguf", "GGUFsame in both");
            home.main("o/g", revision);
        }
    }
    Default::default()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_steps_takes_a_byte_from_a_model_that_remains(steps in prop::collection::vec(step(), 1..12)) {
        let home = machine();
        for step in &steps {
            let before = contents(&home);
            let (gone, id) = carry_out(&home, step);
            if matches!(step, Step::Lose { .. }) {
                continue;
            }
            let after = contents(&home);
            for ((name, path), files) in &before {
                // A revision that another takes the place of is not listed any more; its bytes stay all the same.
                if gone.contains(path) && *name == id {
                    continue;
                }
                for (file, text) in files {
                    let now = fs::read_to_string(file).ok();
                    prop_assert_eq!(now.as_ref(), Some(text), "{:?} took {} from {}", step, file.display(), name);
                }
                let listed = after.keys().any(|(_, listed)| listed == path);
                let replaced = matches!(step, Step::Update { .. });
                prop_assert!(listed || replaced, "{:?} took {} off the list", step, name);
            }
        }
    }
}
