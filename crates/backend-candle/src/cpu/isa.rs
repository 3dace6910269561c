//! `Isa`: which instructions the kernels use, found at run time.

/// An instruction-set level that has kernels of its own. Ordered: later ones are faster.
///
/// Quantised weights give the same bits on every level. Float weights do on all levels with a fused multiply-add, but
/// for [`Isa::Avx512Bf16`], which rounds the activations that meet `bf16` weights to `bf16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, shaped so that the compiler vectorises it for its baseline (SSE2, NEON).
    Portable,
    /// AVX2, FMA and F16C (Haswell and later, every Zen).
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI (Ice Lake and later, Zen 4 and later).
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same with products of `bf16` pairs (Sapphire Rapids and later, Zen 4 and later).
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

impl Isa {
    /// Every level, slowest first.
    const ALL: &[Self] = &[
        Isa::Portable,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16,
    ];

    /// Whether this processor has the level's instructions.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => Isa::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
        }
    }

    /// The best level of this processor.
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Isa::Portable)
    }

    /// Every level that this processor can run, slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.iter().copied().filter(|isa| isa.is_available()).collect()
    }
}
