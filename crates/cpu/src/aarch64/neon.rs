//! NEON, which every aarch64 has: four registers hold the sixteen lanes. Codes up to 63 are signed bytes as they are; of wider ones
//! the top bit is turned over first (code - 128), so products are always signed by signed and need no i8mm. Here they go through
//! 16 bits, where a pair of them cannot overflow; neon_dot.rs has an instruction for four.
//!
//! Where NEON and x86 differ: maxima here ignore what is not a number, as `f32::max` does (x86 takes the second operand), and
//! such numbers become the integer 0; neither has bits that are promised. Subnormals are kept, as Linux starts every thread.
#![allow(unsafe_op_in_unsafe_fn, reason = "each function is an intrinsic or two under the contract of `Lanes`")]

use crate::simd::Lanes;
use std::arch::{aarch64::*, asm};

/// How four products of signed bytes are added up in each lane of one register.
///
/// # Safety
/// As `Lanes`.
#[allow(clippy::missing_safety_doc, reason = "the contract is the trait's")]
pub unsafe trait Products: Copy + 'static {
    /// `|w| <= 128`, `|s| <= 127`.
    unsafe fn signed(acc: int32x4_t, w: int8x16_t, s: int8x16_t) -> int32x4_t;
}

/// Sixteen lanes in four registers.
#[derive(Clone, Copy)]
pub struct Four<P>(P);

/// Chosen only when the CPU reports neon.
pub type Neon = Four<Smull>;

/// Products in pairs of 16 bits.
#[derive(Clone, Copy)]
pub struct Smull;

// SAFETY: only NEON, which the table with this implementation was chosen for.
unsafe impl Products for Smull {
    #[inline(always)]
    unsafe fn signed(acc: int32x4_t, w: int8x16_t, s: int8x16_t) -> int32x4_t {
        // A pair is at most 2 * 128 * 127 = 32512.
        let (low, high) = (vmull_s8(vget_low_s8(w), vget_low_s8(s)), vmull_high_s8(w, s));
        vpadalq_s16(acc, vpaddq_s16(low, high))
    }
}

type F = [float32x4_t; 4];
type I = [int32x4_t; 4];

macro_rules! each {
    ($f:ident, $a:expr) => {
        [$f($a[0]), $f($a[1]), $f($a[2]), $f($a[3])]
    };
    ($f:ident, $a:expr, $b:expr) => {
        [$f($a[0], $b[0]), $f($a[1], $b[1]), $f($a[2], $b[2]), $f($a[3], $b[3])]
    };
    ($f:ident, $a:expr, $b:expr, $c:expr) => {
        [$f($a[0], $b[0], $c[0]), $f($a[1], $b[1], $c[1]), $f($a[2], $b[2], $c[2]), $f($a[3], $b[3], $c[3])]
    };
}

/// Eight halves to floats. The intrinsics came with Rust 1.94.
#[inline(always)]
unsafe fn widen(h: uint16x8_t) -> [float32x4_t; 2] {
    let (low, high);
    asm!("fcvtl {0:v}.4s, {2:v}.4h", "fcvtl2 {1:v}.4s, {2:v}.8h", out(vreg) low, lateout(vreg) high, in(vreg) h,
        options(pure, nomem, nostack));
    [low, high]
}

/// Eight floats to halves, to nearest even.
#[inline(always)]
unsafe fn narrow(a: float32x4_t, b: float32x4_t) -> uint16x8_t {
    let h;
    asm!("fcvtn {0:v}.4h, {1:v}.4s", "fcvtn2 {0:v}.8h, {2:v}.4s", out(vreg) h, in(vreg) a, in(vreg) b,
        options(pure, nomem, nostack));
    h
}

#[inline(always)]
unsafe fn power(a: float32x4_t, n: float32x4_t) -> float32x4_t {
    let e = vshlq_n_s32::<23>(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)));
    vmulq_f32(a, vreinterpretq_f32_s32(e))
}

#[inline(always)]
unsafe fn keep_from(x: float32x4_t, limit: float32x4_t, y: float32x4_t) -> float32x4_t {
    vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltq_f32(x, limit)))
}

#[inline(always)]
unsafe fn bytes(a: int32x4_t) -> int8x16_t {
    vreinterpretq_s8_s32(a)
}

/// `u - 128` as a signed byte.
#[inline(always)]
unsafe fn minus_128(u: int32x4_t) -> int8x16_t {
    veorq_s8(bytes(u), vdupq_n_s8(-128))
}

/// `a * b + c`.
#[inline(always)]
unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    vfmaq_f32(c, a, b)
}

// SAFETY: the table with this implementation is handed out only after `dispatch` saw the features in the CPU's report.
unsafe impl<P: Products> Lanes for Four<P> {
    type F = F;
    type I = I;
    const WIDE_IS_SIGNED: bool = true;
    const TILE: usize = 2;
    const GROUPS: usize = 1;
    const FEW: usize = 4;
    const ATTEND_VECTORS: usize = 6;
    const ATTEND_BLOCKS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        [vdupq_n_f32(x); 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        [vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))]
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: F) {
        for i in 0..4 {
            vst1q_f32(p.add(4 * i), x[i]);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> F {
        let ([a, b], [c, d]) = (widen(vld1q_u16(p)), widen(vld1q_u16(p.add(8))));
        [a, b, c, d]
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> F {
        let quarter = |p: *const u16| vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(vld1_u16(p))));
        [quarter(p), quarter(p.add(4)), quarter(p.add(8)), quarter(p.add(12))]
    }
    #[inline(always)]
    unsafe fn store_f16_sat(p: *mut u16, x: F) {
        let c = Self::max(Self::min(x, Self::splat(65504.0)), Self::splat(-65504.0));
        vst1q_u16(p, narrow(c[0], c[1]));
        vst1q_u16(p.add(8), narrow(c[2], c[3]));
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> F {
        let x = vld1q_u8(p);
        let (a, b) = (vmovl_u8(vget_low_u8(x)), vmovl_high_u8(x));
        let wide = [vmovl_u16(vget_low_u16(a)), vmovl_high_u16(a), vmovl_u16(vget_low_u16(b)), vmovl_high_u16(b)];
        each!(vcvtq_f32_u32, wide)
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> F {
        let x = vld1q_s8(p.cast());
        let (a, b) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
        let wide = [vmovl_s16(vget_low_s16(a)), vmovl_high_s16(a), vmovl_s16(vget_low_s16(b)), vmovl_high_s16(b)];
        each!(vcvtq_f32_s32, wide)
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        each!(vaddq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        each!(vsubq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        each!(vmulq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        each!(vdivq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        each!(vmaxnmq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        each!(vminnmq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn abs(a: F) -> F {
        each!(vabsq_f32, a)
    }
    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        each!(fma, a, b, c)
    }
    #[inline(always)]
    unsafe fn round(a: F) -> F {
        each!(vrndnq_f32, a)
    }
    #[inline(always)]
    unsafe fn scale_by_power(a: F, n: F) -> F {
        each!(power, a, n)
    }
    #[inline(always)]
    unsafe fn zero_below(x: F, limit: F, y: F) -> F {
        each!(keep_from, x, limit, y)
    }
    #[inline(always)]
    unsafe fn better(best: F, ids: I, x: F, id: I) -> (F, I) {
        let m = each!(vcgtq_f32, x, best);
        (each!(vbslq_f32, m, x, best), each!(vbslq_s32, m, id, ids))
    }
    #[inline(always)]
    unsafe fn tree(a: F) -> f32 {
        let q = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
        let d = vadd_f32(vget_low_f32(q), vget_high_f32(q));
        vget_lane_f32::<0>(d) + vget_lane_f32::<1>(d)
    }
    #[inline(always)]
    unsafe fn max_of(a: F) -> f32 {
        vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(a[0], a[1]), vmaxnmq_f32(a[2], a[3])))
    }
    #[inline(always)]
    unsafe fn max_pairs(a: F, b: F) -> F {
        each!(vpmaxnmq_f32, [a[0], a[2], b[0], b[2]], [a[1], a[3], b[1], b[3]])
    }
    #[inline(always)]
    unsafe fn add_pairs(a: I, b: I) -> I {
        each!(vpaddq_s32, [a[0], a[2], b[0], b[2]], [a[1], a[3], b[1], b[3]])
    }
    #[inline(always)]
    unsafe fn mul_i(a: I, b: I) -> I {
        each!(vmulq_s32, a, b)
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        asm!("prfm pldl1keep, [{0}]", in(reg) p, options(readonly, nostack, preserves_flags));
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const u8) {
        asm!("prfm pldl2keep, [{0}]", in(reg) p, options(readonly, nostack, preserves_flags));
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> I {
        let quarter = |p: *const u8| vreinterpretq_s32_u8(vld1q_u8(p));
        [quarter(p), quarter(p.add(16)), quarter(p.add(32)), quarter(p.add(48))]
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, x: I) {
        for i in 0..4 {
            vst1q_u8(p.add(16 * i), vreinterpretq_u8_s32(x[i]));
        }
    }
    #[inline(always)]
    unsafe fn splat_i(x: i32) -> I {
        [vdupq_n_s32(x); 4]
    }
    #[inline(always)]
    unsafe fn zero_i() -> I {
        [vdupq_n_s32(0); 4]
    }
    #[inline(always)]
    unsafe fn add_i(a: I, b: I) -> I {
        each!(vaddq_s32, a, b)
    }
    #[inline(always)]
    unsafe fn to_f(a: I) -> F {
        each!(vcvtq_f32_s32, a)
    }
    #[inline(always)]
    unsafe fn to_i(a: F) -> I {
        each!(vcvtnq_s32_f32, a)
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, a: I) {
        let (low, high) = (vmovn_high_s32(vmovn_s32(a[0]), a[1]), vmovn_high_s32(vmovn_s32(a[2]), a[3]));
        vst1q_s8(p, vmovn_high_s16(vmovn_s16(low), high));
    }
    #[inline(always)]
    unsafe fn bits<const R: u32, const L: u32>(a: I, mask: u8) -> I {
        // Negative amounts shift to the right; constants become immediates.
        let (right, left, m) = (vdupq_n_s16(-(R as i16)), vdupq_n_s16(L as i16), vdupq_n_u16(u16::from(mask) * 0x101));
        let quarter = |x: int32x4_t| {
            let shifted = vshlq_u16(vshlq_u16(vreinterpretq_u16_s32(x), right), left);
            vreinterpretq_s32_u16(vandq_u16(shifted, m))
        };
        each!(quarter, a)
    }
    #[inline(always)]
    unsafe fn or(a: I, b: I) -> I {
        each!(vorrq_s32, a, b)
    }
    #[inline(always)]
    unsafe fn dot4(acc: I, u: I, s: I) -> I {
        let (w, s) = (each!(bytes, u), each!(bytes, s));
        [
            P::signed(acc[0], w[0], s[0]),
            P::signed(acc[1], w[1], s[1]),
            P::signed(acc[2], w[2], s[2]),
            P::signed(acc[3], w[3], s[3]),
        ]
    }
    #[inline(always)]
    unsafe fn dot4_wide(acc: I, u: I, s: I) -> I {
        let (w, s) = (each!(minus_128, u), each!(bytes, s));
        [
            P::signed(acc[0], w[0], s[0]),
            P::signed(acc[1], w[1], s[1]),
            P::signed(acc[2], w[2], s[2]),
            P::signed(acc[3], w[3], s[3]),
        ]
    }
}

crate::simd::table!(Neon, "neon", "neon");
