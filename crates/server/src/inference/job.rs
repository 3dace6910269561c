//! `Job`: what every dialect turns its request into.

use serde_json::{Map, Value, json};

use crate::config::ModelConfig;

/// A request to a model, in no dialect.
#[derive(Debug, Clone, Default)]
pub(crate) struct Job {
    /// What to answer.
    pub(crate) input: Input,
    /// How to pick tokens; what is absent comes from the model.
    pub(crate) sampling: SamplingRequest,
    /// Most tokens for each choice; `None` leaves it to the model and its context.
    pub(crate) max_tokens: Option<usize>,
    /// Choices for each prompt.
    pub(crate) n: usize,
    /// Strings that end an answer.
    pub(crate) stop: Vec<String>,
    /// Log-probabilities of generated tokens, and of so many likely ones.
    pub(crate) logprobs: Option<usize>,
    /// The same for the prompt's tokens.
    pub(crate) prompt_logprobs: Option<usize>,
    /// Repeat the prompt before its answers.
    pub(crate) echo: bool,
    /// Go on after the model's own end.
    pub(crate) ignore_eos: bool,
    /// Requests with different salts share no prefix.
    pub(crate) cache_salt: Option<String>,
    /// What the answer must look like.
    pub(crate) format: AnswerFormat,
}

impl Job {
    /// Fills in what the configuration says of the model where the request says nothing: instructions, values for the
    /// template.
    pub(crate) fn settle(&mut self, model: &ModelConfig) {
        let Input::Chat(chat) = &mut self.input else { return };
        let instructed = chat.messages.iter().any(|message| message["role"] == "system");
        if let Some(system) = model.system.as_ref().filter(|_| !instructed) {
            chat.messages.insert(0, json!({"role": "system", "content": system}));
        }
        for (key, value) in &model.chat_template_kwargs {
            // A request that says how long to think says this too.
            let said =
                chat.effort.is_some() && matches!(key.as_str(), "enable_thinking" | "reasoning_effort");
            if !said {
                chat.kwargs.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A conversation, through the model's template.
    Chat(Box<ChatInput>),
    /// Texts as they are, one or more.
    Texts(Vec<String>),
    /// Prompts of tokens.
    Tokens(Vec<Vec<u32>>),
}

impl Default for Input {
    fn default() -> Self {
        Self::Texts(Vec::new())
    }
}

/// A conversation.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChatInput {
    /// Messages in OpenAI's form, `developer` already being `system`.
    pub(crate) messages: Vec<Value>,
    /// Tools in OpenAI's form.
    pub(crate) tools: Vec<Value>,
    /// Whether they may or must be called.
    pub(crate) calling: Calling,
    /// At most one call in an answer.
    pub(crate) one_call: bool,
    /// Values for the template.
    pub(crate) kwargs: Map<String, Value>,
    /// How long to think, if said; `none` is not at all.
    pub(crate) effort: Option<String>,
}

/// Whether tools may or must be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Calling {
    /// The model decides.
    #[default]
    Free,
    /// It calls one or several.
    Required,
    /// It calls this one, once.
    Named(String),
}

/// What the answer must look like.
#[derive(Debug, Clone, Default)]
pub(crate) enum AnswerFormat {
    /// Anything.
    #[default]
    Free,
    /// A JSON value that fits the schema.
    Json(Value),
}

/// How to pick tokens. The fields bear the names that the dialects share, so that an error can name them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SamplingRequest {
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<i64>,
    pub(crate) min_p: Option<f32>,
    pub(crate) repetition_penalty: Option<f32>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    pub(crate) logit_bias: Vec<(u32, f32)>,
    pub(crate) seed: Option<u64>,
}
