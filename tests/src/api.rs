//! `Api`: plain HTTP requests to a server, any status a result and not an error.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Api {
    url: String,
    agent: Agent,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers by lower-case name.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON; panics with the body if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|_| panic!("not JSON ({}): {}", self.status, self.text))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `error.code` of OpenAI's envelope.
    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_string()
    }
}

impl Api {
    /// A client of the server at `url`. Every request has a connection of its own.
    pub fn new(url: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .max_idle_connections(0)
            .proxy(None)
            .build();
        Self { url: url.to_string(), agent: config.into() }
    }

    /// GET.
    pub fn get(&self, path: &str) -> Answer {
        answer(self.agent.get(format!("{}{path}", self.url)).call().expect("the server answers"))
    }

    /// POST of JSON.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.send(path, body))
    }

    /// PUT of JSON.
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        let request = self.agent.put(format!("{}{path}", self.url));
        answer(request.send_json(body).expect("the server answers"))
    }

    /// POST of JSON, answered by server-sent events. Dropping the iterator closes the connection.
    ///
    /// # Panics
    /// If the status is not 200.
    pub fn stream(&self, path: &str, body: &Value) -> impl Iterator<Item = Value> + use<> {
        let response = self.send(path, body);
        if response.status() != 200 {
            panic!("no stream: {:?}", answer(response));
        }
        let lines = BufReader::new(response.into_body().into_reader()).lines().map_while(Result::ok);
        lines
            .filter_map(|line| line.strip_prefix("data: ").map(str::to_string))
            .take_while(|data| data != "[DONE]")
            .map(|data| serde_json::from_str(&data).expect("an event is JSON"))
    }

    fn send(&self, path: &str, body: &Value) -> Response<ureq::Body> {
        self.agent.post(format!("{}{path}", self.url)).send_json(body).expect("the server answers")
    }

    /// Asks for the likeliest chat answer of `max_tokens` tokens to `prompt`. A random model never ends one early.
    pub fn chat(&self, model: &str, prompt: &str, max_tokens: usize) -> Answer {
        let messages = json!([{"role": "user", "content": prompt}]);
        let body = json!({"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0});
        self.post("/v1/chat/completions", &body)
    }

    /// The text of the models list.
    pub fn model_ids(&self) -> Vec<String> {
        let list = self.get("/v1/models").json();
        let data = list["data"].as_array().expect("a list of models").clone();
        data.iter().map(|model| model["id"].as_str().expect("an id").to_string()).collect()
    }

    /// Asks for `/api/status` until `good` says yes; panics after `limit`.
    pub fn until(&self, limit: Duration, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.get("/api/status").json();
            if good(&status) {
                return status;
            }
            assert!(start.elapsed() < limit, "not within {limit:?}: {what}; status: {status:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn answer(mut response: Response<ureq::Body>) -> Answer {
    let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).to_string();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        text: response.body_mut().read_to_string().expect("a body in UTF-8"),
    }
}
