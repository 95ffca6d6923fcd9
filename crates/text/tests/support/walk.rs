//! Walks texts and random models through a matcher, one token at a time, as an engine does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(dead_code, reason = "each test uses its part")]

use std::time::Instant;

use base::{TokenId, rng};
use text::{Encode, Matcher, Tokenizer};

pub struct Walker<'a> {
    pub tokenizer: &'a Tokenizer,
    pub mask: Vec<u32>,
    /// Nanoseconds of each mask.
    pub mask_ns: Vec<u64>,
    /// Nanoseconds of each `force`.
    pub force_ns: Vec<u64>,
    pub n_forced: usize,
    pub n_tokens: usize,
}

impl<'a> Walker<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let mask = vec![0; tokenizer.n_vocab().div_ceil(32)];
        Self { tokenizer, mask, mask_ns: vec![], force_ns: vec![], n_forced: 0, n_tokens: 0 }
    }

    pub fn allow(&mut self, m: &mut Matcher) -> bool {
        self.mask.fill(0);
        let start = Instant::now();
        let any = m.allow(&mut self.mask);
        self.mask_ns.push(start.elapsed().as_nanos() as u64);
        any
    }

    pub fn force(&mut self, m: &mut Matcher, out: &mut Vec<TokenId>) {
        let (start, before) = (Instant::now(), out.len());
        m.force(out);
        self.force_ns.push(start.elapsed().as_nanos() as u64);
        self.n_forced += out.len() - before;
    }

    pub fn has(&self, t: TokenId) -> bool {
        self.mask[t as usize / 32] >> (t % 32) & 1 == 1
    }

    /// All tokens of the mask.
    fn allowed(&self) -> Vec<TokenId> {
        let bits =
            |(i, &word): (usize, &u32)| (0..32).filter(move |b| word >> b & 1 == 1).map(move |b| i as TokenId * 32 + b);
        self.mask.iter().enumerate().filter(|(_, word)| **word != 0).flat_map(bits).collect()
    }

    /// May the answer end here?
    pub fn may_end(&mut self, m: &mut Matcher) -> bool {
        if !self.allow(m) {
            return !m.is_failed();
        }
        self.tokenizer.eog_ids().iter().any(|&t| self.has(t))
    }

    /// Is this text allowed, token by token, and may it end there?
    pub fn accepts(&mut self, m: &mut Matcher, tokens: &[TokenId]) -> bool {
        for &t in tokens {
            if !self.allow(m) || !self.has(t) {
                return false;
            }
            m.accept(t);
        }
        self.may_end(m)
    }

    /// As `accepts`, with jumps: every forced token must be the one that the text has.
    pub fn accepts_with_jumps(&mut self, m: &mut Matcher, tokens: &[TokenId]) -> bool {
        let mut at = 0;
        while at < tokens.len() {
            if !self.allow(m) || !self.has(tokens[at]) {
                return false;
            }
            m.accept(tokens[at]);
            at += 1;
            let mut forced = Vec::new();
            self.force(m, &mut forced);
            self.n_tokens += 1 + forced.len();
            if !tokens[at..].starts_with(&forced) {
                return false;
            }
            at += forced.len();
        }
        self.may_end(m)
    }

    /// A tokenisation of a text drawn by chance.
    pub fn random_spelling(&self, text: &[u8], seed: u64) -> Vec<TokenId> {
        let (mut at, mut out) = (0, Vec::new());
        while at < text.len() {
            let n_max = (text.len() - at).min(12);
            let ids: Vec<TokenId> = (1..=n_max).filter_map(|n| self.token_with(&text[at..at + n])).collect();
            let id = ids[(rng::bits(seed, at as u64, 1) % ids.len() as u64) as usize];
            at += self.tokenizer.token_bytes(id).len();
            out.push(id);
        }
        out
    }

    /// The ordinary token with exactly these bytes.
    fn token_with(&self, bytes: &[u8]) -> Option<TokenId> {
        let written: String = bytes.iter().map(|&b| byte_char(b)).collect();
        self.tokenizer.token_of(&written).filter(|&id| self.tokenizer.token_bytes(id) == bytes)
    }

    /// What a model without any sense says within the mask: any token at first, later mostly those
    /// that end something. None if it did not come to an end.
    pub fn babble(&mut self, m: &mut Matcher, seed: u64, n_max: usize) -> Option<Vec<u8>> {
        let mut tokens: Vec<TokenId> = Vec::new();
        while tokens.len() < n_max {
            if !self.allow(m) {
                assert!(!m.is_failed(), "a limit was passed after {:?}", self.shown(&tokens));
                return Some(self.tokenizer.decode(&tokens, true));
            }
            let at = tokens.len() as u64;
            let mut ids = self.allowed();
            let ends = |t: &TokenId| {
                self.tokenizer.is_eog(*t)
                    || matches!(self.tokenizer.token_bytes(*t), [b'"' | b'}' | b']' | b'1' | b'a'])
            };
            if rng::uniform(seed, at, 2) < (at as f32 / 40.0).min(0.9) && ids.iter().any(ends) {
                ids.retain(ends);
            }
            let token = ids[(rng::bits(seed, at, 3) % ids.len() as u64) as usize];
            if self.tokenizer.is_eog(token) {
                return Some(self.tokenizer.decode(&tokens, true));
            }
            assert!(!self.tokenizer.is_special(token), "a special token within an answer");
            m.accept(token);
            tokens.push(token);
            self.force(m, &mut tokens);
        }
        None
    }

    fn shown(&self, tokens: &[TokenId]) -> String {
        String::from_utf8_lossy(&self.tokenizer.decode(tokens, true)).into_owned()
    }

    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        self.tokenizer.encode(text, Encode::TEXT)
    }
}

/// The byte-level alphabet (GPT-2).
pub fn byte_char(b: u8) -> char {
    let is_itself = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    if is_itself(b) {
        return char::from(b);
    }
    let rank = (0..b).filter(|&x| !is_itself(x)).count() as u32;
    char::from_u32(256 + rank).unwrap()
}

/// The q-quantile.
pub fn quantile(values: &mut [u64], q: f64) -> u64 {
    values.sort_unstable();
    values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(0)
}
