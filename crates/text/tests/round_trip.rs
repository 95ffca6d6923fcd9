//! Any text comes back from its ids, and pieces of a text never give special tokens unless asked.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;
use proptest::prelude::*;
use std::sync::OnceLock;
use text::{Detokenizer, Encode, Tokenizer};

fn tokenizer(name: &'static str) -> Option<Tokenizer> {
    common::vocab(name).map(|spec| Tokenizer::new(&spec).unwrap())
}

fn qwen2() -> Option<&'static Tokenizer> {
    static QWEN2: OnceLock<Option<Tokenizer>> = OnceLock::new();
    QWEN2.get_or_init(|| tokenizer("qwen2")).as_ref()
}

fn llama_bpe() -> Option<&'static Tokenizer> {
    static LLAMA: OnceLock<Option<Tokenizer>> = OnceLock::new();
    LLAMA.get_or_init(|| tokenizer("llama-bpe")).as_ref()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_string_comes_back(text in "(\\PC|[ \\t\\r\\n]|[a-z]{1,12}|[0-9]{1,5}|<\\|im_end\\|>|\u{301}){0,60}") {
        for tokenizer in [qwen2(), llama_bpe()].into_iter().flatten() {
            let ids = tokenizer.encode(&text, Encode::TEXT);
            prop_assert_eq!(String::from_utf8(tokenizer.decode(&ids, true)).unwrap(), text.clone());
            prop_assert!(!ids.iter().any(|&id| tokenizer.is_special(id)));
            let ids = tokenizer.encode(&text, Encode::TEMPLATE);
            prop_assert_eq!(String::from_utf8(tokenizer.decode(&ids, true)).unwrap(), text.clone());
            let (mut stream, mut streamed) = (Detokenizer::default(), String::new());
            for &id in &ids {
                stream.push(tokenizer.token_bytes(id), &mut streamed);
            }
            stream.finish(&mut streamed);
            prop_assert_eq!(streamed, text.clone());
        }
    }
}
