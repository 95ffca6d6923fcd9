//! Weight matrix times activations, one or two groups of 16 output rows at a time.
//! A few rows of activations read the packed codes directly. With more, the first of them leave the decoded codes behind as a
//! panel of bytes, and register tiles of the others run over that.

use super::tile::{
    Ask, B4, B5, B6, B8, Beside, Bf16, CodesOf, F16, F32, Flat, FloatsOf, Half, HalfBias, K16, K16Bias, K32, Panel,
    ScalesOf, tile, tile_float,
};
use super::{Lanes, RowQ};
use crate::mem::{ITEM, LANES};
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

/// Rows of activations.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Quantised rows (for quantised weights).
    pub rows_q: &'a [RowQ],
    /// f32 rows (for float weights): from the first one on, ...
    pub x: &'a [f32],
    /// ... columns from one to the next, ...
    pub x_stride: usize,
    /// ... and how many.
    pub n: usize,
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
    /// The one after that, whose codes are asked for as far as the second level of cache.
    pub far: usize,
    /// What it is multiplied with.
    pub input: Input<'a>,
    /// Padded to whole groups.
    pub bias: Option<&'a [f32]>,
    /// First row of the output, at the first column of `group`: whole lanes are written.
    pub out: *mut f32,
    /// Columns from one output row to the next.
    pub out_stride: usize,
    /// Set or add.
    pub into: Into,
}

/// Columns of a panel: with its scales and the activations of a tile it stays in the first level of cache (48 KiB).
const PANEL_COLS: usize = 768;
/// Matrices up to this wide are one panel.
const PANEL_COLS_MAX: usize = 1024;

/// Bytes of two groups' panel, ...
const PANEL_BYTES: usize = 2 * PANEL_COLS_MAX * LANES;
/// ... and of their scales and biases in f32.
const FLAT_BYTES: usize = 2 * PANEL_COLS_MAX / 16 * LANES * 8;

/// Scratch bytes that `gemm` wants: a panel of two groups, and the sums of `rows` rows between two panels.
pub fn scratch_bytes(rows: usize) -> usize {
    PANEL_BYTES + FLAT_BYTES + rows * ITEM * 4 + 64
}

/// # Safety
/// As `Lanes`; output rows are valid for whole lanes of all groups and not in use elsewhere; rows hold `mat.cols` columns;
/// `scratch` is at least `scratch_bytes` of the rows long.
#[inline(always)]
pub unsafe fn gemm<L: Lanes>(job: &Gemm<'_>, scratch: &mut [u8]) {
    // SAFETY: forwarded.
    unsafe {
        match job.mat.dtype {
            DType::Q4_0 => quantised::<L, B4, Half, Flat<32, false>, 8>(job, scratch),
            DType::Q4_1 => quantised::<L, B4, HalfBias, Flat<32, true>, 0>(job, scratch),
            DType::Q5_0 => quantised::<L, B5, Half, Flat<32, false>, 16>(job, scratch),
            DType::Q5_1 => quantised::<L, B5, HalfBias, Flat<32, true>, 0>(job, scratch),
            DType::Q8_0 => wide::<L>(job, scratch),
            DType::Q2_K => quantised::<L, B4, K16Bias, Flat<16, true>, 0>(job, scratch),
            DType::Q3_K => quantised::<L, B4, K16, Flat<16, false>, 4>(job, scratch),
            DType::Q4_K => quantised::<L, B4, K32, Flat<32, true>, 0>(job, scratch),
            DType::Q5_K => quantised::<L, B5, K32, Flat<32, true>, 0>(job, scratch),
            DType::Q6_K => quantised::<L, B6, K16, Flat<16, false>, 32>(job, scratch),
            DType::F16 => float::<L, F16>(job),
            DType::BF16 => float::<L, Bf16>(job),
            _ => float::<L, F32>(job),
        }
    }
}

#[inline(always)]
unsafe fn quantised<L: Lanes, C: CodesOf, S: ScalesOf, P: ScalesOf, const ZERO: u8>(
    job: &Gemm<'_>,
    scratch: &mut [u8],
) {
    // SAFETY: `gemm`'s contract; codes and scales of a group are one stride long each.
    unsafe {
        if job.input.rows_q.len() <= L::FEW {
            for i in 0..job.groups {
                let (codes, scales) = pointers(job, i);
                few::<L, C, S, ZERO>(job, i, codes, scales);
            }
            return;
        }
        many::<L, C, S, Panel, P, ZERO, true>(job, scratch);
    }
}

/// Q8_0: the packed codes are a panel already.
#[inline(always)]
unsafe fn wide<L: Lanes>(job: &Gemm<'_>, scratch: &mut [u8]) {
    // SAFETY: `gemm`'s contract.
    unsafe {
        if job.input.rows_q.len() <= L::FEW {
            for i in 0..job.groups {
                let (codes, scales) = pointers(job, i);
                few::<L, B8, Half, 128>(job, i, codes, scales);
            }
            return;
        }
        many::<L, B8, Half, B8, Half, 128, false>(job, scratch);
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

/// One group, a few rows.
#[inline(always)]
unsafe fn few<L: Lanes, C: CodesOf, S: ScalesOf, const ZERO: u8>(
    job: &Gemm<'_>,
    i: usize,
    codes: *const u8,
    scales: *const u8,
) {
    // SAFETY: `gemm`'s contract.
    unsafe {
        macro_rules! rows {
            ($t:literal, $acts:expr) => {{
                let start = [[L::splat(0.0); $t]; 1];
                let y =
                    tile::<L, C, S, ZERO, false, 1, $t>([codes], [scales], 0, job.mat.cols, $acts, start, Beside::NONE);
                sink::<L, 1, $t>(job, i, 0, y);
            }};
        }
        match job.input.rows_q {
            [a] => rows!(1, &[*a]),
            [a, b] => rows!(2, &[*a, *b]),
            [a, b, c] if L::FEW >= 3 => rows!(3, &[*a, *b, *c]),
            [a, b, c, d] if L::FEW >= 4 => rows!(4, &[*a, *b, *c, *d]),
            _ => {}
        }
    }
}

/// One or two groups, any number of rows, panel by panel. Scales (`S`) are decoded first (`F`). The first rows of a panel decode
/// the codes (`C`) and leave them to the others as bytes (`P`); a type whose codes are bytes already does not `FILL`.
#[inline(always)]
unsafe fn many<L: Lanes, C: CodesOf, S: ScalesOf, P: CodesOf, F: ScalesOf, const ZERO: u8, const FILL: bool>(
    job: &Gemm<'_>,
    scratch: &mut [u8],
) {
    let (n, cols) = (job.input.rows_q.len(), job.mat.cols);
    assert!(scratch.len() >= scratch_bytes(n));
    let base = scratch.as_mut_ptr().wrapping_add(scratch.as_ptr().align_offset(64).min(64));
    let half = |at: usize, bytes: usize| [base.wrapping_add(at), base.wrapping_add(at + bytes / 2)];
    let (panel, flat) = (half(0, PANEL_BYTES), half(PANEL_BYTES, FLAT_BYTES));
    let sums = base.wrapping_add(PANEL_BYTES + FLAT_BYTES).cast::<f32>();
    let len = if cols <= PANEL_COLS_MAX { cols } else { PANEL_COLS };
    let tiles = n.div_ceil(rows_max::<L, F>());
    let mut next = Next::new(job, job.next, tiles * cols / 32);
    let mut far = Next::new(job, job.far, tiles * cols / 32);
    for from in (0..cols).step_by(len) {
        let mut at = 0;
        let mut share =
            Share { job, from, cols: len.min(cols - from), sums, panel, flat, next: Ask::NOTHING, far: Ask::NOTHING };
        macro_rules! run {
            ($codes:ty, $scales:ty, $fill:expr, $t:literal) => {{
                (share.next, share.far) = (next.take(share.cols / 32), far.take(share.cols / 32));
                // SAFETY: `gemm`'s contract; `at + t` is at most n; the panel was filled by the first rows.
                unsafe {
                    if job.groups == 2 && L::GROUPS == 2 {
                        share.run::<L, $codes, $scales, ZERO, { $fill }, 2, $t>(0, at);
                    } else {
                        for i in 0..job.groups {
                            share.run::<L, $codes, $scales, ZERO, { $fill }, 1, $t>(i, at);
                        }
                    }
                }
                at += $t;
            }};
        }
        if FILL {
            for i in 0..job.groups {
                // SAFETY: `flat` has room for the scales of a panel of one group.
                unsafe { flatten::<L, S>(job, i, from, share.cols, flat[i].cast()) };
            }
            if L::TILE >= 4 { run!(C, F, FILL, 4) } else { run!(C, F, FILL, 2) }
        }
        while at < n {
            let (rest, max) = (n - at, const { rows_max::<L, F>() });
            match rest.min(max) {
                6 if max >= 6 => run!(P, F, false, 6),
                4.. if max >= 4 => run!(P, F, false, 4),
                2.. => run!(P, F, false, 2),
                _ => run!(P, F, false, 1),
            }
        }
    }
}

/// Decodes the scales of group `i` for `cols` columns from `from` on.
#[inline(always)]
unsafe fn flatten<L: Lanes, S: ScalesOf>(job: &Gemm<'_>, i: usize, from: usize, cols: usize, flat: *mut f32) {
    let step = if S::BIAS { 2 * LANES } else { LANES };
    // SAFETY: the group's scales hold `from + cols` columns, and the caller has room for `cols` of them.
    unsafe {
        let scales = pointers(job, i).1.add(from / 256 * S::BYTES);
        for g in 0..cols / S::GROUP {
            L::store(flat.add(g * step), S::scale::<L>(scales, g));
            if S::BIAS {
                L::store(flat.add(g * step + LANES), S::bias::<L>(scales, g));
            }
        }
    }
}

/// Rows of a tile whose accumulators fit the registers: weights in groups of 16 columns keep a partial sum apart.
const fn rows_max<L: Lanes, S: ScalesOf>() -> usize {
    if S::GROUP == 16 && L::TILE > 4 { 4 } else { L::TILE }
}

/// What will be read after this item, codes and then scales, asked for evenly while this one is worked on.
struct Next<'a> {
    rest: [&'a [u8]; 2],
    lines: usize,
}

impl<'a> Next<'a> {
    /// From `group` on, over `pieces` times 32 columns of work.
    fn new(job: &Gemm<'a>, group: usize, pieces: usize) -> Self {
        let part = |from: &'a [u8], stride: usize| {
            let rest = from.get(group * stride..).unwrap_or_default();
            &rest[..rest.len().min(job.groups * stride)]
        };
        let mat = job.mat;
        let rest = [part(&mat.codes, mat.codes_stride), part(&mat.scales, mat.scales_stride)];
        Self { rest, lines: ((rest[0].len() + rest[1].len()) / 64).div_ceil(pieces.max(1)) }
    }

    /// Where the share of the next `pieces` starts, and bytes per piece.
    fn take(&mut self, pieces: usize) -> Ask {
        let rest = if self.rest[0].is_empty() { &mut self.rest[1] } else { &mut self.rest[0] };
        let (now, later) = rest.split_at((pieces * self.lines * 64).min(rest.len()));
        *rest = later;
        Ask { from: now.as_ptr(), step: if now.is_empty() { 0 } else { self.lines * 64 } }
    }
}

/// One panel's part of an item.
struct Share<'a, 'b> {
    job: &'a Gemm<'b>,
    from: usize,
    cols: usize,
    sums: *mut f32,
    panel: [*mut u8; 2],
    flat: [*mut u8; 2],
    next: Ask,
    far: Ask,
}

impl Share<'_, '_> {
    /// Groups `i..i + R` times rows `at..at + T`. Sums go on from the panel before, and to the output after the last.
    ///
    /// # Safety
    /// `gemm`'s contract; the rows are there; a tile that does not fill finds a filled panel, unless its codes need none.
    #[inline(always)]
    unsafe fn run<
        L: Lanes,
        C: CodesOf,
        S: ScalesOf,
        const ZERO: u8,
        const FILL: bool,
        const R: usize,
        const T: usize,
    >(
        &self,
        i: usize,
        at: usize,
    ) {
        let Some(acts) = self.job.input.rows_q[at..].first_chunk::<T>() else { return };
        let place = |r: usize, t: usize| self.sums.wrapping_add((at + t) * ITEM + (i + r) * LANES);
        // SAFETY: sums of `n` rows have room in the scratch; codes and scales of a group hold `from + cols` columns.
        unsafe {
            let mut acc = [[L::splat(0.0); T]; R];
            if self.from > 0 {
                for r in 0..R {
                    for t in 0..T {
                        acc[r][t] = L::load(place(r, t));
                    }
                }
            }
            let (mut codes, mut scales) = ([std::ptr::null(); R], [std::ptr::null(); R]);
            for r in 0..R {
                let (c, s) = pointers(self.job, i + r);
                let packed = (c.add(self.from / 32 * C::BYTES), s.add(self.from / 256 * S::BYTES));
                codes[r] = if C::IS_PANEL { self.panel[i + r].cast_const() } else { packed.0 };
                scales[r] = if S::IS_FLAT { self.flat[i + r].cast_const() } else { packed.1 };
            }
            let mut panel = [std::ptr::null_mut(); R];
            panel.copy_from_slice(&self.panel[i..i + R]);
            let beside = Beside { panel, next: self.next, far: self.far };
            let y = tile::<L, C, S, ZERO, FILL, R, T>(codes, scales, self.from, self.cols, acts, acc, beside);
            if self.from + self.cols == self.job.mat.cols {
                sink::<L, R, T>(self.job, i, at, y);
                return;
            }
            for r in 0..R {
                for t in 0..T {
                    L::store(place(r, t), y[r][t]);
                }
            }
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
    while at < job.input.n {
        macro_rules! run {
            ($t:literal) => {{
                // SAFETY: `gemm`'s contract; a group's weights are one stride long; rows `at..at + t` are below `n`.
                unsafe {
                    let acts: [*const f32; $t] =
                        std::array::from_fn(|t| job.input.x.as_ptr().add((at + t) * job.input.x_stride));
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
        if job.input.n - at >= 4 { run!(4) } else { run!(1) }
    }
}
