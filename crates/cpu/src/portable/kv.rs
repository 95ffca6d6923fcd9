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
    fn value_bytes(&self) -> usize {
        match self {
            Store::Half(_) => 2,
            Store::Full(_) => 4,
        }
    }
    fn copy_out(&self, at: usize, len: usize, out: &mut [u8]) {
        match self {
            Store::Half(v) => {
                out.chunks_exact_mut(2).zip(&v[at..at + len]).for_each(|(o, x)| o.copy_from_slice(&x.to_le_bytes()))
            }
            Store::Full(v) => {
                out.chunks_exact_mut(4).zip(&v[at..at + len]).for_each(|(o, x)| o.copy_from_slice(&x.to_le_bytes()))
            }
        }
    }
    fn copy_in(&mut self, at: usize, len: usize, bytes: &[u8]) {
        match self {
            Store::Half(v) => {
                v[at..at + len].iter_mut().zip(bytes.as_chunks().0).for_each(|(x, b)| *x = u16::from_le_bytes(*b))
            }
            Store::Full(v) => {
                v[at..at + len].iter_mut().zip(bytes.as_chunks().0).for_each(|(x, b)| *x = f32::from_le_bytes(*b))
            }
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

    /// Values of one layer in a page (keys and values alike).
    fn layer_len(&self) -> usize {
        self.shape.n_kv_heads * PAGE_LEN * self.shape.d_head
    }

    /// Bytes of a page: per layer keys, then values.
    pub fn page_bytes(&self) -> usize {
        2 * self.shape.n_layers * self.layer_len() * self.keys.value_bytes()
    }

    /// What a page's bytes mean.
    pub fn layout(&self) -> String {
        let KvShape { n_layers, n_kv_heads, d_head, .. } = self.shape;
        let bits = 8 * self.keys.value_bytes();
        format!("portable f{bits}le l{n_layers} h{n_kv_heads} d{d_head} page{PAGE_LEN}")
    }

    /// Copies a page out.
    pub fn read_page(&self, page: u32, out: &mut [u8]) {
        assert_eq!(out.len(), self.page_bytes());
        let len = self.layer_len();
        for (layer, out) in out.chunks_exact_mut(2 * len * self.keys.value_bytes()).enumerate() {
            let (keys, values) = out.split_at_mut(len * self.keys.value_bytes());
            let at = self.at(layer, page, 0, 0);
            self.keys.copy_out(at, len, keys);
            self.values.copy_out(at, len, values);
        }
    }

    /// Puts such bytes into a page.
    pub fn write_page(&mut self, page: u32, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.page_bytes());
        let (len, value_bytes) = (self.layer_len(), self.keys.value_bytes());
        for (layer, bytes) in bytes.chunks_exact(2 * len * value_bytes).enumerate() {
            let (keys, values) = bytes.split_at(len * value_bytes);
            let at = self.at(layer, page, 0, 0);
            self.keys.copy_in(at, len, keys);
            self.values.copy_in(at, len, values);
        }
    }
}
