//! Activations as int8: symmetric, one scale per `ACT_BLOCK` elements (the last block of a row may be shorter).
//! The block is shared by every weight format, so one quantised row serves all matrices that read it.

/// Elements that share an activation scale. A multiple of 32; see docs/kernels.md for why this number.
pub const ACT_BLOCK: usize = 32;

/// Blocks whose largest element is below this are zeros: 127 divided by less would be infinite, of which instruction sets make
/// different integers.
pub const AMAX_MIN: f32 = 1e-36;

/// Quantises one row: `q = round_ties_even(x * (127 / amax))`, `scale = amax / 127` per block; a block of zeros has scale 0.
/// `q.len() == x.len()`, `scale.len() == x.len().div_ceil(ACT_BLOCK)`.
pub fn quantise_row(x: &[f32], q: &mut [i8], scale: &mut [f32]) {
    for ((xs, qs), s) in x.chunks(ACT_BLOCK).zip(q.chunks_mut(ACT_BLOCK)).zip(scale) {
        let amax = xs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        *s = amax / 127.0;
        let inverse = if amax >= AMAX_MIN { 127.0 / amax } else { 0.0 };
        for (v, o) in xs.iter().zip(qs) {
            *o = (v * inverse).round_ties_even() as i8;
        }
    }
}
