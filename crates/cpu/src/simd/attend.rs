//! Attention over paged keys and values, f16 or int8 with scales. Query heads that share a key/value head, and neighbouring rows of a sequence, go
//! over a page together, as many at a time as registers hold. More than that: the page is converted to f32 once, in the first
//! level of cache, and all of them go over it there. Order of sums: `ops::attention`.

use super::elem::exp2;
use super::kv::codes_and_scales;
use super::{Kv, Lanes};
use crate::mem::LANES;
use ops::attention::{CHUNK, query_scale};
use ops::math::{ROTATE_MAX, rotate, rotate_len};
use ops::{KvType, PAGE_LEN};
use quant::KV_BLOCK;

/// Query vectors that one item may hold, where rows of a sequence share pages.
pub const VECTORS_MAX: usize = 96;
/// Of these, how many go over a page at a time: four lanes of outputs for each, and four of values, fill 32 registers.
const TILE: usize = 6;
/// Up to so many tiles convert a page each, in registers; for more of them it is converted once.
const DIRECT_TILES: usize = 2;
/// Bytes of a cache line.
const LINE: usize = 64;

/// One item: some query vectors, one key/value head, a run of chunks.
pub struct Attend<'a> {
    /// Keys and values.
    pub kv: &'a Kv,
    /// Layer.
    pub layer: usize,
    /// Key/value head.
    pub head: usize,
    /// Page table of the sequence.
    pub pages: &'a [u32],
    /// Query vectors `[d_head]`, at most `VECTORS_MAX`.
    pub queries: &'a [&'a [f32]],
    /// Last position each query may see; never falls.
    pub last: &'a [u32],
    /// Chunks `from..to`.
    pub from: usize,
    /// End of the run.
    pub to: usize,
    /// The chunk that this thread will probably go on with, `ahead - 1` after the run. Past the last one, the next head's.
    pub ahead: usize,
}

/// Layout of the scratch: what one item leaves behind, per vector: `[d_pad]` out, then max and sum.
pub fn partial_len(d_head: usize) -> usize {
    d_head.next_multiple_of(LANES) + LANES
}

/// Floats of scratch an item needs: partials, scaled queries, a chunk's output and scores; then one page in f32, and the scales
/// of its values.
pub fn scratch_len(d_head: usize) -> usize {
    let (d_pad, blocks) = (d_head.next_multiple_of(LANES), d_head.div_ceil(KV_BLOCK));
    VECTORS_MAX * (partial_len(d_head) + 2 * d_pad + CHUNK) + PAGE_LEN * (d_pad + blocks)
}

/// The query vectors of an item, cut into tiles of nearly equal size, and its scratch.
struct Item<'a> {
    job: &'a Attend<'a>,
    /// Vectors of a tile; the last may have fewer.
    tile: usize,
    /// More than `DIRECT_TILES` tiles: pages are converted once for all.
    shared: bool,
    /// Scaled queries, a tile's side by side: `[tiles][d_pad][tile]`.
    queries: &'a mut [f32],
    /// The chunk's answers, `[vectors][d_pad]`.
    out: &'a mut [f32],
    /// Scores, then weights, `[vectors][CHUNK]`.
    scores: &'a mut [f32],
    /// A page's keys or values in f32.
    page: &'a mut [f32],
    /// Scales of a page's values in f32, `[position][block]`.
    scales: &'a mut [f32],
}

/// Leaves, for each vector, the merged partial of its chunks at the start of `scratch` (a vector that sees none has sum 0).
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn attend<L: Lanes>(job: &Attend<'_>, scratch: &mut [f32]) {
    let (n, d) = (job.queries.len(), job.kv.place.shape.d_head);
    let (d_pad, stride) = (job.kv.place.d_pad, partial_len(d));
    let tile = if n <= L::ATTEND_VECTORS { n } else { n.div_ceil(n.div_ceil(TILE)) };
    let (partials, rest) = scratch.split_at_mut(n * stride);
    let (queries, rest) = rest.split_at_mut(n * d_pad);
    let (out, rest) = rest.split_at_mut(n * d_pad);
    let (scores, rest) = rest.split_at_mut(n * CHUNK);
    let (page, rest) = rest.split_at_mut(PAGE_LEN * d_pad);
    let scales = &mut rest[..PAGE_LEN * d_pad.div_ceil(KV_BLOCK)];
    let mut item = Item { job, tile, shared: tile * DIRECT_TILES < n, queries, out, scores, page, scales };
    item.scale_queries();
    partials.chunks_exact_mut(stride).for_each(|p| p[d_pad + 1] = 0.0);
    for chunk in job.from..job.to {
        if item.seen(n - 1, chunk) == 0 {
            break;
        }
        // SAFETY: forwarded.
        unsafe {
            item.score::<L>(chunk);
            // Two passes, so that one vector's exponentials need not wait for the reductions of the one before.
            for i in 0..n {
                let (seen, most) = (item.seen(i, chunk), item.seen(item.tile_last(i), chunk));
                partials[i * stride + d_pad + 2] = highest::<L>(&mut item.scores[i * CHUNK..][..CHUNK], seen, most);
            }
            for i in 0..n {
                let most = item.seen(item.tile_last(i), chunk);
                let end = &mut partials[i * stride + d_pad + 2..][..2];
                end[1] = soften::<L>(&mut item.scores[i * CHUNK..][..CHUNK], end[0], most);
            }
            item.weigh::<L>(chunk);
            for i in (0..n).filter(|i| item.seen(*i, chunk) > 0) {
                let p = &mut partials[i * stride..][..stride];
                let (max, sum) = (p[d_pad + 2], p[d_pad + 3]);
                merge::<L>(p, d_pad, max, sum, &item.out[i * d_pad..][..d_pad]);
            }
        }
    }
}

/// Folds a chunk's answer into a partial (`ops::attention::merge`). The first one is taken as it is.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn merge<L: Lanes>(p: &mut [f32], d_pad: usize, max: f32, sum: f32, out: &[f32]) {
    if p[d_pad + 1] == 0.0 {
        p[..d_pad].copy_from_slice(out);
        (p[d_pad], p[d_pad + 1]) = (max, sum);
        return;
    }
    let top = p[d_pad].max(max);
    let mut sums = [0.0; LANES];
    // SAFETY: chunks hold sixteen elements.
    unsafe {
        let (a, b) = (exp2::<L>(L::splat(p[d_pad] - top)), exp2::<L>(L::splat(max - top)));
        L::store(sums.as_mut_ptr(), L::fma(L::splat(p[d_pad + 1]), a, L::mul(L::splat(sum), b)));
        for (o, n) in p[..d_pad].chunks_exact_mut(LANES).zip(out.chunks_exact(LANES)) {
            L::store(o.as_mut_ptr(), L::fma(L::load(o.as_ptr()), a, L::mul(L::load(n.as_ptr()), b)));
        }
    }
    (p[d_pad], p[d_pad + 1]) = (top, sums[0]);
}

/// Calls a kernel compiled for the number of vectors and of lanes: as many as leave their sums in registers.
macro_rules! compiled {
    ($n:expr, $width:expr, $f:ident::<$l:ident, $t:ident>($($arg:expr),* $(,)?)) => {
        compiled!(@ $n, $width, $f, $l, $t, ($($arg),*), 1 2 3 4 5 6 7)
    };
    (@ $n:expr, $width:expr, $f:ident, $l:ident, $t:ident, $args:tt, $($v:literal)*) => {
        match ($n, $width) {
            $( ($v, 4) => $f::<$l, $t, $v, { if $v <= TILE { 4 } else { 2 } }> $args,
               ($v, 2) => $f::<$l, $t, $v, 2> $args,
               ($v, _) => $f::<$l, $t, $v, 1> $args, )*
            _ => {}
        }
    };
}

impl Item<'_> {
    #[inline(always)]
    fn scale_queries(&mut self) {
        let (d, d_pad) = (self.job.kv.place.shape.d_head, self.job.kv.place.d_pad);
        let (rotated, len) = (self.job.kv.place.kept == KvType::Q8, rotate_len(d));
        let scale = query_scale(d) / if rotated { len as f32 } else { 1.0 };
        let mut run = [0.0; ROTATE_MAX];
        let tiles = self.job.queries.chunks(self.tile).zip(self.queries.chunks_mut(self.tile * d_pad));
        for (queries, out) in tiles {
            let n = queries.len();
            for (v, q) in queries.iter().enumerate() {
                for (q, out) in q.chunks(ROTATE_MAX).zip(out.chunks_mut(ROTATE_MAX * n)) {
                    let run = &mut run[..q.len()];
                    run.iter_mut().zip(q).for_each(|(o, x)| *o = x * scale);
                    if rotated {
                        rotate(run, len);
                    }
                    out.chunks_exact_mut(n).zip(run).for_each(|(o, x)| o[v] = *x);
                }
            }
        }
    }

    /// Positions of `chunk` that vector `i` sees.
    fn seen(&self, i: usize, chunk: usize) -> usize {
        (self.job.last[i] as usize + 1).saturating_sub(chunk * CHUNK).min(CHUNK)
    }

    /// The last vector of `i`'s tile, which sees most.
    fn tile_last(&self, i: usize) -> usize {
        (i / self.tile * self.tile + self.tile).min(self.job.queries.len()) - 1
    }

    /// Scores of all vectors against the keys of a chunk that they see, whole groups of sixteen.
    #[inline(always)]
    unsafe fn score<L: Lanes>(&mut self, chunk: usize) {
        let (job, n) = (self.job, self.job.queries.len());
        let (d, d_pad) = (job.kv.place.shape.d_head, job.kv.place.d_pad);
        let most = self.seen(n - 1, chunk);
        for start in (0..most).step_by(PAGE_LEN) {
            let pos = chunk * CHUNK + start;
            let (keys, _) = job.kv.head(job.layer, job.pages[pos / PAGE_LEN], job.head);
            let (ahead, _) = page_ahead(job, pos);
            let eight = (job.kv.place.kept == KvType::Q8)
                .then(|| (codes_and_scales(keys, d_pad), codes_and_scales(ahead, d_pad)));
            let blocks = d.div_ceil(KV_BLOCK);
            let used = PAGE_LEN.min(most - start).div_ceil(LANES) * LANES;
            // SAFETY: forwarded; a prefetch touches nothing.
            unsafe {
                if let Some((_, (_, scales_ahead))) = eight {
                    scales_ahead.chunks(2 * LANES).for_each(|line| L::prefetch(line.as_ptr().cast()));
                }
                match eight {
                    Some(((codes, scales), (ahead, _))) if self.shared => {
                        convert_keys::<L>(&codes[..used * d], scales, d, self.page, ahead);
                    }
                    None if self.shared => convert::<L>(&keys[..used * d], self.page, ahead),
                    _ => {}
                }
            }
            for at in (0..n).step_by(self.tile) {
                let last = self.tile_last(at);
                let groups = self.seen(last, chunk).saturating_sub(start).min(PAGE_LEN).div_ceil(LANES);
                let q = &self.queries[at * d_pad..];
                let scores = &mut self.scores[at * CHUNK + start..];
                let mut group = 0;
                while group < groups {
                    let width = if last - at >= TILE { 2 } else { 4 };
                    let width = if L::ATTEND_BLOCKS >= 4 { width.min((groups - group).next_power_of_two()) } else { 1 };
                    // Three groups are one of two and one of one.
                    let width = if width > groups - group { width / 2 } else { width };
                    let (first, scores) = (group * LANES * d, &mut scores[group * LANES..]);
                    // SAFETY: forwarded.
                    unsafe {
                        let n = last - at + 1;
                        if self.shared {
                            compiled!(n, width, score::<L, f32>(&self.page[first..], &[], &[], d, q, scores));
                        } else if let Some(((codes, scales_k), (ahead, _))) = eight {
                            let (codes, ahead) = (&codes[first..], &ahead[first..]);
                            let scales_k = &scales_k[group * blocks * LANES..];
                            compiled!(n, width, score::<L, i8>(codes, scales_k, ahead, d, q, scores));
                        } else {
                            let (keys, ahead) = (&keys[first..], &ahead[first..]);
                            compiled!(n, width, score::<L, u16>(keys, &[], ahead, d, q, scores));
                        }
                    }
                    group += width;
                }
            }
        }
    }

    /// Weighted sums of the values of a chunk, in order of position.
    #[inline(always)]
    unsafe fn weigh<L: Lanes>(&mut self, chunk: usize) {
        let (job, n) = (self.job, self.job.queries.len());
        let d_pad = job.kv.place.d_pad;
        self.out.fill(0.0);
        let most = self.seen(n - 1, chunk);
        for start in (0..most).step_by(PAGE_LEN) {
            let pos = chunk * CHUNK + start;
            let (_, values) = job.kv.head(job.layer, job.pages[pos / PAGE_LEN], job.head);
            let (_, ahead) = page_ahead(job, pos);
            let eight = (job.kv.place.kept == KvType::Q8)
                .then(|| (codes_and_scales(values, d_pad), codes_and_scales(ahead, d_pad)));
            let used = PAGE_LEN.min(most - start);
            // SAFETY: forwarded.
            unsafe {
                if let Some(((_, scales), (_, scales_ahead))) = eight {
                    convert::<L>(scales, self.scales, scales_ahead);
                }
                match eight {
                    Some(((codes, _), (ahead, _))) if self.shared => {
                        convert_values::<L>(&codes[..used * d_pad], self.scales, d_pad, self.page, ahead);
                    }
                    None if self.shared => convert::<L>(&values[..used * d_pad], self.page, ahead),
                    _ => {}
                }
            }
            for at in (0..n).step_by(self.tile) {
                let last = self.tile_last(at);
                let count = self.seen(last, chunk).saturating_sub(start).min(PAGE_LEN);
                let weights = &self.scores[at * CHUNK + start..];
                let (mut lane, lanes) = (0, d_pad / LANES);
                while lane < lanes && count > 0 {
                    let width = if last - at >= TILE { 2 } else { 4 };
                    let width = if L::ATTEND_BLOCKS >= 4 { width.min((lanes - lane).next_power_of_two()) } else { 1 };
                    let width = if width > lanes - lane { width / 2 } else { width };
                    let first = lane * LANES;
                    let out = &mut self.out[at * d_pad + first..];
                    // SAFETY: forwarded.
                    unsafe {
                        let n = last - at + 1;
                        if self.shared {
                            let values = &self.page[first..];
                            compiled!(n, width, weigh::<L, f32>(values, &[], &[], d_pad, count, weights, out));
                        } else if let Some(((codes, _), (ahead, _))) = eight {
                            let (codes, ahead) = (&codes[first..], &ahead[first..]);
                            let scales = &self.scales[first / KV_BLOCK..];
                            compiled!(n, width, weigh::<L, i8>(codes, scales, ahead, d_pad, count, weights, out));
                        } else {
                            let (values, ahead) = (&values[first..], &ahead[first..]);
                            compiled!(n, width, weigh::<L, u16>(values, &[], ahead, d_pad, count, weights, out));
                        }
                    }
                    lane += width;
                }
            }
        }
    }
}

/// The page that is likely to be read after the one that holds `pos`; that one, if none is. Pages of a sequence lie apart, where
/// hardware does not look ahead: while one is worked on, the same part of the next is prefetched.
#[inline(always)]
fn page_ahead<'a>(job: &Attend<'a>, pos: usize) -> (&'a [u16], &'a [u16]) {
    let last = job.last[job.last.len() - 1] as usize;
    let (mut head, mut next) = (job.head, pos / PAGE_LEN + 1);
    if next * PAGE_LEN >= job.to * CHUNK || next * PAGE_LEN > last {
        let (chunk, chunks) = (job.to - 1 + job.ahead, last / CHUNK + 1);
        head += chunk / chunks;
        next = chunk % chunks * (CHUNK / PAGE_LEN);
    }
    if head >= job.kv.place.shape.n_kv_heads {
        (head, next) = (job.head, pos / PAGE_LEN);
    }
    job.kv.head(job.layer, job.pages[next], head)
}

/// What kernels read keys and values from: f16 or int8 as stored, or converted already.
trait Source<L: Lanes>: Copy {
    /// Whether memory may be far, so that it pays to ask for what comes next.
    const IS_FAR: bool;
    /// Whether each block has a scale.
    const IS_SCALED: bool;
    unsafe fn lanes(p: *const Self) -> L::F;
}

impl<L: Lanes> Source<L> for i8 {
    const IS_FAR: bool = true;
    const IS_SCALED: bool = true;
    #[inline(always)]
    unsafe fn lanes(p: *const i8) -> L::F {
        // SAFETY: forwarded.
        unsafe { L::load_i8(p.cast()) }
    }
}

impl<L: Lanes> Source<L> for u16 {
    const IS_FAR: bool = true;
    const IS_SCALED: bool = false;
    #[inline(always)]
    unsafe fn lanes(p: *const u16) -> L::F {
        // SAFETY: forwarded.
        unsafe { L::load_f16(p) }
    }
}

impl<L: Lanes> Source<L> for f32 {
    const IS_FAR: bool = false;
    const IS_SCALED: bool = false;
    #[inline(always)]
    unsafe fn lanes(p: *const f32) -> L::F {
        // SAFETY: forwarded.
        unsafe { L::load(p) }
    }
}

/// Halves to floats; asks for as much of `ahead`.
#[inline(always)]
unsafe fn convert<L: Lanes>(from: &[u16], to: &mut [f32], ahead: &[u16]) {
    let lanes = from.len() / LANES;
    assert!(to.len() >= lanes * LANES);
    let (from, to, ahead) = (from.as_ptr(), to.as_mut_ptr(), ahead.as_ptr());
    // SAFETY: both hold so many lanes (asserted); a prefetch touches nothing.
    unsafe {
        for i in (0..lanes / 4 * 4).step_by(4) {
            L::prefetch(ahead.wrapping_add(i * LANES).cast());
            L::prefetch(ahead.wrapping_add((i + 2) * LANES).cast());
            for j in i..i + 4 {
                L::store(to.add(j * LANES), L::load_f16(from.add(j * LANES)));
            }
        }
        for i in lanes / 4 * 4..lanes {
            L::store(to.add(i * LANES), L::load_f16(from.add(i * LANES)));
        }
    }
}

/// Asks for the lines of `bytes` bytes that begin at element `at` of `ahead`.
#[inline(always)]
unsafe fn prefetch<L: Lanes, T>(ahead: &[T], at: usize, bytes: usize) {
    for line in 0..bytes.div_ceil(LINE) {
        // SAFETY: a prefetch touches nothing.
        unsafe { L::prefetch(ahead.as_ptr().wrapping_add(at).cast::<u8>().wrapping_add(line * LINE)) };
    }
}

/// Codes of keys, `[groups][d][16]`, times their scales, `[groups][block][16]`; asks for as much of `ahead`.
#[inline(always)]
unsafe fn convert_keys<L: Lanes>(codes: &[i8], scales: &[u16], d: usize, to: &mut [f32], ahead: &[i8]) {
    let groups = codes.chunks_exact(LANES * d).zip(to.chunks_exact_mut(LANES * d)).zip(ahead.chunks_exact(LANES * d));
    for (((codes, to), ahead), scales) in groups.zip(scales.chunks_exact(LANES * d.div_ceil(KV_BLOCK))) {
        let blocks = codes.chunks(LANES * KV_BLOCK).zip(to.chunks_mut(LANES * KV_BLOCK));
        for (b, ((codes, to), scales)) in blocks.zip(scales.chunks_exact(LANES)).enumerate() {
            // SAFETY: sixteen elements each.
            unsafe {
                prefetch::<L, i8>(ahead, b * LANES * KV_BLOCK, codes.len());
                let scale = L::load_f16(scales.as_ptr());
                for (codes, to) in codes.chunks_exact(LANES).zip(to.chunks_exact_mut(LANES)) {
                    L::store(to.as_mut_ptr(), L::mul(L::load_i8(codes.as_ptr().cast()), scale));
                }
            }
        }
    }
}

/// Codes of values, `[positions][d_pad]`, times their scales, `[positions][block]`; asks for as much of `ahead`.
#[inline(always)]
unsafe fn convert_values<L: Lanes>(codes: &[i8], scales: &[f32], d_pad: usize, to: &mut [f32], ahead: &[i8]) {
    let rows = codes.chunks_exact(d_pad).zip(to.chunks_exact_mut(d_pad)).zip(ahead.chunks_exact(d_pad));
    for (((codes, to), ahead), scales) in rows.zip(scales.chunks_exact(d_pad.div_ceil(KV_BLOCK))) {
        // SAFETY: sixteen elements each.
        unsafe {
            prefetch::<L, i8>(ahead, 0, d_pad);
            for ((codes, to), scale) in codes.chunks(KV_BLOCK).zip(to.chunks_mut(KV_BLOCK)).zip(scales) {
                for (codes, to) in codes.chunks_exact(LANES).zip(to.chunks_exact_mut(LANES)) {
                    L::store(to.as_mut_ptr(), L::mul(L::load_i8(codes.as_ptr().cast()), L::splat(*scale)));
                }
            }
        }
    }
}

/// Scores of `V` queries, `[d][V]`, against `G` neighbouring groups of sixteen keys; their scales are `[G][block][16]`.
#[inline(always)]
unsafe fn score<L: Lanes, T: Source<L>, const V: usize, const G: usize>(
    keys: &[T],
    scales: &[u16],
    ahead: &[T],
    d: usize,
    queries: &[f32],
    scores: &mut [f32],
) {
    let (blocks, block) = if T::IS_SCALED { (d.div_ceil(KV_BLOCK), KV_BLOCK) } else { (0, d) };
    assert!(keys.len() >= G * LANES * d && queries.len() >= V * d && scores.len() >= (V - 1) * CHUNK + G * LANES);
    assert!(scales.len() >= G * blocks * LANES);
    let (keys, queries, scores) = (keys.as_ptr(), queries.as_ptr(), scores.as_mut_ptr());
    // SAFETY: all are long enough (asserted).
    unsafe {
        let mut acc = [[L::splat(0.0); G]; V];
        let mut from = 0;
        while from < d {
            let mut scale = [L::splat(1.0); G];
            if T::IS_SCALED {
                for g in 0..G {
                    scale[g] = L::load_f16(scales.as_ptr().add((g * blocks + from / KV_BLOCK) * LANES));
                }
            }
            for k in from..(from + block).min(d) {
                if T::IS_FAR {
                    prefetch::<L, T>(ahead, k * G * LANES, G * LANES * size_of::<T>());
                }
                let mut key = [L::splat(0.0); G];
                for g in 0..G {
                    key[g] = T::lanes(keys.add((g * d + k) * LANES));
                    if T::IS_SCALED {
                        key[g] = L::mul(key[g], scale[g]);
                    }
                }
                for v in 0..V {
                    let query = L::splat(*queries.add(k * V + v));
                    for g in 0..G {
                        acc[v][g] = L::fma(query, key[g], acc[v][g]);
                    }
                }
            }
            from += block;
        }
        for v in 0..V {
            for g in 0..G {
                L::store(scores.add(v * CHUNK + g * LANES), acc[v][g]);
            }
        }
    }
}

/// The highest of the first `seen` scores, zero if there are none. The rest, up to `most`, will weigh nothing.
#[inline(always)]
unsafe fn highest<L: Lanes>(scores: &mut [f32], seen: usize, most: usize) -> f32 {
    let end = most.next_multiple_of(LANES);
    scores[seen..end].fill(f32::NEG_INFINITY);
    if seen == 0 {
        return 0.0;
    }
    // SAFETY: chunks hold sixteen elements.
    unsafe {
        let mut top = L::splat(f32::NEG_INFINITY);
        for c in scores[..end].chunks_exact(LANES) {
            top = L::max(top, L::load(c.as_ptr()));
        }
        L::max_of(top)
    }
}

/// Scores to weights, `2^(score - max)`. Returns their sum.
#[inline(always)]
unsafe fn soften<L: Lanes>(scores: &mut [f32], max: f32, most: usize) -> f32 {
    // SAFETY: chunks hold sixteen elements.
    unsafe {
        let mut sum = L::splat(0.0);
        for c in scores[..most.next_multiple_of(LANES)].chunks_exact_mut(LANES) {
            let e = exp2::<L>(L::sub(L::load(c.as_ptr()), L::splat(max)));
            sum = L::add(sum, e);
            L::store(c.as_mut_ptr(), e);
        }
        L::tree(sum)
    }
}

/// Adds the first `count` values of a page, times the weights of `V` vectors, to `B` lanes of each vector's answer. Scales are
/// `[count][block]`, from the block that the lanes begin in; two lanes never straddle two blocks.
#[inline(always)]
unsafe fn weigh<L: Lanes, T: Source<L>, const V: usize, const B: usize>(
    values: &[T],
    scales: &[f32],
    ahead: &[T],
    d_pad: usize,
    count: usize,
    weights: &[f32],
    out: &mut [f32],
) {
    assert!(values.len() >= (count - 1) * d_pad + B * LANES && weights.len() >= (V - 1) * CHUNK + count);
    assert!(out.len() >= (V - 1) * d_pad + B * LANES);
    let blocks = d_pad.div_ceil(KV_BLOCK);
    assert!(!T::IS_SCALED || scales.len() >= (count - 1) * blocks + B.div_ceil(2));
    let (values, weights, out) = (values.as_ptr(), weights.as_ptr(), out.as_mut_ptr());
    // SAFETY: all are long enough (asserted).
    unsafe {
        let mut acc = [[L::splat(0.0); B]; V];
        for v in 0..V {
            for b in 0..B {
                acc[v][b] = L::load(out.add(v * d_pad + b * LANES));
            }
        }
        for j in 0..count {
            if T::IS_FAR {
                prefetch::<L, T>(ahead, j * d_pad, B * LANES * size_of::<T>());
            }
            let mut value = [L::splat(0.0); B];
            for b in 0..B {
                value[b] = T::lanes(values.add(j * d_pad + b * LANES));
                if T::IS_SCALED {
                    value[b] = L::mul(value[b], L::splat(*scales.as_ptr().add(j * blocks + b / 2)));
                }
            }
            for v in 0..V {
                let weight = L::splat(*weights.add(v * CHUNK + j));
                for b in 0..B {
                    acc[v][b] = L::fma(weight, value[b], acc[v][b]);
                }
            }
        }
        for v in 0..V {
            for b in 0..B {
                L::store(out.add(v * d_pad + b * LANES), acc[v][b]);
            }
        }
    }
}
