//! Grammars over a vocabulary small enough to read: all bytes, a few merges, two special tokens.

use std::sync::Arc;

use base::TokenId;
use base::vocab::TokenKind;

use super::{GrammarEngine, GrammarSpec, Matcher};
use crate::tokenizer::tests::byte_level;
use crate::{Encode, TextError, Tokenizer};

const END: TokenId = 256;
const SPECIAL: TokenId = 257;

fn tokenizer() -> Arc<Tokenizer> {
    let n = TokenKind::Normal;
    let special = [("<|im_end|>", TokenKind::Control), ("<|x|>", TokenKind::Control)];
    let words = ["na", "me", "name", "{\"", "\":", "ab", "abc"];
    let more: Vec<_> = special.into_iter().chain(words.map(|w| (w, n))).collect();
    let merges = ["n a", "m e", "na me", "{ \"", "\" :", "a b", "ab c"];
    Arc::new(Tokenizer::new(&byte_level("gpt-2", &more, &merges)).unwrap())
}

fn engine() -> GrammarEngine {
    GrammarEngine::new(tokenizer()).unwrap()
}

fn allowed(m: &mut Matcher) -> Vec<TokenId> {
    let mut mask = [0u32; 9];
    let any = m.allow(&mut mask);
    let ids: Vec<TokenId> = (0..265).filter(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1).collect();
    assert_eq!(any, !ids.is_empty());
    ids
}

fn texts(m: &mut Matcher) -> Vec<String> {
    let t = tokenizer();
    let ids = allowed(m);
    ids.iter().map(|&id| if t.is_eog(id) { "END".into() } else { t.token_text(id).to_owned() }).collect()
}

fn say(m: &mut Matcher, token: &str) {
    m.accept(tokenizer().token_of(token).unwrap());
}

#[test]
fn every_spelling_is_allowed_and_the_end_only_where_it_may_be() {
    let grammar = engine().compile(&GrammarSpec::Regex("abc?")).unwrap();
    let mut m = grammar.matcher();
    assert_eq!(texts(&mut m), ["a", "ab", "abc"]);
    let mut whole = m.copy();
    say(&mut whole, "abc");
    assert_eq!(allowed(&mut whole), [0; 0], "nothing can follow, so the answer ends");
    assert!(!whole.is_failed());
    say(&mut m, "ab");
    assert_eq!(texts(&mut m), ["c", "END"]);
    let mut copy = m.copy();
    say(&mut m, "c");
    assert_eq!(texts(&mut m), [""; 0]);
    assert_eq!(texts(&mut copy), ["c", "END"], "a copy goes its own way");
}

#[test]
fn forced_tokens_are_the_tokenizers_own_and_wait_for_what_may_join_them() {
    let schema = r#"{"type":"object","properties":{"name":{"type":"boolean"}},"required":["name"],"additionalProperties":false}"#;
    let grammar = engine().compile(&GrammarSpec::JsonSchema(schema)).unwrap();
    let mut m = grammar.matcher();
    let mut forced = Vec::new();
    m.force(&mut forced);
    assert_eq!(forced, [0; 0], "what stands before an answer is unknown");
    say(&mut m, "{\"");
    m.force(&mut forced);
    // A colon may follow the quote, and `":` is a token: the quote waits.
    assert_eq!(forced, [tokenizer().token_of("name").unwrap()]);
    assert_eq!(texts(&mut m), ["\"", "\":"]);
    // Spelled otherwise than the tokenizer would, the rest is left to the model.
    let mut odd = grammar.matcher();
    let mut forced = Vec::new();
    for token in ["{\"", "n"] {
        say(&mut odd, token);
    }
    odd.force(&mut forced);
    assert_eq!(forced, [0; 0]);
    assert_eq!(texts(&mut odd), ["a"]);
}

#[test]
fn special_tokens_never_come() {
    let engine = engine();
    for spec in
        [GrammarSpec::Regex("(?s:.*)"), GrammarSpec::JsonSchema("{}"), GrammarSpec::Lark("start: /.*/ | <[257]>")]
    {
        let ids = allowed(&mut engine.compile(&spec).unwrap().matcher());
        assert!(!ids.contains(&SPECIAL), "{spec:?}");
        assert!(!ids.contains(&0xff), "a byte of no UTF-8");
    }
    let mut any = engine.compile(&GrammarSpec::Regex("(?s:.*)")).unwrap().matcher();
    assert!(allowed(&mut any).contains(&END));
}

#[test]
fn a_token_that_was_not_allowed_ends_the_answer_as_failed() {
    let mut m = engine().compile(&GrammarSpec::JsonObject).unwrap().matcher();
    say(&mut m, "a");
    assert_eq!(allowed(&mut m), [0; 0]);
    assert!(m.is_failed());
}

#[test]
fn blank_space_is_bounded() {
    let mut m = engine().compile(&GrammarSpec::JsonObject).unwrap().matcher();
    say(&mut m, "{");
    let t = tokenizer();
    let space = t.encode("\n", Encode::TEXT)[0];
    m.accept(space);
    m.accept(space);
    assert!(!allowed(&mut m).contains(&space), "two line breaks are enough");
}

#[test]
fn errors_name_the_place_in_the_schema() {
    let engine = engine();
    let place = |schema: &str| match engine.compile(&GrammarSpec::JsonSchema(schema)) {
        Err(TextError::Grammar { path, reason }) => {
            assert!(reason.contains(&path), "{reason}");
            path
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(place(r#"{"properties":{"a":{"not":{}},"not":{}}}"#), "properties.a.not");
    assert_eq!(place(r#"{"items":[{"type":"array","uniqueItems":true}]}"#), "items.0.uniqueItems");
    assert_eq!(place(r#"{"anyOf":[{},{"type":"string","format":"iri"}]}"#), "anyOf.1.format");
    assert_eq!(place(r#"{"$defs":{"x":{"oneOf":[{"minLength":1},{"minLength":2}]}},"$ref":"$defs"}"#), "");
    assert_eq!(place(r#"{"items":{"oneOf":[{"minLength":1},{"minLength":2}]}}"#), "items.oneOf");
    let free = r#"{"type":"string","format":"int32","x-guidance":{"lenient":true}}"#;
    engine.compile(&GrammarSpec::JsonSchema(free)).expect("formats that JSON Schema does not define mean nothing");
    assert_eq!(place(r#"{"not":{},"x-guidance":{"lenient":true}}"#), "not", "a client cannot loosen the compiler");
}
