//! CPU kernels: own code over plain slices and mapped weight bytes, no tensor library inside.
//!
//! Everything runs on one [`Pool`](pool::Pool) and picks its instructions at run time ([`Isa`](isa::Isa)).

pub(crate) mod attention;
pub(crate) mod elementwise;
pub mod isa;
pub mod matmul;
pub mod matrix;
pub(crate) mod memory;
pub(crate) mod norm;
pub(crate) mod pages;
pub mod pool;
pub(crate) mod rope;
pub(crate) mod simd;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod block;
#[cfg(target_arch = "x86_64")]
mod chains;
mod input;
mod kernel;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod portable;
mod scratch;
mod task;
#[cfg(test)]
mod testing;

use std::sync::Arc;

/// What the kernels of one model run on.
#[derive(Debug, Clone)]
pub(crate) struct Cpu {
    /// Threads.
    pub(crate) pool: Arc<pool::Pool>,
    /// Registers of the element-wise kernels, norms and attention.
    pub(crate) width: simd::Width,
}
