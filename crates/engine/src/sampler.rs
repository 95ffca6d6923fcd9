//! From logits to a token. Order: logit bias, repetition penalty, presence and frequency penalties, temperature, top_k,
//! top_p, min_p, draw. Everything is a function of the logits, the history and (seed, position); ties go to the lower id.

use crate::api::{Logprobs, Sampling};
use base::{TokenId, limits, rng};
use ops::math;

/// Candidates this many nats below the best can never be drawn: their sum is below the 2^-24 step of the random number.
const NATS_MAX: f32 = 30.0;

/// Memory for choosing one token, sized once.
pub struct Sampler {
    logits: Vec<f32>,
    counts: Vec<u16>,
    candidates: Vec<(f32, TokenId)>,
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
        Self { logits: vec![0.0; n_vocab], counts: vec![0; n_vocab], candidates: Vec::with_capacity(n_vocab) }
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
        let floor = max - NATS_MAX * s.temperature.max(1e-3);
        self.candidates.clear();
        self.candidates.extend(logits.iter().zip(0..).filter(|(l, _)| **l >= floor).map(|(l, i)| (*l, i)));
        let order = |a: &(f32, TokenId), b: &(f32, TokenId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let k = if s.top_k == 0 { usize::MAX } else { s.top_k as usize };
        if k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, order);
            self.candidates.truncate(k);
        }
        self.candidates.sort_unstable_by(order);
        let mut total = 0.0f32;
        for (l, _) in &mut self.candidates {
            *l = math::exp((*l - max) / s.temperature);
            total += *l;
        }
        let mut kept = self.candidates.len();
        if s.top_p < 1.0 {
            let (mut sum, want) = (0.0f32, s.top_p * total);
            let enough = |(p, _): &(f32, TokenId)| {
                sum += p;
                sum >= want
            };
            kept = self.candidates.iter().position(enough).map_or(kept, |i| i + 1);
        }
        let floor = s.min_p * self.candidates[0].0;
        kept = self.candidates[..kept].iter().take_while(|(p, _)| *p >= floor).count().max(1);
        let kept = &self.candidates[..kept];
        let total: f32 = kept.iter().map(|(p, _)| p).sum();
        let mut left = rng::uniform(s.seed, c.tokens.len() as u64, 0) * total;
        for (p, token) in kept {
            if left < *p {
                return *token;
            }
            left -= p;
        }
        kept[kept.len() - 1].1
    }
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
        let l = logits(50);
        let mut sampler = Sampler::new(50);
        let s = Sampling { temperature: 0.7, top_k: 20, top_p: 0.9, min_p: 0.02, ..Sampling::default() };
        // An independent account of the same filters, in f64.
        let mut p: Vec<(f64, usize)> = l.iter().enumerate().map(|(i, x)| ((f64::from(*x) / 0.7).exp(), i)).collect();
        p.sort_by(|a, b| b.0.total_cmp(&a.0));
        p.truncate(20);
        let total: f64 = p.iter().map(|x| x.0).sum();
        let mut sum = 0.0;
        let n = p
            .iter()
            .position(|x| {
                sum += x.0;
                sum >= 0.9 * total
            })
            .unwrap()
            + 1;
        p.truncate(n);
        let floor = 0.02 * p[0].0;
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
