//! The two x86 registers. Every method is a few instructions; none touches memory but through its pointer.

use std::arch::x86_64::*;

use half::f16;

use super::Lanes;

/// 16 lanes.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

/// 8 lanes.
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256);

/// The methods of [`Lanes`], one a line: each is `#[inline(always)]` and its body unsafe.
macro_rules! lanes {
    () => {};
    (fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty { $body:expr } $($rest:tt)*) => {
        #[inline(always)]
        unsafe fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: called inside a `Kernel` only, on a machine that has these instructions.
            unsafe { $body }
        }
        lanes! { $($rest)* }
    };
    (fn $name:ident($this:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty { $body:expr } $($rest:tt)*) => {
        #[inline(always)]
        unsafe fn $name($this $(, $arg: $ty)*) -> $ret {
            // SAFETY: called inside a `Kernel` only, on a machine that has these instructions.
            unsafe { $body }
        }
        lanes! { $($rest)* }
    };
}

impl Lanes for Avx512 {
    const N: usize = 16;
    const TILE_ROWS: usize = 4;
    lanes! {
        fn prefetch(p: *const u8) -> () { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        fn splat(x: f32) -> Self { Self(_mm512_set1_ps(x)) }
        fn load(p: *const f32) -> Self { Self(_mm512_loadu_ps(p)) }
        fn load_f16(p: *const f16) -> Self { Self(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))) }
        fn store(self, p: *mut f32) -> () { _mm512_storeu_ps(p, self.0) }
        fn store_f16(self, p: *mut f16) -> () {
            _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0))
        }
        fn add(self, o: Self) -> Self { Self(_mm512_add_ps(self.0, o.0)) }
        fn sub(self, o: Self) -> Self { Self(_mm512_sub_ps(self.0, o.0)) }
        fn mul(self, o: Self) -> Self { Self(_mm512_mul_ps(self.0, o.0)) }
        fn div(self, o: Self) -> Self { Self(_mm512_div_ps(self.0, o.0)) }
        fn max(self, o: Self) -> Self { Self(_mm512_max_ps(self.0, o.0)) }
        fn min(self, o: Self) -> Self { Self(_mm512_min_ps(self.0, o.0)) }
        fn fma(self, a: Self, b: Self) -> Self { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
        fn round(self) -> Self { Self(_mm512_roundscale_ps::<0>(self.0)) }
        fn scale2(self, n: Self) -> Self { Self(_mm512_scalef_ps(self.0, n.0)) }
        fn keep_ge(self, a: Self, b: Self) -> Self {
            Self(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a.0, b.0), self.0))
        }
        fn sum(self) -> f32 {
            Avx2(_mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0))).sum()
        }
        fn largest(self) -> f32 {
            Avx2(_mm256_max_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0))).largest()
        }
    }
}

impl Lanes for Avx2 {
    const N: usize = 8;
    const TILE_ROWS: usize = 2;
    lanes! {
        fn prefetch(p: *const u8) -> () { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        fn splat(x: f32) -> Self { Self(_mm256_set1_ps(x)) }
        fn load(p: *const f32) -> Self { Self(_mm256_loadu_ps(p)) }
        fn load_f16(p: *const f16) -> Self { Self(_mm256_cvtph_ps(_mm_loadu_si128(p.cast()))) }
        fn store(self, p: *mut f32) -> () { _mm256_storeu_ps(p, self.0) }
        fn store_f16(self, p: *mut f16) -> () {
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0))
        }
        fn add(self, o: Self) -> Self { Self(_mm256_add_ps(self.0, o.0)) }
        fn sub(self, o: Self) -> Self { Self(_mm256_sub_ps(self.0, o.0)) }
        fn mul(self, o: Self) -> Self { Self(_mm256_mul_ps(self.0, o.0)) }
        fn div(self, o: Self) -> Self { Self(_mm256_div_ps(self.0, o.0)) }
        fn max(self, o: Self) -> Self { Self(_mm256_max_ps(self.0, o.0)) }
        fn min(self, o: Self) -> Self { Self(_mm256_min_ps(self.0, o.0)) }
        fn fma(self, a: Self, b: Self) -> Self { Self(_mm256_fmadd_ps(a.0, b.0, self.0)) }
        fn round(self) -> Self { Self(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)) }
        fn scale2(self, n: Self) -> Self {{
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.0), _mm256_set1_epi32(127));
            Self(_mm256_mul_ps(self.0, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))))
        }}
        fn keep_ge(self, a: Self, b: Self) -> Self {
            Self(_mm256_and_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(a.0, b.0), self.0))
        }
        fn sum(self) -> f32 {{
            let x = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
        }}
        fn largest(self) -> f32 {{
            let x = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps::<1>(x, x)))
        }}
    }
}
