//! Qwen3-Coder's calls, `<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>`, as they come. Values are bare: one line
//! break after the opening tag and one before the closing one are not theirs, as in the reference parser of the model's authors;
//! what they are follows from the tool's schema. Texts are given out as they come, everything else when it is whole.

use std::sync::Arc;

use base::limits::{TOOL_HELD_BYTES_MAX, TOOL_NAME_BYTES_MAX};

use super::call::{Progress, Said, is_name};
use super::json::{Wrong, push_char};
use super::kinds::Kinds;

pub(super) const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const PARAMETER: &str = "<parameter=";
/// What ends a text; the line break before it is optional.
const PARAMETER_END: &str = "\n</parameter>";

/// Each tool, and the kinds of its parameters.
pub(super) type Parameters = Arc<[(String, Vec<(String, Kinds)>)]>;

#[derive(Clone, Debug)]
enum State {
    /// The tag that names the function, so far.
    Function(String),
    /// Between parameters: the beginning of a tag.
    Between(String),
    /// The name of a parameter.
    Key(String),
    /// A text; `held` may be the beginning of its end.
    Text {
        is_first: bool,
        held: String,
    },
    /// Another value, so far.
    Value {
        kinds: Kinds,
        text: String,
    },
    Done,
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Xml {
    state: State,
    parameters: Parameters,
    has_some: bool,
}

impl Xml {
    pub(super) fn new(parameters: &Parameters) -> Self {
        Self { state: State::Function(String::new()), parameters: Arc::clone(parameters), has_some: false }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The next character.
    pub(super) fn push(&mut self, c: char, said: &mut Said) -> Result<(), Wrong> {
        match &mut self.state {
            State::Function(tag) => {
                match tag.strip_prefix(FUNCTION) {
                    Some(name) if c == '>' => {
                        let name = name.trim();
                        if !is_name(name) {
                            return Err(Wrong);
                        }
                        said.name = Some(name.to_owned());
                        said.arguments.push('{');
                        said.arguments_are = Progress::Object;
                        self.state = State::Between(String::new());
                        return Ok(());
                    }
                    Some(name) if name.len() < TOOL_NAME_BYTES_MAX + 2 => {}
                    None if FUNCTION[tag.len()..].starts_with(c) => {}
                    _ => return Err(Wrong),
                }
                tag.push(c);
            }
            State::Between(tag) if tag.is_empty() && c.is_ascii_whitespace() => {}
            State::Between(tag) => {
                tag.push(c);
                if tag == PARAMETER {
                    self.state = State::Key(String::new());
                } else if tag == FUNCTION_END {
                    said.arguments.push('}');
                    said.arguments_are = Progress::Done;
                    self.state = State::Done;
                } else if !PARAMETER.starts_with(tag.as_str()) && !FUNCTION_END.starts_with(tag.as_str()) {
                    return Err(Wrong);
                }
            }
            State::Key(key) if c == '>' => {
                let key = std::mem::take(key);
                self.begin_value(&key, said)?;
            }
            State::Key(key) => {
                if matches!(c, '<' | '\n') || key.len() > 4 * TOOL_NAME_BYTES_MAX {
                    return Err(Wrong);
                }
                key.push(c);
            }
            State::Text { is_first, held } => {
                if !(std::mem::take(is_first) && c == '\n') && text(c, held, &mut said.arguments) {
                    said.arguments.push('"');
                    self.state = State::Between(String::new());
                }
            }
            State::Value { kinds, text } => {
                text.push(c);
                if let Some(value) = text.strip_suffix(&PARAMETER_END[1..]) {
                    write_value(*kinds, value, &mut said.arguments);
                    self.state = State::Between(String::new());
                } else if text.len() > TOOL_HELD_BYTES_MAX {
                    let text = std::mem::take(text);
                    self.state = State::Text { is_first: true, held: String::new() };
                    said.arguments.push('"');
                    return text.chars().try_for_each(|c| self.push(c, said)); // once: texts are not held
                }
            }
            State::Done => return Err(Wrong),
        }
        Ok(())
    }

    fn begin_value(&mut self, key: &str, said: &mut Said) -> Result<(), Wrong> {
        let key = key.trim();
        let of_tool = self.parameters.iter().find(|(name, _)| Some(name) == said.name.as_ref());
        let known = of_tool.and_then(|(_, keys)| keys.iter().find(|(k, _)| k == key));
        let kinds = known.map_or(Kinds::ANY, |(_, kinds)| *kinds);
        if std::mem::replace(&mut self.has_some, true) {
            said.arguments.push_str(", ");
        }
        said.arguments.push_str(&serde_json::to_string(key).map_err(|_| Wrong)?);
        said.arguments.push_str(": ");
        self.state = if kinds == Kinds::TEXT {
            said.arguments.push('"');
            State::Text { is_first: true, held: String::new() }
        } else {
            State::Value { kinds, text: String::new() }
        };
        Ok(())
    }
}

/// Takes a character of a text and gives out what is certain of it; true at its end.
fn text(c: char, held: &mut String, out: &mut String) -> bool {
    held.push(c);
    loop {
        let end = &PARAMETER_END[1..];
        if held.strip_prefix('\n').unwrap_or(held) == end {
            return true;
        }
        if PARAMETER_END.starts_with(held.as_str()) || end.starts_with(held.as_str()) {
            return false; // also where nothing is held
        }
        escape(held.remove(0), out);
    }
}

fn escape(c: char, out: &mut String) {
    match c {
        '"' | '\\' => out.extend(['\\', c]),
        _ => push_char(c, out),
    }
}

fn write_value(kinds: Kinds, text: &str, out: &mut String) {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    match kinds.json(text) {
        Some(json) => out.push_str(json),
        None => {
            out.push('"');
            text.chars().for_each(|c| escape(c, out));
            out.push('"');
        }
    }
}
