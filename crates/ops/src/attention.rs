//! The canonical order of attention, as scalar code over one head: chunks of fixed absolute positions, merged in order
//! (the split of Flash-Decoding, Dao et al. 2023, but fixed, so that how much runs at once cannot change a bit).

use crate::math::{LOG2_E, exp2, tree16};

/// Keys in one chunk; a multiple of the page length.
pub const CHUNK: usize = 256;

/// What queries are multiplied by: `1/sqrt(d_head)`, and log2(e), so that `e^x` of a score is `2^x`.
pub fn query_scale(d_head: usize) -> f32 {
    LOG2_E / (d_head as f32).sqrt()
}

/// The merged answer over the chunks seen so far, for one query head.
#[derive(Clone, Debug)]
pub struct Partial {
    /// Largest score.
    pub max: f32,
    /// Sum of `2^(score - max)`.
    pub sum: f32,
    /// Sum of `2^(score - max) * value`, `[d_head]`.
    pub out: Vec<f32>,
}

/// Attention of one query head over one chunk: `key(j)` and `value(j)` are `[d_head]`, `n <= CHUNK` of them.
/// `query` is already times `query_scale(d_head)`.
pub fn chunk<'a>(
    query: &[f32],
    n: usize,
    key: impl Fn(usize) -> &'a [f32],
    value: impl Fn(usize) -> &'a [f32],
) -> Partial {
    let mut p = [0.0f32; CHUNK];
    let mut max = f32::NEG_INFINITY;
    for (j, s) in p.iter_mut().enumerate().take(n) {
        *s = query.iter().zip(key(j)).fold(0.0f32, |acc, (q, k)| q.mul_add(*k, acc));
        max = max.max(*s);
    }
    let mut lanes = [0.0f32; 16];
    for (j, s) in p.iter_mut().enumerate().take(n) {
        *s = exp2(*s - max);
        lanes[j % 16] += *s;
    }
    let mut out = vec![0.0f32; query.len()];
    for (j, pj) in p.iter().enumerate().take(n) {
        for (o, v) in out.iter_mut().zip(value(j)) {
            *o = pj.mul_add(*v, *o);
        }
    }
    Partial { max, sum: tree16(&lanes), out }
}

/// Folds the next chunk (in order of position) into what came before.
pub fn merge(into: &mut Partial, next: &Partial) {
    let max = into.max.max(next.max);
    let (a, b) = (exp2(into.max - max), exp2(next.max - max));
    into.sum = into.sum.mul_add(a, next.sum * b);
    for (o, n) in into.out.iter_mut().zip(&next.out) {
        *o = o.mul_add(a, n * b);
    }
    into.max = max;
}

/// The answer: the weighted sum over the sum of weights.
pub fn finish(p: &Partial, out: &mut [f32]) {
    let inverse = 1.0 / p.sum;
    for (o, v) in out.iter_mut().zip(&p.out) {
        *o = v * inverse;
    }
}
