//! Keeps an answer to a JSON schema or to calls of tools: llguidance says which tokens may come next, and the engine asks it before each draw.
//!
//! A model that thinks does so freely; the schema holds from where its answer begins. White space between a value's
//! parts is bounded, because a model that may write blanks for ever sometimes does.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use parking_lot::Mutex;
use perch_engine::{Constraint, ConstraintFactory, TokenMask};
use perch_protocol::ErrorCode;
use perch_text::{ReasoningFormat, Tokenizer};
use serde_json::{Value, json};

use super::calls::Wanted;
use crate::error::ApiError;
use crate::loading::ModelText;

/// Blanks between the parts of a JSON value: enough for deep indentation.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{0,64}";
/// Text of a Harmony header that is looked at.
const MAX_HEADER: usize = 64;

/// Compiles grammars for one vocabulary.
pub(crate) struct Grammars {
    factory: ParserFactory,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grammars")
    }
}

impl Grammars {
    /// For a vocabulary whose answers end with any of `stop_tokens`. Takes a moment for a large one.
    pub(crate) fn new(tokenizer: &Tokenizer, stop_tokens: &[u32]) -> Result<Self, String> {
        let size = u32::try_from(tokenizer.vocab_size()).map_err(|error| error.to_string())?;
        let ends: Vec<u32> = stop_tokens.iter().copied().filter(|token| *token < size).collect();
        let first = *ends.first().ok_or("the vocabulary has no token that ends a text")?;
        let word = |id: u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            match tokenizer.is_special(id) {
                // Marked, so that no grammar of plain text can ask for it.
                true => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
                false => bytes.to_vec(),
            }
        };
        let words: Vec<Vec<u8>> = (0..size).map(word).collect();
        let trie = TokTrie::from(&TokRxInfo::new(size, first), &words).with_eos_tokens(&ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|error| error.to_string())?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory })
    }

    fn compile(&self, grammar: TopLevelGrammar) -> Result<Matcher, String> {
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        matcher.get_error().map_or(Ok(matcher), Err)
    }
}

/// A schema with our options in it. A lenient one passes over keywords that are not supported.
pub(super) fn guided(schema: &Value, lenient: bool) -> Value {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        other => other.clone(),
    };
    if let Some(map) = schema.as_object_mut() {
        // Its own word for options is not for requests to say.
        map.insert("x-guidance".into(), json!({"whitespace_pattern": WHITE_SPACE, "lenient": lenient}));
    }
    schema
}

/// What keeps answers to the prompt that ends with `prompt_tail` to `schema`.
///
/// # Errors
/// `invalid_json_schema` with what is wrong with it, or which of its keywords is not supported.
pub(super) fn json(
    text: &ModelText,
    prompt_tail: &str,
    schema: &Value,
) -> Result<ConstraintFactory, ApiError> {
    let grammar = TopLevelGrammar::from_json_schema(guided(schema, false));
    constraint(text, Phase::first(text, prompt_tail), grammar, "response_format")
}

/// What keeps answers to the prompt that ends with `prompt_tail` to calls of tools, or to those and a schema.
///
/// # Errors
/// As [`json`]; `unsupported_parameter` where the model's calls cannot be told from its answers.
pub(super) fn calls(
    text: &ModelText,
    prompt_tail: &str,
    wanted: Wanted<'_>,
) -> Result<ConstraintFactory, ApiError> {
    let phase = match text.format.reasoning {
        // Its thinking is a message like the others: the grammar has it.
        ReasoningFormat::Harmony => Phase::Answer,
        _ => Phase::first(text, prompt_tail),
    };
    let grammar = TopLevelGrammar::from_lark(super::calls::grammar(wanted, &text.tokenizer)?);
    constraint(text, phase, grammar, "tools")
}

fn constraint(
    text: &ModelText,
    phase: Phase,
    grammar: TopLevelGrammar,
    field: &'static str,
) -> Result<ConstraintFactory, ApiError> {
    let unusable = |reason: &str| {
        let reason = reason.lines().next().unwrap_or_default();
        ApiError::new(ErrorCode::InvalidJsonSchema, format!("the JSON schema cannot be used: {reason}"))
            .with_param(field)
    };
    let grammars = text.grammars().map_err(|reason| {
        ApiError::unsupported(field, format!("this model cannot be kept to a format: {reason}"))
    })?;
    let matcher = grammars.compile(grammar).map_err(|reason| unusable(&reason))?;
    let vocab_size = text.tokenizer.vocab_size();
    let tokenizer = text.tokenizer.clone();
    // The matcher is compiled here, once; each choice takes a copy.
    let matcher = Mutex::new(matcher);
    // An answer that has not begun cannot end.
    let mut free = vec![u32::MAX; vocab_size.div_ceil(32)];
    for &stop in &text.stop_tokens {
        if let Some(word) = free.get_mut(stop as usize / 32) {
            *word &= !(1 << (stop % 32));
        }
    }
    let free = TokenMask::from_words(free);
    Ok(ConstraintFactory::new(move || {
        let matcher = matcher.lock().deep_clone();
        let (mask, free) = (TokenMask::none(vocab_size), free.clone());
        Ok(Box::new(Guided { matcher, mask, free, phase: phase.clone(), tokenizer: tokenizer.clone() }))
    }))
}

/// Where an answer is.
#[derive(Debug, Clone)]
enum Phase {
    /// At its first token: it may open its thinking with `open`.
    Start { open: u32, close: u32 },
    /// In its thinking, which ends with `close`.
    Thinking { close: u32 },
    /// In Harmony's other channels, until a message on the channel `final` begins.
    Channels { channel: u32, message: u32, header: String },
    /// In the answer.
    Answer,
}

impl Phase {
    fn first(text: &ModelText, prompt_tail: &str) -> Self {
        let token = |text_of: &str| text.tokenizer.special_id(text_of);
        match text.format.reasoning {
            ReasoningFormat::Tags { open, close } => match (token(open), token(close)) {
                (Some(open_id), Some(close_id)) => {
                    let tail = prompt_tail.trim_end();
                    match () {
                        () if tail.ends_with(open) => Self::Thinking { close: close_id },
                        () if tail.ends_with(close) => Self::Answer,
                        () => Self::Start { open: open_id, close: close_id },
                    }
                }
                _ => Self::Answer,
            },
            ReasoningFormat::Harmony => match (token("<|channel|>"), token("<|message|>")) {
                (Some(channel), Some(message)) => Self::Channels { channel, message, header: String::new() },
                _ => Self::Answer,
            },
            _ => Self::Answer,
        }
    }
}

/// A choice that is kept to a grammar.
struct Guided {
    matcher: Matcher,
    mask: TokenMask,
    /// All tokens but those that end an answer: for what comes before it.
    free: TokenMask,
    phase: Phase,
    tokenizer: Tokenizer,
}

impl Constraint for Guided {
    fn allowed(&mut self) -> Result<Option<&TokenMask>, String> {
        if matches!(self.phase, Phase::Thinking { .. } | Phase::Channels { .. }) {
            return Ok(Some(&self.free));
        }
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| error.to_string())?;
        self.mask = TokenMask::from_words(allowed.into());
        if let Phase::Start { open, .. } = self.phase {
            self.mask.allow(open);
        }
        Ok(Some(&self.mask))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        match &mut self.phase {
            Phase::Start { open, close } if token == *open => self.phase = Phase::Thinking { close: *close },
            Phase::Thinking { close } => {
                if token == *close {
                    self.phase = Phase::Answer;
                }
            }
            Phase::Channels { channel, message, header } => {
                if token == *channel {
                    header.clear();
                } else if token == *message {
                    if header.trim_start().starts_with("final") {
                        self.phase = Phase::Answer;
                    }
                } else if header.len() < MAX_HEADER {
                    let bytes = self.tokenizer.token_bytes(token).unwrap_or_default();
                    header.push_str(&String::from_utf8_lossy(bytes));
                }
            }
            Phase::Start { .. } | Phase::Answer => {
                self.phase = Phase::Answer;
                self.matcher.consume_token(token).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn finished(&self) -> bool {
        matches!(self.phase, Phase::Answer) && self.matcher.is_stopped()
    }
}
