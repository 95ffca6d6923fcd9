//! 256 bits: two registers hold the sixteen lanes. All of it is AVX2, FMA and F16C but products of bytes (`Products`), which here
//! go through `maddubs`: its 16-bit sums cannot saturate for codes up to 63; for wider codes the sign is moved to the activation
//! first. avx_vnni.rs has an instruction for them.
#![allow(unsafe_op_in_unsafe_fn, reason = "each function is an intrinsic or two under the contract of `Lanes`")]

use crate::simd::Lanes;
use std::arch::x86_64::*;

/// What sets of 256 bits differ in: how products of bytes are added up, and how many rows of a tile that leaves registers for.
///
/// # Safety
/// As `Lanes`.
#[allow(clippy::missing_safety_doc, reason = "the contract is the trait's")]
pub unsafe trait Products: Copy + 'static {
    /// As in `Lanes`.
    const WIDE_IS_SIGNED: bool;
    /// As in `Lanes`.
    const TILE: usize;
    /// As in `Lanes`.
    const FEW: usize;
    /// As `Lanes::dot4`, one register.
    unsafe fn dot4(acc: __m256i, u: __m256i, s: __m256i) -> __m256i;
    /// As `Lanes::dot4_wide`, one register.
    unsafe fn dot4_wide(acc: __m256i, u: __m256i, s: __m256i) -> __m256i;
}

/// Sixteen lanes in two registers.
#[derive(Clone, Copy)]
pub struct Two<P>(P);

/// Chosen only when the CPU reports avx2, fma and f16c.
pub type Avx2 = Two<Maddubs>;

/// Products in pairs of 16 bits.
#[derive(Clone, Copy)]
pub struct Maddubs;

type F = [__m256; 2];
type I = [__m256i; 2];

macro_rules! both {
    ($f:ident, $a:expr) => {
        [$f($a[0]), $f($a[1])]
    };
    ($f:ident, $a:expr, $b:expr) => {
        [$f($a[0], $b[0]), $f($a[1], $b[1])]
    };
}

#[inline(always)]
unsafe fn sum4(acc: __m256i, pairs: __m256i) -> __m256i {
    _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

// SAFETY: only AVX2, which the table with this implementation was chosen for.
unsafe impl Products for Maddubs {
    const WIDE_IS_SIGNED: bool = true;
    const TILE: usize = 2;
    const FEW: usize = 4;

    #[inline(always)]
    unsafe fn dot4(acc: __m256i, u: __m256i, s: __m256i) -> __m256i {
        sum4(acc, _mm256_maddubs_epi16(u, s))
    }
    #[inline(always)]
    unsafe fn dot4_wide(acc: __m256i, u: __m256i, s: __m256i) -> __m256i {
        // u - 128 as a signed byte; |w| <= 128 and |s| <= 127, so a pair is at most 32512.
        let w = _mm256_xor_si256(u, _mm256_set1_epi8(-128));
        sum4(acc, _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(s, w)))
    }
}

#[inline(always)]
unsafe fn gt(a: __m256, b: __m256) -> __m256 {
    _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)
}

/// The higher of each two neighbours, four of `a` and then four of `b`.
#[inline(always)]
unsafe fn max_pairs(a: __m256, b: __m256) -> __m256 {
    let m = _mm256_max_ps(_mm256_shuffle_ps::<0b10_00_10_00>(a, b), _mm256_shuffle_ps::<0b11_01_11_01>(a, b));
    // Within each half of a register; the halves' middle parts change places.
    _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(m)))
}

#[inline(always)]
unsafe fn power(a: __m256, n: __m256) -> __m256 {
    let e = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
    _mm256_mul_ps(a, _mm256_castsi256_ps(e))
}

// SAFETY: the table with this implementation is handed out only after `dispatch` saw all features in the CPU's report.
unsafe impl<P: Products> Lanes for Two<P> {
    type F = F;
    type I = I;
    const WIDE_IS_SIGNED: bool = P::WIDE_IS_SIGNED;
    const TILE: usize = P::TILE;
    const GROUPS: usize = 1;
    const FEW: usize = P::FEW;
    const ATTEND_VECTORS: usize = 6;
    const ATTEND_BLOCKS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        [_mm256_set1_ps(x); 2]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))]
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: F) {
        _mm256_storeu_ps(p, x[0]);
        _mm256_storeu_ps(p.add(8), x[1]);
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> F {
        [_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast()))]
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> F {
        let half = |p: *const u16| {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        };
        [half(p), half(p.add(8))]
    }
    #[inline(always)]
    unsafe fn store_f16_sat(p: *mut u16, x: F) {
        let (high, low) = (_mm256_set1_ps(65504.0), _mm256_set1_ps(-65504.0));
        for i in 0..2 {
            let c = _mm256_max_ps(_mm256_min_ps(x[i], high), low);
            _mm_storeu_si128(p.add(8 * i).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(c));
        }
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> F {
        let half = |p: *const u8| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())));
        [half(p), half(p.add(8))]
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> F {
        let half = |p: *const u8| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())));
        [half(p), half(p.add(8))]
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        both!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    unsafe fn abs(a: F) -> F {
        let mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fff_ffff));
        [_mm256_and_ps(a[0], mask), _mm256_and_ps(a[1], mask)]
    }
    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])]
    }
    #[inline(always)]
    unsafe fn round(a: F) -> F {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        [_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])]
    }
    #[inline(always)]
    unsafe fn scale_by_power(a: F, n: F) -> F {
        both!(power, a, n)
    }
    #[inline(always)]
    unsafe fn zero_below(x: F, limit: F, y: F) -> F {
        let half = |i: usize| _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(x[i], limit[i]), y[i]);
        [half(0), half(1)]
    }
    #[inline(always)]
    unsafe fn better(best: F, ids: I, x: F, id: I) -> (F, I) {
        let m = both!(gt, x, best);
        let pick = |a: __m256, b: __m256, m: __m256| _mm256_blendv_ps(a, b, m);
        let int = |i: usize| _mm256_castps_si256(pick(_mm256_castsi256_ps(ids[i]), _mm256_castsi256_ps(id[i]), m[i]));
        ([pick(best[0], x[0], m[0]), pick(best[1], x[1], m[1])], [int(0), int(1)])
    }
    #[inline(always)]
    unsafe fn tree(a: F) -> f32 {
        super::tree8(_mm256_add_ps(a[0], a[1]))
    }
    #[inline(always)]
    unsafe fn max_of(a: F) -> f32 {
        let m = _mm256_max_ps(a[0], a[1]);
        let m = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps::<1>(m));
        let m = _mm_max_ps(m, _mm_movehl_ps(m, m));
        _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps::<1>(m, m)))
    }
    #[inline(always)]
    unsafe fn max_pairs(a: F, b: F) -> F {
        both!(max_pairs, [a[0], b[0]], [a[1], b[1]])
    }
    #[inline(always)]
    unsafe fn add_pairs(a: I, b: I) -> I {
        // Within each half of a register; the halves' middle parts change places.
        let ordered = |x: __m256i| _mm256_permute4x64_epi64::<0b11_01_10_00>(x);
        [ordered(_mm256_hadd_epi32(a[0], a[1])), ordered(_mm256_hadd_epi32(b[0], b[1]))]
    }
    #[inline(always)]
    unsafe fn mul_i(a: I, b: I) -> I {
        both!(_mm256_mullo_epi32, a, b)
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(p.cast())
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(p.cast())
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> I {
        [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())]
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, x: I) {
        _mm256_storeu_si256(p.cast(), x[0]);
        _mm256_storeu_si256(p.add(32).cast(), x[1]);
    }
    #[inline(always)]
    unsafe fn splat_i(x: i32) -> I {
        [_mm256_set1_epi32(x); 2]
    }
    #[inline(always)]
    unsafe fn zero_i() -> I {
        [_mm256_setzero_si256(); 2]
    }
    #[inline(always)]
    unsafe fn add_i(a: I, b: I) -> I {
        both!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    unsafe fn to_f(a: I) -> F {
        both!(_mm256_cvtepi32_ps, a)
    }
    #[inline(always)]
    unsafe fn to_i(a: F) -> I {
        both!(_mm256_cvtps_epi32, a)
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, a: I) {
        // Values are within +-127 here, so the saturating packs only narrow.
        let w = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a[0], a[1]));
        let b = _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256::<1>(w));
        _mm_storeu_si128(p.cast(), b);
    }
    #[inline(always)]
    unsafe fn bits<const R: u32, const L: u32>(a: I, mask: u8) -> I {
        let (right, left) = (_mm_cvtsi32_si128(R as i32), _mm_cvtsi32_si128(L as i32));
        let m = _mm256_set1_epi8(mask as i8);
        let half = |x: __m256i| _mm256_and_si256(_mm256_sll_epi16(_mm256_srl_epi16(x, right), left), m);
        [half(a[0]), half(a[1])]
    }
    #[inline(always)]
    unsafe fn or(a: I, b: I) -> I {
        both!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    unsafe fn dot4(acc: I, u: I, s: I) -> I {
        [P::dot4(acc[0], u[0], s[0]), P::dot4(acc[1], u[1], s[1])]
    }
    #[inline(always)]
    unsafe fn dot4_wide(acc: I, u: I, s: I) -> I {
        [P::dot4_wide(acc[0], u[0], s[0]), P::dot4_wide(acc[1], u[1], s[1])]
    }
}

crate::simd::table!(Avx2, "avx2", "avx2,fma,f16c");
