//! Accepts connections and serves them over HTTP/1.1, with the limits that hyper has only when asked: time for headers,
//! their number and size, and connections at once.
//!
//! Each connection is a task of its own in the tracker. `stop` lets it finish the request it is answering; `kill` ends it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::stall::Stall;
use crate::config::HttpConfig;
use crate::security::LocalIp;

/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// Most bytes of a request's line and headers.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// How the server is told to end.
#[derive(Clone, Default)]
pub(crate) struct Signals {
    /// Take no new connections and requests; finish what runs.
    pub(crate) stop: CancellationToken,
    /// What still runs ends with an error.
    pub(crate) abort: CancellationToken,
    /// Drop what is left.
    pub(crate) kill: CancellationToken,
}

/// Accepts connections until `signals.stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Arc<HttpConfig>,
    signals: Signals,
    tracker: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    loop {
        let accepted = async {
            // Without a free place nothing is accepted: the system's backlog holds what comes, then refuses it.
            let place = places.clone().acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = signals.stop.cancelled() => return,
        };
        match accepted {
            None => return,
            Some((Ok((stream, _)), place)) => {
                let stream = Accepted { stream, place, write_timeout: limits.write_timeout };
                tracker.spawn(connection(stream, builder.clone(), router.clone(), signals.clone()));
            }
            Some((Err(error), _)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors, most likely: a loop without a pause would eat a core until some are free.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A connection that has been let in.
struct Accepted {
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    write_timeout: Duration,
}

async fn connection(accepted: Accepted, builder: http1::Builder, router: Router, signals: Signals) {
    let Accepted { stream, place, write_timeout } = accepted;
    let Ok(local) = stream.local_addr() else { return };
    // Tokens are small packets, and each should go out when it is there.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(LocalIp(local.ip()));
        router.clone().oneshot(request.map(Body::new))
    });
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(Stall::new(stream, write_timeout)), service));
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    // A client that went away, or was too slow: its affair, not the operator's.
                    tracing::debug!(%error, "a connection ended early");
                }
                break;
            }
            () = signals.stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = signals.kill.cancelled() => break,
        }
    }
    drop(place);
}
