//! `Engine`: the engine without its thread. It joins the scheduler's sequences to requests, samplers and channels, and
//! [`Engine::step`] is the whole of generation: schedule, run, postprocess.
//!
//! Invariants, verified by [`Engine::check`]: each unfinished choice has one sequence in the scheduler and one entry here;
//! a request leaves after its last event, and gets exactly one `Finished` for each choice or one `Failed`.
//!
//! The backend is lent to each step, not owned, so that the engine outlives a backend that failed.

mod requests;
mod results;

use std::collections::{BTreeMap, HashMap};

pub(crate) use requests::Submission;
use requests::{Choice, Request};

use crate::sampler::Workspace;
use crate::scheduler::{Action, NewSequence, Order, PlannedRun, Scheduler};
use crate::validate::effective_limits;
use crate::{
    Backend, BackendError, Draw, EngineConfig, EngineError, EngineStats, Event, Limits, Run, SeqId, Wanted,
};

/// The backend cannot go on.
#[derive(Debug)]
pub(crate) struct Fatal(pub(crate) String);

/// What a pass has come to.
enum Passed {
    Logits(Vec<f32>),
    Tokens(Vec<Option<u32>>),
}

/// Totals since the engine started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) finished: u64,
    pub(crate) cancelled: u64,
    pub(crate) failed: u64,
    pub(crate) prompt_tokens: u64,
    /// Tokens run beyond the last of each sequence: the work of prefilling.
    pub(crate) prefilled_tokens: u64,
    pub(crate) generated_tokens: u64,
    pub(crate) steps: u64,
}

/// All requests of one engine and how far they are.
pub(crate) struct Engine {
    limits: Limits,
    config: EngineConfig,
    scheduler: Scheduler,
    /// By arrival.
    requests: BTreeMap<u64, Request>,
    choices: HashMap<SeqId, Choice>,
    arrivals: u64,
    totals: Totals,
    space: Workspace,
}

impl Engine {
    /// A engine without requests for a backend with these limits.
    pub(crate) fn new(limits: &Limits, config: &EngineConfig) -> Self {
        Self {
            limits: effective_limits(limits, config),
            config: config.clone(),
            scheduler: Scheduler::new(limits, config),
            requests: BTreeMap::new(),
            choices: HashMap::new(),
            arrivals: 0,
            totals: Totals::default(),
            space: Workspace::default(),
        }
    }

    /// Takes in a validated request.
    pub(crate) fn submit(&mut self, submission: Submission) {
        let salt = submission.request.cache_salt;
        self.totals.requests += 1;
        self.arrivals += 1;
        let (mut request, prompt) = Request::new(submission, self.arrivals, self.limits.context_length);
        match request.choice(0) {
            Ok(choice) => {
                let id = self.scheduler.add(NewSequence {
                    order: Order { arrival: request.arrival, choice: 0 },
                    prompt,
                    max_len: request.max_len(),
                    salt,
                    scored: request.prompt_logprobs.is_some(),
                });
                self.choices.insert(id, choice);
                request.live.push(id);
                self.requests.insert(request.arrival, request);
            }
            Err(error) => {
                self.totals.failed += 1;
                request.send(Event::Failed(error));
            }
        }
    }

    /// One forward pass and what comes of it.
    pub(crate) fn step(&mut self, backend: &mut dyn Backend) -> Result<(), Fatal> {
        self.drop_abandoned();
        let runs = self.scheduler.plan();
        self.carry_out(backend)?;
        self.run(backend, runs)?;
        self.carry_out(backend)
    }

    /// From now on, steps in which streams run have at most so many prompt tokens.
    pub(crate) fn set_chunk_beside_streams(&mut self, tokens: usize) {
        self.scheduler.set_chunk_beside_streams(tokens);
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// To be called when idle: verifies the books, and forgets that memory was short.
    pub(crate) fn rest(&mut self) {
        debug_assert_eq!(self.check(), Ok(()));
        self.scheduler.rest();
    }

    /// The backend failed and is gone: ends the requests it was running, any of which may be to blame. Those that wait,
    /// preempted ones too, lose nothing and go on with the next backend.
    pub(crate) fn backend_failed(&mut self, message: &str) {
        let running: Vec<u64> =
            self.scheduler.running().filter_map(|id| self.choices.get(&id)).map(|c| c.arrival).collect();
        for arrival in running {
            self.fail(arrival, EngineError::Restarting(message.to_owned()));
        }
        self.scheduler.reset();
    }

    /// Ends all requests.
    pub(crate) fn fail_all(&mut self, error: &EngineError) {
        while let Some((&arrival, _)) = self.requests.first_key_value() {
            self.fail(arrival, error.clone());
        }
    }

    /// Cancels requests whose events nobody reads any more.
    fn drop_abandoned(&mut self) {
        let abandoned: Vec<u64> =
            self.requests.iter().filter(|(_, r)| r.is_abandoned()).map(|(&arrival, _)| arrival).collect();
        for arrival in abandoned {
            self.totals.cancelled += 1;
            self.remove(arrival);
        }
    }

    fn fail(&mut self, arrival: u64, error: EngineError) {
        if let Some(request) = self.remove(arrival) {
            self.totals.failed += 1;
            request.send(Event::Failed(error));
        }
    }

    fn remove(&mut self, arrival: u64) -> Option<Request> {
        let request = self.requests.remove(&arrival)?;
        for id in &request.live {
            self.choices.remove(id);
            self.scheduler.finish(*id);
        }
        Some(request)
    }

    /// Does what the scheduler has decided, in its order.
    fn carry_out(&mut self, backend: &mut dyn Backend) -> Result<(), Fatal> {
        while let Some(action) = self.scheduler.next_action() {
            let done = match &action {
                Action::Open { seq, prefix } => {
                    self.begin(*seq, prefix.len());
                    backend.open(*seq, prefix)
                }
                Action::Fork { from, to } => backend.fork(*from, *to),
                Action::Save { seq, index, block } => backend.save(*seq, *index, *block),
                Action::Forget(block) => {
                    backend.forget(*block);
                    Ok(())
                }
                Action::Close(seq) => {
                    backend.close(*seq);
                    Ok(())
                }
            };
            match (done, action) {
                (Ok(()), _) => {}
                (Err(BackendError::Fatal(message)), _) => return Err(Fatal(message)),
                (Err(_), Action::Save { seq, block, .. }) => self.scheduler.not_saved(seq, block),
                (Err(error), Action::Open { seq, .. } | Action::Fork { to: seq, .. }) => {
                    self.did_not_begin(seq, error);
                }
                (Err(_), Action::Forget(_) | Action::Close(_)) => {}
            }
        }
        Ok(())
    }

    /// A sequence is being opened, for the first time or again.
    fn begin(&mut self, id: SeqId, prefix_blocks: usize) {
        let Some(request) = self.choices.get(&id).and_then(|c| self.requests.get_mut(&c.arrival)) else {
            return;
        };
        request.slot = None;
        request.cached_tokens.get_or_insert(prefix_blocks * self.limits.block_tokens);
        if !request.prefilled {
            request.scores.clear();
        }
    }

    fn did_not_begin(&mut self, id: SeqId, error: BackendError) {
        if !self.scheduler.is_running(id) {
            return; // It has been ended or preempted since.
        }
        match error {
            BackendError::OutOfMemory(_) => self.out_of_memory(Some(id), error),
            other => self.fail_choice(id, other),
        }
    }

    /// Makes room, or ends the request that cannot have more.
    fn out_of_memory(&mut self, id: Option<SeqId>, error: BackendError) {
        if let Some(hopeless) = self.scheduler.out_of_memory(id) {
            self.fail_choice(hopeless, error);
        }
    }

    /// Ends the request of a sequence with the backend's error.
    fn fail_choice(&mut self, id: SeqId, error: BackendError) {
        if let Some(choice) = self.choices.get(&id) {
            self.fail(choice.arrival, EngineError::Backend(error.to_string()));
        }
    }

    /// Runs the planned runs, and deals with what the backend makes of them.
    fn run(&mut self, backend: &mut dyn Backend, mut runs: Vec<PlannedRun>) -> Result<(), Fatal> {
        // Carrying out the plan may have failed or preempted some.
        runs.retain(|run| self.scheduler.is_current(run));
        if runs.is_empty() {
            return Ok(());
        }
        let batch: Vec<Run<'_>> = runs
            .iter()
            .map(|run| Run {
                seq: run.seq,
                tokens: self.scheduler.run_tokens(run),
                position: run.start,
                wanted: run.wanted,
            })
            .collect();
        self.totals.steps += 1;
        let draws = if backend.draws() { self.draws(&runs) } else { None };
        let passed = match &draws {
            Some(draws) => backend.forward_drawn(&batch, draws).map(Passed::Tokens),
            None => backend.forward(&batch).map(Passed::Logits),
        };
        match passed {
            Ok(Passed::Logits(logits)) => self.take_logits(&runs, logits),
            Ok(Passed::Tokens(tokens)) => self.take_tokens(&runs, tokens),
            Err(BackendError::Fatal(message)) => Err(Fatal(message)),
            Err(error @ BackendError::OutOfMemory(_)) => {
                self.out_of_memory(None, error);
                Ok(())
            }
            Err(error) if runs.len() == 1 => {
                self.fail_choice(runs[0].seq, error);
                Ok(())
            }
            // One of them is to blame: alone, each shows whether it is the one.
            Err(_) => runs.into_iter().try_for_each(|run| self.run(backend, vec![run])),
        }
    }

    /// How the backend is to draw what these runs lead to; `None` where one of them needs its logits here.
    fn draws(&self, runs: &[PlannedRun]) -> Option<Vec<Draw>> {
        let to_draw = runs.iter().filter(|run| run.wanted != Wanted::None);
        let draw = |run: &PlannedRun| {
            let choice = self.choices.get(&run.seq).filter(|_| run.wanted == Wanted::Last)?;
            self.requests.get(&choice.arrival)?.draw(choice)
        };
        to_draw.map(draw).collect()
    }

    /// Rows of logits of a run.
    fn rows(run: &PlannedRun) -> usize {
        match run.wanted {
            Wanted::None => 0,
            Wanted::Last => 1,
            Wanted::All => run.len,
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// A snapshot, less what only the thread knows (state, queue, rates, restarts).
    pub(crate) fn stats(&self) -> EngineStats {
        let bytes = |tokens: usize| tokens as u64 * self.limits.kv_bytes_per_token as u64;
        let counters = self.scheduler.counters();
        let begun = self.requests.values().filter(|r| r.slot.is_none()).map(|r| r.live.len()).sum::<usize>();
        let running = self.scheduler.running_len();
        EngineStats {
            running,
            preempted: begun - running,
            kv_used_bytes: bytes(self.scheduler.used()),
            prefix_cache_bytes: bytes(self.scheduler.cached()),
            prefix_cache_blocks: self.scheduler.cached_blocks(),
            prefix_lookup_tokens: counters.lookup_tokens,
            prefix_hit_tokens: counters.hit_tokens,
            requests: self.totals.requests,
            finished: self.totals.finished,
            cancelled: self.totals.cancelled,
            failed: self.totals.failed,
            prompt_tokens: self.totals.prompt_tokens,
            generated_tokens: self.totals.generated_tokens,
            steps: self.totals.steps,
            preemptions: counters.preemptions,
            ..EngineStats::new(self.config.kv_budget_bytes)
        }
    }

    /// Verifies the invariants of the engine, the scheduler and the cache.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.scheduler.check()?;
        let live: usize = self.requests.values().map(|r| r.live.len()).sum();
        let known = |(arrival, r): (&u64, &Request)| {
            r.live.iter().all(|id| self.choices.get(id).is_some_and(|c| c.arrival == *arrival))
        };
        if live != self.choices.len() || !self.requests.iter().all(known) {
            return Err("a choice has no request, or a request lacks one of its choices".to_owned());
        }
        if self.is_idle() && self.scheduler.used() != self.scheduler.cached() {
            return Err("KV is set aside, but nothing runs".to_owned());
        }
        Ok(())
    }
}
