//! Calls in every form, whole and in pieces, and what is no call.

use proptest::prelude::*;

use super::*;
use crate::tools::parser::ToolPart::{Arguments, Begin, End, Text};

fn tool(name: &str, input: ToolInput) -> ToolSpec {
    ToolSpec { name: name.to_owned(), input, strict: false, is_allowed: true }
}

fn tools() -> Vec<ToolSpec> {
    let mut barred = tool("barred", ToolInput::Json(None));
    barred.is_allowed = false;
    vec![
        tool("f", ToolInput::Json(None)),
        tool("get.x-1", ToolInput::Json(None)),
        tool("patch", ToolInput::Text(None)),
        barred,
    ]
}

/// Parts of an answer that comes in these pieces, merged where the cut between pieces made two of one.
pub(super) fn read_with<'a>(mut parser: ToolParser, pieces: impl IntoIterator<Item = &'a str>) -> Vec<ToolPart> {
    let mut parts = Vec::new();
    pieces.into_iter().for_each(|p| parser.push(p, &mut parts));
    parser.finish(&mut parts);
    let mut merged: Vec<ToolPart> = Vec::new();
    for part in parts {
        match (merged.last_mut(), part) {
            (Some(Text(last)), Text(more)) | (Some(Arguments(last)), Arguments(more)) => last.push_str(&more),
            (_, part) => merged.push(part),
        }
    }
    merged
}

/// Reads whole, and checks that every cut into two, and into single characters, gives the same.
fn read_as(format: &ToolFormat, answer: &str) -> Vec<ToolPart> {
    let parser = || ToolParser::new(format, &tools());
    let whole = read_with(parser(), [answer]);
    for (at, _) in answer.char_indices() {
        let (a, b) = answer.split_at(at);
        assert_eq!(read_with(parser(), [a, b]), whole, "cut at {at}: {answer}");
    }
    let chars: Vec<String> = answer.chars().map(String::from).collect();
    assert_eq!(read_with(parser(), chars.iter().map(String::as_str)), whole, "in characters: {answer}");
    whole
}

fn read(answer: &str) -> Vec<ToolPart> {
    read_as(&ToolFormat::Hermes, answer)
}

pub(super) fn text(text: &str) -> ToolPart {
    Text(text.to_owned())
}

pub(super) fn call(name: &str, arguments: &str) -> [ToolPart; 3] {
    [Begin { name: name.to_owned() }, Arguments(arguments.to_owned()), End]
}

pub(super) fn calls<const N: usize>(calls: [[ToolPart; 3]; N]) -> Vec<ToolPart> {
    calls.concat()
}

#[test]
fn each_form_is_read() {
    let one = || calls([call("f", "{\"a\": [1, {\"b\": null}]}")]);
    let object = "{\"name\": \"f\", \"arguments\": {\"a\": [1, {\"b\": null}]}}";
    for answer in [
        format!("<tool_call>\n{object}\n</tool_call>"),
        format!("\n<tool_call>{object}</tool_call>\n"),
        format!("<tool_call>\n{object}"),
        format!("<tools>\n{object}\n</tools>"),
        format!("<function_call>{object}</function_call>"),
        format!("```json\n{object}\n```"),
        format!("```\n{object}\n```\n"),
        object.to_owned(),
        format!("\n {object}\n"),
        format!("[{object}]"),
        object.replace("arguments", "parameters"),
        object.replacen('{', "{\"type\": \"function\", \"id\": 7, ", 1),
        "{\"arguments\": {\"a\": [1, {\"b\": null}]}, \"name\": \"f\"}".to_owned(),
        "{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": [1, {\\\"b\\\": null}]}\"}".to_owned(),
    ] {
        assert_eq!(read(&answer), one(), "{answer}");
    }
    for (format, answer) in [
        (ToolFormat::Mistral, format!("[TOOL_CALLS][{object}]")),
        (ToolFormat::Mistral, format!("[TOOL_CALLS] {object}")),
        (ToolFormat::Mistral, format!("[{object}]")),
        (ToolFormat::Llama3, format!("<|python_tag|>{object}")),
        (ToolFormat::Llama3, object.to_owned()),
        (ToolFormat::Generic, format!("[TOOL_CALLS][{object}]")),
    ] {
        assert_eq!(read_as(&format, &answer), one(), "{answer}");
    }
}

#[test]
fn several_calls_and_text_around_them() {
    let two = || calls([call("f", "{}"), call("get.x-1", "{\"i\":1}")]);
    let (a, b) = (r#"{"name":"f","arguments":{}}"#, r#"{"name":"get.x-1","arguments":{"i":1}}"#);
    for answer in [
        format!("<tool_call>\n{a}\n</tool_call>\n<tool_call>\n{b}\n</tool_call>"),
        format!("<tool_call>{a}<tool_call>{b}"),
        format!("<tool_call>{a}\n{b}</tool_call>"),
        format!("{a}; {b}"),
        format!("{a}\n{b}"),
        format!("[{a}, {b}]"),
        format!("```json\n{a}\n{b}\n```"),
        format!("```json\n{a}\n```\n\n```json\n{b}\n```"),
    ] {
        assert_eq!(read(&answer), two(), "{answer}");
    }
    let around = read(&format!("Let me see.\n<tool_call>{a}</tool_call>\nSo."));
    assert_eq!(around, [&[text("Let me see.")][..], &call("f", "{}"), &[text("\nSo.")]].concat());
    let fenced = read(&format!("I call\n```json\n{a}\n```\n"));
    assert_eq!(fenced, [&[text("I call")][..], &call("f", "{}")].concat());
}

#[test]
fn what_models_get_wrong_is_put_right() {
    let broken = "<tool_call>{\"name\":\"f\",\"arguments\":{\"code\":\"a\n\tb\\d \\' \\u00zz\"}}</tool_call>";
    assert_eq!(read(broken), calls([call("f", r#"{"code":"a\n\tb\\d ' \\u00zz"}"#)]));
    assert_eq!(read("<tool_call>{\"name\":\"f\"}</tool_call>"), calls([call("f", "{}")]));
    assert_eq!(read("<tool_call>{\"name\":\"f\",\"arguments\":null}</tool_call>"), calls([call("f", "{}")]));
    // Nobody offered it; but it is a call, and the client can say so.
    assert_eq!(read("<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>"), calls([call("g", "{}")]));
    // Cut by `max_tokens`.
    assert_eq!(read("<tool_call>{\"name\":\"f\",\"arguments\":{\"a\": \"b"), calls([call("f", "{\"a\": \"b")]));
}

#[test]
fn a_tool_that_takes_text_gets_text() {
    let want = calls([call("patch", "*** Begin\n\"x\"")]);
    assert_eq!(read(r#"<tool_call>{"name":"patch","arguments":{"input":"*** Begin\n\"x\""}}</tool_call>"#), want);
    assert_eq!(read(r#"<tool_call>{"name":"patch","arguments":{"patch":"*** Begin\n\"x\""}}</tool_call>"#), want);
    assert_eq!(
        read("<tool_call>{\"name\":\"patch\",\"arguments\":\"{\\\"input\\\":1}\"}"),
        calls([call("patch", "{\"input\":1}")])
    );
    let raw = ToolFormat::Raw { name: "patch".to_owned() };
    assert_eq!(read_as(&raw, "<tool_call>{\n"), calls([call("patch", "<tool_call>{\n")]));
    assert_eq!(read_with(ToolParser::new(&raw, &tools()), []), [Begin { name: "patch".into() }, End]);
}

/// No calls: everything comes out as it went in.
const TEXTS: [&str; 26] = [
    "",
    " \n",
    "plain text, then <b>tags</b> and a[1] `code`\n",
    "<tool_call>",
    "<tool_call>\nno object\n</tool_call>",
    "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
    "<tool_call>{\"name\": \"f\", \"arguments\"",
    "<tool_call>{'name': 'f', 'arguments': {}}</tool_call>",
    "<tool_call>{\"name\": \"no name\", \"arguments\": {}}</tool_call>",
    "<tool_call>{\"name\": 1, \"arguments\": {}}</tool_call>",
    "<tool_call>{\"arguments\": {}}</tool_call>",
    "<tool_call>{\"name\":\"barred\",\"arguments\":{}}</tool_call>",
    "{\"name\":\"barred\",\"arguments\":{}}",
    "{\"name\": \"g\", \"arguments\": {}}",
    "{\"name\": \"f\"}",
    "{\"name\": \"f\", \"version\": \"1.0\", \"arguments\": {}}",
    "{\"a\": 1}",
    "[1, 2]",
    "[{\"name\": \"Alice\"}]",
    "{}",
    "```json\n{\"name\": \"f\"}\n```\n",
    "```rust\nfn f() {}\n```\n",
    "see `{\"name\":\"f\",\"arguments\":{}}` and {\"name\":\"f\",\"arguments\":{}}",
    "x ```json\n{\"name\":\"f\",\"arguments\":{}}\n```",
    "<tool_cal <tool_call <<tool_cal l>>",
    "[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{}}]", // not this model's form
];

#[test]
fn what_is_no_call_is_text_without_loss() {
    for answer in TEXTS {
        let want = if answer.is_empty() { vec![] } else { vec![text(answer)] };
        assert_eq!(read(answer), want, "{answer}");
    }
    // The first marker was none; the second is.
    let late = read("<tool_call> <tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>");
    assert_eq!(late, [&[text("<tool_call>")][..], &call("f", "{}")].concat());
}

#[test]
fn strictly_and_singly() {
    let object = r#"{"name":"f","arguments":{}}"#;
    let schema = serde_json::json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
        "additionalProperties": false});
    let mut all = tools();
    all.push(ToolSpec { strict: true, ..tool("strict", ToolInput::Json(Some(schema))) });
    let strict = |answer: &str| {
        let format = ToolFormat::Hermes;
        let parser = || ToolParser::new(&format, &all).strictly(&format, &all);
        let whole = read_with(parser(), [answer]);
        let chars: Vec<String> = answer.chars().map(String::from).collect();
        assert_eq!(read_with(parser(), chars.iter().map(String::as_str)), whole, "in characters: {answer}");
        whole
    };
    // The grammar has checked the model's own form; of other tools any object is a call.
    assert_eq!(
        strict("<tool_call>\n{\"name\":\"strict\",\"arguments\":{\"b\":1}}"),
        calls([call("strict", "{\"b\":1}")])
    );
    assert_eq!(strict(object), calls([call("f", "{}")]));
    let named = |arguments: &str| format!("{{\"name\": \"strict\", \"arguments\": {arguments}}}");
    for other in ["", "```json\n", "<tools>\n", "["] {
        let good = format!("{other}{}", named("{\"a\": 1}"));
        assert_eq!(strict(&good), calls([call("strict", "{\"a\": 1}")]), "{good}");
        for arguments in ["{}", "{\"a\": \"1\"}", "{\"a\": 1, \"b\": 2}", "{\"a\": 1"] {
            let bad = format!("{other}{}", named(arguments));
            assert_eq!(strict(&bad), [text(&bad)]);
        }
    }
    let unknown = "<tools>{\"name\":\"other\",\"arguments\":{}}</tools>";
    assert_eq!(strict(unknown), [text(unknown)]);
    let mut single = ToolParser::new(&ToolFormat::Hermes, &tools()).single();
    let mut parts = Vec::new();
    single.push(&format!("{object}\n{object} and more"), &mut parts);
    assert!(single.is_over());
    single.finish(&mut parts);
    assert_eq!(parts, calls([call("f", "{}")]));
}

/// What small models do to JSON and to tags, where what was meant is beyond doubt.
#[test]
fn near_misses_are_put_right() {
    let one = || calls([call("f", "{\"a\": [1, 2]}")]);
    for object in [
        "{\"name\": \"f\", \"arguments\": {\"a\": [1, 2, ], }, }",
        "{{\"name\": \"f\", \"arguments\": {{\"a\": [1, 2]}}}}",
        "{{\"name\": \"f\", \"arguments\": {\"a\": [1, 2]}}}",
        "{\"name\": \"f\", \"arguments\": {{\"a\": [1, 2,]}}}",
    ] {
        for answer in
            [object.to_owned(), format!("<tool_call>\n{object}\n</tool_call>"), format!("```json\n{object}\n```")]
        {
            assert_eq!(read(&answer), one(), "{answer}");
        }
    }
    let object = "{\"name\": \"f\", \"arguments\": {\"a\": [1, 2]}}";
    for (less, close) in [
        (1, "</tool_call>"),
        (2, "</tool_call>"),
        (3, "</tool_call>"),
        (0, "}\n</tool_call>"),
        (1, "\n</tool_call>"),
        (0, "</tools>"),
        (1, "</tool>"),
    ] {
        let answer = format!("<tool_call>\n{}{close}", &object[..object.len() - less]);
        assert_eq!(read(&answer), one(), "{answer}");
        let twice = format!("{answer}\n{answer}");
        assert_eq!(read(&twice), [one(), one()].concat(), "{twice}");
    }
    // Not so: a value is missing, or the text goes on.
    let cut = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":</tool_call>";
    assert_eq!(read(cut), [&call("f", "{\"a\":")[..], &[text("</tool_call>")]].concat());
    for no_call in ["{,}", "{{{\"name\": \"f\", \"arguments\": {}}}}", "{\"name\": \"f\",, \"arguments\": {}}", "[,]"] {
        assert_eq!(read(no_call), [text(no_call)]);
    }
}

#[test]
fn what_is_held_back_is_bounded() {
    let mut parser = ToolParser::new(&ToolFormat::Hermes, &tools());
    let mut parts = Vec::new();
    let long = format!("<tool_call>{{\"arguments\": {{\"a\": \"{}", "x".repeat(base::limits::TOOL_HELD_BYTES_MAX));
    parser.push(&long, &mut parts);
    assert_eq!(parts, [text(&long)], "too long to wait for a name");
    // Deeper than JSON may nest: no call, and no recursion.
    let deep = format!("<tool_call>{{\"arguments\": {{\"a\": {}", "[".repeat(1000));
    assert_eq!(read_with(ToolParser::new(&ToolFormat::Hermes, &tools()), [deep.as_str()]), [text(&deep)]);
    let many = r#"<tool_call>{"name":"f","arguments":{}}</tool_call>"#.repeat(base::limits::TOOL_CALLS_MAX + 1);
    let parts = read_with(ToolParser::new(&ToolFormat::Hermes, &tools()), [many.as_str()]);
    assert_eq!(parts.iter().filter(|p| **p == End).count(), base::limits::TOOL_CALLS_MAX);
    assert!(matches!(parts.last(), Some(Text(t)) if t.starts_with("<tool_call>")), "the next one is text");
}

#[test]
fn a_million_markers_take_linear_time() {
    for part in ["<tool_call>", "<tool_call>{\"name\":", "`", "```json\n{\"", "<", "[{", "</tool_call>\n"] {
        let answer = part.repeat(1_000_000 / part.len());
        let parts = read_with(ToolParser::new(&ToolFormat::Hermes, &tools()), [answer.as_str()]);
        assert_eq!(parts, [text(&answer)], "{part}");
    }
}

#[test]
fn the_form_is_seen_in_the_template() {
    let of = |t: &str| ToolFormat::of(Some(t));
    assert_eq!(of("{% if tools %}<tool_call>\n{\"name\":"), ToolFormat::Hermes);
    assert_eq!(of("{% if tools %}<tool_call><arg_key>"), ToolFormat::Generic);
    assert_eq!(of("{% if tools %}[TOOL_CALLS]"), ToolFormat::Mistral);
    assert_eq!(of("{% if tools %}<|start_header_id|> {\"name\": , \"parameters\": }"), ToolFormat::Llama3);
    assert_eq!(of("{% if tools %}"), ToolFormat::Generic);
    assert_eq!(of("{{ messages }}"), ToolFormat::Hermes, "it is told");
    assert!(!ToolFormat::knows_tools("message.tool_calls"));
    assert_eq!(ToolFormat::of(None), ToolFormat::Hermes);
}

/// Pieces of answers that come near to calls.
fn near_calls() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "<tool_call>",
        "</tool_call>",
        "\n",
        " ",
        "{",
        "}",
        "{\"name\":",
        "\"f\"",
        "\"g\"",
        ",",
        "\"arguments\":",
        "{}",
        "{\"a\":1}",
        "\"x",
        "\\",
        "\"",
        "```",
        "json",
        "[",
        "]",
        ";",
        "é",
        "text",
        "null",
        "1.5e",
        "true",
        "<tools>",
        "\\u00",
        "<",
    ]);
    prop::collection::vec(parts, 0..24).prop_map(|p| p.concat())
}

proptest! {
    #[test]
    fn cuts_change_nothing_and_text_is_kept(answer in near_calls()) {
        for format in [ToolFormat::Hermes, ToolFormat::Llama3, ToolFormat::Mistral, ToolFormat::Generic] {
            let parts = read_as(&format, &answer);
            if !parts.contains(&End) {
                let want = if answer.is_empty() { vec![] } else { vec![text(&answer)] };
                prop_assert_eq!(&parts, &want);
            }
            let mut open = false;
            for part in &parts {
                match part {
                    Begin { .. } => { prop_assert!(!open); open = true; }
                    Arguments(_) => prop_assert!(open),
                    End => { prop_assert!(open); open = false; }
                    Text(_) => prop_assert!(!open),
                }
            }
            prop_assert!(!open);
        }
    }

    /// Differential: what a call says is what a JSON writer wrote.
    #[test]
    fn arguments_are_what_serde_wrote(keys in prop::collection::vec(("[a-c]{1,2}", any::<(Option<i64>, String, f32, bool)>()), 0..4), tagged: bool) {
        let mut o = serde_json::Map::new();
        for (key, (n, s, x, b)) in keys {
            o.insert(key, serde_json::json!([n, s, x, { s.clone(): b }]));
        }
        let o = Value::Object(o);
        let object = serde_json::json!({ "name": "f", "arguments": o }).to_string();
        let answer = if tagged { format!("<tool_call>\n{object}\n</tool_call>") } else { object };
        let parts = read(&answer);
        prop_assert_eq!(parts, calls([call("f", &o.to_string())]));
    }
}
