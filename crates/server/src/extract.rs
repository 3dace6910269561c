//! `Body<T>`: a JSON body, read within its limits and with every field accounted for. `Query<T>`: the query of an address.
//!
//! A body arrives whole before anything looks at it, within [`HttpConfig::max_body_bytes`] and at a minimal speed, so a
//! client that drips bytes does not keep its place. A value of the wrong kind is an error with the field's path; a
//! field that nobody reads is an error that names it, unless it is null, which is the same as absent.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRef, FromRequest, FromRequestParts, Request};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::BodyExt;
use perch_protocol::ErrorCode;
use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::config::HttpConfig;
use crate::error::ApiError;

/// Bytes per second that a body has to come in with on average, after the time that headers get.
const SLOWEST_BODY: u64 = 16 << 10;
/// Bodies longer than this are parsed on a thread that may block.
const PARSE_INLINE: usize = 64 << 10;

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S, T> FromRequest<S> for Body<T>
where
    T: DeserializeOwned + Send + 'static,
    S: Send + Sync,
    Arc<HttpConfig>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let limits = Arc::<HttpConfig>::from_ref(state);
        let bytes = read(request, &limits).await?;
        if bytes.len() <= PARSE_INLINE {
            return parse(&bytes).map(Self);
        }
        let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
        parsed.map_err(|_| ApiError::new(ErrorCode::EngineError, "reading the body failed"))?.map(Self)
    }
}

/// The query of an address. A parameter of the wrong kind, or one that nobody knows, is an error that names it; the types
/// that are read deny unknown fields.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let read = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        let invalid = |error: QueryRejection| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let message = source.unwrap_or_else(|| error.body_text());
            ApiError::new(ErrorCode::InvalidValue, format!("the query cannot be read: {message}"))
        };
        read.map(|axum::extract::Query(value)| Self(value)).map_err(invalid)
    }
}

/// The body, within its limits.
pub(crate) async fn read(request: Request, limits: &HttpConfig) -> Result<Vec<u8>, ApiError> {
    let too_large = || {
        let limit = crate::config::ByteSize(limits.max_body_bytes);
        let message = format!("the body is larger than {limit}; send less, or raise `max_body`");
        ApiError::new(ErrorCode::PayloadTooLarge, message)
    };
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limits.max_body_bytes) {
        return Err(too_large());
    }
    let begin = Instant::now() + limits.header_timeout;
    let mut body: HttpBody = request.into_body();
    let mut bytes = Vec::new();
    loop {
        let deadline = begin + Duration::from_secs(bytes.len() as u64 / SLOWEST_BODY);
        let frame = timeout_at(deadline, body.frame())
            .await
            .map_err(|_| ApiError::new(ErrorCode::RequestTimeout, "the body did not arrive in time"))?;
        let Some(frame) = frame else { return Ok(bytes) };
        let frame = frame.map_err(|error| {
            ApiError::new(ErrorCode::InvalidJson, format!("the body could not be read: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > limits.max_body_bytes {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
}

/// Reads `T` from JSON text.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => {}
        // serde would take an array for a struct, its elements for the fields.
        Some(_) if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() => {
            return Err(ApiError::new(ErrorCode::InvalidValue, "the body must be a JSON object"));
        }
        Some(_) => {}
        None => return Err(ApiError::new(ErrorCode::InvalidJson, "the body is empty; send a JSON object")),
    }
    let mut unread = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = {
        let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
        let mut note = |path: Path<'_>| unread.push(steps(&path));
        T::deserialize(serde_ignored::Deserializer::new(tracked, &mut note))
    };
    let invalid_json = |error: serde_json::Error| {
        ApiError::new(ErrorCode::InvalidJson, format!("the body is not valid JSON: {error}"))
    };
    let value = parsed.map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            let path = track.path().to_string();
            let at_root = path == ".";
            let message = if at_root { error.to_string() } else { format!("`{path}`: {error}") };
            let invalid = ApiError::new(ErrorCode::InvalidValue, message);
            if at_root { invalid } else { invalid.with_param(path) }
        }
        _ => invalid_json(error),
    })?;
    json.end().map_err(invalid_json)?;
    if !unread.is_empty() {
        refuse_unread(bytes, unread)?;
    }
    Ok(value)
}

/// An error for the first unread field that is not null.
fn refuse_unread(bytes: &[u8], unread: Vec<Vec<Step>>) -> Result<(), ApiError> {
    let whole: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let given = |path: &Vec<Step>| {
        let value = path.iter().try_fold(&whole, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        });
        value.is_some_and(|value| !value.is_null())
    };
    match unread.iter().find(|path| given(path)) {
        None => Ok(()),
        Some(path) => {
            let name = written(path);
            let message = format!("`{name}` is not supported; leave it out");
            Err(ApiError::unsupported(name, message))
        }
    }
}

enum Step {
    Key(String),
    Index(usize),
}

/// The way from the root to `path`.
fn steps(path: &Path<'_>) -> Vec<Step> {
    let (parent, step) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(Step::Index(*index))),
        Path::Map { parent, key } => (parent, Some(Step::Key(key.clone()))),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            (parent, None)
        }
    };
    let mut steps = steps(parent);
    steps.extend(step);
    steps
}

/// `messages[0].role`
fn written(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.push_str(&format!(".{key}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use perch_protocol::openai::{ChatRequest, CompletionRequest};

    use super::*;

    fn chat(text: &str) -> Result<ChatRequest, (ErrorCode, Option<String>, String)> {
        parse::<ChatRequest>(text.as_bytes()).map_err(|e| (e.code, e.param, e.message))
    }

    #[test]
    fn text_that_is_no_json_says_where_it_breaks() {
        for text in ["", "  ", "{", "{\"messages\": [}", "nope", "{} {}", "\u{0}"] {
            let (code, param, _) = chat(text).unwrap_err();
            assert_eq!((code, param), (ErrorCode::InvalidJson, None), "{text:?}");
        }
        let (_, _, message) = chat("{\n\"model\": }").unwrap_err();
        assert!(message.contains("line 2"), "{message}");
        assert_eq!(parse::<ChatRequest>(b"{\"model\": \"\xff\"}").unwrap_err().code, ErrorCode::InvalidJson);
        let deep = "[".repeat(100_000);
        assert_eq!(chat(&format!("{{\"metadata\": {deep}")).unwrap_err().0, ErrorCode::InvalidJson);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named_by_its_path() {
        let param = |text: &str| {
            let (code, param, message) = chat(text).unwrap_err();
            assert_eq!(code, ErrorCode::InvalidValue, "{text}: {message}");
            param.unwrap_or_default()
        };
        assert_eq!(param(r#"{"temperature": "hot"}"#), "temperature");
        assert_eq!(param(r#"{"messages": [{"role": "user"}, {"role": "wizard"}]}"#), "messages[1].role");
        assert_eq!(
            param(r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}"#),
            "messages[0].content[0].text"
        );
        assert_eq!(param(r#"{"stop": [1]}"#), "stop[0]");
        assert_eq!(param(r#"{"tool_choice": "always"}"#), "tool_choice");
        assert_eq!(param("[]"), "");
        let error = parse::<CompletionRequest>(br#"{"prompt": [[1], "a"]}"#).unwrap_err();
        assert!(error.param.unwrap().starts_with("prompt"));
    }

    #[test]
    fn a_field_that_nobody_reads_is_refused_by_name_at_any_depth() {
        let param = |text: &str| {
            let (code, param, message) = chat(text).unwrap_err();
            assert_eq!(code, ErrorCode::UnsupportedParameter, "{text}: {message}");
            assert!(message.contains(param.as_deref().unwrap()));
            param.unwrap()
        };
        assert_eq!(param(r#"{"messages": [], "frobnicate": 1}"#), "frobnicate");
        assert_eq!(param(r#"{"stream_options": {"include_all": true}}"#), "stream_options.include_all");
        assert_eq!(
            param(r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}]}"#),
            "messages[0].content[0].x"
        );
        assert_eq!(param(r#"{"audio": null, "functions": []}"#), "functions");
    }

    #[test]
    fn an_unknown_field_that_is_null_is_as_good_as_absent() {
        chat(
            r#"{"audio": null, "messages": [{"role": "assistant", "content": "a", "function_call": null}]}"#,
        )
        .unwrap();
    }

    #[test]
    fn fields_of_schemas_and_metadata_are_nobodys_business() {
        let text = r#"{"metadata": {"a": {"b": 1}}, "tools": [{"type": "function", "function": {"name": "f",
            "parameters": {"type": "object", "x-anything": {"deep": [1]}}}}]}"#;
        chat(text).unwrap();
    }
}
