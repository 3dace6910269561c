//! `ScriptBackend`: says what a test wants said. After the last `<|im_start|>assistant\n` of a prompt (or, without one,
//! after the prompt's first [`Script::after`] tokens) the likeliest next token is always the script's next one.

use std::collections::HashMap;
use std::time::Duration;

use perch_engine::{Backend, BackendError, BlockId, Limits, Run, SeqId, Wanted};

use crate::fixture::{CONTEXT, IM_END, IM_START, SPECIAL, VOCAB};
use crate::support::Held;

/// What to say, and how slowly.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    pub(crate) text: String,
    /// Tokens of the prompt, where it is no conversation.
    pub(crate) after: usize,
    pub(crate) step_delay: Duration,
}

impl Script {
    pub(crate) fn say(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// Its tokens: special ones by name, all others by byte; then the end of the turn, for ever.
    fn token(&self, index: usize) -> u32 {
        let mut tokens = Vec::new();
        let mut rest = self.text.as_str();
        while let Some(first) = rest.bytes().next() {
            let special = SPECIAL.iter().position(|special| rest.starts_with(special));
            match special {
                Some(i) => {
                    tokens.push(256 + i as u32);
                    rest = &rest[SPECIAL[i].len()..];
                }
                None => {
                    // Not all bytes are a whole character: they are taken from the text's own bytes.
                    let len = rest.chars().next().map_or(1, char::len_utf8);
                    tokens.extend(rest.as_bytes()[..len].iter().map(|b| u32::from(*b)));
                    debug_assert_eq!(u32::from(first), tokens[tokens.len() - len]);
                    rest = &rest[len..];
                }
            }
        }
        tokens.get(index).copied().unwrap_or(IM_END)
    }
}

pub(crate) struct ScriptBackend {
    script: Script,
    _memory: Held,
    sequences: HashMap<SeqId, Vec<u32>>,
    blocks: HashMap<BlockId, Vec<u32>>,
}

impl ScriptBackend {
    pub(crate) fn new(script: Script, memory: Held) -> Self {
        Self { script, _memory: memory, sequences: HashMap::new(), blocks: HashMap::new() }
    }

    fn next(&self, kv: &[u32]) -> u32 {
        let opening = "assistant\n".len();
        let begin = kv.iter().rposition(|t| *t == IM_START).map_or(self.script.after, |at| at + 1 + opening);
        kv.len().checked_sub(begin).map_or(IM_END, |index| self.script.token(index))
    }
}

impl Backend for ScriptBackend {
    fn limits(&self) -> Limits {
        Limits {
            vocab_size: VOCAB,
            context_length: CONTEXT,
            block_tokens: 16,
            kv_bytes_per_token: 1,
            shares_blocks: false,
        }
    }

    fn open(&mut self, seq: SeqId, prefix: &[BlockId]) -> Result<(), BackendError> {
        let kv = prefix.iter().flat_map(|block| self.blocks[block].clone()).collect();
        self.sequences.insert(seq, kv);
        Ok(())
    }

    fn fork(&mut self, from: SeqId, to: SeqId) -> Result<(), BackendError> {
        let kv = self.sequences[&from].clone();
        self.sequences.insert(to, kv);
        Ok(())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), BackendError> {
        self.sequences.get_mut(&seq).into_iter().for_each(|kv| kv.truncate(len));
        Ok(())
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.remove(&seq);
    }

    fn save(&mut self, seq: SeqId, index: usize, block: BlockId) -> Result<(), BackendError> {
        let tokens = self.sequences[&seq][index * 16..(index + 1) * 16].to_vec();
        self.blocks.insert(block, tokens);
        Ok(())
    }

    fn forget(&mut self, block: BlockId) {
        self.blocks.remove(&block);
    }

    fn forward(&mut self, batch: &[Run<'_>]) -> Result<Vec<f32>, BackendError> {
        std::thread::sleep(self.script.step_delay);
        let mut logits = Vec::new();
        for run in batch {
            for (i, &token) in run.tokens.iter().enumerate() {
                let kv = self.sequences.get_mut(&run.seq).expect("the engine opens what it runs");
                kv.push(token);
                let last = i + 1 == run.tokens.len();
                if run.wanted == Wanted::All || (run.wanted == Wanted::Last && last) {
                    let next = self.next(&self.sequences[&run.seq]) as usize;
                    // Later tokens are a little likelier than earlier ones, so that the order is never a tie.
                    let row = (0..VOCAB).map(|t| if t == next { 12.0 } else { t as f32 * 1e-3 });
                    logits.extend(row);
                }
            }
        }
        Ok(logits)
    }
}
