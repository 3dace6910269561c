//! The dashboard: `GET /` and its files under `/assets/`, all from this program's own bytes.
//!
//! `build.rs` puts in what `npm run build` left in `ui/dist`. A program that was built without it says how to build it.

use axum::extract::Path;
use axum::response::{Html, IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use perch_protocol::ErrorCode;

use crate::error::ApiError;

/// A file of the dashboard.
#[allow(dead_code, reason = "a program without its dashboard makes none")]
struct Asset {
    name: &'static str,
    kind: &'static str,
    /// Packed with gzip.
    packed: bool,
    bytes: &'static [u8],
}

/// The page and its entity tag.
#[allow(dead_code, reason = "a program without its dashboard makes none")]
struct Page {
    html: &'static str,
    etag: &'static str,
}

// `PAGE: Option<Page>` and `ASSETS: &[Asset]`.
include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// No other host, no inline scripts, no text that becomes markup unless it went through a sanitiser.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; \
     manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types svelte-trusted-html dompurify",
);

const NOT_BUILT: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Perch</title>
<link rel="icon" href="data:,">
</head>
<body>
<h1>Perch is running</h1>
<p>This program was built without its dashboard. <code>cargo xtask run</code> builds both; or build it by hand, and then
Perch again:</p>
<pre>cd ui
npm ci
npm run build</pre>
<p>The API works without it: see <a href="/docs">/docs</a>.</p>
</body>
</html>
"#;

pub(crate) async fn page(headers: HeaderMap) -> Response {
    let guards = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // Asked for every time, so that a new version is seen at once.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    let Some(page) = PAGE else { return (guards, Html(NOT_BUILT)).into_response() };
    let known = headers.get(IF_NONE_MATCH).is_some_and(|tags| names(tags, page.etag));
    let etag = [(ETAG, HeaderValue::from_static(page.etag))];
    if known {
        return (StatusCode::NOT_MODIFIED, guards, etag).into_response();
    }
    (guards, etag, Html(page.html)).into_response()
}

pub(crate) async fn asset(Path(name): Path<String>) -> Result<Response, ApiError> {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    let asset = found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "the dashboard has no such file"))?;
    // A file's name changes with its content.
    let headers = [(CONTENT_TYPE, asset.kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    let mut response = (headers, asset.bytes).into_response();
    if asset.packed {
        // Whatever the client accepts: every browser does, and nothing else asks.
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// Whether an `If-None-Match` names `etag`. A proxy that packs the page makes the tag a weak one.
fn names(tags: &HeaderValue, etag: &str) -> bool {
    let tags = tags.to_str().unwrap_or_default();
    tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
}
