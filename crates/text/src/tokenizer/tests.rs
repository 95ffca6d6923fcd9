//! Tests of the tokenizer on vocabularies small enough to read.
use super::*;
use crate::bytes::char_of_byte;

/// A specification with these tokens and merges and nothing else.
fn spec(model: VocabModel, pre: &str, tokens: &[(&str, TokenKind)], merges: &[&str]) -> VocabSpec {
    VocabSpec {
        model,
        pre: pre.to_string(),
        tokens: tokens.iter().map(|t| t.0).collect(),
        kinds: tokens.iter().map(|t| t.1).collect(),
        scores: Vec::new(),
        merges: merges.iter().copied().collect(),
        bos: None,
        eos: None,
        eot: None,
        unk: None,
        pad: None,
        fim: FimTokens::default(),
        add_bos: false,
        add_eos: false,
        add_space_prefix: false,
        chat_template: None,
    }
}

/// All 256 bytes, then these tokens and merges.
pub(crate) fn byte_level(pre: &str, more: &[(&str, TokenKind)], merges: &[&str]) -> VocabSpec {
    let bytes: Vec<String> = (0..=255u8).map(|b| char_of_byte(b).to_string()).collect();
    let tokens: Vec<(&str, TokenKind)> =
        bytes.iter().map(|b| (b.as_str(), TokenKind::Normal)).chain(more.iter().copied()).collect();
    spec(VocabModel::Bpe, pre, &tokens, merges)
}

/// A vocabulary over a, b, c in which merges compete; one merge result ("cab") is not a token.
pub(crate) fn tiny_bpe() -> (VocabSpec, TextIndex, Key) {
    let n = TokenKind::Normal;
    let more = [("ab", n), ("bc", n), ("aa", n), ("abc", n), ("aaaa", n), ("ca", n), ("abab", n), ("cabc", n)];
    let merges = ["a b", "b c", "a a", "ab c", "aa aa", "c a", "ab ab", "c ab", "cab c", "ca b"];
    let spec = byte_level("gpt-2", &more, &merges);
    let key = Key::random();
    let index = TextIndex::new(&spec.tokens, key);
    (spec, index, key)
}

fn texts(t: &Tokenizer, text: &str, opts: Encode) -> Vec<String> {
    t.encode(text, opts).iter().map(|&id| t.token_text(id).to_string()).collect()
}

#[test]
fn lowest_rank_merges_first() {
    let (spec, ..) = tiny_bpe();
    let t = Tokenizer::new(&spec).unwrap();
    assert_eq!(texts(&t, "abc", Encode::TEXT), ["abc"]);
    assert_eq!(texts(&t, "aaab", Encode::TEXT), ["aa", "ab"]);
    assert_eq!(texts(&t, "aaaaa", Encode::TEXT), ["aaaa", "a"]);
}

#[test]
fn a_merge_whose_result_is_no_token_falls_back_to_bytes() {
    let t = Tokenizer::new(&tiny_bpe().0).unwrap();
    assert_eq!(texts(&t, "cab", Encode::TEXT), ["c", "a", "b"]);
    assert_eq!(texts(&t, "cabc", Encode::TEXT), ["c", "abc"]);
    assert_eq!(t.decode(&t.encode("cabcabcab", Encode::TEXT), false), b"cabcabcab");
}

#[test]
fn special_tokens_only_where_asked_for() {
    let more = [("<|x|>", TokenKind::Control), ("<|x|>y", TokenKind::Control), ("<u>", TokenKind::UserDefined)];
    let t = Tokenizer::new(&byte_level("gpt-2", &more, &[])).unwrap();
    assert_eq!(t.encode("<|x|>", Encode::TEXT).len(), 5);
    assert_eq!(t.encode("<|x|>", Encode::TEMPLATE), [256]);
    assert_eq!(t.encode("<|x|>y<|x|>z", Encode::TEMPLATE), [257, 256, u32::from(b'z')]);
    assert_eq!(t.encode("<u>", Encode::TEXT), [258], "user-defined tokens are always whole");
    assert!(t.is_special(256) && !t.is_special(258) && !t.is_special(9999));
    assert_eq!(t.decode(&[256, 258], false), b"<u>");
    assert_eq!(t.decode(&[256, 258], true), b"<|x|><u>");
}

#[test]
fn ids_outside_of_the_vocabulary_are_empty() {
    let t = Tokenizer::new(&tiny_bpe().0).unwrap();
    assert_eq!(t.token_bytes(u32::MAX), b"");
    assert_eq!(t.token_text(u32::MAX), "");
    assert_eq!(t.decode(&[u32::MAX], true), b"");
}

#[test]
fn bos_and_eos_where_the_vocabulary_asks() {
    let mut s = byte_level("gpt-2", &[("<s>", TokenKind::Control), ("</s>", TokenKind::Control)], &[]);
    (s.bos, s.eos, s.add_bos, s.add_eos) = (Some(256), Some(257), true, true);
    let t = Tokenizer::new(&s).unwrap();
    let opts = Encode { add_special: true, parse_special: false };
    assert_eq!(t.encode("", opts), [256, 257]);
    assert!(t.encode("", Encode::TEXT).is_empty());
    assert_eq!(t.eog_ids(), [257]);
}

#[test]
fn ends_of_generation_are_known_by_text() {
    let names = ["<|im_end|>", "<|endoftext|>", "<|fim_prefix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"];
    let more: Vec<_> = names.iter().map(|n| (*n, TokenKind::Normal)).collect();
    let t = Tokenizer::new(&byte_level("qwen2", &more, &[])).unwrap();
    assert_eq!(t.eog_ids(), [256, 257, 259, 260, 261]);
    assert_eq!(t.fim().prefix, Some(258));
    assert!(t.is_special(258), "known by its text, whatever the file says");
}

#[test]
fn a_closing_tag_that_merges_make_ends_nothing() {
    let n = TokenKind::Normal;
    let spec = byte_level("qwen2", &[("</", n), ("s>", n), ("</s>", n), ("<|im_end|>", n)], &["< /", "s >", "</ s>"]);
    let t = Tokenizer::new(&spec).unwrap();
    assert_eq!(t.eog_ids(), [259]);
    assert!(!t.is_special(258));
    let spec = byte_level("qwen2", &[("</s>", TokenKind::Control)], &["< /", "s >", "</ s>"]);
    assert_eq!(Tokenizer::new(&spec).unwrap().eog_ids(), [256]);
}

#[test]
fn gpt_oss_end_is_not_the_end() {
    let names = ["<|return|>", "<|call|>", "<|end|>", "<|channel|>"];
    let more: Vec<_> = names.iter().map(|n| (*n, TokenKind::Control)).collect();
    let t = Tokenizer::new(&byte_level("gpt-4o", &more, &[])).unwrap();
    assert_eq!(t.eog_ids(), [256, 257]);
    assert!(!t.is_special(258) && !t.is_special(259));
}

fn spm_spec(tokens: &[(&str, TokenKind, f32)]) -> VocabSpec {
    let mut s = spec(VocabModel::Spm, "default", &tokens.iter().map(|t| (t.0, t.1)).collect::<Vec<_>>(), &[]);
    s.scores = tokens.iter().map(|t| t.2).collect();
    s.add_space_prefix = true;
    s.unk = Some(0);
    s
}

#[test]
fn spm_merges_by_score_and_falls_back_to_bytes() {
    let n = TokenKind::Normal;
    let t = Tokenizer::new(&spm_spec(&[
        ("<unk>", TokenKind::Unknown, 0.0),
        ("<0xC3>", TokenKind::Byte, 0.0),
        ("<0xA9>", TokenKind::Byte, 0.0),
        ("▁", n, -10.0),
        ("a", n, -11.0),
        ("b", n, -12.0),
        ("ab", n, -2.0),
        ("▁a", n, -3.0),
        ("▁ab", n, -1.0),
        ("<s>", TokenKind::Control, 0.0),
    ]))
    .unwrap();
    assert_eq!(texts(&t, "ab", Encode::TEXT), ["▁ab"]);
    assert_eq!(texts(&t, "é", Encode::TEXT), ["▁", "<0xC3>", "<0xA9>"]);
    assert_eq!(texts(&t, "<s>a", Encode::TEMPLATE), ["<s>", "▁a"]);
    assert_eq!(texts(&t, "z", Encode::TEXT), ["▁", "<unk>"]);
    assert_eq!(t.decode(&t.encode("a é", Encode::TEXT), false), " a é".as_bytes());
}

#[test]
fn phi3_special_tokens_take_white_space_along() {
    let (n, c) = (TokenKind::Normal, TokenKind::Control);
    let t = Tokenizer::new(&spm_spec(&[
        ("<unk>", TokenKind::Unknown, 0.0),
        ("▁a", n, -1.0),
        ("a", n, -2.0),
        ("▁", n, -3.0),
        ("<|end|>", c, 0.0),
        ("<|placeholder1|>", c, 0.0),
        ("<|endoftext|>", c, 0.0),
    ]))
    .unwrap();
    assert_eq!(texts(&t, "<|end|> \n a", Encode::TEMPLATE), ["<|end|>", "▁a"]);
    assert_eq!(texts(&t, "<|endoftext|> a", Encode::TEMPLATE), ["<|endoftext|>", "▁", "▁a"]);
}

#[test]
fn unknown_pre_tokenizer_is_named_with_the_known_ones() {
    let error = Tokenizer::new(&byte_level("klingon", &[], &[])).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("klingon") && message.contains("qwen2") && message.contains("llama-bpe"), "{message}");
}

#[test]
fn vocabularies_that_do_not_fit_together_are_refused() {
    let field = |s: &VocabSpec| match Tokenizer::new(s).unwrap_err() {
        TextError::Vocab { field, .. } => field.to_string(),
        TextError::BadMerge { rank, .. } => format!("merges[{rank}]"),
        TextError::Limit { limit, .. } => limit.to_string(),
        other => panic!("{other}"),
    };
    let good = tiny_bpe().0;
    assert_eq!(field(&VocabSpec { kinds: Vec::new(), ..good.clone() }), "kinds");
    assert_eq!(field(&VocabSpec { tokens: StrTable::new(), ..good.clone() }), "tokens");
    assert_eq!(field(&VocabSpec { bos: Some(1 << 20), ..good.clone() }), "bos");
    assert_eq!(field(&VocabSpec { merges: ["a b", "ab"].into_iter().collect(), ..good.clone() }), "merges[1]");
    assert_eq!(field(&VocabSpec { model: VocabModel::Spm, ..good }), "scores");
    let long = "x".repeat(TOKEN_BYTES_MAX + 1);
    assert_eq!(field(&byte_level("gpt-2", &[(&long, TokenKind::Normal)], &[])), "TOKEN_BYTES_MAX");
    let long = "x".repeat(base::limits::SPECIAL_TOKEN_BYTES_MAX + 1);
    assert_eq!(field(&byte_level("gpt-2", &[(&long, TokenKind::Control)], &[])), "SPECIAL_TOKEN_BYTES_MAX");
}
