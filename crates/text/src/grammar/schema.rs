//! JSON schemas before they are compiled: limits, whitespace, and the place of what is not supported.

use std::collections::HashSet;

use base::limits::{GRAMMAR_DEPTH_MAX, GRAMMAR_PROPERTIES_MAX, GRAMMAR_RULES_MAX};
use serde_json::{Value, json};

use super::compile::check;
use crate::TextError;

/// Whitespace between the parts of an answer: what models write (a space, or a line break and indentation), but bounded, so
/// that a model cannot fill its answer with blank lines.
const WHITESPACE: &str = r" |\n{1,2}[ \t]{0,40}";

/// Keywords with a meaning that is not supported.
const UNSUPPORTED: [&str; 20] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
    "$vocabulary",
    "contentSchema",
];

/// Formats that JSON Schema defines. It says that others, such as OpenAPI's "int32", are ignored.
const FORMATS: [&str; 19] = [
    "date-time",
    "date",
    "time",
    "duration",
    "email",
    "idn-email",
    "hostname",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "uri",
    "uri-reference",
    "iri",
    "iri-reference",
    "uuid",
    "uri-template",
    "json-pointer",
    "relative-json-pointer",
    "regex",
];

/// A schema within the limits.
pub(crate) fn read(text: &str) -> Result<Value, TextError> {
    let schema: Value =
        serde_json::from_str(text).map_err(|e| TextError::grammar("", format!("the schema is not valid JSON: {e}")))?;
    let schema = match schema {
        Value::Object(_) => schema,
        Value::Bool(true) => json!({}),
        _ => return Err(TextError::grammar("", "the schema must be a JSON object")),
    };
    check("the nesting of the schema", "GRAMMAR_DEPTH_MAX", GRAMMAR_DEPTH_MAX, depth(&schema))?;
    let (mut targets, mut n_properties) = (HashSet::new(), 0);
    count(&schema, &mut targets, &mut n_properties);
    check("the number of properties in the schema", "GRAMMAR_PROPERTIES_MAX", GRAMMAR_PROPERTIES_MAX, n_properties)?;
    check("the number of $ref targets", "GRAMMAR_RULES_MAX", GRAMMAR_RULES_MAX, targets.len())?;
    Ok(schema)
}

/// Properties of all objects of a schema that was read, together.
pub(crate) fn n_properties(schema: &Value) -> usize {
    let mut n = 0;
    count(schema, &mut HashSet::new(), &mut n);
    n
}

/// The schema with our options, in place of any that the client put there, and without formats that mean nothing.
pub(crate) fn with_options(mut schema: Value) -> Value {
    ignore_unknown_formats(&mut schema);
    if let Some(object) = schema.as_object_mut() {
        object.insert("x-guidance".to_owned(), json!({ "whitespace_pattern": WHITESPACE }));
    }
    schema
}

// Recursion below is bounded: serde_json reads no deeper than 128 levels.

/// Values of `properties` and the like are schemas with any name: one named "format" stays, being no string.
fn ignore_unknown_formats(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(ignore_unknown_formats),
        Value::Object(object) => {
            if object.get("format").and_then(Value::as_str).is_some_and(|f| !FORMATS.contains(&f)) {
                object.shift_remove("format");
            }
            let is_data = |key: &str| matches!(key, "const" | "enum" | "default" | "examples");
            object.iter_mut().filter(|(k, _)| !is_data(k)).for_each(|(_, v)| ignore_unknown_formats(v));
        }
        _ => {}
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(items) => 1 + items.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The different targets of `$ref`, and the properties of all objects together, named or required.
fn count<'a>(value: &'a Value, targets: &mut HashSet<&'a str>, n_properties: &mut usize) {
    match value {
        Value::Array(items) => items.iter().for_each(|v| count(v, targets, n_properties)),
        Value::Object(items) => {
            targets.extend(items.get("$ref").and_then(Value::as_str));
            let named = |key| items.get(key).and_then(Value::as_object).map_or(0, |o| o.len());
            let n_required = items.get("required").and_then(Value::as_array).map_or(0, Vec::len);
            *n_properties += n_required.max(named("properties") + named("patternProperties"));
            items.values().for_each(|v| count(v, targets, n_properties));
        }
        _ => {}
    }
}

/// Adds to an error of the compiler where in the schema its cause stands, if that can be found.
pub(super) fn place(schema: &Value, error: TextError) -> TextError {
    let TextError::Grammar { reason, .. } = &error else { return error };
    if let Some(format) = quoted_after(reason, "format: ")
        && let Some(path) = find(schema, &mut |o| (o.get("format")?.as_str()? == format).then_some("format"))
    {
        let reason = format!("the format \"{format}\" at `{path}` is not supported; leave it out");
        return TextError::grammar(path, reason);
    }
    if reason.contains("Unimplemented keys") {
        let named = |o: &serde_json::Map<String, Value>| UNSUPPORTED.iter().find(|k| o.contains_key(**k)).copied();
        if let Some(path) = find(schema, &mut |o| named(o)) {
            let keyword = path.rsplit('.').next().unwrap_or_default();
            let reason = format!("the keyword \"{keyword}\" at `{path}` is not supported; leave it out");
            return TextError::grammar(path, reason);
        }
    }
    if reason.contains("oneOf constraints are not supported")
        && let Some(path) = find(schema, &mut |o| o.contains_key("oneOf").then_some("oneOf"))
    {
        let reason = format!("the alternatives of `{path}` may overlap, which is not supported; use anyOf");
        return TextError::grammar(path, reason);
    }
    error
}

/// What stands after `mark` in a message, without quotes.
fn quoted_after<'a>(message: &'a str, mark: &str) -> Option<&'a str> {
    let rest = message.split_once(mark)?.1;
    Some(rest.split(['\n', ',']).next()?.trim_matches(['"', '\'', '`', ' ']))
}

/// The path of the first schema in a document for which `test` gives a keyword, and that keyword.
fn find(
    schema: &Value,
    test: &mut dyn FnMut(&serde_json::Map<String, Value>) -> Option<&'static str>,
) -> Option<String> {
    let object = schema.as_object()?;
    if let Some(keyword) = test(object) {
        return Some(keyword.to_owned());
    }
    for (key, value) in object {
        let below = match (key.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(schemas)) => {
                schemas.iter().find_map(|(name, v)| Some(format!("{name}.{}", find(v, test)?)))
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(schemas)) => {
                schemas.iter().enumerate().find_map(|(i, v)| Some(format!("{i}.{}", find(v, test)?)))
            }
            ("items" | "additionalItems" | "additionalProperties", _) => find(value, test),
            _ => None,
        };
        if let Some(below) = below {
            return Some(format!("{key}.{below}"));
        }
    }
    None
}
