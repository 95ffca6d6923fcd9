//! The vocabulary as the tree of bytes that masks are computed along.

use std::sync::Arc;

use base::TokenId;
use base::limits::{GRAMMAR_TOKEN_BYTES_MAX, GRAMMAR_TRIE_BYTES_MAX};
use llguidance::toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use super::{Vocab, compile};
use crate::{TextError, Tokenizer};

/// Only the tree. Tokens are forced by `Matcher::force`, which knows the tokens before; the library is told that it has no
/// canonical tokenizer, so that its masks allow every way to spell a text.
struct Env(TokTrie);

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(text)
    }

    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

pub(super) fn build(tokenizer: Arc<Tokenizer>) -> Result<(Vocab, TokEnv), TextError> {
    let n_vocab = tokenizer.n_vocab();
    let words: Vec<Vec<u8>> = (0..n_vocab as TokenId).map(|id| word(&tokenizer, id)).collect();
    let bytes: usize = words.iter().map(Vec::len).sum();
    if bytes > GRAMMAR_TRIE_BYTES_MAX {
        return Err(TextError::Limit {
            what: "the text of all tokens together, in bytes,",
            limit: "GRAMMAR_TRIE_BYTES_MAX",
            max: GRAMMAR_TRIE_BYTES_MAX,
            got: bytes,
        });
    }
    let mut usable = vec![0u32; n_vocab.div_ceil(32)];
    let ordinary = words.iter().enumerate().filter(|(_, w)| !w.is_empty()).map(|(id, _)| id);
    for id in ordinary.chain(tokenizer.eog_ids().iter().map(|&id| id as usize)) {
        usable[id / 32] |= 1 << (id % 32);
    }
    let trie = compile::guarded(|| {
        let trie = TokTrie::from(&TokRxInfo::new(n_vocab as u32, INVALID_TOKEN), &words);
        let ends = tokenizer.eog_ids();
        Ok(if ends.is_empty() { trie } else { trie.with_eos_tokens(ends) })
    })?;
    Ok((Vocab { tokenizer, usable }, Arc::new(Env(trie))))
}

/// The bytes of an ordinary token; nothing for all others. The byte 0xff, which is in no UTF-8, marks special tokens in the
/// library, so a token with it could be taken for one.
fn word(tokenizer: &Tokenizer, id: TokenId) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id);
    let is_usable = !tokenizer.is_special(id)
        && !tokenizer.is_eog(id)
        && bytes.len() <= GRAMMAR_TOKEN_BYTES_MAX
        && !bytes.contains(&0xff);
    if is_usable { bytes.to_vec() } else { Vec::new() }
}
