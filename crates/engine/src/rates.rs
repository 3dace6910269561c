//! `Rates`: how fast an engine has been of late, from the lengths of its last steps. Idle time does not count.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::Totals;

/// Steps that count as recent.
const RECENT: usize = 64;

/// One step's work.
struct Step {
    prefilled: u64,
    generated: u64,
    seconds: f64,
}

/// Recent steps, and the working time between two requests that finish.
#[derive(Default)]
pub(crate) struct Rates {
    steps: VecDeque<Step>,
    totals: Totals,
    /// Mean working time from one finished request to the next, recent ones weighing more.
    interval: Option<f64>,
    since_finished: f64,
}

impl Rates {
    /// A step took `length` and brought the totals to `totals`. Returns the prompt tokens that it computed.
    pub(crate) fn note(&mut self, length: Duration, totals: Totals) -> usize {
        let step = Step {
            prefilled: totals.prefilled_tokens - self.totals.prefilled_tokens,
            generated: totals.generated_tokens - self.totals.generated_tokens,
            seconds: length.as_secs_f64(),
        };
        self.since_finished += step.seconds;
        let finished = totals.finished - self.totals.finished;
        if finished > 0 {
            let sample = self.since_finished / finished as f64;
            self.interval = Some(self.interval.map_or(sample, |old| 0.8 * old + 0.2 * sample));
            self.since_finished = 0.0;
        }
        let prefilled = step.prefilled as usize;
        self.totals = totals;
        self.steps.push_back(step);
        if self.steps.len() > RECENT {
            self.steps.pop_front();
        }
        prefilled
    }

    /// Prompt tokens computed per second of the recent steps that computed any.
    pub(crate) fn prefill(&self) -> f64 {
        self.rate(|step| step.prefilled)
    }

    /// Tokens generated per second of the recent steps that generated any.
    pub(crate) fn decode(&self) -> f64 {
        self.rate(|step| step.generated)
    }

    /// Working time from one finished request to the next.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs_f64(self.interval.unwrap_or(0.0).max(self.since_finished))
    }

    fn rate(&self, tokens: impl Fn(&Step) -> u64) -> f64 {
        let working = || self.steps.iter().filter(|step| tokens(step) > 0);
        let seconds: f64 = working().map(|step| step.seconds).sum();
        if seconds > 0.0 { working().map(&tokens).sum::<u64>() as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(prefilled: u64, generated: u64, finished: u64) -> Totals {
        Totals { prefilled_tokens: prefilled, generated_tokens: generated, finished, ..Totals::default() }
    }

    #[test]
    fn rates_count_only_the_steps_that_did_such_work() {
        let mut rates = Rates::default();
        assert_eq!((rates.prefill(), rates.decode(), rates.interval()), (0.0, 0.0, Duration::ZERO));
        rates.note(Duration::from_secs(2), totals(1000, 0, 0));
        rates.note(Duration::from_secs(1), totals(1000, 8, 0));
        rates.note(Duration::from_secs(1), totals(1000, 16, 2));
        assert_eq!((rates.prefill(), rates.decode()), (500.0, 8.0));
        assert_eq!(rates.interval(), Duration::from_secs(2));
    }

    #[test]
    fn old_steps_are_forgotten_and_a_long_wait_counts_before_it_is_over() {
        let mut rates = Rates::default();
        for i in 1..=1000 {
            rates.note(Duration::from_secs(1), totals(0, if i <= 900 { 100 * i } else { 90_000 + i }, 1));
        }
        assert!(rates.decode() < 2.0, "the last 64 steps made one token each");
        assert_eq!(rates.interval(), Duration::from_secs(999));
    }
}
