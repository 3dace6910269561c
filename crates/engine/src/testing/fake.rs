//! `FakeBackend`: a backend without weights whose next-token logits are a hash of all tokens its KV holds.
//!
//! Its KV *is* the tokens: sequences and saved blocks store them, and logits are computed from what is stored, never from
//! what the engine says. So a wrong position, a block of another prompt or a lost token shows as different text.
//!
//! It keeps the memory that [`Limits`] promise: with `shares_blocks`, a block and all sequences that use it hold its
//! tokens once; without, each holds a copy.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sampler::{Workspace, pick};
use crate::{Backend, BackendError, BlockId, Draw, Limits, Run, SeqId, Wanted};

/// What a fake model is like. Start from `default()` and change what matters.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeModel {
    /// What the engine is told.
    pub limits: Limits,
    /// KV bytes after which it is out of memory, whatever the engine's budget; `None` for no bound.
    pub memory_bytes: Option<u64>,
    /// How long a forward pass takes, whatever it runs.
    pub step_delay: Duration,
    /// How much longer for each token that it runs.
    pub token_delay: Duration,
    /// What goes wrong, and at which forward pass, counted from 0 over all backends of one [`Probe`].
    pub faults: Vec<(u64, Fault)>,
    /// A run with this token is invalid.
    pub poison: Option<u32>,
    /// Whether it draws tokens itself.
    pub draws: bool,
}

/// What a forward pass can come to, instead of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It panics.
    Panic,
    /// It returns [`BackendError::Fatal`].
    Fatal,
    /// It returns [`BackendError::OutOfMemory`].
    OutOfMemory,
    /// It returns [`BackendError::Invalid`].
    Invalid,
    /// All logits are NaN.
    Nan,
}

impl Default for FakeModel {
    /// A vocabulary of 64, a context of 4096, blocks of 16 tokens that are copied, 1 byte of KV per token, no faults.
    fn default() -> Self {
        Self {
            limits: Limits {
                vocab_size: 64,
                context_length: 4096,
                block_tokens: 16,
                kv_bytes_per_token: 1,
                shares_blocks: false,
            },
            memory_bytes: None,
            step_delay: Duration::ZERO,
            token_delay: Duration::ZERO,
            faults: Vec::new(),
            poison: None,
            draws: false,
        }
    }
}

/// What fake backends have done, seen from outside their thread. Shared by all backends built with a clone of it.
#[derive(Debug, Clone, Default)]
pub struct Probe(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    batches: Vec<Vec<(SeqId, usize, usize)>>,
    peak_bytes: u64,
    used_bytes: u64,
    sequences: usize,
    blocks: usize,
    trims: u64,
}

impl Probe {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every forward pass: the sequence, position and number of tokens of each run.
    pub fn batches(&self) -> Vec<Vec<(SeqId, usize, usize)>> {
        self.record().batches.clone()
    }

    /// Most bytes of KV that were held at once.
    pub fn peak_bytes(&self) -> u64 {
        self.record().peak_bytes
    }

    /// Bytes of KV held now.
    pub fn used_bytes(&self) -> u64 {
        self.record().used_bytes
    }

    /// Open sequences.
    pub fn sequences(&self) -> usize {
        self.record().sequences
    }

    /// Saved blocks.
    pub fn blocks(&self) -> usize {
        self.record().blocks
    }

    /// Calls of `trim`.
    pub fn trims(&self) -> u64 {
        self.record().trims
    }
}

/// Tokens that a saved block holds, counted as long as anyone holds it.
struct Block {
    tokens: Vec<u32>,
    live: Rc<Cell<usize>>,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.live.set(self.live.get() - 1);
    }
}

/// A sequence's KV.
#[derive(Clone, Default)]
struct Kv {
    tokens: Vec<u32>,
    /// Blocks (by index) whose memory holds its tokens; empty where blocks are copies.
    shared: BTreeMap<usize, Rc<Block>>,
}

/// See the module's page.
pub struct FakeBackend {
    model: FakeModel,
    probe: Probe,
    sequences: HashMap<SeqId, Kv>,
    blocks: HashMap<BlockId, Rc<Block>>,
    /// Distinct blocks alive, forgotten ones that sequences still use included.
    live_blocks: Rc<Cell<usize>>,
    space: Workspace,
}

impl FakeBackend {
    /// A backend that reports to `probe`.
    pub fn new(model: FakeModel, probe: Probe) -> Self {
        Self {
            model,
            probe,
            sequences: HashMap::new(),
            blocks: HashMap::new(),
            live_blocks: Rc::default(),
            space: Workspace::default(),
        }
    }

    /// Bytes of KV that it holds.
    fn used_bytes(&self) -> u64 {
        let block = self.model.limits.block_tokens;
        let private: usize =
            self.sequences.values().map(|kv| kv.tokens.len() - kv.shared.len() * block).sum();
        (private + self.live_blocks.get() * block) as u64 * self.model.limits.kv_bytes_per_token as u64
    }

    fn note(&self) {
        let used = self.used_bytes();
        let mut record = self.probe.record();
        record.used_bytes = used;
        record.peak_bytes = record.peak_bytes.max(used);
        record.sequences = self.sequences.len();
        record.blocks = self.blocks.len();
    }

    fn reserve(&self, tokens: usize) -> Result<(), BackendError> {
        let needed = self.used_bytes() + (tokens * self.model.limits.kv_bytes_per_token) as u64;
        match self.model.memory_bytes {
            Some(bound) if needed > bound => {
                Err(BackendError::OutOfMemory(format!("{needed} bytes are needed, there are {bound}")))
            }
            _ => Ok(()),
        }
    }

    fn sequence(&self, seq: SeqId) -> Result<&Kv, BackendError> {
        self.sequences.get(&seq).ok_or_else(|| invalid(format!("{seq:?} is not open")))
    }

    fn insert(&mut self, seq: SeqId, kv: Kv) -> Result<(), BackendError> {
        if self.sequences.contains_key(&seq) {
            return Err(invalid(format!("{seq:?} is open already")));
        }
        self.sequences.insert(seq, kv);
        self.note();
        Ok(())
    }

    fn check(&self, batch: &[Run<'_>]) -> Result<(), BackendError> {
        let limits = &self.model.limits;
        let mut seen = HashSet::new();
        for run in batch {
            let kv = self.sequence(run.seq)?;
            if run.tokens.is_empty() || run.position != kv.tokens.len() || !seen.insert(run.seq) {
                return Err(invalid(format!("{run:?} does not continue {} tokens", kv.tokens.len())));
            }
            if run.position + run.tokens.len() > limits.context_length {
                return Err(invalid(format!("{:?} leaves the context", run.seq)));
            }
            let bad = |&&t: &&u32| t as usize >= limits.vocab_size || Some(t) == self.model.poison;
            if let Some(token) = run.tokens.iter().find(bad) {
                return Err(invalid(format!("token {token} cannot be run")));
            }
        }
        Ok(())
    }

    fn fault(&self) -> Option<Fault> {
        let pass = self.probe.record().batches.len() as u64 - 1;
        self.model.faults.iter().find(|(at, _)| *at == pass).map(|(_, fault)| *fault)
    }
}

fn invalid(message: String) -> BackendError {
    BackendError::Invalid(message)
}

impl Backend for FakeBackend {
    fn limits(&self) -> Limits {
        self.model.limits.clone()
    }

    fn open(&mut self, seq: SeqId, prefix: &[BlockId]) -> Result<(), BackendError> {
        let mut kv = Kv::default();
        for (index, id) in prefix.iter().enumerate() {
            let block = self.blocks.get(id).ok_or_else(|| invalid(format!("{id:?} is not saved")))?;
            kv.tokens.extend(&block.tokens);
            if self.model.limits.shares_blocks {
                kv.shared.insert(index, block.clone());
            }
        }
        if !self.model.limits.shares_blocks {
            self.reserve(kv.tokens.len())?;
        }
        self.insert(seq, kv)
    }

    fn fork(&mut self, from: SeqId, to: SeqId) -> Result<(), BackendError> {
        let kv = self.sequence(from)?.clone();
        self.reserve(kv.tokens.len() - kv.shared.len() * self.model.limits.block_tokens)?;
        self.insert(to, kv)
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), BackendError> {
        let block = self.model.limits.block_tokens;
        self.sequence(seq)?;
        if let Some(kv) = self.sequences.get_mut(&seq) {
            kv.tokens.truncate(len);
            kv.shared.retain(|index, _| (index + 1) * block <= len);
        }
        self.note();
        Ok(())
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.remove(&seq);
        self.note();
    }

    fn save(&mut self, seq: SeqId, index: usize, id: BlockId) -> Result<(), BackendError> {
        let Limits { block_tokens, shares_blocks, .. } = self.model.limits;
        let range = index * block_tokens..(index + 1) * block_tokens;
        let tokens = self.sequence(seq)?.tokens.get(range).map(<[u32]>::to_vec);
        let tokens = tokens.ok_or_else(|| invalid(format!("block {index} of {seq:?} is not complete")))?;
        if self.blocks.contains_key(&id) {
            return Err(invalid(format!("{id:?} is saved already")));
        }
        if !shares_blocks {
            self.reserve(block_tokens)?;
        }
        self.live_blocks.set(self.live_blocks.get() + 1);
        let block = Rc::new(Block { tokens, live: self.live_blocks.clone() });
        if shares_blocks && let Some(kv) = self.sequences.get_mut(&seq) {
            kv.shared.insert(index, block.clone());
        }
        self.blocks.insert(id, block);
        self.note();
        Ok(())
    }

    fn forget(&mut self, block: BlockId) {
        self.blocks.remove(&block);
        self.note();
    }

    fn forward(&mut self, batch: &[Run<'_>]) -> Result<Vec<f32>, BackendError> {
        let runs = batch.iter().map(|run| (run.seq, run.position, run.tokens.len())).collect();
        self.probe.record().batches.push(runs);
        let tokens: usize = batch.iter().map(|run| run.tokens.len()).sum();
        let delay = self.model.step_delay + self.model.token_delay * tokens as u32;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let fault = self.fault();
        match fault {
            Some(Fault::Panic) => panic!("a scripted panic"),
            Some(Fault::Fatal) => return Err(BackendError::Fatal("a scripted failure".to_owned())),
            Some(Fault::OutOfMemory) => return Err(BackendError::OutOfMemory("scripted".to_owned())),
            Some(Fault::Invalid) => return Err(invalid("scripted".to_owned())),
            Some(Fault::Nan) | None => {}
        }
        self.check(batch)?;
        self.reserve(tokens)?;
        let vocab = self.model.limits.vocab_size;
        let mut logits = Vec::new();
        for run in batch {
            let Some(kv) = self.sequences.get_mut(&run.seq) else { continue };
            for (i, &token) in run.tokens.iter().enumerate() {
                kv.tokens.push(token);
                let wanted = match run.wanted {
                    Wanted::None => false,
                    Wanted::Last => i + 1 == run.tokens.len(),
                    Wanted::All => true,
                };
                if wanted {
                    let state = hash(&kv.tokens);
                    logits.extend((0..vocab as u64).map(|token| logit(state, token)));
                }
            }
        }
        self.note();
        if fault == Some(Fault::Nan) {
            logits.fill(f32::NAN);
        }
        Ok(logits)
    }

    fn draws(&self) -> bool {
        self.model.draws
    }

    fn forward_drawn(&mut self, batch: &[Run<'_>], draws: &[Draw]) -> Result<Vec<Option<u32>>, BackendError> {
        let mut logits = self.forward(batch)?;
        let rows = logits.chunks_exact_mut(self.model.limits.vocab_size);
        Ok(rows.zip(draws).map(|(row, draw)| pick(draw, row, &mut self.space)).collect())
    }

    fn trim(&mut self) {
        self.probe.record().trims += 1;
    }
}

/// SplitMix64's finaliser.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn hash(tokens: &[u32]) -> u64 {
    tokens.iter().fold(0x9e37_79b9_7f4a_7c15, |state, &token| mix(state ^ mix(u64::from(token) + 1)))
}

/// Between −6 and 6, most of them near 0: a distribution with a few likely tokens.
fn logit(state: u64, token: u64) -> f32 {
    let bits = mix(state.wrapping_add(mix(token + 1)));
    let uniform = |bits: u64| (bits & 0xff_ffff) as f32 / (1 << 24) as f32 - 0.5;
    (uniform(bits) + uniform(bits >> 24)) * 6.0
}
