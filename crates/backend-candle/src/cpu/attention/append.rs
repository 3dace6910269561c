//! Writing a run's new keys and values to its pages: keys normalised, rotated, rounded and transposed.

use std::ops::Range;

use super::super::norm::{NormWeights, norm_row};
use super::super::pages::PAGE_TOKENS;
use super::super::rope::{Rotation, rotate_row};
use super::super::simd::{Element, Kernel, Lanes};
use super::Step;

/// Some tokens of a run, for one KV head.
pub(super) struct Append<'a, E> {
    pub(super) step: &'a Step<'a>,
    pub(super) run: usize,
    pub(super) head: usize,
    /// Which of the run's tokens.
    pub(super) tokens: Range<usize>,
    /// Two heads' worth of floats.
    pub(super) buffer: &'a mut [f32],
    pub(super) element: std::marker::PhantomData<E>,
}

impl<E: Element> Kernel for Append<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Step { heads, spans, table, .. } = *self.step;
        let (layer, head_dim) = (self.step.layer(), heads.head_dim);
        let (row, rounded) = self.buffer.split_at_mut(head_dim);
        for token in self.tokens {
            let position = spans[self.run].position + token;
            let (page, slot) = (position / PAGE_TOKENS, position % PAGE_TOKENS);
            let token = spans[self.run].start + token;
            let source = (token * heads.kv_heads + self.head) * head_dim;
            // SAFETY: the run's pages cover its new positions and have one owner, no other part writes this head of
            // these tokens, and `k` and `v` have a row for every token (checked by `attend`). A row of `E` fits where
            // a row of `f32` does, with at most its alignment.
            unsafe {
                let base = table.page(self.run, page);
                let k = self.step.k.as_ptr().add(source);
                stage_row::<L>(self.step.k_norm, self.step.rotation.as_ref(), (k, token), row);
                let rounded: *mut E = rounded.as_mut_ptr().cast();
                round_row::<L, E>(row.as_ptr(), head_dim, rounded);
                let keys: *mut E = base.add(layer.key_tile(self.head)).cast();
                for d in 0..head_dim {
                    *keys.add(d * PAGE_TOKENS + slot) = *rounded.add(d);
                }
                let values: *mut E = base.add(layer.value_tile(self.head)).cast();
                let values = values.add(slot * layer.padded);
                let v = self.step.v.as_ptr().add(source);
                for i in (0..head_dim).step_by(L::N) {
                    E::store(L::load_some(v.add(i), head_dim - i), values.add(i));
                }
            }
        }
    }
}

/// Writes a head's row to `out`: copied, or normalised; then rotated as `token` of the step.
///
/// # Safety
/// `out.len()` elements lie at `x`; norm and rotation fit that length; `token` is one of the step's.
#[inline(always)]
pub(super) unsafe fn stage_row<L: Lanes>(
    norm: Option<&NormWeights>,
    rotation: Option<&Rotation<'_>>,
    (x, token): (*const f32, usize),
    out: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match norm {
            Some(norm) => norm_row::<L>(norm, x, out.as_mut_ptr()),
            None => std::ptr::copy_nonoverlapping(x, out.as_mut_ptr(), out.len()),
        }
        if let Some(rotation) = rotation {
            rotate_row::<L>(rotation, token, out.as_mut_ptr());
        }
    }
}

/// Rounds `len` floats. The last register's worth goes through a buffer, so that nothing beyond `len` is written.
#[inline(always)]
unsafe fn round_row<L: Lanes, E: Element>(x: *const f32, len: usize, out: *mut E) {
    // SAFETY: every access is below `len`, but in the buffer.
    unsafe {
        for i in (0..len).step_by(L::N) {
            let n = len - i;
            if n >= L::N {
                E::store(L::load(x.add(i)), out.add(i));
            } else {
                let mut buffer = [*out; 16];
                E::store(L::load_some(x.add(i), n), buffer.as_mut_ptr());
                std::ptr::copy_nonoverlapping(buffer.as_ptr(), out.add(i), n);
            }
        }
    }
}
