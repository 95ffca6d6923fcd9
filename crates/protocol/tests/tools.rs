//! Tools and the choice between them: what is read, and what is refused by which name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use protocol::{ApiError, CallKind, ChatRequest, CustomGrammar, ToolChoice, ToolKind, parse_chat};
use serde_json::json;

fn chat(fields: &str) -> Result<ChatRequest, ApiError> {
    parse_chat(format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{fields}}}"#).as_bytes())
}

fn param(fields: &str) -> String {
    let e = chat(fields).unwrap_err();
    assert!(e.status == 400 && e.message.len() < 400, "{e}");
    e.param.unwrap()
}

const TWO: &str = r#""tools":[
    {"type":"function","function":{"name":"f","description":"d","strict":true,"parameters":{"type":"object","z":1,"a":2}}},
    {"type":"custom","custom":{"name":"c.1","description":"D","format":{"type":"grammar","grammar":{"syntax":"lark","definition":"start: \"x\""}}}}]"#;

#[test]
fn both_kinds_are_read() {
    let tools = chat(TWO).unwrap().tools;
    assert_eq!((&tools.choice, tools.parallel), (&ToolChoice::Auto, true));
    let [f, c] = &tools.list[..] else { panic!() };
    assert_eq!((f.name.as_str(), f.strict, f.call_kind()), ("f", true, CallKind::Function));
    assert_eq!(f.kind, ToolKind::Function { parameters: Some(json!({"type":"object","z":1,"a":2})) });
    let lark = CustomGrammar::Lark("start: \"x\"".into());
    assert_eq!((c.name.as_str(), &c.kind), ("c.1", &ToolKind::Custom { grammar: Some(lark) }));
    assert!(c.is_allowed && c.call_kind() == CallKind::Custom);
    // The template is told of a function with one text, and of its grammar.
    let shown = &c.template["function"];
    assert_eq!((&shown["name"], &shown["description"]), (&json!("c.1"), &json!("D")));
    assert_eq!(shown["parameters"]["required"], json!(["input"]));
    assert!(shown["parameters"]["properties"]["input"]["description"].as_str().unwrap().ends_with("start: \"x\""));
    let text =
        r#""tools":[{"type":"custom","custom":{"name":"c","format":{"type":"text"}}}],"parallel_tool_calls":false"#;
    let tools = chat(text).unwrap().tools;
    assert_eq!((&tools.list[0].kind, tools.parallel), (&ToolKind::Custom { grammar: None }, false));
}

#[test]
fn choices_are_read() {
    let choice = |c: &str| chat(&format!("{TWO},\"tool_choice\":{c}")).unwrap().tools;
    assert_eq!(choice("\"required\"").choice, ToolChoice::Required);
    assert!(choice("\"none\"").list.is_empty());
    assert_eq!(choice(r#"{"type":"function","function":{"name":"f"}}"#).choice, ToolChoice::Named("f".into()));
    assert_eq!(choice(r#"{"type":"custom","custom":{"name":"c.1"}}"#).choice, ToolChoice::Named("c.1".into()));
    let allowed = choice(
        r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"custom","custom":{"name":"c.1"}}]}}"#,
    );
    assert_eq!(allowed.choice, ToolChoice::Required);
    assert_eq!(allowed.list.iter().map(|t| t.is_allowed).collect::<Vec<_>>(), [false, true]);
    assert!(chat(r#""tools":[],"tool_choice":"auto""#).unwrap().tools.list.is_empty());
}

#[test]
fn what_cannot_be_is_named() {
    let choice = |c: &str| param(&format!("{TWO},\"tool_choice\":{c}"));
    assert_eq!(choice("\"always\""), "tool_choice");
    assert_eq!(choice("7"), "tool_choice");
    assert_eq!(choice(r#"{"type":"function","function":{"name":"g"}}"#), "tool_choice");
    assert_eq!(choice(r#"{"type":"function"}"#), "tool_choice.function");
    assert_eq!(choice(r#"{"type":"mcp"}"#), "tool_choice.type");
    assert_eq!(
        choice(r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}}"#),
        "tool_choice.allowed_tools.tools"
    );
    assert_eq!(
        choice(r#"{"type":"allowed_tools","allowed_tools":{"mode":"must","tools":[]}}"#),
        "tool_choice.allowed_tools.mode"
    );
    assert_eq!(param(r#""tool_choice":"required""#), "tool_choice");
    let named = |name: &str| param(&format!(r#""tools":[{{"function":{{"name":"{name}"}}}}]"#));
    for name in ["", "a b", "é", "a\\\"b", &"n".repeat(65), &"n".repeat(100_000)] {
        assert_eq!(named(name), "tools[0].function.name");
    }
    assert_eq!(param(r#""tools":[{"function":{"name":"a"}},{"function":{"name":"a"}}]"#), "tools");
    assert_eq!(param(r#""tools":[{"function":{"name":"a","parameters":[]}}]"#), "tools[0].function.parameters");
    assert_eq!(param(r#""tools":[{"function":{"name":"a","strict":1}}]"#), "tools[0].function.strict");
    let many: Vec<String> = (0..10_000).map(|i| format!(r#"{{"function":{{"name":"f{i}"}}}}"#)).collect();
    assert_eq!(param(&format!(r#""tools":[{}]"#, many.join(","))), "tools");
    let grammar = |g: &str| param(&format!(r#""tools":[{{"type":"custom","custom":{{"name":"c","format":{g}}}}}]"#));
    assert_eq!(grammar(r#"{"type":"bnf"}"#), "tools[0].custom.format.type");
    let format = r#"{"type":"grammar","grammar":{"syntax":"bnf","definition":""}}"#;
    assert_eq!(grammar(format), "tools[0].custom.format.grammar.syntax");
}

#[test]
fn calls_of_custom_tools_come_back_as_what_the_template_shows() {
    let body = r#"{"model":"m","messages":[
        {"role":"assistant","tool_calls":[{"id":"a","type":"custom","custom":{"name":"c","input":"x\n\"y\""}}]},
        {"role":"tool","tool_call_id":"a","content":"done"}]}"#;
    let call = parse_chat(body.as_bytes()).unwrap().messages[0].tool_calls[0].clone();
    assert_eq!((call.name.as_str(), call.arguments.as_str()), ("c", r#"{"input":"x\n\"y\""}"#));
}
