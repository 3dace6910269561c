//! Sums of exponentials over a whole vocabulary, fast enough to be taken for every token.

const CHUNK: usize = 256;
const LANES: usize = 16;

/// Beneath this, `exp` is 0: e⁻⁸⁷ is near the least normal `f32`.
const LEAST: f32 = -87.0;

/// `eˣ` for `x ≤ 0`, within 2 units in the last place; 0 below −87 and for NaN. Free of branches and calls, so that a
/// loop over it becomes vector instructions: `2ⁿ · 2ᶠ` with `n` rounded to nearest and a polynomial in `f` (Cephes' expf).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves the nearest integer in the low bits.
    let clamped = if x > LEAST { x } else { LEAST };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, so that the remainder keeps its bits.
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let y = p * r * r + r + 1.0;
    let bits = shifted.to_bits().wrapping_add(127) << 23;
    let result = y * f32::from_bits(bits);
    if x > LEAST { result } else { 0.0 }
}

/// Sums of `exp((x − max) · scale)` of each chunk of a row; kept between rows.
#[derive(Default)]
pub(crate) struct Weights {
    chunks: Vec<f32>,
}

impl Weights {
    /// Reads `row` once and returns the whole sum. `max` must be its greatest element, and finite.
    pub(crate) fn read(&mut self, row: &[f32], max: f32, scale: f32) -> f64 {
        self.chunks.clear();
        self.chunks.extend(row.chunks(CHUNK).map(|chunk| sum(chunk, max, scale)));
        self.chunks.iter().map(|&s| f64::from(s)).sum()
    }

    /// The element at which the running sum of weights exceeds `target`, given what `read` was given.
    pub(crate) fn position(&self, row: &[f32], max: f32, scale: f32, target: f64) -> Option<usize> {
        let mut left = target;
        let mut last = None;
        for (c, &chunk) in self.chunks.iter().enumerate() {
            if chunk == 0.0 {
                continue;
            }
            last = Some(c);
            if left < f64::from(chunk) {
                break;
            }
            left -= f64::from(chunk);
        }
        // Rounding may leave a rest beyond the last weight; the last one takes it.
        let start = last? * CHUNK;
        let mut found = None;
        for (i, &x) in row.iter().enumerate().skip(start).take(CHUNK) {
            let weight = f64::from(exp((x - max) * scale));
            if weight > 0.0 {
                found = Some(i);
                if left < weight {
                    break;
                }
                left -= weight;
            }
        }
        found
    }
}

/// `ln Σ exp(x)` over a row whose greatest element is `max`.
pub(crate) fn log_sum_exp(row: &[f32], max: f32) -> f32 {
    let total: f64 = row.chunks(CHUNK).map(|chunk| f64::from(sum(chunk, max, 1.0))).sum();
    (f64::from(max) + total.ln()) as f32
}

/// The sum of `exp((x − max) · scale)`; the same bits whatever the processor, because lanes are added in one order.
fn sum(row: &[f32], max: f32, scale: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature that the function is compiled for.
        return unsafe { sum_avx2(row, max, scale) };
    }
    sum_in_lanes(row, max, scale)
}

/// The generic loop with wider instructions than every x86-64 has.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(row: &[f32], max: f32, scale: f32) -> f32 {
    sum_in_lanes(row, max, scale)
}

#[inline(always)]
fn sum_in_lanes(row: &[f32], max: f32, scale: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for group in whole {
        for (lane, &x) in lanes.iter_mut().zip(group) {
            *lane += exp((x - max) * scale);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&x| exp((x - max) * scale)).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NAN), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        for i in 0..87_000 {
            let x = -(i as f32) / 1000.0;
            let error = (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs();
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}) is off by {error}");
        }
    }

    #[test]
    fn the_sum_and_the_positions_agree_with_a_plain_loop() {
        let row: Vec<f32> = (0..1000).map(|i| ((i * 37) % 101) as f32 / 10.0 - 5.0).collect();
        let max = 5.0;
        let plain: Vec<f64> = row.iter().map(|&x| (f64::from(x - max) * 0.5).exp()).collect();
        let mut weights = Weights::default();
        let total = weights.read(&row, max, 0.5);
        assert!((total / plain.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        for step in 0..100 {
            let target = total * f64::from(step) / 100.0;
            let mut running = 0.0;
            let expected = plain.iter().position(|w| {
                running += w;
                running > target
            });
            let found = weights.position(&row, max, 0.5, target);
            // A target on the border between two elements may fall to either side.
            assert!(found.unwrap().abs_diff(expected.unwrap()) <= 1);
        }
        assert_eq!(weights.position(&row, max, 0.5, total * 2.0), Some(999));
    }
}
