//! One answer under a grammar: what may come, what has come, what must come.

use std::sync::Arc;

use base::TokenId;
use base::limits::GRAMMAR_TAIL_TOKENS;
use llguidance::TokenParser;
use llguidance::api::StopReason;

use super::Vocab;
use super::compile::guarded;
use super::prelude::{self, Prelude};
use crate::TextError;

/// The state of one answer. Its methods are those of the engine's constraints.
pub struct Matcher {
    vocab: Arc<Vocab>,
    /// Free text, which comes first; then the parser is at its beginning.
    prelude: Option<Prelude>,
    parser: TokenParser,
    /// The last tokens of the answer, at most `GRAMMAR_TAIL_TOKENS`.
    tail: Vec<TokenId>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The answer is complete and cannot go on.
    Done,
    /// A limit was passed, or a token came that was not allowed.
    Failed,
}

impl Matcher {
    pub(super) fn new(parser: TokenParser, vocab: Arc<Vocab>) -> Self {
        Self { vocab, prelude: None, parser, tail: Vec::with_capacity(GRAMMAR_TAIL_TOKENS + 1), state: State::Open }
    }

    /// What the parser demands begins after this marker; before it everything is allowed.
    pub(super) fn begin_after(&mut self, marker: &str) -> Result<(), TextError> {
        self.prelude = Some(guarded(|| Ok(Prelude::new(marker, &self.vocab, &mut self.parser)))?);
        Ok(())
    }

    /// Sets the bit of every token that may come next, and of the tokens that end an answer if it may end here.
    /// `mask[t / 32] >> (t % 32) & 1`; all bits are clear before. False when nothing may come: the answer ends.
    pub fn allow(&mut self, mask: &mut [u32]) -> bool {
        if self.state != State::Open {
            return false;
        }
        if let Some(prelude) = &self.prelude {
            prelude.allow(mask, &self.vocab.usable);
            return true;
        }
        let Ok(allowed) = guarded(|| self.parser.compute_mask()) else {
            let is_end = self.parser.stop_reason() == StopReason::NoExtension;
            self.state = if is_end { State::Done } else { State::Failed };
            return false;
        };
        let mut any = 0;
        for ((word, allowed), usable) in mask.iter_mut().zip(allowed.as_slice()).zip(&self.vocab.usable) {
            *word |= allowed & usable;
            any |= allowed & usable;
        }
        any != 0
    }

    /// This token, which was allowed, has come.
    pub fn accept(&mut self, token: TokenId) {
        if self.state != State::Open {
            self.state = State::Failed;
            return;
        }
        let taken = if self.prelude.is_some() { self.accept_free(token) } else { self.take(&[token]) };
        self.state = match taken {
            Ok(false) => State::Open,
            Ok(true) => State::Done,
            Err(_) => State::Failed,
        };
        if self.tail.len() == GRAMMAR_TAIL_TOKENS {
            self.tail.remove(0);
        }
        self.tail.push(token);
    }

    /// True if the answer is complete.
    fn take(&mut self, tokens: &[TokenId]) -> Result<bool, TextError> {
        guarded(|| {
            for token in tokens {
                self.parser.consume_token(*token)?;
            }
            self.parser.check_stop()
        })
    }

    /// The same while the text is free. With the marker the parser takes over, and what the token brings beyond it goes there.
    fn accept_free(&mut self, token: TokenId) -> Result<bool, TextError> {
        let tokenizer = Arc::clone(&self.vocab.tokenizer);
        if tokenizer.is_eog(token) {
            return Ok(true);
        }
        let rest = self.prelude.as_mut().and_then(|p| p.accept(tokenizer.token_bytes(token)));
        let Some(rest) = rest else { return Ok(false) };
        self.prelude = None;
        let unspelled = || TextError::grammar("", "the vocabulary lacks bytes of a token");
        let rest = prelude::spelled(&self.parser, rest).ok_or_else(unspelled)?;
        self.take(&rest)
    }

    /// Appends the tokens that must come next whatever the model thinks, and accepts them.
    ///
    /// A text can be spelled in many ways, and models are at home in one of them, the tokenizer's. So tokens are forced only
    /// where that one is sure: the text before, too, is spelled that way, and no token of the vocabulary that the grammar allows
    /// reaches over the end of what is forced. At the beginning of an answer nothing is forced: what stands before is unknown.
    pub fn force(&mut self, tokens: &mut Vec<TokenId>) {
        if self.state != State::Open || self.prelude.is_some() || self.tail.is_empty() {
            return;
        }
        let Ok(forced) = guarded(|| Ok(self.sure())) else {
            self.state = State::Failed;
            return;
        };
        for token in forced {
            self.accept(token);
            if self.state == State::Failed {
                return;
            }
            tokens.push(token);
        }
    }

    fn sure(&mut self) -> Vec<TokenId> {
        let forced = self.parser.force_bytes();
        if forced.is_empty() {
            return Vec::new();
        }
        let tokenizer = &self.vocab.tokenizer;
        // The longest end of the tail that is whole characters.
        let whole = (0..self.tail.len()).find_map(|first| {
            let mut bytes = tokenizer.decode(&self.tail[first..], true);
            bytes.extend_from_slice(&forced);
            Some((first, String::from_utf8(bytes).ok()?))
        });
        let Some((first, text)) = whole else { return Vec::new() };
        let before = &self.tail[first..];
        let mut spelled = Vec::new();
        tokenizer.encode_on(&text, &mut spelled);
        if !spelled.starts_with(before) {
            return Vec::new();
        }
        let sure_bytes = sure_bytes(&mut self.parser, text.as_bytes());
        let mut end = 0;
        let is_sure = |token: &TokenId| {
            end += tokenizer.token_bytes(*token).len();
            end <= sure_bytes
        };
        let n_sure = spelled.iter().copied().take_while(is_sure).count();
        spelled.get(before.len()..n_sure).unwrap_or_default().to_vec()
    }

    /// Why no more tokens come: false if the answer is complete, true if a limit cut it off.
    pub fn is_failed(&self) -> bool {
        self.state == State::Failed
    }

    /// A fresh copy in the same state. It shares nothing that changes, so that what it allows depends on its own tokens alone.
    pub fn copy(&self) -> Self {
        let mut tail = Vec::with_capacity(GRAMMAR_TAIL_TOKENS + 1);
        tail.extend_from_slice(&self.tail);
        Self {
            vocab: Arc::clone(&self.vocab),
            prelude: self.prelude.clone(),
            parser: self.parser.deep_clone(),
            tail,
            state: self.state,
        }
    }
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").field("tail", &self.tail).field("state", &self.state).finish_non_exhaustive()
    }
}

/// How much of a text, which the parser has read, no later token can change. A token that reaches over the end begins with
/// some end of the text. Where there is none, byte-pair merges on both sides of a place go on without each other: a merge
/// across it would leave a token across it.
fn sure_bytes(parser: &mut TokenParser, text: &[u8]) -> usize {
    let env = parser.token_env.clone();
    let trie = env.tok_trie();
    let first = text.len().saturating_sub(trie.max_token_len());
    parser.parser.with_recognizer(|r| {
        (first..text.len()).find(|&at| trie.has_valid_extensions(r, &text[at..])).unwrap_or(text.len())
    })
}
