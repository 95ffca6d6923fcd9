//! The grammar of a call as XML. Values are bare in it, so not every schema can be held by such a grammar; a tool whose schema
//! cannot is called by an object of JSON, which may stand between the same tags.

use std::fmt::Write;

use serde_json::{Value, json};

use super::kinds::Kinds;
use crate::grammar::schema;

/// Characters of a text that a grammar counts; longer bounds are left to JSON's grammar.
const COUNTED_MAX: u64 = 2000;

/// What ends a text, after its `<`.
const END: &str = "/parameter>";

/// Text up to the tag that ends it, within these bounds of characters. Without bounds it is written so that llguidance sees at once
/// that every token without `<` may come, instead of trying them all: each `[^<]*` is the very repetition that `SLICE_OF_TEXT` is.
fn text(least: u64, most: Option<u64>) -> String {
    if (least, most) == (0, None) {
        let escaped = |c: char| if c == '/' { "\\x2F".to_owned() } else { c.to_string() };
        // After `<`: a part of the tag, after which another `<` may come; and what is none, with the part before it.
        let last = escaped(END.chars().last().unwrap_or('>'));
        let (mut part, mut other) = (String::new(), format!("[^{last}<]"));
        for c in END.chars().rev().skip(1).map(escaped) {
            part = format!("({c}{part})?");
            other = format!("([^{c}<]|{c}{other})");
        }
        let end: String = END.chars().map(escaped).collect();
        return format!("/[^<]*(<({part}|{other}[^<]*))*<{end}/");
    }
    let most = most.map_or(String::new(), |n| n.to_string());
    let end = "<\\x2Fparameter>";
    format!("/(?s:.{{{least},{most}}})\\n{end}/ & ~/(?s:.*){end}(?s:.+)/")
}

/// Writes the rule `call_i` and those below it; false, and nothing is written, if the schema is none for it.
pub(super) fn write_call(out: &mut String, i: usize, name: &str, root: &Value) -> bool {
    let Some(parameters) = parameters(root) else { return false };
    let mut rules = format!("call_{i}: \"<function={name}>\\n\"");
    for j in 0..parameters.len() {
        let _ = write!(rules, " p_{i}_{j}{}", if parameters[j].is_required { "" } else { "?" });
    }
    rules.push_str(" \"</function>\"\n");
    for (j, p) in parameters.iter().enumerate() {
        let open = format!("p_{i}_{j}: \"<parameter={}>\\n\"", p.key);
        let _ = match &p.value {
            Bare::Text(least, most) => writeln!(rules, "{open} T_{i}_{j} \"\\n\"\nT_{i}_{j}: {}", text(*least, *most)),
            Bare::Words(words) => {
                let words: Vec<String> =
                    words.iter().map(|w| format!("\"{}\"", w.replace('\\', "\\\\").replace('"', "\\\""))).collect();
                writeln!(rules, "{open} ({}) \"\\n</parameter>\\n\"", words.join(" | "))
            }
            Bare::Json(schema) => writeln!(rules, "{open} v_{i}_{j} \"\\n</parameter>\\n\"\nv_{i}_{j}: %json {schema}"),
        };
    }
    out.push_str(&rules);
    true
}

/// Writes the rules of a call with any parameters.
pub(super) fn write_any_call(out: &mut String, i: usize, name: &str) {
    let _ = writeln!(out, "call_{i}: \"<function={name}>\\n\" any_{i}* \"</function>\"");
    let _ = writeln!(out, "any_{i}: \"<parameter=\" KEY_{i} \">\\n\" T_{i} \"\\n\"");
    let _ = writeln!(out, "KEY_{i}: /[A-Za-z_][A-Za-z0-9_.-]{{0,63}}/\nT_{i}: {}", text(0, None));
}

struct Parameter<'a> {
    key: &'a str,
    is_required: bool,
    value: Bare,
}

enum Bare {
    /// Of this many characters.
    Text(u64, Option<u64>),
    /// One of these texts.
    Words(Vec<String>),
    /// Of this schema.
    Json(Value),
}

/// All parameters in the order of the schema, if bare values can be held to it.
fn parameters(root: &Value) -> Option<Vec<Parameter<'_>>> {
    let o = root.as_object()?;
    let known = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "$defs",
        "definitions",
        "description",
        "title",
        "$schema",
        "x-guidance",
    ];
    if !o.keys().all(|k| known.contains(&k.as_str())) || o.get("type").is_some_and(|t| t != "object") {
        return None;
    }
    let required: Vec<&str> = match o.get("required") {
        None => vec![],
        Some(list) => list.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?,
    };
    let Some(properties) = o.get("properties") else { return required.is_empty().then(Vec::new) };
    let properties = properties.as_object()?;
    if !required.iter().all(|key| properties.contains_key(*key)) {
        return None;
    }
    let one = |(key, schema): (&'_ String, &Value)| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let is_fine = (1..=64).contains(&key.len()) && key.bytes().all(is_plain);
        is_fine.then(|| bare(schema, root)).flatten()
    };
    let with_key = |(key, schema)| {
        let value = one((key, schema))?;
        Some(Parameter { key: key.as_str(), is_required: required.contains(&key.as_str()), value })
    };
    properties.iter().map(with_key).collect()
}

fn bare(property: &Value, root: &Value) -> Option<Bare> {
    let kinds = Kinds::of(property, root);
    if !kinds.has_text() {
        let mut schema = property.as_object()?.clone();
        for defs in ["$defs", "definitions"] {
            if let Some(defs_of_root) = root.get(defs) {
                schema.insert(defs.to_owned(), defs_of_root.clone());
            }
        }
        return Some(Bare::Json(schema::with_options(Value::Object(schema))));
    }
    let o = property.as_object().filter(|_| kinds == Kinds::TEXT)?;
    let plain = ["type", "description", "title", "default", "examples", "enum", "const", "minLength", "maxLength"];
    if !o.keys().all(|k| plain.contains(&k.as_str())) {
        return None;
    }
    let number = |key: &str| o.get(key).map(|n| n.as_u64().filter(|n| *n <= COUNTED_MAX));
    let words = match (o.get("enum"), o.get("const")) {
        (None, None) => {
            let least = number("minLength").map_or(Some(0), |n| n)?;
            let most = number("maxLength").map_or(Some(None), |n| n.map(Some))?;
            return most.is_none_or(|most| least <= most).then_some(Bare::Text(least, most));
        }
        (Some(Value::Array(list)), None) => list.clone(),
        (None, Some(word)) => vec![word.clone()],
        _ => return None,
    };
    let is_plain = |w: &&str| !w.is_empty() && !w.contains("</parameter>") && !w.contains(|c: char| c.is_control());
    let words = words.iter().map(|w| w.as_str().filter(is_plain).map(str::to_owned)).collect::<Option<Vec<_>>>()?;
    let is_counted = !["minLength", "maxLength"].iter().any(|k| o.contains_key(*k));
    (is_counted && !words.is_empty()).then_some(Bare::Words(words))
}

/// The schema of a tool that takes text.
pub(super) fn text_schema() -> Value {
    json!({ "type": "object", "properties": { "input": { "type": "string" } }, "required": ["input"],
            "additionalProperties": false })
}
