//! The innermost loops: some groups of weight rows times some rows of activations, accumulators in registers.
//! One tile of any shape adds up in the same order, so decode, verify and prefill agree in every bit.

use super::{Lanes, RowQ};
use crate::mem::LANES;
use quant::ACT_BLOCK;

/// Bytes that a streaming tile asks for ahead of its place: what memory delivers in the time one line takes to come.
const AHEAD: usize = 4096;

/// How to get a quad of codes out of its storage.
pub trait CodesOf {
    /// Bytes per 32 columns of a group.
    const BYTES: usize;
    /// Codes above 63 occur.
    const WIDE: bool;
    /// Decoded, in a cache: nothing to prefetch.
    const IS_PANEL: bool;
    /// Quad `q < 8` of the piece at `p`.
    ///
    /// # Safety
    /// `BYTES` bytes are readable at `p`.
    unsafe fn quad<L: Lanes>(p: *const u8, q: usize) -> L::I;
}

/// How to get scales and biases of sixteen rows out of their storage.
pub trait ScalesOf {
    /// Columns that share a scale.
    const GROUP: usize;
    /// Has biases.
    const BIAS: bool;
    /// Bytes for 256 columns.
    const BYTES: usize;
    /// Decoded, in a cache.
    const IS_FLAT: bool;
    /// Scales of column group `g`.
    ///
    /// # Safety
    /// The storage at `p` holds group `g`.
    unsafe fn scale<L: Lanes>(p: *const u8, g: usize) -> L::F;
    /// Biases of column group `g`.
    ///
    /// # Safety
    /// The storage at `p` holds group `g`.
    unsafe fn bias<L: Lanes>(p: *const u8, g: usize) -> L::F;
}

/// Two quads a chunk.
pub struct B4;
/// `B4` and a chunk of fifth bits.
pub struct B5;
/// `B4` and two chunks of two bits.
pub struct B6;
/// One quad a chunk, codes up to 255.
pub struct B8;
/// One quad a chunk, codes up to 63: what a decoded panel holds.
pub struct Panel;

#[inline(always)]
unsafe fn nibble<L: Lanes>(p: *const u8, q: usize) -> L::I {
    // SAFETY: four 64-byte chunks are readable, q / 2 < 4.
    unsafe {
        let chunk = L::load_bytes(p.add(q / 2 * 64));
        if q.is_multiple_of(2) { L::bits::<0, 0>(chunk, 15) } else { L::bits::<4, 0>(chunk, 15) }
    }
}

impl CodesOf for B4 {
    const BYTES: usize = 256;
    const WIDE: bool = false;
    const IS_PANEL: bool = false;
    #[inline(always)]
    unsafe fn quad<L: Lanes>(p: *const u8, q: usize) -> L::I {
        // SAFETY: as the trait.
        unsafe { nibble::<L>(p, q) }
    }
}

impl CodesOf for B5 {
    const BYTES: usize = 320;
    const WIDE: bool = false;
    const IS_PANEL: bool = false;
    #[inline(always)]
    unsafe fn quad<L: Lanes>(p: *const u8, q: usize) -> L::I {
        // SAFETY: as the trait; the fifth bits are the fifth chunk.
        unsafe {
            let high = L::load_bytes(p.add(256));
            let bit = match q {
                0 => L::bits::<0, 4>(high, 16),
                1 => L::bits::<0, 3>(high, 16),
                2 => L::bits::<0, 2>(high, 16),
                3 => L::bits::<0, 1>(high, 16),
                4 => L::bits::<0, 0>(high, 16),
                5 => L::bits::<1, 0>(high, 16),
                6 => L::bits::<2, 0>(high, 16),
                _ => L::bits::<3, 0>(high, 16),
            };
            L::or(nibble::<L>(p, q), bit)
        }
    }
}

impl CodesOf for B6 {
    const BYTES: usize = 384;
    const WIDE: bool = false;
    const IS_PANEL: bool = false;
    #[inline(always)]
    unsafe fn quad<L: Lanes>(p: *const u8, q: usize) -> L::I {
        // SAFETY: as the trait; the upper bits are the fifth and sixth chunk.
        unsafe {
            let high = L::load_bytes(p.add(256 + q / 4 * 64));
            let bits = match q % 4 {
                0 => L::bits::<0, 4>(high, 48),
                1 => L::bits::<0, 2>(high, 48),
                2 => L::bits::<0, 0>(high, 48),
                _ => L::bits::<2, 0>(high, 48),
            };
            L::or(nibble::<L>(p, q), bits)
        }
    }
}

impl CodesOf for B8 {
    const BYTES: usize = 512;
    const WIDE: bool = true;
    const IS_PANEL: bool = false;
    #[inline(always)]
    unsafe fn quad<L: Lanes>(p: *const u8, q: usize) -> L::I {
        // SAFETY: as the trait.
        unsafe { L::load_bytes(p.add(q * 64)) }
    }
}

impl CodesOf for Panel {
    const BYTES: usize = 512;
    const WIDE: bool = false;
    const IS_PANEL: bool = true;
    #[inline(always)]
    unsafe fn quad<L: Lanes>(p: *const u8, q: usize) -> L::I {
        // SAFETY: as the trait.
        unsafe { L::load_bytes(p.add(q * 64)) }
    }
}

/// `Scales::Half`.
pub struct Half;
/// `Scales::HalfBias`.
pub struct HalfBias;
/// `Scales::K32`.
pub struct K32;
/// `Scales::K16Bias`.
pub struct K16Bias;
/// `Scales::K16`.
pub struct K16;
/// Decoded to f32: per group of columns 16 scales, and 16 biases if any. `G` is 16 or 32.
pub struct Flat<const G: usize, const BIAS: bool>;

#[inline(always)]
unsafe fn zeros<L: Lanes>() -> L::F {
    // SAFETY: no memory is touched.
    unsafe { L::splat(0.0) }
}

/// The bias of a type that has none.
#[inline(always)]
unsafe fn none<L: Lanes>(_: *const u8, _: usize) -> L::F {
    // SAFETY: no memory is touched.
    unsafe { L::splat(0.0) }
}

macro_rules! scales_of {
    ($name:ident, $group:literal, $bias:literal, $bytes:literal, |$p:ident, $g:ident| $scale:expr, $bias_of:expr) => {
        impl ScalesOf for $name {
            const GROUP: usize = $group;
            const BIAS: bool = $bias;
            const BYTES: usize = $bytes;
            const IS_FLAT: bool = false;
            #[inline(always)]
            unsafe fn scale<L: Lanes>($p: *const u8, $g: usize) -> L::F {
                // SAFETY: the offsets are those of `Scales` in packed.rs for group `g`, which the caller promises is there.
                unsafe { $scale }
            }
            #[inline(always)]
            unsafe fn bias<L: Lanes>($p: *const u8, $g: usize) -> L::F {
                // SAFETY: as above.
                unsafe { $bias_of }
            }
        }
    };
}

scales_of!(Half, 32, false, 256, |p, g| L::load_f16(p.add(g * 32).cast()), none::<L>(p, g));
scales_of!(HalfBias, 32, true, 512, |p, g| L::load_f16(p.add(g * 64).cast()), L::load_f16(p.add(g * 64 + 32).cast()));
scales_of!(
    K32,
    32,
    true,
    320,
    |p, g| L::mul(L::load_f16(p.add(g / 8 * 320).cast()), L::load_u8(p.add(g / 8 * 320 + 64 + g % 8 * 16))),
    {
        let p = p.add(g / 8 * 320);
        L::sub(zeros::<L>(), L::mul(L::load_f16(p.add(32).cast()), L::load_u8(p.add(192 + g % 8 * 16))))
    }
);
scales_of!(
    K16Bias,
    16,
    true,
    576,
    |p, g| L::mul(L::load_f16(p.add(g / 16 * 576).cast()), L::load_u8(p.add(g / 16 * 576 + 64 + g % 16 * 16))),
    {
        let p = p.add(g / 16 * 576);
        L::sub(zeros::<L>(), L::mul(L::load_f16(p.add(32).cast()), L::load_u8(p.add(320 + g % 16 * 16))))
    }
);
scales_of!(
    K16,
    16,
    false,
    288,
    |p, g| L::mul(L::load_f16(p.add(g / 16 * 288).cast()), L::load_i8(p.add(g / 16 * 288 + 32 + g % 16 * 16))),
    none::<L>(p, g)
);

impl<const G: usize, const BIAS: bool> ScalesOf for Flat<G, BIAS> {
    const GROUP: usize = G;
    const BIAS: bool = BIAS;
    const BYTES: usize = 256 / G * LANES * if BIAS { 8 } else { 4 };
    const IS_FLAT: bool = true;
    #[inline(always)]
    unsafe fn scale<L: Lanes>(p: *const u8, g: usize) -> L::F {
        // SAFETY: as the trait.
        unsafe { L::load(p.cast::<f32>().add(g * LANES * if BIAS { 2 } else { 1 })) }
    }
    #[inline(always)]
    unsafe fn bias<L: Lanes>(p: *const u8, g: usize) -> L::F {
        // SAFETY: as the trait.
        unsafe { L::load(p.cast::<f32>().add(g * LANES * 2 + LANES)) }
    }
}

/// What a tile does beside its multiplications, so that nobody has to wait for it.
pub struct Beside<const R: usize> {
    /// Where decoded codes go, for the tiles of the rows that follow; used by tiles that `FILL`.
    pub panel: [*mut u8; R],
    /// What will be read next from memory.
    pub next: Ask,
    /// And after that.
    pub far: Ask,
}

/// Memory to ask for while multiplying.
#[derive(Clone, Copy)]
pub struct Ask {
    /// Where it begins.
    pub from: *const u8,
    /// How far to go on in it per 32 columns, at most `lines_max` lines.
    pub step: usize,
}

impl Ask {
    /// No memory.
    pub const NOTHING: Self = Self { from: std::ptr::null(), step: 0 };
}

/// Lines that a tile of `t` rows can ask for per 32 columns.
pub const fn lines_max(t: usize) -> usize {
    if t > 4 { 4 } else { 8 }
}

impl<const R: usize> Beside<R> {
    /// Nothing.
    pub const NONE: Self = Self { panel: [std::ptr::null_mut(); R], next: Ask::NOTHING, far: Ask::NOTHING };
}

/// `R` groups of weight rows times `T` rows of activations over the columns `from..from + cols`, added to `acc`.
/// `codes` and `scales` start at column `from`.
///
/// # Safety
/// Codes and scales of `cols` columns are readable at each pointer; each `acts` row holds `from + cols` columns; `ZERO` is the
/// zero point of the codes (0: none); a tile that fills has room for `cols` columns of panel.
/// The caller compiled us with the features of `L`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the innermost loop: each is a register or a constant")]
pub unsafe fn tile<
    L: Lanes,
    C: CodesOf,
    S: ScalesOf,
    const ZERO: u8,
    const FILL: bool,
    const R: usize,
    const T: usize,
>(
    codes: [*const u8; R],
    scales: [*const u8; R],
    from: usize,
    cols: usize,
    acts: &[RowQ; T],
    mut acc: [[L::F; T]; R],
    beside: Beside<R>,
) -> [[L::F; T]; R] {
    // SAFETY: all reads are within `cols` columns, which the caller promises are there.
    unsafe {
        // One group for a few rows: codes come straight from memory. All others share what this thread will read next.
        let streams = R == 1 && T <= 4 && !C::IS_PANEL && !FILL;
        let starts_at_neg = ZERO != 0 && !(C::WIDE && L::WIDE_IS_SIGNED);
        let g0 = from / S::GROUP;
        // Plain loops: a closure would be compiled without the features of `L` and called.
        let (mut q, mut x_scale) = ([std::ptr::null::<i8>(); T], [std::ptr::null::<f32>(); T]);
        let (mut negs, mut sums) = ([std::ptr::null::<i32>(); T], [std::ptr::null::<f32>(); T]);
        for t in 0..T {
            q[t] = acts[t].q.add(from);
            x_scale[t] = acts[t].scale.add(from / ACT_BLOCK);
            negs[t] = acts[t].negs_of::<ZERO>().wrapping_add(g0);
            sums[t] = acts[t].sums_of(S::GROUP).wrapping_add(g0);
        }
        let pieces = cols / 32;
        for block in 0..pieces.div_ceil(ACT_BLOCK / 32) {
            let mut part = [[zeros::<L>(); T]; R];
            for b in block * (ACT_BLOCK / 32)..pieces.min((block + 1) * (ACT_BLOCK / 32)) {
                if streams {
                    // Groups follow each other in memory, so running past this one's end prefetches the next.
                    for line in 0..C::BYTES / 64 {
                        L::prefetch(codes[0].wrapping_add(b * C::BYTES + AHEAD + line * 64));
                    }
                } else {
                    // A fixed number, asked for again where fewer are due: a loop here costs the accumulators their registers.
                    for line in 0..lines_max(T) {
                        L::prefetch(beside.next.from.wrapping_add(b * beside.next.step + line * 64));
                        L::prefetch_far(beside.far.from.wrapping_add(b * beside.far.step + line * 64));
                    }
                }
                for half in 0..32 / S::GROUP {
                    let g = b * (32 / S::GROUP) + half;
                    let mut dot = [[L::zero_i(); T]; R];
                    let mut odd = [[L::zero_i(); T]; R];
                    if starts_at_neg {
                        for t in 0..T {
                            let n = L::splat_i(*negs[t].add(g));
                            for r in 0..R {
                                dot[r][t] = n;
                            }
                        }
                    }
                    macro_rules! quad {
                        ($q:expr, $sum:ident) => {
                            let mut w = [L::zero_i(); R];
                            for r in 0..R {
                                w[r] = C::quad::<L>(codes[r].add(b * C::BYTES), $q);
                                if FILL {
                                    L::store_bytes(beside.panel[r].add(b * Panel::BYTES + $q * 64), w[r]);
                                }
                            }
                            for t in 0..T {
                                let a = L::splat_i(q[t].add(b * 32 + $q * 4).cast::<i32>().read_unaligned());
                                for r in 0..R {
                                    $sum[r][t] = if C::WIDE {
                                        L::dot4_wide($sum[r][t], w[r], a)
                                    } else {
                                        L::dot4($sum[r][t], w[r], a)
                                    };
                                }
                            }
                        };
                    }
                    // A lone row has nothing to overlap with: two chains of integer sums, which may be added in any order.
                    if T * R == 1 {
                        quad!(half * 4, dot);
                        quad!(half * 4 + 1, odd);
                        quad!(half * 4 + 2, dot);
                        quad!(half * 4 + 3, odd);
                        if S::GROUP == 32 {
                            quad!(4, dot);
                            quad!(5, odd);
                            quad!(6, dot);
                            quad!(7, odd);
                        }
                        dot[0][0] = L::add_i(dot[0][0], odd[0][0]);
                    } else {
                        quad!(half * 4, dot);
                        quad!(half * 4 + 1, dot);
                        quad!(half * 4 + 2, dot);
                        quad!(half * 4 + 3, dot);
                        if S::GROUP == 32 {
                            quad!(4, dot);
                            quad!(5, dot);
                            quad!(6, dot);
                            quad!(7, dot);
                        }
                    }
                    for r in 0..R {
                        let scale = S::scale::<L>(scales[r], g);
                        for t in 0..T {
                            part[r][t] = L::fma(scale, L::to_f(dot[r][t]), part[r][t]);
                        }
                        if S::BIAS {
                            let bias = S::bias::<L>(scales[r], g);
                            for t in 0..T {
                                part[r][t] = L::fma(bias, L::splat(*sums[t].add(g)), part[r][t]);
                            }
                        }
                    }
                }
            }
            for t in 0..T {
                let scale = L::splat(*x_scale[t].add(block));
                for r in 0..R {
                    acc[r][t] = L::fma(scale, part[r][t], acc[r][t]);
                }
            }
        }
        acc
    }
}

/// How float weights are stored, `[col][16]`.
pub trait FloatsOf {
    /// Sixteen weights of column `k`.
    ///
    /// # Safety
    /// Column `k` is readable at `p`.
    unsafe fn at<L: Lanes>(p: *const u8, k: usize) -> L::F;
}
/// f32.
pub struct F32;
/// IEEE half.
pub struct F16;
/// bfloat16.
pub struct Bf16;

impl FloatsOf for F32 {
    #[inline(always)]
    unsafe fn at<L: Lanes>(p: *const u8, k: usize) -> L::F {
        // SAFETY: as the trait.
        unsafe { L::load(p.cast::<f32>().add(k * LANES)) }
    }
}
impl FloatsOf for F16 {
    #[inline(always)]
    unsafe fn at<L: Lanes>(p: *const u8, k: usize) -> L::F {
        // SAFETY: as the trait.
        unsafe { L::load_f16(p.cast::<u16>().add(k * LANES)) }
    }
}
impl FloatsOf for Bf16 {
    #[inline(always)]
    unsafe fn at<L: Lanes>(p: *const u8, k: usize) -> L::F {
        // SAFETY: as the trait.
        unsafe { L::load_bf16(p.cast::<u16>().add(k * LANES)) }
    }
}

/// As `tile`, for float weights and f32 activations: one fused multiply-add per column, in order.
///
/// # Safety
/// `cols` columns are readable at each pointer and in each row.
#[inline(always)]
pub unsafe fn tile_float<L: Lanes, W: FloatsOf, const R: usize, const T: usize>(
    weights: [*const u8; R],
    cols: usize,
    acts: &[*const f32; T],
) -> [[L::F; T]; R] {
    // SAFETY: reads stay within `cols` columns.
    unsafe {
        let mut acc = [[zeros::<L>(); T]; R];
        for k in 0..cols {
            let w: [L::F; R] = std::array::from_fn(|r| W::at::<L>(weights[r], k));
            for t in 0..T {
                let a = L::splat(*acts[t].add(k));
                for r in 0..R {
                    acc[r][t] = L::fma(w[r], a, acc[r][t]);
                }
            }
        }
        acc
    }
}
