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

/// Bytes alone, the tag as one token, and one token that ends an answer.
fn tiny() -> (Arc<Tokenizer>, GrammarEngine) {
    let bytes: Vec<String> = (0..=255u8).map(|b| walk::byte_char(b).to_string()).collect();
    let spec = VocabSpec {
        model: VocabModel::Bpe,
        pre: "gpt-2".to_owned(),
        tokens: bytes.iter().map(String::as_str).chain(["</s>", "<unk>", "<tool_call>"]).collect(),
        kinds: [vec![TokenKind::Normal; 256], vec![TokenKind::Control, TokenKind::Unknown, TokenKind::UserDefined]]
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

const FORMATS: [ToolFormat; 4] = [ToolFormat::Hermes, ToolFormat::Llama3, ToolFormat::Mistral, ToolFormat::Generic];

/// A call as the grammar writes it.
fn written(format: &ToolFormat, calls: &[(&str, &str)]) -> String {
    let key = if *format == ToolFormat::Llama3 { "parameters" } else { "arguments" };
    let calls: Vec<String> =
        calls.iter().map(|(name, input)| format!("{{\"name\": \"{name}\", \"{key}\": {input}}}")).collect();
    match format {
        ToolFormat::Hermes => {
            calls.iter().map(|c| format!("<tool_call>\n{c}\n</tool_call>")).collect::<Vec<_>>().join("\n")
        }
        ToolFormat::Llama3 => calls.join("; "),
        ToolFormat::Mistral => format!("[{}]", calls.join(", ")),
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
        if format == ToolFormat::Hermes {
            assert!(case.takes(&format!("Let me see.\n{good}\n{good}")));
            assert!(!case.takes(&format!("Let me see.\n{bad}")) && !case.takes(&format!("{good}\n{bad}")));
            assert!(!case.takes("<tool_call>"), "a call that is begun is made");
        }
    }
    let plan = ToolFormat::Hermes.plan(&[weather(false)], Calls::Auto, true, None).unwrap();
    assert_eq!(plan.grammar, None, "nothing to follow");
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
    let call = |name, input: &str| written(&ToolFormat::Hermes, &[(name, input)]);
    let two = [
        call("get_weather", r#"{"city": "Ulm", "days": 2}"#),
        call("tool_3", r#"{"path": "src/main.rs", "n": 12, "list": ["a b", "c"]}"#),
    ]
    .join("\n");
    for (name, calls, answer) in [
        ("auto, text", Calls::Auto, prose.repeat(10)),
        ("auto, text and calls", Calls::Auto, format!("{prose}{two}")),
        ("required", Calls::Required, two),
    ] {
        let plan = ToolFormat::Hermes.plan(&tools, calls, true, None).unwrap();
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
