//! `Scratch`: buffers that outlive one call, so that a step of decoding allocates nothing.
//!
//! Invariants: a buffer starts on a cache line; its contents are what its last user left.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use bytemuck::{Pod, Zeroable};

/// One cache line.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A shelf of buffers.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    free: Mutex<Vec<Vec<Line>>>,
}

/// A buffer of `T`s, put back on its shelf when dropped.
#[derive(Debug)]
pub(super) struct Loan<'a, T> {
    shelf: &'a Scratch,
    lines: Vec<Line>,
    len: usize,
    of: PhantomData<T>,
}

impl Scratch {
    /// A buffer of `len` elements with arbitrary contents.
    pub(super) fn take<T: Pod>(&self, len: usize) -> Loan<'_, T> {
        let needed = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        let mut lines = self.pick(needed);
        if lines.len() < needed {
            // Old contents are worthless: free before allocating, do not copy.
            drop(std::mem::take(&mut lines));
            lines = vec![Line::zeroed(); needed];
        }
        Loan { shelf: self, lines, len, of: PhantomData }
    }

    /// The smallest free buffer that suffices, else the largest (to be replaced, so that the shelf does not grow).
    fn pick(&self, needed: usize) -> Vec<Line> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |lines: &Vec<Line>| (lines.len() < needed, lines.len().abs_diff(needed));
        let best = (0..free.len()).min_by_key(|i| fits(&free[*i]));
        best.map(|i| free.swap_remove(i)).unwrap_or_default()
    }

    /// Frees what nobody uses now.
    pub(super) fn trim(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl<T: Pod> Deref for Loan<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.lines);
        bytemuck::cast_slice(&bytes[..self.len * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for Loan<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.lines);
        bytemuck::cast_slice_mut(&mut bytes[..self.len * size_of::<T>()])
    }
}

impl<T> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        self.shelf.free.lock().unwrap_or_else(PoisonError::into_inner).push(lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_starts_on_a_cache_line_and_comes_back() {
        let shelf = Scratch::default();
        let first = {
            let mut loan = shelf.take::<f32>(1000);
            loan.fill(1.0);
            loan.as_ptr() as usize
        };
        assert_eq!(first % 64, 0);
        let again = shelf.take::<i8>(4000);
        assert_eq!((again.as_ptr() as usize, again.len()), (first, 4000));
    }

    #[test]
    fn elements_may_be_of_any_size() {
        let shelf = Scratch::default();
        drop(shelf.take::<u8>(1000));
        assert_eq!(shelf.take::<[u32; 12]>(7).len(), 7);
    }

    #[test]
    fn the_shelf_holds_no_more_buffers_than_were_lent_at_once() {
        let shelf = Scratch::default();
        for len in 1..100 {
            let (_a, _b) = (shelf.take::<u64>(len * 10), shelf.take::<u8>(len));
        }
        assert_eq!(shelf.free.lock().unwrap().len(), 2);
        shelf.trim();
        assert!(shelf.free.lock().unwrap().is_empty());
    }
}
