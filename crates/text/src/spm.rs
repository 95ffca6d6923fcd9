//! SentencePiece by merge scores, as Llama 2 and Phi-3 use it: of all neighbours that together are a token, the pair with the
//! highest score merges first, leftmost first among equals. What stays without a token is written byte by byte.
//!
//! A queue keeps the candidates, so n characters cost O(n log n).
use crate::error::TextError;
use crate::hash::TextIndex;
use crate::queue::Queue;
use base::TokenId;
use base::vocab::{StrTable, TokenKind, VocabSpec};

const NONE: u32 = u32::MAX;
/// Longer texts are cut near here, so that offsets fit 32 bits.
const TEXT_BYTES_MAX: usize = 1 << 30;
/// Stands for a space inside of pieces.
pub(crate) const SPACE: char = '\u{2581}';

/// Scores and fallbacks of a vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct Spm {
    /// Of each token: lower for a higher score.
    ranks: Vec<u32>,
    /// May the token be made from text? Not control tokens, not `<0xNN>`.
    is_plain: Vec<bool>,
    byte_tokens: [Option<TokenId>; 256],
    unk: Option<TokenId>,
    token_bytes_max: usize,
}

/// A run of characters. `rank` and `to` say what it would become with the run behind it; `rank` = `NONE`: nothing,
/// or it is merged into one before it.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    bytes: u32,
    prev: u32,
    next: u32,
    token: u32,
    rank: u32,
    to: u32,
}

/// A number that is lower for a higher score and never `NONE`.
fn rank_of(score: f32) -> u32 {
    let score = if score.is_nan() { f32::NEG_INFINITY } else { score + 0.0 }; // -0 becomes +0: they are equal
    let bits = score.to_bits();
    // As integers, positive floats are in order and negative ones in reverse.
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}

/// The vocabulary that a text is matched against.
#[derive(Clone, Copy)]
pub(crate) struct Lookup<'a> {
    pub(crate) tokens: &'a StrTable,
    pub(crate) index: &'a TextIndex,
}

impl Spm {
    /// Reads scores and byte tokens of a vocabulary. `index` finds `spec.tokens`.
    pub(crate) fn new(spec: &VocabSpec, index: &TextIndex) -> Result<Spm, TextError> {
        if spec.scores.len() != spec.tokens.len() {
            let reason = format!("{} entries, but {} tokens; SPM needs one each", spec.scores.len(), spec.tokens.len());
            return Err(TextError::vocab("scores", reason));
        }
        let of_byte = |byte: u8| {
            let letter = [byte];
            let as_text = std::str::from_utf8(&letter).ok();
            let by_code = index.get(&spec.tokens, &format!("<0x{byte:02X}>"));
            by_code.or_else(|| index.get(&spec.tokens, as_text?))
        };
        let plain = |k: &TokenKind| !matches!(k, TokenKind::Control | TokenKind::Unknown | TokenKind::Byte);
        Ok(Spm {
            ranks: spec.scores.iter().map(|&score| rank_of(score)).collect(),
            is_plain: spec.kinds.iter().map(plain).collect(),
            byte_tokens: std::array::from_fn(|b| of_byte(b as u8)),
            unk: spec.unk,
            token_bytes_max: spec.tokens.iter().map(str::len).max().unwrap_or(0),
        })
    }

    /// Appends the tokens of a text in which spaces are already written as `▁`.
    pub(crate) fn encode(&self, vocab: Lookup<'_>, mut text: &str, out: &mut Vec<TokenId>) {
        while text.len() > TEXT_BYTES_MAX {
            let cut = (0..=TEXT_BYTES_MAX).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
            let (head, tail) = text.split_at(cut);
            self.encode_part(vocab, head, out);
            text = tail;
        }
        self.encode_part(vocab, text, out);
    }

    fn encode_part(&self, vocab: Lookup<'_>, text: &str, out: &mut Vec<TokenId>) {
        let mut symbols = self.characters(vocab, text);
        let mut queue = Queue::default();
        (0..symbols.len() as u32).for_each(|at| queue.push(self.rank_pair(vocab, text, &mut symbols, at)));
        while let Some((rank, at)) = queue.pop() {
            let left = symbols[at as usize];
            if left.rank != rank {
                continue; // one of the two has merged since
            }
            let right = symbols[left.next as usize];
            symbols[left.next as usize].rank = NONE;
            symbols[at as usize] = Symbol { bytes: left.bytes + right.bytes, next: right.next, token: left.to, ..left };
            if right.next != NONE {
                symbols[right.next as usize].prev = at;
            }
            if left.prev != NONE {
                queue.push(self.rank_pair(vocab, text, &mut symbols, left.prev));
            }
            queue.push(self.rank_pair(vocab, text, &mut symbols, at));
        }
        let mut at = if symbols.is_empty() { NONE } else { 0 };
        while at != NONE {
            let symbol = symbols[at as usize];
            self.emit(symbol, text, out);
            at = symbol.next;
        }
    }

    fn characters(&self, vocab: Lookup<'_>, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let (at, bytes) = (symbols.len() as u32, c.len_utf8());
            let token = self.token(vocab, &text[start..start + bytes]).unwrap_or(NONE);
            let prev = at.wrapping_sub(1); // NONE for the first
            let (start, bytes) = (start as u32, bytes as u32);
            symbols.push(Symbol { start, bytes, prev, next: at + 1, token, rank: NONE, to: NONE });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        symbols
    }

    fn token(&self, vocab: Lookup<'_>, text: &str) -> Option<TokenId> {
        if text.len() > self.token_bytes_max {
            return None;
        }
        vocab.index.get(vocab.tokens, text).filter(|&id| self.is_plain[id as usize])
    }

    /// Sets what the symbol at `at` becomes with the one behind it, and makes the queue's entry for it.
    fn rank_pair(&self, vocab: Lookup<'_>, text: &str, symbols: &mut [Symbol], at: u32) -> Option<u64> {
        let symbol = symbols[at as usize];
        let right_bytes = symbols.get(symbol.next as usize).map(|right| right.bytes);
        let end = right_bytes.map(|bytes| (symbol.start + symbol.bytes + bytes) as usize);
        let joined = end.and_then(|end| text.get(symbol.start as usize..end));
        let token = joined.and_then(|joined| self.token(vocab, joined));
        let here = &mut symbols[at as usize];
        (here.rank, here.to) = token.map_or((NONE, NONE), |t| (self.ranks[t as usize], t));
        token.map(|_| Queue::entry(here.rank, at))
    }

    /// Appends a symbol's token, or its bytes; a byte without a token becomes `unk`, or is left out where there is none.
    fn emit(&self, symbol: Symbol, text: &str, out: &mut Vec<TokenId>) {
        if symbol.token != NONE {
            return out.push(symbol.token);
        }
        let range = symbol.start as usize..(symbol.start + symbol.bytes) as usize;
        let bytes = text.as_bytes().get(range).unwrap_or_default();
        out.extend(bytes.iter().filter_map(|&b| self.byte_tokens[usize::from(b)].or(self.unk)));
    }
}

#[cfg(test)]
mod tests {
    use super::{NONE, rank_of};

    #[test]
    fn ranks_are_scores_upside_down() {
        let scores = [f32::INFINITY, 3.5, 1.0, f32::MIN_POSITIVE, 0.0, -1e-40, -1.0, -31_000.0, f32::NEG_INFINITY];
        for pair in scores.windows(2) {
            assert!(rank_of(pair[0]) < rank_of(pair[1]), "{pair:?}");
        }
        assert_eq!(rank_of(0.0), rank_of(-0.0));
        assert_eq!(rank_of(f32::NAN), rank_of(f32::NEG_INFINITY));
        assert!(rank_of(f32::NEG_INFINITY) < NONE);
    }
}
