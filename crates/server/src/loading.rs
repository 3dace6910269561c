//! `ModelText`: what stands between a model's tokens and text, read from its checkpoint: tokenizer, chat templates,
//! output format, tokens that end an answer, and what it is best sampled with.
//!
//! A template that cannot be parsed does not keep a model from loading: completions work without it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use perch_model::gguf::Metadata;
use perch_model::{Checkpoint, ModelError};
use perch_protocol::ErrorCode;
use perch_text::{
    ChatTemplate, GgufVocab, OutputFormat, TemplateError, TemplateSet, TemplateTokens, TextError, Tokenizer,
    fallback_template,
};
use serde_json::Value;

use crate::config::SamplingDefaults;
use crate::error::ApiError;
use crate::inference::Grammars;

/// Longest tokenizer file that is read; the longest published one has 33 MB.
const MAX_TOKENIZER: u64 = 128 << 20;
/// Longest other side file that is read.
const MAX_JSON: u64 = 8 << 20;

/// What stands between a model's tokens and text.
#[derive(Debug)]
pub struct ModelText {
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// How the model marks its thinking and its calls of tools.
    pub format: OutputFormat,
    /// Tokens after which an answer is over.
    pub stop_tokens: Vec<u32>,
    /// What its makers sample it with.
    pub defaults: SamplingDefaults,
    /// Made when the first answer is to fit a schema.
    grammars: OnceLock<Result<Grammars, String>>,
    plain: Result<ChatTemplate, TemplateError>,
    with_tools: Result<ChatTemplate, TemplateError>,
}

impl ModelText {
    /// Reads all of it. Blocks.
    ///
    /// # Errors
    /// `invalid_model_file` when the tokenizer is missing, damaged or of an unknown kind.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self, ApiError> {
        match checkpoint.gguf_metadata() {
            Some(metadata) => from_gguf(metadata),
            None => from_folder(checkpoint),
        }
    }

    /// The template for a conversation with or without tools.
    ///
    /// # Errors
    /// `template_error` when the model has none, or one that cannot be parsed.
    pub fn template(&self, tools: bool) -> Result<&ChatTemplate, ApiError> {
        let template = if tools { &self.with_tools } else { &self.plain };
        template.as_ref().map_err(|error| error.clone().into())
    }

    /// What compiles grammars for its vocabulary. Blocks the first time.
    pub(crate) fn grammars(&self) -> Result<&Grammars, &str> {
        let grammars = self.grammars.get_or_init(|| Grammars::new(&self.tokenizer, &self.stop_tokens));
        grammars.as_ref().map_err(String::as_str)
    }

    fn new(
        tokenizer: Tokenizer,
        templates: &TemplateSet,
        extra_stops: Vec<u32>,
        defaults: SamplingDefaults,
    ) -> Self {
        for warning in tokenizer.warnings() {
            tracing::warn!("tokenizer: {warning}");
        }
        let parse = |tools: bool| {
            let source = templates.choose(tools, false).or_else(|| fallback_template(&tokenizer));
            let source = source.ok_or(TemplateError::Missing)?;
            ChatTemplate::new(source, TemplateTokens::of(&tokenizer))
        };
        let (plain, with_tools) = (parse(false), parse(true));
        let source = with_tools.as_ref().ok().map(ChatTemplate::source);
        let mut stop_tokens = tokenizer.end_of_generation().to_vec();
        stop_tokens.extend(extra_stops);
        stop_tokens.sort_unstable();
        stop_tokens.dedup();
        Self {
            format: OutputFormat::detect(source, &tokenizer),
            tokenizer,
            stop_tokens,
            defaults,
            grammars: OnceLock::new(),
            plain,
            with_tools,
        }
    }
}

fn from_folder(checkpoint: &Checkpoint) -> Result<ModelText, ApiError> {
    let json = |name: &str| checkpoint.path_of(name).map(|path| read_json(&path)).transpose();
    let config = json("tokenizer_config.json")?;
    let tokenizer = if let Some(path) = checkpoint.path_of("tokenizer.json") {
        let bytes = read(&path, MAX_TOKENIZER)?;
        Tokenizer::from_tokenizer_json(&bytes, config.as_ref()).map_err(|error| in_file(error, &path))?
    } else if let Some(path) = checkpoint.path_of("tokenizer.model") {
        let bytes = read(&path, MAX_TOKENIZER)?;
        Tokenizer::from_sentencepiece(&bytes, config.as_ref()).map_err(|error| in_file(error, &path))?
    } else {
        let message = "the model's folder has neither tokenizer.json nor tokenizer.model; download it whole";
        return Err(ApiError::new(ErrorCode::InvalidModelFile, message));
    };

    let mut templates = config.as_ref().map(TemplateSet::from_config).unwrap_or_default();
    if let Some(processor) = json("chat_template.json")?.filter(|_| templates.is_empty()) {
        templates = TemplateSet::from_config(&processor);
    }
    // The file of its own is the newer form, and wins where both are there.
    if let Some(path) = checkpoint.path_of("chat_template.jinja") {
        let source = String::from_utf8(read(&path, MAX_JSON)?);
        let source = source.map_err(|_| invalid(&path, "it is not UTF-8"))?;
        templates.insert("default", source);
    }

    let generation = json("generation_config.json")?.unwrap_or_default();
    let mut stops = token_ids(&generation["eos_token_id"]);
    stops.extend(checkpoint.config().map(|config| token_ids(&config["eos_token_id"])).unwrap_or_default());
    Ok(ModelText::new(tokenizer, &templates, stops, generation_defaults(&generation)))
}

fn from_gguf(metadata: &Metadata) -> Result<ModelText, ApiError> {
    let tokenizer = Tokenizer::from_gguf(vocab(metadata))
        .map_err(|error| ApiError::new(ErrorCode::InvalidModelFile, error.to_string()))?;
    let mut templates = TemplateSet::default();
    const TEMPLATE: &str = "tokenizer.chat_template";
    for key in metadata.keys().filter(|key| key.starts_with(TEMPLATE)) {
        let name = key[TEMPLATE.len()..].strip_prefix('.').unwrap_or("default");
        if let Some(source) = metadata.get_str(key) {
            templates.insert(name, source.to_owned());
        }
    }
    let sampling = |key: &str| metadata.get_f32(&format!("general.sampling.{key}"));
    let defaults = SamplingDefaults {
        temperature: sampling("temp"),
        top_p: sampling("top_p"),
        top_k: metadata.get_usize("general.sampling.top_k"),
        min_p: sampling("min_p"),
        repetition_penalty: sampling("penalty_repeat"),
        ..SamplingDefaults::default()
    };
    Ok(ModelText::new(tokenizer, &templates, Vec::new(), usable(defaults)))
}

/// The vocabulary of a GGUF file as plain data.
fn vocab(metadata: &Metadata) -> GgufVocab {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let id = |name: &str| metadata.get_u64(&key(name)).and_then(|id| u32::try_from(id).ok());
    let flag = |name: &str| metadata.get_bool(&key(name));
    let strings = |name: &str| {
        metadata.get_strs(&key(name)).map(|all| all.map(str::to_owned).collect()).unwrap_or_default()
    };
    let integers = |name: &str| metadata.get_i64s(&key(name)).unwrap_or_default();
    GgufVocab {
        model: metadata.get_str(&key("model")).unwrap_or_default().to_owned(),
        pre: metadata.get_str(&key("pre")).map(str::to_owned),
        tokens: strings("tokens"),
        scores: metadata.get_f32s(&key("scores")).unwrap_or_default(),
        token_types: integers("token_type").into_iter().map(|kind| kind as i32).collect(),
        merges: strings("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        eot: id("eot_token_id"),
        eom: id("eom_token_id"),
        unk: id("unknown_token_id"),
        sep: id("seperator_token_id"),
        pad: id("padding_token_id"),
        add_bos: flag("add_bos_token"),
        add_eos: flag("add_eos_token"),
        add_sep: flag("add_sep_token"),
        add_space_prefix: flag("add_space_prefix"),
        remove_extra_whitespaces: flag("remove_extra_whitespaces"),
        precompiled_charsmap: integers("precompiled_charsmap").into_iter().map(|byte| byte as u8).collect(),
        name: metadata.get_str("general.name").map(str::to_owned),
    }
}

/// What generation_config.json says about sampling.
fn generation_defaults(config: &Value) -> SamplingDefaults {
    let number = |key: &str| config[key].as_f64().map(|number| number as f32);
    usable(SamplingDefaults {
        temperature: number("temperature"),
        top_p: number("top_p"),
        top_k: config["top_k"].as_u64().and_then(|k| usize::try_from(k).ok()),
        min_p: number("min_p"),
        repetition_penalty: number("repetition_penalty"),
        ..SamplingDefaults::default()
    })
}

/// A file's defaults, or none if any of them is one that no request could have: the file is not to make every request
/// fail.
fn usable(defaults: SamplingDefaults) -> SamplingDefaults {
    match defaults.out_of_range() {
        None => defaults,
        Some(reason) => {
            tracing::warn!("the model's own sampling defaults are left out: {reason}");
            SamplingDefaults::default()
        }
    }
}

/// One id, or a list of ids.
fn token_ids(value: &Value) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(ids) => ids.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

fn read_json(path: &Path) -> Result<Value, ApiError> {
    serde_json::from_slice(&read(path, MAX_JSON)?).map_err(|error| invalid(path, error))
}

/// Reads a file of at most `limit` bytes.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ApiError> {
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(invalid(path, format_args!("it is longer than {limit} bytes")));
    }
    Ok(bytes)
}

fn in_file(error: TextError, path: &Path) -> ApiError {
    invalid(path, error)
}

fn invalid(path: &Path, reason: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::InvalidModelFile, format!("{}: {reason}", path.display()))
}
