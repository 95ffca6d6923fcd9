//! KV pages of the fast backend, in f16 or int8. Keys of sixteen positions lie side by side (`[d_head][16]`), so that scores
//! need no horizontal sums; values lie as `[position][d_head]`. Per page: `[layer][kv_head]` of each, so that memory is touched
//! as a sequence grows and not once per layer (huge pages would make that dear). In int8 a head's codes, two to a word, are
//! followed by their scales: `[page / 16][block][16]` for keys, `[position][block]` for values.

use super::Lanes;
use crate::mem::{Aligned, LANES};
use crate::pool::Out;
use ops::math::{rotate, rotate_len};
use ops::{KvShape, KvType, OpsError, PAGE_LEN};
use quant::KV_BLOCK;
use quant::half::f32_to_f16_sat;
use quant::kv::quantise_kv;
use std::ops::Range;

/// Keys and values of all layers.
pub struct Kv {
    /// Sizes and order.
    pub place: Place,
    keys: Aligned<u16>,
    values: Aligned<u16>,
}

/// Where a head lies in a page; keys and values alike.
#[derive(Clone, Copy)]
pub struct Place {
    /// Sizes.
    pub shape: KvShape,
    /// How they are kept.
    pub kept: KvType,
    /// Words per head and page.
    pub head_len: usize,
    /// `d_head` rounded up to whole lanes: the stride of values.
    pub d_pad: usize,
}

/// Where a position of one head goes.
pub struct Slot<'a> {
    /// The head's keys, or its values, in one page.
    pub words: &'a mut [u16],
    /// What they look like.
    pub place: Place,
    /// Position in the page.
    pub slot: usize,
}

impl Place {
    /// Where a head begins.
    pub fn at(&self, layer: usize, page: u32, head: usize) -> usize {
        ((page as usize * self.shape.n_layers + layer) * self.shape.n_kv_heads + head) * self.head_len
    }
}

impl Kv {
    /// Zeroed.
    pub fn new(shape: KvShape, kept: KvType) -> Result<Self, OpsError> {
        let d_pad = shape.d_head.next_multiple_of(LANES);
        // Both are whole lines.
        let head_len = PAGE_LEN * kept.head_bytes(d_pad) / 2;
        let len = shape.n_layers * shape.n_pages * shape.n_kv_heads * head_len;
        let new = || Aligned::zeroed(len, "the KV cache");
        Ok(Self { place: Place { shape, kept, head_len, d_pad }, keys: new()?, values: new()? })
    }

    /// Keys `[PAGE_LEN / 16][d_head][16]` and values `[PAGE_LEN][d_pad]` of one head in one page, in int8 with their scales.
    pub fn head(&self, layer: usize, page: u32, head: usize) -> (&[u16], &[u16]) {
        let (at, len) = (self.place.at(layer, page, head), self.place.head_len);
        (&self.keys[at..at + len], &self.values[at..at + len])
    }

    /// All keys and all values, for a job whose items own a head each.
    pub fn parts(&mut self) -> (Out<'_, u16>, Out<'_, u16>) {
        (Out::new(&mut self.keys), Out::new(&mut self.values))
    }

    /// Copies a page in every layer.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        let (from, to) = (self.page(from), self.page(to).start);
        self.keys.copy_within(from.clone(), to);
        self.values.copy_within(from, to);
    }

    /// Where a page's keys lie, and in the same place its values.
    fn page(&self, page: u32) -> Range<usize> {
        let at = self.place.at(0, page, 0);
        at..at + self.place.shape.n_layers * self.place.shape.n_kv_heads * self.place.head_len
    }

    /// Bytes of a page: keys, then values.
    pub fn page_bytes(&self) -> usize {
        2 * size_of::<u16>() * self.page(0).len()
    }

    /// What a page's bytes mean. The same for every instruction set.
    pub fn layout(&self) -> String {
        let KvShape { n_layers, n_kv_heads, d_head, .. } = self.place.shape;
        let d_pad = self.place.d_pad;
        let kept = match self.place.kept {
            KvType::F16 => "f16le".into(),
            KvType::Q8 => format!("q8x{KV_BLOCK}"),
        };
        format!("simd2 {kept} keys+values l{n_layers} h{n_kv_heads} d{d_head} pad{d_pad} lanes{LANES} page{PAGE_LEN}")
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

/// The codes and the scales of a head in a page.
pub fn codes_and_scales(words: &[u16], d_pad: usize) -> (&[i8], &[u16]) {
    let (codes, scales) = words.split_at(PAGE_LEN * d_pad / 2);
    // SAFETY: two bytes for each word of `codes`; bytes need no alignment and take every pattern of bits.
    (unsafe { std::slice::from_raw_parts(codes.as_ptr().cast(), 2 * codes.len()) }, scales)
}

fn codes_and_scales_mut(words: &mut [u16], d_pad: usize) -> (&mut [i8], &mut [u16]) {
    let (codes, scales) = words.split_at_mut(PAGE_LEN * d_pad / 2);
    // SAFETY: as above, and the only reference to them.
    (unsafe { std::slice::from_raw_parts_mut(codes.as_mut_ptr().cast(), 2 * codes.len()) }, scales)
}

/// Stores one head's keys (values, if not `is_key`) `[d_head]` of one position.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn kv_put<L: Lanes>(slot: &mut Slot<'_>, x: &[f32], is_key: bool) {
    match (slot.place.kept, is_key) {
        // SAFETY: forwarded.
        (KvType::F16, true) => unsafe { put_key::<L>(slot, x) },
        // SAFETY: forwarded.
        (KvType::F16, false) => unsafe { put_value::<L>(slot, x) },
        (KvType::Q8, true) => put_key_codes(slot, x),
        (KvType::Q8, false) => put_value_codes(slot, x),
    }
}

/// Rotated first (`ops::math::rotate`). The definition itself, compiled for the instruction set.
#[inline(always)]
fn put_key_codes(slot: &mut Slot<'_>, k: &[f32]) {
    let (d, at) = (k.len(), slot.slot);
    let (group, lane, blocks) = (at / LANES, at % LANES, d.div_ceil(KV_BLOCK));
    let (mut q, mut rotated) = ([0i8; KV_BLOCK], [0f32; KV_BLOCK]);
    let len = rotate_len(d);
    let (codes, scales) = codes_and_scales_mut(slot.words, slot.place.d_pad);
    let codes = codes[group * LANES * d..][..LANES * d].chunks_mut(KV_BLOCK * LANES);
    let scales = scales[group * blocks * LANES..][..blocks * LANES].chunks_exact_mut(LANES);
    for ((ks, codes), scales) in k.chunks(KV_BLOCK).zip(codes).zip(scales) {
        let rotated = &mut rotated[..ks.len()];
        rotated.copy_from_slice(ks);
        rotate(rotated, len);
        scales[lane] = quantise_kv(rotated, &mut q);
        codes.chunks_exact_mut(LANES).zip(q).for_each(|(c, q)| c[lane] = q);
    }
}

/// As they are.
#[inline(always)]
fn put_value_codes(slot: &mut Slot<'_>, v: &[f32]) {
    let (d, d_pad, at) = (v.len(), slot.place.d_pad, slot.slot);
    let blocks = d.div_ceil(KV_BLOCK);
    let (codes, scales) = codes_and_scales_mut(slot.words, d_pad);
    let codes = codes[at * d_pad..][..d].chunks_mut(KV_BLOCK);
    let scales = &mut scales[at * blocks..][..blocks];
    scales.iter_mut().zip(v.chunks(KV_BLOCK).zip(codes)).for_each(|(scale, (vs, q))| *scale = quantise_kv(vs, q));
}

#[inline(always)]
unsafe fn put_key<L: Lanes>(slot: &mut Slot<'_>, k: &[f32]) {
    let group = &mut slot.words[slot.slot / LANES * LANES * k.len()..][..LANES * k.len()];
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
}

#[inline(always)]
unsafe fn put_value<L: Lanes>(slot: &mut Slot<'_>, v: &[f32]) {
    let values = &mut slot.words[slot.slot * slot.place.d_pad..][..v.len()];
    for (o, vs) in values.chunks_mut(LANES).zip(v.chunks(LANES)) {
        if let (Some(o), Some(vs)) = (o.first_chunk_mut::<LANES>(), vs.first_chunk::<LANES>()) {
            // SAFETY: sixteen elements on both sides.
            unsafe { L::store_f16_sat(o.as_mut_ptr(), L::load(vs.as_ptr())) };
        } else {
            o.iter_mut().zip(vs).for_each(|(h, x)| *h = f32_to_f16_sat(*x));
        }
    }
}
