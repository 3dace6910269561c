//! What a request is held against before it is queued, so that it is answered at once and the engine thread never meets
//! a parameter that is out of range.

use crate::{EngineConfig, EngineError, GenerateRequest, Limits, Sampling};

/// Most choices of one request.
const MAX_CHOICES: usize = 128;
/// Most log-probabilities per token.
const MAX_LOGPROBS: usize = 128;

/// `limits` with the context length that can really be served: the least of the model's, the configured one and what
/// the KV budget holds.
pub(crate) fn effective_limits(limits: &Limits, config: &EngineConfig) -> Limits {
    let budget = budget_tokens(limits, config.kv_budget_bytes);
    let context = limits.context_length.min(config.context_length.unwrap_or(usize::MAX)).min(budget);
    Limits { context_length: context, ..limits.clone() }
}

/// Tokens whose KV fits `bytes`.
pub(crate) fn budget_tokens(limits: &Limits, bytes: u64) -> usize {
    usize::try_from(bytes / limits.kv_bytes_per_token.max(1) as u64).unwrap_or(usize::MAX)
}

/// Refuses sizes with which nothing could ever run.
pub(crate) fn check_limits(limits: &Limits, config: &EngineConfig) -> Result<(), String> {
    let positive = [
        ("queue_limit", config.queue_limit),
        ("max_sequences", config.max_sequences),
        ("max_batch_tokens", config.max_batch_tokens),
        ("the model's vocabulary", limits.vocab_size),
        ("the model's block length", limits.block_tokens),
    ];
    if let Some((name, _)) = positive.iter().find(|(_, size)| *size == 0) {
        return Err(format!("{name} must be at least 1"));
    }
    let context = effective_limits(limits, config).context_length;
    if context < 2 {
        return Err(format!("the context or the KV budget holds {context} tokens; at least 2 are needed"));
    }
    Ok(())
}

/// Refuses what cannot work. `limits` are the effective ones.
pub(crate) fn validate(
    request: &GenerateRequest,
    limits: &Limits,
    config: &EngineConfig,
) -> Result<(), EngineError> {
    check(!request.prompt.is_empty(), "the prompt is empty; it needs at least one token")?;
    check(request.n >= 1, "n must be at least 1")?;
    check(request.n <= MAX_CHOICES, format_args!("n must be at most {MAX_CHOICES}"))?;
    let top = request.logprobs.max(request.prompt_logprobs).unwrap_or(0);
    check(top <= MAX_LOGPROBS, format_args!("at most {MAX_LOGPROBS} log-probabilities per token"))?;
    let vocab = limits.vocab_size;
    if let Some(token) = request.prompt.iter().find(|&&t| t as usize >= vocab) {
        check(false, format_args!("prompt token {token} is outside the vocabulary of {vocab}"))?;
    }
    check_sampling(&request.sampling, vocab)?;
    check_length(request, limits, config)
}

fn check_length(
    request: &GenerateRequest,
    limits: &Limits,
    config: &EngineConfig,
) -> Result<(), EngineError> {
    let prompt = request.prompt.len();
    let least = prompt.saturating_add(request.max_tokens.min(1));
    if least <= limits.context_length {
        return Ok(());
    }
    if least > budget_tokens(limits, config.kv_budget_bytes) {
        let needed = least as u64 * limits.kv_bytes_per_token as u64;
        return Err(EngineError::KvBudget { needed, budget: config.kv_budget_bytes });
    }
    Err(EngineError::ContextLength { prompt, context: limits.context_length })
}

fn check_sampling(s: &Sampling, vocab: usize) -> Result<(), EngineError> {
    check(s.temperature.is_finite() && s.temperature >= 0.0, "temperature must be 0 or more")?;
    check(s.top_p > 0.0 && s.top_p <= 1.0, "top_p must be above 0 and at most 1")?;
    check((0.0..=1.0).contains(&s.min_p), "min_p must be between 0 and 1")?;
    let repetition = s.repetition_penalty;
    check(repetition.is_finite() && repetition > 0.0, "repetition_penalty must be above 0")?;
    check(s.presence_penalty.is_finite(), "presence_penalty must be a number")?;
    check(s.frequency_penalty.is_finite(), "frequency_penalty must be a number")?;
    for &(token, bias) in &s.logit_bias {
        let inside = (token as usize) < vocab;
        check(inside, format_args!("logit_bias: token {token} is outside the vocabulary of {vocab}"))?;
        check(bias.is_finite(), format_args!("logit_bias: the bias of token {token} must be a number"))?;
    }
    Ok(())
}

fn check(holds: bool, otherwise: impl std::fmt::Display) -> Result<(), EngineError> {
    if holds { Ok(()) } else { Err(EngineError::Invalid(otherwise.to_string())) }
}
