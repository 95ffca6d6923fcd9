//! What a sequence may lose by drafts that fail, whatever the odds say. All amounts are in the time of a token without drafts.
//!
//! Over any stretch of n tokens, drafts cost at most `HELD_MAX + EARNED * n` more than they bring, and over the first n tokens of
//! a sequence `START + EARNED * n` (and `VOUCHED`): a draft is no longer than what it can lose by the price of the last one.

use super::DRAFT_MAX;

/// In the purse at the start of a sequence.
const START: f32 = 0.2;
/// More, for the word of a client that sent a prediction.
const VOUCHED: f32 = 0.3;
/// For each token of the answer.
const EARNED: f32 = 0.01;
/// Gains beyond this are forgotten, so that a long good time does not pay for a long bad one.
const HELD_MAX: f32 = 16.0;
/// Price of a row before anything was verified: the slope of the default cost curve.
const PRICE: f32 = 0.105;

pub struct Purse {
    held: f32,
    price: f32,
}

impl Purse {
    pub fn new(is_predicted: bool) -> Self {
        Self { held: START + if is_predicted { VOUCHED } else { 0.0 }, price: PRICE }
    }

    /// Tokens were decoded.
    pub fn earn(&mut self, tokens: usize) {
        self.held = (self.held + EARNED * tokens as f32).min(HELD_MAX);
    }

    /// A draft was verified: each accepted token saved one, each offered one cost `price`.
    pub fn settle(&mut self, offered: usize, accepted: usize, price: f32) {
        if offered == 0 {
            return;
        }
        self.price = if price.is_finite() { price.max(0.001) } else { self.price };
        self.held = (self.held + accepted as f32 - offered as f32 * self.price).min(HELD_MAX);
    }

    /// Tokens that may be lost.
    pub fn affords(&self) -> usize {
        ((self.held / self.price).max(0.0) as usize).min(DRAFT_MAX)
    }
}
