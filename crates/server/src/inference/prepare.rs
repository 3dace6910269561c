//! From a [`Job`] to requests for the engine: template, tokens, sampling, and how each choice is to be read. Takes time in
//! proportion to the prompt; runs where that is allowed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use perch_engine::{ConstraintFactory, GenerateRequest};
use perch_protocol::ErrorCode;
use perch_text::{ChatTemplate, Detokenizer, OutputParser, Special, TemplateInput, TextError, Tokenizer};
use serde_json::{Value, json};

use super::answer::Echo;
use super::calls::Wanted;
use super::choice::{Choice, Reading};
use super::constrain;
use super::job::{AnswerFormat, Calling, ChatInput, Input, Job};
use super::sampling::sampling;
use crate::config::SamplingDefaults;
use crate::error::ApiError;
use crate::loading::ModelText;

/// Most sequences of one request.
const MAX_SEQUENCES: usize = 128;
/// How much of the prompt's end output parsers look at.
const TAIL: usize = 512;

/// A job, ready for the engine.
pub(super) struct Prepared {
    /// One for each prompt.
    pub(super) requests: Vec<GenerateRequest>,
    /// One for each prompt, if prompts are repeated.
    pub(super) echoes: Vec<Echo>,
    /// `n` for each prompt.
    pub(super) choices: Vec<Choice>,
}

/// A prompt as text and tokens.
struct Prompt {
    text: String,
    tokens: Vec<u32>,
}

pub(super) fn prepare(
    text: &Arc<ModelText>,
    defaults: &SamplingDefaults,
    job: Job,
) -> Result<Prepared, ApiError> {
    let sampling = sampling(&job.sampling, defaults)?;
    let sequences = match &job.input {
        Input::Chat(_) => job.n,
        Input::Texts(texts) => texts.len().saturating_mul(job.n),
        Input::Tokens(lists) => lists.len().saturating_mul(job.n),
    };
    match sequences {
        0 => return Err(ApiError::invalid("prompt", "`prompt` must hold at least one text")),
        1..=MAX_SEQUENCES => {}
        _ => {
            let message = format!("{sequences} answers are asked for at once; the limit is {MAX_SEQUENCES}");
            return Err(ApiError::invalid("n", message));
        }
    }
    let prompts = prompts(text, &job)?;
    let mut choices = Vec::with_capacity(sequences);
    for prompt in &prompts {
        choices.extend((0..job.n).map(|_| Choice::new(reading(text, &job, prompt))));
    }
    let cache_salt = job.cache_salt.as_deref().map_or(0, salt);
    let stop_tokens = if job.ignore_eos { Vec::new() } else { text.stop_tokens.clone() };
    let max_tokens = job.max_tokens.or(defaults.max_tokens).unwrap_or(usize::MAX);
    let constraint = constraint(text, &job, tail(&prompts[0].text))?;
    let request = |prompt: &Prompt| GenerateRequest {
        n: job.n,
        constraint: constraint.clone(),
        sampling: sampling.clone(),
        stop_tokens: stop_tokens.clone(),
        logprobs: job.logprobs,
        prompt_logprobs: job.prompt_logprobs,
        cache_salt,
        ..GenerateRequest::new(prompt.tokens.clone(), max_tokens)
    };
    let requests = prompts.iter().map(request).collect();
    let echoes = match job.echo {
        true => prompts.into_iter().map(|prompt| Echo { text: prompt.text, tokens: prompt.tokens }).collect(),
        false => Vec::new(),
    };
    Ok(Prepared { requests, echoes, choices })
}

/// What answers to the prompt that ends with `tail` are kept to.
fn constraint(text: &ModelText, job: &Job, tail: &str) -> Result<Option<ConstraintFactory>, ApiError> {
    let schema = match &job.format {
        AnswerFormat::Free => None,
        AnswerFormat::Json(schema) => Some(schema),
    };
    let chat = match &job.input {
        Input::Chat(chat) if !chat.tools.is_empty() => chat,
        _ => return schema.map(|schema| constrain::json(text, tail, schema)).transpose(),
    };
    let called = match &chat.calling {
        Calling::Named(name) => {
            chat.tools.iter().filter(|tool| tool["function"]["name"] == *name).cloned().collect()
        }
        Calling::Required => chat.tools.clone(),
        Calling::Free if schema.is_some() => chat.tools.clone(),
        Calling::Free => return Ok(None),
    };
    let wanted = Wanted {
        format: text.format.tools,
        template: text.template(true)?.source(),
        tools: &called,
        one_call: chat.one_call || matches!(chat.calling, Calling::Named(_)),
        schema: schema.filter(|_| chat.calling == Calling::Free),
    };
    constrain::calls(text, tail, wanted).map(Some)
}

/// Tokens of a conversation's prompt. Takes time in proportion to it.
///
/// # Errors
/// What the template or the tokenizer says.
pub(crate) fn prompt_tokens(text: &ModelText, input: &Input) -> Result<usize, ApiError> {
    let job = Job { input: input.clone(), ..Job::default() };
    Ok(prompts(text, &job)?.iter().map(|prompt| prompt.tokens.len()).sum())
}

pub(super) fn failed() -> ApiError {
    ApiError::new(ErrorCode::EngineError, "preparing the prompt failed; Perch's log says more")
}

fn prompts(text: &ModelText, job: &Job) -> Result<Vec<Prompt>, ApiError> {
    let tokenizer = &text.tokenizer;
    match &job.input {
        Input::Chat(chat) => {
            let rendered = render(text.template(!chat.tools.is_empty())?, chat)?;
            // The template writes the tokens around a text itself.
            let tokens = encode(tokenizer, &rendered, Special { add: false, parse: true })?;
            Ok(vec![Prompt { text: rendered, tokens }])
        }
        Input::Texts(texts) => texts
            .iter()
            .map(|text| {
                let tokens = encode(tokenizer, text, Special { add: true, parse: true })?;
                Ok(Prompt { tokens: or_beginning(tokenizer, tokens)?, text: text.clone() })
            })
            .collect(),
        Input::Tokens(lists) => lists
            .iter()
            .map(|tokens| {
                let text = if job.echo { tokenizer.decode(tokens, true) } else { String::new() };
                Ok(Prompt { tokens: or_beginning(tokenizer, tokens.clone())?, text })
            })
            .collect(),
    }
}

fn encode(tokenizer: &Tokenizer, text: &str, special: Special) -> Result<Vec<u32>, ApiError> {
    tokenizer.encode(text, special).map_err(|error| match error {
        TextError::Encode(_) => ApiError::new(ErrorCode::InvalidValue, error.to_string()),
        _ => ApiError::new(ErrorCode::InvalidModelFile, error.to_string()),
    })
}

/// An empty prompt stands for the beginning of a text, as OpenAI has it.
fn or_beginning(tokenizer: &Tokenizer, tokens: Vec<u32>) -> Result<Vec<u32>, ApiError> {
    if !tokens.is_empty() {
        return Ok(tokens);
    }
    let beginning = tokenizer.bos().or_else(|| tokenizer.eos());
    let message = "the prompt is empty, and this model has no token to begin with; write something";
    beginning.map(|token| vec![token]).ok_or_else(|| ApiError::invalid("prompt", message))
}

fn render(template: &ChatTemplate, chat: &ChatInput) -> Result<String, ApiError> {
    let features = template.features();
    if !chat.tools.is_empty() && !features.tools {
        let message = "this model's chat template does not know tools; leave them out, or use another model";
        return Err(ApiError::unsupported("tools", message));
    }
    let mut kwargs = chat.kwargs.clone();
    if let Some(effort) = &chat.effort {
        kwargs.entry("reasoning_effort").or_insert_with(|| json!(effort));
        kwargs.entry("enable_thinking").or_insert_with(|| json!(effort != "none"));
    }
    let merged;
    let messages = match features.system {
        true => &chat.messages,
        false => {
            merged = without_system(&chat.messages);
            &merged
        }
    };
    let input = TemplateInput {
        messages,
        tools: (!chat.tools.is_empty()).then_some(&*chat.tools),
        add_generation_prompt: true,
        kwargs,
        ..TemplateInput::default()
    };
    Ok(template.render(&input)?)
}

/// Instructions moved into the first message of the user, for templates that have no place for them (Gemma 2).
fn without_system(messages: &[Value]) -> Vec<Value> {
    let is = |message: &Value, role: &str| message["role"] == role;
    let instructions: Vec<String> =
        messages.iter().filter(|m| is(m, "system")).map(|m| plain(&m["content"])).collect();
    let mut rest: Vec<Value> = messages.iter().filter(|m| !is(m, "system")).cloned().collect();
    if instructions.is_empty() {
        return rest;
    }
    let instructions = instructions.join("\n\n");
    match rest.iter_mut().find(|message| is(message, "user")) {
        Some(first) => first["content"] = json!(format!("{instructions}\n\n{}", plain(&first["content"]))),
        None => rest.insert(0, json!({"role": "user", "content": instructions})),
    }
    rest
}

/// The text of a content.
fn plain(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// How a choice after `prompt` is to be read.
fn reading(text: &ModelText, job: &Job, prompt: &Prompt) -> Reading {
    let tokenizer = &text.tokenizer;
    let chat = match &job.input {
        Input::Chat(chat) => Some(chat),
        Input::Texts(_) | Input::Tokens(_) => None,
    };
    let parser: Option<OutputParser> = chat.map(|chat| text.format.parser(tail(&prompt.text), &chat.tools));
    let shown = if chat.is_some() { text.format.visible_tokens(tokenizer) } else { Vec::new() };
    Reading {
        detokenizer: Detokenizer::new(tokenizer, true).after(&prompt.tokens).showing(shown.clone()),
        parser,
        shown,
        stop: job.stop.clone(),
        scored: job.logprobs.is_some(),
        one_call: chat.is_some_and(|chat| chat.one_call),
    }
}

/// The last few hundred bytes of `text`.
fn tail(text: &str) -> &str {
    let mut at = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(at) {
        at += 1;
    }
    &text[at..]
}

/// The engine's salt for a client's. Never 0, which is that of requests without one.
fn salt(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish() | 1
}
