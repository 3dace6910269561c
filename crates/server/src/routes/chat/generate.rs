//! `POST /api/v1/generate`: a prompt and its answer, without a conversation.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use perch_protocol::ErrorEnvelope;
use perch_protocol::conversations::{PromptEvent, PromptReply, PromptRequest};
use perch_protocol::openai::FinishReason;
use serde_json::json;

use super::{settings, stream as sse};
use crate::app::App;
use crate::chats::{timings, usage};
use crate::error::ApiError;
use crate::extract::Body;
use crate::inference::{Answer, Asked, ChatInput, Delta, Finish, Input, Part};
use crate::observe::RequestId;

const ROUTE: &str = "/api/v1/generate";

/// Answers a prompt through the model's chat template, where it has one; with `raw`, continues it as it is.
#[utoipa::path(post, path = "/api/v1/generate", operation_id = "generate", tag = "chat", request_body = PromptRequest, responses(
    (status = 200, description = "The answer; with `stream`, server-sent events of `PromptEvent`", body = PromptReply),
    (status = 400, description = "`invalid_json`, `invalid_value`, `context_length_exceeded`", body = ErrorEnvelope),
    (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
    (status = 429, description = "`queue_full`; `Retry-After` says when", body = ErrorEnvelope),
    (status = 500, description = "`engine_error`", body = ErrorEnvelope),
    (status = 503, description = "`model_loading`, `model_restarting`, `insufficient_memory`", body = ErrorEnvelope),
))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    Body(request): Body<PromptRequest>,
) -> Result<Response, ApiError> {
    let begun = Instant::now();
    let sampling = request.sampling.unwrap_or_default();
    let mut job = settings::job(&sampling, "sampling")?;
    let prompt = request.prompt.filter(|prompt| !prompt.is_empty());
    let prompt = prompt.ok_or_else(|| ApiError::invalid("prompt", "`prompt` must not be empty"))?;
    let model = app.chat_model(request.model).await?;
    let raw = request.raw.unwrap_or(false);
    if raw && request.system_prompt.is_some() {
        return Err(ApiError::invalid(
            "system_prompt",
            "a text that is continued as it is has no place for this",
        ));
    }
    let lease = app.pool.lease(Some(&model)).await?;
    job.input = if raw || lease.text.template(false).is_err() {
        Input::Texts(vec![prompt])
    } else {
        let system = request.system_prompt.or_else(|| app.chats.config().system_prompt.clone());
        let mut messages: Vec<_> =
            system.into_iter().map(|text| json!({"role": "system", "content": text})).collect();
        messages.push(json!({"role": "user", "content": prompt}));
        let effort = sampling.reasoning_effort;
        Input::Chat(Box::new(ChatInput { messages, effort, ..ChatInput::default() }))
    };
    let asked = Asked { id, route: ROUTE, model: Some(&model) };
    let answer = app.answer(asked, job).await?;
    drop(lease);
    let reply = PromptReply {
        model: answer.model().to_owned(),
        text: String::new(),
        reasoning: None,
        finish_reason: FinishReason::Stop,
        usage: usage(crate::inference::Tally::default()),
        timings: timings(begun, None),
    };
    let mut run = Run { answer: Some(answer), reply, begun, first_token: None };
    if request.stream.unwrap_or(false) {
        return Ok(sse::response(stream::unfold(run, next), app.http.keep_alive));
    }
    loop {
        match run.step().await {
            Some(Ok(PromptEvent::Done { reply })) => return Ok(Json(reply).into_response()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(ApiError::stopping()),
        }
    }
}

/// An answer on its way.
struct Run {
    /// `None` after its end.
    answer: Option<Answer>,
    reply: PromptReply,
    begun: Instant,
    first_token: Option<Duration>,
}

impl Run {
    async fn step(&mut self) -> Option<Result<PromptEvent, ApiError>> {
        loop {
            let delta = match self.answer.as_mut()?.next().await? {
                Ok(delta) => delta,
                Err(error) => {
                    self.answer = None;
                    return Some(Err(error));
                }
            };
            match delta {
                Delta::Part { part, .. } => {
                    self.first_token.get_or_insert_with(|| self.begun.elapsed());
                    if let Some(event) = self.add(part) {
                        return Some(Ok(event));
                    }
                }
                Delta::Finished { finish, .. } => {
                    self.reply.finish_reason = match finish {
                        Finish::Stop { .. } => FinishReason::Stop,
                        Finish::Length => FinishReason::Length,
                        Finish::ToolCalls => FinishReason::ToolCalls,
                    };
                }
                Delta::Done(tally) => {
                    self.answer = None;
                    self.reply.usage = usage(tally);
                    self.reply.timings = timings(self.begun, self.first_token);
                    return Some(Ok(PromptEvent::Done { reply: self.reply.clone() }));
                }
            }
        }
    }

    fn add(&mut self, part: Part) -> Option<PromptEvent> {
        match part {
            Part::Content(text) => {
                self.reply.text.push_str(&text);
                Some(PromptEvent::Delta { text: Some(text), reasoning: None })
            }
            Part::Reasoning(text) => {
                self.reply.reasoning.get_or_insert_default().push_str(&text);
                Some(PromptEvent::Delta { text: None, reasoning: Some(text) })
            }
            Part::ContentWasReasoning => {
                let text = std::mem::take(&mut self.reply.text);
                self.reply.reasoning.get_or_insert_default().push_str(&text);
                None
            }
            // Nobody has given the model tools.
            Part::Call(_) => None,
        }
    }
}

async fn next(mut run: Run) -> Option<(Event, Run)> {
    let event = match run.step().await? {
        Ok(event @ PromptEvent::Delta { .. }) => sse::event("delta", &event),
        Ok(event) => sse::event("done", &event),
        Err(error) => sse::event("error", &PromptEvent::Error { error: error.envelope().error }),
    };
    Some((event, run))
}
