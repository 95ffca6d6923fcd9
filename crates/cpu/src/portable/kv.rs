//! The reference KV cache: `[layer][page][kv_head][position][d_head]`, keys and values apart, in f16 (or f32 when exact).

use ops::{KvShape, Numeric, OpsError, PAGE_LEN};
use quant::half::{f16_to_f32, f32_to_f16_sat};

enum Store {
    Half(Vec<u16>),
    Full(Vec<f32>),
}

impl Store {
    fn new(len: usize, numeric: Numeric) -> Result<Self, OpsError> {
        let fail = || OpsError::Memory { what: "the KV cache".into(), bytes: len as u64 * 4 };
        match numeric {
            Numeric::Quantised => {
                Vec::<u16>::new().try_reserve_exact(len).map_err(|_| fail())?;
                Ok(Store::Half(vec![0; len]))
            }
            Numeric::Exact => {
                Vec::<f32>::new().try_reserve_exact(len).map_err(|_| fail())?;
                Ok(Store::Full(vec![0.0; len]))
            }
        }
    }
    fn put(&mut self, at: usize, xs: &[f32]) {
        match self {
            Store::Half(v) => v[at..at + xs.len()].iter_mut().zip(xs).for_each(|(o, x)| *o = f32_to_f16_sat(*x)),
            Store::Full(v) => v[at..at + xs.len()].copy_from_slice(xs),
        }
    }
    fn read(&self, at: usize, len: usize, out: &mut Vec<f32>) {
        match self {
            Store::Half(v) => out.extend(v[at..at + len].iter().map(|h| f16_to_f32(*h))),
            Store::Full(v) => out.extend_from_slice(&v[at..at + len]),
        }
    }
    fn copy(&mut self, from: usize, to: usize, len: usize) {
        match self {
            Store::Half(v) => v.copy_within(from..from + len, to),
            Store::Full(v) => v.copy_within(from..from + len, to),
        }
    }
}

/// Keys and values of all layers.
pub struct Kv {
    /// Sizes.
    pub shape: KvShape,
    keys: Store,
    values: Store,
}

impl Kv {
    /// Zeroed.
    pub fn new(shape: KvShape, numeric: Numeric) -> Result<Self, OpsError> {
        let len = shape.n_layers * shape.n_pages * shape.n_kv_heads * PAGE_LEN * shape.d_head;
        Ok(Self { shape, keys: Store::new(len, numeric)?, values: Store::new(len, numeric)? })
    }

    fn at(&self, layer: usize, page: u32, head: usize, slot: usize) -> usize {
        let s = &self.shape;
        (((layer * s.n_pages + page as usize) * s.n_kv_heads + head) * PAGE_LEN + slot) * s.d_head
    }

    /// Stores one position's keys and values, `[n_kv_heads * d_head]` each.
    pub fn put(&mut self, layer: usize, page: u32, slot: usize, k: &[f32], v: &[f32]) {
        let d = self.shape.d_head;
        for head in 0..self.shape.n_kv_heads {
            let at = self.at(layer, page, head, slot);
            self.keys.put(at, &k[head * d..][..d]);
            self.values.put(at, &v[head * d..][..d]);
        }
    }

    /// Keys and values `[n, d_head]` of positions `start..start + n` of one head.
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
        let len = self.shape.n_kv_heads * PAGE_LEN * self.shape.d_head;
        for layer in 0..self.shape.n_layers {
            let (a, b) = (self.at(layer, from, 0, 0), self.at(layer, to, 0, 0));
            self.keys.copy(a, b, len);
            self.values.copy(a, b, len);
        }
    }
}
