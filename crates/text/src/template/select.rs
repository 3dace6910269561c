//! Which template: the named ones of a checkpoint, and what to use where there is none.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Tokenizer;

/// Every template that a checkpoint brings, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateSet {
    named: BTreeMap<String, String>,
}

impl TemplateSet {
    /// From `tokenizer_config.json` (or `chat_template.json`), whose `chat_template` is one text or a list of named
    /// ones.
    pub fn from_config(config: &Value) -> Self {
        let mut set = Self::default();
        match config.get("chat_template") {
            Some(Value::String(source)) => set.insert("default", source.clone()),
            Some(Value::Array(list)) => {
                for entry in list {
                    if let (Some(name), Some(source)) = (entry["name"].as_str(), entry["template"].as_str()) {
                        set.insert(name, source.to_owned());
                    }
                }
            }
            _ => {}
        }
        set
    }

    /// Adds or replaces one: `default` for `chat_template.jinja` and GGUF's `tokenizer.chat_template`, the last part
    /// of the key for `tokenizer.chat_template.tool_use`.
    pub fn insert(&mut self, name: impl Into<String>, source: String) {
        self.named.insert(name.into(), source);
    }

    /// The template for a conversation: `tool_use` if there are tools and it exists, `rag` if there are documents and
    /// it exists, else `default`, else the only one.
    pub fn choose(&self, tools: bool, documents: bool) -> Option<&str> {
        let wanted = [(tools, "tool_use"), (documents, "rag"), (true, "default")];
        let found = wanted.iter().filter(|(wanted, _)| *wanted).find_map(|(_, name)| self.named.get(*name));
        let only = || if self.named.len() == 1 { self.named.values().next() } else { None };
        found.or_else(only).map(String::as_str)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

/// ChatML, as Qwen2.5 writes it without tools.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] \
                      + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}\
                      {{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The template for a checkpoint that brings none: ChatML if the vocabulary has its tokens, else none. Guessing any
/// other format would give answers that are wrong in ways that nobody notices.
pub fn fallback_template(tokenizer: &Tokenizer) -> Option<&'static str> {
    let has = |text| tokenizer.special_id(text).is_some();
    (has("<|im_start|>") && has("<|im_end|>")).then_some(CHATML)
}
