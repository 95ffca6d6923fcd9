//! What a model file says about its tokens, as plain checked data: `formats` fills it, `text` builds a tokenizer from it.

use crate::ids::TokenId;

/// Many short strings in two allocations (a vocabulary has 150,000 of them).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrTable {
    bytes: String,
    ends: Vec<u32>,
}

impl StrTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds a string; `None` (and nothing added) when the table would pass 4 GiB.
    pub fn push(&mut self, s: &str) -> Option<()> {
        let end = u32::try_from(self.bytes.len().checked_add(s.len())?).ok()?;
        self.bytes.push_str(s);
        self.ends.push(end);
        Some(())
    }
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }
    /// No strings at all.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
    /// The i-th string.
    pub fn get(&self, i: usize) -> Option<&str> {
        let end = *self.ends.get(i)? as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        self.bytes.get(start..end)
    }
    /// All strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> + '_ {
        (0..self.len()).map(|i| self.get(i).unwrap_or(""))
    }
}

impl<'a> FromIterator<&'a str> for StrTable {
    fn from_iter<I: IntoIterator<Item = &'a str>>(iter: I) -> Self {
        let mut table = Self::new();
        for s in iter {
            let _ = table.push(s);
        }
        table
    }
}

/// `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Ordinary text.
    Normal,
    /// Stands for what the vocabulary cannot say.
    Unknown,
    /// Special: never produced by ordinary text, not shown in output.
    Control,
    /// Added by the model's makers; matched whole, shown in output.
    UserDefined,
    /// Reserved.
    Unused,
    /// One raw byte, `<0xNN>` (SPM).
    Byte,
}

/// The tokenizer's algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VocabModel {
    /// Byte-level byte-pair encoding with ranked merges (`gpt2` in GGUF).
    Bpe,
    /// SentencePiece by merge scores (`llama` in GGUF).
    Spm,
}

/// Special tokens for fill-in-the-middle, where the vocabulary has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FimTokens {
    pub prefix: Option<TokenId>,
    pub suffix: Option<TokenId>,
    pub middle: Option<TokenId>,
    pub pad: Option<TokenId>,
    pub repo: Option<TokenId>,
    pub file_sep: Option<TokenId>,
}

/// Everything a tokenizer is built from. Ids in it are checked to be below `tokens.len()`.
#[derive(Clone, Debug)]
pub struct VocabSpec {
    /// Algorithm.
    pub model: VocabModel,
    /// Pre-tokenizer by its GGUF name (`qwen2`, `llama-bpe`, `gpt-2`, `starcoder`, `refact`, `smollm`, `deepseek-coder`, ...).
    pub pre: String,
    /// Pieces as the file has them: byte-level alphabet for BPE, `▁` for SPM.
    pub tokens: StrTable,
    /// Same length as `tokens`.
    pub kinds: Vec<TokenKind>,
    /// SPM merge scores, same length as `tokens`; empty for BPE.
    pub scores: Vec<f32>,
    /// BPE merges in rank order, `left right`; empty for SPM.
    pub merges: StrTable,
    /// Begin of sequence.
    pub bos: Option<TokenId>,
    /// End of sequence.
    pub eos: Option<TokenId>,
    /// End of turn, where it differs from `eos`.
    pub eot: Option<TokenId>,
    /// Unknown.
    pub unk: Option<TokenId>,
    /// Padding.
    pub pad: Option<TokenId>,
    /// Fill-in-the-middle tokens.
    pub fim: FimTokens,
    /// Put `bos` before a text.
    pub add_bos: bool,
    /// Put `eos` after a text.
    pub add_eos: bool,
    /// SPM: put a space before a text.
    pub add_space_prefix: bool,
    /// Chat template (Jinja source).
    pub chat_template: Option<String>,
}
