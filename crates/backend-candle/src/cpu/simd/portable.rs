//! Lanes in plain Rust, for machines without a register type of their own here; the compiler maps them to SSE2 or NEON.

use half::f16;

use super::Lanes;

/// Eight lanes in plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, o: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self;
        for i in 0..8 {
            out.0[i] = f(self.0[i], o.0[i]);
        }
        out
    }

    /// Folds halves onto each other.
    #[inline(always)]
    fn fold(self, f: impl Fn(f32, f32) -> f32) -> f32 {
        let a = self.0;
        let b = [f(a[0], a[4]), f(a[1], a[5]), f(a[2], a[6]), f(a[3], a[7])];
        f(f(b[0], b[2]), f(b[1], b[3]))
    }
}

impl Lanes for Portable {
    const N: usize = 8;
    const TILE_ROWS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller's promise; no alignment is assumed.
        Self(unsafe { p.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        use half::slice::HalfFloatSliceExt;
        let mut out = [0.0; 8];
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(p, 8) }.convert_to_f32_slice(&mut out);
        Self(out)
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller's promise; no alignment is assumed.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16) {
        use half::slice::HalfFloatSliceExt;
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(p, 8) }.convert_from_f32_slice(&self.0);
    }
    #[inline(always)]
    unsafe fn add(self, o: Self) -> Self {
        self.zip(o, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, o: Self) -> Self {
        self.zip(o, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, o: Self) -> Self {
        self.zip(o, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, o: Self) -> Self {
        self.zip(o, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(self, o: Self) -> Self {
        self.zip(o, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, o: Self) -> Self {
        self.zip(o, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        let mut out = self;
        for i in 0..8 {
            // Without hardware support `mul_add` is a library call; arm64 always has it.
            out.0[i] = if cfg!(target_arch = "aarch64") {
                a.0[i].mul_add(b.0[i], self.0[i])
            } else {
                self.0[i] + a.0[i] * b.0[i]
            };
        }
        out
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // 1.5 · 2^23: adding it leaves no room for a fraction.
        self.zip(self, |a, _| (a + 12_582_912.0) - 12_582_912.0)
    }
    #[inline(always)]
    unsafe fn scale2(self, n: Self) -> Self {
        self.zip(n, |a, n| a * f32::from_bits(((n as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn keep_ge(self, a: Self, b: Self) -> Self {
        let mut out = self;
        for i in 0..8 {
            out.0[i] = if a.0[i] >= b.0[i] { self.0[i] } else { 0.0 };
        }
        out
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.fold(|a, b| a + b)
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.fold(|a, b| if a > b { a } else { b })
    }
}
