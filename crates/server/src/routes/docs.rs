//! `/openapi.json`, and the pages that show it: Swagger UI at `/docs`, Redoc at `/redoc`. All from this program's own
//! bytes: the pages' policy forbids them any other host.

use axum::Json;
use axum::extract::Path;
use axum::response::{Html, IntoResponse, Response};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_FRAME_OPTIONS};
use perch_protocol::ErrorCode;
use utoipa::OpenApi;

use crate::error::ApiError;
use crate::openapi::ApiDoc;

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     font-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

const SWAGGER: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Perch API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"#;

const START: &str = r##"window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"##;

const REDOC: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Perch API</title>
<link rel="icon" href="data:,">
<style>body { margin: 0; }</style>
</head>
<body>
<redoc spec-url="/openapi.json"></redoc>
<script src="/redoc/redoc.standalone.js"></script>
</body>
</html>
"#;

/// The files of the pages: name, type, bytes packed with gzip.
const ASSETS: [(&str, &str, &[u8]); 3] = [
    (
        "swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../assets/swagger-ui-bundle.js.gz"),
    ),
    ("swagger-ui.css", "text/css; charset=utf-8", include_bytes!("../../assets/swagger-ui.css.gz")),
    (
        "redoc.standalone.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../assets/redoc.standalone.js.gz"),
    ),
];

/// This description.
#[utoipa::path(get, path = "/openapi.json", operation_id = "get_openapi", tag = "server", responses(
    (status = 200, description = "OpenAPI 3.1", content_type = "application/json"),
))]
pub(crate) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(ApiDoc::openapi())
}

pub(crate) async fn swagger() -> Response {
    page(SWAGGER)
}

pub(crate) async fn redoc() -> Response {
    page(REDOC)
}

pub(crate) async fn asset(Path(file): Path<String>) -> Result<Response, ApiError> {
    if file == "start.js" {
        return Ok(([(CONTENT_TYPE, "text/javascript; charset=utf-8")], START).into_response());
    }
    let found = ASSETS.iter().find(|(name, ..)| *name == file);
    let (_, kind, bytes) =
        found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "there is no such file"))?;
    // Packed whatever the client accepts: every browser does, and nothing else asks.
    let headers =
        [(CONTENT_TYPE, *kind), (CONTENT_ENCODING, "gzip"), (CACHE_CONTROL, "public, max-age=3600")];
    Ok((headers, *bytes).into_response())
}

fn page(html: &'static str) -> Response {
    let headers = [(CONTENT_SECURITY_POLICY, POLICY), (X_FRAME_OPTIONS, HeaderValue::from_static("DENY"))];
    (headers, Html(html)).into_response()
}
