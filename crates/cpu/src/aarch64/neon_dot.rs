//! NEON with dot products of bytes (`dotprod`: optional from Armv8.2, in every CPU from Armv8.4 on). `sdot` adds four products of
//! signed bytes to 32 bits without saturating; `usdot`, which x86's unsigned codes would ask for, needs i8mm and is not needed.
#![allow(unsafe_op_in_unsafe_fn, reason = "each function is an instruction under the contract of `Lanes`")]

use super::neon::{Four, Products};
use std::arch::{aarch64::*, asm};

/// Chosen only when the CPU reports neon and dotprod.
pub type NeonDot = Four<Sdot>;

/// Products by one instruction.
#[derive(Clone, Copy)]
pub struct Sdot;

// SAFETY: the table with this implementation is handed out only after `dispatch` saw dotprod in the CPU's report.
unsafe impl Products for Sdot {
    #[inline(always)]
    unsafe fn signed(acc: int32x4_t, w: int8x16_t, s: int8x16_t) -> int32x4_t {
        sdot(acc, w, s)
    }
}

/// `vdotq_s32`, which the standard library does not offer yet (`stdarch_neon_dotprod`).
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn sdot(mut acc: int32x4_t, w: int8x16_t, s: int8x16_t) -> int32x4_t {
    asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) acc, in(vreg) w, in(vreg) s,
        options(pure, nomem, nostack, preserves_flags));
    acc
}

crate::simd::table!(NeonDot, "neon-dot", "neon,dotprod");
