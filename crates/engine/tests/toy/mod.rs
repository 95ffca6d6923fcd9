//! A language model that remembers nothing but its pages: a row's scores are a hash of every token that its page table leads
//! to. A page lost, shared wrongly or written late changes the answer. It repeats itself often, so drafts have a chance.
#![allow(dead_code, reason = "each test uses its part")]

use base::{TokenId, rng};
use engine::sampler::{Context, Sampler, argmax};
use engine::{Constraint, Finish, Lm, PageForm, Picks, Request};
use ops::{Batch, PAGE_LEN};

pub const VOCAB: usize = 40;
/// Ends an answer.
pub const END: TokenId = 0;

pub struct Toy {
    kv: Vec<TokenId>,
    logits: Vec<f32>,
    best: Vec<TokenId>,
    pub rows: u64,
}

impl Toy {
    pub fn new(n_pages: usize) -> Self {
        Self { kv: vec![99; n_pages * PAGE_LEN], logits: Vec::new(), best: Vec::new(), rows: 0 }
    }
}

fn mix(h: u64, t: TokenId) -> u64 {
    rng::bits(h, u64::from(t), 3)
}

/// Scores after these tokens: mostly by the last two, a little by all of them.
fn scores(history: impl Iterator<Item = TokenId>) -> Vec<f32> {
    let (mut all, mut last) = (1u64, [0; 2]);
    for t in history {
        all = mix(all, t);
        last = [last[1], t];
    }
    let near = mix(mix(7, last[0] % 6), last[1]);
    let score = |v: u64| 6.0 * rng::uniform(near, v, 0) + 1.5 * rng::uniform(all, v, 0);
    (0..VOCAB as u64).map(|v| if v == 0 { score(v) - 1.0 } else { score(v) }).collect()
}

impl Lm for Toy {
    fn name(&self) -> String {
        "toy".into()
    }
    fn n_vocab(&self) -> usize {
        VOCAB
    }
    fn forward(&mut self, batch: Batch<'_>, picks: Picks<'_>) {
        let place =
            |table: u32, pos: usize| batch.pages[table as usize + pos / PAGE_LEN] as usize * PAGE_LEN + pos % PAGE_LEN;
        for row in batch.rows {
            self.kv[place(row.table, row.pos as usize)] = row.token;
        }
        self.rows += batch.rows.len() as u64;
        let kv = &self.kv;
        let of = |i: &u32| {
            let row = batch.rows[*i as usize];
            scores((0..=row.pos as usize).map(|pos| kv[place(row.table, pos)]))
        };
        self.logits = picks.full.iter().flat_map(of).collect();
        self.best = picks.best.iter().map(|i| argmax(&of(i)).0).collect();
    }
    fn logits(&mut self, i: usize) -> &[f32] {
        &self.logits[i * VOCAB..][..VOCAB]
    }
    fn best(&self, i: usize) -> TokenId {
        self.best[i]
    }
    fn page_form(&self) -> PageForm {
        PageForm { bytes: PAGE_LEN * 4, layout: "toy".into() }
    }
    fn read_page(&self, page: u32, out: &mut [u8]) {
        let tokens = &self.kv[page as usize * PAGE_LEN..][..PAGE_LEN];
        out.chunks_exact_mut(4).zip(tokens).for_each(|(o, t)| o.copy_from_slice(&t.to_le_bytes()));
    }
    fn write_page(&mut self, page: u32, bytes: &[u8]) {
        let tokens = &mut self.kv[page as usize * PAGE_LEN..][..PAGE_LEN];
        let word = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
        tokens.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(t, b)| *t = word(b));
    }
    fn copy_page(&mut self, from: u32, to: u32) {
        let from = from as usize * PAGE_LEN;
        self.kv.copy_within(from..from + PAGE_LEN, to as usize * PAGE_LEN);
    }
}

/// Allows tokens by the parity of the place, and at every fifth place forces two.
#[derive(Clone, Debug, Default)]
pub struct Rhythm {
    n: u32,
}

impl Constraint for Rhythm {
    fn allow(&mut self, mask: &mut [u32]) -> bool {
        (0..VOCAB as u32).filter(|t| t % 2 == self.n % 2).for_each(|t| mask[t as usize / 32] |= 1 << (t % 32));
        self.n < 60
    }
    fn accept(&mut self, token: TokenId) {
        assert_eq!(token % 2, self.n % 2, "a token that was not allowed");
        self.n += 1;
    }
    fn force(&mut self, tokens: &mut Vec<TokenId>) {
        if self.n.is_multiple_of(5) {
            tokens.extend([1 + self.n % 7, 9]);
            self.n += 2;
        }
    }
    fn copy(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

/// The answer, by the plainest of ways: one token after the other, no pages, no company.
pub fn answer(r: &Request, n_ctx: usize) -> (Vec<TokenId>, Vec<u64>, Finish) {
    let mut sampler = Sampler::new(VOCAB);
    let (mut tokens, mut bits) = (r.prompt.clone(), Vec::new());
    let n_prompt = tokens.len();
    let room = n_ctx - n_prompt;
    let len_max = n_prompt + r.max_tokens.min(room);
    let mut constraint = r.constraint.clone();
    let finish = 'answer: loop {
        if let Some(c) = &mut constraint {
            let mut forced = Vec::new();
            c.force(&mut forced);
            for t in forced {
                if tokens.len() < len_max {
                    tokens.push(t);
                    bits.push(0);
                }
            }
        }
        if tokens.len() >= len_max {
            break 'answer if r.max_tokens > room { Finish::Context } else { Finish::Length };
        }
        let logits = scores(tokens.iter().copied());
        let hash = logits.iter().fold(7, |h, x| rng::bits(h, u64::from(x.to_bits()), 1));
        if !r.replay.is_empty() {
            match r.replay.get(tokens.len() - n_prompt) {
                Some(t) => tokens.push(*t),
                None => break Finish::StopToken,
            }
            bits.push(hash);
            continue;
        }
        let mut mask = vec![0; VOCAB.div_ceil(32)];
        if constraint.as_mut().is_some_and(|c| !c.allow(&mut mask)) {
            break Finish::StopToken;
        }
        let context = Context {
            sampling: &r.sampling,
            bias: &r.logit_bias,
            tokens: &tokens,
            n_prompt,
            logprobs: None,
            mask: constraint.is_some().then_some(&mask[..]),
        };
        let token = sampler.choose(&logits, &context).0;
        if r.stop_tokens.contains(&token) {
            break Finish::StopToken;
        }
        if let Some(c) = &mut constraint {
            c.accept(token);
        }
        tokens.push(token);
        bits.push(hash);
    };
    (tokens.split_off(n_prompt), bits, finish)
}
