//! The tokenizer of a model, built from the vocabulary inside of its file: text to tokens and back.
//!
//! Ids equal llama.cpp's. Encoding is linear in the text but for a logarithm inside of one long word, never recurses, and
//! needs `&self` only, so one tokenizer serves all requests. Building one for 152,000 tokens and 151,000 merges is dominated
//! by hash look-ups of the merges' halves.
use crate::bpe::{Bpe, Scratch};
use crate::bytes::byte_of_char;
use crate::error::TextError;
use crate::hash::{Key, TextIndex};
use crate::pre::{Pre, known_names};
use crate::special::{Matcher, Specials};
use crate::spm::{Lookup, SPACE, Spm};
use base::TokenId;
use base::limits::{TOKEN_BYTES_MAX, VOCAB_MAX};
use base::vocab::{FimTokens, StrTable, TokenKind, VocabModel, VocabSpec};

/// How to encode a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encode {
    /// Put the vocabulary's `bos` before and `eos` behind, where it asks for them.
    pub add_special: bool,
    /// Read `<|im_end|>` and the like as special tokens. Only for text that a template made, never for a user's own.
    pub parse_special: bool,
}

impl Encode {
    /// Ordinary text, nothing added.
    pub const TEXT: Encode = Encode { add_special: false, parse_special: false };
    /// What a chat template rendered: it writes special tokens itself.
    pub const TEMPLATE: Encode = Encode { add_special: false, parse_special: true };
    /// A raw prompt: `bos` where the model wants one.
    pub const PROMPT: Encode = Encode { add_special: true, parse_special: false };
}

/// A vocabulary ready for use.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    tokens: StrTable,
    index: TextIndex,
    model: Model,
    specials: Specials,
    matcher: Matcher,
    bytes: Vec<u8>,
    byte_ends: Vec<u32>,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    add_bos: bool,
    add_eos: bool,
}

#[derive(Clone, Debug)]
enum Model {
    Bpe { bpe: Box<Bpe>, pre: Pre },
    Spm { spm: Box<Spm>, add_space_prefix: bool },
}

impl Tokenizer {
    /// Builds a tokenizer.
    ///
    /// # Errors
    /// `UnknownPre` for a pre-tokenizer that is not built in; `Vocab`, `BadMerge` or `Limit` where the vocabulary does not fit
    /// together.
    pub fn new(spec: &VocabSpec) -> Result<Tokenizer, TextError> {
        check(spec)?;
        let key = Key::random();
        let index = TextIndex::new(&spec.tokens, key);
        let model = match spec.model {
            VocabModel::Bpe => {
                let pre = Pre::named(&spec.pre).ok_or_else(|| TextError::UnknownPre {
                    name: spec.pre.clone(),
                    known: known_names().collect::<Vec<_>>().join(", "),
                })?;
                Model::Bpe { bpe: Box::new(Bpe::new(spec, &index, key)?), pre }
            }
            VocabModel::Spm => {
                Model::Spm { spm: Box::new(Spm::new(spec, &index)?), add_space_prefix: spec.add_space_prefix }
            }
        };
        let specials = Specials::new(spec, &index);
        let matcher = Matcher::new(spec, &specials.roles)?;
        let mut tokenizer = Tokenizer {
            tokens: spec.tokens.clone(),
            index,
            model,
            specials,
            matcher,
            bytes: Vec::new(),
            byte_ends: Vec::with_capacity(spec.tokens.len()),
            bos: spec.bos,
            eos: spec.eos,
            add_bos: spec.add_bos,
            add_eos: spec.add_eos,
        };
        tokenizer.fill_bytes()?;
        Ok(tokenizer)
    }

    /// Number of tokens.
    pub fn n_vocab(&self) -> usize {
        self.tokens.len()
    }

    /// Begin of sequence.
    pub fn bos(&self) -> Option<TokenId> {
        self.bos
    }

    /// End of sequence.
    pub fn eos(&self) -> Option<TokenId> {
        self.eos
    }

    /// End of turn: the file's, or the one known by its text.
    pub fn eot(&self) -> Option<TokenId> {
        self.specials.eot
    }

    /// Every token that ends an answer, ascending: `eos`, `eot`, `<|im_end|>`, `<|endoftext|>`, and the fill-in-the-middle
    /// tokens that begin another file.
    pub fn eog_ids(&self) -> &[TokenId] {
        &self.specials.eog
    }

    /// Does this token end an answer?
    pub fn is_eog(&self, id: TokenId) -> bool {
        self.specials.eog.binary_search(&id).is_ok()
    }

    /// Does the vocabulary want `bos` before a text?
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// Fill-in-the-middle tokens: the file's, or those known by their text.
    pub fn fim(&self) -> FimTokens {
        self.specials.fim
    }

    /// Is this a token that ordinary text never gives and output does not show? False for ids outside of the vocabulary.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.specials.roles.get(id as usize).is_some_and(|r| r.is_hidden)
    }

    /// The token as the file writes it; `""` for ids outside of the vocabulary.
    pub fn token_text(&self, id: TokenId) -> &str {
        self.tokens.get(id as usize).unwrap_or("")
    }

    /// The bytes of text that a token stands for; special tokens give their name. Empty for unused tokens and for ids outside
    /// of the vocabulary.
    pub fn token_bytes(&self, id: TokenId) -> &[u8] {
        let i = id as usize;
        let Some(&end) = self.byte_ends.get(i) else { return &[] };
        let start = i.checked_sub(1).and_then(|p| self.byte_ends.get(p)).map_or(0, |&s| s as usize);
        self.bytes.get(start..end as usize).unwrap_or_default()
    }

    /// The token with this text, written as the file writes it.
    pub fn token_of(&self, text: &str) -> Option<TokenId> {
        self.index.get(&self.tokens, text)
    }

    /// The tokens of a text.
    pub fn encode(&self, text: &str, opts: Encode) -> Vec<TokenId> {
        let mut out = Vec::new();
        self.encode_into(text, opts, &mut out);
        out
    }

    /// Appends the tokens of a text.
    pub fn encode_into(&self, text: &str, opts: Encode, out: &mut Vec<TokenId>) {
        if opts.add_special && self.add_bos {
            out.extend(self.bos);
        }
        self.encode_stretch(text, opts.parse_special, true, out);
        if opts.add_special && self.add_eos {
            out.extend(self.eos);
        }
    }

    /// Appends the tokens of ordinary text that goes on in the middle of a line, so that SPM puts no space before it.
    pub(crate) fn encode_on(&self, text: &str, out: &mut Vec<TokenId>) {
        self.encode_stretch(text, false, false, out);
    }

    fn encode_stretch(&self, text: &str, parse_special: bool, mut after_special: bool, out: &mut Vec<TokenId>) {
        let mut scratch = Words::default();
        let mut pos = 0;
        loop {
            let found = self.matcher.find(text, pos, parse_special);
            let end = found.map_or(text.len(), |f| f.start);
            if let Some(plain) = text.get(pos..end).filter(|t| !t.is_empty()) {
                self.encode_plain(plain, after_special, &mut scratch, out);
            }
            let Some(found) = found else { break };
            out.push(found.token);
            (pos, after_special) = (found.end, true);
            if self.specials.roles[found.token as usize].strips_right {
                let is_space = |b: &u8| matches!(b, b' ' | 0x09..=0x0d);
                pos += text.as_bytes()[pos..].iter().take_while(|b| is_space(b)).count();
            }
        }
    }

    /// Appends the tokens of a stretch without special tokens.
    fn encode_plain(&self, text: &str, after_special: bool, words: &mut Words, out: &mut Vec<TokenId>) {
        match &self.model {
            Model::Spm { spm, add_space_prefix } => {
                let prefix = if *add_space_prefix && after_special { "\u{2581}" } else { "" };
                let escaped = [prefix, &text.replace(' ', "\u{2581}")].concat();
                spm.encode(Lookup { tokens: &self.tokens, index: &self.index }, &escaped, out);
            }
            Model::Bpe { bpe, pre } => pre.split(text, &mut |word| {
                let whole = if pre.ignore_merges { self.whole_word(word, &mut words.encoded) } else { None };
                match whole {
                    Some(id) => out.push(id),
                    None => bpe.encode_word(word.as_bytes(), &mut words.scratch, out),
                }
            }),
        }
    }

    /// The ordinary token that is this word.
    fn whole_word(&self, word: &str, encoded: &mut String) -> Option<TokenId> {
        if word.len() > TOKEN_BYTES_MAX {
            return None;
        }
        encoded.clear();
        encoded.extend(word.bytes().map(crate::bytes::char_of_byte));
        self.token_of(encoded).filter(|&id| !self.is_special(id))
    }

    /// The text of tokens, as bytes: a character may be spread over tokens that are not all there. Special tokens are left out
    /// unless asked for. SPM vocabularies begin most texts with a space, which stays.
    pub fn decode(&self, ids: &[TokenId], show_special: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for &id in ids.iter().filter(|&&id| show_special || !self.is_special(id)) {
            out.extend_from_slice(self.token_bytes(id));
        }
        out
    }

    fn fill_bytes(&mut self) -> Result<(), TextError> {
        let is_bpe = matches!(self.model, Model::Bpe { .. });
        for (text, role) in self.tokens.iter().zip(&self.specials.roles) {
            match role.kind {
                TokenKind::Normal if role.is_hidden => self.bytes.extend_from_slice(text.as_bytes()),
                TokenKind::Normal if is_bpe => push_byte_level(text, &mut self.bytes),
                TokenKind::Normal => self.bytes.extend_from_slice(text.replace(SPACE, " ").as_bytes()),
                TokenKind::Byte => self.bytes.extend(byte_named(text)),
                TokenKind::Unused => {}
                TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown => {
                    self.bytes.extend_from_slice(text.as_bytes());
                }
            }
            let end = u32::try_from(self.bytes.len()).map_err(|_| TextError::vocab("tokens", "more than 4 GiB"))?;
            self.byte_ends.push(end);
        }
        Ok(())
    }
}

/// Working memory of one call of `encode`.
#[derive(Default)]
struct Words {
    scratch: Scratch,
    encoded: String,
}

/// Undoes the byte-level alphabet; characters outside of it stand for themselves.
fn push_byte_level(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match byte_of_char(c) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// The byte of `<0xNN>`.
fn byte_named(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// Do the parts of a vocabulary fit together and stay within limits?
fn check(spec: &VocabSpec) -> Result<(), TextError> {
    let n_vocab = spec.tokens.len();
    if n_vocab == 0 {
        return Err(TextError::vocab("tokens", "empty; the file holds no vocabulary"));
    }
    let limit =
        |what, limit, max, got| if got > max { Err(TextError::Limit { what, limit, max, got }) } else { Ok(()) };
    limit("the number of tokens", "VOCAB_MAX", VOCAB_MAX, n_vocab)?;
    limit("the number of merges", "MERGES_MAX", base::limits::MERGES_MAX, spec.merges.len())?;
    let longest = spec.tokens.iter().map(str::len).max().unwrap_or(0);
    limit("the longest token, in bytes,", "TOKEN_BYTES_MAX", TOKEN_BYTES_MAX, longest)?;
    if spec.kinds.len() != n_vocab {
        let reason = format!("{} entries, but {n_vocab} tokens", spec.kinds.len());
        return Err(TextError::vocab("kinds", reason));
    }
    let fim = spec.fim;
    let named = [
        ("bos", spec.bos),
        ("eos", spec.eos),
        ("eot", spec.eot),
        ("unk", spec.unk),
        ("pad", spec.pad),
        ("fim.prefix", fim.prefix),
        ("fim.suffix", fim.suffix),
        ("fim.middle", fim.middle),
        ("fim.pad", fim.pad),
        ("fim.repo", fim.repo),
        ("fim.file_sep", fim.file_sep),
    ];
    for (field, id) in named {
        if let Some(id) = id.filter(|&id| id as usize >= n_vocab) {
            return Err(TextError::vocab(field, format!("token {id} is outside of the {n_vocab} tokens")));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
