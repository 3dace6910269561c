//! Finding the largest of many logits without sorting them.
//!
//! One pass keeps the maximum of each chunk of the row. The greatest logit is then in the chunk with the greatest
//! maximum, and no logit below the k-th greatest maximum is among the k greatest, so only chunks above it are read again.
//!
//! NaN counts as negative infinity throughout: a comparison with it is false.

use std::cmp::Ordering;

const CHUNK: usize = 64;
const LANES: usize = 16;

/// The maxima of a row's chunks, and room to work in; kept between rows.
#[derive(Default)]
pub(crate) struct Maxima {
    chunks: Vec<f32>,
    scratch: Vec<f32>,
}

impl Maxima {
    /// Reads `row` once. Returns its maximum: negative infinity where no element is greater than that.
    pub(crate) fn read(&mut self, row: &[f32]) -> f32 {
        self.chunks.clear();
        self.chunks.extend(row.chunks(CHUNK).map(maximum));
        maximum(&self.chunks)
    }

    /// The index of `max`, the maximum of the row that was read; the lowest one of equals.
    pub(crate) fn position(&self, row: &[f32], max: f32) -> Option<usize> {
        let chunk = self.chunks.iter().position(|&m| m == max)?;
        let start = chunk * CHUNK;
        let end = row.len().min(start + CHUNK);
        row[start..end].iter().position(|&x| x == max).map(|i| start + i)
    }

    /// The `k` greatest finite elements of the row that was read, greatest first; of equals the lowest index first.
    pub(crate) fn top(&mut self, row: &[f32], k: usize, out: &mut Vec<(u32, f32)>) {
        out.clear();
        if k == 0 {
            return;
        }
        let threshold = self.kth(k);
        self.at_least(row, threshold, out);
        if out.len() > k {
            out.select_nth_unstable_by(k - 1, descending);
            out.truncate(k);
        }
        out.sort_unstable_by(descending);
    }

    /// Appends every finite element that is at least `threshold`, in the row's order.
    pub(crate) fn at_least(&self, row: &[f32], threshold: f32, out: &mut Vec<(u32, f32)>) {
        for (i, chunk) in row.chunks(CHUNK).enumerate() {
            if self.chunks[i] >= threshold {
                let tokens = (i * CHUNK) as u32..;
                out.extend(
                    tokens
                        .zip(chunk.iter().copied())
                        .filter(|&(_, x)| x >= threshold && x > f32::NEG_INFINITY),
                );
            }
        }
    }

    /// The `k`-th greatest chunk maximum: a lower bound of the k-th greatest element.
    fn kth(&mut self, k: usize) -> f32 {
        if k > self.chunks.len() {
            return f32::NEG_INFINITY;
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.chunks);
        *self.scratch.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
    }
}

/// Greatest first, then lowest index first. Never given NaN; the zeros are equal.
pub(crate) fn descending(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}

/// The greatest element, in lanes that the compiler turns into vector instructions.
fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for group in whole {
        for (lane, &x) in lanes.iter_mut().zip(group) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logit() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => -4.0f32..4.0,
            // Ties, and what a broken model may return.
            3 => prop::sample::select(vec![0.0, 1.0, -0.0]),
            1 => prop::sample::select(vec![f32::NAN, f32::NEG_INFINITY]),
        ]
    }

    proptest! {
        #[test]
        fn the_greatest_k_are_those_of_a_full_sort(
            row in prop::collection::vec(logit(), 1..700),
            k in 1usize..750,
        ) {
            let mut sorted: Vec<(u32, f32)> =
                (0..).zip(row.iter().copied()).filter(|&(_, x)| x > f32::NEG_INFINITY).collect();
            sorted.sort_by(descending);
            let mut maxima = Maxima::default();
            let max = maxima.read(&row);
            let mut top = Vec::new();
            maxima.top(&row, k, &mut top);
            sorted.truncate(k);
            prop_assert_eq!(&top, &sorted);
            let lowest = row.iter().position(|&x| x == max && x > f32::NEG_INFINITY);
            if max > f32::NEG_INFINITY {
                prop_assert_eq!(maxima.position(&row, max), lowest);
            } else {
                prop_assert!(lowest.is_none());
            }
        }
    }
}
