//! Weight matrix times activations, one or two groups of 16 output rows at a time.
//! One or two rows of activations read the packed codes directly; more rows first decode the groups into a panel of bytes,
//! once, and run register tiles over it.

use super::tile::{
    B4, B5, B6, B8, Bf16, CodesOf, F16, F32, Flat, FloatsOf, Half, HalfBias, K16, K16Bias, K32, Panel, ScalesOf, tile,
    tile_float,
};
use super::{Lanes, RowQ};
use crate::mem::LANES;
use crate::packed::Packed;
use quant::DType;

/// What to do with the dot products.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// `out = dot + bias`.
    Set,
    /// `out = out + (dot + bias)`.
    Add,
}

/// One item of a multiplication.
pub struct Gemm<'a> {
    /// Weights.
    pub mat: &'a Packed,
    /// First group.
    pub group: usize,
    /// Groups: 1 or 2.
    pub groups: usize,
    /// The group that this thread will probably take next: its codes are prefetched while this one's are worked on.
    pub next: usize,
    /// Quantised rows (for quantised weights).
    pub rows_q: &'a [RowQ],
    /// f32 rows (for float weights): the first one, ...
    pub x: *const f32,
    /// ... columns from one to the next, ...
    pub x_stride: usize,
    /// ... and how many.
    pub n: usize,
    /// Padded to whole groups.
    pub bias: Option<&'a [f32]>,
    /// First row of the output, at the first column of `group`: whole lanes are written.
    pub out: *mut f32,
    /// Columns from one output row to the next.
    pub out_stride: usize,
    /// Set or add.
    pub into: Into,
}

/// Scratch bytes that `gemm` wants for matrices of `cols` columns: two groups as a panel, and their scales and biases in f32.
pub fn scratch_bytes(cols: usize) -> usize {
    2 * cols * LANES + 2 * cols / 16 * LANES * 4 * 2 + 256
}

/// # Safety
/// As `Lanes`; output rows are valid for whole lanes of all groups and not in use elsewhere; rows hold `mat.cols` columns;
/// `scratch` is at least `scratch_bytes(mat.cols)` long.
#[inline(always)]
pub unsafe fn gemm<L: Lanes>(job: &Gemm<'_>, scratch: &mut [u8]) {
    // SAFETY: forwarded.
    unsafe {
        match job.mat.dtype {
            DType::Q4_0 => quantised::<L, B4, Half, Flat<32, false>, true>(job, 8, scratch),
            DType::Q4_1 => quantised::<L, B4, HalfBias, Flat<32, true>, false>(job, 0, scratch),
            DType::Q5_0 => quantised::<L, B5, Half, Flat<32, false>, true>(job, 16, scratch),
            DType::Q5_1 => quantised::<L, B5, HalfBias, Flat<32, true>, false>(job, 0, scratch),
            DType::Q8_0 => wide::<L>(job),
            DType::Q2_K => quantised::<L, B4, K16Bias, Flat<16, true>, false>(job, 0, scratch),
            DType::Q3_K => quantised::<L, B4, K16, Flat<16, false>, true>(job, 4, scratch),
            DType::Q4_K => quantised::<L, B4, K32, Flat<32, true>, false>(job, 0, scratch),
            DType::Q5_K => quantised::<L, B5, K32, Flat<32, true>, false>(job, 0, scratch),
            DType::Q6_K => quantised::<L, B6, K16, Flat<16, false>, true>(job, 32, scratch),
            DType::F16 => float::<L, F16>(job),
            DType::BF16 => float::<L, Bf16>(job),
            _ => float::<L, F32>(job),
        }
    }
}

#[inline(always)]
unsafe fn quantised<L: Lanes, C: CodesOf, S: ScalesOf, P: ScalesOf, const ZERO: bool>(
    job: &Gemm<'_>,
    zero: u8,
    scratch: &mut [u8],
) {
    // SAFETY: `gemm`'s contract; codes and scales of a group are one stride long each.
    unsafe {
        if job.rows_q.len() <= few_max::<L>() {
            for i in 0..job.groups {
                let (codes, scales) = pointers(job, i);
                few::<L, C, S, ZERO>(job, i, codes, scales, zero);
            }
            return;
        }
        assert!(scratch.len() >= scratch_bytes(job.mat.cols));
        let pad = scratch.as_ptr().align_offset(64).min(64);
        let base = scratch.as_mut_ptr().add(pad);
        let (panel, flat) = (job.mat.cols * LANES, job.mat.cols / P::GROUP * LANES * if P::BIAS { 8 } else { 4 });
        let mut codes = [base.cast_const(); 2];
        let mut scales = codes;
        for i in 0..job.groups {
            let (c, s) = (base.add(i * panel), base.add(2 * panel + i * flat));
            unpack::<L, C, S>(job, i, c, s.cast());
            codes[i] = c;
            scales[i] = s;
        }
        many::<L, Panel, P, ZERO>(job, codes, scales, zero);
    }
}

/// Q8_0: the packed codes are a panel already.
#[inline(always)]
unsafe fn wide<L: Lanes>(job: &Gemm<'_>) {
    // SAFETY: `gemm`'s contract.
    unsafe {
        if job.rows_q.len() <= few_max::<L>() {
            for i in 0..job.groups {
                let (codes, scales) = pointers(job, i);
                few::<L, B8, Half, true>(job, i, codes, scales, 128);
            }
            return;
        }
        let (mut codes, mut scales) = ([std::ptr::null(); 2], [std::ptr::null(); 2]);
        for i in 0..job.groups {
            (codes[i], scales[i]) = pointers(job, i);
        }
        many::<L, B8, Half, true>(job, codes, scales, 128);
    }
}

/// Where group `i` of the job is stored. Panics when there is no such group.
#[inline(always)]
fn pointers(job: &Gemm<'_>, i: usize) -> (*const u8, *const u8) {
    let (m, g) = (job.mat, job.group + i);
    let codes = &m.codes[g * m.codes_stride..(g + 1) * m.codes_stride];
    let scales = &m.scales[g * m.scales_stride..(g + 1) * m.scales_stride];
    (codes.as_ptr(), scales.as_ptr())
}

/// Decodes group `i` into quads of bytes and f32 scales.
#[inline(always)]
unsafe fn unpack<L: Lanes, C: CodesOf, S: ScalesOf>(job: &Gemm<'_>, i: usize, panel: *mut u8, flat: *mut f32) {
    let (codes, scales) = pointers(job, i);
    // SAFETY: a panel is `cols * 16` bytes, `flat` 16 (or 32) floats per group of columns; the caller sized both.
    unsafe {
        for b in 0..job.mat.cols / 32 {
            macro_rules! quads {
                ($($q:literal)*) => { $( L::store_bytes(panel.add(b * 512 + $q * 64), C::quad::<L>(codes.add(b * C::BYTES), $q)); )* };
            }
            quads!(0 1 2 3 4 5 6 7);
        }
        let step = if S::BIAS { 2 * LANES } else { LANES };
        for g in 0..job.mat.cols / S::GROUP {
            L::store(flat.add(g * step), S::scale::<L>(scales, g));
            if S::BIAS {
                L::store(flat.add(g * step + LANES), S::bias::<L>(scales, g));
            }
        }
    }
}

/// Rows for which decoding the codes in registers, again for every tile, is cheaper than a panel.
const fn few_max<L: Lanes>() -> usize {
    if L::TILE >= 6 { 4 } else { 2 }
}

/// One group, a few rows.
#[inline(always)]
unsafe fn few<L: Lanes, C: CodesOf, S: ScalesOf, const ZERO: bool>(
    job: &Gemm<'_>,
    i: usize,
    codes: *const u8,
    scales: *const u8,
    zero: u8,
) {
    // SAFETY: `gemm`'s contract.
    unsafe {
        macro_rules! rows {
            ($t:literal, $acts:expr) => {{
                let y = tile::<L, C, S, ZERO, 1, $t>([codes], [scales], job.mat.cols, $acts, zero);
                sink::<L, 1, $t>(job, i, 0, y);
            }};
        }
        match job.rows_q {
            [a] => rows!(1, &[*a]),
            [a, b] => rows!(2, &[*a, *b]),
            [a, b, c] if L::TILE >= 6 => rows!(3, &[*a, *b, *c]),
            [a, b, c, d] if L::TILE >= 6 => rows!(4, &[*a, *b, *c, *d]),
            _ => {}
        }
    }
}

/// One or two groups as panels, any number of rows.
#[inline(always)]
unsafe fn many<L: Lanes, C: CodesOf, S: ScalesOf, const ZERO: bool>(
    job: &Gemm<'_>,
    codes: [*const u8; 2],
    scales: [*const u8; 2],
    zero: u8,
) {
    let mut at = 0;
    let (next, tiles) = (job.mat.codes.get(job.next * job.mat.codes_stride..), job.rows_q.len().div_ceil(L::TILE));
    let next = next.map_or(&[][..], |n| &n[..n.len().min(job.groups * job.mat.codes_stride)]);
    let mut shares = next.chunks(next.len().div_ceil(tiles.max(1)).next_multiple_of(64).max(64));
    while at < job.rows_q.len() {
        let rest = &job.rows_q[at..];
        for line in shares.next().unwrap_or_default().chunks(64) {
            // SAFETY: a prefetch touches nothing.
            unsafe { L::prefetch(line.as_ptr()) };
        }
        macro_rules! run {
            ($t:literal, $acts:expr) => {{
                let acts: &[RowQ; $t] = $acts;
                // SAFETY: `gemm`'s contract; panels were filled for all groups of the job.
                unsafe {
                    if job.groups == 2 && L::TILE > 2 {
                        let y = tile::<L, C, S, ZERO, 2, $t>(codes, scales, job.mat.cols, acts, zero);
                        sink::<L, 2, $t>(job, 0, at, y);
                    } else {
                        for i in 0..job.groups {
                            let y = tile::<L, C, S, ZERO, 1, $t>([codes[i]], [scales[i]], job.mat.cols, acts, zero);
                            sink::<L, 1, $t>(job, i, at, y);
                        }
                    }
                }
                at += $t;
            }};
        }
        if let (Some(acts), true) = (rest.first_chunk(), L::TILE >= 6) {
            run!(6, acts);
        } else if let (Some(acts), true) = (rest.first_chunk(), L::TILE >= 4) {
            run!(4, acts);
        } else if let Some(acts) = rest.first_chunk() {
            run!(2, acts);
        } else if let Some(acts) = rest.first_chunk() {
            run!(1, acts);
        }
    }
}

/// Stores dot products of groups `i..i + R` and rows `at..at + T`.
#[inline(always)]
unsafe fn sink<L: Lanes, const R: usize, const T: usize>(job: &Gemm<'_>, i: usize, at: usize, y: [[L::F; T]; R]) {
    for t in 0..T {
        let out = job.out.wrapping_add((at + t) * job.out_stride);
        for r in 0..R {
            // SAFETY: `gemm`'s contract on output rows; the bias slice is checked by indexing.
            unsafe {
                let mut v = y[r][t];
                if let Some(bias) = job.bias {
                    let b = &bias[(job.group + i + r) * LANES..(job.group + i + r + 1) * LANES];
                    v = L::add(v, L::load(b.as_ptr()));
                }
                let p = out.add((i + r) * LANES);
                if job.into == Into::Add {
                    v = L::add(L::load(p), v);
                }
                L::store(p, v);
            }
        }
    }
}

#[inline(always)]
unsafe fn float<L: Lanes, W: FloatsOf>(job: &Gemm<'_>) {
    let weights = |i: usize| {
        let (m, g) = (job.mat, job.group + i);
        m.codes[g * m.codes_stride..(g + 1) * m.codes_stride].as_ptr()
    };
    let mut at = 0;
    while at < job.n {
        macro_rules! run {
            ($t:literal) => {{
                // SAFETY: `gemm`'s contract; a group's weights are one stride long; rows `at..at + t` are below `n`.
                unsafe {
                    let acts: [*const f32; $t] = std::array::from_fn(|t| job.x.add((at + t) * job.x_stride));
                    if job.groups == 2 {
                        let y = tile_float::<L, W, 2, $t>([weights(0), weights(1)], job.mat.cols, &acts);
                        sink::<L, 2, $t>(job, 0, at, y);
                    } else {
                        sink::<L, 1, $t>(job, 0, at, tile_float::<L, W, 1, $t>([weights(0)], job.mat.cols, &acts));
                    }
                }
                at += $t;
            }};
        }
        if job.n - at >= 4 { run!(4) } else { run!(1) }
    }
}
