//! Starts servers on port 0 over tiny models, and talks to them as clients do.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use perch_engine::EngineHandle;
use perch_engine::testing::{FakeBackend, FakeModel, Probe};
use perch_model::ModelError;
use perch_server::{Config, LoadError, LoadJob, Loader, Needs, ServerHandle};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::fixture::{CONTEXT, VOCAB, write_model};
use crate::script::{Script, ScriptBackend};

/// What loading a model comes to.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// A model whose text is a hash of what came before.
    Fake(FakeModel),
    /// A model that says this.
    Script(Script),
    /// The loader panics.
    Panic,
    /// The files turn out to be unusable.
    Unsupported,
}

/// A loader that does what a test wants, and counts.
#[derive(Default)]
pub(crate) struct TestLoader {
    pub(crate) behaviours: Mutex<HashMap<String, Behaviour>>,
    pub(crate) loads: AtomicUsize,
    pub(crate) delay: Mutex<Duration>,
    pub(crate) weight_bytes: Mutex<u64>,
    /// Bytes of the weights of single models, over `weight_bytes`.
    pub(crate) weights: Mutex<HashMap<String, u64>>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) probe: Probe,
}

/// Memory that engines hold, and what was wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    held: u64,
    most: u64,
    live: HashMap<String, usize>,
    twice: Vec<String>,
}

impl Memory {
    /// Takes `bytes` for a model, until what comes back is dropped.
    fn take(self: &Arc<Self>, id: &str, bytes: u64) -> Held {
        let mut books = self.books.lock().unwrap();
        books.held += bytes;
        books.most = books.most.max(books.held);
        let live = books.live.entry(id.to_owned()).or_default();
        *live += 1;
        if *live > 1 {
            books.twice.push(id.to_owned());
        }
        Held { memory: self.clone(), id: id.to_owned(), bytes }
    }

    /// The most bytes that were held at once.
    pub(crate) fn most(&self) -> u64 {
        self.books.lock().unwrap().most
    }

    /// Bytes that are held now.
    pub(crate) fn held(&self) -> u64 {
        self.books.lock().unwrap().held
    }

    /// Models that were in memory twice at once.
    pub(crate) fn twice(&self) -> Vec<String> {
        self.books.lock().unwrap().twice.clone()
    }
}

/// Memory of one engine.
#[derive(Debug)]
pub(crate) struct Held {
    memory: Arc<Memory>,
    id: String,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut books = self.memory.books.lock().unwrap();
        books.held -= self.bytes;
        *books.live.get_mut(&self.id).unwrap() -= 1;
    }
}

pub(crate) fn fake() -> FakeModel {
    let mut model = FakeModel::default();
    model.limits.vocab_size = VOCAB;
    model.limits.context_length = CONTEXT;
    model
}

impl Loader for TestLoader {
    fn needs(&self, job: &LoadJob) -> Needs {
        let of_its_own = self.weights.lock().unwrap().get(&job.id).copied();
        let weight_bytes = of_its_own.unwrap_or(*self.weight_bytes.lock().unwrap());
        Needs {
            weight_bytes,
            mapped_bytes: 0,
            scratch_bytes: 0,
            kv_bytes_per_token: 1,
            device_limit: None,
            backend: "fake",
        }
    }

    fn load(&self, job: LoadJob) -> BoxFuture<'static, Result<EngineHandle, LoadError>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let behaviour = self.behaviours.lock().unwrap().get(&job.id).cloned();
        let behaviour = behaviour.unwrap_or_else(|| Behaviour::Fake(fake()));
        let (probe, delay) = (self.probe.clone(), *self.delay.lock().unwrap());
        let bytes = self.needs(&job).weight_bytes + job.engine.kv_budget_bytes;
        let memory = self.memory.clone();
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            let name = job.id.clone();
            let id = name.clone();
            match behaviour {
                Behaviour::Fake(model) => {
                    let build = move || Ok::<_, String>(FakeBackend::new(model.clone(), probe.clone()));
                    Ok(EngineHandle::start(name, job.engine, build).await?)
                }
                Behaviour::Script(script) => {
                    let build =
                        move || Ok::<_, String>(ScriptBackend::new(script.clone(), memory.take(&id, bytes)));
                    Ok(EngineHandle::start(name, job.engine, build).await?)
                }
                Behaviour::Panic => panic!("a loader's panic"),
                Behaviour::Unsupported => Err(ModelError::Unsupported("this kind is not run".into()).into()),
            }
        })
    }
}

/// A server with its folder and loader.
pub(crate) struct Server {
    pub(crate) handle: ServerHandle,
    pub(crate) loader: Arc<TestLoader>,
    dir: TempDir,
}

impl Server {
    /// A server with the model `tiny`.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, with a changed configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_models(&["tiny"], change).await
    }

    /// The model `tiny` that says `text`.
    pub(crate) async fn saying(text: &str) -> Self {
        let server = Self::start().await;
        server.script("tiny", Script::say(text));
        server
    }

    pub(crate) async fn with_models(models: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let models_dir = dir.path().join("models");
        for model in models {
            write_model(&models_dir.join(model));
        }
        let mut config = Config::new(dir.path());
        config.port = 0;
        change(&mut config);
        let loader = Arc::new(TestLoader::default());
        let handle = ServerHandle::start(config, loader.clone()).await.expect("the server must start");
        Self { handle, loader, dir }
    }

    pub(crate) fn behave(&self, model: &str, behaviour: Behaviour) {
        self.loader.behaviours.lock().unwrap().insert(model.to_owned(), behaviour);
    }

    pub(crate) fn script(&self, model: &str, script: Script) {
        self.behave(model, Behaviour::Script(script));
    }

    pub(crate) fn data_dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn models_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("models")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.handle.address()
    }

    pub(crate) fn loads(&self) -> usize {
        self.loader.loads.load(Ordering::SeqCst)
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        send(self.address(), Method::PUT, path, &headers, Some(body.to_string().into())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.address(), Method::GET, path, &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, body.to_string()).await
    }

    pub(crate) async fn post_text(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        let headers = [("content-type", "application/json")];
        send(self.address(), Method::POST, path, &headers, Some(body.into())).await
    }

    /// Ids of the models in memory.
    pub(crate) fn loaded(&self) -> Vec<String> {
        self.handle.pool().all_loaded().iter().map(|model| model.id.clone()).collect()
    }

    /// A conversation of one message to `tiny`, with further fields.
    pub(crate) async fn chat(&self, fields: Value) -> Answer {
        self.post("/v1/chat/completions", &chat_body(fields)).await
    }

    /// A completion of `prompt` by `tiny`, with further fields.
    pub(crate) async fn complete(&self, fields: Value) -> Answer {
        let mut body = json!({"model": "tiny", "prompt": "hello"});
        merge(&mut body, fields);
        self.post("/v1/completions", &body).await
    }
}

pub(crate) fn chat_body(fields: Value) -> Value {
    let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]});
    merge(&mut body, fields);
    body
}

fn merge(body: &mut Value, fields: Value) {
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }

    /// The JSON of an answer that must be good.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// Status, code and param of an answer that must be an error in OpenAI's envelope.
    pub(crate) fn error(&self) -> (u16, String, Option<String>) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|m| m.len() > 10), "{}", self.text());
        assert!(error["type"].is_string());
        let text = |value: &Value| value.as_str().map(str::to_owned);
        (self.status.as_u16(), text(&error["code"]).expect("an error has a code"), text(&error["param"]))
    }

    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The data of all server-sent events.
    pub(crate) fn events(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.headers["content-type"], "text/event-stream");
        events(self.text())
    }

    /// The JSON of all events but the `[DONE]` that must end them.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }
}

pub(crate) fn events(text: &str) -> Vec<String> {
    let data = text.split("\n\n").filter_map(|event| {
        let lines: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    });
    data.collect()
}

/// One request on a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Vec<u8>>,
) -> Answer {
    let mut open = begin(address, method, path, headers, body).await;
    let body = open.response.body_mut().collect().await.expect("the body must end").to_bytes();
    Answer { status: open.response.status(), headers: open.response.headers().clone(), body }
}

/// A request whose answer is read bit by bit. Dropping it closes the connection.
pub(crate) struct Open {
    pub(crate) response: http::Response<Incoming>,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Open {
    /// The next bytes of the body; `None` at its end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let frame = self.response.body_mut().frame().await?.ok()?;
        frame.into_data().ok().map(|data| String::from_utf8_lossy(&data).into_owned())
    }
}

pub(crate) async fn begin(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Vec<u8>>,
) -> Open {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.unwrap_or_default()))).unwrap();
    let response = sender.send_request(request).await.expect("the server must answer");
    Open { response, connection }
}

/// Waits until `holds`, for at most five seconds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("this did not come about: {what}");
}
