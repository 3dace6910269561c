//! The control: a server that is started and stopped under a window that stays, and who may look through that window.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use perch_protocol::{Phase, State};
use perch_server::{Compose, Config, ConfigError, Control, Desktop, KeyConfig, Loader, LogBuffer, Surface};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::write_model;
use crate::script::Script;
use crate::support::{Answer, Behaviour, TestLoader, begin, chat_body, eventually, send};

struct Home {
    loader: Arc<TestLoader>,
    config: Mutex<Config>,
    broken: Mutex<bool>,
    _dir: TempDir,
}

struct Composer(Arc<Home>);

impl Compose for Composer {
    fn config(&self) -> Result<Config, ConfigError> {
        if *self.0.broken.lock().unwrap() {
            return Err(ConfigError::Invalid { key: "port".into(), message: "is no port".into() });
        }
        Ok(self.0.config.lock().unwrap().clone())
    }

    fn loader(&self, _: &Config) -> Arc<dyn Loader> {
        self.0.loader.clone()
    }

    fn logs(&self) -> LogBuffer {
        LogBuffer::default()
    }
}

/// A system with a list of what starts with the session, which may refuse.
#[derive(Default)]
struct Session {
    at_login: Mutex<bool>,
    refuses: Mutex<bool>,
}

impl Desktop for Session {
    fn launches_at_login(&self) -> Result<bool, String> {
        Ok(*self.at_login.lock().unwrap())
    }

    fn launch_at_login(&self, on: bool) -> Result<(), String> {
        if *self.refuses.lock().unwrap() {
            return Err("move Perch to Applications first".to_owned());
        }
        *self.at_login.lock().unwrap() = on;
        Ok(())
    }
}

struct Window {
    session: Arc<Session>,
    home: Arc<Home>,
    control: Control,
    surface: Surface,
    cookie: String,
}

impl Window {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_model(&dir.path().join("models/tiny"));
        let mut config = Config::new(dir.path());
        config.port = 0;
        let (config, broken, loader) = (Mutex::new(config), Mutex::default(), Arc::default());
        let home = Arc::new(Home { loader, config, broken, _dir: dir });
        let control = Control::new(Composer(home.clone()));
        let session: Arc<Session> = Arc::default();
        let surface = Surface::open(control.clone(), session.clone(), 0).await.unwrap();
        let entrance = surface.entrance("");
        let path = entrance.strip_prefix(&surface.origin()).unwrap();
        let answer = send(address(&surface), Method::GET, path, &[], None).await;
        assert_eq!((answer.status.as_u16(), answer.headers["location"].to_str().unwrap()), (303, "/"));
        let cookie = answer.headers["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Self { session, home, control, surface, cookie }
    }

    async fn get(&self, path: &str) -> Answer {
        send(address(&self.surface), Method::GET, path, &[("cookie", &self.cookie)], None).await
    }

    async fn post(&self, path: &str, body: Option<Value>) -> Answer {
        self.send(Method::POST, path, body).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let origin = self.surface.origin();
        let headers = [("cookie", &*self.cookie), ("content-type", "application/json"), ("origin", &origin)];
        let body = body.map(|body| body.to_string().into_bytes());
        send(address(&self.surface), method, path, &headers, body).await
    }
}

fn address(surface: &Surface) -> SocketAddr {
    surface.origin().strip_prefix("http://").unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_window_outlives_the_server_and_switches_it() {
    let window = Window::open().await;
    assert_eq!(window.get("/api/server").await.ok()["phase"], "stopped");
    assert_eq!(window.get("/api/status").await.ok()["state"], "stopped");
    assert_eq!(window.get("/").await.status, 200, "the dashboard is there");
    let (status, code, _) = window.get("/v1/models").await.error();
    assert_eq!((status, &*code), (503, "server_stopped"));

    let started = window.post("/api/server/start", None).await.ok();
    assert_eq!(started["phase"], "running");
    let url: SocketAddr = started["url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(send(url, Method::GET, "/health", &[], None).await.status, 200);
    assert_eq!(window.get("/api/status").await.ok()["state"], "idle");
    assert_eq!(window.get("/v1/models").await.ok()["data"][0]["id"], "tiny");
    let answer = window.post("/v1/chat/completions", Some(chat_body(json!({})))).await.ok();
    assert_eq!(answer["object"], "chat.completion");

    assert_eq!(window.post("/api/server/stop", None).await.ok()["phase"], "stopped");
    assert!(tokio::net::TcpStream::connect(url).await.is_err(), "the port is closed");
    assert_eq!(window.get("/api/status").await.ok()["state"], "stopped");
    assert_eq!(window.post("/api/server/restart", None).await.ok()["phase"], "running");
    window.control.shutdown().await;
    window.surface.shutdown().await;
}

#[tokio::test]
async fn nobody_else_looks_through_the_window() {
    let window = Window::open().await;
    let at = address(&window.surface);
    let refused = async |headers: &[(&str, &str)], path: &str| {
        let (status, code, _) = send(at, Method::GET, path, headers, None).await.error();
        (status, code)
    };
    let cookie = ("cookie", &*window.cookie);
    let wrong = window.cookie.replace(|letter: char| letter.is_ascii_digit(), "0");
    assert_eq!(refused(&[], "/api/server").await, (401, "invalid_api_key".into()));
    assert_eq!(refused(&[], "/").await.0, 401);
    assert_eq!(refused(&[], "/?token=guess").await.0, 401);
    assert_eq!(refused(&[("cookie", &wrong)], "/api/server").await.0, 401);
    assert_eq!(
        refused(&[cookie, ("host", "evil.example")], "/api/server").await,
        (403, "host_not_allowed".into())
    );
    let foreign = ("origin", "http://evil.example");
    assert_eq!(refused(&[cookie, foreign], "/api/server").await, (403, "origin_not_allowed".into()));
    let form = send(at, Method::POST, "/api/server/stop", &[cookie], None).await;
    assert_eq!(form.error().0, 415, "no form of a web site can stop the server");
}

#[tokio::test]
async fn the_window_needs_no_key_where_others_do() {
    let window = Window::open().await;
    window.home.config.lock().unwrap().keys = vec![KeyConfig::all_scopes("a", "secret")];
    let started = window.control.start(None).await.unwrap();
    let url: SocketAddr = started.url.unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(send(url, Method::GET, "/v1/models", &[], None).await.error().0, 401);
    assert_eq!(
        send(url, Method::GET, "/v1/models", &[("cookie", &window.cookie)], None).await.error().0,
        401
    );
    window.get("/v1/models").await.ok();
    window.control.shutdown().await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_a_way_out() {
    let window = Window::open().await;
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    window.home.config.lock().unwrap().port = port;
    let (status, code, _) = window.post("/api/server/start", None).await.error();
    assert_eq!((status, &*code), (409, "conflict"));
    let state = window.control.now();
    assert_eq!((state.server.phase, state.status.state), (Phase::Failed, State::Error));
    let message = state.server.error.unwrap().message;
    let own = format!("(process {})", std::process::id());
    assert!(message.contains(&port.to_string()) && message.contains(&own), "{message}");
    let free = state.server.free_port.expect("a free port is offered");
    let started = window.post("/api/server/start", Some(json!({ "port": free }))).await.ok();
    assert_eq!(started["url"], format!("http://127.0.0.1:{free}"));
    let (status, ..) = window.post("/api/server/start", Some(json!({ "port": 1 }))).await.error();
    assert_eq!(status, 409, "it runs elsewhere");
    assert_eq!(
        window.post("/api/server/restart", None).await.ok()["url"],
        started["url"],
        "the choice stays"
    );
    window.control.shutdown().await;
}

#[tokio::test]
async fn a_broken_configuration_is_shown_until_it_is_mended() {
    let window = Window::open().await;
    *window.home.broken.lock().unwrap() = true;
    window.control.start(None).await.unwrap_err();
    let seen = window.control.now();
    assert_eq!(seen.status.state, State::Error);
    assert!(seen.status.error.unwrap().message.contains("port"));
    *window.home.broken.lock().unwrap() = false;
    window.control.start(None).await.unwrap();
    assert_eq!(window.control.now().status.state, State::Idle);
    assert_eq!(window.control.now().server.error, None);
    window.control.shutdown().await;
}

#[tokio::test]
async fn answers_through_the_window_are_drained_too() {
    let window = Window::open().await;
    let script = Script { step_delay: Duration::from_millis(10), ..Script::say(&"x".repeat(60)) };
    window.home.loader.behaviours.lock().unwrap().insert("tiny".into(), Behaviour::Script(script));
    window.control.start(None).await.unwrap();
    let pool = window.control.pool().unwrap();
    let asked = window.post("/v1/chat/completions", Some(chat_body(json!({}))));
    let stopped = async {
        eventually("it runs", || pool.status().iter().any(|model| model.running > 0)).await;
        window.control.stop().await;
    };
    let (answer, ()) = tokio::join!(asked, stopped);
    assert_eq!(answer.ok()["choices"][0]["message"]["content"], "x".repeat(60));
}

#[tokio::test]
async fn events_go_on_over_stops_and_starts() {
    let window = Window::open().await;
    let headers = [("cookie", &*window.cookie)];
    let mut events = begin(address(&window.surface), Method::GET, "/api/events", &headers, None).await;
    let mut text = String::new();
    for (change, phase) in [("", "stopped"), ("start", "running"), ("stop", "stopped")] {
        text.clear();
        match change {
            "start" => drop(window.control.start(None).await.unwrap()),
            "stop" => drop(window.control.stop().await),
            _ => {}
        }
        let wanted = format!("\"phase\":\"{phase}\"");
        while !text.contains(&wanted) {
            text.push_str(&events.next().await.expect("the stream goes on"));
        }
    }
    window.surface.shutdown().await;
}

#[tokio::test]
async fn a_servers_own_port_does_not_switch_it() {
    let server = crate::support::Server::start().await;
    for answer in [server.get("/api/server").await, server.post("/api/server/stop", &json!({})).await] {
        assert_eq!(answer.error().0, 404);
        assert!(answer.message().contains("perch serve"), "{}", answer.message());
    }
}

#[tokio::test]
async fn the_window_switches_launch_at_login_and_hears_what_the_system_says() {
    let window = Window::open().await;
    assert_eq!(window.get("/api/app").await.ok(), json!({"launch_at_login": false}));
    let on = json!({"launch_at_login": true});
    assert_eq!(window.send(Method::PATCH, "/api/app", Some(on.clone())).await.ok(), on);
    assert!(*window.session.at_login.lock().unwrap());
    *window.session.refuses.lock().unwrap() = true;
    let refused = window.send(Method::PATCH, "/api/app", Some(json!({"launch_at_login": false}))).await;
    assert_eq!(refused.error().0, 500);
    assert!(refused.message().contains("move Perch to Applications"), "{}", refused.message());
    assert_eq!(window.get("/api/app").await.ok(), on, "what the system has is what is told");
    assert_eq!(send(address(&window.surface), Method::GET, "/api/app", &[], None).await.error().0, 401);

    // A server on its own port has no app to speak of.
    let started = window.post("/api/server/start", None).await.ok();
    let url: SocketAddr = started["url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let elsewhere = send(url, Method::GET, "/api/app", &[], None).await;
    assert_eq!(elsewhere.error().0, 404);
    assert!(elsewhere.message().contains("perch service install"));
    window.control.shutdown().await;
    window.surface.shutdown().await;
}
