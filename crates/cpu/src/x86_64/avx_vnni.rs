//! AVX-VNNI: the 256 bits of avx2.rs with `vpdpbusd`, for CPUs without AVX-512 (Intel since Alder Lake, AMD since Zen 5). It adds
//! four products to 32 bits without saturating, so codes up to 255 need no trick.
#![allow(unsafe_op_in_unsafe_fn, reason = "each function is an intrinsic under the contract of `Lanes`")]

use super::avx2::{Products, Two};
use std::arch::x86_64::*;

/// Chosen only when the CPU reports avxvnni beside what AVX2 wants.
pub type AvxVnni = Two<Dpbusd>;

/// Products by one instruction. That frees registers, but tiles of 3 or 4 rows were no faster than those of 2.
#[derive(Clone, Copy)]
pub struct Dpbusd;

// SAFETY: the table with this implementation is handed out only after `dispatch` saw AVX-VNNI in the CPU's report.
unsafe impl Products for Dpbusd {
    const WIDE_IS_SIGNED: bool = false;
    const TILE: usize = 2;
    const FEW: usize = 4;

    #[inline(always)]
    unsafe fn dot4(acc: __m256i, u: __m256i, s: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(acc, u, s)
    }
    #[inline(always)]
    unsafe fn dot4_wide(acc: __m256i, u: __m256i, s: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(acc, u, s)
    }
}

crate::simd::table!(AvxVnni, "avx-vnni", "avxvnni,avx2,fma,f16c");
