//! `/metrics`: counters that the server keeps, and numbers read from the pool at the moment of asking, in the
//! OpenMetrics text format that Prometheus scrapes.
//!
//! Labels are routes, statuses and the ids of models that exist: nothing that a request could make up, so their number
//! is bounded.

use std::sync::Arc;
use std::time::Duration;

use perch_engine::EngineStats;
use perch_protocol::{Outcome, RequestRecord, Resources};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::pool::LoadedModel;

/// What the answer's `Content-Type` says.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of latencies, in seconds.
const LATENCIES: [f64; 12] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// The counters of one server.
pub(crate) struct Metrics {
    registry: Registry,
    http: Counters,
    http_seconds: Histograms,
    requests: Counters,
    tokens: Counters,
    first_token: Histograms,
    seconds: Histograms,
}

fn latencies() -> Histogram {
    Histogram::new(LATENCIES)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let histograms = || Histograms::new_with_constructor(latencies);
        let mut metrics = Self {
            registry: Registry::with_prefix("perch"),
            http: Counters::default(),
            http_seconds: histograms(),
            requests: Counters::default(),
            tokens: Counters::default(),
            first_token: histograms(),
            seconds: histograms(),
        };
        let registry = &mut metrics.registry;
        registry.register("http_requests", "HTTP requests by route and status", metrics.http.clone());
        let about = "Time to the head of an HTTP answer, in seconds";
        registry.register("http_request_duration_seconds", about, metrics.http_seconds.clone());
        registry.register("generations", "Requests to models by how they ended", metrics.requests.clone());
        registry.register("tokens", "Tokens by kind: prompt, cached, completion", metrics.tokens.clone());
        let about = "Time to the first token, in seconds";
        registry.register("time_to_first_token_seconds", about, metrics.first_token.clone());
        registry.register("generation_duration_seconds", "Time of whole answers", metrics.seconds.clone());
        metrics
    }

    /// An HTTP request was answered (its head; a stream goes on).
    pub(crate) fn http(&self, method: &str, route: &str, status: u16, elapsed: Duration) {
        let route = ("route", route.to_owned());
        self.http_seconds.get_or_create(&vec![route.clone()]).observe(elapsed.as_secs_f64());
        let labels = vec![("method", method.to_owned()), route, ("status", status.to_string())];
        self.http.get_or_create(&labels).inc();
    }

    /// A request got its first token.
    pub(crate) fn first_token(&self, model: &str, elapsed: Duration) {
        self.first_token.get_or_create(&vec![("model", model.to_owned())]).observe(elapsed.as_secs_f64());
    }

    /// A request to a model has ended. Those that never reached a model have none to be counted for.
    pub(crate) fn request(&self, record: &RequestRecord) {
        if record.model.is_empty() {
            return;
        }
        let model = ("model", record.model.clone());
        let outcome = match &record.outcome {
            Outcome::Completed => "completed",
            Outcome::Cancelled => "cancelled",
            Outcome::Failed(code) => code,
        };
        self.requests.get_or_create(&vec![model.clone(), ("outcome", outcome.to_owned())]).inc();
        let kinds = [
            ("prompt", record.prompt_tokens),
            ("cached", record.cached_tokens),
            ("completion", record.completion_tokens),
        ];
        for (kind, tokens) in kinds {
            self.tokens.get_or_create(&vec![model.clone(), ("kind", kind.to_owned())]).inc_by(tokens);
        }
        self.seconds.get_or_create(&vec![model]).observe(record.duration_ms as f64 / 1e3);
    }

    /// Everything as text, with the present numbers of these models and this process.
    pub(crate) fn render(&self, models: &[Arc<LoadedModel>], resources: &Resources) -> String {
        let mut now = Registry::with_prefix("perch");
        engines(&mut now, models);
        let gauge = |registry: &mut Registry, name: &str, about: &str, value: i64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(value);
            registry.register(name, about, gauge);
        };
        gauge(&mut now, "models_loaded", "Models in memory", models.len() as i64);
        let memory = resources.memory_bytes as i64;
        gauge(&mut now, "resident_memory_bytes", "Resident memory of this process", memory);
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &now);
        let _ = encode_eof(&mut text);
        text
    }
}

type Column = (&'static str, &'static str, fn(&EngineStats) -> u64);

const GAUGES: [Column; 5] = [
    ("sequences_running", "Sequences being generated", |s| s.running as u64),
    ("requests_waiting", "Requests waiting for a place", |s| (s.waiting + s.preempted) as u64),
    ("kv_used_bytes", "Bytes of KV in use", |s| s.kv_used_bytes),
    ("kv_budget_bytes", "Bytes of KV allowed", |s| s.kv_budget_bytes),
    ("prefix_cache_bytes", "Bytes of KV of cached prefixes", |s| s.prefix_cache_bytes),
];

const COUNTERS: [Column; 5] = [
    ("prefix_lookup_tokens", "Prompt tokens looked up in the prefix cache", |s| s.prefix_lookup_tokens),
    ("prefix_hit_tokens", "Prompt tokens found in the prefix cache", |s| s.prefix_hit_tokens),
    ("engine_steps", "Steps of the engine", |s| s.steps),
    ("preemptions", "Sequences that gave up their KV for an older one", |s| s.preemptions),
    ("engine_restarts", "Engines built again after a failure", |s| s.restarts),
];

fn engines(registry: &mut Registry, models: &[Arc<LoadedModel>]) {
    let stats: Vec<(Labels, EngineStats)> =
        models.iter().map(|model| (vec![("model", model.id.clone())], model.engine.stats())).collect();
    for (name, about, read) in GAUGES {
        let family = Gauges::default();
        for (labels, stats) in &stats {
            family.get_or_create(labels).set(read(stats) as i64);
        }
        registry.register(name, about, family);
    }
    for (name, about, read) in COUNTERS {
        let family = Counters::default();
        for (labels, stats) in &stats {
            family.get_or_create(labels).inc_by(read(stats));
        }
        registry.register(name, about, family);
    }
}
