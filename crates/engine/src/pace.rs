//! `Pace`: how many prompt tokens a step may run beside decoding streams, so that it takes no longer than it should.
//!
//! A chunk that a GPU runs in a blink holds up every stream for seconds on a slow CPU, so the size follows from the
//! steps that were measured. Without streams to hold up, prompts get the whole token budget.

use std::time::Duration;

/// Least chunk: prompts get on, however slow the machine.
const LEAST: usize = 16;

/// Follows the machine's speed.
pub(crate) struct Pace {
    target: Duration,
    most: usize,
    chunk: usize,
}

impl Pace {
    /// Chunks of at most `most` tokens, for steps of about `target`.
    pub(crate) fn new(target: Duration, most: usize) -> Self {
        Self { target, most, chunk: most }
    }

    /// A step took `length` and ran `prompt_tokens` of prompts. Returns the next step's chunk beside streams.
    pub(crate) fn note(&mut self, length: Duration, prompt_tokens: usize) -> usize {
        if prompt_tokens >= LEAST.min(self.most) && !length.is_zero() {
            let ratio = self.target.as_secs_f64() / length.as_secs_f64();
            let fitting = (prompt_tokens as f64 * ratio) as usize;
            // A small chunk says little about large ones: it may be mostly the cost of the streams. So grow slowly.
            let fitting = fitting.min(prompt_tokens.saturating_mul(2)).max(LEAST);
            let says_nothing = fitting >= prompt_tokens && prompt_tokens < self.chunk;
            if !says_nothing {
                self.chunk = fitting.min(self.most);
            }
        }
        self.chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of a machine that needs `ms_per_token` for prompts and `streams_ms` for the streams beside them.
    fn settle(pace: &mut Pace, ms_per_token: f64, streams_ms: f64) -> (usize, f64) {
        let mut chunk = pace.chunk;
        let mut ms = 0.0;
        for _ in 0..50 {
            ms = chunk as f64 * ms_per_token + streams_ms;
            chunk = pace.note(Duration::from_secs_f64(ms / 1000.0), chunk);
        }
        (chunk, ms)
    }

    #[test]
    fn steps_come_to_the_target_on_slow_machines_and_to_the_whole_budget_on_fast_ones() {
        let mut pace = Pace::new(Duration::from_millis(200), 512);
        let (chunk, ms) = settle(&mut pace, 3.0, 50.0);
        assert!((180.0..220.0).contains(&ms), "{chunk} tokens in {ms} ms");
        assert_eq!(settle(&mut pace, 0.1, 20.0).0, 512, "it recovers when the machine is faster again");
    }

    #[test]
    fn prompts_get_on_even_when_the_streams_alone_take_too_long() {
        let mut pace = Pace::new(Duration::from_millis(200), 512);
        assert_eq!(settle(&mut pace, 3.0, 400.0).0, LEAST);
    }

    #[test]
    fn a_prompts_short_rest_does_not_shrink_the_chunk() {
        let mut pace = Pace::new(Duration::from_millis(200), 512);
        assert_eq!(pace.note(Duration::from_millis(10), 20), 512);
        assert_eq!(pace.note(Duration::from_millis(1), 3), 512);
    }
}
