//! The library over real folders: what is found, what it is called, and what stays out.

use std::fs;
use std::path::{Path, PathBuf};

use perch_hub::{Format, Library, LibraryConfig, LocalModel, Source};
use tempfile::TempDir;

/// A home with a models folder, a data folder and a Hugging Face home, all empty.
struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes `len` bytes to a file, and its folders.
    fn file(&self, path: &str, len: usize) -> PathBuf {
        self.text(path, &"x".repeat(len))
    }

    fn text(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A file of the Hugging Face cache, stored as a blob with a link to it, as `huggingface_hub` does.
    #[cfg(unix)]
    fn cached(&self, repo: &str, rev: &str, file: &str, text: &str) {
        let repo = format!("hf/hub/models--{}", repo.replace('/', "--"));
        let blob = format!("{repo}/blobs/{rev}-{}", file.replace('/', "-"));
        self.text(&blob, text);
        let link = self.path(&format!("{repo}/snapshots/{rev}/{file}"));
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let up = "../".repeat(2 + file.matches('/').count());
        std::os::unix::fs::symlink(format!("{up}blobs/{rev}-{}", file.replace('/', "-")), link).unwrap();
    }

    fn library(&self) -> Library {
        Library::new(LibraryConfig {
            models_dirs: vec![self.path("models")],
            hf_home: Some(self.path("hf")),
            data_dir: self.path("data"),
        })
    }

    fn scan(&self) -> Vec<LocalModel> {
        self.library().scan()
    }

    fn ids(&self) -> Vec<String> {
        self.scan().into_iter().map(|m| m.id).collect()
    }
}

#[test]
fn folders_that_do_not_exist_hold_no_models() {
    assert_eq!(Home::new().scan(), []);
}

#[test]
fn gguf_files_are_named_by_their_stem_or_by_publisher_and_repository() {
    let home = Home::new();
    home.file("models/tiny-Q8_0.gguf", 10);
    home.file("models/one/deep.gguf", 10);
    home.file("models/lmstudio-community/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q4_K_M.gguf", 10);
    assert_eq!(home.ids(), ["tiny-Q8_0", "lmstudio-community/Qwen3-0.6B-GGUF:Q4_K_M", "deep"]);
    let models = home.scan();
    assert_eq!(models[0].quantization.as_deref(), Some("Q8_0"));
    assert_eq!(models[0].source, Source::ModelsDir);
    assert_eq!(models[1].repo.as_deref(), Some("lmstudio-community/Qwen3-0.6B-GGUF"));
}

#[test]
fn a_split_model_is_one_model_of_all_its_parts() {
    let home = Home::new();
    for part in 1..=3 {
        home.file(&format!("models/big-Q4_0-0000{part}-of-00003.gguf"), part * 100);
    }
    let models = home.scan();
    assert_eq!(models.len(), 1);
    assert_eq!(models[0].id, "big-Q4_0");
    assert_eq!(models[0].size_bytes, 600);
    assert_eq!(models[0].files.len(), 3);
    assert_eq!(models[0].path, home.path("models/big-Q4_0-00001-of-00003.gguf"));
}

#[test]
fn a_split_model_with_a_part_missing_is_not_listed_and_says_which() {
    let home = Home::new();
    home.file("models/big-00001-of-00003.gguf", 1);
    home.file("models/big-00003-of-00003.gguf", 1);
    assert_eq!(home.scan(), []);
    let error = home.library().find("big").unwrap_err().to_string();
    assert!(error.contains("big-00002-of-00003.gguf"), "{error}");
}

#[test]
fn a_checkpoint_folder_is_a_model_of_the_shards_its_index_names() {
    let home = Home::new();
    home.text("models/Qwen/Tiny/config.json", r#"{"torch_dtype":"bfloat16"}"#);
    home.text(
        "models/Qwen/Tiny/model.safetensors.index.json",
        r#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#,
    );
    home.file("models/Qwen/Tiny/model-00001-of-00002.safetensors", 5);
    home.file("models/Qwen/Tiny/consolidated.safetensors", 1000);
    assert_eq!(home.scan(), []);
    let error = home.library().find("qwen/tiny").unwrap_err().to_string();
    assert!(error.contains("model-00002-of-00002.safetensors"), "{error}");

    home.file("models/Qwen/Tiny/model-00002-of-00002.safetensors", 7);
    let models = home.scan();
    assert_eq!(models[0].id, "Qwen/Tiny");
    assert_eq!(models[0].path, home.path("models/Qwen/Tiny"));
    assert_eq!((models[0].format, models[0].size_bytes), (Format::Safetensors, 12));
    assert_eq!(models[0].quantization.as_deref(), Some("BF16"));
}

#[test]
fn an_mlx_model_is_told_by_its_group_size() {
    let home = Home::new();
    home.text("models/m/config.json", r#"{"quantization":{"group_size":64,"bits":4}}"#);
    home.file("models/m/model.safetensors", 5);
    let model = &home.scan()[0];
    assert_eq!((model.format, model.quantization.as_deref()), (Format::Mlx, Some("4bit")));
}

#[test]
fn a_folder_with_a_damaged_config_is_listed_so_that_loading_can_say_what_is_wrong() {
    let home = Home::new();
    home.text("models/m/config.json", "{");
    home.file("models/m/model.safetensors", 5);
    assert_eq!(home.ids(), ["m"]);
}

#[test]
fn adapters_projectors_and_other_files_are_not_models() {
    let home = Home::new();
    home.file("models/mmproj-F16.gguf", 5);
    home.file("models/lora/adapter_model.safetensors", 5);
    home.text("models/lora/config.json", "{}");
    home.file("models/notes.txt", 5);
    home.file("models/.hidden/x.gguf", 5);
    assert_eq!(home.scan(), []);
}

#[cfg(unix)]
#[test]
fn the_hugging_face_cache_gives_hub_ids_of_the_revision_that_main_names() {
    let home = Home::new();
    home.cached("Qwen/Qwen3-0.6B", "aaaa", "config.json", "{}");
    home.cached("Qwen/Qwen3-0.6B", "aaaa", "model.safetensors", "12345");
    home.cached("Qwen/Qwen3-0.6B", "bbbb", "config.json", "{}");
    home.cached("Qwen/Qwen3-0.6B", "bbbb", "model.safetensors", "1234567");
    home.text("hf/hub/models--Qwen--Qwen3-0.6B/refs/main", "aaaa");
    home.cached("unsloth/gemma-GGUF", "cccc", "gemma-Q4_K_M.gguf", "1");
    home.cached("unsloth/gemma-GGUF", "cccc", "BF16/gemma-BF16-00001-of-00002.gguf", "1");
    home.cached("unsloth/gemma-GGUF", "cccc", "BF16/gemma-BF16-00002-of-00002.gguf", "1");
    let models = home.scan();
    let ids: Vec<&str> = models.iter().map(|m| m.id.as_str()).collect();
    assert_eq!(ids, ["Qwen/Qwen3-0.6B", "unsloth/gemma-GGUF:Q4_K_M", "unsloth/gemma-GGUF:BF16"]);
    assert_eq!(models[0].size_bytes, 5);
    assert_eq!(models[0].source, Source::HfCache);
    assert_eq!(models[2].files.len(), 2);
}

#[cfg(unix)]
#[test]
fn a_download_that_is_not_complete_is_not_a_model() {
    let home = Home::new();
    home.cached("a/b", "aaaa", "config.json", "{}");
    home.cached("a/b", "aaaa", "model.safetensors", "12345");
    fs::remove_file(home.path("hf/hub/models--a--b/blobs/aaaa-model.safetensors")).unwrap();
    assert_eq!(home.scan(), []);
}

#[cfg(unix)]
#[test]
fn a_link_in_a_downloaded_snapshot_cannot_lead_out_of_the_cache() {
    let home = Home::new();
    let secret = home.file("secret.gguf", 5);
    let snapshot = home.path("hf/hub/models--a--b/snapshots/aaaa");
    fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink(secret, snapshot.join("x.gguf")).unwrap();
    assert_eq!(home.scan(), []);
}

#[cfg(unix)]
#[test]
fn loops_of_links_end_and_a_model_reached_twice_is_listed_once() {
    let home = Home::new();
    home.file("models/a/x.gguf", 5);
    std::os::unix::fs::symlink(home.path("models"), home.path("models/a/loop")).unwrap();
    std::os::unix::fs::symlink(home.path("models/a/x.gguf"), home.path("models/y.gguf")).unwrap();
    assert_eq!(home.ids(), ["y"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_named_like_a_model_is_not_opened() {
    let home = Home::new();
    home.file("models/x.gguf", 1);
    let pipe = home.path("models/pipe.gguf");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(home.ids(), ["x"]);
}

#[test]
fn folders_deeper_than_the_bound_are_not_entered() {
    let home = Home::new();
    home.file("models/1/2/3/4/in.gguf", 1);
    home.file("models/1/2/3/4/5/out.gguf", 1);
    assert_eq!(home.ids(), ["3/4:in"]);
}

#[test]
fn two_copies_of_one_model_both_have_an_id() {
    let home = Home::new();
    home.file("models/x.gguf", 1);
    home.file("models/b/x.gguf", 1);
    home.file("data/models/x.gguf", 1);
    assert_eq!(home.ids(), ["x", "b/x", "x@2"]);
    assert_eq!(home.scan()[2].source, Source::DataDir);
}

#[cfg(unix)]
#[test]
fn names_find_models_exactly_then_loosely() {
    let home = Home::new();
    for label in ["Q8_0", "Q4_K_M", "F16"] {
        home.cached("unsloth/Gemma-GGUF", "cccc", &format!("gemma-{label}.gguf"), "1");
    }
    home.cached("Qwen/Qwen3-0.6B", "aaaa", "config.json", "{}");
    home.cached("Qwen/Qwen3-0.6B", "aaaa", "model.safetensors", "1");
    home.file("models/local-Q4_0.gguf", 1);
    let library = home.library();
    for (asked, id) in [
        ("unsloth/Gemma-GGUF:F16", "unsloth/Gemma-GGUF:F16"),
        ("unsloth/gemma-gguf:q8_0", "unsloth/Gemma-GGUF:Q8_0"),
        ("unsloth/Gemma-GGUF", "unsloth/Gemma-GGUF:Q4_K_M"),
        ("qwen3-0.6b", "Qwen/Qwen3-0.6B"),
        ("local-Q4_0.gguf", "local-Q4_0"),
        ("local:q4_0", "local-Q4_0"),
    ] {
        assert_eq!(library.find(asked).unwrap().id, id, "{asked}");
    }
}

#[test]
fn a_short_name_that_two_repositories_share_finds_neither_but_suggests_both() {
    let home = Home::new();
    for owner in ["a", "b"] {
        home.text(&format!("models/{owner}/tiny/config.json"), "{}");
        home.file(&format!("models/{owner}/tiny/model.safetensors"), 1);
    }
    let error = home.library().find("tiny").unwrap_err();
    assert_eq!(error.suggestions, ["a/tiny", "b/tiny"]);
}

#[test]
fn a_typing_error_gets_a_suggestion_and_nonsense_gets_none() {
    let home = Home::new();
    home.file("models/qwen3-0.6b-q4_0.gguf", 1);
    let library = home.library();
    assert_eq!(library.find("qwen3-0.6-q40").unwrap_err().suggestions, ["qwen3-0.6b-q4_0"]);
    assert_eq!(library.find("zzz").unwrap_err().suggestions, [""; 0]);
    assert!(library.find("qwne3-0.6b-q4_0").unwrap_err().to_string().contains("did you mean"));
}

#[test]
fn a_path_finds_a_file_or_folder_for_the_user_but_never_for_a_request() {
    let home = Home::new();
    let file = home.file("elsewhere/m-Q4_0.gguf", 3);
    home.text("elsewhere/ck/config.json", "{}");
    home.file("elsewhere/ck/model.safetensors", 4);
    let library = home.library();

    let by_file = library.resolve(file.to_str().unwrap()).unwrap();
    assert_eq!((by_file.id.as_str(), by_file.source, by_file.size_bytes), ("m-Q4_0", Source::Path, 3));
    let by_folder = library.resolve(home.path("elsewhere/ck").to_str().unwrap()).unwrap();
    assert_eq!((by_folder.id.as_str(), by_folder.size_bytes), ("ck", 4));
    let holding_one_file = library.resolve(home.path("elsewhere").to_str().unwrap()).unwrap();
    assert_eq!(holding_one_file.id, "m-Q4_0");

    assert!(library.find(file.to_str().unwrap()).is_err());
    assert!(library.find("../elsewhere/m-Q4_0.gguf").is_err());
}

#[test]
fn a_path_without_a_model_says_what_a_model_is() {
    let home = Home::new();
    let text = home.file("elsewhere/readme.txt", 3);
    let library = home.library();
    let error = library.resolve(text.to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains(".gguf file"), "{error}");
    let error = library.resolve("/no/such/model.gguf").unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn a_folder_of_several_models_asks_which_one() {
    let home = Home::new();
    home.file("elsewhere/a.gguf", 3);
    home.file("elsewhere/b.gguf", 3);
    let error = home.library().resolve(home.path("elsewhere").to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("a.gguf") && error.contains("b.gguf"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_snapshot_given_by_its_path_keeps_its_hub_id() {
    let home = Home::new();
    home.cached("Qwen/Tiny", "aaaa", "config.json", "{}");
    home.cached("Qwen/Tiny", "aaaa", "model.safetensors", "1");
    let repo = home.path("hf/hub/models--Qwen--Tiny");
    for path in [repo.clone(), repo.join("snapshots/aaaa")] {
        assert_eq!(home.library().at_path(&path).unwrap().id, "Qwen/Tiny");
    }
}

#[test]
fn a_models_folder_may_be_a_model_or_a_hugging_face_cache_itself() {
    let home = Home::new();
    home.text("models/config.json", "{}");
    home.file("models/model.safetensors", 1);
    home.text("models/models--o--n/snapshots/aaaa/config.json", "{}");
    home.file("models/models--o--n/snapshots/aaaa/model.safetensors", 1);
    assert_eq!(home.ids(), ["o/n", "models"]);
}

#[test]
fn control_characters_in_a_name_asked_for_do_not_reach_the_message() {
    let error = Home::new().library().find("a\u{1b}[31m\nb").unwrap_err().to_string();
    assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{error:?}");
}

#[test]
fn a_tree_of_thousands_of_files_is_scanned_within_a_second() {
    let home = Home::new();
    for n in 0..3000 {
        home.file(&format!("models/d{}/m{n}.gguf", n % 50), 1);
    }
    let start = std::time::Instant::now();
    assert_eq!(home.scan().len(), 3000);
    assert!(start.elapsed().as_secs_f64() < 1.0, "{:?}", start.elapsed());
    assert!(Path::new(&home.scan()[0].path).is_absolute());
}
