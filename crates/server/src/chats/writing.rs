//! `Writing`: an answer on its way into the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use perch_conversations::Store;
use perch_protocol::conversations::{
    ChatTurnEvent, ConversationMessage, MessageState, MessageTimings, MessageUsage,
};
use perch_protocol::openai::{Content, FinishReason, FunctionCall, ToolCall};

use crate::error::ApiError;
use crate::inference::{Call, Finish, Part, Tally};

/// So often what there is of an answer is written down: what a process that is killed loses at most.
const EVERY: Duration = Duration::from_secs(2);

/// An answer on its way.
pub(super) struct Writing {
    pub(super) message: ConversationMessage,
    text: String,
    reasoning: String,
    begun: Instant,
    first_token: Option<Duration>,
    /// Where it is kept: the store and the conversation.
    kept: Option<(Arc<Store>, String)>,
    saved: Instant,
}

impl Writing {
    pub(super) fn new(message: ConversationMessage, kept: Option<(Arc<Store>, String)>) -> Self {
        let now = Instant::now();
        Self {
            message,
            text: String::new(),
            reasoning: String::new(),
            begun: now,
            first_token: None,
            kept,
            saved: now,
        }
    }

    /// Takes a piece in, and makes the event that tells of it.
    pub(super) fn add(&mut self, part: Part) -> Option<ChatTurnEvent> {
        self.first_token.get_or_insert_with(|| self.begun.elapsed());
        let delta =
            |content, reasoning, tool_call| Some(ChatTurnEvent::Delta { content, reasoning, tool_call });
        let event = match part {
            Part::Content(text) => {
                self.text.push_str(&text);
                delta(Some(text), None, None)
            }
            Part::Reasoning(text) => {
                self.reasoning.push_str(&text);
                delta(None, Some(text), None)
            }
            Part::Call(call) => {
                let call = tool_call(call);
                self.message.tool_calls.push(call.clone());
                delta(None, None, Some(call))
            }
            Part::ContentWasReasoning => {
                self.reasoning.push_str(&std::mem::take(&mut self.text));
                None
            }
        };
        if self.saved.elapsed() > EVERY {
            self.saved = Instant::now();
            self.save();
        }
        event
    }

    pub(super) fn ended(&mut self, finish: &Finish) {
        self.message.finish_reason = Some(match finish {
            Finish::Stop { .. } => FinishReason::Stop,
            Finish::Length => FinishReason::Length,
            Finish::ToolCalls => FinishReason::ToolCalls,
        });
    }

    pub(super) fn counted(&mut self, tally: Tally) {
        self.message.usage = Some(usage(tally));
    }

    /// Writes down what there is so far. Nobody waits for it: the end is written down for certain.
    fn save(&mut self) {
        self.settle();
        if let Some((store, conversation)) = &self.kept {
            drop(store.rewrite(conversation.clone(), self.message.clone()));
        }
    }

    fn settle(&mut self) {
        self.message.content = Content::Text(self.text.clone());
        self.message.reasoning = Some(self.reasoning.clone()).filter(|text| !text.is_empty());
        self.message.timings = Some(timings(self.begun, self.first_token));
    }

    /// Writes the end down.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub(super) async fn finish(
        mut self,
        state: MessageState,
        error: Option<&ApiError>,
    ) -> (ConversationMessage, Result<(), ApiError>) {
        self.settle();
        self.message.state = state;
        self.message.error = error.map(ApiError::problem);
        let Some((store, conversation)) = self.kept else { return (self.message, Ok(())) };
        // A conversation that was deleted meanwhile is none to write to.
        let written = store.rewrite(conversation, self.message.clone()).await;
        (self.message, written.map(|_| ()).map_err(ApiError::from))
    }
}

/// Tokens as they are kept.
pub(crate) fn usage(tally: Tally) -> MessageUsage {
    MessageUsage {
        prompt_tokens: tally.prompt_tokens,
        cached_tokens: tally.cached_tokens,
        completion_tokens: tally.completion_tokens,
        reasoning_tokens: tally.reasoning_tokens,
    }
}

/// Times as they are kept.
pub(crate) fn timings(begun: Instant, first_token: Option<Duration>) -> MessageTimings {
    let millis = |time: Duration| time.as_millis() as u64;
    MessageTimings { first_token_ms: first_token.map(millis), duration_ms: millis(begun.elapsed()) }
}

fn tool_call(call: Call) -> ToolCall {
    ToolCall {
        id: call.id,
        kind: "function".to_owned(),
        function: FunctionCall { name: call.name, arguments: call.arguments },
        index: None,
    }
}
