//! Precedence, unknown keys and checks, with real files.

use super::*;

fn load(files: &[(&str, &str)], env: &[(&str, &str)], flags: Layer) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::load(Sources { data_dir: Some(dir.path().to_owned()), env, flags })
}

fn error(files: &[(&str, &str)], env: &[(&str, &str)]) -> String {
    load(files, env, Layer::default()).unwrap_err().to_string()
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
    let file = [("config.toml", "host = \"127.0.0.2\"\nport = 1\nmax_models = 7")];
    let env = [("PERCH_PORT", "2"), ("PERCH_MAX_MODELS", "8"), ("OTHER", "x")];
    let flags = Layer { max_models: Some(9), ..Layer::default() };
    let config = load(&file, &env, flags).unwrap();
    assert_eq!(config.host, "127.0.0.2");
    assert_eq!(config.port, 2);
    assert_eq!(config.pool.max_models, 9);
    assert_eq!(config.http.max_connections, 1024);
}

#[test]
fn an_unknown_key_of_the_file_is_named_with_its_line() {
    let text = error(&[("config.toml", "host = \"localhost\"\nprot = 1")], &[]);
    assert!(text.contains("config.toml") && text.contains("line 2") && text.contains("`prot`"), "{text}");
    let text = error(&[("models.toml", "[[models]]\nid = \"a\"\nbakend = \"candle\"")], &[]);
    assert!(text.contains("models.toml") && text.contains("`bakend`"), "{text}");
    let text = error(&[("models.toml", "port = 1")], &[]);
    assert!(text.contains("`port`"), "{text}");
}

#[test]
fn an_unknown_or_unreadable_variable_is_named() {
    let text = error(&[], &[("PERCH_PROT", "1")]);
    assert!(text.starts_with("PERCH_PROT: ") && text.contains("PERCH_PORT"), "{text}");
    let text = error(&[], &[("PERCH_PORT", "eighty")]);
    assert!(text.starts_with("PERCH_PORT: ") && text.contains("eighty"), "{text}");
    let text = error(&[], &[("PERCH_PORT", "65536")]);
    assert!(text.starts_with("PERCH_PORT: "), "{text}");
    let text = error(&[], &[("PERCH_QUANTIZE", "q3")]);
    assert!(text.starts_with("PERCH_QUANTIZE: ") && text.contains("q3"), "{text}");
}

/// A variable that the table does not turn into its key would fail on every value.
#[test]
fn every_variable_is_read() {
    let env = [
        ("PERCH_HOST", "::1"),
        ("PERCH_PORT", "1"),
        ("PERCH_MODELS_DIRS", "/a:/b"),
        ("PERCH_MODEL", "m"),
        ("PERCH_MAX_MODELS", "3"),
        ("PERCH_IDLE_TTL", "never"),
        ("PERCH_LOAD_TIMEOUT", "5s"),
        ("PERCH_MEMORY_LIMIT", "16GiB"),
        ("PERCH_KV_BUDGET", "1GiB"),
        ("PERCH_PREFIX_CACHE", "0"),
        ("PERCH_CONTEXT", "4096"),
        ("PERCH_QUANTIZE", "q8_0"),
        ("PERCH_BACKEND", "candle"),
        ("PERCH_QUEUE_LIMIT", "4"),
        ("PERCH_MAX_SEQUENCES", "5"),
        ("PERCH_MAX_BATCH_TOKENS", "6"),
        ("PERCH_ALLOWED_HOSTS", "a.local, b.local"),
        ("PERCH_ALLOWED_ORIGINS", "https://a.example"),
        ("PERCH_API_KEY", "secret"),
        ("PERCH_MAX_BODY", "1MiB"),
        ("PERCH_MAX_CONNECTIONS", "7"),
        ("PERCH_HEADER_TIMEOUT", "2s"),
        ("PERCH_LOG", "debug"),
        ("PERCH_LOG_FORMAT", "json"),
    ];
    let config = load(&[], &env, Layer::default()).unwrap();
    assert_eq!(config.models_dirs, [Path::new("/a"), Path::new("/b")]);
    assert_eq!(config.pool.idle_ttl, None);
    assert_eq!(config.pool.load_timeout, Duration::from_secs(5));
    assert_eq!(config.pool.memory_limit, Some(16 << 30));
    assert_eq!(config.pool.kv_budget, Some(1 << 30));
    assert_eq!(config.pool.prefix_cache, Some(0));
    assert_eq!(config.pool.quantize, Some(Quantize::Q8_0));
    assert_eq!(config.allowed_hosts, ["a.local", "b.local"]);
    assert_eq!(config.http.max_body_bytes, 1 << 20);
    assert_eq!(config.keys.len(), 1);
    assert_eq!(config.log_format.as_deref(), Some("json"));
}

#[test]
fn models_of_both_files_add_up_and_their_paths_are_relative_to_the_data_directory() {
    let files = [
        (
            "config.toml",
            "models_dirs = [\"m\"]\n[[models]]\nid = \"a\"\npath = \"x.gguf\"\naliases = [\"b\"]",
        ),
        (
            "models.toml",
            "[[models]]\nid = \"c\"\nrepo = \"o/n\"\nenabled = false\ndefaults.temperature = 0.5",
        ),
    ];
    let config = load(&files, &[], Layer::default()).unwrap();
    assert_eq!(config.models[0].path.as_deref(), Some(&*config.data_dir.join("x.gguf")));
    assert_eq!(config.models_dirs, [config.data_dir.join("m")]);
    assert!(config.models[0].answers_to("b") && !config.models[1].is_enabled());
    assert_eq!(config.models[1].defaults.temperature, Some(0.5));
}

#[test]
fn values_that_cannot_be_used_are_named() {
    let fails = |text: &str, words: &[&str]| {
        let message = error(&[("config.toml", text)], &[]);
        assert!(words.iter().all(|word| message.contains(word)), "{text}: {message}");
    };
    fails("max_models = 0", &["max_models"]);
    fails("max_body = 0", &["max_body"]);
    fails("header_timeout = 0", &["header_timeout"]);
    fails("idle_ttl = \"soon\"", &["idle_ttl", "soon"]);
    fails("allowed_origins = [\"example.com\"]", &["allowed_origins", "example.com"]);
    fails("allowed_origins = [\"https://example.com/path\"]", &["allowed_origins"]);
    fails("allowed_hosts = [\"http://a\"]", &["allowed_hosts", "http://a"]);
    fails("[[keys]]\nscopes = [\"inference\"]", &["keys"]);
    fails("[[keys]]\nkey = \"k\"\nscopes = [\"root\"]", &["root", "admin"]);
    fails("[[keys]]\nsha256 = \"abc\"", &["sha256"]);
    fails("[[models]]\nid = \"a\"\ndefaults.top_p = 2.0", &["models.a.defaults", "top_p", "2"]);
    fails("[[models]]\nid = \"a\"\n[[models]]\nid = \"b\"\naliases = [\"a\"]", &["`a`", "twice"]);
    fails("[[models]]\nid = \"a\"\npath = \"p\"\nrepo = \"o/n\"", &["path", "repo"]);
    fails("[[models]]\nid = \"a\"\ncontext = 0", &["models.a.context", "1"]);
    fails("[[models]]\nid = \"a*\"", &["models.a*", "aliases"]);
    fails("[[models]]\nid = \"a\"\naliases = [\"\"]", &["models.a.aliases"]);
    fails("[[models]]\nid = \"a\"\nkeep_alive = \"soon\"", &["config.toml", "line 3", "soon"]);
    let preload =
        "max_models = 1\n[[models]]\nid = \"a\"\npreload = true\n[[models]]\nid = \"b\"\npreload = true";
    fails(preload, &["models.preload", "2 models", "max_models"]);
}

#[test]
fn the_data_directory_follows_the_platform() {
    let dir = |vars: &[(&'static str, &'static str)]| {
        let vars = vars.to_vec();
        default_data_dir(move |name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
    };
    if cfg!(target_os = "macos") {
        let expected = PathBuf::from("/h/Library/Application Support/Perch");
        assert_eq!(dir(&[("HOME", "/h"), ("XDG_DATA_HOME", "/x")]), Some(expected));
    } else {
        assert_eq!(dir(&[("HOME", "/h"), ("XDG_DATA_HOME", "/x")]), Some("/x/perch".into()));
        assert_eq!(dir(&[("HOME", "/h"), ("XDG_DATA_HOME", "x")]), Some("/h/.local/share/perch".into()));
    }
    assert_eq!(dir(&[]), None);
}

#[test]
fn a_models_table_holds_all_that_can_be_said_of_a_model() {
    let text = r#"
        [[models]]
        id = "a"
        keep_alive = -1
        kv_budget = "2GiB"
        pin = true
        preload = true
        system = "Be brief."
        chat_template_kwargs = { enable_thinking = false, nested = { n = 1 } }
        aliases = ["gpt-4o", "claude-*"]
        [models.defaults]
        min_p = 0.1
        [[models]]
        id = "b"
        keep_alive = "5m"
        [[models]]
        id = "c"
        keep_alive = 0
    "#;
    let models = load(&[("models.toml", text)], &[], Layer::default()).unwrap().models;
    assert_eq!(models[0].keep_alive, Some(Lifetime(None)));
    assert_eq!(models[0].kv_budget, Some(ByteSize(2 << 30)));
    assert!(models[0].pin && models[0].preload && !models[1].pin && !models[1].preload);
    assert_eq!(models[0].system.as_deref(), Some("Be brief."));
    let kwargs = serde_json::json!({"enable_thinking": false, "nested": {"n": 1}});
    assert_eq!(serde_json::Value::from(models[0].chat_template_kwargs.clone()), kwargs);
    assert_eq!(models[0].defaults.min_p, Some(0.1));
    assert_eq!(models[1].keep_alive, Some(Lifetime(Some(Duration::from_secs(300)))));
    assert_eq!(models[2].keep_alive, Some(Lifetime(Some(Duration::ZERO))));
}
