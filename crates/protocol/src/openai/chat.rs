//! The request of `POST /v1/chat/completions`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Message, Stop, StreamOptions};

/// Body of `POST /v1/chat/completions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ChatRequest {
    /// Which model; the configured default if absent.
    pub model: Option<String>,
    /// The conversation, at least one message.
    #[schema(required = true)]
    pub messages: Vec<Message>,
    /// Send the answer piece by piece as server-sent events.
    pub stream: Option<bool>,
    /// Options of a streamed answer.
    pub stream_options: Option<StreamOptions>,
    /// How many answers to one prompt, 1 to 16.
    pub n: Option<u32>,
    /// Most tokens to generate for each choice. OpenAI's older name.
    pub max_tokens: Option<u64>,
    /// Most tokens to generate for each choice, thinking included.
    pub max_completion_tokens: Option<u64>,
    /// 0 (always the most likely token) to 2.
    pub temperature: Option<f32>,
    /// Nucleus sampling, above 0 to 1.
    pub top_p: Option<f32>,
    /// Keep the k most likely tokens; 0 or -1 keeps all.
    pub top_k: Option<i64>,
    /// Drop tokens less likely than this times the most likely, 0 to 1.
    pub min_p: Option<f32>,
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
    /// Strings that end the answer.
    pub stop: Option<Stop>,
    /// Send the log-probability of each token.
    pub logprobs: Option<bool>,
    /// And of that many most likely ones, 0 to 20; needs `logprobs`.
    pub top_logprobs: Option<u32>,
    /// Functions the model may call.
    pub tools: Option<Vec<Tool>>,
    /// Whether it may, or must.
    pub tool_choice: Option<ToolChoice>,
    /// `false` keeps it to one call an answer.
    pub parallel_tool_calls: Option<bool>,
    /// Text, or JSON that fits a schema.
    pub response_format: Option<ResponseFormat>,
    /// How long to think: `none`, `minimal`, `low`, `medium`, `high`; given to the model's template.
    pub reasoning_effort: Option<String>,
    /// Values for the model's chat template, e.g. `{"enable_thinking": false}`.
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// Requests with different salts share no cached prefix.
    pub cache_salt: Option<String>,
    /// Only `["text"]`.
    pub modalities: Option<Vec<String>>,
    /// Only `false`: Perch stores no answers.
    pub store: Option<bool>,

    /// Accepted, changes nothing: the end user's name.
    pub user: Option<String>,
    /// Accepted, changes nothing: labels for stored answers.
    pub metadata: Option<Value>,
    /// Accepted, changes nothing: there is one tier.
    pub service_tier: Option<String>,
    /// Accepted, changes nothing: every prefix is cached.
    pub prompt_cache_key: Option<String>,
    /// Accepted, changes nothing: every prefix is cached.
    pub prompt_cache_retention: Option<String>,
    /// Accepted, changes nothing: the end user's hash.
    pub safety_identifier: Option<String>,
    /// Accepted, changes nothing: a guess at the answer, which could only make it faster.
    pub prediction: Option<Value>,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tool {
    /// `function`; other kinds are refused.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionDefinition>,
}

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FunctionDefinition {
    /// Its name.
    pub name: String,
    /// What it does; the model reads this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON schema of its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Whether arguments must fit the schema exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// Whether the model may or must call tools: a word, or one function by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ToolChoice {
    /// `auto`, `none` or `required`.
    Mode(ToolChoiceMode),
    /// This one.
    Function(NamedToolChoice),
}

/// Whether the model may or must call tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoiceMode {
    /// The model decides.
    Auto,
    /// It may not.
    None,
    /// It must.
    Required,
}

/// One function, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamedToolChoice {
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which.
    pub function: FunctionName,
}

/// A function's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionName {
    /// The name.
    pub name: String,
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::value::{MapAccessDeserializer, StrDeserializer};
        use serde::de::{Error, MapAccess, Visitor};

        struct V;

        impl<'de> Visitor<'de> for V {
            type Value = ToolChoice;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "`auto`, `none`, `required` or {\"type\": \"function\", \"function\": {\"name\": …}}",
                )
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<ToolChoice, E> {
                ToolChoiceMode::deserialize(StrDeserializer::new(word)).map(ToolChoice::Mode)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ToolChoice, A::Error> {
                NamedToolChoice::deserialize(MapAccessDeserializer::new(map)).map(ToolChoice::Function)
            }
        }

        deserializer.deserialize_any(V)
    }
}

/// What the answer must look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The schema, with `json_schema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<JsonSchemaFormat>,
}

/// A named JSON schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JsonSchemaFormat {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Whether the answer must fit it exactly; Perch always makes it fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}
