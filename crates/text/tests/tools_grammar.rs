//! The grammars of tool calls: calls that are right are allowed, in the model's form; others are not; and what a model without
//! sense says under them is read as calls. With the data, also on a real vocabulary, with the time of masks:
//! `cargo test -p text --release --test tools_grammar -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
#[path = "support/walk.rs"]
mod walk;

use std::sync::Arc;

use base::vocab::{FimTokens, TokenKind, VocabModel, VocabSpec};
use serde_json::{Value, json};
use text::{
    Calls, Grammar, GrammarEngine, GrammarSpec, TextError, TextGrammar, Tokenizer, ToolFormat, ToolInput, ToolPart,
    ToolSpec,
};
use walk::{Walker, quantile};

const TAG: u32 = 258;
/// Tokens that reach over the beginning or the end of the tag, as they are written in a vocabulary (Ċ is a line break).
const ACROSS: [&str; 8] = [">Ċ", ">Ċ{", ">x", "x<tool_", "call>Ċ", "call>\"", "<tool_call>Ċ{\"", "<<tool_call>Ċ<"];

/// Bytes, the tag as one token, tokens across it, and one token that ends an answer.
fn tiny() -> (Arc<Tokenizer>, GrammarEngine) {
    let bytes: Vec<String> = (0..=255u8).map(|b| walk::byte_char(b).to_string()).collect();
    let spec = VocabSpec {
        model: VocabModel::Bpe,
        pre: "gpt-2".to_owned(),
        tokens: bytes.iter().map(String::as_str).chain(["</s>", "<unk>", "<tool_call>"]).chain(ACROSS).collect(),
        kinds: [
            vec![TokenKind::Normal; 256],
            vec![TokenKind::Control, TokenKind::Unknown, TokenKind::UserDefined],
            vec![TokenKind::Normal; ACROSS.len()],
        ]
        .concat(),
        scores: vec![],
        merges: [].into_iter().collect(),
        bos: None,
        eos: Some(256),
        eot: None,
        unk: Some(257),
        pad: None,
        fim: FimTokens::default(),
        add_bos: false,
        add_eos: false,
        add_space_prefix: false,
        chat_template: None,
    };
    let tokenizer = Arc::new(Tokenizer::new(&spec).unwrap());
    let engine = GrammarEngine::new(Arc::clone(&tokenizer)).unwrap();
    (tokenizer, engine)
}

fn tool(name: &str, schema: Option<Value>, strict: bool) -> ToolSpec {
    ToolSpec { name: name.to_owned(), input: ToolInput::Json(schema), strict, is_allowed: true }
}

/// Bounded, so that noise comes to an end.
fn weather(strict: bool) -> ToolSpec {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string", "maxLength": 4 }, "days": { "$ref": "#/$defs/n" } },
        "required": ["city", "days"], "additionalProperties": false, "$defs": { "n": { "enum": [1, 2, 3] } } });
    tool("get_weather", Some(schema), strict)
}

fn is_weather(arguments: &str) -> bool {
    let Ok(Value::Object(o)) = serde_json::from_str(arguments) else { return false };
    o.len() == 2
        && o["city"].as_str().is_some_and(|c| c.chars().count() <= 4)
        && (1..=3).contains(&o["days"].as_i64().unwrap())
}

fn time() -> ToolSpec {
    tool("time", Some(json!({ "properties": { "utc": { "type": "boolean" } }, "additionalProperties": false })), false)
}

const FORMATS: [ToolFormat; 6] = [
    ToolFormat::Hermes,
    ToolFormat::Xml,
    ToolFormat::Llama3,
    ToolFormat::Mistral,
    ToolFormat::MistralNamed,
    ToolFormat::Generic,
];

/// A call as Qwen3-Coder's template writes it.
fn as_xml(name: &str, input: &str) -> String {
    let mut out = format!("<function={name}>\n");
    match serde_json::from_str(input) {
        Ok(Value::Object(o)) => o.iter().for_each(|(key, v)| {
            let bare = v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            out.push_str(&format!("<parameter={key}>\n{bare}\n</parameter>\n"));
        }),
        _ => out.push_str(input),
    }
    out + "</function>"
}

/// A call as the grammar writes it.
fn written(format: &ToolFormat, calls: &[(&str, &str)]) -> String {
    let key = if *format == ToolFormat::Llama3 { "parameters" } else { "arguments" };
    let one = |(name, input): &(&str, &str)| match format {
        ToolFormat::Xml => as_xml(name, input),
        _ => format!("{{\"name\": \"{name}\", \"{key}\": {input}}}"),
    };
    let calls: Vec<String> = calls.iter().map(one).collect();
    match format {
        ToolFormat::Hermes | ToolFormat::Xml => {
            calls.iter().map(|c| format!("<tool_call>\n{c}\n</tool_call>")).collect::<Vec<_>>().join("\n")
        }
        ToolFormat::Llama3 => calls.join("; "),
        ToolFormat::Mistral | ToolFormat::MistralNamed => format!("[{}]", calls.join(", ")),
        _ => calls.join("\n"),
    }
}

struct Case {
    tokenizer: Arc<Tokenizer>,
    grammar: Grammar,
}

impl Case {
    fn new(format: &ToolFormat, tools: &[ToolSpec], calls: Calls, parallel: bool) -> Self {
        let (tokenizer, engine) = tiny();
        let plan = format.plan(tools, calls, parallel, None).unwrap();
        let grammar = engine.compile(&plan.grammar.expect("a grammar").spec()).unwrap();
        Self { tokenizer, grammar }
    }

    fn takes(&self, text: &str) -> bool {
        let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
        let took = Walker::new(&self.tokenizer).accepts(&mut self.grammar.matcher(), &bytes);
        // The same with the tag as one token.
        if let Some(rest) = text.strip_prefix("<tool_call>") {
            let tokens: Vec<u32> = [TAG].into_iter().chain(rest.bytes().map(u32::from)).collect();
            assert_eq!(Walker::new(&self.tokenizer).accepts(&mut self.grammar.matcher(), &tokens), took, "{text}");
        }
        took
    }
}

#[test]
fn a_required_call_is_made_and_is_right() {
    let tools = [weather(false), time()];
    for format in FORMATS {
        let case = Case::new(&format, &tools, Calls::Required, true);
        let (good, now) = (("get_weather", r#"{"city": "Ulm", "days": 2}"#), ("time", "{\"utc\": true}"));
        assert!(case.takes(&written(&format, &[good])), "{format:?}");
        assert!(case.takes(&written(&format, &[now, good, now])), "{format:?}");
        for bad in [
            "",
            "Hello",
            &written(&format, &[("get_weather", r#"{"city": "Ulm"}"#)]),
            &written(&format, &[("get_weather", r#"{"city": "Ulm", "days": 4}"#)]),
            &written(&format, &[("time", r#"{"city": "Ulm", "days": 2}"#)]),
            &written(&format, &[("other", "{}")]),
            &written(&format, &[("time", "[]")]),
        ] {
            assert!(!case.takes(bad), "{format:?}: {bad}");
        }
        let one = Case::new(&format, &tools, Calls::Required, false);
        assert!(one.takes(&written(&format, &[now])) && !one.takes(&written(&format, &[now, now])));
        let named = Case::new(&format, &tools, Calls::Named(1), true);
        assert!(named.takes(&written(&format, &[now])) && !named.takes(&written(&format, &[good])));
        assert!(!named.takes(&written(&format, &[now, now])), "a named tool is called once");
    }
}

#[test]
fn a_tool_that_is_not_allowed_is_not_called() {
    let mut barred = time();
    barred.is_allowed = false;
    let case = Case::new(&ToolFormat::Hermes, &[barred, weather(true)], Calls::Required, true);
    assert!(!case.takes(&written(&ToolFormat::Hermes, &[("time", "{}")])));
    assert!(case.takes(&written(&ToolFormat::Hermes, &[("get_weather", r#"{"city": "", "days": 1}"#)])));
}

#[test]
fn a_strict_tool_leaves_text_free_and_binds_the_call() {
    let tools = [weather(true), time()];
    for format in FORMATS {
        let case = Case::new(&format, &tools, Calls::Auto, true);
        let good = written(&format, &[("get_weather", r#"{"city": "Ulm", "days": 2}"#)]);
        let bad = written(&format, &[("get_weather", r#"{"city": "Ulm", "days": 9}"#)]);
        for text in ["", "It rains.\n\n<b>", "é<tool_cal"] {
            assert!(case.takes(text), "{format:?}: {text:?}");
        }
        assert!(case.takes(&good) && !case.takes(&bad), "{format:?}");
        // Not strict: any object.
        assert!(case.takes(&written(&format, &[("time", r#"{"utc": "x", "y": [1]}"#)])), "{format:?}");
        if matches!(format, ToolFormat::Hermes | ToolFormat::Xml) {
            assert!(case.takes(&format!("Let me see.\n{good}\n{good}")));
            assert!(!case.takes(&format!("Let me see.\n{bad}")) && !case.takes(&format!("{good}\n{bad}")));
            assert!(!case.takes("<tool_call>"), "a call that is begun is made");
        }
    }
    let plan = ToolFormat::Hermes.plan(&[weather(false)], Calls::Auto, true, None).unwrap();
    assert_eq!(plan.grammar, None, "nothing to follow");
}

/// Differential: a token is allowed where its bytes are, one by one, and leaves the same behind.
#[test]
fn tokens_across_the_tag_are_allowed_as_their_bytes_are() {
    let Case { tokenizer, grammar } = Case::new(&ToolFormat::Hermes, &[weather(true), time()], Calls::Auto, true);
    let mut w = Walker::new(&tokenizer);
    let call = written(&ToolFormat::Hermes, &[("time", "{\"utc\": true}")]);
    let (mut n_allowed, mut n_barred) = (0, 0);
    for text in [format!("a<tool_<tool_call {call}\n{call}"), "<<tool_call<tool_call".to_owned(), call] {
        let mut matcher = grammar.matcher();
        for byte in text.bytes() {
            for wide in TAG..TAG + 1 + ACROSS.len() as u32 {
                assert!(w.allow(&mut matcher));
                let is_allowed = w.has(wide);
                let (mut narrow, bytes) = (matcher.copy(), tokenizer.token_bytes(wide).to_vec());
                let is_possible = bytes.iter().all(|b| {
                    let is_allowed = w.allow(&mut narrow) && w.has(u32::from(*b));
                    narrow.accept(u32::from(*b));
                    is_allowed
                });
                assert_eq!(is_allowed, is_possible, "{:?} in {text}", String::from_utf8_lossy(&bytes));
                (n_allowed, n_barred) = (n_allowed + u32::from(is_allowed), n_barred + u32::from(!is_allowed));
                if is_allowed {
                    let mut taken = matcher.copy();
                    taken.accept(wide);
                    let left = [taken, narrow].map(|mut m| (w.allow(&mut m), w.mask.clone()));
                    assert_eq!(left[0], left[1], "after {:?} in {text}", String::from_utf8_lossy(&bytes));
                }
            }
            assert!(w.allow(&mut matcher) && w.has(u32::from(byte)), "{text}");
            matcher.accept(u32::from(byte));
        }
    }
    assert!(n_allowed > 200 && n_barred > 200, "{n_allowed} {n_barred}");
}

#[test]
fn an_answer_of_a_given_shape_or_a_call() {
    let (tokenizer, engine) = tiny();
    let answer = GrammarSpec::JsonSchema(
        r#"{"type":"object","properties":{"a":{"type":"null"}},"required":["a"],"additionalProperties":false}"#,
    );
    for format in FORMATS {
        let plan = format.plan(&[weather(false)], Calls::Auto, true, Some(&answer)).unwrap();
        let case =
            Case { grammar: engine.compile(&plan.grammar.unwrap().spec()).unwrap(), tokenizer: Arc::clone(&tokenizer) };
        assert!(case.takes("{\"a\": null}") && !case.takes("{\"b\": null}") && !case.takes("text"), "{format:?}");
        // Without marks a call could not be told from the answer.
        let call = written(&format, &[("get_weather", "{\"x\": 1}")]);
        let call = if call.starts_with('{') { format!("<tool_call>\n{call}\n</tool_call>") } else { call };
        assert!(case.takes(&call), "{format:?}");
        // Of a strict tool a call in the form that was checked counts as it is; an answer that looks like one counts if it fits.
        let tools = [weather(true)];
        let plan = format.plan(&tools, Calls::Auto, true, Some(&answer)).unwrap();
        let is_call = |answer: &str| {
            let (mut parser, mut parts) = (plan.parser(&tools), Vec::new());
            parser.push(answer, &mut parts);
            parser.n_calls() > 0
        };
        assert!(is_call(&call), "{format:?}");
        if call.starts_with("<tool_call>") {
            let like = |arguments: &str| format!("{{\"name\": \"get_weather\", \"arguments\": {arguments}}}");
            assert!(!is_call(&like("{\"x\": 1}")), "{format:?}");
            assert!(is_call(&like("{\"city\": \"Ulm\", \"days\": 2}")), "{format:?}");
        }
    }
}

#[test]
fn a_forced_tool_that_takes_text_is_the_whole_answer() {
    let patch =
        |grammar| ToolSpec { name: "patch".into(), input: ToolInput::Text(grammar), strict: false, is_allowed: true };
    let (tokenizer, engine) = tiny();
    let case = |tool: ToolSpec, calls| {
        let plan = ToolFormat::Hermes.plan(&[tool], calls, true, None).unwrap();
        let grammar = engine.compile(&plan.grammar.unwrap().spec()).unwrap();
        (plan.format, Case { grammar, tokenizer: Arc::clone(&tokenizer) })
    };
    let lark = "start: begin line+\nbegin: \"*** Begin\" LF\nline: /[a-z]+/ LF\n%import common.LF";
    for calls in [Calls::Named(0), Calls::Required] {
        let (format, case) = case(patch(Some(TextGrammar::Lark(lark.into()))), calls);
        assert_eq!(format, ToolFormat::Raw { name: "patch".into() });
        assert!(case.takes("*** Begin\nab\ncd\n") && !case.takes("*** Begin\n") && !case.takes("<tool_call>"));
    }
    let (_, numbers) = case(patch(Some(TextGrammar::Regex("[0-9]{2}".into()))), Calls::Named(0));
    assert!(numbers.takes("42") && !numbers.takes("4") && !numbers.takes("421"));
    // Without a grammar it is written as a function.
    let (format, case) = case(patch(None), Calls::Named(0));
    assert_eq!(format, ToolFormat::Hermes);
    assert!(case.takes(&written(&format, &[("patch", "{\"input\": \"x\"}")])));
}

#[test]
fn noise_is_read_as_calls_that_are_right() {
    let tools = [weather(true)];
    let (tokenizer, engine) = tiny();
    for format in FORMATS {
        let plan = format.plan(&tools, Calls::Required, false, None).unwrap();
        let grammar = engine.compile(&plan.grammar.as_ref().unwrap().spec()).unwrap();
        for seed in 0..20 {
            let said = Walker::new(&tokenizer).babble(&mut grammar.matcher(), seed, 400).expect("comes to an end");
            let (mut parser, mut parts) = (plan.parser(&tools), Vec::new());
            parser.push(std::str::from_utf8(&said).unwrap(), &mut parts);
            parser.finish(&mut parts);
            let [ToolPart::Begin { name }, ToolPart::Arguments(arguments), ToolPart::End] = &parts[..] else {
                panic!("{format:?}: {parts:?}")
            };
            assert!(name == "get_weather" && is_weather(arguments), "{arguments}");
        }
    }
}

/// Under the grammar of bare values every answer has the types, words and lengths that the schema asks for, as the parser reads it;
/// what bare values cannot be held to is written as JSON between the same tags.
#[test]
fn bare_values_are_held_to_their_schema() {
    let schema = json!({ "type": "object", "properties": {
        "text": { "type": "string", "minLength": 1, "maxLength": 5 }, "word": { "enum": ["a \"b\"", "c\\"] }, "flag": { "type": "boolean" },
        "n": { "$ref": "#/$defs/n" }, "list": { "type": "array", "items": { "enum": ["x", null] }, "maxItems": 2 } },
        "required": ["text", "word", "n"], "additionalProperties": false, "$defs": { "n": { "enum": [1, 22] } } });
    let pattern = json!({ "type": "object", "properties": { "text": { "type": "string", "pattern": "^[ab]{1,3}$" } },
        "required": ["text"], "additionalProperties": false });
    let (tokenizer, engine) = tiny();
    let mut seen = std::collections::BTreeSet::new();
    for (is_bare, schema) in [(true, schema), (false, pattern)] {
        let tools = [tool("f", Some(schema), true)];
        for calls in [Calls::Required, Calls::Named(0)] {
            let plan = ToolFormat::Xml.plan(&tools, calls, false, None).unwrap();
            let grammar = engine.compile(&plan.grammar.as_ref().unwrap().spec()).unwrap();
            for seed in 0..40 {
                let said = Walker::new(&tokenizer).babble(&mut grammar.matcher(), seed, 2000).expect("comes to an end");
                let said = String::from_utf8(said).unwrap();
                assert_eq!(said.contains("<function=f>"), is_bare, "{said}");
                let (mut parser, mut parts) = (plan.parser(&tools), Vec::new());
                parser.push(&said, &mut parts);
                parser.finish(&mut parts);
                let [ToolPart::Begin { .. }, ToolPart::Arguments(arguments), ToolPart::End] = &parts[..] else {
                    panic!("{said}: {parts:?}")
                };
                let o: Value = serde_json::from_str(arguments).unwrap_or_else(|e| panic!("{e}: {arguments} of {said}"));
                let text = o["text"].as_str().unwrap();
                let is_in = |key: &str, values: Value| values.as_array().unwrap().contains(&o[key]);
                if is_bare {
                    assert!((1..=5).contains(&text.chars().count()), "{said}");
                    assert!(
                        is_in("word", json!(["a \"b\"", "c\\"])) && is_in("n", json!([1, 22])),
                        "{arguments} of {said}"
                    );
                    assert!(o["flag"].is_null() || o["flag"].is_boolean());
                    let items = o["list"].as_array().cloned().unwrap_or_default();
                    assert!(items.len() <= 2 && items.iter().all(|i| i.is_null() || i == "x"), "{arguments}");
                } else {
                    assert!((1..=3).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a' | b'b')), "{said}");
                }
                seen.extend(o.as_object().unwrap().keys().cloned());
            }
        }
    }
    assert_eq!(seen.len(), 5, "optional ones come, too: {seen:?}");
}

#[test]
fn schemas_of_strangers_are_bounded() {
    let plan = |tools: &[ToolSpec]| ToolFormat::Hermes.plan(tools, Calls::Required, true, None);
    let limit = |tools: &[ToolSpec]| match plan(tools) {
        Err((at, TextError::Limit { limit, .. })) => (at, limit),
        other => panic!("{other:?}"),
    };
    let deep = (0..40).fold(json!({}), |s, _| json!({ "type": "object", "properties": { "a": s } }));
    assert_eq!(limit(&[time(), tool("deep", Some(deep), false)]), (1, "GRAMMAR_DEPTH_MAX"));
    let wide = |n: usize| {
        let properties: serde_json::Map<_, _> = (0..n).map(|i| (format!("p{i}"), json!({}))).collect();
        Some(json!({ "type": "object", "properties": properties }))
    };
    let many: Vec<ToolSpec> = (0..20).map(|i| tool(&format!("t{i}"), wide(60), false)).collect();
    assert_eq!(limit(&many), (17, "GRAMMAR_PROPERTIES_MAX"), "the limit is for all tools together");
    let long = json!({ "type": "object", "description": "x".repeat(300_000) });
    assert_eq!(limit(&[tool("long", Some(long), false)]), (0, "GRAMMAR_BYTES_MAX"));
    let list = plan(&[tool("list", Some(json!({ "type": "array" })), false)]);
    assert!(matches!(list, Err((0, TextError::Grammar { .. }))), "{list:?}");
    // Names and schemas cannot break out of the text that is written around them.
    let odd = json!({ "type": "object", "description": "\"\n\nstart: /.*/\n%ignore /x/ `'\\", "properties": { "\"\n%json {}": {} } });
    let (_, engine) = tiny();
    engine.compile(&plan(&[tool("odd", Some(odd), false)]).unwrap().grammar.unwrap().spec()).unwrap();
}

/// On the default model's vocabulary: ten tools, the time of masks in free text and in calls.
#[test]
fn masks_are_quick_on_a_real_vocabulary() {
    let Some(spec) = common::vocab("qwen2") else { return };
    let tokenizer = Arc::new(Tokenizer::new(&spec).unwrap());
    let engine = GrammarEngine::new(Arc::clone(&tokenizer)).unwrap();
    let mut tools: Vec<ToolSpec> = (0..9)
        .map(|i| {
            let properties = json!({ "path": { "type": "string", "description": "where" }, "n": { "type": "integer", "minimum": 0 },
                "kind": { "enum": ["a", "b", "c"] }, "list": { "type": "array", "items": { "type": "string" } } });
            tool(&format!("tool_{i}"), Some(json!({ "type": "object", "properties": properties, "required": ["path"] })), true)
        })
        .collect();
    tools.push(weather(true));
    let prose = "I'll look at the weather in Ulm first.\n\n```rust\nfn main() {\n    println!(\"{}\", 1 < 2);\n}\n```\nDann sehen wir weiter: 天気.\n";
    let two = |format| {
        let weather = ("get_weather", r#"{"city": "Ulm", "days": 2}"#);
        written(format, &[weather, ("tool_3", r#"{"path": "src/main.rs", "n": 12, "list": ["a b", "c"]}"#)])
    };
    let long = json!({ "path": prose.repeat(5) }).to_string();
    for (format, name, calls, answer) in [
        (ToolFormat::Hermes, "auto, text", Calls::Auto, prose.repeat(10)),
        (ToolFormat::Hermes, "auto, text and calls", Calls::Auto, format!("{prose}{}", two(&ToolFormat::Hermes))),
        (ToolFormat::Hermes, "required", Calls::Required, two(&ToolFormat::Hermes)),
        (ToolFormat::Xml, "xml, auto, text and calls", Calls::Auto, format!("{prose}{}", two(&ToolFormat::Xml))),
        (ToolFormat::Xml, "xml, required", Calls::Required, two(&ToolFormat::Xml)),
        (
            ToolFormat::Xml,
            "xml, required, a long text",
            Calls::Required,
            written(&ToolFormat::Xml, &[("tool_3", &long)]),
        ),
    ] {
        let plan = format.plan(&tools, calls, true, None).unwrap();
        let start = std::time::Instant::now();
        let grammar = engine.compile(&plan.grammar.unwrap().spec()).unwrap();
        let compile_ms = start.elapsed().as_secs_f64() * 1e3;
        let mut w = Walker::new(&tokenizer);
        let mut matcher = grammar.matcher();
        let tokens = w.encode(&answer);
        assert!(w.accepts(&mut matcher, &tokens), "{name}");
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|q| quantile(&mut w.mask_ns, q) as f64 / 1e3);
        println!(
            "{name}: compiled in {compile_ms:.1} ms; {} masks, us: p50 {p50:.1} p99 {p99:.1} max {max:.1}",
            w.mask_ns.len()
        );
    }
}
