//! `POST /v1/chat/completions`.

use std::convert::identity;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use perch_protocol::openai::{ChatRequest, ChatResponse, ResponseFormat, Tool, ToolChoice, ToolChoiceMode};
use perch_protocol::{ErrorCode, ErrorEnvelope};
use serde_json::{Value, json};

use super::chat_encode::{ChunkEncoder, Head, whole};
use super::chat_messages;
use super::shared::{choices, event_stream, logit_bias, stops, streaming, top_logprobs};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::Body;
use crate::inference::{AnswerFormat, Asked, Calling, ChatInput, Input, Job, SamplingRequest};
use crate::observe::RequestId;

const ROUTE: &str = "/v1/chat/completions";

/// Answers a conversation.
#[utoipa::path(post, path = "/v1/chat/completions", operation_id = "create_chat_completion", tag = "openai", request_body = ChatRequest, responses(
    (status = 200, description = "The answer; with `stream`, server-sent events of `ChatChunk`", body = ChatResponse),
    (status = 400, description = "`invalid_json`, `invalid_value`, `unsupported_parameter`, \
        `context_length_exceeded`, `invalid_json_schema`", body = ErrorEnvelope),
    (status = 401, description = "`invalid_api_key`", body = ErrorEnvelope),
    (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
    (status = 422, description = "`invalid_model_file`, `template_error`, `template_limit`", body = ErrorEnvelope),
    (status = 429, description = "`queue_full`; `Retry-After` says when", body = ErrorEnvelope),
    (status = 500, description = "`engine_error`", body = ErrorEnvelope),
    (status = 503, description = "`model_loading`, `model_restarting`, `insufficient_memory`", body = ErrorEnvelope),
))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    Body(mut request): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    let streamed = streaming(request.stream, request.stream_options.take())?;
    let model = request.model.take();
    let job = job(request)?;
    let asked = Asked { id: id.clone(), route: ROUTE, model: model.as_deref() };
    let answer = app.answer(asked, job).await?;
    let head = Head::new(&id.0, answer.model());
    match streamed {
        Some(with_usage) => {
            let encoder = ChunkEncoder::new(head, answer.choices(), with_usage);
            Ok(event_stream(answer, encoder, app.http.keep_alive))
        }
        None => Ok(Json(whole(head, answer.whole().await?)).into_response()),
    }
}

fn job(request: ChatRequest) -> Result<Job, ApiError> {
    refuse_unsupported(&request)?;
    let logprobs = match (request.logprobs.unwrap_or(false), request.top_logprobs) {
        (true, top) => Some(top_logprobs("top_logprobs", top.unwrap_or(0))?),
        (false, None | Some(0)) => None,
        (false, Some(_)) => {
            return Err(ApiError::invalid("top_logprobs", "top_logprobs needs `logprobs` to be true"));
        }
    };
    let max_tokens = match request.max_completion_tokens.or(request.max_tokens) {
        Some(0) => {
            let name =
                if request.max_completion_tokens.is_some() { "max_completion_tokens" } else { "max_tokens" };
            return Err(ApiError::invalid(name, format!("{name} must be at least 1")));
        }
        Some(most) => Some(usize::try_from(most).unwrap_or(usize::MAX)),
        None => None,
    };
    let format = request.response_format.map(answer_format).transpose()?.unwrap_or_default();
    let chat = ChatInput {
        messages: chat_messages::for_template(request.messages)?,
        calling: calling(request.tool_choice.as_ref(), request.tools.as_deref().unwrap_or_default())?,
        tools: tools(request.tools.unwrap_or_default(), request.tool_choice)?,
        one_call: !request.parallel_tool_calls.is_none_or(identity),
        kwargs: request.chat_template_kwargs.unwrap_or_default(),
        effort: request.reasoning_effort.map(effort).transpose()?,
    };
    Ok(Job {
        input: Input::Chat(Box::new(chat)),
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
        max_tokens,
        n: choices(request.n)?,
        stop: stops(request.stop)?,
        logprobs,
        cache_salt: request.cache_salt,
        format,
        ..Job::default()
    })
}

/// Fields that are known but work with some values only.
fn refuse_unsupported(request: &ChatRequest) -> Result<(), ApiError> {
    if request.store == Some(true) {
        return Err(ApiError::unsupported(
            "store",
            "Perch stores no answers; leave `store` out, or set it to false",
        ));
    }
    let text_only = |modality: &String| modality == "text";
    if !request.modalities.iter().flatten().all(text_only) {
        return Err(ApiError::unsupported("modalities", "only text can be answered; ask for [\"text\"]"));
    }
    Ok(())
}

fn effort(effort: String) -> Result<String, ApiError> {
    match effort.as_str() {
        "none" | "minimal" | "low" | "medium" | "high" | "xhigh" => Ok(effort),
        _ => Err(ApiError::invalid(
            "reasoning_effort",
            "reasoning_effort must be one of none, minimal, low, medium, high, xhigh",
        )),
    }
}

/// The tools that the model is shown.
fn tools(tools: Vec<Tool>, choice: Option<ToolChoice>) -> Result<Vec<Value>, ApiError> {
    let mut shown = Vec::with_capacity(tools.len());
    for (i, tool) in tools.into_iter().enumerate() {
        if tool.kind != "function" {
            let message = "only tools of the type `function` are supported";
            return Err(ApiError::unsupported(format!("tools[{i}].type"), message));
        }
        let function = tool.function.ok_or_else(|| {
            ApiError::invalid(
                format!("tools[{i}].function"),
                "a tool of the type `function` needs `function`",
            )
        })?;
        if function.name.is_empty() {
            return Err(ApiError::invalid(format!("tools[{i}].function.name"), "a function needs a name"));
        }
        let mut shape = json!({"name": function.name});
        if let Some(description) = function.description {
            shape["description"] = description.into();
        }
        // Templates read `parameters` without asking whether they are there.
        shape["parameters"] =
            function.parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
        shown.push(json!({"type": "function", "function": shape}));
    }
    Ok(match choice {
        Some(ToolChoice::Mode(ToolChoiceMode::None)) => Vec::new(),
        _ => shown,
    })
}

/// Whether the model must call a tool.
fn calling(choice: Option<&ToolChoice>, tools: &[Tool]) -> Result<Calling, ApiError> {
    let name = match choice {
        None | Some(ToolChoice::Mode(ToolChoiceMode::Auto | ToolChoiceMode::None)) => {
            return Ok(Calling::Free);
        }
        Some(ToolChoice::Mode(ToolChoiceMode::Required)) if tools.is_empty() => {
            return Err(ApiError::invalid("tool_choice", "a model that must call a tool needs `tools`"));
        }
        Some(ToolChoice::Mode(ToolChoiceMode::Required)) => return Ok(Calling::Required),
        Some(ToolChoice::Function(named)) => &named.function.name,
    };
    let known = |tool: &Tool| tool.function.as_ref().is_some_and(|function| function.name == *name);
    match tools.iter().any(known) {
        true => Ok(Calling::Named(name.clone())),
        false => {
            let message = format!("none of `tools` is called `{name}`");
            Err(ApiError::invalid("tool_choice.function.name", message))
        }
    }
}

fn answer_format(format: ResponseFormat) -> Result<AnswerFormat, ApiError> {
    match format.kind.as_str() {
        "text" => Ok(AnswerFormat::Free),
        "json_object" => Ok(AnswerFormat::Json(json!({"type": "object"}))),
        "json_schema" => {
            let schema = format.json_schema.and_then(|named| named.schema);
            let missing = || ApiError::invalid("response_format.json_schema", "json_schema needs a `schema`");
            let schema = schema.ok_or_else(missing)?;
            if !schema.is_object() && !schema.is_boolean() {
                return Err(ApiError::new(ErrorCode::InvalidJsonSchema, "a JSON schema is an object")
                    .with_param("response_format.json_schema.schema"));
            }
            Ok(AnswerFormat::Json(schema))
        }
        _ => Err(ApiError::invalid(
            "response_format.type",
            "response_format.type must be text, json_object or json_schema",
        )),
    }
}
