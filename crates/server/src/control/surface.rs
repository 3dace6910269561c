//! `Surface`: the control over HTTP, on a loopback port of its own, for the app's window and nobody else.
//!
//! It serves the dashboard, tells and changes whether the server runs, and hands everything else to the running server
//! within the process. Who comes in: the `Host` and `Origin` of this very address, and the token of this launch, which
//! the window's first address carries and a cookie that no script can read keeps from then on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{CACHE_CONTROL, COOKIE, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method};
use perch_protocol::ErrorCode;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Control, Desktop, routes};
use crate::config::HttpConfig;
use crate::error::ApiError;
use crate::http::{Signals, serve};
use crate::security::{Allowed, Guard, KeyRing};

/// Time for what the window still asks when the app ends.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The control over HTTP. Dropping it ends it.
pub struct Surface {
    address: SocketAddr,
    token: Arc<Token>,
    signals: Signals,
    tasks: TaskTracker,
}

impl Surface {
    /// Listens on a free loopback port: `wanted`, if it is one. A browser keeps what a page remembers by its port.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn open(control: Control, desktop: Arc<dyn Desktop>, wanted: u16) -> std::io::Result<Self> {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        };
        let address = listener.local_addr()?;
        let token = Arc::new(Token::new(address.port()));
        let allowed = Allowed::new("127.0.0.1", address, &[], &[]);
        let guard = Arc::new(Guard::new(allowed, KeyRing::new(&[])));
        let (signals, tasks) = (Signals::default(), TaskTracker::new());
        let http = Arc::new(HttpConfig::default());
        let desk = routes::Desk { control, desktop, http: http.clone(), stop: signals.stop.clone() };
        let router = routes::router(desk, guard, token.clone());
        tasks.spawn(serve(listener, router, http, signals.clone(), tasks.clone()));
        Ok(Self { address, token, signals, tasks })
    }

    /// `http://127.0.0.1:PORT`: what the window may show.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address that lets a window in. `place` is where in the dashboard, such as `#/models`; it may be empty.
    pub fn entrance(&self, place: &str) -> String {
        format!("{}/?token={}{place}", self.origin(), self.token.secret)
    }

    /// Ends it, and returns when every connection has ended.
    pub async fn shutdown(&self) {
        self.signals.stop.cancel();
        self.tasks.close();
        if timeout(LAST_WORDS, self.tasks.wait()).await.is_err() {
            self.signals.kill.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Drop for Surface {
    fn drop(&mut self) {
        self.signals.stop.cancel();
        self.signals.kill.cancel();
    }
}

impl std::fmt::Debug for Surface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surface").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The secret of one launch.
pub(super) struct Token {
    secret: String,
    /// Cookies do not know ports; the name does.
    cookie: String,
}

impl Token {
    fn new(port: u16) -> Self {
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        Self { secret, cookie: format!("perch_{port}") }
    }

    fn is(&self, presented: &str) -> bool {
        self.secret.as_bytes().ct_eq(presented.as_bytes()).into()
    }

    fn in_cookies(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == self.cookie && self.is(value))
    }
}

/// Middleware: the token, once in the address, then in the cookie.
pub(super) async fn admit(
    State(token): State<Arc<Token>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let query = request.uri().query().unwrap_or_default();
    let given = query.split('&').find_map(|pair| pair.strip_prefix("token="));
    let enters = request.method() == Method::GET && request.uri().path() == "/";
    if let Some(given) = given.filter(|_| enters)
        && token.is(given)
    {
        // Away from the address, so that it stays in no history; the browser keeps the fragment.
        let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", token.cookie, token.secret);
        let mut response = Redirect::to("/").into_response();
        let headers = response.headers_mut();
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.insert(SET_COOKIE, cookie);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        return Ok(response);
    }
    if !token.in_cookies(request.headers()) {
        let message = "this address belongs to the window of the Perch app; open it from the menu";
        return Err(ApiError::new(ErrorCode::InvalidApiKey, message));
    }
    Ok(next.run(request).await)
}
