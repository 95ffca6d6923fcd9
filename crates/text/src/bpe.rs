//! Byte-level byte-pair encoding: the pair of neighbours with the lowest rank merges first, leftmost first among equals.
//!
//! Pieces are numbers from the start: a word becomes one number per byte, and a pair of numbers looks up its rank and the
//! number it merges to. Short words scan for the best pair; long ones keep a queue, so one word of n bytes costs
//! O(n log n). Time goes into the look-ups: about three per byte of text.
use crate::bytes::char_of_byte;
use crate::error::TextError;
use crate::hash::{Key, TextIndex};
use crate::queue::Queue;
use base::TokenId;
use base::vocab::{TokenKind, VocabSpec};
use std::collections::HashMap;

/// No piece, or the end of a chain.
const NONE: u32 = u32::MAX;
/// Up to this many bytes a word is merged by scanning.
const SCAN_BYTES_MAX: usize = 24;
/// Longer words are cut here, so that offsets fit 32 bits.
const WORD_BYTES_MAX: usize = 1 << 30;

#[derive(Clone, Copy, Debug)]
struct Merge {
    rank: u32,
    /// Piece that the pair becomes.
    to: u32,
}

/// The merges of a vocabulary. Pieces below `n_vocab` are tokens; those above occur only inside of merges.
#[derive(Clone, Debug)]
pub(crate) struct Bpe {
    merges: HashMap<u64, Merge, Key>,
    byte_pieces: [u32; 256],
    n_vocab: u32,
}

/// Working memory, reused from word to word.
#[derive(Default)]
pub(crate) struct Scratch {
    parts: Vec<Part>,
    chain: Vec<Link>,
    queue: Queue,
}

/// A piece of a short word, and how it would merge with the piece behind it (`rank` = `NONE`: not at all).
#[derive(Clone, Copy)]
struct Part {
    piece: u32,
    start: u32,
    rank: u32,
    to: u32,
}

/// A piece of a long word; its index is the offset of its first byte. `rank` and `to` say how it would merge with the piece
/// behind it; `rank` = `NONE`: not at all, or the piece is merged into one before it.
#[derive(Clone, Copy)]
struct Link {
    piece: u32,
    prev: u32,
    next: u32,
    rank: u32,
    to: u32,
}

fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Numbers for pieces: the token's id, or a fresh number above all ids. Merges cannot make a control token out of text.
struct Pieces<'a> {
    spec: &'a VocabSpec,
    index: &'a TextIndex,
    extra: HashMap<String, u32>,
}

impl Pieces<'_> {
    fn number(&mut self, text: &str) -> Result<u32, TextError> {
        let is_plain = |id: &u32| !matches!(self.spec.kinds[*id as usize], TokenKind::Control | TokenKind::Unknown);
        if let Some(id) = self.index.get(&self.spec.tokens, text).filter(is_plain) {
            return Ok(id);
        }
        if let Some(&number) = self.extra.get(text) {
            return Ok(number);
        }
        let number = u32::try_from(self.spec.tokens.len() + self.extra.len())
            .ok()
            .filter(|&n| n < NONE)
            .ok_or_else(|| TextError::vocab("merges", "more pieces than 32 bits can number"))?;
        self.extra.insert(text.to_string(), number);
        Ok(number)
    }
}

impl Bpe {
    /// Reads the merges of a vocabulary. `index` finds `spec.tokens`.
    pub(crate) fn new(spec: &VocabSpec, index: &TextIndex, key: Key) -> Result<Bpe, TextError> {
        let n_vocab = u32::try_from(spec.tokens.len()).map_err(|_| TextError::vocab("tokens", "too many"))?;
        let mut pieces = Pieces { spec, index, extra: HashMap::new() };
        let mut byte_pieces = [NONE; 256];
        for (byte, piece) in byte_pieces.iter_mut().enumerate() {
            let mut buf = [0u8; 4];
            *piece = pieces.number(char_of_byte(byte as u8).encode_utf8(&mut buf))?;
        }
        let mut merges = HashMap::with_capacity_and_hasher(spec.merges.len(), key);
        let mut joined = String::new();
        for (rank, text) in spec.merges.iter().enumerate() {
            let (left, right) = halves(text).ok_or_else(|| TextError::BadMerge { rank, text: text.to_string() })?;
            let pair = pair_key(pieces.number(left)?, pieces.number(right)?);
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let to = pieces.number(&joined)?;
            let rank = u32::try_from(rank).map_err(|_| TextError::vocab("merges", "too many"))?;
            merges.entry(pair).or_insert(Merge { rank, to });
        }
        Ok(Bpe { merges, byte_pieces, n_vocab })
    }

    #[inline]
    fn merge(&self, left: u32, right: u32) -> Option<Merge> {
        self.merges.get(&pair_key(left, right)).copied()
    }

    /// Appends the tokens of one word.
    pub(crate) fn encode_word(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        if let [byte] = word {
            self.emit(self.byte_pieces[usize::from(*byte)], word, out);
        } else if word.len() <= SCAN_BYTES_MAX {
            self.encode_by_scan(word, scratch, out);
        } else {
            for part in word.chunks(WORD_BYTES_MAX) {
                self.encode_by_queue(part, scratch, out);
            }
        }
    }

    /// Appends a piece: its token, or the tokens of its bytes. A byte that has no token is left out, as llama.cpp does.
    #[inline]
    fn emit(&self, piece: u32, bytes: &[u8], out: &mut Vec<TokenId>) {
        if piece < self.n_vocab {
            out.push(piece);
        } else {
            let of_bytes = bytes.iter().map(|&b| self.byte_pieces[usize::from(b)]);
            out.extend(of_bytes.filter(|&p| p < self.n_vocab));
        }
    }

    fn encode_by_scan(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        let parts = &mut scratch.parts;
        parts.clear();
        parts.extend(word.iter().enumerate().map(|(i, &b)| {
            let piece = self.byte_pieces[usize::from(b)];
            Part { piece, start: i as u32, rank: NONE, to: NONE }
        }));
        for i in 1..parts.len() {
            self.rank_part(parts, i - 1);
        }
        while let Some(best) = (0..parts.len()).min_by_key(|&i| parts[i].rank).filter(|&i| parts[i].rank != NONE) {
            parts[best].piece = parts[best].to;
            parts.remove(best + 1);
            self.rank_part(parts, best);
            if best > 0 {
                self.rank_part(parts, best - 1);
            }
        }
        for (i, part) in parts.iter().enumerate() {
            let end = parts.get(i + 1).map_or(word.len(), |next| next.start as usize);
            self.emit(part.piece, &word[part.start as usize..end], out);
        }
    }

    fn rank_part(&self, parts: &mut [Part], i: usize) {
        let merge = parts.get(i + 1).and_then(|right| self.merge(parts[i].piece, right.piece));
        (parts[i].rank, parts[i].to) = merge.map_or((NONE, NONE), |m| (m.rank, m.to));
    }

    fn encode_by_queue(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        let Scratch { chain, queue, .. } = scratch;
        let len = word.len() as u32; // at most WORD_BYTES_MAX
        chain.clear();
        chain.extend(word.iter().enumerate().map(|(i, &b)| {
            let (at, piece) = (i as u32, self.byte_pieces[usize::from(b)]);
            let next = if at + 1 < len { at + 1 } else { NONE };
            Link { piece, prev: at.wrapping_sub(1), next, rank: NONE, to: NONE }
        }));
        queue.clear();
        (0..len).for_each(|left| queue.push(self.rank_link(chain, left)));
        while let Some(entry) = queue.pop() {
            let (rank, at) = entry;
            let left = chain[at as usize];
            if left.rank != rank {
                continue; // one of the two has merged since
            }
            let after = chain[left.next as usize].next;
            chain[left.next as usize].rank = NONE;
            chain[at as usize].piece = left.to;
            chain[at as usize].next = after;
            if after != NONE {
                chain[after as usize].prev = at;
            }
            if left.prev != NONE {
                queue.push(self.rank_link(chain, left.prev));
            }
            queue.push(self.rank_link(chain, at));
        }
        let mut at = 0;
        while at != NONE {
            let link = chain[at as usize];
            let end = if link.next == NONE { word.len() } else { link.next as usize };
            self.emit(link.piece, &word[at as usize..end], out);
            at = link.next;
        }
    }

    /// Sets how the piece at `at` would merge with the one behind it, and makes the queue's entry for it.
    #[inline]
    fn rank_link(&self, chain: &mut [Link], at: u32) -> Option<u64> {
        let link = chain[at as usize];
        let merge = chain.get(link.next as usize).and_then(|right| self.merge(link.piece, right.piece));
        let here = &mut chain[at as usize];
        (here.rank, here.to) = merge.map_or((NONE, NONE), |m| (m.rank, m.to));
        merge.map(|m| Queue::entry(m.rank, at))
    }
}

/// The two pieces of a merge. Pieces hold no spaces, except that the left one may be a single space.
fn halves(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?.len_utf8();
    let gap = first + text.get(first..)?.find(' ')?;
    Some((text.get(..gap)?, text.get(gap + 1..)?)).filter(|(_, right)| !right.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::rng;

    #[test]
    fn halves_split_at_the_first_space_after_the_first_character() {
        assert_eq!(halves("a b"), Some(("a", "b")));
        assert_eq!(halves("Ġ Ġ"), Some(("Ġ", "Ġ")));
        assert_eq!(halves("  b"), Some((" ", "b")));
        for bad in ["", "a", "ab", "a "] {
            assert_eq!(halves(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn scan_and_queue_agree() {
        let (spec, index, key) = crate::tokenizer::tests::tiny_bpe();
        let bpe = Bpe::new(&spec, &index, key).unwrap();
        let mut scratch = Scratch::default();
        for n in 2..200u64 {
            let word: Vec<u8> = (0..n).map(|i| b'a' + (rng::bits(1, n, i) % 3) as u8).collect();
            let (mut a, mut b) = (Vec::new(), Vec::new());
            bpe.encode_by_scan(&word, &mut scratch, &mut a);
            bpe.encode_by_queue(&word, &mut scratch, &mut b);
            assert_eq!(a, b, "{}", String::from_utf8_lossy(&word));
        }
    }
}
