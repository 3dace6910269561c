//! The guide through a whole server, on MLX and on Perch's own kernels.

#![cfg(feature = "mlx")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use perch_backends::Backends;
use perch_server::{Config, ModelConfig, ServerHandle};
use serde_json::{Value, json};

/// A server with the guide's file, under the name of each backend that is to run it.
async fn serve(folder: &Path) -> ServerHandle {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guide/guide.gguf");
    let mut config = Config::new(folder);
    config.port = 0;
    config.models = ["cpu", "mlx", "metal"]
        .map(|name| ModelConfig {
            id: name.to_owned(),
            path: Some(guide.clone()),
            backend: Some(name.to_owned()),
            ..ModelConfig::default()
        })
        .to_vec();
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

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_says_the_same_on_mlx_as_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path()).await;
    let questions = [
        "How do I connect my editor?",
        "Which port does the server use?",
        "How do I stop the server?",
        "Where are my models stored?",
        "What is 12 + 30?",
        "Hello!",
    ];
    let (mut same, mut all) = (0, 0);
    for question in questions {
        let cpu = answer(&server, "cpu", question).await.unwrap();
        let mlx = answer(&server, "mlx", question).await.unwrap();
        println!("{question}\n  cpu: {cpu}\n  mlx: {mlx}");
        assert!(!cpu.is_empty());
        same += cpu.chars().zip(mlx.chars()).take_while(|(a, b)| a == b).count();
        all += cpu.chars().count();
    }
    // The kernels for the CPU round activations to 8 bits, which may turn a word.
    assert!(same * 10 >= all * 8, "only {same} of {all} characters are the same");
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
