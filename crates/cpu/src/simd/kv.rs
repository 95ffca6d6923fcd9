//! KV pages of the fast backend, in f16. Keys of sixteen positions lie side by side (`[d_head][16]`), so that scores need no
//! horizontal sums; values lie as `[position][d_head]`. Per page: `[layer][kv_head]` of each, so that memory is touched as a
//! sequence grows and not once per layer (huge pages would make that dear).

use super::Lanes;
use crate::mem::{Aligned, LANES};
use ops::{KvShape, OpsError, PAGE_LEN};
use quant::half::f32_to_f16_sat;
use std::ops::Range;

/// Keys and values of all layers.
pub struct Kv {
    /// Sizes.
    pub shape: KvShape,
    keys: Aligned<u16>,
    values: Aligned<u16>,
    /// Values per head and page (keys and values alike).
    head_len: usize,
    /// `d_head` rounded up to whole lanes: the stride of values.
    d_pad: usize,
}

/// Where one position of one layer goes.
pub struct Slot<'a> {
    /// Keys of the page's heads.
    pub keys: &'a mut [u16],
    /// Values of the page's heads.
    pub values: &'a mut [u16],
    /// Position in the page.
    pub slot: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Stride of values.
    pub d_pad: usize,
    /// Elements of a head in a page.
    pub head_len: usize,
}

impl Kv {
    /// Zeroed.
    pub fn new(shape: KvShape) -> Result<Self, OpsError> {
        let d_pad = shape.d_head.next_multiple_of(LANES);
        let head_len = PAGE_LEN * d_pad;
        let len = shape.n_layers * shape.n_pages * shape.n_kv_heads * head_len;
        let new = || Aligned::zeroed(len, "the KV cache");
        Ok(Self { shape, keys: new()?, values: new()?, head_len, d_pad })
    }

    fn at(&self, layer: usize, page: u32, head: usize) -> usize {
        ((page as usize * self.shape.n_layers + layer) * self.shape.n_kv_heads + head) * self.head_len
    }

    /// Keys `[PAGE_LEN / 16][d_head][16]` and values `[PAGE_LEN][d_pad]` of one head in one page.
    pub fn head(&self, layer: usize, page: u32, head: usize) -> (&[u16], &[u16]) {
        let at = self.at(layer, page, head);
        (&self.keys[at..at + self.head_len], &self.values[at..at + self.head_len])
    }

    /// Stride of values.
    pub fn d_pad(&self) -> usize {
        self.d_pad
    }

    /// Where position `slot` of `page` goes.
    pub fn slot(&mut self, layer: usize, page: u32, slot: usize) -> Slot<'_> {
        let at = self.at(layer, page, 0);
        let len = self.shape.n_kv_heads * self.head_len;
        Slot {
            keys: &mut self.keys[at..at + len],
            values: &mut self.values[at..at + len],
            slot,
            d_head: self.shape.d_head,
            d_pad: self.d_pad,
            head_len: self.head_len,
        }
    }

    /// Copies a page in every layer.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        let len = self.shape.n_layers * self.shape.n_kv_heads * self.head_len;
        let (a, b) = (self.at(0, from, 0), self.at(0, to, 0));
        self.keys.copy_within(a..a + len, b);
        self.values.copy_within(a..a + len, b);
    }

    /// Where a page's keys lie, and in the same place its values.
    fn page(&self, page: u32) -> Range<usize> {
        let at = self.at(0, page, 0);
        at..at + self.shape.n_layers * self.shape.n_kv_heads * self.head_len
    }

    /// Bytes of a page: keys, then values.
    pub fn page_bytes(&self) -> usize {
        2 * size_of::<u16>() * self.page(0).len()
    }

    /// What a page's bytes mean. The same for every instruction set.
    pub fn layout(&self) -> String {
        let KvShape { n_layers, n_kv_heads, d_head, .. } = self.shape;
        let d_pad = self.d_pad;
        format!("simd f16le keys+values l{n_layers} h{n_kv_heads} d{d_head} pad{d_pad} lanes{LANES} page{PAGE_LEN}")
    }

    /// Copies a page out: keys, then values.
    pub fn read_page(&self, page: u32, out: &mut [u8]) {
        assert_eq!(out.len(), self.page_bytes());
        let at = self.page(page);
        let halves = self.keys[at.clone()].iter().chain(&self.values[at]);
        out.as_chunks_mut().0.iter_mut().zip(halves).for_each(|(o, h)| *o = h.to_le_bytes());
    }

    /// Puts such bytes into a page.
    pub fn write_page(&mut self, page: u32, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.page_bytes());
        let at = self.page(page);
        let halves = self.keys[at.clone()].iter_mut().chain(&mut self.values[at]);
        halves.zip(bytes.as_chunks().0).for_each(|(h, b)| *h = u16::from_le_bytes(*b));
    }
}

/// Stores keys and values `[n_kv_heads * d_head]` of one position.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn kv_put<L: Lanes>(slot: &mut Slot<'_>, k: &[f32], v: &[f32]) {
    let d = slot.d_head;
    for (head, (k, v)) in k.chunks_exact(d).zip(v.chunks_exact(d)).enumerate() {
        let keys = &mut slot.keys[head * slot.head_len..][..slot.head_len];
        let group = &mut keys[slot.slot / LANES * LANES * d..][..LANES * d];
        let mut half = [0u16; LANES];
        for (c, ks) in k.chunks(LANES).enumerate() {
            if let Some(ks) = ks.first_chunk::<LANES>() {
                // SAFETY: sixteen elements on both sides.
                unsafe { L::store_f16_sat(half.as_mut_ptr(), L::load(ks.as_ptr())) };
            } else {
                half.iter_mut().zip(ks).for_each(|(h, x)| *h = f32_to_f16_sat(*x));
            }
            for (i, h) in half[..ks.len()].iter().enumerate() {
                group[(c * LANES + i) * LANES + slot.slot % LANES] = *h;
            }
        }
        let values = &mut slot.values[head * slot.head_len + slot.slot * slot.d_pad..][..d];
        for (o, vs) in values.chunks_mut(LANES).zip(v.chunks(LANES)) {
            if let (Some(o), Some(vs)) = (o.first_chunk_mut::<LANES>(), vs.first_chunk::<LANES>()) {
                // SAFETY: sixteen elements on both sides.
                unsafe { L::store_f16_sat(o.as_mut_ptr(), L::load(vs.as_ptr())) };
            } else {
                o.iter_mut().zip(vs).for_each(|(h, x)| *h = f32_to_f16_sat(*x));
            }
        }
    }
}
