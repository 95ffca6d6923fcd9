//! Vocabulary from GGUF metadata. Defaults are llama.cpp's (`llama_vocab::impl::load`), with one exception: a BPE file
//! that names no bos or eos gets none, where llama.cpp falls back to token 11.

use base::TokenId;
use base::limits::{TEMPLATE_BYTES_MAX, TOKEN_BYTES_MAX, VOCAB_MAX};
use base::vocab::{FimTokens, StrTable, TokenKind, VocabModel, VocabSpec};

use crate::error::{FormatError, Kind, shown};
use crate::gguf::Gguf;
use crate::special::{Known, mark_control};

const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const KINDS: &str = "tokenizer.ggml.token_type";
const TEMPLATE: &str = "tokenizer.chat_template";

/// The vocabulary of a GGUF file, with or without weights.
///
/// # Errors
/// Missing or mistyped keys, an algorithm other than byte-level BPE (`gpt2`) and SentencePiece (`llama`), arrays that
/// differ in length, ids outside the vocabulary.
pub fn vocab_from_gguf(gguf: &Gguf) -> Result<VocabSpec, FormatError> {
    let model = match gguf.get_str("tokenizer.ggml.model")? {
        "gpt2" => VocabModel::Bpe,
        "llama" => VocabModel::Spm,
        other => {
            let what = format!("tokenizer.ggml.model \"{}\"", shown(other));
            return Err(gguf.wrong("tokenizer.ggml.model", Kind::Unsupported { what }));
        }
    };
    let pre = gguf.opt_str("tokenizer.ggml.pre")?.unwrap_or("default").to_owned();
    let tokens = gguf.get_strings(TOKENS)?;
    check_tokens(gguf, tokens)?;
    let n = tokens.len();
    let merges = match model {
        VocabModel::Bpe => merges(gguf)?,
        VocabModel::Spm => StrTable::new(),
    };
    let scores = match model {
        VocabModel::Bpe => Vec::new(),
        VocabModel::Spm => scores(gguf, n)?,
    };
    let chat_template = gguf.opt_str(TEMPLATE)?.map(str::to_owned);
    if chat_template.as_ref().is_some_and(|t| t.len() > TEMPLATE_BYTES_MAX) {
        return Err(too_many(
            gguf,
            TEMPLATE,
            "the chat template's size",
            chat_template.map_or(0, |t| t.len()),
            TEMPLATE_BYTES_MAX,
        ));
    }
    let ids = Ids { gguf, n };
    let spm = model == VocabModel::Spm;
    let spm_default = |id: TokenId| (spm && usize::try_from(id).is_ok_and(|i| i < n)).then_some(id);
    let known = Known::scan(tokens);
    let eos = ids.get("eos_token_id")?.or(spm_default(2));
    let mut spec = VocabSpec {
        model,
        add_bos: gguf.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(spm || adds_bos_by_default(&pre)),
        add_eos: gguf.opt_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
        add_space_prefix: gguf.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(spm),
        pre,
        tokens: tokens.clone(),
        kinds: kinds(gguf, n)?,
        scores,
        merges,
        bos: ids.get("bos_token_id")?.or(spm_default(1)),
        eos,
        eot: ids.get("eot_token_id")?.filter(|id| Some(*id) != eos).or_else(|| known.other_end(eos)),
        unk: ids.get("unknown_token_id")?.or(spm_default(0)),
        pad: ids.get("padding_token_id")?,
        fim: known.fim(ids.fim()?),
        chat_template,
    };
    mark_specials(&mut spec);
    Ok(spec)
}

/// Tokens that end an answer or steer fill-in-the-middle are control tokens, whatever the file calls them.
pub(crate) fn mark_specials(spec: &mut VocabSpec) {
    let f = spec.fim;
    let ids = [spec.eos, spec.eot, f.prefix, f.suffix, f.middle, f.pad, f.repo, f.file_sep];
    mark_control(&mut spec.kinds, &ids);
}

/// Pre-tokenizers whose models were trained with bos in front (Llama 3, Falcon 3, Pixtral, Mistral's tekken).
pub(crate) fn adds_bos_by_default(pre: &str) -> bool {
    matches!(pre, "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "tekken")
}

/// Where a BPE merge splits: at the first space that is not its first byte. `None` when a side is empty.
pub(crate) fn merge_sides(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let split = first.checked_add(merge.get(first..)?.find(' ')?)?;
    let right = merge.get(split.checked_add(1)?..)?;
    (!right.is_empty()).then_some((merge.get(..split)?, right))
}

fn too_many(gguf: &Gguf, key: &str, what: &'static str, count: usize, max: usize) -> FormatError {
    let (count, max) = (u64::try_from(count).unwrap_or(u64::MAX), u64::try_from(max).unwrap_or(u64::MAX));
    gguf.wrong(key, Kind::TooMany { what, count, max })
}

fn check_tokens(gguf: &Gguf, tokens: &StrTable) -> Result<(), FormatError> {
    if tokens.is_empty() {
        return Err(gguf.wrong(TOKENS, Kind::Empty { what: "the vocabulary" }));
    }
    if tokens.len() > VOCAB_MAX {
        return Err(too_many(gguf, TOKENS, "the vocabulary's size", tokens.len(), VOCAB_MAX));
    }
    match tokens.iter().map(str::len).max() {
        Some(longest) if longest > TOKEN_BYTES_MAX => {
            Err(too_many(gguf, TOKENS, "a vocabulary entry's size", longest, TOKEN_BYTES_MAX))
        }
        _ => Ok(()),
    }
}

fn merges(gguf: &Gguf) -> Result<StrTable, FormatError> {
    let merges = gguf.get_strings(MERGES)?;
    if merges.len() > VOCAB_MAX {
        return Err(too_many(gguf, MERGES, "the number of merges", merges.len(), VOCAB_MAX));
    }
    match merges.iter().find(|m| merge_sides(m).is_none()) {
        None => Ok(merges.clone()),
        Some(bad) => Err(gguf.wrong(
            MERGES,
            Kind::OutOfRange {
                key: MERGES.to_owned(),
                value: format!("\"{}\"", shown(bad)),
                want: "two pieces with a space between".to_owned(),
            },
        )),
    }
}

fn same_length(gguf: &Gguf, key: &str, have: usize, n: usize) -> Result<(), FormatError> {
    if have == n {
        return Ok(());
    }
    let (value, want) = (format!("{have} long"), format!("as long as {TOKENS}, {n}"));
    Err(gguf.wrong(key, Kind::OutOfRange { key: key.to_owned(), value, want }))
}

fn scores(gguf: &Gguf, n: usize) -> Result<Vec<f32>, FormatError> {
    let scores = gguf.opt_f32s(SCORES)?.ok_or_else(|| gguf.wrong(SCORES, Kind::Missing { key: SCORES.to_owned() }))?;
    same_length(gguf, SCORES, scores.len(), n)?;
    if let Some(bad) = scores.iter().find(|s| !s.is_finite()) {
        let (key, value, want) = (SCORES.to_owned(), bad.to_string(), "finite".to_owned());
        return Err(gguf.wrong(SCORES, Kind::OutOfRange { key, value, want }));
    }
    Ok(scores.to_vec())
}

fn kinds(gguf: &Gguf, n: usize) -> Result<Vec<TokenKind>, FormatError> {
    let Some(numbers) = gguf.opt_integers(KINDS)? else { return Ok(vec![TokenKind::Normal; n]) };
    same_length(gguf, KINDS, numbers.len(), n)?;
    let kind = |number: i64| match number {
        0 | 1 => Ok(TokenKind::Normal),
        2 => Ok(TokenKind::Unknown),
        3 => Ok(TokenKind::Control),
        4 => Ok(TokenKind::UserDefined),
        5 => Ok(TokenKind::Unused),
        6 => Ok(TokenKind::Byte),
        _ => {
            let (key, value, want) = (KINDS.to_owned(), number.to_string(), "0 to 6".to_owned());
            Err(gguf.wrong(KINDS, Kind::OutOfRange { key, value, want }))
        }
    };
    numbers.into_iter().map(kind).collect()
}

/// Special ids by key, each below the vocabulary's size.
struct Ids<'a> {
    gguf: &'a Gguf,
    n: usize,
}

impl Ids<'_> {
    /// `None` when the key is missing, or holds the 32-bit -1 that some converters write for "none".
    fn get(&self, name: &str) -> Result<Option<TokenId>, FormatError> {
        let key = format!("tokenizer.ggml.{name}");
        if matches!(self.gguf.get(&key), Some(crate::gguf::Value::I32(-1))) {
            return Ok(None);
        }
        let Some(id) = self.gguf.opt_u32(&key)?.filter(|id| *id != u32::MAX) else { return Ok(None) };
        if usize::try_from(id).is_ok_and(|i| i < self.n) {
            return Ok(Some(id));
        }
        let want = format!("below the vocabulary's size, {}", self.n);
        Err(self.gguf.wrong(&key, Kind::OutOfRange { key: key.clone(), value: id.to_string(), want }))
    }

    fn either(&self, name: &str, older: &str) -> Result<Option<TokenId>, FormatError> {
        Ok(match self.get(name)? {
            Some(id) => Some(id),
            None => self.get(older)?,
        })
    }

    fn fim(&self) -> Result<FimTokens, FormatError> {
        Ok(FimTokens {
            prefix: self.either("fim_pre_token_id", "prefix_token_id")?,
            suffix: self.either("fim_suf_token_id", "suffix_token_id")?,
            middle: self.either("fim_mid_token_id", "middle_token_id")?,
            pad: self.get("fim_pad_token_id")?,
            repo: self.get("fim_rep_token_id")?,
            file_sep: self.get("fim_sep_token_id")?,
        })
    }
}

/// Fills the vocabulary up to the rows of the embedding with tokens that text never makes, as converters do.
/// `None` when there are more tokens than rows.
pub(crate) fn pad_to(spec: &mut VocabSpec, n_vocab: usize) -> Option<()> {
    if spec.tokens.len() > n_vocab {
        return None;
    }
    for id in spec.tokens.len()..n_vocab {
        spec.tokens.push(&format!("[PAD{id}]"))?;
        spec.kinds.push(TokenKind::Unused);
        if spec.model == VocabModel::Spm {
            spec.scores.push(-1000.0);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_has_two_sides() {
        assert_eq!(merge_sides("Ġ t"), Some(("Ġ", "t")));
        assert_eq!(merge_sides("ab cd"), Some(("ab", "cd")));
        for bad in ["", " ", "a", "a ", " a", "é "] {
            assert_eq!(merge_sides(bad), None, "{bad:?}");
        }
    }
}
