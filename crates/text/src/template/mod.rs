//! `ChatTemplate`: a model's Jinja template, rendered as Hugging Face's `apply_chat_template` renders it, with limits.
//!
//! Templates come from model files, never from requests; they are hostile all the same. Invariants: a rendering ends
//! within its fuel, output and time ([`budget`]); nothing in it reaches the file system, other templates or the
//! network; the same input gives the same text, but for the date.

mod budget;
mod checks;
mod error;
mod features;
mod guard;
mod json;
mod methods;
mod select;

use std::sync::Arc;
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value};

pub use error::TemplateError;
pub use features::TemplateFeatures;
pub use select::{TemplateSet, fallback_template};

use budget::{Budget, Exceeded};
use methods::Raised;

/// A longer template is refused; the longest published one has about 25 kB.
const MAX_SOURCE: usize = 512 << 10;
/// Nested calls, includes and macros; each costs minijinja several hundred bytes of stack and more in debug builds.
const MAX_RECURSION: usize = 100;
const NAME: &str = "chat";

/// The texts of special tokens that templates name. Missing ones are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateTokens {
    /// `bos_token`.
    pub bos: String,
    /// `eos_token`.
    pub eos: String,
    /// `unk_token`.
    pub unk: String,
    /// `pad_token`.
    pub pad: String,
}

impl TemplateTokens {
    /// The texts of a tokenizer's own.
    pub fn of(tokenizer: &crate::Tokenizer) -> Self {
        let text =
            |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default().to_owned();
        Self {
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
            unk: text(tokenizer.unk()),
            pad: text(tokenizer.pad()),
        }
    }
}

/// One conversation to render.
#[derive(Debug, Clone, Default)]
pub struct TemplateInput<'a> {
    /// Messages in OpenAI's form.
    pub messages: &'a [Value],
    /// Tools in OpenAI's form, `{"type": "function", "function": {…}}`.
    pub tools: Option<&'a [Value]>,
    /// Documents for retrieval templates.
    pub documents: Option<&'a [Value]>,
    /// End with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Further variables (`chat_template_kwargs`: `enable_thinking` and the like). They cannot replace the above.
    pub kwargs: Map<String, Value>,
    /// The time that `strftime_now` tells; `None` is now.
    pub now: Option<SystemTime>,
}

/// A parsed chat template. Rendering needs no lock and can run on many threads.
#[derive(Clone)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: Arc<str>,
    tokens: TemplateTokens,
    features: TemplateFeatures,
    /// Bytes that one instruction can write.
    longest_text: usize,
}

impl ChatTemplate {
    /// Parses a template and finds out, by rendering probes, what it can do.
    pub fn new(source: &str, tokens: TemplateTokens) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE {
            return Err(TemplateError::Syntax(format!(
                "it has {} bytes, the limit is {MAX_SOURCE}",
                source.len()
            )));
        }
        let mut env = Environment::new();
        let config = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(syntax)?;
        let guarded = guard::guard(&without_generation_tags(source), &config)?;
        env.set_syntax(config);
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_recursion_limit(MAX_RECURSION);
        // Not in Jinja, and a way to make a list of any length out of nothing.
        env.remove_filter("chain");
        env.remove_filter("zip");
        env.add_template_owned(NAME, guarded.source).map_err(syntax)?;
        let mut template = Self {
            env,
            source: source.into(),
            tokens,
            features: TemplateFeatures::default(),
            longest_text: guarded.longest_text,
        };
        template.features = features::probe(&template);
        Ok(template)
    }

    /// The template's text, for finding out the family of its model.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What the template can do.
    pub fn features(&self) -> &TemplateFeatures {
        &self.features
    }

    /// The prompt for a conversation. Content parts and tool-call arguments are first put into the form that the
    /// template reads. Encode the result with `Special { add: false, parse: true }`.
    pub fn render(&self, input: &TemplateInput<'_>) -> Result<String, TemplateError> {
        let messages: Vec<Value> = input.messages.iter().map(|m| self.features.adapt(m)).collect();
        let input = TemplateInput { messages: &messages, ..input.clone() };
        let result = self.render_as_is(&input);
        match (&result, input.tools) {
            // Some templates (gpt-oss) read what OpenAI's schema leaves optional.
            (Err(TemplateError::Failed(_)), Some(tools)) => {
                let tools = features::complete_tools(tools);
                self.render_as_is(&TemplateInput { tools: Some(&tools), ..input }).or(result)
            }
            _ => result,
        }
    }

    fn render_as_is(&self, input: &TemplateInput<'_>) -> Result<String, TemplateError> {
        let size = weigh_all(input.messages)
            + input.tools.map_or(0, weigh_all)
            + input.documents.map_or(0, weigh_all)
            + input.kwargs.values().map(weigh).sum::<usize>();
        let budget = Arc::new(Budget::new(size, self.longest_text));
        let mut env = self.env.clone();
        env.set_fuel(Some(budget.fuel()));
        methods::install(&mut env, &budget, input.now);
        let template = env.get_template(NAME).map_err(syntax)?;
        let mut out = Bounded { text: Vec::new(), limit: budget.longest() };
        template.render_captured_to(self.context(input), &mut out).map_err(|error| sort_out(&error))?;
        String::from_utf8(out.text).map_err(|error| TemplateError::Failed(error.to_string()))
    }

    fn context(&self, input: &TemplateInput<'_>) -> minijinja::Value {
        let list = |values: Option<&[Value]>| minijinja::Value::from(Serde(values));
        let mut all: Vec<(&str, minijinja::Value)> = vec![
            ("bos_token", self.tokens.bos.as_str().into()),
            ("eos_token", self.tokens.eos.as_str().into()),
            ("unk_token", self.tokens.unk.as_str().into()),
            ("pad_token", self.tokens.pad.as_str().into()),
        ];
        all.extend(input.kwargs.iter().map(|(k, v)| (k.as_str(), Serde(v).into())));
        all.push(("messages", list(Some(input.messages))));
        all.push(("tools", list(input.tools)));
        all.push(("documents", list(input.documents)));
        all.push(("add_generation_prompt", input.add_generation_prompt.into()));
        minijinja::Value::from_pairs(all)
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Collects output up to a limit.
struct Bounded {
    text: Vec<u8>,
    limit: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > self.limit {
            return Err(std::io::Error::other(Exceeded(format!("it writes more than {} bytes", self.limit))));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes of a value, roughly: what a rendering of it may cost grows with this.
fn weigh(value: &Value) -> usize {
    8 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => weigh_all(items),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + weigh(value)).sum(),
        _ => 0,
    }
}

fn weigh_all(values: &[Value]) -> usize {
    values.iter().map(weigh).sum()
}

/// Which of our errors a minijinja error is.
fn sort_out(error: &minijinja::Error) -> TemplateError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TemplateError::Raised(message.clone());
        }
        let io = inner.downcast_ref::<std::io::Error>().and_then(|e| e.get_ref());
        if let Some(Exceeded(reason)) = inner.downcast_ref().or_else(|| io?.downcast_ref()) {
            return TemplateError::Limit(reason.clone());
        }
        if let Some(inner) = inner.downcast_ref::<minijinja::Error>() {
            let detail = inner.detail().unwrap_or_default();
            if inner.kind() == ErrorKind::OutOfFuel {
                return TemplateError::Limit("it runs too many instructions".to_owned());
            }
            if ["too large", "too many elements", "recursion limit"].iter().any(|why| detail.contains(why)) {
                return TemplateError::Limit(detail.to_owned());
            }
        }
        source = inner.source();
    }
    TemplateError::Failed(describe(error))
}

fn syntax(error: minijinja::Error) -> TemplateError {
    TemplateError::Syntax(describe(&error))
}

/// One line: what and where.
fn describe(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    match error.detail() {
        Some(detail) => format!("{}: {detail}{line}", error.kind()),
        None => format!("{}{line}", error.kind()),
    }
}

/// `{% generation %}` marks the assistant's text for training; here it is a block that is always shown.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let Some(close) = rest[open + 2..].find("%}").map(|at| open + 2 + at) else { break };
        let tag = &rest[open + 2..close];
        let word = tag.trim_matches(['-', '+']).trim();
        let statement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        out.push_str(&rest[..open + 2]);
        match statement {
            Some(statement) => out.push_str(&tag.replacen(word, statement, 1)),
            None => out.push_str(tag),
        }
        out.push_str("%}");
        rest = &rest[close + 2..];
    }
    out.push_str(rest);
    out
}
