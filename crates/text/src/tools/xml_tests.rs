//! Qwen3-Coder's and Mistral's later form of calls, whole and cut at every place; what is no call; differentials against a writer.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::tests::{call, calls, read_with, text};
use super::*;
use crate::tools::parser::ToolPart::{Begin, End};

fn tools() -> Vec<ToolSpec> {
    let tool = |name: &str, input| ToolSpec { name: name.to_owned(), input, strict: false, is_allowed: true };
    let schema = json!({ "type": "object", "$defs": { "n": { "type": "integer" } }, "properties": {
        "s": { "type": "string" }, "word": { "enum": ["a", "b"] }, "i": { "$ref": "#/$defs/n" }, "x": { "type": "number" },
        "b": { "type": "boolean" }, "none": { "type": "null" }, "o": { "type": "object" }, "list": { "type": "array" },
        "maybe": { "type": ["string", "null"] }, "either": { "anyOf": [{ "type": "integer" }, { "type": "string" }] }, "free": {} } });
    let mut barred = tool("barred", ToolInput::Json(None));
    barred.is_allowed = false;
    vec![
        tool("f", ToolInput::Json(Some(schema))),
        tool("get.x-1", ToolInput::Json(None)),
        tool("patch", ToolInput::Text(None)),
        barred,
    ]
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
    read_as(&ToolFormat::Xml, answer)
}

/// A call of `f` with one parameter, and the JSON that its value becomes.
fn value(key: &str, bare: &str) -> String {
    let parts =
        read(&format!("<tool_call>\n<function=f>\n<parameter={key}>\n{bare}\n</parameter>\n</function>\n</tool_call>"));
    let [Begin { name }, ToolPart::Arguments(arguments), End] = parts.as_slice() else { panic!("{parts:?}") };
    assert_eq!(name, "f");
    let o: Value = serde_json::from_str(arguments).unwrap_or_else(|e| panic!("{e}: {arguments}"));
    assert_eq!(o.as_object().unwrap().len(), 1);
    o[key].to_string()
}

#[test]
fn values_have_the_kind_that_the_schema_says() {
    for (key, bare, want) in [
        ("s", "42", r#""42""#),
        ("s", "true", r#""true""#),
        ("s", "", r#""""#),
        ("s", "{\"a\": 1}", r#""{\"a\": 1}""#),
        ("s", "\n  two lines\n\n", r#""\n  two lines\n\n""#),
        ("s", "<b>x</b> </param> </parameter", r#""<b>x</b> </param> </parameter""#),
        ("s", "\t\u{1}\"\\ é 世界 🌍", "\"\\t\\u0001\\\"\\\\ é 世界 🌍\""),
        ("s", "    def f():\n        return 1", r#""    def f():\n        return 1""#),
        ("word", "b", r#""b""#),
        ("i", " 42 ", "42"),
        ("i", "-7", "-7"),
        ("i", "12345678901234567890", "12345678901234567890"),
        ("i", "many", r#""many""#),
        ("x", "1.23e-4", "0.000123"),
        ("b", "true", "true"),
        ("b", "False", "false"),
        ("none", "null", "null"),
        ("none", "None", "null"),
        ("o", "{\"host\": \"h\", \"p\": [1, {\"q\": \"</x>\"}]}", r#"{"host":"h","p":[1,{"q":"</x>"}]}"#),
        ("o", "{'host': 1}", r#""{'host': 1}""#),
        ("list", "[\n  \"a\",\n  2\n]", r#"["a",2]"#),
        ("maybe", "null", "null"),
        ("maybe", "nothing", r#""nothing""#),
        ("maybe", "7", r#""7""#),
        ("either", "7", "7"),
        ("either", "7 of 9", r#""7 of 9""#),
        ("either", "\"7\"", r#""\"7\"""#),
        ("free", "[1]", "[1]"),
        ("free", "7", r#""7""#),
        ("unknown", "7", r#""7""#),
    ] {
        assert_eq!(value(key, bare), want, "{key}: {bare}");
    }
}

#[test]
fn calls_are_read_however_they_are_spaced() {
    let want = || calls([call("f", r#"{"s": "a\nb", "i": 1}"#)]);
    for answer in [
        "<tool_call>\n<function=f>\n<parameter=s>\na\nb\n</parameter>\n<parameter=i>\n1\n</parameter>\n</function>\n</tool_call>",
        " <tool_call><function=f><parameter=s>a\nb</parameter><parameter=i>1</parameter></function></tool_call>\n\n",
        "<tool_call>\n  <function=f>\n    <parameter=s>\na\nb\n</parameter>\n    <parameter=i>\n      1\n    </parameter>\n  </function>\n</tool_call>",
        // What the model is known to leave out.
        "<function=f>\n<parameter=s>\na\nb\n</parameter>\n<parameter=i>\n1\n</parameter>\n</function>\n</tool_call>",
        "<function=f>\n<parameter=s>\na\nb\n</parameter>\n<parameter=i>\n1\n</parameter>\n</function>",
        "<tool_call>\n<function=f>\n<parameter=s>\na\nb\n</parameter>\n<parameter=i>\n1\n</parameter>\n</function>",
        // JSON between the same tags.
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"s\": \"a\\nb\", \"i\": 1}}\n</tool_call>",
    ] {
        let parts = read(answer);
        let [Begin { name }, ToolPart::Arguments(arguments), End] = parts.as_slice() else {
            panic!("{answer}: {parts:?}")
        };
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert_eq!((name.as_str(), arguments), ("f", json!({ "s": "a\nb", "i": 1 })), "{answer}");
    }
    let one = "<tool_call>\n<function=f>\n<parameter=s>\na\nb\n</parameter>\n<parameter=i>\n1\n</parameter>\n</function>\n</tool_call>";
    assert_eq!(read(one), want());
    let none = "<tool_call>\n<function=get.x-1>\n</function>\n</tool_call>";
    let both = read(&format!("So:\n{one}\n{none}\nDone."));
    assert_eq!(both, [&[text("So:")][..], &want(), &call("get.x-1", "{}"), &[text("\nDone.")]].concat());
    let two = format!("{none}\n{}", none.trim_start_matches("<tool_call>\n"));
    assert_eq!(read(&two), calls([call("get.x-1", "{}"), call("get.x-1", "{}")]));
    assert_eq!(read_as(&ToolFormat::Generic, one), want());
    let patch =
        "<tool_call>\n<function=patch>\n<parameter=input>\n*** Begin\n\"x\"\n</parameter>\n</function>\n</tool_call>";
    assert_eq!(read(patch), calls([call("patch", "*** Begin\n\"x\"")]));
}

#[test]
fn what_is_cut_short_is_not_made_whole() {
    let begun = "<tool_call>\n<function=f>\n<parameter=s>\nrm -rf /tmp";
    assert_eq!(read(begun), calls([call("f", "{\"s\": \"rm -rf /tmp")]), "no client takes that for the whole");
    let held = "<tool_call>\n<function=f>\n<parameter=i>\n12";
    assert_eq!(read(held), calls([call("f", "{\"i\": ")]));
}

#[test]
fn what_is_no_call_is_text_without_loss() {
    for answer in [
        "<function=>",
        "<function=f",
        "<function f>",
        "<function=g>\n<parameter=s>\nx\n</parameter>\n</function>",
        "<function=barred>\n</function>",
        "<tool_call>\n<function=barred>\n</function>\n</tool_call>",
        "<tool_call>\n<functions>\n</tool_call>",
        "see <function=no name>",
        "<parameter=s>x</parameter>",
        "a < b <func",
    ] {
        assert_eq!(read(answer), [text(answer)], "{answer}");
    }
    let hermes = "<function=f>\n</function>";
    assert_eq!(read_as(&ToolFormat::Hermes, hermes), [text(hermes)], "not this model's form");
}

#[test]
fn a_long_value_is_no_burden() {
    let long = "[".repeat(base::limits::TOOL_HELD_BYTES_MAX + 10);
    let answer = format!("<tool_call><function=f><parameter=o>{long}</parameter></function></tool_call>");
    let parts = read_with(ToolParser::new(&ToolFormat::Xml, &tools()), [answer.as_str()]);
    assert_eq!(parts, calls([call("f", &format!("{{\"o\": \"{long}\"}}"))]));
    for part in
        ["<function=f>", "<tool_call><function=", "<function=f><parameter=s>\n</paramete", "</parameter>\n", "\n"]
    {
        let answer = format!("<tool_call><function=f><parameter=s>{}", part.repeat(300_000 / part.len()));
        let parts = read_with(ToolParser::new(&ToolFormat::Xml, &tools()), [answer.as_str()]);
        assert!(matches!(parts[0], Begin { .. }), "{part}");
    }
}

#[test]
fn a_name_and_arguments_after_mistrals_mark() {
    let m = |answer: &str| read_as(&ToolFormat::MistralNamed, answer);
    let one = || calls([call("f", r#"{"i":1}"#)]);
    for answer in [
        r#"[TOOL_CALLS]f[ARGS]{"i":1}"#,
        r#"[TOOL_CALLS] f [ARGS] {"i":1}"#,
        r#"[TOOL_CALLS]f{"i":1}"#,
        r#"[TOOL_CALLS]f[CALL_ID]a1B2c3D4e[ARGS]{"i":1}"#,
        r#"[TOOL_CALLS][{"name":"f","arguments":{"i":1}}]"#,
        r#"[{"name":"f","arguments":{"i":1}}]"#,
    ] {
        assert_eq!(m(answer), one(), "{answer}");
    }
    let two = r#"[TOOL_CALLS]f[ARGS]{"i":1}[TOOL_CALLS]get.x-1[ARGS]{"a":"]{[TOOL_CALLS]"}"#;
    assert_eq!(m(two), calls([call("f", r#"{"i":1}"#), call("get.x-1", r#"{"a":"]{[TOOL_CALLS]"}"#)]));
    let around = m(r#"I look.[TOOL_CALLS]f[ARGS]{} So."#);
    assert_eq!(around, [&[text("I look.")][..], &call("f", "{}"), &[text(" So.")]].concat());
    assert_eq!(
        m(r#"[TOOL_CALLS]nobody[ARGS]{}"#),
        calls([call("nobody", "{}")]),
        "nobody offered it, but it is a call"
    );
    assert_eq!(m(r#"[TOOL_CALLS]patch[ARGS]{"input":"x"}"#), calls([call("patch", "x")]));
    assert_eq!(m(r#"[TOOL_CALLS]f[ARGS]{"i":"#), calls([call("f", "{\"i\":")]));
    for answer in [
        "[TOOL_CALLS]",
        "[TOOL_CALLS]f",
        "[TOOL_CALLS]f[ARGS]",
        "[TOOL_CALLS]f[ARGS]x",
        "[TOOL_CALLS]f[ARG]{}",
        "[TOOL_CALLS]f g[ARGS]{}",
        "[TOOL_CALLS]barred[ARGS]{}",
        "[TOOL_CALLS]hello there",
        "[ARGS]{}",
        "f[ARGS]{}",
    ] {
        assert_eq!(m(answer), [text(answer)], "{answer}");
    }
    let plain = r#"[TOOL_CALLS]f[ARGS]{}"#;
    assert_eq!(read_as(&ToolFormat::Mistral, plain), [text(plain)], "not this model's form");
}

#[test]
fn the_forms_are_seen_in_the_template() {
    let of = |t: &str| ToolFormat::of(Some(t));
    assert_eq!(of("{% if tools %}<tool_call>\n<function=x>\n<parameter=y>"), ToolFormat::Xml);
    assert_eq!(of("{% if tools %}<tool_call>{{ name }}\n<arg_key>"), ToolFormat::Generic);
    assert_eq!(of("{% if tools %}[TOOL_CALLS]{{ name }}[ARGS]"), ToolFormat::MistralNamed);
    assert_eq!(of("{% if tools %}[TOOL_CALLS]["), ToolFormat::Mistral);
}

proptest! {
    /// Differential: what the model's own template writes is read back.
    #[test]
    fn arguments_come_back(
        s in "[ -~\n\t<é]{0,30}", i: i64, b: bool, list in prop::collection::vec("[a-z\"\\\\]{0,4}", 0..3), keep in prop::collection::vec(any::<bool>(), 4),
    ) {
        prop_assume!(!s.contains("</parameter>"));
        let all = [("s", json!(s)), ("i", json!(i)), ("b", json!(b)), ("list", json!(list))];
        let kept: Map<String, Value> =
            all.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|((key, v), _)| (key.to_owned(), v)).collect();
        let mut answer = "<tool_call>\n<function=f>\n".to_owned();
        for (key, v) in &kept {
            let bare = v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            answer.push_str(&format!("<parameter={key}>\n{bare}\n</parameter>\n"));
        }
        answer.push_str("</function>\n</tool_call>");
        let parts = read(&answer);
        let arguments = parts.iter().find_map(|p| match p { ToolPart::Arguments(a) => Some(a.as_str()), _ => None });
        let back: Value = serde_json::from_str(arguments.unwrap_or_default()).unwrap();
        prop_assert_eq!(back, Value::Object(kept));
    }

    #[test]
    fn cuts_change_nothing_and_text_is_kept(parts in prop::collection::vec(prop::sample::select(vec![
        "<tool_call>", "</tool_call>", "<function=", "f", ">", "<function=f>", "<parameter=", "s", "<parameter=i>", "</parameter>",
        "</function>", "\n", " ", "<", "</", "1", "é", "{", "}", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[", "\"", "{\"name\":\"f\",\"arguments\":{}}",
    ]), 0..20)) {
        let answer = parts.concat();
        for format in [ToolFormat::Xml, ToolFormat::MistralNamed, ToolFormat::Generic] {
            let parts = read_as(&format, &answer);
            let has_call = parts.contains(&End);
            if !has_call && !answer.is_empty() {
                prop_assert_eq!(&parts, &[text(&answer)]);
            }
            let mut open = false;
            for part in &parts {
                match part {
                    Begin { .. } => { prop_assert!(!open); open = true; }
                    ToolPart::Arguments(_) => prop_assert!(open),
                    End => { prop_assert!(open); open = false; }
                    ToolPart::Text(_) => prop_assert!(!open),
                }
            }
        }
    }
}
