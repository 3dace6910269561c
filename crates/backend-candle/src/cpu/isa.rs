//! `Isa`: which instructions the kernels use, found at run time.

/// An instruction-set level that has kernels of its own. Ordered: later ones are faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, shaped so that the compiler vectorises it for its baseline (SSE2, NEON).
    Portable,
}

impl Isa {
    /// The best level of this processor.
    pub fn best() -> Self {
        Isa::Portable
    }

    /// Every level that this processor can run, slowest first.
    pub fn available() -> Vec<Self> {
        vec![Isa::Portable]
    }
}
