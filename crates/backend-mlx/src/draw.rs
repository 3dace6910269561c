//! Drawing tokens from rows of logits on the device, so that only their ids leave it.
//!
//! The same steps as the engine's sampler takes, in `f32` throughout: a token may be another one where the place that is drawn
//! lies within rounding of the edge between two.

use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::indexing::{TryIndexOp, argmax_axis};
use mlx_rs::ops::{argsort_axis, exp, is_nan, minimum, select};
use mlx_rs::{Array, Dtype, array};
use perch_engine::Draw;

use crate::ops::dim;

/// The greatest place: beyond it a product with a sum of `f32` may round to the sum itself.
const LAST_PLACE: f32 = 1.0 - 1.0 / (1 << 22) as f32;

/// The token that each of `draws` gives for its row of `logits`, `[n, vocab_size]`: `[n]`, `i32`, −1 for a row without a finite
/// logit. Nothing is computed yet.
pub(crate) fn draw(logits: &Array, draws: &[Draw]) -> Result<Array> {
    let vocab = logits.dim(1);
    let nothing = array!(f32::NEG_INFINITY);
    let x = select(is_nan(logits)?, &nothing, minimum(logits, array!(f32::MAX))?)?;
    let best = x.max_axis(1, true)?;
    let kind = |draw: &Draw| match draw {
        draw if draw.is_greedy() => Kind::Likeliest,
        draw if draw.cuts(vocab as usize) => Kind::Remaining,
        _ => Kind::Any,
    };
    let mut tokens = None;
    for one in [Kind::Likeliest, Kind::Any, Kind::Remaining] {
        let rows: Vec<bool> = draws.iter().map(|draw| kind(draw) == one).collect();
        if !rows.contains(&true) {
            continue;
        }
        let drawn = match one {
            Kind::Likeliest => likeliest(&x)?,
            Kind::Any => any(&x, &best, draws)?,
            Kind::Remaining => remaining(&x, &best, draws)?,
        };
        tokens = Some(match tokens {
            None => drawn,
            Some(others) => select(Array::from_slice(&rows, &[dim(rows.len())]), drawn, others)?,
        });
    }
    let Some(tokens) = tokens else { return Err(Exception::custom("nothing is to be drawn")) };
    select(best.flatten(None, None)?.gt(&nothing)?, tokens, array!(-1))
}

/// What a draw chooses from.
#[derive(PartialEq)]
enum Kind {
    Likeliest,
    Any,
    Remaining,
}

fn likeliest(x: &Array) -> Result<Array> {
    argmax_axis(x, 1, false)?.as_dtype(Dtype::Int32)
}

/// From all tokens, by id.
fn any(x: &Array, best: &Array, draws: &[Draw]) -> Result<Array> {
    place(&weights(x, best, draws)?, draws)
}

/// From the tokens that top-k, top-p and min-p leave, likeliest first.
fn remaining(x: &Array, best: &Array, draws: &[Draw]) -> Result<Array> {
    let vocab = x.dim(1);
    let order = argsort_axis(x.negative()?, 1)?;
    let sorted = weights(x, best, draws)?.take_along_axis(&order, 1)?;
    let top_k = draws.iter().map(|draw| if draw.top_k == 0 { vocab as f32 } else { draw.top_k as f32 });
    let ranks = Array::from_iter((0..vocab).map(|rank| rank as f32), &[1, vocab]);
    let none = array!(0f32);
    let sorted = select(ranks.lt(column(top_k))?, sorted, &none)?;
    // A token remains while those before it have not reached top-p; all of them never reach twice their sum.
    let before = sorted.cumsum(1, None, None)?.subtract(&sorted)?;
    let top_p = column(draws.iter().map(|draw| if draw.top_p < 1.0 { draw.top_p } else { 2.0 }));
    let nucleus = sorted.sum_axis(1, true)?.multiply(top_p)?;
    let sorted = select(before.lt(&nucleus)?, sorted, &none)?;
    let likely = sorted.ge(column(draws.iter().map(|draw| draw.min_p)))?;
    let rank = place(&select(likely, sorted, &none)?, draws)?;
    order.take_along_axis(rank.expand_dims(1)?, 1)?.try_index((.., 0))?.as_dtype(Dtype::Int32)
}

/// `exp((x − best) / temperature)`: `[n, vocab_size]`.
fn weights(x: &Array, best: &Array, draws: &[Draw]) -> Result<Array> {
    let warm = draws.iter().map(|draw| if draw.is_greedy() { 1.0 } else { draw.temperature });
    exp(x.subtract(best)?.divide(column(warm))?)
}

/// The first column at which the cumulated weights of a row go beyond its place: `[n]`.
fn place(weights: &Array, draws: &[Draw]) -> Result<Array> {
    let sums = weights.cumsum(1, None, None)?;
    let total = sums.try_index((.., -1))?.expand_dims(1)?;
    let at = total.multiply(column(draws.iter().map(|draw| (draw.at as f32).min(LAST_PLACE))))?;
    argmax_axis(sums.gt(at)?, 1, false)?.as_dtype(Dtype::Int32)
}

/// A number for each row: `[n, 1]`.
fn column(values: impl Iterator<Item = f32>) -> Array {
    let values: Vec<f32> = values.collect();
    Array::from_slice(&values, &[dim(values.len()), 1])
}

#[cfg(test)]
mod tests {
    use mlx_rs::with_stream;
    use perch_engine::testing::pick;

    use super::*;

    const VOCAB: usize = 500;

    /// Numbers in [0, 1) that look random.
    fn uniform(seed: u32) -> impl Iterator<Item = f64> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 24)
        })
    }

    fn drawn(rows: &[f32], draws: &[Draw]) -> Vec<i32> {
        let (rows, draws) = (rows.to_vec(), draws.to_vec());
        crate::thread::run(move || {
            let stream = crate::load::stream(crate::DeviceKind::Cpu).unwrap();
            with_stream(&stream, || {
                let logits = Array::from_slice(&rows, &[dim(draws.len()), dim(rows.len() / draws.len())]);
                draw(&logits, &draws).unwrap().to_vec_exact::<i32>().unwrap()
            })
        })
        .unwrap()
    }

    fn like(at: f64, temperature: f32, top_k: usize, top_p: f32, min_p: f32) -> Draw {
        Draw { temperature, top_k, top_p, min_p, at, then: None }
    }

    #[test]
    fn tokens_are_those_of_the_engines_sampler() {
        let mut numbers = uniform(7);
        let (mut rows, mut draws, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for (temperature, top_k, top_p, min_p) in [
            (0.0, 0, 1.0, 0.0),
            (0.7, 0, 1.0, 0.0),
            (1.3, 5, 1.0, 0.0),
            (1.0, 0, 0.9, 0.0),
            (2.0, 40, 0.8, 0.0),
            (1.0, 0, 1.0, 0.05),
            (1.5, 1000, 0.95, 0.02),
            (1.0, 1, 0.5, 0.5),
        ] {
            for _ in 0..25 {
                let mut row: Vec<f32> =
                    numbers.by_ref().take(VOCAB).map(|u| (u * 12.0 - 6.0) as f32).collect();
                let draw = like(numbers.next().unwrap(), temperature, top_k, top_p, min_p);
                rows.extend(&row);
                draws.push(draw);
                expected.push(pick(&draw, &mut row).map_or(-1, |token| token as i32));
            }
        }
        assert_eq!(drawn(&rows, &draws), expected);
        // The same one by one: a row does not depend on those beside it.
        let alone: Vec<i32> =
            draws.iter().zip(rows.chunks(VOCAB)).flat_map(|(draw, row)| drawn(row, &[*draw])).collect();
        assert_eq!(alone, expected);
    }

    #[test]
    fn what_is_no_number_is_never_drawn() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for draw in
            [like(0.0, 0.0, 0, 1.0, 0.0), like(0.999_999_999, 1.0, 0, 1.0, 0.0), like(0.5, 1.0, 3, 0.9, 0.1)]
        {
            assert_eq!(drawn(&[nan, nan, -inf], &[draw]), [-1], "{draw:?}");
            assert_eq!(drawn(&[nan, 1.0, -inf], &[draw]), [1], "{draw:?}");
            assert_eq!(drawn(&[3.0, 1.0, inf], &[draw]), [2], "{draw:?}");
        }
        let last = like(0.999_999_999_999, 1.0, 0, 1.0, 0.0);
        assert_eq!(
            drawn(&[0.0, 0.0, 0.0, -inf], &[last]),
            [2],
            "a token without weight is not drawn at the very end"
        );
    }
}
