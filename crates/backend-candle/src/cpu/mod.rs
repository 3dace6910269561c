//! CPU kernels: own code over plain slices and mapped weight bytes, no tensor library inside.
//!
//! Everything runs on one [`Pool`](pool::Pool) and picks its instructions at run time ([`Isa`](isa::Isa)).

pub mod isa;
pub mod matmul;
pub mod matrix;
pub mod pool;

mod block;
mod input;
mod portable;
