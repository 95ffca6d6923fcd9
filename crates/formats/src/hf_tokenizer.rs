//! tokenizer.json and tokenizer_config.json of a Hugging Face model folder -> `VocabSpec`.
//!
//! Byte-level BPE only. Its pre-tokenizer is recognised by its pattern and gets the name that GGUF uses for it; a
//! pattern that is not known is refused by name, because running a pattern from a file needs an engine that a file
//! could stall. Time goes into the vocabulary: one sort of 150,000 ids.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use base::TokenId;
use base::limits::{CONFIG_BYTES_MAX, TEMPLATE_BYTES_MAX, TOKEN_BYTES_MAX, TOKENIZER_JSON_BYTES_MAX, VOCAB_MAX};
use base::vocab::{FimTokens, StrTable, TokenKind, VocabModel, VocabSpec};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{FormatError, Kind, shown};
use crate::hf_config::json;
use crate::hf_pre::{begins_with, pre_tokenizer};
use crate::special::Known;
use crate::vocab::{adds_bos_by_default, mark_specials, merge_sides};

const FILE: &str = "tokenizer.json";
const CONFIG_FILE: &str = "tokenizer_config.json";

#[derive(Deserialize)]
struct TokenizerJson<'a> {
    #[serde(default)]
    added_tokens: Vec<Added<'a>>,
    #[serde(borrow)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Model<'a>,
}

#[derive(Deserialize)]
struct Added<'a> {
    id: TokenId,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model<'a> {
    r#type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    vocab: Option<Vocab<'a>>,
    merges: Option<Merges>,
    #[serde(default)]
    byte_fallback: bool,
}

/// Text -> id, in the file's order.
struct Vocab<'a>(Vec<(Cow<'a, str>, TokenId)>);

impl<'de: 'a, 'a> Deserialize<'de> for Vocab<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Vec<(Cow<'de, str>, TokenId)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of token ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(text) = map.next_key::<Text<'de>>()? {
                    if entries.len() >= VOCAB_MAX {
                        return Err(A::Error::custom(format_args!("more than {VOCAB_MAX} tokens")));
                    }
                    entries.push((text.0, map.next_value()?));
                }
                Ok(entries)
            }
        }
        d.deserialize_map(V).map(Vocab)
    }
}

/// A string that is borrowed from the file where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// `["a b", ...]` or `[["a", "b"], ...]`.
struct Merges(StrTable);

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Merges;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of merges")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merges, A::Error> {
                let mut table = StrTable::new();
                while let Some(merge) = seq.next_element::<Merge>()? {
                    if table.len() >= VOCAB_MAX {
                        return Err(A::Error::custom(format_args!("more than {VOCAB_MAX} merges")));
                    }
                    table.push(&merge.0).ok_or_else(|| A::Error::custom("too many bytes of merges"))?;
                }
                Ok(Merges(table))
            }
        }
        d.deserialize_seq(V)
    }
}

struct Merge(String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Merge;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"left right\" or [\"left\", \"right\"]")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Merge, E> {
                match merge_sides(text) {
                    Some(_) => Ok(Merge(text.to_owned())),
                    None => Err(E::custom(format_args!("\"{}\" is no pair of tokens", shown(text)))),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
                let missing = || A::Error::custom("a merge has two sides");
                let left: String = seq.next_element()?.ok_or_else(missing)?;
                let right: String = seq.next_element()?.ok_or_else(missing)?;
                if seq.next_element::<String>()?.is_some() || left.is_empty() || right.is_empty() {
                    return Err(missing());
                }
                if left.contains(' ') || right.contains(' ') {
                    return Err(A::Error::custom("a merge with spaces in it: not byte-level BPE"));
                }
                Ok(Merge(format!("{left} {right}")))
            }
        }
        d.deserialize_any(V)
    }
}

/// tokenizer_config.json: the fields that are used.
#[derive(Deserialize, Default)]
struct TokenizerConfig {
    bos_token: Option<NamedToken>,
    eos_token: Option<NamedToken>,
    unk_token: Option<NamedToken>,
    pad_token: Option<NamedToken>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    chat_template: Option<Template>,
}

/// `"<s>"` or `{"content": "<s>", ...}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum NamedToken {
    Text(String),
    Object { content: String },
}

impl NamedToken {
    fn text(&self) -> &str {
        match self {
            NamedToken::Text(text) | NamedToken::Object { content: text } => text,
        }
    }
}

/// One template, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Template {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// Ids that config.json and generation_config.json name, in the order in which they are tried.
pub(crate) struct GivenIds {
    pub bos: Vec<TokenId>,
    pub eos: Vec<TokenId>,
    pub pad: Vec<TokenId>,
}

/// The vocabulary; not yet filled up to the embedding's rows.
pub(crate) fn vocab(text: &[u8], config: Option<&[u8]>, given: &GivenIds) -> Result<VocabSpec, FormatError> {
    let file: TokenizerJson<'_> = json(FILE, text, TOKENIZER_JSON_BYTES_MAX)?;
    let config: TokenizerConfig = match config {
        Some(config) => json(CONFIG_FILE, config, CONFIG_BYTES_MAX)?,
        None => TokenizerConfig::default(),
    };
    let wrong = |key: &str, kind| FormatError::new(FILE, FormatError::at_key(text, 0, key), kind);
    let unsupported = |key: &str, what: String| wrong(key, Kind::Unsupported { what });
    match file.model.r#type.as_deref() {
        Some("BPE") | None => {}
        Some(other) => return Err(unsupported("model", format!("tokenizer model \"{}\"", shown(other)))),
    }
    if file.model.byte_fallback {
        let what = "a SentencePiece vocabulary in tokenizer.json (byte_fallback)".to_owned();
        return Err(unsupported("byte_fallback", what));
    }
    let pre = pre_tokenizer(file.normalizer, file.pre_tokenizer).map_err(|what| unsupported("pre_tokenizer", what))?;
    let missing = |key: &str| wrong("model", Kind::Missing { key: key.to_owned() });
    let merges = file.model.merges.ok_or_else(|| missing("model.merges"))?.0;
    let entries = file.model.vocab.ok_or_else(|| missing("model.vocab"))?.0;
    let (tokens, kinds) = table(entries, &file.added_tokens).map_err(|(key, kind)| wrong(key, kind))?;
    let ids = Ids::new(&tokens, &config, given)?;
    let known = Known::scan(&tokens);
    let bos_text = ids.bos.and_then(|id| tokens.get(usize::try_from(id).ok()?));
    let post_adds_bos = || bos_text.is_some_and(|bos| begins_with(file.post_processor, bos));
    let add_bos = config.add_bos_token.unwrap_or_else(|| adds_bos_by_default(pre) || post_adds_bos());
    let mut spec = VocabSpec {
        model: VocabModel::Bpe,
        pre: pre.to_owned(),
        kinds,
        scores: Vec::new(),
        merges,
        bos: ids.bos,
        eos: ids.eos,
        eot: ids.other_eos.or_else(|| known.other_end(ids.eos)),
        unk: ids.unk,
        pad: ids.pad,
        fim: known.fim(FimTokens::default()),
        add_bos,
        add_eos: config.add_eos_token.unwrap_or(false),
        add_space_prefix: false,
        chat_template: chat_template(config.chat_template)?,
        tokens,
    };
    mark_specials(&mut spec);
    Ok(spec)
}

/// Tokens by id: the model's, overlaid by the added ones; ids that nobody uses become `[PAD{id}]`, as converters do.
fn table(
    entries: Vec<(Cow<'_, str>, TokenId)>,
    added: &[Added<'_>],
) -> Result<(StrTable, Vec<TokenKind>), (&'static str, Kind)> {
    let normal = entries.iter().map(|(text, id)| (*id, text.as_ref(), TokenKind::Normal));
    let extra = added
        .iter()
        .map(|a| (a.id, a.content.as_ref(), if a.special { TokenKind::Control } else { TokenKind::UserDefined }));
    let n = normal.clone().chain(extra.clone()).map(|(id, _, _)| u64::from(id).saturating_add(1)).max().unwrap_or(0);
    let max = u64::try_from(VOCAB_MAX).unwrap_or(u64::MAX);
    if n == 0 {
        return Err(("vocab", Kind::Empty { what: "the vocabulary" }));
    }
    if n > max {
        return Err(("vocab", Kind::TooMany { what: "the vocabulary's size", count: n, max }));
    }
    let mut by_id: Vec<Option<(&str, TokenKind)>> = vec![None; usize::try_from(n).unwrap_or(0)];
    for (id, text, kind) in normal {
        let slot = usize::try_from(id).ok().and_then(|i| by_id.get_mut(i));
        if let Some((other, _)) = slot.and_then(|slot| slot.replace((text, kind))) {
            return Err(("vocab", Kind::Duplicate { what: "the id of token", name: shown(other) }));
        }
    }
    for (id, text, kind) in extra {
        if let Some(slot) = usize::try_from(id).ok().and_then(|i| by_id.get_mut(i)) {
            *slot = Some((text, kind));
        }
    }
    let mut tokens = StrTable::new();
    let mut kinds = Vec::with_capacity(by_id.len());
    for (id, slot) in by_id.into_iter().enumerate() {
        let spare = format!("[PAD{id}]");
        let (text, kind) = slot.unwrap_or((&spare, TokenKind::Unused));
        if text.len() > TOKEN_BYTES_MAX {
            let (count, max) =
                (text.len().try_into().unwrap_or(u64::MAX), TOKEN_BYTES_MAX.try_into().unwrap_or(u64::MAX));
            return Err(("vocab", Kind::TooMany { what: "a vocabulary entry's size", count, max }));
        }
        if tokens.push(text).is_none() {
            return Err(("vocab", Kind::TooMany { what: "the vocabulary's bytes", count: n, max }));
        }
        kinds.push(kind);
    }
    Ok((tokens, kinds))
}

/// Special ids, each below the vocabulary's size.
struct Ids {
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    other_eos: Option<TokenId>,
    unk: Option<TokenId>,
    pad: Option<TokenId>,
}

impl Ids {
    fn new(tokens: &StrTable, config: &TokenizerConfig, given: &GivenIds) -> Result<Ids, FormatError> {
        let named = [&config.bos_token, &config.eos_token, &config.unk_token, &config.pad_token];
        let mut by_text: HashMap<&str, Option<TokenId>> =
            named.iter().filter_map(|t| t.as_ref()).map(|t| (t.text(), None)).collect();
        for (id, text) in (0..).zip(tokens.iter()) {
            if let Some(slot) = by_text.get_mut(text) {
                slot.get_or_insert(id);
            }
        }
        let of = |token: &Option<NamedToken>| token.as_ref().and_then(|t| by_text.get(t.text()).copied().flatten());
        let is_inside = |id: &TokenId| usize::try_from(*id).is_ok_and(|i| i < tokens.len());
        for id in [&given.bos, &given.eos].into_iter().flatten() {
            if !is_inside(id) {
                let want = format!("below the vocabulary's size, {}", tokens.len());
                let kind = Kind::OutOfRange { key: "a special token's id".to_owned(), value: id.to_string(), want };
                return Err(FormatError::new(crate::hf_config::FILE, 0, kind));
            }
        }
        let eos = of(&config.eos_token).or(given.eos.first().copied());
        Ok(Ids {
            bos: of(&config.bos_token).or(given.bos.first().copied()),
            eos,
            other_eos: given.eos.iter().copied().find(|id| Some(*id) != eos),
            unk: of(&config.unk_token),
            // Some checkpoints name a padding token that they do not have; nothing is ever padded with it here.
            pad: of(&config.pad_token).or(given.pad.first().copied().filter(is_inside)),
        })
    }
}

fn chat_template(template: Option<Template>) -> Result<Option<String>, FormatError> {
    let source = match template {
        None => None,
        Some(Template::One(source)) => Some(source),
        Some(Template::Named(list)) => list.into_iter().find(|t| t.name == "default").map(|t| t.template),
    };
    match source {
        Some(s) if s.len() > TEMPLATE_BYTES_MAX => {
            let (count, max) =
                (s.len().try_into().unwrap_or(u64::MAX), TEMPLATE_BYTES_MAX.try_into().unwrap_or(u64::MAX));
            Err(FormatError::new(CONFIG_FILE, 0, Kind::TooMany { what: "the chat template's size", count, max }))
        }
        source => Ok(source),
    }
}
