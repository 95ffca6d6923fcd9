//! How often drafts are right, by source and length of the match behind them.

use super::Source;

/// Lengths of match at which a class begins; the last class is open.
const LENGTHS: [usize; 15] = [0, 1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 65, 129, 257];
const N: usize = LENGTHS.len();
/// Tries that are remembered in full; beyond, old ones fade.
const TRIES_MAX: f32 = 512.0;
/// Tries that pass on to the slot's next sequence.
const TRIES_KEPT: f32 = 16.0;

/// Where a draft begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Beside the place that was copied last.
    Near,
    /// Anywhere else.
    Far,
}

/// Priors as (odds, tries they are worth) for each class of length.
type Prior = [(f32, f32); N];

const NEAR: Prior = [
    (0.25, 4.0),
    (0.45, 4.0),
    (0.65, 4.0),
    (0.75, 4.0),
    (0.82, 4.0),
    (0.88, 6.0),
    (0.92, 8.0),
    (0.95, 12.0),
    (0.965, 20.0),
    (0.975, 30.0),
    (0.98, 40.0),
    (0.985, 60.0),
    (0.99, 100.0),
    (0.992, 120.0),
    (0.993, 150.0),
];
const FAR: Prior = [
    (0.02, 4.0),
    (0.15, 8.0),
    (0.35, 6.0),
    (0.5, 4.0),
    (0.6, 4.0),
    (0.7, 6.0),
    (0.8, 8.0),
    (0.86, 12.0),
    (0.9, 16.0),
    (0.93, 20.0),
    (0.95, 30.0),
    (0.965, 40.0),
    (0.975, 60.0),
    (0.98, 80.0),
    (0.98, 100.0),
];
/// A draft model is asked token by token; its class is the position in the draft.
const MODEL: Prior = [(0.7, 8.0); N];

#[derive(Clone, Copy, Default)]
struct Tally {
    tries: f32,
    hits: f32,
}

/// Live acceptance over priors.
pub struct Odds {
    tallies: [[Tally; N]; TABLES],
}

const TABLES: usize = 6;

fn table(source: Source, place: Place) -> (usize, &'static Prior) {
    match (source, place) {
        (Source::Prediction, Place::Near) => (0, &NEAR),
        (Source::Prediction, Place::Far) => (1, &FAR),
        (Source::History, Place::Near) => (2, &NEAR),
        (Source::History, Place::Far) => (3, &FAR),
        (Source::Pool, _) => (4, &FAR),
        (Source::Model, _) => (5, &MODEL),
    }
}

fn class(len: usize) -> usize {
    LENGTHS.iter().rposition(|l| *l <= len).unwrap_or(0)
}

impl Odds {
    /// Priors only.
    pub fn new() -> Self {
        Self { tallies: [[Tally::default(); N]; TABLES] }
    }

    /// A new sequence: what was learned fades to a hint.
    pub fn fade(&mut self) {
        for t in self.tallies.as_flattened_mut() {
            t.shrink_to(TRIES_KEPT);
        }
    }

    /// The probability that the token after a match of `len` is right.
    pub fn of(&self, source: Source, place: Place, len: usize) -> f32 {
        let (i, prior) = table(source, place);
        let c = class(len);
        let (odds, worth) = prior[c];
        let t = self.tallies[i][c];
        (t.hits + odds * worth) / (t.tries + worth)
    }

    /// The token after such a match was right, or not.
    pub fn learn(&mut self, source: Source, place: Place, len: usize, is_hit: bool) {
        let t = &mut self.tallies[table(source, place).0][class(len)];
        t.shrink_to(TRIES_MAX - 1.0);
        t.tries += 1.0;
        t.hits += f32::from(u8::from(is_hit));
    }
}

impl Tally {
    fn shrink_to(&mut self, tries: f32) {
        if self.tries > tries {
            self.hits *= tries / self.tries;
            self.tries = tries;
        }
    }
}
