//! `POST /v1/completions`.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use perch_protocol::ErrorEnvelope;
use perch_protocol::openai::{CompletionRequest, CompletionResponse, Prompt};

use super::completions_encode::{Head, TextEncoder, whole};
use super::shared::{choices, event_stream, logit_bias, stops, streaming, top_logprobs};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::Body;
use crate::inference::{Asked, Input, Job, SamplingRequest};
use crate::observe::RequestId;

const ROUTE: &str = "/v1/completions";
/// OpenAI's default.
const DEFAULT_MAX_TOKENS: u64 = 16;

/// Continues texts.
#[utoipa::path(post, path = "/v1/completions", operation_id = "create_completion", tag = "openai", request_body = CompletionRequest, responses(
    (status = 200, description = "The answer; with `stream`, server-sent events of the same shape",
        body = CompletionResponse),
    (status = 400, description = "`invalid_json`, `invalid_value`, `unsupported_parameter`, \
        `context_length_exceeded`", body = ErrorEnvelope),
    (status = 401, description = "`invalid_api_key`", body = ErrorEnvelope),
    (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
    (status = 422, description = "`invalid_model_file`", body = ErrorEnvelope),
    (status = 429, description = "`queue_full`; `Retry-After` says when", body = ErrorEnvelope),
    (status = 500, description = "`engine_error`", body = ErrorEnvelope),
    (status = 503, description = "`model_loading`, `model_restarting`, `insufficient_memory`", body = ErrorEnvelope),
))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    Body(mut request): Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    let streamed = streaming(request.stream, request.stream_options.take())?;
    let model = request.model.take();
    let job = job(request)?;
    let scored = job.logprobs.is_some();
    let asked = Asked { id: id.clone(), route: ROUTE, model: model.as_deref() };
    let answer = app.answer(asked, job).await?;
    let head = Head::new(&id.0, answer.model());
    match streamed {
        Some(with_usage) => {
            let encoder = TextEncoder::new(head, answer.choices(), with_usage, scored);
            Ok(event_stream(answer, encoder, app.http.keep_alive))
        }
        None => Ok(Json(whole(head, answer.whole().await?, scored)).into_response()),
    }
}

fn job(request: CompletionRequest) -> Result<Job, ApiError> {
    if request.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::unsupported(
            "suffix",
            "text cannot be filled in before a suffix; leave `suffix` out",
        ));
    }
    let n = choices(request.n)?;
    if request.best_of.is_some_and(|best| best as usize != n) {
        return Err(ApiError::unsupported(
            "best_of",
            "all answers are sent; leave `best_of` out, or set it to `n`",
        ));
    }
    let input = match request.prompt {
        None => return Err(ApiError::invalid("prompt", "`prompt` is missing")),
        Some(Prompt::Text(text)) => Input::Texts(vec![text]),
        Some(Prompt::Texts(texts)) => Input::Texts(texts),
        Some(Prompt::Tokens(tokens)) => Input::Tokens(vec![tokens]),
        Some(Prompt::TokenLists(lists)) => Input::Tokens(lists),
    };
    let echo = request.echo.unwrap_or(false);
    let logprobs = request.logprobs.map(|count| top_logprobs("logprobs", count)).transpose()?;
    let max_tokens = request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    if max_tokens == 0 && !echo {
        return Err(ApiError::invalid(
            "max_tokens",
            "max_tokens must be at least 1, unless the prompt is echoed",
        ));
    }
    Ok(Job {
        input,
        sampling: SamplingRequest {
            temperature: request.temperature,
            top_p: request.top_p,
            top_k: request.top_k,
            min_p: request.min_p,
            repetition_penalty: request.repetition_penalty,
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
            logit_bias: logit_bias(request.logit_bias)?,
            seed: request.seed.map(i64::cast_unsigned),
        },
        max_tokens: Some(usize::try_from(max_tokens).unwrap_or(usize::MAX)),
        n,
        stop: stops(request.stop)?,
        logprobs,
        prompt_logprobs: logprobs.filter(|_| echo),
        echo,
        ignore_eos: request.ignore_eos.unwrap_or(false),
        cache_salt: request.cache_salt,
        ..Job::default()
    })
}
