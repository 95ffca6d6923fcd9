//! Free text before a grammar begins: everything is allowed until a marker has come, and from there on the grammar binds. While
//! the text is free its masks are copies, where a parser would walk the whole vocabulary to find that nearly all of it is allowed.
//!
//! Only tokens that end the marker and go on need thought: what they bring after it must be the beginning of what the grammar
//! allows. There are few of them, and which ones are barred follows from how much of the marker has come (Knuth, Morris and Pratt
//! 1977), so they are listed when the grammar is compiled.

use std::collections::HashMap;
use std::sync::Arc;

use base::TokenId;
use llguidance::TokenParser;

use super::Vocab;

/// How far the marker has come.
#[derive(Clone)]
pub(super) struct Prelude {
    marker: Arc<Marker>,
    /// Bytes of it with which the text ends.
    at: usize,
}

struct Marker {
    bytes: Vec<u8>,
    /// For each number of its bytes: how many of them are also its beginning, if the next one does not fit.
    borders: Vec<usize>,
    /// For each number of its bytes that have come: tokens that go on after it as the grammar does not.
    barred: Vec<Vec<TokenId>>,
}

impl Prelude {
    /// Before the text. `parser` is at the beginning of what follows the marker, and stays there.
    pub(super) fn new(marker: &str, vocab: &Vocab, parser: &mut TokenParser) -> Self {
        let bytes = marker.as_bytes().to_vec();
        let mut marker = Marker { borders: borders(&bytes), barred: vec![Vec::new(); bytes.len()], bytes };
        let mut known = HashMap::new();
        let Some(last) = marker.bytes.last() else { return Self { marker: Arc::new(marker), at: 0 } };
        let usable = |id: &TokenId| vocab.usable[*id as usize / 32] >> (id % 32) & 1 == 1;
        let ids = (0..vocab.tokenizer.n_vocab() as TokenId).filter(usable);
        for id in ids.filter(|id| !vocab.tokenizer.is_eog(*id)) {
            let token = vocab.tokenizer.token_bytes(id);
            if !token.contains(last) {
                continue;
            }
            for at in 0..marker.bytes.len() {
                let Ok(end) = marker.step(at, token) else { continue };
                let rest = &token[end..];
                let is_good = rest.is_empty() || *known.entry(rest).or_insert_with(|| may_come(parser, rest));
                if !is_good {
                    marker.barred[at].push(id);
                }
            }
        }
        Self { marker: Arc::new(marker), at: 0 }
    }

    /// Sets the bits of all tokens that may come, `usable` but for a few.
    pub(super) fn allow(&self, mask: &mut [u32], usable: &[u32]) {
        mask.iter_mut().zip(usable).for_each(|(word, usable)| *word |= usable);
        for id in self.marker.barred.get(self.at).into_iter().flatten() {
            mask[*id as usize / 32] &= !(1 << (id % 32));
        }
    }

    /// A token has come; the bytes of it that follow the marker, if that is whole.
    pub(super) fn accept<'a>(&mut self, token: &'a [u8]) -> Option<&'a [u8]> {
        match self.marker.step(self.at, token) {
            Ok(end) => Some(&token[end..]),
            Err(at) => {
                self.at = at;
                None
            }
        }
    }
}

impl Marker {
    /// Where in `text` the marker ends, or how much of it there is at the text's end.
    fn step(&self, mut at: usize, text: &[u8]) -> Result<usize, usize> {
        for (i, byte) in text.iter().enumerate() {
            while at > 0 && self.bytes[at] != *byte {
                at = self.borders[at];
            }
            at += usize::from(self.bytes[at] == *byte);
            if at == self.bytes.len() {
                return Ok(i + 1);
            }
        }
        Err(at)
    }
}

/// For each length of a beginning of `bytes`: its longest part at both ends, without being all of it.
fn borders(bytes: &[u8]) -> Vec<usize> {
    let mut all = vec![0; bytes.len() + 1];
    for n in 2..=bytes.len() {
        let mut at: usize = all[n - 1];
        while at > 0 && bytes[at] != bytes[n - 1] {
            at = all[at];
        }
        all[n] = at + usize::from(bytes[at] == bytes[n - 1]);
    }
    all
}

/// The tokens that stand for these bytes to a parser, which knows nothing but bytes; `None` if there are none.
pub(super) fn spelled(parser: &TokenParser, bytes: &[u8]) -> Option<Vec<TokenId>> {
    let trie = parser.token_env.tok_trie();
    let tokens = trie.greedy_tokenize(bytes);
    (trie.decode_raw(&tokens) == bytes).then_some(tokens)
}

fn may_come(parser: &mut TokenParser, bytes: &[u8]) -> bool {
    let Some(tokens) = spelled(parser, bytes) else { return false };
    parser.validate_tokens_raw(&tokens).is_ok_and(|n| n == tokens.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(text: &str) -> Marker {
        let bytes = text.as_bytes().to_vec();
        Marker { borders: borders(&bytes), barred: vec![], bytes }
    }

    #[test]
    fn a_marker_is_found_at_its_first_end_however_the_text_is_cut() {
        for pattern in ["<tool_call>", "aabaaab", "aaa", "abab", "x"] {
            let m = marker(pattern);
            for seed in 0..2000u64 {
                let byte =
                    |i| b"ab<tool_c>xl"[base::rng::bits(seed, i, 0) as usize % if seed % 2 == 0 { 2 } else { 12 }];
                let mut text: Vec<u8> = (0..seed % 23).map(byte).collect();
                if seed % 3 == 0 {
                    text.extend(pattern.bytes());
                }
                text.extend((0..seed % 5).map(|i| byte(i + 100)));
                let want = text.windows(pattern.len()).position(|w| w == pattern.as_bytes()).map(|i| i + pattern.len());
                for cut in 0..=text.len() {
                    let (a, b) = text.split_at(cut);
                    let found = match m.step(0, a) {
                        Ok(end) => Some(end),
                        Err(at) => m.step(at, b).ok().map(|end| cut + end),
                    };
                    assert_eq!(found, want, "{pattern}: {:?} at {cut}", String::from_utf8_lossy(&text));
                }
            }
        }
    }
}
