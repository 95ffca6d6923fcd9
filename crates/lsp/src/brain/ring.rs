//! Pieces of the files that were looked at last: llama.vim's ring. The ones that have most names in common with the
//! window around the cursor go before it in the prompt.

use std::collections::{HashSet, VecDeque};

use base::limits::{RING_CHUNK_LINES_MAX, RING_CHUNKS_MAX};

use super::names::names;

/// Part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its file.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The last chunks, oldest first.
#[derive(Debug, Default)]
pub struct Ring(VecDeque<Chunk>);

impl Ring {
    /// Takes the lines around `line` of a file that was looked at. A chunk of the same file that is mostly the same goes.
    pub fn note(&mut self, path: &str, text: &str, line: usize) {
        let first = line.saturating_sub(RING_CHUNK_LINES_MAX / 2);
        let text: String = text.split_inclusive('\n').skip(first).take(RING_CHUNK_LINES_MAX).collect();
        if text.trim().is_empty() {
            return;
        }
        self.0.retain(|c| c.path != path || !is_alike(&c.text, &text));
        self.0.push_back(Chunk { path: path.to_owned(), text });
        while self.0.len() > RING_CHUNKS_MAX {
            self.0.pop_front();
        }
    }

    /// Forgets a file.
    pub fn forget(&mut self, path: &str) {
        self.0.retain(|c| c.path != path);
    }

    /// Chunks of other files for a window, the best one last, in at most `bytes_max` bytes.
    pub fn pick(&self, path: &str, window: &str, bytes_max: usize) -> Vec<Chunk> {
        let wanted = names(window);
        let score = |c: &Chunk| {
            let has = names(&c.text);
            (wanted.intersection(&has).count() * 1000) / (has.len() + 20)
        };
        let mut all: Vec<(usize, &Chunk)> = self.0.iter().filter(|c| c.path != path).map(|c| (score(c), c)).collect();
        all.retain(|(score, _)| *score > 0);
        all.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        let mut left = bytes_max;
        let fits = |c: &&Chunk| {
            let fits = c.text.len() <= left;
            left -= if fits { c.text.len() } else { 0 };
            fits
        };
        let mut picked: Vec<Chunk> = all.into_iter().map(|(_, c)| c).filter(fits).cloned().collect();
        picked.reverse();
        picked
    }
}

fn is_alike(a: &str, b: &str) -> bool {
    let lines =
        |t: &'_ str| -> HashSet<String> { t.lines().filter(|l| !l.trim().is_empty()).map(str::to_owned).collect() };
    let (a, b) = (lines(a), lines(b));
    2 * a.intersection(&b).count() > a.len().min(b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_replaces_what_is_alike() {
        let mut ring = Ring::default();
        ring.note("a", "one\ntwo\nthree\n", 0);
        ring.note("a", "one\ntwo\nfour\n", 0);
        assert_eq!(ring.0.len(), 1);
        for i in 0..3 * RING_CHUNKS_MAX {
            ring.note(&format!("f{i}"), &"line\n".repeat(1000), 500);
        }
        assert_eq!(ring.0.len(), RING_CHUNKS_MAX);
        assert!(ring.0.iter().all(|c| c.text.lines().count() == RING_CHUNK_LINES_MAX));
        ring.note("blank", "\n \n", 0);
        assert!(ring.0.iter().all(|c| c.path != "blank"));
    }

    #[test]
    fn what_shares_names_is_picked_best_last() {
        let mut ring = Ring::default();
        ring.note("far", "completely different words", 0);
        ring.note("some", "cursor walks elsewhere otherwise unrelated text follows here", 0);
        ring.note("best", "fn advance(cursor: Cursor)", 0);
        ring.note("own", "fn advance(cursor: Cursor) again", 0);
        let picked = ring.pick("own", "advance(cursor", 1000);
        let paths: Vec<&str> = picked.iter().map(|c| c.path.as_str()).collect();
        assert_eq!(paths, ["some", "best"]);
        assert_eq!(ring.pick("own", "advance(cursor", 30).len(), 1);
        ring.forget("best");
        assert_eq!(ring.pick("own", "advance(cursor", 1000).len(), 1);
    }
}
