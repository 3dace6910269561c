//! Sampling settings of a conversation and of a request, checked and put together.

use perch_protocol::conversations::SamplingSettings;

use crate::config::SamplingDefaults;
use crate::error::ApiError;
use crate::inference::{ChatInput, Input, Job, SamplingRequest, sampling};

/// Most stop strings, and the longest.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 1024;
/// Ways to think.
const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// What `first` says, and where it says nothing, what `second` says.
pub(super) fn over(first: SamplingSettings, second: &SamplingSettings) -> SamplingSettings {
    let second = second.clone();
    SamplingSettings {
        temperature: first.temperature.or(second.temperature),
        top_p: first.top_p.or(second.top_p),
        top_k: first.top_k.or(second.top_k),
        min_p: first.min_p.or(second.min_p),
        repetition_penalty: first.repetition_penalty.or(second.repetition_penalty),
        presence_penalty: first.presence_penalty.or(second.presence_penalty),
        frequency_penalty: first.frequency_penalty.or(second.frequency_penalty),
        seed: first.seed.or(second.seed),
        max_tokens: first.max_tokens.or(second.max_tokens),
        stop: first.stop.or(second.stop),
        reasoning_effort: first.reasoning_effort.or(second.reasoning_effort),
    }
}

/// A job that samples like this, with nothing said yet.
///
/// # Errors
/// `invalid_value` for a setting that cannot be; `at` is the path to the settings.
pub(super) fn job(settings: &SamplingSettings, at: &str) -> Result<Job, ApiError> {
    let named = |error: ApiError| {
        let param = error.param.clone().unwrap_or_default();
        error.with_param(format!("{at}.{param}"))
    };
    let request = SamplingRequest {
        temperature: settings.temperature,
        top_p: settings.top_p,
        top_k: settings.top_k,
        min_p: settings.min_p,
        repetition_penalty: settings.repetition_penalty,
        presence_penalty: settings.presence_penalty,
        frequency_penalty: settings.frequency_penalty,
        logit_bias: Vec::new(),
        seed: settings.seed.map(i64::cast_unsigned),
    };
    sampling(&request, &SamplingDefaults::default()).map_err(named)?;
    if settings.max_tokens == Some(0) {
        return Err(named(ApiError::invalid("max_tokens", "max_tokens must be at least 1")));
    }
    let stop = settings.stop.clone().unwrap_or_default();
    if stop.len() > MAX_STOPS || stop.iter().any(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES) {
        let message = format!("stop must be at most {MAX_STOPS} strings of 1 to {MAX_STOP_BYTES} bytes");
        return Err(named(ApiError::invalid("stop", message)));
    }
    if settings.reasoning_effort.as_ref().is_some_and(|effort| !EFFORTS.contains(&effort.as_str())) {
        let message = format!("reasoning_effort must be one of {}", EFFORTS.join(", "));
        return Err(named(ApiError::invalid("reasoning_effort", message)));
    }
    let chat = ChatInput { effort: settings.reasoning_effort.clone(), ..ChatInput::default() };
    Ok(Job {
        input: Input::Chat(Box::new(chat)),
        sampling: request,
        max_tokens: settings.max_tokens.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
        n: 1,
        stop,
        ..Job::default()
    })
}
