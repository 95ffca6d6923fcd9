//! Kernels over single rows: exp, norm, gate, quantisation. Each repeats its definition in `ops::math` and `quant::act`
//! operation by operation.

use super::{Lanes, Need, RowQ};
use crate::mem::{ITEM, LANES};
use ops::math::{EXP_MAX, EXP_MIN, EXP_POLY, EXP2_MIN, EXP2_POLY, LN2_HI, LN2_LO, LOG2_E};
use quant::{ACT_BLOCK, act::AMAX_MIN};

/// `ops::math::exp` on sixteen lanes.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn exp<L: Lanes>(x: L::F) -> L::F {
    // SAFETY: the caller compiled us with the features of `L`.
    unsafe {
        let c = L::max(L::min(x, L::splat(EXP_MAX)), L::splat(EXP_MIN));
        let n = L::round(L::mul(c, L::splat(LOG2_E)));
        let minus_n = L::sub(L::splat(0.0), n);
        let r = L::fma(minus_n, L::splat(LN2_HI), c);
        let r = L::fma(minus_n, L::splat(LN2_LO), r);
        let mut p = L::splat(EXP_POLY[0]);
        for coefficient in &EXP_POLY[1..] {
            p = L::fma(p, r, L::splat(*coefficient));
        }
        let y = L::add(L::fma(p, L::mul(r, r), r), L::splat(1.0));
        L::zero_below(x, L::splat(EXP_MIN), L::scale_by_power(y, n))
    }
}

/// `ops::math::exp2` on sixteen lanes.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn exp2<L: Lanes>(x: L::F) -> L::F {
    // SAFETY: the caller compiled us with the features of `L`.
    unsafe {
        let c = L::max(x, L::splat(EXP2_MIN));
        let n = L::round(c);
        let r = L::sub(c, n);
        let mut p = L::splat(EXP2_POLY[0]);
        for coefficient in &EXP2_POLY[1..] {
            p = L::fma(p, r, L::splat(*coefficient));
        }
        let y = L::fma(p, r, L::splat(1.0));
        L::zero_below(x, L::splat(EXP2_MIN), L::scale_by_power(y, n))
    }
}

/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn swiglu<L: Lanes>(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.chunks_exact_mut(LANES).zip(up.chunks_exact(LANES)) {
        // SAFETY: both chunks hold sixteen elements.
        unsafe {
            let (x, u) = (L::load(g.as_ptr()), L::load(u.as_ptr()));
            let e = exp::<L>(L::sub(L::splat(0.0), x));
            L::store(g.as_mut_ptr(), L::mul(L::div(x, L::add(L::splat(1.0), e)), u));
        }
    }
}

/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn rms_norm<L: Lanes>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32], len: usize) {
    // SAFETY: every chunk below holds sixteen elements.
    unsafe {
        let mut lanes = L::splat(0.0);
        for c in x.chunks_exact(LANES) {
            let v = L::load(c.as_ptr());
            lanes = L::fma(v, v, lanes);
        }
        let mean = L::tree(lanes) / len as f32;
        let scale = L::splat(1.0 / (mean + eps).sqrt());
        for ((o, c), w) in out.chunks_exact_mut(LANES).zip(x.chunks_exact(LANES)).zip(weight.chunks_exact(LANES)) {
            L::store(o.as_mut_ptr(), L::mul(L::mul(L::load(c.as_ptr()), scale), L::load(w.as_ptr())));
        }
    }
}

/// `ops::math::rope_head`; pairs of halves go sixteen at a time.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn rope<L: Lanes>(heads: &mut [f32], d_head: usize, angles: &[f32], interleaved: bool) {
    let half = angles.len() / 2;
    if interleaved || !half.is_multiple_of(LANES) {
        for head in heads.chunks_exact_mut(d_head) {
            ops::math::rope_head(head, angles, interleaved);
        }
        return;
    }
    let (cos, sin) = angles.split_at(half);
    for head in heads.chunks_exact_mut(d_head) {
        let (xs, ys) = head[..2 * half].split_at_mut(half);
        let pairs = xs.chunks_exact_mut(LANES).zip(ys.chunks_exact_mut(LANES));
        for ((x, y), (c, s)) in pairs.zip(cos.chunks_exact(LANES).zip(sin.chunks_exact(LANES))) {
            // SAFETY: all four chunks hold sixteen elements.
            unsafe {
                let (a, b) = (L::load(x.as_ptr()), L::load(y.as_ptr()));
                let (c, s) = (L::load(c.as_ptr()), L::load(s.as_ptr()));
                L::store(x.as_mut_ptr(), L::sub(L::mul(a, c), L::mul(b, s)));
                L::store(y.as_mut_ptr(), L::add(L::mul(a, s), L::mul(b, c)));
            }
        }
    }
}

/// Blocks of activations whose scales are computed together: one register of them.
const BLOCKS: usize = LANES;

/// # Safety
/// As `Lanes`; `out` has room for `x.len()` columns (a multiple of 32) and is not in use elsewhere.
#[inline(always)]
pub unsafe fn quantise<L: Lanes>(x: &[f32], out: &RowQ, need: Need) {
    debug_assert!(x.len().is_multiple_of(32) && x.len() / 32 <= out.g32);
    for (run, xs) in x.chunks(BLOCKS * ACT_BLOCK).enumerate() {
        let mut inverse = [0.0f32; BLOCKS];
        let mut scale = [0.0f32; BLOCKS];
        // SAFETY: every chunk of sixteen is whole; the row has room for all of `x` (asserted), rounded up to whole blocks.
        unsafe {
            let mut tops = [L::splat(0.0); BLOCKS];
            for (top, block) in tops.iter_mut().zip(xs.chunks(ACT_BLOCK)) {
                for c in block.chunks_exact(LANES) {
                    *top = L::max(*top, L::abs(L::load(c.as_ptr())));
                }
            }
            // The sixteen maxima of sixteen lanes each end up in one register, in order.
            let mut left = BLOCKS;
            while left > 1 {
                left /= 2;
                for i in 0..left {
                    tops[i] = L::max_pairs(tops[2 * i], tops[2 * i + 1]);
                }
            }
            let amax = tops[0];
            L::store(scale.as_mut_ptr(), L::div(amax, L::splat(127.0)));
            // A block of next to nothing divides by it; its codes are zero.
            let by = L::zero_below(amax, L::splat(AMAX_MIN), L::div(L::splat(127.0), amax));
            L::store(inverse.as_mut_ptr(), by);
            for (b, block) in xs.chunks(ACT_BLOCK).enumerate() {
                *out.scale.add(run * BLOCKS + b) = scale[b];
                let by = L::splat(inverse[b]);
                for (i, c) in block.chunks_exact(LANES).enumerate() {
                    let q = L::to_i(L::mul(L::load(c.as_ptr()), by));
                    L::store_i8(out.q.add((run * BLOCKS + b) * ACT_BLOCK + i * LANES), q);
                }
            }
        }
    }
    if need.any() {
        for at in (0..x.len()).step_by(BLOCKS * ACT_BLOCK) {
            // SAFETY: forwarded. Apart from the loop above, because a load has to wait for several narrower stores.
            unsafe { sums::<L>(out, at, (x.len() - at).min(BLOCKS * ACT_BLOCK), need) };
        }
    }
}

/// Sums of 16 and of 32 columns, sixteen blocks at a time.
///
/// # Safety
/// As `quantise`: `len` columns from `at` on, at most sixteen blocks, were written.
#[inline(always)]
unsafe fn sums<L: Lanes>(out: &RowQ, at: usize, len: usize, need: Need) {
    // SAFETY: rows are readable to the next multiple of 64 columns; groups past `len` are not stored.
    unsafe {
        let ones = L::splat_i(0x0101_0101);
        let mut fours = [L::zero_i(); BLOCKS / 2];
        for (i, four) in fours.iter_mut().enumerate().take(len.div_ceil(64)) {
            *four = L::dot4(L::zero_i(), ones, L::load_bytes(out.q.add(at + 64 * i).cast()));
        }
        let mut eights = [L::zero_i(); 4];
        for i in 0..4 {
            eights[i] = L::add_pairs(fours[2 * i], fours[2 * i + 1]);
        }
        let sixteens = [L::add_pairs(eights[0], eights[1]), L::add_pairs(eights[2], eights[3])];
        let both = L::add_pairs(sixteens[0], sixteens[1]);
        out.put_sums::<L>(at / 32, len / 32, need, both, sixteens);
    }
}

/// Folds one item's outputs into the running best of each row: `outs` is `[n][ITEM]`, of which the first `used` columns are
/// there, starting with column `first` of the matrix; `best` and `ids` are `[n][16]`, a running best for each lane.
/// Columns come in rising order, so a tie keeps the lower one.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn fold_best<L: Lanes>(outs: &mut [f32], first: u32, used: usize, best: &mut [f32], ids: &mut [u32]) {
    let rows = best.chunks_exact_mut(LANES).zip(ids.chunks_exact_mut(LANES));
    for (out, (best, ids)) in outs.chunks_exact_mut(ITEM).zip(rows) {
        out[used..].fill(f32::NEG_INFINITY);
        // SAFETY: all chunks hold sixteen elements.
        unsafe {
            let (mut top, mut at) = (L::load(best.as_ptr()), L::load_bytes(ids.as_ptr().cast()));
            for (i, c) in out.chunks_exact(LANES).enumerate() {
                (top, at) = L::better(top, at, L::load(c.as_ptr()), L::splat_i(first as i32 + (i * LANES) as i32));
            }
            L::store(best.as_mut_ptr(), top);
            L::store_bytes(ids.as_mut_ptr().cast(), at);
        }
    }
}

/// Reads whole 64-byte lines, for the memory ceiling. Returns something that depends on all of them.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn read<L: Lanes>(bytes: &[u8]) -> u8 {
    let mut last = [0u8; 64];
    // SAFETY: eight lines of 64 bytes per chunk; `last` holds one.
    unsafe {
        let mut acc = [L::zero_i(); 8];
        for c in bytes.chunks_exact(512) {
            for (i, a) in acc.iter_mut().enumerate() {
                *a = L::or(*a, L::load_bytes(c.as_ptr().add(64 * i)));
            }
        }
        let all = acc.into_iter().fold(L::zero_i(), |a, b| L::or(a, b));
        L::store_bytes(last.as_mut_ptr(), all);
    }
    last.iter().fold(0, |a, b| a | b)
}

/// `turns` times ten chains of integer dot products in registers, for the int8 ceiling.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn spin_int8<L: Lanes>(turns: usize) -> f32 {
    // SAFETY: no memory is touched.
    unsafe {
        let (u, s) = (L::splat_i(std::hint::black_box(0x0101_0101)), L::splat_i(std::hint::black_box(0x0201_0201)));
        let mut acc = [L::zero_i(); 10];
        for _ in 0..turns {
            for a in &mut acc {
                *a = L::dot4(*a, u, s);
            }
        }
        acc.into_iter().map(|a| L::tree(L::to_f(a))).sum()
    }
}

/// `turns` times ten chains of fused multiply-adds in registers, for the f32 ceiling.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn spin_f32<L: Lanes>(turns: usize) -> f32 {
    // SAFETY: no memory is touched.
    unsafe {
        let (x, y) = (L::splat(std::hint::black_box(0.5)), L::splat(std::hint::black_box(1.0)));
        let mut acc = [L::splat(1.0); 10];
        for _ in 0..turns {
            for a in &mut acc {
                *a = L::fma(*a, x, y);
            }
        }
        acc.into_iter().map(|a| L::tree(a)).sum()
    }
}
