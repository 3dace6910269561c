//! The sequential run: one sequence, the whole prompt in one pass, then token by token. No scheduler, no cache, no
//! batch, no fork. Whatever the engine does must come to this.

use std::sync::Arc;

use crate::sampler::{self, Sampler, Workspace};
use crate::{Backend, BackendError, Draw, FinishReason, GenerateRequest, Limits, Run, SeqId, Wanted};

/// What one choice comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its tokens, without the stop token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub reason: FinishReason,
}

/// Every choice of `request`, run alone on `backend` within `limits`. The request needs a seed unless it is greedy, and
/// must have no constraint.
pub fn sequential(
    backend: &mut dyn Backend,
    limits: &Limits,
    request: &GenerateRequest,
) -> Result<Vec<Answer>, BackendError> {
    (0..request.n).map(|choice| answer(backend, limits, request, choice)).collect()
}

fn answer(
    backend: &mut dyn Backend,
    limits: &Limits,
    request: &GenerateRequest,
    choice: usize,
) -> Result<Answer, BackendError> {
    const SEQ: SeqId = SeqId(u32::MAX);
    let params = Arc::new(request.sampling.clone());
    let prompt = Sampler::penalised_prompt(&params, &request.prompt);
    let mut sampler = Sampler::new(params, prompt, request.sampling.seed.unwrap_or(0), choice);
    let mut space = Workspace::default();
    let most = request.max_tokens.min(limits.context_length - request.prompt.len());

    backend.open(SEQ, &[])?;
    let mut answer = Answer { tokens: Vec::new(), reason: FinishReason::Length };
    let mut next = request.prompt.clone();
    let mut position = 0;
    while answer.tokens.len() < most {
        let run = Run { seq: SEQ, tokens: &next, position, wanted: Wanted::Last };
        let mut row = backend.forward(&[run])?;
        position += next.len();
        let Some(token) = sampler.draw(&mut row, None, &mut space) else { break };
        if request.stop_tokens.contains(&token) {
            answer.reason = FinishReason::Stop(token);
            break;
        }
        answer.tokens.push(token);
        next = vec![token];
    }
    backend.close(SEQ);
    Ok(answer)
}

/// Whether each of `tokens` is, when the prompt and the tokens before it are run alone, within twice `tolerance` of the
/// best: what greedy decoding gives on a backend whose logits vary by `tolerance`.
pub(super) fn accepts(
    backend: &mut dyn Backend,
    prompt: &[u32],
    tokens: &[u32],
    tolerance: f32,
) -> Result<(), String> {
    const SEQ: SeqId = SeqId(u32::MAX);
    backend.open(SEQ, &[]).map_err(|e| e.to_string())?;
    let mut next = prompt.to_vec();
    let mut position = 0;
    for (i, &token) in tokens.iter().enumerate() {
        let run = Run { seq: SEQ, tokens: &next, position, wanted: Wanted::Last };
        let row = backend.forward(&[run]).map_err(|e| e.to_string())?;
        position += next.len();
        let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if row[token as usize] < best - 2.0 * tolerance {
            return Err(format!(
                "token {i} is {token} with logit {}, but the best is {best}",
                row[token as usize]
            ));
        }
        next = vec![token];
    }
    backend.close(SEQ);
    Ok(())
}

/// One choice's sampler by itself, for benchmarks and for backends that want to see what is drawn from their logits.
pub struct Picker {
    sampler: Sampler,
    logprobs: Option<usize>,
    space: Workspace,
}

impl Picker {
    /// A sampler after `prompt`; without a seed, it takes 0.
    pub fn new(params: crate::Sampling, prompt: &[u32], logprobs: Option<usize>) -> Self {
        let seed = params.seed.unwrap_or(0);
        let prompt = Sampler::penalised_prompt(&params, prompt);
        let sampler = Sampler::new(Arc::new(params), prompt, seed, 0);
        Self { sampler, logprobs, space: Workspace::default() }
    }

    /// The next token from `row`, which is changed, with its log-probabilities if wanted.
    pub fn pick(&mut self, row: &mut [f32]) -> Option<(u32, Option<crate::LogProbs>)> {
        self.sampler.draw_scored(row, None, self.logprobs, &mut self.space)
    }
}

/// The token that the engine would draw from `row`, which may be changed.
pub fn pick(draw: &Draw, row: &mut [f32]) -> Option<u32> {
    sampler::pick(draw, row, &mut Workspace::default())
}
