//! `Memory`: equal pieces of memory for KV pages, taken from the system in slabs.
//!
//! A slab is a private anonymous mapping: address space until its pieces are written, aligned to and advised for huge
//! pages. Reading a long sequence touches every small page once a token, so with small pages the time goes to walking
//! page tables (measured: half as long again for 1,024 tokens of a 0.6 B model).
//!
//! Invariants: a piece is handed out to one owner at a time and lies inside one slab; pieces are initialised (the system
//! maps zeros; a piece given back holds old bytes or zeros); slabs live as long as the `Memory`.

use std::ptr::NonNull;

/// Alignment of slabs, and the size of a huge page where it matters (x86-64, arm64 with 4 kB pages).
const HUGE: usize = 2 << 20;

/// Slabs have at least this many bytes and this many pieces. It is address space, not memory.
const SLAB_BYTES: usize = 64 << 20;
const SLAB_PIECES: usize = 8;

/// Pieces of one size.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Bytes of a piece.
    piece: usize,
    slabs: Vec<Slab>,
    /// Pieces given back, the last one on top: it is the likeliest to lie in a cache.
    spare: Vec<NonNull<u8>>,
    /// How many of `spare`, from the bottom, hold no memory of the system.
    released: usize,
    /// Pieces of the last slab that were never handed out.
    fresh: usize,
}

/// A mapping.
#[derive(Debug)]
struct Slab {
    mapping: *mut libc::c_void,
    len: usize,
    /// First address in it that is a multiple of `HUGE`.
    start: NonNull<u8>,
}

impl Memory {
    /// Memory in pieces of `piece` bytes, at least one.
    pub(crate) fn new(piece: usize) -> Self {
        Self { piece: piece.max(1), slabs: Vec::new(), spare: Vec::new(), released: 0, fresh: 0 }
    }

    /// A piece; `None` if the system has no more.
    pub(crate) fn take(&mut self) -> Option<NonNull<u8>> {
        if let Some(piece) = self.spare.pop() {
            self.released = self.released.min(self.spare.len());
            return Some(piece);
        }
        if self.fresh == 0 {
            let pieces = (SLAB_BYTES / self.piece).max(SLAB_PIECES);
            self.slabs.push(Slab::map(self.piece.checked_mul(pieces)?)?);
            self.fresh = pieces;
        }
        let slab = self.slabs.last()?;
        let pieces = (slab.len - HUGE) / self.piece;
        let piece = slab.start.as_ptr().wrapping_add((pieces - self.fresh) * self.piece);
        self.fresh -= 1;
        NonNull::new(piece)
    }

    /// Takes back a piece that came from [`Memory::take`].
    pub(crate) fn give(&mut self, piece: NonNull<u8>) {
        self.spare.push(piece);
    }

    /// Returns the memory of all spare pieces to the system. Their addresses stay reserved.
    pub(crate) fn trim(&mut self) {
        for piece in &self.spare[self.released..] {
            release(*piece, self.piece);
        }
        self.released = self.spare.len();
    }

    /// Pieces given back and not handed out again.
    #[cfg(test)]
    pub(crate) fn spare(&self) -> usize {
        self.spare.len()
    }
}

impl Slab {
    /// Maps `bytes` bytes, from `start` on.
    fn map(bytes: usize) -> Option<Self> {
        let len = bytes.checked_add(HUGE)?;
        // SAFETY: a fresh private mapping at an address of the system's choice.
        let mapping = unsafe {
            let (access, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0)
        };
        if mapping == libc::MAP_FAILED {
            return None;
        }
        let skip = mapping.cast::<u8>().align_offset(HUGE);
        // Advice only: without it everything works, slower.
        #[cfg(target_os = "linux")]
        // SAFETY: `skip < HUGE`, so the range lies inside the mapping.
        unsafe {
            libc::madvise(mapping.wrapping_byte_add(skip), bytes, libc::MADV_HUGEPAGE);
        }
        Some(Self { mapping, len, start: NonNull::new(mapping.cast::<u8>().wrapping_add(skip))? })
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: the mapping is this slab's own, and pieces do not outlive the `Memory`.
        unsafe { libc::munmap(self.mapping, self.len) };
    }
}

/// Lets the system have the whole pages inside a spare piece; they read as zeros or as before when touched again.
fn release(piece: NonNull<u8>, len: usize) {
    #[cfg(target_os = "linux")]
    const ADVICE: libc::c_int = libc::MADV_DONTNEED;
    #[cfg(not(target_os = "linux"))]
    const ADVICE: libc::c_int = libc::MADV_FREE;
    // SAFETY: no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096).max(1);
    let start = piece.as_ptr().addr().next_multiple_of(page);
    let end = (piece.as_ptr().addr() + len) / page * page;
    if start < end {
        // SAFETY: the range lies inside a spare piece, whose bytes nobody needs.
        unsafe { libc::madvise(piece.as_ptr().with_addr(start).cast(), end - start, ADVICE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_overlap_and_are_zero_at_first() {
        for len in [64, 4096 + 64, (3 << 20) + 192, SLAB_BYTES] {
            let mut memory = Memory::new(len);
            let mut pieces: Vec<usize> = (0..20)
                .map(|_| {
                    let piece = memory.take().unwrap();
                    // SAFETY: a piece has `len` bytes, all initialised.
                    let ends = unsafe { [piece.as_ptr().read(), piece.as_ptr().add(len - 1).read()] };
                    assert_eq!(ends, [0, 0]);
                    assert_eq!(piece.as_ptr().align_offset(64), 0);
                    // SAFETY: as above; it is this test's.
                    unsafe { piece.as_ptr().add(len - 1).write(1) };
                    piece.as_ptr().addr()
                })
                .collect();
            pieces.sort();
            assert!(pieces.windows(2).all(|pair| pair[0] + len <= pair[1]));
        }
    }

    #[test]
    fn a_piece_given_back_is_handed_out_again() {
        let mut memory = Memory::new(1 << 20);
        let pieces = [memory.take().unwrap(), memory.take().unwrap()];
        pieces.into_iter().for_each(|piece| memory.give(piece));
        memory.trim();
        assert_eq!([memory.take(), memory.take()], [Some(pieces[1]), Some(pieces[0])]);
        assert_eq!(memory.slabs.len(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn trimming_returns_memory_to_the_system() {
        let resident = || -> usize {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let len = 8 << 20;
        let mut memory = Memory::new(len);
        let pieces: Vec<_> = (0..16).map(|_| memory.take().unwrap()).collect();
        let before = resident();
        // SAFETY: the pieces have `len` bytes and are this test's.
        pieces.iter().for_each(|piece| unsafe { piece.as_ptr().write_bytes(7, len) });
        let full = resident();
        pieces.into_iter().for_each(|piece| memory.give(piece));
        memory.trim();
        let after = resident();
        assert!(full > before + 12 * len && after < full - 12 * len, "{before}, {full}, {after}");
    }
}
