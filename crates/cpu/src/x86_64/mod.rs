//! x86-64: what AVX2, AVX-VNNI and AVX-512 offer the kernels.

pub mod avx2;
pub mod avx512;
pub mod avx_vnni;

use std::arch::x86_64::*;

/// The lower half of the canonical sum: 8 lanes to 4 to 2 to 1.
///
/// # Safety
/// The CPU has AVX.
#[inline(always)]
unsafe fn tree8(h: __m256) -> f32 {
    // SAFETY: AVX by the caller's promise.
    unsafe {
        let q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps::<1>(h));
        let d = _mm_add_ps(q, _mm_movehl_ps(q, q));
        _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps::<1>(d, d)))
    }
}
