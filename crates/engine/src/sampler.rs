//! From logits to a token. Order: logit bias, repetition penalty, presence and frequency penalties, temperature, top_k,
//! top_p, min_p, draw. Everything is a function of the logits, the history and (seed, position); ties go to the lower id.

use crate::api::{Logprobs, Sampling};
use base::{TokenId, limits, rng};
use ops::math;

/// Below this a weight is 0: all of a vocabulary there would be less than the 2^-24 step of the random number.
const LEAST: f32 = -40.0;
/// Weights that are summed together.
const BLOCK: usize = 512;

/// Memory for choosing one token, sized once.
pub struct Sampler {
    logits: Vec<f32>,
    counts: Vec<u16>,
    candidates: Vec<(f32, TokenId)>,
    /// Likelihoods relative to the best token's.
    weights: Vec<f32>,
}

/// What the choice depends on beside the logits.
pub struct Context<'a> {
    /// How to choose.
    pub sampling: &'a Sampling,
    /// Added to logits first.
    pub bias: &'a [(TokenId, f32)],
    /// Prompt and answer so far.
    pub tokens: &'a [TokenId],
    /// Of them, the prompt's.
    pub n_prompt: usize,
    /// How many of the best to report, if any.
    pub logprobs: Option<u8>,
    /// Tokens that a grammar allows, one bit each; the others get no probability.
    pub mask: Option<&'a [u32]>,
}

impl Sampler {
    /// For `n_vocab` logits.
    pub fn new(n_vocab: usize) -> Self {
        Self {
            logits: vec![0.0; n_vocab],
            counts: vec![0; n_vocab],
            candidates: Vec::with_capacity(n_vocab),
            weights: vec![0.0; n_vocab],
        }
    }

    /// Chooses the token at position `c.tokens.len()`.
    pub fn choose(&mut self, logits: &[f32], c: &Context<'_>) -> (TokenId, Option<Box<Logprobs>>) {
        let s = c.sampling;
        let penalised = s.repeat_penalty != 1.0 || s.presence_penalty != 0.0 || s.frequency_penalty != 0.0;
        if c.bias.is_empty() && !penalised && c.mask.is_none() {
            let token = self.draw(logits, c);
            return (token, c.logprobs.map(|n| report(logits, token, n)));
        }
        let mut work = std::mem::take(&mut self.logits);
        work.copy_from_slice(logits);
        for (token, bias) in c.bias {
            work[*token as usize] += bias;
        }
        if let Some(mask) = c.mask {
            let allowed = |i: usize| mask[i / 32] >> (i % 32) & 1 == 1;
            work.iter_mut().enumerate().filter(|(i, _)| !allowed(*i)).for_each(|(_, l)| *l = f32::NEG_INFINITY);
        }
        let best = argmax(&work).0;
        let biased = c.logprobs.map(|n| report(&work, best, n));
        self.penalise(&mut work, c);
        let token = self.draw(&work, c);
        let biased_logit = |id: TokenId| {
            let bias: f32 = c.bias.iter().filter(|(t, _)| *t == id).map(|(_, b)| b).sum();
            logits[id as usize] + bias
        };
        let logprobs = biased.map(|mut report| {
            report.chosen += biased_logit(token) - biased_logit(best);
            report
        });
        self.logits = work;
        (token, logprobs)
    }

    fn penalise(&mut self, logits: &mut [f32], c: &Context<'_>) {
        let s = c.sampling;
        let recent = c.tokens.len().saturating_sub(s.repeat_last_n as usize);
        if s.repeat_penalty != 1.0 {
            for token in &c.tokens[recent..] {
                let (seen, l) = (&mut self.counts[*token as usize], &mut logits[*token as usize]);
                if *seen == 0 {
                    *l = if *l > 0.0 { *l / s.repeat_penalty } else { *l * s.repeat_penalty };
                    *seen = 1;
                }
            }
            c.tokens[recent..].iter().for_each(|t| self.counts[*t as usize] = 0);
        }
        if s.presence_penalty != 0.0 || s.frequency_penalty != 0.0 {
            let answer = &c.tokens[c.n_prompt.min(c.tokens.len())..];
            answer.iter().for_each(|t| self.counts[*t as usize] = self.counts[*t as usize].saturating_add(1));
            for token in answer {
                let seen = std::mem::take(&mut self.counts[*token as usize]);
                if seen > 0 {
                    logits[*token as usize] -= s.presence_penalty + f32::from(seen) * s.frequency_penalty;
                }
            }
        }
    }

    fn draw(&mut self, logits: &[f32], c: &Context<'_>) -> TokenId {
        let s = c.sampling;
        let (best, max) = argmax(logits);
        if s.temperature <= 0.0 || s.top_k == 1 || !max.is_finite() {
            return best;
        }
        let scale = 1.0 / s.temperature;
        self.weights.iter_mut().zip(logits).for_each(|(w, l)| *w = weight((l - max) * scale));
        let luck = rng::uniform(s.seed, c.tokens.len() as u64, 0);
        let is_cut = (1..logits.len()).contains(&(s.top_k as usize)) || s.top_p < 1.0;
        let drawn = if is_cut { self.draw_cut(s, luck) } else { self.draw_any(s.min_p, luck) };
        drawn.unwrap_or(best)
    }

    /// Without top_k and top_p nothing need be sorted: the draw walks over the vocabulary, a block of it at a time.
    fn draw_any(&mut self, min_p: f32, luck: f32) -> Option<TokenId> {
        if min_p > 0.0 {
            self.weights.iter_mut().for_each(|w| *w = if *w >= min_p { *w } else { 0.0 });
        }
        let total: f32 = self.weights.chunks(BLOCK).map(sum).sum();
        let mut left = luck * total;
        let mut last = None;
        for (i, block) in self.weights.chunks(BLOCK).enumerate() {
            let here = sum(block);
            if left >= here {
                left -= here;
                continue;
            }
            for (j, w) in block.iter().enumerate().filter(|(_, w)| **w > 0.0) {
                last = Some((i * BLOCK + j) as TokenId);
                if left < *w {
                    return last;
                }
                left -= w;
            }
            return last; // rounding left a little over
        }
        self.weights.iter().rposition(|w| *w > 0.0).map(|i| i as TokenId)
    }

    /// With top_k or top_p: the most likely ones, sorted, as many as are needed.
    fn draw_cut(&mut self, s: &Sampling, luck: f32) -> Option<TokenId> {
        let k = if s.top_k == 0 { usize::MAX } else { s.top_k as usize };
        let all: f32 = self.weights.chunks(BLOCK).map(sum).sum();
        for nats in [6.0, 14.0, f32::INFINITY] {
            let floor = weight(-nats);
            let likely = self.weights.iter().zip(0..).filter(|(w, _)| **w > 0.0 && **w >= floor);
            self.candidates.clear();
            self.candidates.extend(likely.map(|(w, i)| (*w, i)));
            let enough = self.candidates.len() >= k || self.candidates.iter().map(|c| c.0).sum::<f32>() > s.top_p * all;
            if enough {
                break;
            }
        }
        let order = |a: &(f32, TokenId), b: &(f32, TokenId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, order);
            self.candidates.truncate(k);
        }
        self.candidates.sort_unstable_by(order);
        let total = if s.top_k == 0 { all } else { self.candidates.iter().map(|c| c.0).sum() };
        let (mut sum, want) = (0.0f32, s.top_p * total);
        let enough = |(w, _): &(f32, TokenId)| {
            sum += w;
            sum >= want
        };
        let n = self.candidates.iter().position(enough).map_or(self.candidates.len(), |i| i + 1);
        let n = self.candidates[..n].iter().take_while(|(w, _)| *w >= s.min_p).count().max(1);
        let kept = self.candidates.get(..n)?;
        let mut left = luck * kept.iter().map(|(w, _)| w).sum::<f32>();
        for (w, token) in kept {
            if left < *w {
                return Some(*token);
            }
            left -= w;
        }
        kept.last().map(|c| c.1)
    }
}

/// `exp(x)` for x <= 0, to a few units in the last place; 0 far below, and for what is not a number. Multiplications and additions
/// only, each rounded, so that compilers may use any vectors: 150,000 of them are taken for each sampled token.
fn weight(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves an integer
    let t = x.max(LEAST) * std::f32::consts::LOG2_E;
    let n = (t + ROUND) - ROUND;
    let f = t - n;
    let p = 1.546_2e-4f32;
    let p = p * f + 1.333_36e-3;
    let p = p * f + 9.618_1e-3;
    let p = p * f + 5.550_411e-2;
    let p = p * f + 0.240_226_5;
    let p = p * f + std::f32::consts::LN_2;
    let p = p * f + 1.0;
    let power = f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x >= LEAST { p * power } else { 0.0 }
}

/// In sixteen lanes.
fn sum(block: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let chunks = block.chunks_exact(16);
    let rest = chunks.remainder();
    for c in chunks {
        lanes.iter_mut().zip(c).for_each(|(l, w)| *l += w);
    }
    lanes.iter().chain(rest).sum()
}

/// The highest logit; ties go to the lower id. NaNs never win.
pub fn argmax(logits: &[f32]) -> (TokenId, f32) {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = logits.chunks_exact(16);
    let rest = chunks.remainder();
    for c in chunks {
        for (l, x) in lanes.iter_mut().zip(c) {
            *l = if *x > *l { *x } else { *l };
        }
    }
    let max = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
    (logits.iter().position(|x| *x == max).unwrap_or(0) as TokenId, max)
}

/// Log-probabilities of `token` and of the best `n`.
pub fn report(logits: &[f32], token: TokenId, n: u8) -> Box<Logprobs> {
    let (_, max) = argmax(logits);
    let total: f64 = logits.iter().map(|l| f64::from(math::exp(l - max))).sum();
    let norm = max + math::ln(total.max(f64::MIN_POSITIVE)) as f32;
    let n = usize::from(n).min(limits::TOP_LOGPROBS_MAX).min(logits.len());
    let mut top = [(0, f32::NEG_INFINITY); limits::TOP_LOGPROBS_MAX];
    let mut filled = 0;
    for (i, l) in logits.iter().enumerate() {
        if filled == n && (n == 0 || *l <= top[n - 1].1) {
            continue;
        }
        let at = top[..filled].iter().position(|(_, t)| *l > *t).unwrap_or(filled);
        filled = (filled + 1).min(n);
        top[at..filled].rotate_right(1);
        top[at] = (i as TokenId, *l);
    }
    top[..filled].iter_mut().for_each(|(_, l)| *l -= norm);
    Box::new(Logprobs { chosen: logits[token as usize] - norm, top, n: filled as u8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(n: usize) -> Vec<f32> {
        (0..n).map(|i| 8.0 * rng::uniform(3, i as u64, 0)).collect()
    }

    fn context<'a>(sampling: &'a Sampling, tokens: &'a [TokenId]) -> Context<'a> {
        Context { sampling, bias: &[], tokens, n_prompt: 1, logprobs: None, mask: None }
    }

    #[test]
    fn greedy_takes_the_best_and_the_lower_of_equals() {
        let mut l = logits(1000);
        l[700] = 20.0;
        l[301] = 20.0;
        assert_eq!(argmax(&l), (301, 20.0));
        l[5] = f32::NAN;
        assert_eq!(argmax(&l).0, 301);
        assert_eq!(argmax(&[f32::NAN; 40]).0, 0);
    }

    #[test]
    fn draws_follow_the_distribution_that_the_filters_leave() {
        for (temperature, top_k, top_p, min_p) in
            [(0.7, 20, 0.9, 0.02), (1.0, 0, 1.0, 0.0), (1.3, 0, 1.0, 0.1), (2.0, 0, 0.8, 0.0), (1.0, 7, 1.0, 0.0)]
        {
            follow(&Sampling { temperature, top_k, top_p, min_p, ..Sampling::default() });
        }
    }

    fn follow(s: &Sampling) {
        let l = logits(50);
        let mut sampler = Sampler::new(50);
        // An independent account of the same filters, in f64.
        let mut p: Vec<(f64, usize)> =
            l.iter().enumerate().map(|(i, x)| ((f64::from(*x) / f64::from(s.temperature)).exp(), i)).collect();
        p.sort_by(|a, b| b.0.total_cmp(&a.0));
        p.truncate(if s.top_k == 0 { 50 } else { s.top_k as usize });
        let total: f64 = p.iter().map(|x| x.0).sum();
        let mut sum = 0.0;
        let n = p
            .iter()
            .position(|x| {
                sum += x.0;
                sum >= f64::from(s.top_p) * total * (1.0 - 1e-9)
            })
            .unwrap()
            + 1;
        p.truncate(n);
        let floor = f64::from(s.min_p) * p[0].0;
        p.retain(|x| x.0 >= floor);
        let total: f64 = p.iter().map(|x| x.0).sum();
        let mut seen = vec![0usize; 50];
        let draws = 20_000;
        for seed in 0..draws {
            let s = Sampling { seed, ..s.clone() };
            seen[sampler.choose(&l, &context(&s, &[1, 2])).0 as usize] += 1;
        }
        for (i, count) in seen.iter().enumerate() {
            let want = p.iter().find(|x| x.1 == i).map_or(0.0, |x| x.0 / total) * draws as f64;
            assert!(
                (*count as f64 - want).abs() <= 5.0 * want.sqrt() + 1.0,
                "token {i}: {count} draws, expected {want:.0}"
            );
        }
    }

    #[test]
    fn weights_are_exponentials() {
        for i in 0..40_000 {
            let x = -i as f32 * 1e-3;
            let (got, want) = (f64::from(weight(x)), f64::from(x).exp());
            assert!((got / want - 1.0).abs() < 4e-6, "{x}: {got} {want}");
        }
        assert_eq!((weight(0.0), weight(-1e9), weight(f32::NEG_INFINITY), weight(f32::NAN)), (1.0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn the_draw_depends_on_seed_and_position_only() {
        let l = logits(100);
        let mut a = Sampler::new(100);
        let s = Sampling { temperature: 1.0, seed: 9, ..Sampling::default() };
        let first = a.choose(&l, &context(&s, &[1; 10])).0;
        for n in 0..50 {
            a.choose(&l, &context(&s, &vec![1; n + 1]));
        }
        assert_eq!(a.choose(&l, &context(&s, &[1; 10])).0, first);
    }

    #[test]
    fn penalties_and_bias_move_what_they_should() {
        let l = vec![1.0f32, 2.0, 3.0, -1.0];
        let mut sampler = Sampler::new(4);
        let greedy = |s: Sampling, bias: &[(TokenId, f32)], tokens: &[TokenId], sampler: &mut Sampler| {
            sampler.choose(&l, &Context { sampling: &s, bias, tokens, n_prompt: 1, logprobs: Some(4), mask: None })
        };
        assert_eq!(greedy(Sampling { repeat_penalty: 2.0, ..Default::default() }, &[], &[2], &mut sampler).0, 1);
        let presence = Sampling { presence_penalty: 1.5, ..Default::default() };
        assert_eq!(greedy(presence.clone(), &[], &[2], &mut sampler).0, 2, "the prompt is not penalised");
        assert_eq!(greedy(presence, &[], &[0, 2], &mut sampler).0, 1);
        let (token, report) = greedy(Sampling::default(), &[(3, 10.0)], &[0], &mut sampler);
        assert_eq!(token, 3);
        let report = report.unwrap();
        let sum: f32 = report.top[..4].iter().map(|x| x.1.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5 && report.top[0].0 == 3);
        assert!((report.chosen - report.top[0].1).abs() < 1e-5);
    }
}
