//! Weights repacked at load so that sixteen output rows lie side by side, one per lane (docs/kernels.md draws the layouts).
//!
//! A *group* is 16 rows. Per 32 columns of a group, the unsigned codes (`q + zero`) form eight *quads* of 64 bytes:
//! byte `4 * row + k % 4` of quad `k / 4`. Four-bit codes put two quads into one 64-byte chunk (low and high nibbles);
//! the fifth bit, or the fifth and sixth, of all quads follow in chunks of their own. Scales are kept apart from codes, as
//! the file has them (half floats and small integers), so the bytes read per token stay those of the file.

use crate::mem::{Aligned, Arena, LANES};
use crate::pool::Pool;
use ops::{MatSrc, OpsError};
use quant::{Block, DType};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Bytes of the file that one item of packing reads.
const ITEM_BYTES: usize = 256 << 10;

/// Bits of a code as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// Two quads a chunk.
    B4,
    /// `B4`, then one chunk with the fifth bit: bit `quad`.
    B5,
    /// `B4`, then two chunks with two more bits: bits `2 * (quad % 4)` of chunk `quad / 4`.
    B6,
    /// One quad a chunk.
    B8,
}

/// How scales are stored, per group of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scales {
    /// Per 32 columns: 16 half-float scales.
    Half,
    /// Per 32 columns: 16 half-float scales, 16 half-float biases.
    HalfBias,
    /// Per 256 columns: 16 `d`, 16 `dmin`, then 8 x 16 scale bytes, 8 x 16 minimum bytes (Q4_K, Q5_K).
    K32,
    /// Per 256 columns: 16 `d`, 16 `dmin`, then 16 x 16 scale bytes, 16 x 16 minimum bytes (Q2_K).
    K16Bias,
    /// Per 256 columns: 16 `d`, then 16 x 16 signed scale bytes (Q3_K, Q6_K).
    K16,
}

/// Layout of a quantised type: codes, scales, zero point.
pub fn layout(dtype: DType) -> Option<(Codes, Scales, u8)> {
    Some(match dtype {
        DType::Q4_0 => (Codes::B4, Scales::Half, 8),
        DType::Q4_1 => (Codes::B4, Scales::HalfBias, 0),
        DType::Q5_0 => (Codes::B5, Scales::Half, 16),
        DType::Q5_1 => (Codes::B5, Scales::HalfBias, 0),
        DType::Q8_0 => (Codes::B8, Scales::Half, 128),
        DType::Q2_K => (Codes::B4, Scales::K16Bias, 0),
        DType::Q3_K => (Codes::B4, Scales::K16, 4),
        DType::Q4_K => (Codes::B4, Scales::K32, 0),
        DType::Q5_K => (Codes::B5, Scales::K32, 0),
        DType::Q6_K => (Codes::B6, Scales::K16, 32),
        _ => return None,
    })
}

impl Codes {
    /// Bytes per 32 columns of a group.
    pub const fn bytes(self) -> usize {
        match self {
            Codes::B4 => 256,
            Codes::B5 => 320,
            Codes::B6 => 384,
            Codes::B8 => 512,
        }
    }

    /// Stores the 32 codes of one row into a 32-column piece, which starts as zeros; four columns (a quad's share) at a time.
    fn set(self, piece: &mut [u8], row: usize, codes: &[u8; 32]) {
        let mut put = |chunk: usize, bits: u32| {
            let at = &mut piece[chunk * 64 + 4 * row..][..4];
            let old = u32::from_le_bytes([at[0], at[1], at[2], at[3]]);
            at.copy_from_slice(&(old | bits).to_le_bytes());
        };
        for (quad, c) in codes.chunks_exact(4).enumerate() {
            let c = u32::from_le_bytes([c[0], c[1], c[2], c[3]]);
            if self == Codes::B8 {
                put(quad, c);
                continue;
            }
            put(quad / 2, (c & 0x0f0f_0f0f) << (4 * (quad % 2)));
            match self {
                Codes::B5 => put(4, ((c >> 4) & 0x0101_0101) << quad),
                Codes::B6 => put(4 + quad / 4, ((c >> 4) & 0x0303_0303) << (2 * (quad % 4))),
                _ => {}
            }
        }
    }

    /// Reads back what `set` stored.
    fn get(self, piece: &[u8], row: usize, k: usize) -> u8 {
        let (quad, byte) = (k / 4, 4 * row + k % 4);
        let low = |p: &[u8]| (p[(quad / 2) * 64 + byte] >> (4 * (quad % 2))) & 15;
        match self {
            Codes::B4 => low(piece),
            Codes::B5 => low(piece) | ((piece[256 + byte] >> quad) & 1) << 4,
            Codes::B6 => low(piece) | ((piece[256 + 64 * (quad / 4) + byte] >> (2 * (quad % 4))) & 3) << 4,
            Codes::B8 => piece[quad * 64 + byte],
        }
    }
}

impl Scales {
    /// Bytes for `cols` columns of a group.
    pub const fn bytes(self, cols: usize) -> usize {
        match self {
            Scales::Half => cols / 32 * 32,
            Scales::HalfBias => cols / 32 * 64,
            Scales::K32 => cols / 256 * 320,
            Scales::K16Bias => cols / 256 * 576,
            Scales::K16 => cols / 256 * 288,
        }
    }
}

/// A matrix in packed form.
pub struct Packed {
    /// Type in the file.
    pub dtype: DType,
    /// Outputs in use; the last group is padded with zero rows.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Groups of 16 rows.
    pub groups: usize,
    /// Codes, or float weights `[group][col][16]` for float types.
    pub codes: Aligned<u8>,
    /// Bytes of codes per group.
    pub codes_stride: usize,
    /// Scales; empty for float types.
    pub scales: Aligned<u8>,
    /// Bytes of scales per group.
    pub scales_stride: usize,
}

impl Packed {
    /// Repacks into `arena` on the pool's threads; `read` is told which bytes of `src` are done with.
    pub fn new(
        src: MatSrc<'_>,
        pool: &mut Pool,
        arena: &mut Arena,
        read: impl Fn(Range<usize>) + Sync,
    ) -> Result<Self, OpsError> {
        let row_bytes = src.row_bytes()?;
        let groups = src.rows.div_ceil(LANES);
        let (codes_stride, scales_stride) = match layout(src.dtype) {
            Some((codes, scales, _)) => (src.cols / 32 * codes.bytes(), scales.bytes(src.cols)),
            None => (src.cols * LANES * src.dtype.block_bytes(), 0),
        };
        let total = |per: usize| per.checked_mul(groups).unwrap_or(usize::MAX / 2);
        let mut packed = Self {
            dtype: src.dtype,
            rows: src.rows,
            cols: src.cols,
            groups,
            codes: arena.zeroed(total(codes_stride), src.name)?,
            codes_stride,
            scales: arena.zeroed(total(scales_stride), src.name)?,
            scales_stride,
        };
        let group_bytes = row_bytes * LANES;
        // Small matrices are cut finer, so that every thread has some of each.
        let per_item = (ITEM_BYTES / group_bytes).min(groups / (2 * pool.threads())).max(1);
        // Each item has its own part; the locks only say so and are never waited for.
        let codes = packed.codes.chunks_mut(per_item * codes_stride);
        let scales = packed.scales.chunks_mut((per_item * scales_stride).max(1));
        let parts = codes.zip(scales.map(Some).chain(std::iter::repeat_with(|| None)));
        let parts: Vec<_> = parts.map(|(c, s)| Mutex::new((c, s.unwrap_or_default()))).collect();
        pool.run(parts.len(), 1, &|item, _| {
            let mut part = parts[item].lock().unwrap_or_else(PoisonError::into_inner);
            let (codes, scales) = &mut *part;
            let first = item * per_item;
            let n = codes.len() / codes_stride;
            for i in 0..n {
                let scales = &mut scales[i * scales_stride..][..scales_stride];
                pack_group(&src, row_bytes, first + i, &mut codes[i * codes_stride..][..codes_stride], scales);
            }
            read(first * group_bytes..((first + n) * group_bytes).min(src.bytes.len()));
        });
        drop(parts);
        Ok(packed)
    }

    /// Dequantises row `r` as `scale * q + bias`: the embedding look-up.
    pub fn row(&self, r: usize, out: &mut [f32]) {
        let (group, lane) = (r / LANES, r % LANES);
        let codes = &self.codes[group * self.codes_stride..][..self.codes_stride];
        let Some((kind, scales, zero)) = layout(self.dtype) else {
            let size = self.dtype.block_bytes();
            for (k, o) in out.iter_mut().enumerate() {
                let at = (k * LANES + lane) * size;
                quant::dequantise_row(self.dtype, &codes[at..at + size], std::slice::from_mut(o));
            }
            return;
        };
        let stored = &self.scales[group * self.scales_stride..][..self.scales_stride];
        for (b, piece) in codes.chunks_exact(kind.bytes()).enumerate() {
            for k in 0..32 {
                let (scale, bias) = read_scale(scales, stored, lane, b * 32 + k);
                let q = i16::from(kind.get(piece, lane, k)) - i16::from(zero);
                out[b * 32 + k] = scale * f32::from(q) + bias;
            }
        }
    }
}

fn pack_group(src: &MatSrc<'_>, row_bytes: usize, group: usize, codes: &mut [u8], scales: &mut [u8]) {
    let in_group = LANES.min(src.rows - group * LANES);
    let Some((kind, scale_kind, zero)) = layout(src.dtype) else {
        let size = src.dtype.block_bytes();
        for lane in 0..in_group {
            let row = &src.bytes[(group * LANES + lane) * row_bytes..][..row_bytes];
            for (k, w) in row.chunks_exact(size).enumerate() {
                codes[(k * LANES + lane) * size..][..size].copy_from_slice(w);
            }
        }
        return;
    };
    let (len, bytes) = (src.dtype.block_len(), src.dtype.block_bytes());
    let mut block = Block::default();
    for lane in 0..in_group {
        let row = &src.bytes[(group * LANES + lane) * row_bytes..][..row_bytes];
        for (b, raw) in row.chunks_exact(bytes).enumerate() {
            quant::decode(src.dtype, raw, &mut block);
            for (i, q) in block.q[..len].chunks_exact(32).enumerate() {
                let u: [u8; 32] = std::array::from_fn(|k| (q[k] as u8).wrapping_add(zero));
                let piece = &mut codes[(b * len / 32 + i) * kind.bytes()..][..kind.bytes()];
                kind.set(piece, lane, &u);
            }
            pack_scales(src.dtype, scale_kind, raw, b, lane, scales);
        }
    }
}

/// Copies the scales of block `b` of one row as they stand in the file.
fn pack_scales(dtype: DType, kind: Scales, raw: &[u8], b: usize, lane: usize, out: &mut [u8]) {
    let mut half = |at: usize, from: usize| out[at + 2 * lane..][..2].copy_from_slice(&raw[from..from + 2]);
    match kind {
        Scales::Half => half(b * 32, 0),
        Scales::HalfBias => {
            half(b * 64, 0);
            half(b * 64 + 32, 2);
        }
        Scales::K32 => {
            half(b * 320, 0);
            half(b * 320 + 32, 2);
            for g in 0..8 {
                let (s, m) = quant::block::scale_min_k4(&raw[4..16], g);
                out[b * 320 + 64 + g * 16 + lane] = s;
                out[b * 320 + 192 + g * 16 + lane] = m;
            }
        }
        Scales::K16Bias => {
            half(b * 576, 80);
            half(b * 576 + 32, 82);
            for g in 0..16 {
                out[b * 576 + 64 + g * 16 + lane] = raw[g] & 15;
                out[b * 576 + 320 + g * 16 + lane] = raw[g] >> 4;
            }
        }
        Scales::K16 => {
            half(b * 288, dtype.block_bytes() - 2);
            for g in 0..16 {
                out[b * 288 + 32 + g * 16 + lane] =
                    if dtype == DType::Q6_K { raw[192 + g] } else { quant::block::scale_q3(&raw[96..108], g) as u8 };
            }
        }
    }
}

/// Scale and bias of column `k`, computed exactly as `quant::decode` does.
fn read_scale(kind: Scales, s: &[u8], lane: usize, k: usize) -> (f32, f32) {
    let half = |at: usize| quant::half::f16_to_f32(u16::from_le_bytes([s[at + 2 * lane], s[at + 2 * lane + 1]]));
    let (b32, b256) = (k / 32, k / 256);
    match kind {
        Scales::Half => (half(b32 * 32), 0.0),
        Scales::HalfBias => (half(b32 * 64), half(b32 * 64 + 32)),
        Scales::K32 => {
            let (at, g) = (b256 * 320, (k % 256) / 32 * 16 + lane);
            (half(at) * f32::from(s[at + 64 + g]), -(half(at + 32) * f32::from(s[at + 192 + g])))
        }
        Scales::K16Bias => {
            let (at, g) = (b256 * 576, (k % 256) / 16 * 16 + lane);
            (half(at) * f32::from(s[at + 64 + g]), -(half(at + 32) * f32::from(s[at + 320 + g])))
        }
        Scales::K16 => {
            let (at, g) = (b256 * 288, (k % 256) / 16 * 16 + lane);
            (half(at) * f32::from(s[at + 32 + g] as i8), 0.0)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Random but sane blocks: small half-float scales, random codes.
    pub fn random_bytes(dtype: DType, rows: usize, cols: usize, seed: u64) -> Vec<u8> {
        ops::conformance::random_weights(dtype, rows, cols, seed)
    }

    #[test]
    fn packing_loses_nothing_for_every_type_and_odd_row_counts() {
        for dtype in DType::ALL.into_iter().filter(|t| t.is_weight()) {
            for rows in [1, 16, 37] {
                let cols = 512;
                let bytes = random_bytes(dtype, rows, cols, rows as u64);
                let src = MatSrc { name: "t", dtype, rows, cols, bytes: &bytes };
                let read = std::sync::Mutex::new(vec![0; bytes.len()]);
                let mark = |done: Range<usize>| read.lock().unwrap()[done].iter_mut().for_each(|n| *n += 1);
                let packed = Packed::new(src, &mut Pool::new(2), &mut Arena::default(), mark).unwrap();
                assert!(read.into_inner().unwrap().iter().all(|n| *n == 1), "every byte is done with once");
                let per_row = bytes.len() / rows;
                for r in 0..rows {
                    let (mut want, mut got) = (vec![0.0; cols], vec![0.0; cols]);
                    quant::dequantise_row(dtype, &bytes[r * per_row..][..per_row], &mut want);
                    packed.row(r, &mut got);
                    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&got), bits(&want), "{dtype:?} row {r} of {rows}");
                }
            }
        }
    }
}
