//! Recent files and outputs of a project: a ring of token sequences with an index of n-grams (hash chains, as in LZ77 match
//! finders). Sequences draft only from sequences with the same salt. Bounded memory, all of it taken in `new`.

use base::TokenId;
use std::collections::VecDeque;

/// A match has at least this many tokens: they are what the index hashes.
const GRAM: usize = 4;
/// Matches are measured up to this length.
const MATCH_MAX: usize = 64;
/// Places that one look-up compares.
const CHAIN_MAX: usize = 16;
/// Sequences that the pool remembers, at most.
const SEQUENCES_MAX: usize = 1024;
/// Tokens of a pool, at most.
const TOKENS_MAX: usize = 1 << 24;

struct Sequence {
    salt: u64,
    /// First token and end, in tokens ever added.
    start: u64,
    end: u64,
}

/// The pool. Positions count all tokens ever added; position p lies at `p % tokens.len()`.
pub struct Pool {
    tokens: Vec<TokenId>,
    /// For each position, the one before it in its chain, plus one. 0 ends the chain.
    before: Vec<u64>,
    /// Newest position of each chain, plus one. A position stands for the `GRAM` tokens that end before it.
    heads: Vec<u64>,
    sequences: VecDeque<Sequence>,
    end: u64,
}

/// Where a text like the asked one goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Tokens that agree before it, up to 64.
    pub len: usize,
    at: u64,
    end: u64,
}

impl Pool {
    /// For `tokens_max` tokens, 24 bytes each.
    pub fn new(tokens_max: usize) -> Self {
        let n = tokens_max.clamp(GRAM + 1, TOKENS_MAX);
        Self {
            tokens: vec![0; n],
            before: vec![0; n],
            heads: vec![0; n.next_power_of_two()],
            sequences: VecDeque::with_capacity(SEQUENCES_MAX),
            end: 0,
        }
    }

    /// Takes a sequence in, or as much of its end as the pool holds; the oldest ones make room.
    pub fn add(&mut self, salt: u64, tokens: &[TokenId]) {
        let tokens = &tokens[tokens.len().saturating_sub(self.tokens.len())..];
        if tokens.len() <= GRAM {
            return;
        }
        let (start, end) = (self.end, self.end + tokens.len() as u64);
        let room = self.tokens.len() as u64;
        while self.sequences.len() == SEQUENCES_MAX || self.sequences.front().is_some_and(|s| s.start + room < end) {
            self.sequences.pop_front();
        }
        self.sequences.push_back(Sequence { salt, start, end });
        for (i, token) in tokens.iter().enumerate() {
            let at = self.slot(self.end);
            self.tokens[at] = *token;
            // The first tokens of a sequence have no whole n-gram before them.
            let head = (i >= GRAM).then(|| self.head(salt, &tokens[i - GRAM..i]));
            self.before[at] = head.map_or(0, |h| std::mem::replace(&mut self.heads[h], self.end + 1));
            self.end += 1;
        }
    }

    /// Where a sequence of this salt goes on after the longest end of `recent`; the newest of equals.
    pub fn find(&self, salt: u64, recent: &[TokenId]) -> Option<Found> {
        let gram = &recent[recent.len().checked_sub(GRAM)?..];
        let mut best: Option<Found> = None;
        let mut next = self.heads[self.head(salt, gram)];
        for _ in 0..CHAIN_MAX {
            // Chains lead to ever older positions; one that was overwritten ends them.
            let Some(at) = next.checked_sub(1).filter(|at| at + self.tokens.len() as u64 >= self.end) else { break };
            next = self.before[self.slot(at)];
            let Some(sequence) = self.sequence(at).filter(|s| s.salt == salt) else { continue };
            let reach = ((at - sequence.start) as usize).min(MATCH_MAX);
            let agree = |(i, token): (u64, &TokenId)| self.tokens[self.slot(at - 1 - i)] == *token;
            let len = (0..reach as u64).zip(recent.iter().rev()).take_while(|x| agree(*x)).count();
            if len >= GRAM && best.is_none_or(|b| len > b.len) {
                best = Some(Found { len, at, end: sequence.end });
            }
        }
        best
    }

    /// The tokens that follow there.
    pub fn after(&self, found: Found) -> impl Iterator<Item = TokenId> {
        (found.at..found.end).map(|at| self.tokens[self.slot(at)])
    }

    fn slot(&self, at: u64) -> usize {
        (at % self.tokens.len() as u64) as usize
    }

    fn head(&self, salt: u64, gram: &[TokenId]) -> usize {
        gram.iter().fold(salt, |h, t| base::rng::bits(h, u64::from(*t), 0)) as usize & (self.heads.len() - 1)
    }

    fn sequence(&self, at: u64) -> Option<&Sequence> {
        let i = self.sequences.partition_point(|s| s.end <= at);
        self.sequences.get(i).filter(|s| s.start <= at)
    }
}
