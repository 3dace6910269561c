//! `POST /v1/completions`: text in, text out, no template.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{FinishReason, Stop, StreamOptions, Usage};

/// Body of `POST /v1/completions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CompletionRequest {
    /// Which model; the configured default if absent.
    pub model: Option<String>,
    /// A string, an array of strings, an array of token ids, or an array of arrays of token ids.
    pub prompt: Option<Prompt>,
    /// Not supported: text after the answer.
    pub suffix: Option<String>,
    /// Most tokens to generate for each choice; 16 if absent.
    pub max_tokens: Option<u64>,
    /// 0 (always the most likely token) to 2.
    pub temperature: Option<f32>,
    /// Nucleus sampling, above 0 to 1.
    pub top_p: Option<f32>,
    /// Keep the k most likely tokens; 0 or -1 keeps all.
    pub top_k: Option<i64>,
    /// Drop tokens less likely than this times the most likely, 0 to 1.
    pub min_p: Option<f32>,
    /// How many choices for each prompt, 1 to 16.
    pub n: Option<u32>,
    /// Only the value of `n`.
    pub best_of: Option<u32>,
    /// Send the answer piece by piece as server-sent events.
    pub stream: Option<bool>,
    /// Options of a streamed answer.
    pub stream_options: Option<StreamOptions>,
    /// Send the log-probability of each token and of that many most likely ones, 0 to 5 (Perch: to 20).
    pub logprobs: Option<u32>,
    /// Repeat the prompt before the answer.
    pub echo: Option<bool>,
    /// Strings that end the answer.
    pub stop: Option<Stop>,
    /// -2 to 2.
    pub presence_penalty: Option<f32>,
    /// -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// Above 0; 1 is off.
    pub repetition_penalty: Option<f32>,
    /// Token id to bias, -100 to 100.
    pub logit_bias: Option<BTreeMap<String, f32>>,
    /// Same seed, same answer.
    pub seed: Option<i64>,
    /// Generate on after the model's own end-of-text tokens (for measurements).
    pub ignore_eos: Option<bool>,
    /// Requests with different salts share no cached prefix.
    pub cache_salt: Option<String>,

    /// Accepted, changes nothing: the end user's name.
    pub user: Option<String>,
    /// Accepted, changes nothing: labels.
    pub metadata: Option<Value>,
}

/// What to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Prompt {
    /// One text.
    Text(String),
    /// Several, each with choices of its own.
    Texts(Vec<String>),
    /// One prompt of token ids.
    Tokens(Vec<u32>),
    /// Several.
    TokenLists(Vec<Vec<u32>>),
}

/// An element of a prompt's array.
enum Item {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;

        impl<'de> Visitor<'de> for V {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token id or an array of token ids")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Text(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Item, E> {
                u32::try_from(id).map(Item::Token).map_err(|_| E::custom(format!("{id} is no token id")))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Item, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = seq.next_element()? {
                    ids.push(id);
                }
                Ok(Item::Tokens(ids))
            }
        }

        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;

        impl<'de> Visitor<'de> for V {
            type Value = Prompt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a string, an array of strings, an array of token ids, or an array of such arrays",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Prompt, E> {
                Ok(Prompt::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Prompt, A::Error> {
                // The first element says which kind of array it is; the others must agree with it.
                let mut prompt = match seq.next_element()? {
                    None => return Ok(Prompt::Texts(Vec::new())),
                    Some(Item::Text(text)) => Prompt::Texts(vec![text]),
                    Some(Item::Token(id)) => Prompt::Tokens(vec![id]),
                    Some(Item::Tokens(ids)) => Prompt::TokenLists(vec![ids]),
                };
                while let Some(item) = seq.next_element()? {
                    match (&mut prompt, item) {
                        (Prompt::Texts(texts), Item::Text(text)) => texts.push(text),
                        (Prompt::Tokens(ids), Item::Token(id)) => ids.push(id),
                        (Prompt::TokenLists(lists), Item::Tokens(ids)) => lists.push(ids),
                        _ => return Err(A::Error::custom("all elements must be of one kind")),
                    }
                }
                Ok(prompt)
            }
        }

        deserializer.deserialize_any(V)
    }
}

/// A whole answer, or one piece of a streamed one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompletionResponse {
    /// `cmpl-…`
    pub id: String,
    /// Always `text_completion`.
    pub object: String,
    /// When, in seconds since 1970.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// The answers: `n` for each prompt.
    pub choices: Vec<CompletionChoice>,
    /// Tokens used; in a stream only if asked for, and then null in all chunks but the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
    /// What produced it: changes when the same seed may give another answer.
    pub system_fingerprint: String,
}

/// One answer, or what is new in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompletionChoice {
    /// Choice `j` of prompt `i` has index `i * n + j`.
    pub index: usize,
    /// The text.
    pub text: String,
    /// Log-probabilities, if asked for.
    pub logprobs: Option<CompletionLogProbs>,
    /// Why it ended; null until then.
    pub finish_reason: Option<FinishReason>,
}

/// Log-probabilities in four arrays of equal length, as OpenAI's completions have them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompletionLogProbs {
    /// The tokens' texts.
    pub tokens: Vec<String>,
    /// Their log-probabilities; null for the first token of an echoed prompt.
    pub token_logprobs: Vec<Option<f32>>,
    /// The most likely tokens in each place and their log-probabilities.
    pub top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each token begins in the text, in characters.
    pub text_offset: Vec<usize>,
}
