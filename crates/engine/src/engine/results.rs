//! What comes of a forward pass: log-probabilities, forks, tokens, endings.

use super::requests::guarded;
use super::{Engine, Fatal};
use crate::sampler::Scores;
use crate::scheduler::{Order, PlannedRun};
use crate::{EngineError, Event, FinishReason, LogProbs, SeqId, Wanted};

impl Engine {
    /// Advances all runs of a pass, then takes the tokens that the backend drew.
    pub(super) fn take_tokens(&mut self, runs: &[PlannedRun], tokens: Vec<Option<u32>>) -> Result<(), Fatal> {
        let drawn = runs.iter().filter(|run| run.wanted == Wanted::Last);
        let expected = drawn.clone().count();
        if tokens.len() != expected {
            return Err(Fatal(format!("the backend drew {} tokens, not {expected}", tokens.len())));
        }
        self.advance(runs);
        for (run, token) in drawn.zip(tokens) {
            let Some(choice) = self.choices.get_mut(&run.seq) else { continue };
            let arrival = choice.arrival;
            choice.sampler.drawn();
            match token {
                Some(token) => {
                    self.prefilled(arrival);
                    self.take_token(run.seq, token, None);
                }
                None => self.fail(arrival, no_finite_logit()),
            }
        }
        Ok(())
    }

    fn advance(&mut self, runs: &[PlannedRun]) {
        for run in runs {
            self.totals.prefilled_tokens += (run.len - usize::from(run.wanted != Wanted::None)) as u64;
            self.scheduler.advance(run);
        }
    }

    /// Advances all runs of a pass, then draws from their logits.
    pub(super) fn take_logits(&mut self, runs: &[PlannedRun], mut logits: Vec<f32>) -> Result<(), Fatal> {
        let vocab = self.limits.vocab_size;
        let expected = runs.iter().map(Self::rows).sum::<usize>() * vocab;
        if logits.len() != expected {
            return Err(Fatal(format!("the backend returned {} logits, not {expected}", logits.len())));
        }
        self.advance(runs);
        let mut rest = &mut logits[..];
        for run in runs {
            let (rows, others) = rest.split_at_mut(Self::rows(run) * vocab);
            rest = others;
            let Some(arrival) = self.choices.get(&run.seq).map(|c| c.arrival) else { continue };
            if let Err(error) = self.take_rows(run, rows) {
                self.fail(arrival, error);
            }
        }
        Ok(())
    }

    fn take_rows(&mut self, run: &PlannedRun, rows: &mut [f32]) -> Result<(), EngineError> {
        if run.wanted == Wanted::All {
            self.score_prompt(run, rows)?;
        }
        if run.start + run.len < self.scheduler.tokens(run.seq).len() {
            return Ok(());
        }
        let last = rows.len() - self.limits.vocab_size;
        self.take_last_row(run.seq, &mut rows[last..])
    }

    /// Log-probabilities of the prompt tokens that follow those of this run.
    fn score_prompt(&mut self, run: &PlannedRun, rows: &[f32]) -> Result<(), EngineError> {
        let arrival = self.choices[&run.seq].arrival;
        let Some(request) = self.requests.get_mut(&arrival) else { return Ok(()) };
        let top = request.prompt_logprobs.unwrap_or(0);
        let next = self.scheduler.tokens(run.seq).get(run.start + 1..).unwrap_or(&[]);
        for (row, &token) in rows.chunks_exact(self.limits.vocab_size).zip(next) {
            let scores = Scores::new(&mut self.space.maxima, row, top).ok_or_else(no_finite_logit)?;
            request.scores.push(scores.chosen(row[token as usize]));
        }
        Ok(())
    }

    /// A sequence has computed all its tokens: its row gives the next one, and after the prompt those of its sister
    /// choices too.
    fn take_last_row(&mut self, id: SeqId, row: &mut [f32]) -> Result<(), EngineError> {
        let arrival = self.choices[&id].arrival;
        let mut forked = Vec::new();
        if self.prefilled(arrival) {
            let Some(request) = self.requests.get(&arrival) else { return Ok(()) };
            if request.max_tokens == 0 {
                let (reason, generated) = (FinishReason::Length, 0);
                (1..request.n).for_each(|choice| request.send(Event::Finished { choice, reason, generated }));
                self.finish(id, reason);
                return Ok(());
            }
            forked = self.fork_choices(id, arrival)?;
        }
        // A copy for each sister: drawing changes the row.
        for sister in forked {
            let mut copy = std::mem::take(&mut self.space.row);
            copy.clear();
            copy.extend_from_slice(row);
            let drawn = self.draw(sister, &mut copy);
            self.space.row = copy;
            drawn?;
        }
        self.draw(id, row)
    }

    /// A request's prompt has been computed; false where that is known already.
    fn prefilled(&mut self, arrival: u64) -> bool {
        let Some(request) = self.requests.get_mut(&arrival).filter(|request| !request.prefilled) else {
            return false;
        };
        request.prefilled = true;
        self.totals.prompt_tokens += request.prompt_len as u64;
        let prompt_logprobs = std::mem::take(&mut request.scores);
        let cached_tokens = request.cached_tokens.unwrap_or(0);
        request.send(Event::Prefilled { cached_tokens, prompt_logprobs });
        true
    }

    /// Adds the other choices of a request whose prompt has just been computed. Returns those that run at once.
    fn fork_choices(&mut self, from: SeqId, arrival: u64) -> Result<Vec<SeqId>, EngineError> {
        let mut forked = Vec::new();
        let Some(request) = self.requests.get_mut(&arrival) else { return Ok(forked) };
        for index in 1..request.n {
            let choice = request.choice(index)?;
            let (id, runs) = self.scheduler.fork(from, Order { arrival, choice: index });
            self.choices.insert(id, choice);
            request.live.push(id);
            forked.extend(runs.then_some(id));
        }
        Ok(forked)
    }

    /// Draws a choice's next token from its row, and takes it.
    fn draw(&mut self, id: SeqId, row: &mut [f32]) -> Result<(), EngineError> {
        let Some(choice) = self.choices.get_mut(&id) else { return Ok(()) };
        let Some(request) = self.requests.get(&choice.arrival) else { return Ok(()) };
        let (sampler, space, wanted) = (&mut choice.sampler, &mut self.space, request.logprobs);
        let (token, logprobs) = match &mut choice.constraint {
            None => sampler.draw_scored(row, None, wanted, space).ok_or_else(no_finite_logit)?,
            Some(constraint) => guarded(|| {
                let mask = constraint.allowed()?;
                let drawn = sampler.draw_scored(row, mask, wanted, space);
                let drawn = drawn.ok_or("the constraint allows no token that the model can give")?;
                if !request.stops_at(drawn.0) {
                    constraint.accept(drawn.0)?;
                }
                Ok(drawn)
            })?,
        };
        self.take_token(id, token, logprobs);
        Ok(())
    }

    /// Takes a choice's next token: sends it, or its ending.
    fn take_token(&mut self, id: SeqId, token: u32, logprobs: Option<LogProbs>) {
        let Some(choice) = self.choices.get_mut(&id) else { return };
        let Some(request) = self.requests.get(&choice.arrival) else { return };
        choice.generated += 1;
        self.totals.generated_tokens += 1;
        let ending = request.ending(choice, token);
        if !matches!(ending, Some(FinishReason::Stop(_))) {
            request.send(Event::Token { choice: choice.index, id: token, logprobs });
        }
        match ending {
            Some(reason) => self.finish(id, reason),
            None => self.scheduler.push(id, token),
        }
    }

    /// Ends a choice, and the request with its last one.
    fn finish(&mut self, id: SeqId, reason: FinishReason) {
        self.scheduler.finish(id);
        let Some(choice) = self.choices.remove(&id) else { return };
        let Some(request) = self.requests.get_mut(&choice.arrival) else { return };
        request.live.retain(|&other| other != id);
        request.send(Event::Finished { choice: choice.index, reason, generated: choice.generated });
        if request.live.is_empty() {
            self.requests.remove(&choice.arrival);
            self.totals.finished += 1;
        }
    }
}

fn no_finite_logit() -> EngineError {
    EngineError::Backend("the model returned no finite logit".to_owned())
}
