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

/// Odds before anything was seen, for each class of length: measured on real edits (docs/speculation.md).
type Prior = [f32; N];

const COPY: Prior = [0.3, 0.4, 0.6, 0.7, 0.8, 0.85, 0.93, 0.94, 0.98, 0.988, 0.988, 0.995, 0.9965, 0.997, 0.9975];
const SWAP: Prior = [0.23, 0.45, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.96, 0.975, 0.98, 0.995, 0.9965, 0.997, 0.9975];
const CLOSE: Prior = [0.1, 0.28, 0.46, 0.72, 0.8, 0.85, 0.9, 0.92, 0.97, 0.98, 0.98, 0.995, 0.9965, 0.997, 0.9975];
const WIDE: Prior = [0.05, 0.22, 0.42, 0.55, 0.68, 0.76, 0.86, 0.9, 0.97, 0.98, 0.98, 0.995, 0.9965, 0.997, 0.9975];
const FAR: Prior = [0.02, 0.21, 0.43, 0.7, 0.76, 0.83, 0.9, 0.92, 0.97, 0.98, 0.985, 0.99, 0.99, 0.99, 0.99];
/// Other sequences look alike for long and then differ.
const POOL: Prior = [0.02, 0.1, 0.3, 0.45, 0.55, 0.6, 0.75, 0.8, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.99];
/// A draft model is asked token by token; its class is the position in the draft.
const MODEL: Prior = [0.7; N];
/// How many tries a prior is worth: odds near 1 need many tries to be told apart.
const WORTH: [f32; N] = [8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 12.0, 16.0, 30.0, 40.0, 60.0, 150.0, 200.0, 250.0, 300.0];

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
        let t = self.tallies[i][c];
        (t.hits + prior[c] * WORTH[c]) / (t.tries + WORTH[c])
    }

    /// The token after such a match was right, or not.
    pub fn learn(&mut self, source: Source, place: Place, len: usize, is_hit: bool) {
        let t = &mut self.tallies[table(source, place, len).0][class(len)];
        if t.tries >= TRIES_MAX {
            let kept = (TRIES_MAX - 1.0) / t.tries;
            (t.tries, t.hits) = (t.tries * kept, t.hits * kept);
        }
        t.tries += 1.0;
        t.hits += f32::from(u8::from(is_hit));
    }
}
