//! Deltas to `chat.completion.chunk`s, and whole answers to `chat.completion`s.

use perch_protocol::openai::{
    AnswerMessage, ChatChoice, ChatChunk, ChatLogProbs, ChatResponse, ChunkChoice, ChunkDelta, FinishReason,
    FunctionCall, FunctionCallDelta, Role, TokenLogProb, ToolCall, ToolCallDelta, TopLogProb, Usage,
};

use super::shared::{Encode, fingerprint, finish_reason, usage};
use crate::clock::now_seconds;
use crate::inference::{Call, Delta, Part, Score, Whole, WholeChoice};

/// What all chunks of an answer repeat.
#[derive(Debug, Clone)]
pub(super) struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    pub(super) fn new(request_id: &str, model: &str) -> Self {
        Self { id: format!("chatcmpl-{request_id}"), created: now_seconds(), model: model.to_owned() }
    }
}

/// Makes chunks.
pub(super) struct ChunkEncoder {
    head: Head,
    /// Which choices have said that they are the assistant.
    introduced: Vec<bool>,
    with_usage: bool,
}

impl ChunkEncoder {
    pub(super) fn new(head: Head, choices: usize, with_usage: bool) -> Self {
        Self { head, introduced: vec![false; choices], with_usage }
    }

    fn chunk(&self, choices: Vec<ChunkChoice>, usage: Option<Usage>) -> ChatChunk {
        ChatChunk {
            id: self.head.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.head.created,
            model: self.head.model.clone(),
            system_fingerprint: fingerprint(),
            choices,
            usage: self.with_usage.then_some(usage),
        }
    }

    fn one(
        &self,
        index: usize,
        delta: ChunkDelta,
        scores: Vec<Score>,
        finish: Option<FinishReason>,
    ) -> ChatChunk {
        self.chunk(
            vec![ChunkChoice { index, delta, logprobs: logprobs(scores), finish_reason: finish }],
            None,
        )
    }

    /// The chunk that begins a choice, once.
    fn introduction(&mut self, index: usize) -> Option<ChatChunk> {
        if std::mem::replace(&mut self.introduced[index], true) {
            return None;
        }
        let delta =
            ChunkDelta { role: Some(Role::Assistant), content: Some(String::new()), ..ChunkDelta::default() };
        Some(self.one(index, delta, Vec::new(), None))
    }
}

impl Encode for ChunkEncoder {
    type Chunk = ChatChunk;

    fn encode(&mut self, delta: Delta) -> Vec<ChatChunk> {
        match delta {
            Delta::Part { choice, part, scores } => {
                let Some(delta) = chunk_delta(part) else { return Vec::new() };
                let begin = self.introduction(choice);
                begin.into_iter().chain([self.one(choice, delta, scores, None)]).collect()
            }
            Delta::Finished { choice, finish } => {
                let begin = self.introduction(choice);
                let end = self.one(choice, ChunkDelta::default(), Vec::new(), Some(finish_reason(&finish)));
                begin.into_iter().chain([end]).collect()
            }
            Delta::Done(tally) if self.with_usage => vec![self.chunk(Vec::new(), Some(usage(tally)))],
            Delta::Done(_) => Vec::new(),
        }
    }
}

fn chunk_delta(part: Part) -> Option<ChunkDelta> {
    Some(match part {
        Part::Content(text) => ChunkDelta { content: Some(text), ..ChunkDelta::default() },
        Part::Reasoning(text) => ChunkDelta {
            reasoning_content: Some(text.clone()),
            reasoning: Some(text),
            ..ChunkDelta::default()
        },
        Part::Call(call) => ChunkDelta { tool_calls: Some(vec![call_delta(call)]), ..ChunkDelta::default() },
        Part::ContentWasReasoning => return None,
    })
}

fn call_delta(call: Call) -> ToolCallDelta {
    ToolCallDelta {
        index: call.index,
        id: Some(call.id),
        kind: Some("function".to_owned()),
        function: FunctionCallDelta { name: Some(call.name), arguments: Some(call.arguments) },
    }
}

/// A whole answer.
pub(super) fn whole(head: Head, answer: Whole) -> ChatResponse {
    ChatResponse {
        id: head.id,
        object: "chat.completion".to_owned(),
        created: head.created,
        model: answer.model,
        choices: answer
            .choices
            .into_iter()
            .enumerate()
            .map(|(index, choice)| whole_choice(index, choice))
            .collect(),
        usage: usage(answer.tally),
        system_fingerprint: fingerprint(),
    }
}

fn whole_choice(index: usize, choice: WholeChoice) -> ChatChoice {
    let finish_reason = finish_reason(&choice.finish);
    let reasoning = Some(choice.reasoning).filter(|text| !text.is_empty());
    let calls: Vec<ToolCall> = choice.calls.into_iter().map(whole_call).collect();
    let only_calls = choice.content.is_empty() && !calls.is_empty();
    ChatChoice {
        index,
        message: AnswerMessage {
            role: Role::Assistant,
            content: (!only_calls).then_some(choice.content),
            refusal: None,
            reasoning_content: reasoning.clone(),
            reasoning,
            tool_calls: (!calls.is_empty()).then_some(calls),
        },
        logprobs: logprobs(choice.scores),
        finish_reason,
    }
}

fn whole_call(call: Call) -> ToolCall {
    ToolCall {
        id: call.id,
        kind: "function".to_owned(),
        function: FunctionCall { name: call.name, arguments: call.arguments },
        index: None,
    }
}

fn logprobs(scores: Vec<Score>) -> Option<ChatLogProbs> {
    let entry = |score: Score| TokenLogProb {
        token: score.token.text,
        logprob: score.logprob.unwrap_or_default(),
        bytes: Some(score.token.bytes),
        top_logprobs: score
            .top
            .into_iter()
            .map(|(token, logprob)| TopLogProb { token: token.text, logprob, bytes: Some(token.bytes) })
            .collect(),
    };
    let content: Vec<TokenLogProb> = scores.into_iter().map(entry).collect();
    (!content.is_empty()).then_some(ChatLogProbs { content: Some(content), refusal: None })
}
