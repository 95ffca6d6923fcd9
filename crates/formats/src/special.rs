//! Special tokens that files often fail to name: found by the texts that model makers use for them.

use base::TokenId;
use base::vocab::{FimTokens, StrTable, TokenKind};

/// What a well-known text stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Prefix,
    Suffix,
    Middle,
    Pad,
    Repo,
    FileSep,
    End,
}

/// Text and role; earlier rows win. Fill-in-the-middle texts: Qwen and CodeGemma (`<|fim_..|>`), StarCoder and Refact
/// (`<fim_..>`), Granite, DeepSeek (its *hole* marks the suffix, its *end* the middle), Code Llama (`▁<PRE>`).
/// Ends: turn ends first, then ends of text.
const KNOWN: &[(&str, Role)] = &[
    ("<|fim_prefix|>", Role::Prefix),
    ("<fim_prefix>", Role::Prefix),
    ("<fim-prefix>", Role::Prefix),
    ("<｜fim▁begin｜>", Role::Prefix),
    ("▁<PRE>", Role::Prefix),
    ("<PRE>", Role::Prefix),
    ("<|code_prefix|>", Role::Prefix),
    ("<|fim_suffix|>", Role::Suffix),
    ("<fim_suffix>", Role::Suffix),
    ("<fim-suffix>", Role::Suffix),
    ("<｜fim▁hole｜>", Role::Suffix),
    ("▁<SUF>", Role::Suffix),
    ("<SUF>", Role::Suffix),
    ("<|code_suffix|>", Role::Suffix),
    ("<|fim_middle|>", Role::Middle),
    ("<fim_middle>", Role::Middle),
    ("<fim-middle>", Role::Middle),
    ("<｜fim▁end｜>", Role::Middle),
    ("▁<MID>", Role::Middle),
    ("<MID>", Role::Middle),
    ("<|code_middle|>", Role::Middle),
    ("<|fim_pad|>", Role::Pad),
    ("<fim_pad>", Role::Pad),
    ("<fim-pad>", Role::Pad),
    ("<|repo_name|>", Role::Repo),
    ("<repo_name>", Role::Repo),
    ("<|fim_repo|>", Role::Repo),
    ("<reponame>", Role::Repo),
    ("<|file_sep|>", Role::FileSep),
    ("<|file_separator|>", Role::FileSep),
    ("<file_sep>", Role::FileSep),
    ("<filename>", Role::FileSep),
    ("<|im_end|>", Role::End),
    ("<|eot_id|>", Role::End),
    ("<|end|>", Role::End),
    ("<end_of_turn>", Role::End),
    ("<|EOT|>", Role::End),
    ("▁<EOT>", Role::End),
    ("<EOT>", Role::End),
    ("<｜end▁of▁sentence｜>", Role::End),
    ("<|end_of_text|>", Role::End),
    ("<|endoftext|>", Role::End),
];

/// The id of every text in `KNOWN`, where the vocabulary has it (the lowest id of equal texts).
pub(crate) struct Known([Option<TokenId>; KNOWN.len()]);

impl Known {
    /// One pass over the vocabulary.
    pub fn scan(tokens: &StrTable) -> Known {
        let mut found = [None; KNOWN.len()];
        for (id, text) in (0..).zip(tokens.iter()) {
            if !(text.starts_with('<') || text.starts_with("▁<")) || !text.ends_with('>') {
                continue;
            }
            if let Some((slot, _)) = found.iter_mut().zip(KNOWN).find(|(_, (known, _))| *known == text) {
                slot.get_or_insert(id);
            }
        }
        Known(found)
    }

    fn all(&self, role: Role) -> impl Iterator<Item = TokenId> + '_ {
        self.0.iter().zip(KNOWN).filter(move |(_, (_, r))| *r == role).filter_map(|(id, _)| *id)
    }

    /// Fill-in-the-middle tokens; those that the file itself names (`given`) win.
    pub fn fim(&self, given: FimTokens) -> FimTokens {
        let or = |id: Option<TokenId>, role| id.or_else(|| self.all(role).next());
        FimTokens {
            prefix: or(given.prefix, Role::Prefix),
            suffix: or(given.suffix, Role::Suffix),
            middle: or(given.middle, Role::Middle),
            pad: or(given.pad, Role::Pad),
            repo: or(given.repo, Role::Repo),
            file_sep: or(given.file_sep, Role::FileSep),
        }
    }

    /// The other token that ends an answer: a turn end, else an end of text, that is not `eos`.
    pub fn other_end(&self, eos: Option<TokenId>) -> Option<TokenId> {
        self.all(Role::End).find(|id| Some(*id) != eos)
    }
}

/// Special tokens are never matched in ordinary text and never shown: files that call them ordinary are corrected,
/// as llama.cpp does.
pub(crate) fn mark_control(kinds: &mut [TokenKind], ids: &[Option<TokenId>]) {
    for id in ids.iter().flatten() {
        if let Some(kind) = usize::try_from(*id).ok().and_then(|i| kinds.get_mut(i))
            && *kind != TokenKind::Unknown
        {
            *kind = TokenKind::Control;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_end_comes_before_text_end_and_never_repeats_eos() {
        let tokens: StrTable = ["a", "<|endoftext|>", "<|im_end|>"].into_iter().collect();
        let known = Known::scan(&tokens);
        assert_eq!(known.other_end(Some(1)), Some(2));
        assert_eq!(known.other_end(Some(2)), Some(1));
        assert_eq!(known.other_end(None), Some(2));
    }

    #[test]
    fn what_the_file_names_wins_over_what_the_text_suggests() {
        let tokens: StrTable = ["<fim_prefix>", "<fim_suffix>", "<PRE>"].into_iter().collect();
        let known = Known::scan(&tokens);
        let fim = known.fim(FimTokens { prefix: Some(2), ..FimTokens::default() });
        assert_eq!((fim.prefix, fim.suffix, fim.middle), (Some(2), Some(1), None));
    }
}
