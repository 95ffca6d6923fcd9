//! The grammar of calls: what an answer must look like when a call is required, or when a call that is begun must be valid.
//!
//! It is Lark that we write, with the tools' schemas in it. The schemas are a stranger's; they pass the same checks as those of
//! `response_format`, all together.

use std::fmt::Write;

use base::limits::{GRAMMAR_BYTES_MAX, GRAMMAR_PROPERTIES_MAX, TOOL_CALLS_FORCED_MAX};
use serde_json::{Value, json};

use super::parser::ToolParser;
use super::{Calls, TextGrammar, ToolFormat, ToolInput, ToolSpec};
use crate::TextError;
use crate::grammar::{GrammarSpec, check, schema};

/// The grammar of an answer that calls tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolGrammar {
    /// Ours, in Lark.
    Calls(String),
    /// A tool's own, for the whole answer.
    Raw(TextGrammar),
}

impl ToolGrammar {
    /// To be compiled.
    pub fn spec(&self) -> GrammarSpec<'_> {
        match self {
            Self::Calls(text) => GrammarSpec::Calls(text),
            Self::Raw(TextGrammar::Lark(text)) => GrammarSpec::Lark(text),
            Self::Raw(TextGrammar::Regex(text)) => GrammarSpec::Regex(text),
        }
    }
}

/// How an answer with tools is made and read.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolPlan {
    /// The form of its calls.
    pub format: ToolFormat,
    /// What it must follow, if anything.
    pub grammar: Option<ToolGrammar>,
    /// Only the model's own form counts as a call, because only that one is checked.
    is_strict: bool,
    is_single: bool,
}

impl ToolPlan {
    /// A parser for one answer.
    pub fn parser(&self, tools: &[ToolSpec]) -> ToolParser {
        let parser = ToolParser::new(&self.format, tools);
        let parser = if self.is_strict { parser.strictly(&self.format) } else { parser };
        if self.is_single { parser.single() } else { parser }
    }
}

impl ToolFormat {
    /// How an answer is made and read. `answer` is the grammar of an answer without calls, where there is one.
    ///
    /// # Errors
    /// The tool's place, and what is wrong with its schema.
    pub fn plan(
        &self,
        tools: &[ToolSpec],
        calls: Calls,
        parallel: bool,
        answer: Option<&GrammarSpec<'_>>,
    ) -> Result<ToolPlan, (usize, TextError)> {
        let allowed: Vec<(usize, &ToolSpec)> = tools.iter().enumerate().filter(|(_, t)| t.is_allowed).collect();
        let one = match calls {
            Calls::Named(i) => tools.get(i).map(|t| (i, t)),
            Calls::Required if allowed.len() == 1 => allowed.first().copied(),
            _ => None,
        };
        let plan = |format: &Self, grammar, is_strict, is_single| ToolPlan {
            format: format.clone(),
            grammar,
            is_strict,
            is_single,
        };
        if let Some((_, ToolSpec { name, input: ToolInput::Text(Some(grammar)), .. })) = one {
            let raw = Self::Raw { name: name.clone() };
            return Ok(plan(&raw, Some(ToolGrammar::Raw(grammar.clone())), false, true));
        }
        let is_single = !parallel || matches!(calls, Calls::Named(_));
        let is_strict = calls == Calls::Auto && allowed.iter().any(|(_, t)| t.strict);
        if calls == Calls::Auto && !is_strict && answer.is_none() {
            return Ok(plan(self, None, false, is_single));
        }
        let callable = if let (Calls::Named(_), Some(one)) = (calls, one) { vec![one] } else { allowed };
        let mut text = String::new();
        self.write_start(&mut text, calls == Calls::Auto, is_single, answer);
        self.write_calls(&mut text, &callable, calls != Calls::Auto)?;
        Ok(plan(self, Some(ToolGrammar::Calls(text)), is_strict, is_single))
    }

    /// The rule `start`, over `call`.
    fn write_start(&self, text: &mut String, is_auto: bool, is_single: bool, answer: Option<&GrammarSpec<'_>>) {
        // A lexer cannot tell a call without marks from an answer of JSON, so then calls have tags, which are always read.
        let marked = if answer.is_some() && is_auto && *self != Self::Mistral { &Self::Hermes } else { self };
        let (open, between, close) = match marked {
            Self::Hermes => ("\"<tool_call>\\n\"", "\"\\n</tool_call>\\n<tool_call>\\n\"", "\"\\n</tool_call>\""),
            Self::Llama3 => ("", "\"; \"", ""),
            Self::Mistral => ("\"[\"", "\", \"", "\"]\""),
            Self::Generic | Self::Raw { .. } => ("", "\"\\n\"", ""),
        };
        let calls = match is_single {
            true => format!("call {close}"),
            false => format!("call ({between} call){{0,{}}} {close}", TOOL_CALLS_FORCED_MAX - 1),
        };
        match (is_auto, answer) {
            (false, _) => _ = writeln!(text, "start: {open} {calls}"),
            (true, Some(answer)) => {
                let schema = match answer {
                    GrammarSpec::JsonSchema(schema) => schema,
                    _ => "{\"type\":\"object\"}",
                };
                let _ = writeln!(text, "start: {open} {calls} | answer\nanswer: %json {schema}");
            }
            // Text without a call; or text up to the first call, which then must be one.
            (true, None) if *self == Self::Hermes => {
                text.push_str("start: NONE | some\n");
                text.push_str("NONE: /(?s:.*)/ & ~/(?s:.*)<tool_call>(?s:.*)/\n");
                let _ = writeln!(text, "some: head \"\\n\" {calls}");
                text.push_str("head[suffix=\"<tool_call>\"]: /(?s:.*)/\n");
            }
            (true, None) => {
                // A call is the whole answer, and begins as text does not.
                let first = if *self == Self::Mistral { "\\[{" } else { "{" };
                let _ = writeln!(text, "start: NONE | {open} {calls}\nNONE: /([^\\s{first}](?s:.*))?/");
            }
        }
    }

    /// The rules `call` and below.
    fn write_calls(
        &self,
        text: &mut String,
        tools: &[(usize, &ToolSpec)],
        is_forced: bool,
    ) -> Result<(), (usize, TextError)> {
        let names: Vec<String> = tools.iter().map(|(i, _)| format!("call_{i}")).collect();
        let _ = writeln!(text, "call: {}", names.join(" | "));
        let key = if *self == Self::Llama3 { "parameters" } else { "arguments" };
        let mut n_properties = 0;
        for (i, tool) in tools {
            let input = match &tool.input {
                ToolInput::Text(_) => text_schema(),
                ToolInput::Json(Some(schema)) if tool.strict || is_forced => schema.clone(),
                ToolInput::Json(_) => json!({}),
            };
            let schema = object_schema(input, &mut n_properties).map_err(|e| (*i, e))?;
            let name = &tool.name;
            let _ = writeln!(text, "call_{i}: \"{{\\\"name\\\": \\\"{name}\\\", \\\"{key}\\\": \" input_{i} \"}}\"");
            let _ = writeln!(text, "input_{i}: %json {schema}");
            check("the grammar of the tools, in bytes,", "GRAMMAR_BYTES_MAX", GRAMMAR_BYTES_MAX, text.len())
                .map_err(|e| (*i, e))?;
        }
        Ok(())
    }
}

/// A tool that takes text, as a function.
fn text_schema() -> Value {
    json!({ "type": "object", "properties": { "input": { "type": "string" } }, "required": ["input"],
            "additionalProperties": false })
}

/// A schema of arguments, checked, as it is compiled.
fn object_schema(mut schema: Value, n_properties: &mut usize) -> Result<Value, TextError> {
    if let Some(o) = schema.as_object_mut() {
        o.entry("type").or_insert_with(|| "object".into());
        if o.get("type") != Some(&"object".into()) {
            return Err(TextError::grammar("type", "the arguments of a call are an object: `type` must be \"object\""));
        }
    }
    let schema = schema::read(&schema.to_string())?;
    *n_properties += schema::n_properties(&schema);
    check(
        "the number of properties in all schemas of the tools",
        "GRAMMAR_PROPERTIES_MAX",
        GRAMMAR_PROPERTIES_MAX,
        *n_properties,
    )?;
    Ok(schema::with_options(schema))
}
