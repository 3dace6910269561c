//! Runs a `ModelSpec` on the CPU (own kernels) and, on a Mac, on Metal through candle.

pub mod cpu;
