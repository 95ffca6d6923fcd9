//! The reference KV cache: `[layer][page][kv_head][position][d_head]`, keys and values apart, in f16 (f32 when exact) or in
//! int8 with a scale for each block of a head.

use ops::math::{rotate, rotate_len};
use ops::{KvShape, KvType, Numeric, OpsError, PAGE_LEN};
use quant::KV_BLOCK;
use quant::half::{f16_to_f32, f32_to_f16_sat};
use quant::kv::quantise_kv;

/// Rows of `d` elements.
enum Store {
    Half(Vec<u16>),
    Full(Vec<f32>),
    /// Codes, and the scales of each row's blocks.
    Eight(Vec<i8>, Vec<u16>),
}

/// Zeros, or an error.
fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>, OpsError> {
    let mut v = Vec::new();
    let bytes = (len * size_of::<T>()) as u64;
    v.try_reserve_exact(len).map_err(|_| OpsError::Memory { what: "the KV cache".into(), bytes })?;
    v.resize(len, T::default());
    Ok(v)
}

/// Little-endian bytes of `xs`, one after the other; what of `out` is left.
fn bytes_out<'a, T: Copy, const N: usize>(xs: &[T], out: &'a mut [u8], le: fn(T) -> [u8; N]) -> &'a mut [u8] {
    let (now, rest) = out.split_at_mut(xs.len() * N);
    now.chunks_exact_mut(N).zip(xs).for_each(|(o, x)| o.copy_from_slice(&le(*x)));
    rest
}

/// The reverse of `bytes_out`.
fn bytes_in<'a, T, const N: usize>(xs: &mut [T], bytes: &'a [u8], le: fn([u8; N]) -> T) -> &'a [u8] {
    let (now, rest) = bytes.split_at(xs.len() * N);
    xs.iter_mut().zip(now.as_chunks().0).for_each(|(x, b)| *x = le(*b));
    rest
}

impl Store {
    fn new(rows: usize, d: usize, numeric: Numeric, kept: KvType) -> Result<Self, OpsError> {
        Ok(match (kept, numeric) {
            (KvType::Q8, _) => Store::Eight(zeros(rows * d)?, zeros(rows * d.div_ceil(KV_BLOCK))?),
            (KvType::F16, Numeric::Quantised) => Store::Half(zeros(rows * d)?),
            (KvType::F16, Numeric::Exact) => Store::Full(zeros(rows * d)?),
        })
    }
    fn put(&mut self, row: usize, xs: &[f32]) {
        let d = xs.len();
        match self {
            Store::Half(v) => v[row * d..][..d].iter_mut().zip(xs).for_each(|(o, x)| *o = f32_to_f16_sat(*x)),
            Store::Full(v) => v[row * d..][..d].copy_from_slice(xs),
            Store::Eight(codes, scales) => {
                let blocks = codes[row * d..][..d].chunks_mut(KV_BLOCK).zip(xs.chunks(KV_BLOCK));
                let scales = &mut scales[row * d.div_ceil(KV_BLOCK)..];
                scales.iter_mut().zip(blocks).for_each(|(scale, (q, x))| *scale = quantise_kv(x, q));
            }
        }
    }
    fn read(&self, row: usize, d: usize, out: &mut Vec<f32>) {
        match self {
            Store::Half(v) => out.extend(v[row * d..][..d].iter().map(|h| f16_to_f32(*h))),
            Store::Full(v) => out.extend_from_slice(&v[row * d..][..d]),
            Store::Eight(codes, scales) => {
                let scales = &scales[row * d.div_ceil(KV_BLOCK)..];
                for (q, scale) in codes[row * d..][..d].chunks(KV_BLOCK).zip(scales) {
                    out.extend(q.iter().map(|q| f16_to_f32(*scale) * f32::from(*q)));
                }
            }
        }
    }
    fn copy(&mut self, from: usize, to: usize, rows: usize, d: usize) {
        match self {
            Store::Half(v) => v.copy_within(from * d..(from + rows) * d, to * d),
            Store::Full(v) => v.copy_within(from * d..(from + rows) * d, to * d),
            Store::Eight(codes, scales) => {
                let blocks = d.div_ceil(KV_BLOCK);
                codes.copy_within(from * d..(from + rows) * d, to * d);
                scales.copy_within(from * blocks..(from + rows) * blocks, to * blocks);
            }
        }
    }
    fn row_bytes(&self, d: usize) -> usize {
        match self {
            Store::Half(_) => KvType::F16.head_bytes(d),
            Store::Full(_) => 4 * d,
            Store::Eight(..) => KvType::Q8.head_bytes(d),
        }
    }
    fn name(&self) -> String {
        match self {
            Store::Half(_) => "f16le".into(),
            Store::Full(_) => "f32le".into(),
            Store::Eight(..) => format!("q8x{KV_BLOCK}"),
        }
    }
    fn copy_out(&self, row: usize, rows: usize, d: usize, out: &mut [u8]) {
        match self {
            Store::Half(v) => bytes_out(&v[row * d..][..rows * d], out, u16::to_le_bytes),
            Store::Full(v) => bytes_out(&v[row * d..][..rows * d], out, f32::to_le_bytes),
            Store::Eight(codes, scales) => {
                let blocks = d.div_ceil(KV_BLOCK);
                let rest = bytes_out(&codes[row * d..][..rows * d], out, i8::to_le_bytes);
                bytes_out(&scales[row * blocks..][..rows * blocks], rest, u16::to_le_bytes)
            }
        };
    }
    fn copy_in(&mut self, row: usize, rows: usize, d: usize, bytes: &[u8]) {
        match self {
            Store::Half(v) => bytes_in(&mut v[row * d..][..rows * d], bytes, u16::from_le_bytes),
            Store::Full(v) => bytes_in(&mut v[row * d..][..rows * d], bytes, f32::from_le_bytes),
            Store::Eight(codes, scales) => {
                let blocks = d.div_ceil(KV_BLOCK);
                let rest = bytes_in(&mut codes[row * d..][..rows * d], bytes, i8::from_le_bytes);
                bytes_in(&mut scales[row * blocks..][..rows * blocks], rest, u16::from_le_bytes)
            }
        };
    }
}

/// Keys and values of all layers.
pub struct Kv {
    /// Sizes.
    pub shape: KvShape,
    /// How they are kept.
    pub kept: KvType,
    keys: Store,
    values: Store,
}

impl Kv {
    /// Zeroed.
    pub fn new(shape: KvShape, numeric: Numeric, kept: KvType) -> Result<Self, OpsError> {
        let rows = shape.n_layers * shape.n_pages * shape.n_kv_heads * PAGE_LEN;
        let new = || Store::new(rows, shape.d_head, numeric, kept);
        Ok(Self { shape, kept, keys: new()?, values: new()? })
    }

    /// The row of one position and head.
    fn at(&self, layer: usize, page: u32, head: usize, slot: usize) -> usize {
        let s = &self.shape;
        ((layer * s.n_pages + page as usize) * s.n_kv_heads + head) * PAGE_LEN + slot
    }

    /// Stores one position's keys and values, `[n_kv_heads * d_head]` each.
    pub fn put(&mut self, layer: usize, page: u32, slot: usize, k: &[f32], v: &[f32]) {
        let d = self.shape.d_head;
        for head in 0..self.shape.n_kv_heads {
            let at = self.at(layer, page, head, slot);
            let mut key = k[head * d..][..d].to_vec();
            if self.kept == KvType::Q8 {
                rotate(&mut key, rotate_len(d));
            }
            self.keys.put(at, &key);
            self.values.put(at, &v[head * d..][..d]);
        }
    }

    /// Keys (as kept: in int8, rotated) and values `[n, d_head]` of positions `start..start + n` of one head.
    pub fn read(&self, layer: usize, head: usize, start: usize, n: usize, pages: &[u32]) -> (Vec<f32>, Vec<f32>) {
        let d = self.shape.d_head;
        let (mut ks, mut vs) = (Vec::with_capacity(n * d), Vec::with_capacity(n * d));
        for pos in start..start + n {
            let at = self.at(layer, pages[pos / PAGE_LEN], head, pos % PAGE_LEN);
            self.keys.read(at, d, &mut ks);
            self.values.read(at, d, &mut vs);
        }
        (ks, vs)
    }

    /// Copies a page in every layer.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        let (rows, d) = (self.layer_rows(), self.shape.d_head);
        for layer in 0..self.shape.n_layers {
            let (a, b) = (self.at(layer, from, 0, 0), self.at(layer, to, 0, 0));
            self.keys.copy(a, b, rows, d);
            self.values.copy(a, b, rows, d);
        }
    }

    /// Rows of one layer in a page (keys and values alike).
    fn layer_rows(&self) -> usize {
        self.shape.n_kv_heads * PAGE_LEN
    }

    /// Bytes of one layer's keys, or values, in a page.
    fn layer_bytes(&self) -> usize {
        self.layer_rows() * self.keys.row_bytes(self.shape.d_head)
    }

    /// Bytes of a page: per layer keys, then values.
    pub fn page_bytes(&self) -> usize {
        2 * self.shape.n_layers * self.layer_bytes()
    }

    /// What a page's bytes mean.
    pub fn layout(&self) -> String {
        let KvShape { n_layers, n_kv_heads, d_head, .. } = self.shape;
        format!("portable {} l{n_layers} h{n_kv_heads} d{d_head} page{PAGE_LEN}", self.keys.name())
    }

    /// Copies a page out.
    pub fn read_page(&self, page: u32, out: &mut [u8]) {
        assert_eq!(out.len(), self.page_bytes());
        let (rows, d) = (self.layer_rows(), self.shape.d_head);
        for (layer, out) in out.chunks_exact_mut(2 * self.layer_bytes()).enumerate() {
            let (keys, values) = out.split_at_mut(out.len() / 2);
            let at = self.at(layer, page, 0, 0);
            self.keys.copy_out(at, rows, d, keys);
            self.values.copy_out(at, rows, d, values);
        }
    }

    /// Puts such bytes into a page.
    pub fn write_page(&mut self, page: u32, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.page_bytes());
        let (rows, d) = (self.layer_rows(), self.shape.d_head);
        for (layer, bytes) in bytes.chunks_exact(2 * self.layer_bytes()).enumerate() {
            let (keys, values) = bytes.split_at(bytes.len() / 2);
            let at = self.at(layer, page, 0, 0);
            self.keys.copy_in(at, rows, d, keys);
            self.values.copy_in(at, rows, d, values);
        }
    }
}
