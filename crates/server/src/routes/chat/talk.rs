//! `POST /api/v1/chat`: says something in a conversation. What is said is kept before the model is asked, and the answer
//! however it ends.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use perch_conversations::{Parent, Said, Turn, images_of};
use perch_protocol::conversations::{ChatTurn, ChatTurnEvent, ChatTurnReply, Conversation, NewConversation};
use perch_protocol::openai::Content;
use perch_protocol::{ErrorCode, ErrorEnvelope};

use super::{settings, stream as sse};
use crate::app::App;
use crate::chats::{Ask, Asking, Out};
use crate::error::ApiError;
use crate::extract::Body;
use crate::observe::RequestId;

const ROUTE: &str = "/api/v1/chat";

/// Says something in a conversation, or asks for one more answer. What is said is kept before the model is asked.
#[utoipa::path(post, path = "/api/v1/chat", operation_id = "say", tag = "chat", request_body = ChatTurn, responses(
    (status = 200, description = "The answer; with `stream`, server-sent events of `ChatTurnEvent`", body = ChatTurnReply),
    (status = 400, description = "`invalid_json`, `invalid_value`, `unsupported_parameter`, \
        `context_length_exceeded`", body = ErrorEnvelope),
    (status = 404, description = "`not_found`: no such conversation or message; `model_not_found`", body = ErrorEnvelope),
    (status = 429, description = "`queue_full`; `Retry-After` says when", body = ErrorEnvelope),
    (status = 500, description = "`engine_error`", body = ErrorEnvelope),
    (status = 502, description = "`upstream_unavailable`: the server that runs the model failed", body = ErrorEnvelope),
    (status = 503, description = "`model_loading`, `model_restarting`, `insufficient_memory`", body = ErrorEnvelope),
    (status = 507, description = "`insufficient_storage`: the disk is full", body = ErrorEnvelope),
))]
pub(crate) async fn say(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    Body(mut request): Body<ChatTurn>,
) -> Result<Response, ApiError> {
    check(&request)?;
    let streamed = request.stream.unwrap_or(false);
    let conversation = match request.conversation_id.clone() {
        Some(id) => app.chats.read(move |store| store.conversation(&id)).await?,
        None => Conversation::default(),
    };
    let model = app.chat_model(request.model.take().or_else(|| conversation.model.clone())).await?;
    let sampling = settings::over(request.sampling.take().unwrap_or_default(), &conversation.sampling);
    let job = settings::job(&sampling, "sampling")?;
    let kept = request.conversation_id.is_some() || request.store.unwrap_or(app.chats.config().autosave);
    let turn = turn(&app, request, &model, kept).await?;
    let ask = Ask { id, route: ROUTE, model: Some(model), sampling, job, turn, kept };
    let asking = app.chats.ask(app.clone(), ask);
    match streamed {
        true => Ok(sse::response(stream::unfold(asking, next), app.http.keep_alive)),
        false => Ok(Json(whole(asking).await?).into_response()),
    }
}

/// What a request says must go together.
fn check(request: &ChatTurn) -> Result<(), ApiError> {
    let invalid = |param: &str, message: &str| Err(ApiError::invalid(param, message));
    let again = request.regenerate.unwrap_or(false);
    match (&request.message, again) {
        (None, false) => return invalid("message", "say something in `message`, or set `regenerate`"),
        (Some(_), true) => {
            let message = "`regenerate` asks again and says nothing new; leave out `message`, or leave out `regenerate` and \
                           send the message with the `parent` of the one it replaces";
            return invalid("regenerate", message);
        }
        (Some(Content::Text(text)), false) if text.trim().is_empty() => {
            return invalid("message", "`message` must not be empty");
        }
        (Some(content), false) if images_of(content).next().is_some() => {
            return Err(ApiError::unsupported("message", "this model cannot see images; send text only"));
        }
        _ => {}
    }
    if request.conversation_id.is_none() {
        if request.parent.is_some() || again {
            let param = if again { "regenerate" } else { "parent" };
            return invalid(param, "name the conversation in `conversation_id`");
        }
        return Ok(());
    }
    if request.system_prompt.is_some() {
        let message = "the conversation has its own; change it with PATCH /api/v1/chat/conversation/{id}";
        return invalid("system_prompt", message);
    }
    if request.store.is_some() {
        return invalid("store", "what is said in a conversation that is kept is kept; leave `store` out");
    }
    Ok(())
}

/// Keeps what is said, if it is to be kept.
async fn turn(app: &App, request: ChatTurn, model: &str, kept: bool) -> Result<Turn, ApiError> {
    let wanted = NewConversation {
        model: Some(model.to_owned()),
        system_prompt: request.system_prompt,
        ..NewConversation::default()
    };
    if !kept {
        let content = request.message.unwrap_or(Content::Text(String::new()));
        return Ok(Turn::unkept(wanted, content)?);
    }
    let parent = match request.parent.as_deref() {
        None => Parent::Head,
        Some("root") if request.message.is_some() => Parent::Root,
        Some(id) => Parent::Message(id.to_owned()),
    };
    let said = Said {
        conversation: request.conversation_id.ok_or(wanted),
        parent,
        content: request.message,
        model: Some(model.to_owned()),
    };
    Ok(app.chats.store().await?.say(said).await?)
}

/// The next event.
async fn next(mut asking: Asking) -> Option<(axum::response::sse::Event, Asking)> {
    let event = match asking.recv().await? {
        Out::Event(event) => sse::event(name(&event), &*event),
        Out::Failed(error, message) => {
            sse::event("error", &ChatTurnEvent::Error { error: error.envelope().error, message: *message })
        }
    };
    Some((event, asking))
}

fn name(event: &ChatTurnEvent) -> &'static str {
    match event {
        ChatTurnEvent::Start { .. } => "start",
        ChatTurnEvent::Trimmed { .. } => "trimmed",
        ChatTurnEvent::Delta { .. } => "delta",
        ChatTurnEvent::Done { .. } => "done",
        ChatTurnEvent::Error { .. } => "error",
    }
}

/// The whole answer.
async fn whole(mut asking: Asking) -> Result<ChatTurnReply, ApiError> {
    let mut said = None;
    while let Some(out) = asking.recv().await {
        match out {
            Out::Event(event) => match *event {
                ChatTurnEvent::Start { user_message, .. } => said = user_message,
                ChatTurnEvent::Done { conversation, message } => {
                    let left_out_turns = message.left_out_turns;
                    return Ok(ChatTurnReply { conversation, user_message: said, message, left_out_turns });
                }
                _ => {}
            },
            Out::Failed(error, _) => return Err(error),
        }
    }
    Err(ApiError::new(ErrorCode::EngineError, "the answer ended without an end; Perch's log says more"))
}

impl App {
    /// The id of the model that a chat means: the one that is named, or the default.
    ///
    /// # Errors
    /// `model_not_found`.
    pub(super) async fn chat_model(&self, name: Option<String>) -> Result<String, ApiError> {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            return Ok(self.pool.find(&name).await?.id.clone());
        }
        self.pool.default_now().await.model.ok_or_else(|| {
            let message = "there are no models on this machine; put one into a folder named by `models_dirs`";
            ApiError::new(ErrorCode::ModelNotFound, message).with_param("model")
        })
    }
}
