//! Rotation of heads by position.

use perch_model::RopeLayout;

use super::simd::Lanes;

/// Cosines and sines for the tokens of one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation<'a> {
    /// `[tokens, half]`.
    pub(crate) cos: &'a [f32],
    /// `[tokens, half]`.
    pub(crate) sin: &'a [f32],
    /// Pairs of elements that rotate.
    pub(crate) half: usize,
    /// Which elements form a pair.
    pub(crate) layout: RopeLayout,
}

/// Rotates the head at `x` in place as token `token` of the step.
///
/// # Safety
/// `2 * rotation.half` elements lie at `x`, and `token` is one of the step's.
#[inline(always)]
pub(super) unsafe fn rotate_row<L: Lanes>(rotation: &Rotation<'_>, token: usize, x: *mut f32) {
    let half = rotation.half;
    let (cos, sin) = (&rotation.cos[token * half..][..half], &rotation.sin[token * half..][..half]);
    // SAFETY: every access is below `2 * half` in `x` and below `half` in the tables.
    unsafe {
        match rotation.layout {
            RopeLayout::Half => {
                for i in (0..half).step_by(L::N) {
                    let n = half - i;
                    let (a, b) = (L::load_some(x.add(i), n), L::load_some(x.add(half + i), n));
                    let c = L::load_some(cos.as_ptr().add(i), n);
                    let s = L::load_some(sin.as_ptr().add(i), n);
                    a.mul(c).sub(b.mul(s)).store_some(x.add(i), n);
                    a.mul(s).add(b.mul(c)).store_some(x.add(half + i), n);
                }
            }
            RopeLayout::Interleaved => {
                for i in 0..half {
                    let (a, b) = (*x.add(2 * i), *x.add(2 * i + 1));
                    *x.add(2 * i) = a * cos[i] - b * sin[i];
                    *x.add(2 * i + 1) = a * sin[i] + b * cos[i];
                }
            }
        }
    }
}
