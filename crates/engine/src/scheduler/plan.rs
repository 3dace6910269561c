//! Planning a step: growing what runs, admitting what waits, and cutting prompts into chunks under the token budget.

use super::{PlannedRun, Scheduler};
use crate::{SeqId, Wanted};

/// Waiting sequences that do not fit and are looked past, for the sake of later ones that do.
const LOOKAHEAD: usize = 8;
/// How often one may be passed over before nobody passes it any more.
const PATIENCE: usize = 16;
/// Tokens by which each running sequence should be able to grow after an admission, so that one that was preempted does
/// not come back only to be preempted again.
const GROWTH: usize = 32;
/// Most tokens of a run that wants all its logits: each costs a row of the vocabulary's length.
const SCORED_CHUNK: usize = 32;

impl Scheduler {
    /// Plans the next step: the runs of one forward pass, after the actions queued until now. Empty only when there are
    /// no sequences. A plan that is not carried out may be planned again.
    pub(crate) fn plan(&mut self) -> Vec<PlannedRun> {
        self.grow_running();
        self.admit_waiting();
        self.cut_runs()
    }

    /// Sets KV aside for the tokens generated since the last plan, oldest sequences first. Where there is none left,
    /// cached blocks go first, then the latest sequences. Even one that runs alone may have to go: it holds twins of
    /// cached blocks on its way, and when it comes back it shares them.
    fn grow_running(&mut self) {
        for id in self.running.values().copied().collect::<Vec<_>>() {
            // Re-read each time: an older sequence may have preempted this one.
            while let Some(missing) = self.missing(id) {
                let latest = self.running.values().next_back().copied();
                if self.evict_until_free(missing) {
                    self.reserve_all(id);
                } else if self.running.len() > 1 || !self.raise_ceiling(self.used() + missing) {
                    latest.into_iter().for_each(|latest| self.preempt(latest));
                }
            }
        }
    }

    /// Tokens of KV to be set aside for a running sequence; `None` when there are none or it does not run.
    fn missing(&self, id: SeqId) -> Option<usize> {
        let seq = self.running_sequence(id)?;
        Some(seq.tokens.len() - seq.reserved).filter(|&n| n > 0)
    }

    /// Admits waiting sequences in order while there are places and KV. One that does not fit may be passed by later
    /// ones, but only so often.
    fn admit_waiting(&mut self) {
        let mut passed = Vec::new();
        for id in self.waiting.values().copied().collect::<Vec<_>>() {
            if self.running.len() >= self.max_sequences || passed.len() > LOOKAHEAD {
                return;
            }
            if self.awaits_prefix(id) {
                continue;
            }
            if self.admit(id) {
                for id in &passed {
                    self.sequence_mut(*id).passed_over += 1;
                }
            } else if self.sequence(id).passed_over >= PATIENCE {
                return;
            } else {
                passed.push(id);
            }
        }
    }

    /// Gives a waiting sequence KV for all its tokens, the cached ones from the cache. False when there is too little.
    fn admit(&mut self, id: SeqId) -> bool {
        let seq = self.sequence(id);
        let (salt, len, scored) = (seq.salt, seq.tokens.len(), seq.scored);
        if self.running.is_empty() {
            self.raise_ceiling(len);
        }
        // At least the last token is computed: its logits are wanted.
        let most = if scored { 0 } else { self.most_cached(len) };
        let tokens = std::mem::take(&mut self.sequence_mut(id).tokens);
        let hit = self.cache.lookup(salt, &tokens, most);
        self.sequence_mut(id).tokens = tokens;

        self.cache.pin(&hit);
        let shared = if self.shares_blocks { hit.len() * self.block_tokens } else { 0 };
        let fits = self.free() + self.evictable() >= len - shared + self.headroom(id);
        if !fits || !self.evict_until_free(len - shared) {
            self.cache.unpin(&hit);
            return false;
        }
        self.counters.lookup_tokens += if scored { 0 } else { len as u64 };
        self.counters.hit_tokens += (hit.len() * self.block_tokens) as u64;
        self.open(id, hit);
        true
    }

    /// Blocks that a sequence of `len` tokens may take from the cache.
    fn most_cached(&self, len: usize) -> usize {
        let most = (len - 1) / self.block_tokens;
        if self.shares_blocks {
            return most;
        }
        // Copies exist beside their blocks for a moment; both must fit even when the budget holds little else.
        most.min(self.ceiling.saturating_sub(len) / self.block_tokens)
    }

    /// KV to be left free when `id` is admitted.
    pub(super) fn headroom(&self, id: SeqId) -> usize {
        if self.running.is_empty() {
            return 0;
        }
        let growth = |id: SeqId| {
            let seq = self.sequence(id);
            seq.max_len.saturating_sub(seq.tokens.len()).min(GROWTH)
        };
        growth(id) + self.running.values().map(|&id| growth(id)).sum::<usize>()
    }

    /// Whether a running prefill is about to put a longer prefix of this waiting sequence into the cache than it holds
    /// now. Waiting for that costs less than computing it twice.
    fn awaits_prefix(&mut self, id: SeqId) -> bool {
        let seq = self.sequence(id);
        if seq.scored || !self.cache.is_enabled() {
            return false;
        }
        let is_ahead = |(leader, upto): &(SeqId, usize)| {
            self.running_sequence(*leader).is_some_and(|l| l.chain.tip.is_some() && l.computed < *upto)
        };
        let follows = seq.follows.filter(is_ahead).or_else(|| {
            let prefilling = self.running.values().filter(|&&l| self.sequence(l).is_prefilling());
            prefilling.map(|&l| (l, self.common_prefix(l, id))).find(is_ahead)
        });
        self.sequence_mut(id).follows = follows;
        follows.is_some()
    }

    /// Tokens in whole blocks that `a` computes and `b` could take from the cache.
    fn common_prefix(&self, a: SeqId, b: SeqId) -> usize {
        let (a, b) = (self.sequence(a), self.sequence(b));
        if a.salt != b.salt {
            return 0;
        }
        let equal = a.tokens.iter().zip(&b.tokens[..b.tokens.len() - 1]).take_while(|(a, b)| a == b).count();
        equal / self.block_tokens * self.block_tokens
    }

    /// One token for each decoding sequence, and shares of what the budget leaves for the prefilling ones.
    fn cut_runs(&self) -> Vec<PlannedRun> {
        let sequences = || self.running.values().map(|&id| (id, self.sequence(id)));
        let decoding = sequences().filter(|(_, seq)| !seq.is_prefilling()).count();
        let most = if decoding > 0 { self.chunk_beside_streams } else { usize::MAX };
        let budget = self.max_batch_tokens.saturating_sub(decoding).min(most).max(1);
        let wants: Vec<usize> = sequences()
            .filter(|(_, seq)| seq.is_prefilling())
            .map(|(_, seq)| seq.pending().min(if seq.scored { SCORED_CHUNK } else { usize::MAX }))
            .collect();
        let mut shares = share_out(budget, &wants).into_iter();
        sequences()
            .filter_map(|(seq, s)| {
                let len = if s.is_prefilling() { shares.next().unwrap_or(0) } else { 1 };
                let wanted = match (s.scored, s.computed + len == s.tokens.len()) {
                    (true, _) => Wanted::All,
                    (false, true) => Wanted::Last,
                    (false, false) => Wanted::None,
                };
                (len > 0).then_some(PlannedRun { seq, start: s.computed, len, wanted })
            })
            .collect()
    }
}

/// Divides a step's prompt tokens among prefills that still want so many each, oldest first. The oldest gets half, so
/// that none waits for ever; the shortest get the rest, so that a long prompt does not keep short ones waiting; what
/// they leave goes to the oldest again.
fn share_out(budget: usize, wants: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; wants.len()];
    let Some(&oldest) = wants.first() else { return shares };
    shares[0] = oldest.min(budget.div_ceil(2));
    let mut left = budget - shares[0];
    let mut others: Vec<usize> = (1..wants.len()).collect();
    others.sort_by_key(|&i| wants[i]);
    for i in others {
        shares[i] = wants[i].min(left);
        left -= shares[i];
    }
    shares[0] += left.min(oldest - shares[0]);
    shares
}

#[cfg(test)]
mod tests {
    use super::share_out;

    #[test]
    fn a_single_prompt_gets_the_whole_budget() {
        assert_eq!(share_out(512, &[5000]), [512]);
        assert_eq!(share_out(512, &[100]), [100]);
        assert_eq!(share_out(1, &[7]), [1]);
        assert_eq!(share_out(512, &[]), [0; 0]);
    }

    #[test]
    fn short_prompts_pass_a_long_one_which_keeps_at_least_half() {
        assert_eq!(share_out(512, &[5000, 100, 20]), [392, 100, 20]);
        assert_eq!(share_out(512, &[5000, 4000, 50]), [256, 206, 50]);
        assert_eq!(share_out(3, &[10, 10]), [2, 1]);
    }

    #[test]
    fn equally_long_prompts_go_in_order_of_age() {
        assert_eq!(share_out(100, &[60, 60, 60]), [50, 50, 0]);
        assert_eq!(share_out(100, &[10, 60, 60]), [10, 60, 30]);
    }
}
