//! `LocalHub`: a server that speaks as much of the Hugging Face hub as Perch asks for, on two origins: the hub itself, and the
//! host that large files are redirected to. It can be told to misbehave, and remembers what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Files from this size on are stored apart, as the hub does with large ones.
const LARGE: usize = 4_096;
/// Bytes sent at once.
const PIECE: usize = 32 << 10;

/// A repository.
#[derive(Debug, Clone, Default)]
pub struct HubRepo {
    /// What the API says beside names and files: `downloads`, `tags`, `gguf`.
    pub facts: Value,
    /// Its files.
    pub files: BTreeMap<String, Bytes>,
    /// Names that the API lists and nobody could fetch.
    pub hostile: Vec<String>,
    /// Whether terms must be accepted, which nobody has.
    pub gated: bool,
}

/// What goes wrong.
#[derive(Debug, Default)]
pub struct Faults {
    /// Statuses of the next answers for files, with `Retry-After` where it is not 0.
    pub statuses: VecDeque<(u16, u64)>,
    /// Bodies are cut after so many bytes, as if the connection broke.
    pub cut_after: Option<usize>,
    /// Bodies stop after so many bytes, and the connection stays open in silence.
    pub silent_after: Option<usize>,
    /// Every body of a large file has a wrong byte.
    pub corrupt: bool,
    /// Ranges are ignored.
    pub no_ranges: bool,
    /// Bytes a second of each body.
    pub rate: Option<usize>,
}

/// A request that was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Whether it was for the host of large files.
    pub elsewhere: bool,
    /// Its path.
    pub path: String,
    /// Its `Authorization`.
    pub authorization: Option<String>,
    /// Its `Range`.
    pub range: Option<String>,
}

#[derive(Default)]
struct Shared {
    repos: Mutex<BTreeMap<String, HubRepo>>,
    faults: Mutex<Faults>,
    seen: Mutex<Vec<Seen>>,
    sent: Mutex<u64>,
    elsewhere: Mutex<String>,
}

/// A hub on this machine.
pub struct LocalHub {
    /// `http://127.0.0.1:PORT`, for `HF_ENDPOINT`.
    pub url: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Default for LocalHub {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalHub {
    /// An empty hub.
    pub fn new() -> Self {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let (said, heard) = std::sync::mpsc::channel();
        let state = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let bind = || async { TcpListener::bind("127.0.0.1:0").await.expect("a port") };
                let (hub, other) = (bind().await, bind().await);
                let url = |listener: &TcpListener| {
                    let address: SocketAddr = listener.local_addr().expect("an address");
                    format!("http://{address}")
                };
                *lock(&state.elsewhere) = url(&other);
                said.send(url(&hub)).expect("somebody waits");
                let hub_routes = Router::new()
                    .route("/api/models", get(search))
                    .route("/api/models/{author}/{name}", get(summary))
                    .route("/api/models/{author}/{name}/revision/{revision}", get(info))
                    .route("/{author}/{name}/resolve/{revision}/{*path}", get(resolve))
                    .with_state(state.clone());
                let other_routes = Router::new().route("/blobs/{sha}", get(blob)).with_state(state);
                let serve = |listener, routes: Router| async move { axum::serve(listener, routes).await };
                tokio::select! {
                    _ = serve(hub, hub_routes) => {}
                    _ = serve(other, other_routes) => {}
                    _ = stopped => {}
                }
            });
        });
        let url = heard.recv().expect("the hub starts");
        Self { url, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Adds or replaces a repository.
    pub fn put(&self, id: &str, repo: HubRepo) {
        lock(&self.shared.repos).insert(id.to_owned(), repo);
    }

    /// Adds or replaces a repository of these files.
    pub fn put_files(&self, id: &str, files: &[(&str, &[u8])]) {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), Bytes::copy_from_slice(bytes)));
        self.put(id, HubRepo { files: files.collect(), ..HubRepo::default() });
    }

    /// What goes wrong from now on.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.shared.faults)
    }

    /// What was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Bytes of files that were sent.
    pub fn sent(&self) -> u64 {
        *lock(&self.shared.sent)
    }
}

impl Drop for LocalHub {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The commit of a repository: it changes with the files.
fn commit(repo: &HubRepo) -> String {
    let mut hash = Sha1::new();
    for (name, bytes) in &repo.files {
        hash.update(name);
        hash.update(bytes.len().to_le_bytes());
        hash.update(&bytes[..bytes.len().min(1 << 16)]);
    }
    hex(&hash.finalize())
}

/// What the hub calls content: SHA-256 of large files, git's name of small ones.
pub fn oid(bytes: &[u8]) -> String {
    match bytes.len() >= LARGE {
        true => hex(&Sha256::digest(bytes)),
        false => {
            hex(&Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(shared: &Shared, elsewhere: bool, path: &str, headers: &HeaderMap) {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (authorization, range) = (text(header::AUTHORIZATION), text(header::RANGE));
    lock(&shared.seen).push(Seen { elsewhere, path: path.to_owned(), authorization, range });
}

fn refused(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("x-error-code", code)], "{\"error\": \"no\"}").into_response()
}

fn described(id: &str, repo: &HubRepo) -> Value {
    let mut model =
        json!({"id": id, "modelId": id, "private": false, "gated": repo.gated, "sha": commit(repo)});
    if let (Some(model), Some(facts)) = (model.as_object_mut(), repo.facts.as_object()) {
        model.extend(facts.clone());
    }
    model
}

async fn search(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    note(&shared, false, "/api/models", &headers);
    let pairs: Vec<(String, String)> = form(query.as_deref().unwrap_or_default());
    let one = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    let repos = lock(&shared.repos);
    let mut models: Vec<Value> = repos.iter().map(|(id, repo)| described(id, repo)).collect();
    if let Some(words) = one("search") {
        models
            .retain(|m| m["id"].as_str().is_some_and(|id| id.to_lowercase().contains(&words.to_lowercase())));
    }
    if let Some(author) = one("author") {
        models.retain(|m| m["id"].as_str().is_some_and(|id| id.starts_with(&format!("{author}/"))));
    }
    for (_, tag) in pairs.iter().filter(|(key, _)| key == "filter") {
        models.retain(|m| m["tags"].as_array().is_some_and(|tags| tags.iter().any(|t| t == tag.as_str())));
    }
    models.sort_by_key(|m| std::cmp::Reverse(m["downloads"].as_u64()));
    let begin: usize = one("cursor").and_then(|c| c.strip_prefix("at==")?.parse().ok()).unwrap_or(0);
    let limit: usize = one("limit").and_then(|l| l.parse().ok()).unwrap_or(1_000);
    let page: Vec<Value> = models.iter().skip(begin).take(limit).cloned().collect();
    let mut response = axum::Json(Value::Array(page)).into_response();
    if begin + limit < models.len() {
        let link =
            format!("<https://elsewhere.example/api/models?cursor=at%3D%3D{}>; rel=\"next\"", begin + limit);
        response.headers_mut().insert(header::LINK, link.parse().expect("a header"));
    }
    response
}

/// Pairs of a query. `%XX` is all the escaping that reqwest does besides `+`.
fn form(query: &str) -> Vec<(String, String)> {
    let plain = |text: &str| {
        let (mut bytes, mut rest) = (Vec::new(), text.bytes());
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let digits: Vec<u8> = rest.by_ref().take(2).collect();
                    let digits = std::str::from_utf8(&digits).unwrap_or("20");
                    u8::from_str_radix(digits, 16).unwrap_or(b' ')
                }
                byte => byte,
            });
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (plain(k), plain(v))).collect()
}

async fn summary(
    State(shared): State<Arc<Shared>>,
    Path((author, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let id = format!("{author}/{name}");
    note(&shared, false, &format!("/api/models/{id}"), &headers);
    match lock(&shared.repos).get(&id) {
        Some(repo) => axum::Json(described(&id, repo)).into_response(),
        None => refused(401, "RepoNotFound"),
    }
}

async fn info(
    State(shared): State<Arc<Shared>>,
    Path((author, name, revision)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let id = format!("{author}/{name}");
    note(&shared, false, &format!("/api/models/{id}/revision/{revision}"), &headers);
    let repos = lock(&shared.repos);
    let Some(repo) = repos.get(&id) else { return refused(401, "RepoNotFound") };
    if revision != "main" && revision != commit(repo) {
        return refused(404, "RevisionNotFound");
    }
    let mut model = described(&id, repo);
    let file = |(name, bytes): (&String, &Bytes)| {
        let mut file = json!({"rfilename": name, "size": bytes.len(), "blobId": "0".repeat(40)});
        match bytes.len() >= LARGE {
            true => file["lfs"] = json!({"sha256": oid(bytes), "size": bytes.len(), "pointerSize": 130}),
            false => file["blobId"] = json!(oid(bytes)),
        }
        file
    };
    let hostile =
        repo.hostile.iter().map(|name| json!({"rfilename": name, "size": 1, "blobId": "1".repeat(40)}));
    model["siblings"] = repo.files.iter().map(file).chain(hostile).collect();
    axum::Json(model).into_response()
}

async fn resolve(
    State(shared): State<Arc<Shared>>,
    Path((author, name, revision, path)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let id = format!("{author}/{name}");
    note(&shared, false, &format!("/{id}/resolve/{revision}/{path}"), &headers);
    let (bytes, commit) = {
        let repos = lock(&shared.repos);
        let Some(repo) = repos.get(&id) else { return refused(401, "RepoNotFound") };
        if repo.gated {
            return refused(403, "GatedRepo");
        }
        let Some(bytes) = repo.files.get(&path) else { return refused(404, "EntryNotFound") };
        (bytes.clone(), commit(repo))
    };
    if let Some((status, after)) = lock(&shared.faults).statuses.pop_front() {
        let status = StatusCode::from_u16(status).expect("a status");
        let mut response = status.into_response();
        if after > 0 {
            response.headers_mut().insert(header::RETRY_AFTER, after.into());
        }
        return response;
    }
    let tag = format!("\"{}\"", oid(&bytes));
    if bytes.len() < LARGE {
        return ([("x-repo-commit", commit), ("etag", tag)], bytes).into_response();
    }
    let to = format!("{}/blobs/{}?signature=x&file={path}", lock(&shared.elsewhere), oid(&bytes));
    let said =
        [("x-repo-commit", commit), ("x-linked-etag", tag), ("x-linked-size", bytes.len().to_string())];
    (StatusCode::FOUND, said, [(header::LOCATION, to)]).into_response()
}

async fn blob(State(shared): State<Arc<Shared>>, Path(sha): Path<String>, headers: HeaderMap) -> Response {
    note(&shared, true, &format!("/blobs/{sha}"), &headers);
    let found = {
        let repos = lock(&shared.repos);
        repos.values().flat_map(|repo| repo.files.values()).find(|bytes| oid(bytes) == sha).cloned()
    };
    let Some(bytes) = found else { return StatusCode::NOT_FOUND.into_response() };
    let (cut, silent, corrupt, no_ranges, rate) = {
        let faults = lock(&shared.faults);
        (faults.cut_after, faults.silent_after, faults.corrupt, faults.no_ranges, faults.rate)
    };
    let tag = format!("\"cdn-{}\"", &sha[..8]);
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let range =
        text(header::RANGE).and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let range =
        range.filter(|_| !no_ranges && text(header::IF_RANGE).is_none_or(|validator| validator == tag));
    let (total, start) = (bytes.len(), range.unwrap_or(0));
    if start >= total {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let rest = bytes.slice(start..);
    let length = rest.len();
    let pieces = futures_util::stream::unfold((rest, 0usize), move |(mut rest, sent)| {
        let shared = shared.clone();
        async move {
            if rest.is_empty() {
                return None;
            }
            if cut.is_some_and(|cut| sent >= cut) {
                let broken = std::io::Error::other("the connection broke");
                return Some((Err(broken), (Bytes::new(), sent)));
            }
            if silent.is_some_and(|silent| sent >= silent) {
                std::future::pending::<()>().await;
            }
            let mut piece = rest.split_to(rest.len().min(PIECE));
            if let Some(rate) = rate {
                tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64)).await;
            }
            if corrupt && sent == 0 {
                let mut wrong = piece.to_vec();
                wrong[0] ^= 1;
                piece = wrong.into();
            }
            *lock(&shared.sent) += piece.len() as u64;
            let sent = sent + piece.len();
            Some((Ok(piece), (rest, sent)))
        }
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.parse().expect("a header"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    if range.is_some() {
        let range = format!("bytes {start}-{}/{total}", total - 1);
        headers.insert(header::CONTENT_RANGE, range.parse().expect("a header"));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}
