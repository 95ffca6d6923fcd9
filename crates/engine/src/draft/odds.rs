//! How often drafts are right, by source and length of the match behind them.

use super::Source;

/// Lengths of match at which a class begins; the last class is open.
const LENGTHS: [usize; 15] = [0, 1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 65, 129, 257];
/// Length of match from which all places are alike.
const COPIED: usize = 33;
const N: usize = LENGTHS.len();
/// Tries that are remembered in full; beyond, old ones fade.
const TRIES_MAX: f32 = 512.0;

/// Where a draft begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where copying goes on undisturbed, or did so for long.
    Copy,
    /// After a difference, as if tokens had been replaced by as many others.
    Swap,
    /// After a difference: a match within a few tokens of there.
    Close,
    /// After a difference: a match further away.
    Wide,
    /// Anywhere else.
    Far,
}

/// Priors as (odds, tries they are worth) for each class of length.
type Prior = [(f32, f32); N];

const COPY: Prior = [
    (0.3, 8.0),
    (0.4, 8.0),
    (0.6, 8.0),
    (0.7, 8.0),
    (0.8, 8.0),
    (0.85, 8.0),
    (0.93, 12.0),
    (0.94, 16.0),
    (0.98, 30.0),
    (0.988, 60.0),
    (0.988, 80.0),
    (0.995, 150.0),
    (0.9965, 200.0),
    (0.997, 250.0),
    (0.9975, 300.0),
];
const SWAP: Prior = [
    (0.23, 8.0),
    (0.45, 8.0),
    (0.6, 6.0),
    (0.7, 6.0),
    (0.75, 6.0),
    (0.8, 8.0),
    (0.85, 12.0),
    (0.9, 16.0),
    (0.96, 30.0),
    (0.975, 40.0),
    (0.98, 60.0),
    (0.995, 150.0),
    (0.9965, 200.0),
    (0.997, 250.0),
    (0.9975, 300.0),
];
const CLOSE: Prior = [
    (0.1, 8.0),
    (0.28, 8.0),
    (0.46, 8.0),
    (0.72, 8.0),
    (0.8, 8.0),
    (0.85, 8.0),
    (0.9, 12.0),
    (0.92, 16.0),
    (0.97, 30.0),
    (0.98, 40.0),
    (0.98, 60.0),
    (0.995, 150.0),
    (0.9965, 200.0),
    (0.997, 250.0),
    (0.9975, 300.0),
];
const WIDE: Prior = [
    (0.05, 8.0),
    (0.22, 8.0),
    (0.42, 8.0),
    (0.55, 8.0),
    (0.68, 8.0),
    (0.76, 8.0),
    (0.86, 12.0),
    (0.9, 16.0),
    (0.97, 30.0),
    (0.98, 40.0),
    (0.98, 60.0),
    (0.995, 150.0),
    (0.9965, 200.0),
    (0.997, 250.0),
    (0.9975, 300.0),
];
const FAR: Prior = [
    (0.02, 8.0),
    (0.21, 8.0),
    (0.43, 8.0),
    (0.7, 8.0),
    (0.76, 8.0),
    (0.83, 10.0),
    (0.9, 12.0),
    (0.92, 16.0),
    (0.97, 20.0),
    (0.98, 30.0),
    (0.985, 40.0),
    (0.99, 60.0),
    (0.99, 80.0),
    (0.99, 100.0),
    (0.99, 100.0),
];
/// Other sequences look alike for long and then differ.
const POOL: Prior = [
    (0.02, 8.0),
    (0.1, 8.0),
    (0.3, 8.0),
    (0.45, 8.0),
    (0.55, 8.0),
    (0.6, 8.0),
    (0.75, 8.0),
    (0.8, 8.0),
    (0.8, 8.0),
    (0.85, 12.0),
    (0.9, 20.0),
    (0.95, 40.0),
    (0.98, 60.0),
    (0.99, 100.0),
    (0.99, 100.0),
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

const PLACES: [&Prior; 5] = [&COPY, &SWAP, &CLOSE, &WIDE, &FAR];
const TABLES: usize = 2 * PLACES.len() + 2;

fn table(source: Source, place: Place, len: usize) -> (usize, &'static Prior) {
    // Once it ran for long, a copy is a copy.
    let place = if len >= COPIED { Place::Copy } else { place } as usize;
    match source {
        Source::Prediction => (place, PLACES[place]),
        Source::History => (PLACES.len() + place, PLACES[place]),
        Source::Pool => (TABLES - 2, &POOL),
        Source::Model => (TABLES - 1, &MODEL),
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

    /// The probability that the token after a match of `len` is right.
    pub fn of(&self, source: Source, place: Place, len: usize) -> f32 {
        let (i, prior) = table(source, place, len);
        let c = class(len);
        let (odds, worth) = prior[c];
        let t = self.tallies[i][c];
        (t.hits + odds * worth) / (t.tries + worth)
    }

    /// The token after such a match was right, or not.
    pub fn learn(&mut self, source: Source, place: Place, len: usize, is_hit: bool) {
        let t = &mut self.tallies[table(source, place, len).0][class(len)];
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
