//! Scalar decode of every block format: the definition of what a weight's bytes mean.
//! A weight is `scale[g] * q[i] + bias[g]` with a small signed integer `q` and `g = i / group_len`.
//! Scales and biases are exact in f32 (an 11-bit half times an at most 8-bit integer), so no layout can change them.
//! Layouts follow ggml's `dequantize_row_*` (ggml-quants.c) and the GGUF specification.

use crate::dtype::DType;
use crate::half::f16_to_f32;

/// Elements of the largest block.
pub const BLOCK_MAX: usize = 256;
/// Groups of the largest block (16 elements each).
pub const GROUPS_MAX: usize = 16;

/// How a quantised type's decoded form looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Elements that share a scale: 16 or 32.
    pub group_len: usize,
    /// Has a bias per group.
    pub has_bias: bool,
    /// `q + zero` is the unsigned code: 0 where `q` is never negative.
    pub zero: u8,
    /// Bits of the unsigned code.
    pub bits: u8,
}

/// The shape of a quantised type; `None` for the others.
pub const fn shape(dtype: DType) -> Option<Shape> {
    let (group_len, has_bias, zero, bits) = match dtype {
        DType::Q4_0 => (32, false, 8, 4),
        DType::Q4_1 => (32, true, 0, 4),
        DType::Q5_0 => (32, false, 16, 5),
        DType::Q5_1 => (32, true, 0, 5),
        DType::Q8_0 => (32, false, 128, 8),
        DType::Q2_K => (16, true, 0, 2),
        DType::Q3_K => (16, false, 4, 3),
        DType::Q4_K => (32, true, 0, 4),
        DType::Q5_K => (32, true, 0, 5),
        DType::Q6_K => (16, false, 32, 6),
        _ => return None,
    };
    Some(Shape { group_len, has_bias, zero, bits })
}

/// One decoded block.
#[derive(Clone)]
pub struct Block {
    /// Signed integers, `block_len` of them.
    pub q: [i8; BLOCK_MAX],
    /// Per group.
    pub scale: [f32; GROUPS_MAX],
    /// Per group; zero where the type has none.
    pub bias: [f32; GROUPS_MAX],
}

impl Default for Block {
    fn default() -> Self {
        Self { q: [0; BLOCK_MAX], scale: [0.0; GROUPS_MAX], bias: [0.0; GROUPS_MAX] }
    }
}

#[inline]
fn half_at(b: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([b[at], b[at + 1]]))
}

/// Six-bit scale and minimum number `j` of Q4_K and Q5_K (ggml `get_scale_min_k4`).
#[inline]
pub fn scale_min_k4(s: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        ((s[j + 4] & 15) | ((s[j - 4] >> 6) << 4), (s[j + 4] >> 4) | ((s[j] >> 6) << 4))
    }
}

/// Six-bit scale number `i` of Q3_K, minus 32.
#[inline]
pub fn scale_q3(s: &[u8], i: usize) -> i8 {
    let low = if i < 8 { s[i] & 15 } else { s[i - 8] >> 4 };
    let high = (s[8 + i % 4] >> (2 * (i / 4))) & 3;
    (low | (high << 4)) as i8 - 32
}

/// Decodes one block of `dtype.block_bytes()` bytes. Types that are not quantised leave `out` alone.
pub fn decode(dtype: DType, b: &[u8], out: &mut Block) {
    match dtype {
        DType::Q4_0 | DType::Q4_1 => decode_q4(dtype, b, out),
        DType::Q5_0 | DType::Q5_1 => decode_q5(dtype, b, out),
        DType::Q8_0 => {
            out.scale[0] = half_at(b, 0);
            for i in 0..32 {
                out.q[i] = b[2 + i] as i8;
            }
        }
        DType::Q2_K => decode_q2_k(b, out),
        DType::Q3_K => decode_q3_k(b, out),
        DType::Q4_K | DType::Q5_K => decode_q45_k(dtype, b, out),
        DType::Q6_K => decode_q6_k(b, out),
        _ => {}
    }
}

fn decode_q4(dtype: DType, b: &[u8], out: &mut Block) {
    out.scale[0] = half_at(b, 0);
    let (at, zero) = if dtype == DType::Q4_1 {
        out.bias[0] = half_at(b, 2);
        (4, 0)
    } else {
        (2, 8)
    };
    for j in 0..16 {
        out.q[j] = (b[at + j] & 15) as i8 - zero;
        out.q[j + 16] = (b[at + j] >> 4) as i8 - zero;
    }
}

fn decode_q5(dtype: DType, b: &[u8], out: &mut Block) {
    out.scale[0] = half_at(b, 0);
    let (at, zero) = if dtype == DType::Q5_1 {
        out.bias[0] = half_at(b, 2);
        (4, 0)
    } else {
        (2, 16)
    };
    let high = u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    for j in 0..16 {
        let byte = b[at + 4 + j];
        out.q[j] = ((byte & 15) | (((high >> j) & 1) as u8) << 4) as i8 - zero;
        out.q[j + 16] = ((byte >> 4) | (((high >> (j + 16)) & 1) as u8) << 4) as i8 - zero;
    }
}

// Q2_K: scales[16] qs[64] d dmin. Element n*128 + j*32 + l is two bits of qs[n*32 + l].
fn decode_q2_k(b: &[u8], out: &mut Block) {
    let (d, dmin) = (half_at(b, 80), half_at(b, 82));
    for g in 0..16 {
        out.scale[g] = d * f32::from(b[g] & 15);
        out.bias[g] = -(dmin * f32::from(b[g] >> 4));
    }
    for i in 0..256 {
        let (n, j, l) = (i / 128, (i / 32) % 4, i % 32);
        out.q[i] = ((b[16 + n * 32 + l] >> (2 * j)) & 3) as i8;
    }
}

// Q3_K: hmask[32] qs[64] scales[12] d.
fn decode_q3_k(b: &[u8], out: &mut Block) {
    let d = half_at(b, 108);
    for g in 0..16 {
        out.scale[g] = d * f32::from(scale_q3(&b[96..108], g));
    }
    for i in 0..256 {
        let (n, j, l) = (i / 128, (i / 32) % 4, i % 32);
        let low = ((b[32 + n * 32 + l] >> (2 * j)) & 3) as i8;
        let high = (b[l] >> (n * 4 + j)) & 1;
        out.q[i] = low - if high == 1 { 0 } else { 4 };
    }
}

// Q4_K: d dmin scales[12] qs[128]; Q5_K has qh[32] before qs.
fn decode_q45_k(dtype: DType, b: &[u8], out: &mut Block) {
    let (d, dmin) = (half_at(b, 0), half_at(b, 2));
    for g in 0..8 {
        let (s, m) = scale_min_k4(&b[4..16], g);
        out.scale[g] = d * f32::from(s);
        out.bias[g] = -(dmin * f32::from(m));
    }
    let five = dtype == DType::Q5_K;
    let qs = if five { 48 } else { 16 };
    for g in 0..8 {
        for l in 0..32 {
            let byte = b[qs + (g / 2) * 32 + l];
            let low = if g % 2 == 0 { byte & 15 } else { byte >> 4 };
            let high = if five { (b[16 + l] >> g) & 1 } else { 0 };
            out.q[g * 32 + l] = (low | (high << 4)) as i8;
        }
    }
}

// Q6_K: ql[128] qh[64] scales[16] d.
fn decode_q6_k(b: &[u8], out: &mut Block) {
    let d = half_at(b, 208);
    for g in 0..16 {
        out.scale[g] = d * f32::from(b[192 + g] as i8);
    }
    for n in 0..2 {
        for l in 0..32 {
            let (a, c, h) = (b[n * 64 + l], b[n * 64 + 32 + l], b[128 + n * 32 + l]);
            let at = n * 128 + l;
            out.q[at] = ((a & 15) | ((h & 3) << 4)) as i8 - 32;
            out.q[at + 32] = ((c & 15) | (((h >> 2) & 3) << 4)) as i8 - 32;
            out.q[at + 64] = ((a >> 4) | (((h >> 4) & 3) << 4)) as i8 - 32;
            out.q[at + 96] = ((c >> 4) | (((h >> 6) & 3) << 4)) as i8 - 32;
        }
    }
}

/// Dequantises one row of any weight type into f32: `scale * q + bias`, rounded after each operation.
/// `bytes` holds exactly `out.len()` elements.
pub fn dequantise_row(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (x, c) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *x = f32::from_le_bytes([c[0], c[1], c[2], c[3]]);
            }
        }
        DType::F16 => {
            for (x, c) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *x = f16_to_f32(u16::from_le_bytes([c[0], c[1]]));
            }
        }
        DType::BF16 => {
            for (x, c) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *x = crate::half::bf16_to_f32(u16::from_le_bytes([c[0], c[1]]));
            }
        }
        _ => {
            let Some(shape) = shape(dtype) else { return };
            let mut block = Block::default();
            let len = dtype.block_len();
            for (b, xs) in bytes.chunks_exact(dtype.block_bytes()).zip(out.chunks_exact_mut(len)) {
                decode(dtype, b, &mut block);
                for (i, x) in xs.iter_mut().enumerate() {
                    let g = i / shape.group_len;
                    *x = block.scale[g] * f32::from(block.q[i]) + block.bias[g];
                }
            }
        }
    }
}
