//! `Lanes`: a register of `f32`, and the little that norms, rotations, activations and attention need of it.
//!
//! A kernel is written once, generic over [`Lanes`], as a [`Kernel`]; [`Width::run`] picks the widest registers of this
//! machine and compiles the kernel for them. Everything inside is `#[inline(always)]`, so that the instructions of a
//! wide register are only ever emitted inside the function that enabled them.
//!
//! Invariant: for one `Width`, a lane's result depends on that lane's operands alone, and reductions across lanes have
//! one fixed order. Results differ between widths in the last bits, which is why a process uses one throughout.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use half::f16;

use portable::Portable;

/// Which registers to use. Detected once per backend, so that every result of a process has the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 lanes with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 8 lanes that the compiler maps to what the target guarantees (SSE2, NEON).
    Portable,
}

/// Code that runs on any width of register.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// Runs it. Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// The instructions behind `L` exist on this machine; [`Width::run`] sees to it.
    unsafe fn run<L: Lanes>(self) -> Self::Output;
}

impl Width {
    /// The widest that this machine has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                return Width::Avx512;
            }
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                return Width::Avx2;
            }
        }
        Width::Portable
    }

    /// All that this machine has.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        let all = [
            Some(Width::Portable),
            #[cfg(target_arch = "x86_64")]
            (Self::detect() == Width::Avx512).then_some(Width::Avx512),
            #[cfg(target_arch = "x86_64")]
            (is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c"))
            .then_some(Width::Avx2),
        ];
        all.into_iter().flatten().collect()
    }

    /// Runs `kernel` with these registers.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512dq")]
            unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
                // SAFETY: the features are enabled here and were detected.
                unsafe { kernel.run::<x86::Avx512>() }
            }
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
                // SAFETY: the features are enabled here and were detected.
                unsafe { kernel.run::<x86::Avx2>() }
            }
            match self {
                // SAFETY: `detect` is the only maker of these variants and has seen the features.
                Width::Avx512 => return unsafe { avx512(kernel) },
                // SAFETY: as above.
                Width::Avx2 => return unsafe { avx2(kernel) },
                Width::Portable => {}
            }
        }
        // SAFETY: portable lanes need no feature.
        unsafe { kernel.run::<Portable>() }
    }
}

/// An element of the KV cache: loads into lanes as `f32`.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Loads `L::N` elements.
    ///
    /// # Safety
    /// `L::N` elements lie at `p`.
    unsafe fn load<L: Lanes>(p: *const Self) -> L;

    /// Stores `L::N` elements, rounded to nearest.
    ///
    /// # Safety
    /// `L::N` elements may be written at `p`.
    unsafe fn store<L: Lanes>(x: L, p: *mut Self);
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const Self) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load(p) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(x: L, p: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { x.store(p) }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const Self) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_f16(p) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(x: L, p: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { x.store_f16(p) }
    }
}

/// A register of [`Lanes::N`] floats.
///
/// # Safety
/// Every method needs the instructions of the type on this machine, and every pointer `N` elements behind it; hence
/// they are called inside a [`Kernel`] only.
#[allow(clippy::missing_safety_doc)]
pub(crate) trait Lanes: Copy {
    /// Number of lanes; divides 16.
    const N: usize;
    /// Rows of a tile with four registers of sums in each row, in the registers this machine has.
    const TILE_ROWS: usize;

    unsafe fn splat(x: f32) -> Self;
    /// Asks for the cache line at `p`, into the second-level cache: the first level has too few places for lines on their
    /// way to keep the memory busy (measured: 42 instead of 25 GB/s).
    unsafe fn prefetch(p: *const u8);
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn load_f16(p: *const f16) -> Self;
    unsafe fn store(self, p: *mut f32);
    /// Rounds to nearest, ties to even.
    unsafe fn store_f16(self, p: *mut f16);
    unsafe fn add(self, o: Self) -> Self;
    unsafe fn sub(self, o: Self) -> Self;
    unsafe fn mul(self, o: Self) -> Self;
    unsafe fn div(self, o: Self) -> Self;
    unsafe fn max(self, o: Self) -> Self;
    unsafe fn min(self, o: Self) -> Self;
    /// `self + a * b`, fused where the machine can.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// To the nearest integer.
    unsafe fn round(self) -> Self;
    /// `self * 2^n` for whole `n` in −126 ..= 127.
    unsafe fn scale2(self, n: Self) -> Self;
    /// `self` where `a >= b`, else 0.
    unsafe fn keep_ge(self, a: Self, b: Self) -> Self;
    /// Sum of the lanes, in one fixed order.
    unsafe fn sum(self) -> f32;
    /// Largest lane.
    unsafe fn largest(self) -> f32;

    /// The `n` elements at `p`, and zeros in the other lanes; all lanes if `n >= N`.
    #[inline(always)]
    unsafe fn load_some(p: *const f32, n: usize) -> Self {
        // SAFETY: `n` elements lie at `p`, and the buffer has room for any `N`.
        unsafe {
            if n >= Self::N {
                return Self::load(p);
            }
            let mut buffer = [0.0; 16];
            std::ptr::copy_nonoverlapping(p, buffer.as_mut_ptr(), n);
            Self::load(buffer.as_ptr())
        }
    }

    /// Stores the first `n` lanes; all lanes if `n >= N`.
    #[inline(always)]
    unsafe fn store_some(self, p: *mut f32, n: usize) {
        // SAFETY: `n` elements may be written at `p`, and the buffer has room for any `N`.
        unsafe {
            if n >= Self::N {
                return self.store(p);
            }
            let mut buffer = [0.0; 16];
            self.store(buffer.as_mut_ptr());
            std::ptr::copy_nonoverlapping(buffer.as_ptr(), p, n);
        }
    }

    /// `e^self` to about 2 ulp; 0 below −87, where the result would be subnormal; finite up to 88.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // SAFETY: register arithmetic only.
        unsafe {
            let floor = Self::splat(-87.0);
            let x = self.max(floor).min(Self::splat(88.0));
            let n = x.mul(Self::splat(std::f32::consts::LOG2_E)).round();
            // ln 2 in two parts, so that the product with `n` is exact (Cody and Waite).
            let r = x.fma(n, Self::splat(-0.693_359_4)).fma(n, Self::splat(2.121_944_4e-4));
            // Taylor terms up to r^7 at |r| <= ln(2)/2: a relative error under 1e-8.
            let mut p = Self::splat(1.0 / 5040.0);
            for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
                p = Self::splat(c).fma(p, r);
            }
            p.scale2(n).keep_ge(self, floor)
        }
    }

    /// Hyperbolic tangent, to about 1e-7 absolute.
    #[inline(always)]
    unsafe fn tanh(self) -> Self {
        // SAFETY: register arithmetic only.
        unsafe {
            let limit = Self::splat(15.0);
            let x = self.min(limit).max(Self::splat(-15.0));
            let e = x.add(x).exp();
            let one = Self::splat(1.0);
            e.sub(one).div(e.add(one))
        }
    }

    /// `1 / (1 + e^-self)`.
    #[inline(always)]
    unsafe fn sigmoid(self) -> Self {
        // SAFETY: register arithmetic only.
        unsafe {
            let one = Self::splat(1.0);
            one.div(one.add(Self::splat(0.0).sub(self).exp()))
        }
    }
}
