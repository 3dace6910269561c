//! The integrity check: everything that is kept incrementally is counted afresh.

use std::collections::HashMap;

use super::Scheduler;

impl Scheduler {
    /// Verifies the invariants of the scheduler and its cache.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_places()?;
        let mut pins = HashMap::new();
        for block in self.sequences.values().flat_map(|seq| &seq.chain.pinned) {
            *pins.entry(*block).or_insert(0) += 1;
        }
        self.cache.check(&pins)?;
        let private: usize = self.sequences.values().map(|seq| seq.private(self.block_tokens)).sum();
        if private != self.private {
            return Err(format!("sequences hold {private} tokens, but the ledger says {}", self.private));
        }
        if self.used() > self.budget {
            return Err(format!("{} tokens are set aside of a budget of {}", self.used(), self.budget));
        }
        Ok(())
    }

    /// Each sequence is in one place, with the KV that goes with it.
    fn check_places(&self) -> Result<(), String> {
        if self.running.len() + self.waiting.len() != self.sequences.len() {
            return Err("a sequence neither runs nor waits".to_owned());
        }
        for (id, seq) in &self.sequences {
            let runs = self.running.get(&seq.order) == Some(id);
            let waits = self.waiting.get(&seq.order) == Some(id);
            if runs == waits {
                return Err(format!("{id:?} must either run or wait"));
            }
            if waits && (seq.computed, seq.reserved, seq.chain.len) != (0, 0, 0) {
                return Err(format!("{id:?} waits, but holds KV"));
            }
            if seq.computed > seq.reserved || seq.reserved > seq.tokens.len() {
                return Err(format!("{id:?} has computed more than was set aside"));
            }
        }
        Ok(())
    }
}
