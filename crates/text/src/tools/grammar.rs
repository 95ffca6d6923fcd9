//! The grammar of calls: what an answer must look like when a call is required, or when a call that is begun must be valid.
//!
//! It is Lark that we write, with the tools' schemas in it. The schemas are a stranger's; they pass the same checks as those of
//! `response_format`, all together.

use std::fmt::Write;

use base::limits::{GRAMMAR_BYTES_MAX, GRAMMAR_PROPERTIES_MAX, TOOL_CALLS_FORCED_MAX};
use serde_json::{Value, json};

use super::parser::ToolParser;
use super::xml_grammar::{self, text_schema};
use super::{Calls, TextGrammar, ToolFormat, ToolInput, ToolSpec};
use crate::TextError;
use crate::grammar::{GrammarSpec, check, schema};

/// The grammar of an answer that calls tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolGrammar {
    /// Ours, in Lark.
    Calls(String),
    /// The same, from this marker on.
    CallsAfter {
        /// Before it the text is free.
        marker: &'static str,
        /// It is in it, as a comment.
        text: String,
    },
    /// A tool's own, for the whole answer.
    Raw(TextGrammar),
}

impl ToolGrammar {
    /// To be compiled.
    pub fn spec(&self) -> GrammarSpec<'_> {
        match self {
            Self::Calls(text) => GrammarSpec::Calls(text),
            Self::CallsAfter { marker, text } => GrammarSpec::CallsAfter { marker, text },
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
    /// The form that the grammar checks, where a tool is strict; calls in other forms must be looked at.
    checked: Option<ToolFormat>,
    is_single: bool,
}

impl ToolPlan {
    /// A parser for one answer.
    pub fn parser(&self, tools: &[ToolSpec]) -> ToolParser {
        let parser = ToolParser::new(&self.format, tools);
        let parser = match &self.checked {
            Some(format) => parser.strictly(format, tools),
            None => parser,
        };
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
        let plan = |format: &Self, grammar, checked: Option<&Self>, is_single| ToolPlan {
            format: format.clone(),
            grammar,
            checked: checked.cloned(),
            is_single,
        };
        if let Some((_, ToolSpec { name, input: ToolInput::Text(Some(grammar)), .. })) = one {
            let raw = Self::Raw { name: name.clone() };
            return Ok(plan(&raw, Some(ToolGrammar::Raw(grammar.clone())), None, true));
        }
        let is_single = !parallel || matches!(calls, Calls::Named(_));
        let is_strict = calls == Calls::Auto && allowed.iter().any(|(_, t)| t.strict);
        if calls == Calls::Auto && !is_strict && answer.is_none() {
            return Ok(plan(self, None, None, is_single));
        }
        let callable = if let (Calls::Named(_), Some(one)) = (calls, one) { vec![one] } else { allowed };
        // Text, until it says that a call begins, which then must be one.
        let marker = self.opening().filter(|_| calls == Calls::Auto && answer.is_none());
        let mut text = String::new();
        match marker {
            Some(marker) => {
                let _ = writeln!(text, "// after {marker}\nstart: \"\\n\" {}", self.calls(is_single));
            }
            None => self.write_start(&mut text, calls == Calls::Auto, is_single, answer),
        }
        self.write_calls(&mut text, &callable, calls != Calls::Auto)?;
        let grammar = match marker {
            Some(marker) => ToolGrammar::CallsAfter { marker, text },
            None => ToolGrammar::Calls(text),
        };
        let checked = self.marked(calls == Calls::Auto && answer.is_some());
        Ok(plan(self, Some(grammar), Some(checked).filter(|_| is_strict), is_single))
    }

    /// The form of calls in a grammar. A lexer cannot tell a call without marks from an answer of JSON, so beside one calls have tags,
    /// which are always read.
    fn marked(&self, beside_answer: bool) -> &Self {
        let is_marked = self.is_mistral() || *self == Self::Xml;
        if beside_answer && !is_marked { &Self::Hermes } else { self }
    }

    /// The rule `start`, over `call`.
    fn write_start(&self, text: &mut String, is_auto: bool, is_single: bool, answer: Option<&GrammarSpec<'_>>) {
        let marked = self.marked(is_auto && answer.is_some());
        let open = match marked {
            Self::Hermes | Self::Xml => "\"<tool_call>\\n\"",
            Self::Mistral | Self::MistralNamed => "\"[\"",
            _ => "",
        };
        let calls = marked.calls(is_single);
        match (is_auto, answer) {
            (false, _) => _ = writeln!(text, "start: {open} {calls}"),
            (true, Some(answer)) => {
                let schema = match answer {
                    GrammarSpec::JsonSchema(schema) => schema,
                    _ => "{\"type\":\"object\"}",
                };
                let _ = writeln!(text, "start: {open} {calls} | answer\nanswer: %json {schema}");
            }
            (true, None) => {
                // A call is the whole answer, and begins as text does not.
                let first = if self.is_mistral() { "\\[{" } else { "{" };
                let _ = writeln!(text, "start: NONE | {open} {calls}\nNONE: /([^\\s{first}](?s:.*))?/");
            }
        }
    }

    /// Calls and what ends them, without what opens the first one.
    fn calls(&self, is_single: bool) -> String {
        let (between, close) = match self {
            Self::Hermes | Self::Xml => ("\"\\n</tool_call>\\n<tool_call>\\n\"", "\"\\n</tool_call>\""),
            Self::Llama3 => ("\"; \"", ""),
            Self::Mistral | Self::MistralNamed => ("\", \"", "\"]\""),
            Self::Generic | Self::Raw { .. } => ("\"\\n\"", ""),
        };
        match is_single {
            true => format!("call {close}"),
            false => format!("call ({between} call){{0,{}}} {close}", TOOL_CALLS_FORCED_MAX - 1),
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
                ToolInput::Text(_) => Some(text_schema()),
                ToolInput::Json(schema) => schema.clone().filter(|_| tool.strict || is_forced),
            };
            let (is_any, name) = (input.is_none(), &tool.name);
            let schema = object_schema(input.unwrap_or(json!({})), &mut n_properties).map_err(|e| (*i, e))?;
            if *self == Self::Xml && is_any {
                xml_grammar::write_any_call(text, *i, name);
                continue;
            }
            if *self == Self::Xml && xml_grammar::write_call(text, *i, name, &schema) {
                check_bytes(text).map_err(|e| (*i, e))?;
                continue;
            }
            let _ = writeln!(text, "call_{i}: \"{{\\\"name\\\": \\\"{name}\\\", \\\"{key}\\\": \" input_{i} \"}}\"");
            let _ = writeln!(text, "input_{i}: %json {schema}");
            check_bytes(text).map_err(|e| (*i, e))?;
        }
        Ok(())
    }
}

fn check_bytes(text: &str) -> Result<(), TextError> {
    check("the grammar of the tools, in bytes,", "GRAMMAR_BYTES_MAX", GRAMMAR_BYTES_MAX, text.len())
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
