//! Attention over paged f16 keys and values. Query heads that share a key/value head (and neighbouring rows of a sequence)
//! go over the keys together, so that every key is converted once. Order of sums: `ops::attention`.

use super::elem::exp;
use super::{Kv, Lanes};
use crate::mem::LANES;
use ops::PAGE_LEN;
use ops::attention::CHUNK;

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
    /// Query vectors `[d_head]`, at most `Lanes::ATTEND_VECTORS`.
    pub queries: &'a [&'a [f32]],
    /// Last position each query may see.
    pub last: &'a [u32],
    /// Chunks `from..to`.
    pub from: usize,
    /// End of the run.
    pub to: usize,
}

/// Layout of the scratch: what one item leaves behind, per vector: `[d_pad]` out, then max and sum.
pub fn partial_len(d_head: usize) -> usize {
    d_head.next_multiple_of(LANES) + LANES
}

/// Floats of scratch an item needs for `vectors` queries: partials, then scaled queries, a chunk's output and scores.
pub fn scratch_len(d_head: usize, vectors: usize) -> usize {
    let d_pad = d_head.next_multiple_of(LANES);
    vectors * (partial_len(d_head) + 2 * d_pad + CHUNK)
}

/// Leaves, for each vector, the merged partial of its chunks at the start of `scratch` (a vector that sees none has sum 0).
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub unsafe fn attend<L: Lanes>(job: &Attend<'_>, scratch: &mut [f32]) {
    let (n, d) = (job.queries.len(), job.kv.shape.d_head);
    let (d_pad, stride) = (job.kv.d_pad(), partial_len(d));
    let (partials, rest) = scratch.split_at_mut(n * stride);
    let (queries, rest) = rest.split_at_mut(n * d_pad);
    let (out, rest) = rest.split_at_mut(n * d_pad);
    let scores = &mut rest[..n * CHUNK];
    let scale = 1.0 / (d as f32).sqrt();
    for (i, q) in job.queries.iter().enumerate() {
        for (o, x) in queries[i * d_pad..][..d].iter_mut().zip(*q) {
            *o = x * scale;
        }
        partials[i * stride + d_pad + 1] = 0.0;
    }
    for chunk in job.from..job.to {
        let seen = |i: usize| (job.last[i] as usize + 1).saturating_sub(chunk * CHUNK).min(CHUNK);
        let most = (0..n).map(seen).max().unwrap_or(0);
        if most == 0 {
            break;
        }
        // SAFETY: forwarded; each kernel's slices were cut to `n` vectors above.
        unsafe {
            macro_rules! vectors {
                ($($v:literal)*) => { match n { $( $v => {
                    score::<L, $v>(job, chunk, most, queries, scores);
                    for i in 0..n {
                        let (max, sum) = soften::<L>(&mut scores[i * CHUNK..(i + 1) * CHUNK], seen(i), most);
                        out[i * d_pad..(i + 1) * d_pad].fill(0.0);
                        if seen(i) > 0 { partials[i * stride + d_pad + 2] = max; partials[i * stride + d_pad + 3] = sum; }
                    }
                    weigh::<L, $v>(job, chunk, most, scores, out);
                } )* _ => {} } };
            }
            vectors!(1 2 3 4 5 6 7);
            for i in (0..n).filter(|i| seen(*i) > 0) {
                let p = &mut partials[i * stride..(i + 1) * stride];
                let (max, sum) = (p[d_pad + 2], p[d_pad + 3]);
                merge(p, d_pad, max, sum, &out[i * d_pad..(i + 1) * d_pad]);
            }
        }
    }
}

/// Folds a chunk's answer into a partial (`ops::attention::merge`). The first one is taken as it is.
#[inline(always)]
pub fn merge(p: &mut [f32], d_pad: usize, max: f32, sum: f32, out: &[f32]) {
    if p[d_pad + 1] == 0.0 {
        p[..d_pad].copy_from_slice(out);
        (p[d_pad], p[d_pad + 1]) = (max, sum);
        return;
    }
    let top = p[d_pad].max(max);
    let (a, b) = (ops::math::exp(p[d_pad] - top), ops::math::exp(max - top));
    p[d_pad + 1] = p[d_pad + 1].mul_add(a, sum * b);
    for (o, n) in p[..d_pad].iter_mut().zip(out) {
        *o = o.mul_add(a, n * b);
    }
    p[d_pad] = top;
}

/// Scores of `V` queries against the first `most` keys of a chunk, sixteen keys at a time.
#[inline(always)]
unsafe fn score<L: Lanes, const V: usize>(job: &Attend<'_>, chunk: usize, most: usize, q: &[f32], scores: &mut [f32]) {
    let mut start = 0;
    while start < most {
        // SAFETY: forwarded; a page holds four groups of keys, so two neighbours at an even place are in one page.
        unsafe {
            if L::ATTEND_BLOCKS >= 4 && start + LANES < most && (start / LANES).is_multiple_of(2) {
                score_groups::<L, V, 2>(job, chunk, start, q, scores);
                start += 2 * LANES;
            } else {
                score_groups::<L, V, 1>(job, chunk, start, q, scores);
                start += LANES;
            }
        }
    }
}

/// Scores of `V` queries against `G` neighbouring groups of sixteen keys, which lie in one page.
#[inline(always)]
unsafe fn score_groups<L: Lanes, const V: usize, const G: usize>(
    job: &Attend<'_>,
    chunk: usize,
    start: usize,
    q: &[f32],
    scores: &mut [f32],
) {
    let (d, d_pad) = (job.kv.shape.d_head, job.kv.d_pad());
    let pos = chunk * CHUNK + start;
    let (keys, _) = job.kv.head(job.layer, job.pages[pos / PAGE_LEN], job.head);
    let keys = &keys[pos % PAGE_LEN * d..][..G * LANES * d];
    let ahead = page_ahead(job, pos).0.get(pos % PAGE_LEN * d..(pos % PAGE_LEN + G * LANES) * d);
    assert!(scores.len() >= (V - 1) * CHUNK + start + G * LANES && q.len() >= (V - 1) * d_pad + d);
    // SAFETY: `keys` holds G groups of d lanes of sixteen; queries and scores are long enough (asserted).
    unsafe {
        prefetch::<L>(ahead);
        let mut acc = [[L::splat(0.0); G]; V];
        for k in 0..d {
            let key: [L::F; G] = std::array::from_fn(|g| L::load_f16(keys.as_ptr().add((g * d + k) * LANES)));
            for v in 0..V {
                let query = L::splat(*q.as_ptr().add(v * d_pad + k));
                for g in 0..G {
                    acc[v][g] = L::fma(query, key[g], acc[v][g]);
                }
            }
        }
        for v in 0..V {
            for g in 0..G {
                L::store(scores.as_mut_ptr().add(v * CHUNK + start + g * LANES), acc[v][g]);
            }
        }
    }
}

/// The page after the one that holds `pos`, if this job goes on there. Pages of a sequence lie apart, where hardware does not
/// look ahead: while one is worked on, the same part of the next is prefetched.
#[inline(always)]
fn page_ahead<'a>(job: &Attend<'a>, pos: usize) -> (&'a [u16], &'a [u16]) {
    let next = pos / PAGE_LEN + 1;
    let goes_on = next * PAGE_LEN < job.to * CHUNK && job.last.iter().any(|last| next * PAGE_LEN <= *last as usize);
    if goes_on { job.kv.head(job.layer, job.pages[next], job.head) } else { (&[], &[]) }
}

#[inline(always)]
unsafe fn prefetch<L: Lanes>(part: Option<&[u16]>) {
    for line in part.unwrap_or_default().chunks(2 * LANES) {
        // SAFETY: a prefetch touches nothing.
        unsafe { L::prefetch(line.as_ptr().cast()) };
    }
}

/// Scores to weights: `exp(score - max)` for the first `seen`, zero up to `most`. Returns the maximum and the sum.
#[inline(always)]
unsafe fn soften<L: Lanes>(scores: &mut [f32], seen: usize, most: usize) -> (f32, f32) {
    let end = most.next_multiple_of(LANES);
    scores[seen..end].fill(f32::NEG_INFINITY);
    if seen == 0 {
        scores[..end].fill(0.0);
        return (0.0, 0.0);
    }
    // SAFETY: chunks hold sixteen elements.
    unsafe {
        let mut top = L::splat(f32::NEG_INFINITY);
        for c in scores[..end].chunks_exact(LANES) {
            top = L::max(top, L::load(c.as_ptr()));
        }
        let max = L::max_of(top);
        let mut sum = L::splat(0.0);
        for c in scores[..end].chunks_exact_mut(LANES) {
            let e = exp::<L>(L::sub(L::load(c.as_ptr()), L::splat(max)));
            sum = L::add(sum, e);
            L::store(c.as_mut_ptr(), e);
        }
        (max, L::tree(sum))
    }
}

/// Weighted sums of the first `most` values of a chunk, in order of position.
#[inline(always)]
unsafe fn weigh<L: Lanes, const V: usize>(
    job: &Attend<'_>,
    chunk: usize,
    most: usize,
    weights: &[f32],
    out: &mut [f32],
) {
    let d_pad = job.kv.d_pad();
    assert!(weights.len() >= V * CHUNK && out.len() >= V * d_pad);
    let lanes = d_pad / LANES;
    let mut block = 0;
    while block < lanes {
        // SAFETY: blocks stay within `d_pad`; the rest was checked above.
        unsafe {
            if L::ATTEND_BLOCKS >= 4 && lanes - block >= 4 {
                weigh_block::<L, V, 4>(job, chunk, most, weights, out, block);
                block += 4;
            } else {
                weigh_block::<L, V, 1>(job, chunk, most, weights, out, block);
                block += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn weigh_block<L: Lanes, const V: usize, const B: usize>(
    job: &Attend<'_>,
    chunk: usize,
    most: usize,
    weights: &[f32],
    out: &mut [f32],
    block: usize,
) {
    let d_pad = job.kv.d_pad();
    // SAFETY: `weigh` checked that V vectors are there and that B lanes from `block` on are within `d_pad`.
    unsafe {
        let mut acc = [[L::splat(0.0); B]; V];
        for start in (0..most).step_by(PAGE_LEN) {
            let pos = chunk * CHUNK + start;
            let (_, values) = job.kv.head(job.layer, job.pages[pos / PAGE_LEN], job.head);
            let ahead = page_ahead(job, pos).1;
            for j in 0..PAGE_LEN.min(most - start) {
                prefetch::<L>(ahead.get(j * d_pad + block * LANES..j * d_pad + (block + B) * LANES));
                let row = values[j * d_pad..(j + 1) * d_pad].as_ptr().add(block * LANES);
                let value: [L::F; B] = std::array::from_fn(|b| L::load_f16(row.add(b * LANES)));
                for v in 0..V {
                    let w = L::splat(*weights.as_ptr().add(v * CHUNK + start + j));
                    for b in 0..B {
                        acc[v][b] = L::fma(w, value[b], acc[v][b]);
                    }
                }
            }
        }
        for v in 0..V {
            for b in 0..B {
                L::store(out.as_mut_ptr().add(v * d_pad + (block + b) * LANES), acc[v][b]);
            }
        }
    }
}
