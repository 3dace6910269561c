//! `Conformance`: the `Backend` contract as tests that any backend can run, on a small model of its own.
//!
//! Each method panics with what is wrong. A backend calls them from its own tests, one by one or all together:
//!
//! ```
//! use perch_engine::testing::{Conformance, FakeBackend, FakeModel, Probe};
//!
//! let tiny_model = || FakeBackend::new(FakeModel::default(), Probe::default());
//! Conformance::new(tiny_model, 0.0).all(3);
//! ```

use crate::testing::{Workload, pick};
use crate::{Backend, BackendError, BlockId, Draw, Limits, Run, SeqId, Wanted};

/// The suite for the backends that `make` builds.
pub struct Conformance<F> {
    make: F,
    tolerance: f32,
}

impl<B: Backend, F: Fn() -> B> Conformance<F> {
    /// A suite in which logits may differ by `tolerance` (0: bit for bit). The model should have random, not constant,
    /// weights and a context of at least three blocks and 40 tokens.
    pub fn new(make: F, tolerance: f32) -> Self {
        Self { make, tolerance }
    }

    /// All of the suite, workloads with seeds below `workloads` included.
    pub fn all(&self, workloads: u64) {
        self.batches_equal_single_runs();
        self.chunks_equal_whole_prompts();
        self.all_rows_equal_last_rows();
        self.saved_blocks_equal_computed_ones();
        self.forks_equal_their_origin();
        self.truncated_sequences_go_on_as_if_new();
        self.drawn_tokens_are_those_of_the_logits();
        self.errors_change_nothing();
        self.unknown_ids_are_closed_and_forgotten_in_silence();
        self.workloads_equal_sequential_runs(0..workloads);
    }

    /// Sequences of different lengths in one pass get the logits that each gets alone.
    pub fn batches_equal_single_runs(&self) {
        let mut t = self.bench();
        let prompts: Vec<Vec<u32>> = (0..4).map(|i| t.prompt(i, 1 + 9 * i as usize)).collect();
        let alone: Vec<Vec<f32>> = prompts.iter().map(|p| t.alone(p)).collect();
        let seqs: Vec<SeqId> = (0..4).map(SeqId).collect();
        seqs.iter().for_each(|&seq| t.open(seq, &[]));
        // Prefill of some beside decoding of others: all but the last token of the even ones goes first.
        for (&seq, prompt) in seqs.iter().zip(&prompts).filter(|(seq, p)| seq.0 % 2 == 0 && p.len() > 1) {
            t.run(seq, 0, &prompt[..prompt.len() - 1], Wanted::None);
        }
        let batch: Vec<Run<'_>> = seqs
            .iter()
            .zip(&prompts)
            .map(|(&seq, prompt)| {
                let position = if seq.0 % 2 == 0 { prompt.len() - 1 } else { 0 };
                Run { seq, tokens: &prompt[position..], position, wanted: Wanted::Last }
            })
            .collect();
        let rows = t.backend.forward(&batch).expect("a valid batch must run");
        t.same(&rows, &alone.concat(), "a batch, not single runs");
    }

    /// A prompt cut anywhere gets the logits of the whole.
    pub fn chunks_equal_whole_prompts(&self) {
        let mut t = self.bench();
        let prompt = t.prompt(1, t.block + 19);
        let whole = t.alone(&prompt);
        for cut in [1, 2, t.block - 1, t.block, t.block + 1, prompt.len() - 1] {
            if cut == 0 {
                continue;
            }
            let seq = SeqId(0);
            t.open(seq, &[]);
            t.run(seq, 0, &prompt[..cut], Wanted::None);
            let row = t.run(seq, cut, &prompt[cut..], Wanted::Last);
            t.same(&row, &whole, &format!("a prompt cut at {cut}"));
            t.backend.close(seq);
        }
    }

    /// `Wanted::All` gives for each token the row that `Wanted::Last` gives when the run ends there.
    pub fn all_rows_equal_last_rows(&self) {
        let mut t = self.bench();
        let prompt = t.prompt(2, 12);
        t.open(SeqId(0), &[]);
        let all = t.run(SeqId(0), 0, &prompt, Wanted::All);
        assert_eq!(all.len(), prompt.len() * t.limits.vocab_size, "Wanted::All gives one row per token");
        for (i, row) in all.chunks(t.limits.vocab_size).enumerate() {
            let last = t.alone(&prompt[..=i]);
            t.same(row, &last, &format!("row {i} of all rows"));
        }
        t.open(SeqId(1), &[]);
        assert!(t.run(SeqId(1), 0, &prompt, Wanted::None).is_empty(), "Wanted::None gives no row");
    }

    /// A sequence opened with saved blocks goes on as if it had computed them, also after their origin is closed, and
    /// keeps its KV when they are forgotten.
    pub fn saved_blocks_equal_computed_ones(&self) {
        let mut t = self.bench();
        let prompt = t.prompt(3, 2 * t.block + 3);
        let whole = t.alone(&prompt);
        let (origin, heir, twin) = (SeqId(0), SeqId(1), SeqId(2));
        let blocks = [BlockId(7), BlockId(u64::MAX)];
        t.open(origin, &[]);
        t.run(origin, 0, &prompt, Wanted::None);
        for (index, &block) in blocks.iter().enumerate() {
            t.backend.save(origin, index, block).expect("a complete block must be saved");
        }
        t.open(twin, &blocks[..1]);
        t.backend.close(origin);
        t.open(heir, &blocks);
        blocks.iter().for_each(|&block| t.backend.forget(block));
        let row = t.run(heir, 2 * t.block, &prompt[2 * t.block..], Wanted::Last);
        t.same(&row, &whole, "two saved blocks");
        let row = t.run(twin, t.block, &prompt[t.block..], Wanted::Last);
        t.same(&row, &whole, "one saved block");
        let again = t.run(heir, prompt.len(), &[1], Wanted::Last);
        let twin = t.run(twin, prompt.len(), &[1], Wanted::Last);
        t.same(&again, &twin, "a sequence whose blocks were forgotten");
    }

    /// Two sequences forked from one go their own ways, and as each would alone.
    pub fn forks_equal_their_origin(&self) {
        let mut t = self.bench();
        let prompt = t.prompt(4, t.block + 5);
        let (a, b) = (SeqId(0), SeqId(1));
        t.open(a, &[]);
        t.run(a, 0, &prompt, Wanted::None);
        t.backend.fork(a, b).expect("an open sequence must fork");
        for (seq, token) in [(a, 1), (b, 2)] {
            let alone = t.alone(&[&prompt[..], &[token]].concat());
            let row = t.run(seq, prompt.len(), &[token], Wanted::Last);
            t.same(&row, &alone, "a fork");
        }
        t.backend.close(a);
        let alone = t.alone(&[&prompt[..], &[2, 3]].concat());
        let row = t.run(b, prompt.len() + 1, &[3], Wanted::Last);
        t.same(&row, &alone, "a fork whose origin was closed");
    }

    /// After `truncate`, a sequence goes on as if the rest had never been.
    pub fn truncated_sequences_go_on_as_if_new(&self) {
        let mut t = self.bench();
        let prompt = t.prompt(5, t.block + 7);
        let whole = t.alone(&prompt);
        let seq = SeqId(0);
        t.open(seq, &[]);
        t.run(seq, 0, &prompt[..3], Wanted::None);
        let noise = t.prompt(6, t.block + 2);
        t.run(seq, 3, &noise, Wanted::None);
        t.backend.truncate(seq, 3).expect("an open sequence can be cut");
        let row = t.run(seq, 3, &prompt[3..], Wanted::Last);
        t.same(&row, &whole, "a truncated sequence");
    }

    /// A backend that draws gives the tokens that its logits give, also where sequences come and go, are cut, or go another
    /// way than what was drawn.
    pub fn drawn_tokens_are_those_of_the_logits(&self) {
        // The oracle is a backend of its own: to ask this one for logits ends what it has begun ahead.
        let (mut t, mut oracle) = (self.bench(), self.bench());
        if !t.backend.draws() {
            return;
        }
        let mut texts: Vec<Vec<u32>> = (0..4).map(|i| t.prompt(20 + i, 3 + 11 * i as usize)).collect();
        let mut computed = [0; 4];
        let seqs: Vec<SeqId> = (0..4).map(SeqId).collect();
        seqs.iter().for_each(|&seq| t.open(seq, &[]));
        for step in 0..24_usize {
            match step {
                // The token after a cut is another one than was drawn there.
                6 => {
                    let len = texts[0].len() - 4;
                    t.backend.truncate(seqs[0], len).expect("an open sequence can be cut");
                    (computed[0], texts[0]) = (len, [&texts[0][..len], &[1]].concat());
                }
                9 => *texts[1].last_mut().expect("a text is not empty") ^= 1,
                12 => {
                    t.backend.close(seqs[2]);
                    t.open(seqs[2], &[]);
                    (computed[2], texts[2]) = (0, t.prompt(30, t.block + 4));
                }
                // The engine asks for logits in between.
                15 => {
                    let row = t.run(seqs[3], computed[3], &texts[3][computed[3]..], Wanted::Last);
                    let expected = oracle.alone(&texts[3]);
                    t.same(&row, &expected, "logits between drawn tokens");
                    computed[3] = texts[3].len();
                    texts[3].push(2);
                }
                _ => {}
            }
            // Now and then one sits out; a long prompt goes in two chunks.
            let runs: Vec<(usize, usize)> = (0..4)
                .filter(|i| (step + i) % 7 != 0)
                .map(|i| {
                    (i, if texts[i].len() - computed[i] > 20 { 15 } else { texts[i].len() - computed[i] })
                })
                .collect();
            let is_last = |&(i, len): &(usize, usize)| computed[i] + len == texts[i].len();
            // One that might have ended now and then is not said to go on.
            let draw = |&(i, _): &(usize, usize)| t.draw(i, texts[i].len(), step % 6 != 5 || i != 0);
            let draws: Vec<Draw> = runs.iter().filter(|run| is_last(run)).map(draw).collect();
            let batch: Vec<Run<'_>> = runs
                .iter()
                .map(|&(i, len)| Run {
                    seq: seqs[i],
                    tokens: &texts[i][computed[i]..computed[i] + len],
                    position: computed[i],
                    wanted: if is_last(&(i, len)) { Wanted::Last } else { Wanted::None },
                })
                .collect();
            let tokens = t.backend.forward_drawn(&batch, &draws).expect("a valid batch must run");
            assert_eq!(tokens.len(), draws.len(), "one token for each draw");
            let drawn: Vec<usize> = runs.iter().filter(|run| is_last(run)).map(|run| run.0).collect();
            for &(i, len) in &runs {
                computed[i] += len;
            }
            for ((i, draw), token) in drawn.into_iter().zip(draws).zip(tokens) {
                let mut row = oracle.alone(&texts[i]);
                let expected = pick(&draw, &mut row);
                assert_eq!(token, expected, "step {step}: a token of sequence {i}, drawn by {draw:?}");
                texts[i].extend(token);
            }
        }
    }

    /// Invalid calls are refused with `Invalid`, and what was there goes on as before.
    pub fn errors_change_nothing(&self) {
        let mut t = self.bench();
        let prompt = t.prompt(7, 9);
        let whole = t.alone(&prompt);
        let (good, unknown) = (SeqId(0), SeqId(99));
        t.open(good, &[]);
        t.run(good, 0, &prompt[..8], Wanted::None);
        let last = Run { seq: good, tokens: &prompt[8..], position: 8, wanted: Wanted::Last };
        let outside = [t.limits.vocab_size as u32];
        let bad_runs = [
            ("an unknown sequence", Run { seq: unknown, position: 0, ..last }),
            ("no tokens", Run { tokens: &[], ..last }),
            ("a position that does not follow", Run { position: 3, ..last }),
            ("a token outside the vocabulary", Run { tokens: &outside, ..last }),
        ];
        for (what, bad) in bad_runs {
            let result = t.backend.forward(&[bad]).map(|_| ());
            is_invalid(result, what);
        }
        is_invalid(t.backend.forward(&[last, Run { seq: unknown, ..last }]).map(|_| ()), "half a bad batch");
        is_invalid(t.backend.fork(unknown, SeqId(3)), "a fork of an unknown sequence");
        is_invalid(t.backend.save(unknown, 0, BlockId(0)), "a save of an unknown sequence");
        is_invalid(t.backend.save(good, 1000, BlockId(0)), "a save beyond what was computed");
        is_invalid(t.backend.open(SeqId(4), &[BlockId(12345)]), "an unknown block");
        let row = t.backend.forward(&[last]).expect("the sequence must go on");
        t.same(&row, &whole, "a sequence after errors");
    }

    /// Closing and forgetting what is not there does nothing.
    pub fn unknown_ids_are_closed_and_forgotten_in_silence(&self) {
        let mut t = self.bench();
        t.backend.close(SeqId(5));
        t.backend.forget(BlockId(5));
        t.backend.trim();
        let prompt = t.prompt(8, 5);
        assert_eq!(t.alone(&prompt).len(), t.limits.vocab_size);
    }

    /// Whole engines on this backend, short of memory, places or tokens per step, give every request what a sequential
    /// run gives it.
    pub fn workloads_equal_sequential_runs(&self, seeds: std::ops::Range<u64>) {
        let limits = (self.make)().limits();
        for seed in seeds {
            let workload = Workload::random(seed, &limits, self.tolerance > 0.0);
            if let Err(error) = workload.check(&self.make, self.tolerance) {
                panic!("workload {seed}: {error}\n{workload:#?}");
            }
        }
    }

    fn bench(&self) -> Bench<B> {
        let backend = (self.make)();
        let limits = backend.limits();
        Bench { backend, block: limits.block_tokens, limits, tolerance: self.tolerance }
    }
}

fn is_invalid(result: Result<(), BackendError>, what: &str) {
    assert!(matches!(result, Err(BackendError::Invalid(_))), "{what} must be Invalid, not {result:?}");
}

/// A backend under test.
struct Bench<B> {
    backend: B,
    limits: Limits,
    block: usize,
    tolerance: f32,
}

impl<B: Backend> Bench<B> {
    /// `len` tokens that look random; the same for the same `kind`.
    fn prompt(&self, kind: u32, len: usize) -> Vec<u32> {
        let token = |i: u32| (i.wrapping_mul(2_654_435_761) ^ kind.wrapping_mul(40_503)) >> 7;
        (1..=len as u32).map(|i| token(i) % self.limits.vocab_size as u32).collect()
    }

    /// How the token at `position` of sequence `kind` is drawn.
    fn draw(&self, kind: usize, position: usize, goes_on: bool) -> Draw {
        let place = |position: usize| {
            f64::from((position as u32).wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24)
        };
        let (temperature, top_k, top_p, min_p) =
            [(0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (0.8, 20, 0.9, 0.0), (1.2, 0, 1.0, 0.1)][kind];
        let then = goes_on.then(|| place(position + 1));
        Draw { temperature, top_k, top_p, min_p, at: place(position), then }
    }

    fn open(&mut self, seq: SeqId, prefix: &[BlockId]) {
        self.backend.open(seq, prefix).expect("a new sequence must open");
    }

    fn run(&mut self, seq: SeqId, position: usize, tokens: &[u32], wanted: Wanted) -> Vec<f32> {
        self.backend.forward(&[Run { seq, tokens, position, wanted }]).expect("a valid run must succeed")
    }

    /// The logits after `tokens`, run in one pass in a sequence of their own.
    fn alone(&mut self, tokens: &[u32]) -> Vec<f32> {
        let seq = SeqId(1_000_000);
        self.open(seq, &[]);
        let row = self.run(seq, 0, tokens, Wanted::Last);
        self.backend.close(seq);
        row
    }

    fn same(&self, got: &[f32], expected: &[f32], what: &str) {
        assert_eq!(got.len(), expected.len(), "{what}: number of logits");
        let near = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a - b).abs() <= self.tolerance;
        if let Some(i) = got.iter().zip(expected).position(|(&a, &b)| !near(a, b)) {
            panic!("{what}: logit {i} is {}, but alone it is {}", got[i], expected[i]);
        }
    }
}
