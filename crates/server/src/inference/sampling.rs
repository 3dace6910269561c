//! From what a request says, what the model's makers say and what OpenAI says, to [`Sampling`].

use perch_engine::Sampling;

use super::job::SamplingRequest;
use crate::config::SamplingDefaults;
use crate::error::ApiError;

/// Puts the three together. What the request says is checked and refused by name; the defaults were checked before.
pub(crate) fn sampling(request: &SamplingRequest, defaults: &SamplingDefaults) -> Result<Sampling, ApiError> {
    let neutral = Sampling::default();
    let within = |name: &'static str, value: Option<f32>, low: f32, high: f32| match value {
        Some(value) if !(low..=high).contains(&value) => {
            Err(ApiError::invalid(name, format!("{name} must be between {low} and {high}, not {value}")))
        }
        value => Ok(value),
    };
    let temperature = within("temperature", request.temperature, 0.0, 2.0)?;
    let top_p = within("top_p", request.top_p, 0.0, 1.0)?;
    let min_p = within("min_p", request.min_p, 0.0, 1.0)?;
    let presence = within("presence_penalty", request.presence_penalty, -2.0, 2.0)?;
    let frequency = within("frequency_penalty", request.frequency_penalty, -2.0, 2.0)?;
    let repetition = within("repetition_penalty", request.repetition_penalty, 0.01, 10.0)?;
    let top_k = match request.top_k {
        Some(k) if k < -1 => return Err(ApiError::invalid("top_k", "top_k must be at least -1")),
        // Both are in use for "all".
        Some(-1 | 0) => Some(0),
        Some(k) => Some(usize::try_from(k).unwrap_or(usize::MAX)),
        None => None,
    };
    for &(token, bias) in &request.logit_bias {
        if !(-100.0..=100.0).contains(&bias) {
            let message = format!("the bias of token {token} must be between -100 and 100, not {bias}");
            return Err(ApiError::invalid("logit_bias", message));
        }
    }
    Ok(Sampling {
        temperature: temperature.or(defaults.temperature).unwrap_or(neutral.temperature),
        top_k: top_k.or(defaults.top_k).unwrap_or(neutral.top_k),
        // OpenAI takes 0, which leaves the most likely token.
        top_p: top_p.or(defaults.top_p).unwrap_or(neutral.top_p).max(f32::MIN_POSITIVE),
        min_p: min_p.or(defaults.min_p).unwrap_or(neutral.min_p),
        repetition_penalty: repetition.or(defaults.repetition_penalty).unwrap_or(neutral.repetition_penalty),
        presence_penalty: presence.or(defaults.presence_penalty).unwrap_or(neutral.presence_penalty),
        frequency_penalty: frequency.or(defaults.frequency_penalty).unwrap_or(neutral.frequency_penalty),
        logit_bias: request.logit_bias.clone(),
        seed: request.seed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_wins_over_the_model_over_openais_defaults() {
        let defaults =
            SamplingDefaults { temperature: Some(0.6), top_k: Some(20), ..SamplingDefaults::default() };
        let request = SamplingRequest { temperature: Some(0.0), ..SamplingRequest::default() };
        let picked = sampling(&request, &defaults).unwrap();
        assert_eq!((picked.temperature, picked.top_k, picked.top_p), (0.0, 20, 1.0));
        let all = SamplingRequest { top_k: Some(-1), ..SamplingRequest::default() };
        assert_eq!(sampling(&all, &defaults).unwrap().top_k, 0);
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_name() {
        let blank = SamplingRequest::default;
        let cases = [
            ("temperature", SamplingRequest { temperature: Some(2.1), ..blank() }),
            ("temperature", SamplingRequest { temperature: Some(f32::NAN), ..blank() }),
            ("top_p", SamplingRequest { top_p: Some(-0.1), ..blank() }),
            ("min_p", SamplingRequest { min_p: Some(1.5), ..blank() }),
            ("top_k", SamplingRequest { top_k: Some(-2), ..blank() }),
            ("presence_penalty", SamplingRequest { presence_penalty: Some(3.0), ..blank() }),
            ("frequency_penalty", SamplingRequest { frequency_penalty: Some(-3.0), ..blank() }),
            ("repetition_penalty", SamplingRequest { repetition_penalty: Some(0.0), ..blank() }),
            ("logit_bias", SamplingRequest { logit_bias: vec![(1, 101.0)], ..blank() }),
        ];
        for (name, request) in cases {
            let error = sampling(&request, &SamplingDefaults::default()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(name));
        }
    }
}
