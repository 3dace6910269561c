//! The guide through a whole server: in every form of its weights, on every backend of this build.

mod forms;
mod logits;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forms::Form;
use perch_backends::Backends;
use perch_server::{Config, ModelConfig, ServerHandle};
use serde_json::{Value, json};

const QUESTIONS: [&str; 6] = [
    "How do I connect my editor?",
    "Which port does the server use?",
    "How do I stop the server?",
    "Where are my models stored?",
    "What is 12 + 30?",
    "Hello!",
];

fn gguf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guide/guide.gguf")
}

/// A server with these models: ids, paths and backends.
async fn serve(folder: &Path, models: &[(&str, PathBuf, &str)]) -> ServerHandle {
    let mut config = Config::new(folder);
    config.port = 0;
    config.pool.max_models = 2;
    let model = |(id, path, backend): &(&str, PathBuf, &str)| ModelConfig {
        id: (*id).to_owned(),
        path: Some(path.clone()),
        backend: Some((*backend).to_owned()),
        ..ModelConfig::default()
    };
    config.models = models.iter().map(model).collect();
    ServerHandle::start(config, Arc::new(Backends::new(None))).await.unwrap()
}

/// What `model` answers, greedily; or the error's message.
async fn answer(server: &ServerHandle, model: &str, question: &str) -> Result<String, String> {
    let body = json!({
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 60,
    });
    let url = format!("{}/v1/chat/completions", server.url());
    let ask = move || -> Value {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
        agent.post(&url).send_json(&body).unwrap().body_mut().read_json().unwrap()
    };
    let answer = tokio::task::spawn_blocking(ask).await.unwrap();
    match answer["choices"][0]["message"]["content"].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(answer["error"]["message"].to_string()),
    }
}

/// How much of what `a` answers `b` answers too, from the first character on: 0 to 1 over all questions.
async fn alike(server: &ServerHandle, a: &str, b: &str) -> f64 {
    let (mut same, mut all) = (0, 0);
    for question in QUESTIONS {
        let (first, second) =
            (answer(server, a, question).await.unwrap(), answer(server, b, question).await.unwrap());
        println!("{question}\n  {a}: {first}\n  {b}: {second}");
        assert!(!first.is_empty());
        same += first.chars().zip(second.chars()).take_while(|(a, b)| a == b).count();
        all += first.chars().count();
    }
    same as f64 / all as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_says_the_same_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let backends: &[&str] = if cfg!(feature = "mlx") { &["cpu", "mlx"] } else { &["cpu"] };
    let forms = [
        ("f32", Form::F32, 0.9),
        ("bf16", Form::Bf16, 0.9),
        ("8bit", Form::Mlx(8), 0.9),
        ("4bit", Form::Mlx(4), 0.4),
    ];
    for backend in backends {
        let mut models = vec![("gguf", gguf(), "cpu")];
        for (id, form, _) in forms {
            let path = folder.path().join(id);
            forms::write(&gguf(), &path, form);
            models.push((id, path, *backend));
        }
        let server = serve(folder.path(), &models).await;
        for (id, _, least) in forms {
            let alike = alike(&server, "gguf", id).await;
            println!("{id} on {backend}: {alike:.2} alike");
            assert!(alike >= least, "{id} on {backend}: only {alike:.2} of the text is the same");
        }
        server.shutdown(Duration::from_secs(5)).await;
    }
}

#[cfg(feature = "mlx")]
#[tokio::test(flavor = "multi_thread")]
async fn the_guide_says_the_same_on_mlx_as_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let models = ["cpu", "mlx", "metal"].map(|name| (name, gguf(), name));
    let server = serve(folder.path(), &models).await;
    // The kernels for the CPU round activations to 8 bits, which may turn a word.
    let alike = alike(&server, "cpu", "mlx").await;
    assert!(alike >= 0.8, "only {alike:.2} of the text is the same");
    let models = server.status().borrow().models.clone();
    let backend =
        |id: &str| models.iter().find(|model| model.id == id).and_then(|model| model.backend.clone());
    assert_eq!([backend("cpu"), backend("mlx")], ["cpu", "mlx"].map(|name| Some(name.to_owned())));
    if !cfg!(target_os = "macos") {
        let refusal = answer(&server, "metal", "Hello!").await.unwrap_err();
        assert!(refusal.contains("`metal` cannot run here"), "{refusal}");
    }
    server.shutdown(Duration::from_secs(5)).await;
}
