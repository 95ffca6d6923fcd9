//! Drafts for speculative decoding of code: what will the model write next, and how likely?
//!
//! Verification draws every row's token as plain decoding would and keeps the draft while it matches, so nothing here changes
//! an answer; it decides speed alone. A [`Drafter`] for each slot guesses from the client's prediction, from the sequence itself
//! and from a [`Pool`] of other sequences; [`allot`] shares a step between the guesses of all slots by the step's [`Costs`].
//! No clock, and no allocation after `new`. docs/speculation.md tells why it is as it is.

mod allot;
mod costs;
mod odds;
mod pool;
mod purse;
mod suffix;

pub use allot::allot;
pub use costs::Costs;
pub use pool::{Found, Pool};
pub use suffix::{Repeat, Suffixes};

use base::{TokenId, limits};
use odds::{Odds, Place};
use purse::Purse;

/// Tokens of one draft. Beyond, the rows of a step cost what they bring.
pub const DRAFT_MAX: usize = 128;
/// Between prediction and prompt: no vocabulary has it (`VOCAB_MAX`), so nothing matches across.
const SEAM: TokenId = TokenId::MAX;
/// Stop tokens that end a draft; more are ignored.
const STOPS_MAX: usize = 32;
/// Where copying is taken up again after a difference: this far before the place that was left ...
const BACK_MAX: usize = 32;
/// ... and this far behind it.
const AHEAD_MAX: usize = 256;
/// Nearer than this to where equal lengths would lead, a match is close.
const CLOSE_MAX: usize = 12;
/// Replacements by as many tokens are guessed for so many.
const SWAP_MAX: usize = 3;
/// Matches beside the place that was left are measured up to this length.
const NEAR_MATCH_MAX: usize = 32;
/// Tokens after which a jump is believed: the next search begins there, not where the copy was left.
const JUMP_PROVEN: usize = 3;
/// A copy that ran this long is followed without looking at alternatives.
const SURE: usize = 16;
/// Guesses at one position.
const GUESSES_MAX: usize = 8;
/// Tokens over which guesses are compared.
const COMPARED: usize = 16;

/// Where a draft came from; also indexes the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// What the client expects (OpenAI's `prediction`).
    Prediction,
    /// The sequence itself: prompt and answer.
    History,
    /// Other sequences of the project.
    Pool,
    /// A small model, which the engine runs.
    Model,
}

/// Sources.
pub const SOURCES: usize = 4;

/// Draft tokens of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Verified.
    pub offered: u64,
    /// Of them, what the model itself would have written.
    pub accepted: u64,
}

/// A draft.
#[derive(Clone, Debug)]
pub struct Proposal {
    source: Source,
    tokens: Vec<TokenId>,
    odds: Vec<f32>,
    cumulative: Vec<f32>,
}

impl Proposal {
    /// An empty one, with room for `DRAFT_MAX` tokens.
    pub fn new(source: Source) -> Self {
        let room = || Vec::with_capacity(DRAFT_MAX);
        Self { source, tokens: Vec::with_capacity(DRAFT_MAX), odds: room(), cumulative: room() }
    }

    /// Appends a token that is accepted with probability `odds` if all before it are; ignored beyond `DRAFT_MAX`.
    pub fn push(&mut self, token: TokenId, odds: f32) {
        if self.tokens.len() < DRAFT_MAX {
            let odds = odds.clamp(0.0, 1.0);
            self.tokens.push(token);
            self.odds.push(odds);
            self.cumulative.push(self.cumulative.last().unwrap_or(&1.0) * odds);
        }
    }

    fn clear(&mut self, source: Source) {
        self.source = source;
        self.tokens.clear();
        self.odds.clear();
        self.cumulative.clear();
    }

    /// Where it came from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Its tokens, at most `DRAFT_MAX`.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// For each token: the probability that it is accepted if all before it are.
    pub fn odds(&self) -> &[f32] {
        &self.odds
    }

    /// For each token: the probability that it and all before it are accepted.
    pub fn cumulative(&self) -> &[f32] {
        &self.cumulative
    }
}

/// A place from which to copy.
#[derive(Clone, Copy)]
struct Guess {
    source: Source,
    place: Place,
    /// Tokens that agree before it.
    len: usize,
    at: At,
    first: TokenId,
}

#[derive(Clone, Copy)]
enum At {
    Text(usize),
    Pool(Found),
}

/// The place that is being copied.
#[derive(Clone, Copy)]
struct Cursor {
    at: usize,
    place: Place,
    /// Tokens that agree before it.
    run: usize,
    /// Of them, since the cursor was set.
    proven: usize,
}

/// Guesses what follows one sequence. One for each slot; `start` makes it anew.
pub struct Drafter {
    /// Prediction, `SEAM`, prompt, answer; the first two only if there is a prediction.
    text: Suffixes,
    n_predicted: usize,
    n_history: usize,
    n_ctx: usize,
    stops: Vec<TokenId>,
    cursor: Option<Cursor>,
    /// Where copying stopped, and how many tokens ago.
    left: Option<(usize, usize)>,
    guesses: Vec<Guess>,
    /// Which guess the proposal was written from.
    written: Option<usize>,
    odds: Odds,
    purse: Purse,
    proposal: Proposal,
    counts: [Count; SOURCES],
}

impl Drafter {
    /// For sequences of at most `n_ctx` tokens. About 220 bytes for each, most of them untouched until used.
    pub fn new(n_ctx: usize) -> Self {
        let n_ctx = n_ctx.min(limits::CTX_MAX);
        Self {
            text: Suffixes::new(2 * n_ctx + 1),
            n_predicted: 0,
            n_history: 0,
            n_ctx,
            stops: Vec::with_capacity(STOPS_MAX),
            cursor: None,
            left: None,
            guesses: Vec::with_capacity(GUESSES_MAX),
            written: None,
            odds: Odds::new(),
            purse: Purse::new(false),
            proposal: Proposal::new(Source::History),
            counts: [Count::default(); SOURCES],
        }
    }

    /// A new sequence: its prompt, what its client expects as the answer (may be empty), and the tokens that end it (drafts go
    /// no further). Nothing is carried over from the sequence before.
    pub fn start(&mut self, prompt: &[TokenId], prediction: &[TokenId], stops: &[TokenId]) {
        self.text.clear();
        self.n_predicted = prediction.len().min(self.n_ctx);
        self.n_history = 0;
        self.stops.clear();
        self.stops.extend(stops.iter().take(STOPS_MAX));
        self.guesses.clear();
        self.odds = Odds::new();
        self.counts = Default::default();
        self.proposal.clear(Source::History);
        if self.n_predicted > 0 {
            prediction[..self.n_predicted].iter().for_each(|t| _ = self.text.push(*t));
            self.text.push(SEAM);
        }
        self.take_in(prompt);
        // The answer is expected to begin where the prediction does.
        self.cursor = None;
        self.left = (self.n_predicted > 0).then_some((0, 0));
        self.purse = Purse::new(self.n_predicted > 0);
    }

    /// `tokens` is the whole history (prompt and answer so far), a continuation of what was seen before.
    pub fn grow(&mut self, tokens: &[TokenId]) {
        let new = tokens.get(self.n_history..).unwrap_or_default();
        if new.is_empty() {
            return;
        }
        self.learn(new);
        self.purse.earn(new.len());
        for token in new {
            self.follow(*token);
            self.take_in(&[*token]);
        }
    }

    /// The best draft for what follows `tokens`; empty where nothing is worth a try. The pool comes with this sequence's salt.
    pub fn propose(&mut self, tokens: &[TokenId], pool: Option<(&Pool, u64)>) -> &Proposal {
        self.grow(tokens);
        self.guess(tokens, pool);
        self.proposal.clear(Source::History);
        let worth = |g: &Guess| {
            let mut odds = 1.0;
            (0..COMPARED).fold(0.0, |sum, i| {
                odds *= self.odds.of(g.source, g.place, g.len + i);
                sum + odds
            })
        };
        let best = self.guesses.iter().map(worth).enumerate().reduce(|a, b| if b.1 > a.1 { b } else { a });
        self.written = best.map(|b| b.0);
        if let Some(guess) = self.written.and_then(|i| self.guesses.get(i).copied()) {
            self.write(guess, pool.map(|(pool, _)| pool));
        }
        &self.proposal
    }

    /// Takes a draft model's guess as the proposal, instead of the one that `propose` made.
    pub fn propose_model(&mut self, draft: &[TokenId]) -> &Proposal {
        self.written = None;
        self.proposal.clear(Source::Model);
        for (i, token) in draft.iter().take(self.purse.affords()).enumerate() {
            self.proposal.push(*token, self.odds.of(Source::Model, Place::Copy, i));
        }
        &self.proposal
    }

    /// The last proposal.
    pub fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    /// What verification said: `offered` tokens of the last proposal were in the step, the first `accepted` of them matched, and
    /// each cost `price` times what a token costs without drafts ([`Costs::price`]).
    pub fn verified(&mut self, offered: usize, accepted: usize, price: f32) {
        let accepted = accepted.min(offered);
        let count = &mut self.counts[self.proposal.source as usize];
        count.offered += offered as u64;
        count.accepted += accepted as u64;
        self.purse.settle(offered, accepted, price);
    }

    /// Draft tokens since `start`, by `Source as usize`.
    pub fn counts(&self) -> &[Count; SOURCES] {
        &self.counts
    }

    fn take_in(&mut self, tokens: &[TokenId]) {
        self.n_history += tokens.len();
        tokens.iter().for_each(|t| _ = self.text.push(*t));
    }

    /// Every guess is compared with what came, whether or not it was in the step: so odds stay true without a probe's cost.
    fn learn(&mut self, new: &[TokenId]) {
        for (i, g) in self.guesses.iter().enumerate() {
            let is_written = self.written == Some(i) && !self.proposal.tokens.is_empty();
            let tokens = if is_written { &self.proposal.tokens[..] } else { std::slice::from_ref(&g.first) };
            for (i, (draft, came)) in tokens.iter().zip(new).enumerate() {
                self.odds.learn(g.source, g.place, g.len + i, draft == came);
                if draft != came {
                    break;
                }
            }
        }
        if self.proposal.source == Source::Model {
            for (i, (draft, came)) in self.proposal.tokens.iter().zip(new).enumerate() {
                self.odds.learn(Source::Model, Place::Copy, i, draft == came);
                if draft != came {
                    break;
                }
            }
        }
        self.guesses.clear();
        // The source stays for `verified`, which may come before or after.
        self.proposal.clear(self.proposal.source);
    }

    /// Moves the cursor over a token of the answer, before it is taken in.
    fn follow(&mut self, token: TokenId) {
        if let Some((_, ago)) = &mut self.left {
            *ago += 1;
        }
        let Some(c) = &mut self.cursor else { return };
        if self.text.text().get(c.at) == Some(&token) {
            *c = Cursor { at: c.at + 1, run: c.run + 1, proven: c.proven + 1, ..*c };
            return;
        }
        if c.proven >= JUMP_PROVEN || self.left.is_none() {
            self.left = Some((c.at, 1));
        }
        self.cursor = None;
    }

    fn guess(&mut self, tokens: &[TokenId], pool: Option<(&Pool, u64)>) {
        self.guesses.clear();
        if let Some(c) = self.cursor {
            self.add_guess(c.place, c.run, c.at);
            if c.run >= SURE {
                return;
            }
        } else if let Some((left, ago)) = self.left {
            self.guess_near(left, ago);
        }
        self.guess_far();
        if let Some((found, pool)) = pool.and_then(|(pool, salt)| Some((pool.find(salt, tokens)?, pool)))
            && let Some(first) = pool.after(found).next()
        {
            let guess = Guess { source: Source::Pool, place: Place::Far, len: found.len, at: At::Pool(found), first };
            self.guesses.push(guess);
        }
    }

    /// After a difference: small edits leave the rest in order, so the copy goes on close to where it stopped.
    fn guess_near(&mut self, left: usize, ago: usize) {
        let text = self.text.text();
        let matched = |q: usize| {
            let pairs = text[..q].iter().rev().zip(text.iter().rev());
            pairs.take(NEAR_MATCH_MAX).take_while(|(a, b)| a == b).count()
        };
        let end = (left + AHEAD_MAX).min(text.len().saturating_sub(1));
        let expected = left + ago;
        let mut best: [Option<(usize, usize, usize)>; 2] = [None, None];
        for q in left.saturating_sub(BACK_MAX)..=end {
            let (len, distance) = (matched(q), q.abs_diff(expected));
            let best = &mut best[usize::from(distance > CLOSE_MAX)];
            // The longest match; of equals the nearest, ahead before behind.
            if len > 0 && best.is_none_or(|b| len > b.0 || len == b.0 && distance <= b.1) {
                *best = Some((len, distance, q));
            }
        }
        for (found, place) in best.into_iter().zip([Place::Close, Place::Wide]) {
            if let Some((len, _, at)) = found {
                self.add_guess(place, len, at);
            }
        }
        // Tokens were replaced by as many others.
        if ago <= SWAP_MAX {
            self.add_guess(Place::Swap, 0, expected);
        }
    }

    /// Where else did the end of this text occur?
    fn guess_far(&mut self) {
        let here = self.cursor.map(|c| c.at).or(self.left.map(|l| l.0));
        // A match as long as that where copying went on says nothing new.
        let near = self.guesses.iter().map(|g| g.len).max().unwrap_or(0);
        if let Some(r) = self.text.longest().filter(|r| r.len > near) {
            let ahead = |at: usize| here.is_some_and(|here| at >= here);
            let nearer = ahead(r.first) && (!ahead(r.latest) || r.first < r.latest);
            self.add_guess(Place::Far, r.len, if nearer { r.first } else { r.latest });
        }
        let predicted = self.text.repeats().find(|r| r.first < self.n_predicted && r.len > near);
        if let Some(r) = predicted {
            self.add_guess(Place::Far, r.len, r.first);
        }
    }

    fn add_guess(&mut self, place: Place, len: usize, at: usize) {
        let source = if at < self.n_predicted { Source::Prediction } else { Source::History };
        let Some(first) = self.text.text().get(at).copied().filter(|t| *t != SEAM) else { return };
        let is_known = |g: &Guess| matches!(g.at, At::Text(other) if other == at);
        if self.guesses.len() < GUESSES_MAX && !self.guesses.iter().any(is_known) {
            self.guesses.push(Guess { source, place, len, at: At::Text(at), first });
        }
    }

    /// Writes the proposal and moves the cursor there.
    fn write(&mut self, guess: Guess, pool: Option<&Pool>) {
        let n = self.purse.affords();
        self.proposal.clear(guess.source);
        match guess.at {
            At::Text(at) => {
                let proven = self.cursor.filter(|c| c.at == at).map_or(0, |c| c.proven);
                self.cursor = Some(Cursor { at, place: guess.place, run: guess.len, proven });
                self.copy(guess, at, n);
            }
            At::Pool(found) => {
                self.cursor = None;
                for (i, token) in pool.into_iter().flat_map(|pool| pool.after(found)).take(n).enumerate() {
                    self.proposal.push(token, self.odds.of(guess.source, guess.place, guess.len + i));
                    if self.stops.contains(&token) {
                        break;
                    }
                }
            }
        }
    }

    fn copy(&mut self, guess: Guess, at: usize, n: usize) {
        let text = self.text.text();
        for i in 0..n.min(DRAFT_MAX) {
            // A copy that reaches the end of the text goes on with itself: a period repeats.
            let own = || self.proposal.tokens.get((at + i).checked_sub(text.len())?);
            let Some(token) = text.get(at + i).or_else(own).copied().filter(|t| *t != SEAM) else { break };
            self.proposal.push(token, self.odds.of(guess.source, guess.place, guess.len + i));
            if self.stops.contains(&token) {
                break;
            }
        }
    }
}
