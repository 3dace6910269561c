//! Importing: every source, every mode, and that nothing is ever half imported.

use std::fs;
use std::path::Path;

use perch_hub::{ImportError, ImportMode, ImportOptions, ImportSource, Profile};

use crate::home::Home;

fn with(mode: ImportMode) -> ImportOptions {
    ImportOptions { mode, ..ImportOptions::default() }
}

fn path(home: &Home, path: &str) -> ImportSource {
    ImportSource::Path(home.path(path))
}

#[test]
fn a_file_is_linked_and_its_bytes_are_not_stored_twice() {
    let home = Home::new();
    let file = home.gguf("elsewhere/m-Q4_0.gguf", "bytes");
    let report = home.import(&path(&home, "elsewhere/m-Q4_0.gguf"), &with(ImportMode::Link));
    assert_eq!(report.imported[0].id, "m-Q4_0");
    let model = home.model("m-Q4_0");
    assert_eq!(model.path, report.imported[0].path);
    assert_eq!(fs::read_link(&model.path).unwrap(), file);
    assert!(!home.path("data/models.toml").exists(), "a model without settings needs none");

    let again = home.import(&path(&home, "elsewhere/m-Q4_0.gguf"), &with(ImportMode::Link));
    assert!(again.skipped[0].1.contains("in the library already, as `m-Q4_0`"), "{:?}", again.skipped);
}

#[test]
fn a_split_model_comes_with_all_its_parts_also_beside_others() {
    let home = Home::new();
    for part in 1..=2 {
        home.gguf(&format!("elsewhere/o/n/big-Q4_0-0000{part}-of-00002.gguf"), "part");
    }
    home.gguf("elsewhere/o/n/small-Q8_0.gguf", "small");
    let report = home.import(&path(&home, "elsewhere"), &with(ImportMode::Copy));
    let ids: Vec<&str> = report.imported.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["o/n:Q4_0", "o/n:Q8_0"]);
    assert_eq!(home.ids(), ["o/n:Q4_0", "o/n:Q8_0"]);
    assert_eq!(home.model("o/n:Q4_0").files.len(), 2);
    fs::remove_dir_all(home.path("elsewhere")).unwrap();
    assert_eq!(home.model("o/n:Q4_0").size_bytes, 16);
}

#[test]
fn a_checkpoint_is_linked_as_a_folder_or_copied_with_what_belongs_to_it() {
    let home = Home::new();
    let folder = home.checkpoint("elsewhere/ck", "weights");
    let only = ImportOptions { models: Some(vec!["ck".to_owned()]), ..ImportOptions::default() };
    home.import(&ImportSource::Path(folder.clone()), &only);
    assert_eq!(fs::read_link(home.path("data/models/ck")).unwrap(), folder);
    home.remove("ck");
    home.gguf("elsewhere/ck/also-Q8_0.gguf", "not part of it");
    home.import(&ImportSource::Path(folder), &ImportOptions { mode: ImportMode::Copy, ..only });
    let copied: Vec<String> = home.everything().into_iter().filter(|path| path.starts_with("data")).collect();
    assert_eq!(
        copied,
        ["data/models/ck/config.json", "data/models/ck/model.safetensors", "data/models/ck/tokenizer.json"]
    );
}

#[test]
fn a_reference_is_an_entry_and_nothing_else_and_comments_stay() {
    let home = Home::new();
    let file = home.gguf("elsewhere/m-F16.gguf", "bytes");
    home.file("data/models.toml", "# mine\n[[models]]\nid = \"a\" # a note\naliases = [\"b\"]\n");
    let options = ImportOptions { profile: Some(Profile::Fast), ..with(ImportMode::Reference) };
    let report = home.import(&ImportSource::Path(file.clone()), &options);
    assert_eq!((report.imported[0].id.as_str(), &report.imported[0].path), ("m-F16", &file));
    let text = fs::read_to_string(home.path("data/models.toml")).unwrap();
    assert!(text.starts_with("# mine\n[[models]]\nid = \"a\" # a note\naliases = [\"b\"]\n"), "{text}");
    assert!(text.contains("context = 4096") && text.contains("quantize = \"q4_k\""), "{text}");
    assert!(text.contains("max_tokens = 1024") && text.contains(file.to_str().unwrap()), "{text}");
    assert!(!home.path("data/models").exists());
    let again = home.import(&ImportSource::Path(file.clone()), &with(ImportMode::Reference));
    assert!(again.skipped[0].1.contains("already, as `m-F16`"), "{:?}", again.skipped);

    assert!(home.storage().settings_file().remove("m-F16").unwrap());
    let text = fs::read_to_string(home.path("data/models.toml")).unwrap();
    assert_eq!(text, "# mine\n[[models]]\nid = \"a\" # a note\naliases = [\"b\"]\n");
}

#[test]
fn a_settings_file_that_cannot_be_read_stops_an_import_before_it_begins() {
    let home = Home::new();
    home.gguf("elsewhere/m.gguf", "bytes");
    home.file("data/models.toml", "[[models]\n");
    let options = ImportOptions { profile: Some(Profile::Fast), ..ImportOptions::default() };
    let error = home.storage().import(&path(&home, "elsewhere"), &options, &crate::home::check).unwrap_err();
    assert!(
        matches!(error, ImportError::Settings(_)) && error.to_string().contains("models.toml"),
        "{error}"
    );
    assert!(!home.path("data/models").exists());
}

#[test]
fn what_cannot_be_opened_is_not_imported_and_leaves_nothing_behind() {
    let home = Home::new();
    home.file("elsewhere/bad.gguf", "no model");
    home.gguf("elsewhere/good.gguf", "model");
    let report = home.import(&path(&home, "elsewhere"), &with(ImportMode::Copy));
    assert_eq!(report.imported.len(), 1);
    assert!(report.skipped[0].1.contains("damaged"), "{:?}", report.skipped);
    assert_eq!(home.ids(), ["good"]);

    // What opens where it lies and not where it was placed goes away again.
    let home = Home::new();
    home.gguf("elsewhere/m.gguf", "model");
    let own = home.path("data");
    let check =
        |path: &Path| if path.starts_with(&own) { Err("no".to_owned()) } else { crate::home::check(path) };
    let report = home.storage().import(&path(&home, "elsewhere"), &with(ImportMode::Copy), &check).unwrap();
    assert!(report.imported.is_empty());
    assert_eq!(home.everything(), ["elsewhere/m.gguf"]);
}

#[test]
fn a_model_whose_name_is_taken_needs_another_one() {
    let home = Home::new();
    home.gguf("models/m.gguf", "one");
    home.gguf("models/m/m.gguf", "one more");
    home.gguf("elsewhere/m.gguf", "two");
    let report = home.import(&path(&home, "elsewhere"), &ImportOptions::default());
    assert!(report.skipped[0].1.contains("another model"), "{:?}", report.skipped);
    let named = |id: &str| ImportOptions { id: Some(id.to_owned()), ..ImportOptions::default() };
    let error =
        home.storage().import(&path(&home, "elsewhere"), &named("../m"), &crate::home::check).unwrap_err();
    assert!(matches!(error, ImportError::Name { .. }), "{error}");
    home.import(&path(&home, "elsewhere"), &named("second"));
    assert_eq!(fs::read_to_string(&home.model("second").path).unwrap(), "GGUFtwo");
}

#[test]
fn a_dry_run_says_the_same_and_does_nothing() {
    let home = Home::new();
    home.gguf("lmstudio/models/p/r/m-Q4_0.gguf", "bytes");
    let source = ImportSource::LmStudio(home.path("lmstudio/models"));
    let before = home.everything();
    let options = ImportOptions { profile: Some(Profile::Balanced), ..ImportOptions::default() };
    let planned = home.import(&source, &ImportOptions { dry_run: true, ..options.clone() });
    assert_eq!(home.everything(), before);
    let done = home.import(&source, &options);
    assert_eq!(planned, done);
    assert_eq!(home.ids(), ["p/r:Q4_0"]);
    let settings = home.storage().settings_file().entries().unwrap();
    assert_eq!((settings[0].id.as_str(), &settings[0].path), ("p/r:Q4_0", &None));
}

#[test]
fn models_of_the_cache_are_there_already_and_only_get_settings() {
    let home = Home::new();
    home.cached("o/n-GGUF", "aaaa", "n-Q4_K_M.gguf", "GGUFn");
    home.main("o/n-GGUF", "aaaa");
    let report = home.import(&ImportSource::HuggingFace, &ImportOptions::default());
    assert!(report.skipped[0].1.contains("already"), "{:?}", report.skipped);
    let options = ImportOptions { profile: Some(Profile::Balanced), ..ImportOptions::default() };
    let report = home.import(&ImportSource::HuggingFace, &options);
    assert_eq!(report.imported[0].id, "o/n-GGUF:Q4_K_M");
    assert_eq!(home.ids(), ["o/n-GGUF:Q4_K_M"]);
    let text = fs::read_to_string(home.path("data/models.toml")).unwrap();
    assert!(text.contains("context = 16384") && !text.contains("path"), "{text}");
}

#[test]
fn ollamas_weights_are_used_in_place_with_what_its_parameters_say() {
    let home = Home::new();
    let params = r#"{"temperature":0.6,"top_k":20,"num_ctx":8192,"stop":["<|x|>"],"mirostat":1}"#;
    let layers =
        [("model", "GGUFllama"), ("params", params), ("template", "{{ .Prompt }}"), ("license", "MIT")];
    home.ollama("library/llama3.2/3b", &layers);
    home.ollama("library/lora/latest", &[("model", "GGUFllama"), ("adapter", "GGUFadapter")]);
    home.ollama("user/mine/latest", &[("model", "GGUFmine")]);
    let source = ImportSource::Ollama(home.path("ollama/models"));
    let report = home.import(&source, &ImportOptions::default());
    let ids: Vec<&str> = report.imported.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["llama3.2-3b", "user/mine:mine"]);
    assert!(report.skipped[0].1.contains("adapter"), "{:?}", report.skipped);
    let notes = &report.imported[0].found.notes;
    assert!(notes[0].contains("stop, mirostat") && notes[1].contains("template"), "{notes:?}");
    assert_eq!(fs::read_to_string(&home.model("llama3.2-3b").path).unwrap(), "GGUFllama");
    assert_eq!(home.library().find("llama3.2:3b").unwrap().id, "llama3.2-3b");
    let text = fs::read_to_string(home.path("data/models.toml")).unwrap();
    for line in ["id = \"llama3.2-3b\"", "context = 8192", "temperature = 0.6", "top_k = 20"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // Deleting it leaves Ollama's own as they were.
    let before = home.everything().into_iter().filter(|path| path.starts_with("ollama")).count();
    home.remove("llama3.2-3b");
    assert_eq!(home.everything().into_iter().filter(|path| path.starts_with("ollama")).count(), before);
    assert!(!fs::read_to_string(home.path("data/models.toml")).unwrap_or_default().contains("llama3.2"));
}

#[test]
fn a_blob_without_an_extension_can_be_referenced() {
    let home = Home::new();
    home.ollama("library/m/latest", &[("model", "GGUFm")]);
    let source = ImportSource::Ollama(home.path("ollama/models"));
    let report = home.import(&source, &with(ImportMode::Reference));
    let entry = &home.storage().settings_file().entries().unwrap()[0];
    assert_eq!((entry.id.as_str(), entry.path.as_ref()), ("m", Some(&report.imported[0].path)));
    assert_eq!(home.library().at_path(&report.imported[0].path).unwrap().size_bytes, 5);
}

#[test]
fn a_source_that_is_not_there_is_an_error_that_says_so() {
    let home = Home::new();
    home.file("empty/readme.txt", "");
    for (source, word) in [
        (path(&home, "nowhere"), "no such file"),
        (path(&home, "empty"), "no model in it"),
        (ImportSource::Ollama(home.path("empty")), "manifests"),
    ] {
        let error = home.storage().find_models(&source).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
