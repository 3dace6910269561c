//! Log-probabilities: the log-softmax of the raw logits, before bias, penalties, constraint and temperature, as OpenAI
//! reports them for temperature 1. Tokens a model gives no finite logit have negative infinity.

use super::select::Maxima;
use super::softmax::log_sum_exp;
use crate::LogProbs;

/// The log-softmax of a row and its best tokens, before it is known which one is drawn.
pub(crate) struct Scores {
    total: f32,
    /// Best first, as log-probabilities.
    top: Vec<(u32, f32)>,
}

impl Scores {
    /// The scores of `row` with its `k` best tokens. `None` where no logit is finite.
    pub(crate) fn new(maxima: &mut Maxima, row: &[f32], k: usize) -> Option<Self> {
        let max = Some(maxima.read(row)).filter(|max| max.is_finite())?;
        let total = log_sum_exp(row, max);
        let mut top = Vec::new();
        maxima.top(row, k, &mut top);
        for (_, score) in &mut top {
            *score -= total;
        }
        Some(Self { total, top })
    }

    /// The scores with that of the chosen token, whose raw logit was `logit`.
    pub(crate) fn chosen(&self, logit: f32) -> LogProbs {
        let chosen = if logit.is_nan() { f32::NEG_INFINITY } else { logit - self.total };
        LogProbs { chosen, top: self.top.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_come_best_first() {
        let row = [1.0, f32::NAN, 3.0, 2.0, f32::NEG_INFINITY];
        let scores = Scores::new(&mut Maxima::default(), &row, 9).unwrap();
        let probs = scores.chosen(row[0]);
        assert_eq!(probs.top.iter().map(|t| t.0).collect::<Vec<_>>(), [2, 3, 0]);
        assert!((probs.top.iter().map(|t| t.1.exp()).sum::<f32>() - 1.0).abs() < 1e-6);
        // log(e / (e + e² + e³)).
        assert!((probs.chosen - -2.407_606).abs() < 1e-6);
        assert_eq!(scores.chosen(f32::NAN).chosen, f32::NEG_INFINITY);
    }

    #[test]
    fn a_row_without_a_finite_logit_has_no_scores() {
        assert!(Scores::new(&mut Maxima::default(), &[f32::NAN, f32::NEG_INFINITY], 1).is_none());
    }
}
