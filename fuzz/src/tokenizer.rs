//! Any text through tokenizers with tiny vocabularies: the bytes come back, and there are never more tokens than bytes.
//! The first byte chooses the pre-tokenizer, the second whether special tokens are read.

use std::sync::LazyLock;

use base::vocab::{FimTokens, StrTable, TokenKind, VocabModel, VocabSpec};
use text::{Encode, Tokenizer};

const PRES: [&str; 8] =
    ["gpt-2", "qwen2", "llama-bpe", "starcoder", "deepseek-coder", "refact", "smollm", "deepseek-llm"];

static TOKENIZERS: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let bpe = PRES.iter().filter_map(|pre| Tokenizer::new(&bpe(pre)).ok());
    let all: Vec<Tokenizer> = bpe.chain(Tokenizer::new(&spm())).collect();
    assert!(all.len() > PRES.len() / 2, "tokenizers that should build do not");
    all
});

/// The byte-level alphabet: printable Latin-1 stands for itself, the rest for U+0100 and on.
fn alphabet() -> Vec<String> {
    let plain = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut spare = 0x100..;
    let of = |b: u32| if plain(b) { Some(b) } else { spare.next() };
    (0..256).filter_map(of).filter_map(char::from_u32).map(String::from).collect()
}

fn spec(model: VocabModel, pre: &str, pieces: Vec<(String, TokenKind)>) -> VocabSpec {
    let n = pieces.len() as u32;
    VocabSpec {
        model,
        pre: pre.to_owned(),
        tokens: pieces.iter().map(|(t, _)| t.as_str()).collect(),
        kinds: pieces.iter().map(|(_, k)| *k).collect(),
        scores: Vec::new(),
        merges: StrTable::new(),
        bos: Some(n - 2),
        eos: Some(n - 1),
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

fn specials() -> [(String, TokenKind); 3] {
    let special = |s: &str| (s.to_owned(), TokenKind::Control);
    [("<tool>".to_owned(), TokenKind::UserDefined), special("<|im_start|>"), special("<|im_end|>")]
}

fn bpe(pre: &str) -> VocabSpec {
    let merges = ["Ġ Ġ", "ĠĠ ĠĠ", "a b", "ab ab", "Ċ Ċ", "1 2", "' s", "Ã ©", "e r"];
    let pieces = alphabet().into_iter().chain(merges.iter().map(|m| m.replace(' ', "")));
    let pieces = pieces.map(|p| (p, TokenKind::Normal)).chain(specials()).collect();
    VocabSpec { merges: merges.into_iter().collect(), ..spec(VocabModel::Bpe, pre, pieces) }
}

fn spm() -> VocabSpec {
    let bytes = (0..256).map(|b| (format!("<0x{b:02X}>"), TokenKind::Byte));
    let words = ["▁", "a", "b", "▁a", "ab", "é", "▁▁", "abab"].map(|w| (w.to_owned(), TokenKind::Normal));
    let pieces: Vec<_> =
        std::iter::once(("<unk>".to_owned(), TokenKind::Unknown)).chain(bytes).chain(words).chain(specials()).collect();
    let scores = (0..pieces.len()).map(|i| -(i as f32)).collect();
    VocabSpec { scores, unk: Some(0), add_space_prefix: true, ..spec(VocabModel::Spm, "default", pieces) }
}

/// Encodes and decodes.
pub fn run(data: &[u8]) {
    let [which, flags, rest @ ..] = data else { return };
    let all = &*TOKENIZERS;
    let tokenizer = &all[*which as usize % all.len()];
    let text = String::from_utf8_lossy(rest);
    let opts = Encode { add_special: false, parse_special: flags & 1 == 1 };
    let ids = tokenizer.encode(&text, opts);
    assert!(ids.iter().all(|id| (*id as usize) < tokenizer.n_vocab()));
    // SPM turns one space in front and each space into three bytes of its own.
    assert!(ids.len() <= 3 * text.len() + 3);
    let back = tokenizer.decode(&ids, true);
    let is_spm = *which as usize % all.len() == all.len() - 1;
    if !is_spm {
        assert_eq!(back, text.as_bytes());
    }
}

/// Code, digits, spaces, special tokens, broken and rare characters, for every tokenizer.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "def f(x):\n    return x's  12345\r\n\t<|im_end|>",
        "aababab \u{301}e\u{301}\u{e9}\u{4e2d}\u{6587}\u{1f600}\u{200d} \u{a0}\u{3000}!?",
        "   \n \n\n<tool> <|im_start|>DON'T we'll \u{661}\u{662}",
    ];
    let text = |i: usize| [&[i as u8, (i % 2) as u8][..], texts[i % texts.len()].as_bytes()].concat();
    (0..18).map(text).collect()
}
