//! `Chains`: the order in which tiles walk along a row.
//!
//! A dot product is sixteen lanes, lane `l` taking elements `l, l + 16, …` (`portable.rs`). Where a kernel has one
//! register for many rows, it runs the lanes one after another and needs only one sum at a time. It visits them in
//! bit-reversed order, so that the final fold (8, 4, 2, 1) can be done on the way with four partial sums kept. Weights
//! and activations are packed in the order of the visit.

/// Lanes in the order of the visit.
const ORDER: [usize; 16] = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];

/// Lanes of a row of some number of elements (blocks, or double words).
#[derive(Debug, Clone)]
pub(super) struct Chains {
    /// Length of every chain, in the order of the visit.
    lengths: [usize; 16],
    /// Where each lane begins in the order of the visit.
    start: [usize; 16],
    /// Unused places after each chain.
    gap: usize,
}

impl Chains {
    /// Of a row of `len` elements.
    pub(super) fn new(len: usize) -> Self {
        Self::with_gap(len, 0)
    }

    /// The same with `gap` unused places after each chain. Packing writes to all chains in turn; without a gap chains
    /// of a round length would all begin in the same set of the cache.
    pub(super) fn with_gap(len: usize, gap: usize) -> Self {
        let lengths = ORDER.map(|lane| (len + 15 - lane) / 16);
        let mut start = [0; 16];
        let mut at = 0;
        for (lane, length) in ORDER.iter().zip(lengths) {
            start[*lane] = at;
            at += length + gap;
        }
        Self { lengths, start, gap }
    }

    /// When element `i` of the row is visited.
    #[inline]
    pub(super) fn position(&self, i: usize) -> usize {
        self.start[i % 16] + i / 16
    }

    /// The chains' lengths, in the order of the visit.
    #[inline]
    pub(super) fn lengths(&self) -> [usize; 16] {
        self.lengths
    }

    /// Unused places after each chain.
    #[inline]
    pub(super) fn gap(&self) -> usize {
        self.gap
    }
}

/// How many partial sums to fold into the new one after the chain of this number (from 0): its trailing ones.
#[inline]
pub(super) fn folds_after(chain: usize) -> usize {
    chain.trailing_ones() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_has_a_position_of_its_own() {
        for len in [1, 5, 16, 18, 28, 32, 97] {
            let chains = Chains::new(len);
            let mut seen: Vec<usize> = (0..len).map(|i| chains.position(i)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..len).collect::<Vec<_>>());
            assert_eq!(chains.lengths().iter().sum::<usize>(), len);
            let spaced = Chains::with_gap(len, 3);
            let places: std::collections::HashSet<usize> = (0..len).map(|i| spaced.position(i)).collect();
            assert!(places.len() == len && places.iter().all(|place| *place < len + 16 * 3));
        }
    }

    #[test]
    fn folding_on_the_way_is_the_fold_by_halves() {
        // Sums of names instead of numbers: the tree itself is compared.
        let mut lanes: Vec<String> = (0..16).map(|l| l.to_string()).collect();
        for half in [8, 4, 2, 1] {
            lanes = (0..half).map(|l| format!("({}+{})", lanes[l], lanes[l + half])).collect();
        }
        let mut stack: Vec<String> = Vec::new();
        for (i, lane) in ORDER.iter().enumerate() {
            let mut sum = lane.to_string();
            for _ in 0..folds_after(i) {
                sum = format!("({}+{sum})", stack.pop().unwrap());
            }
            stack.push(sum);
        }
        assert_eq!(stack, lanes);
    }
}
