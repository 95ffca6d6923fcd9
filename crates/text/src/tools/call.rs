//! One call as it comes, in one of three ways to write it. Here: `{"name": ..., "arguments": {...}}`, its keys in any order, others
//! passed over.

use base::limits::{TOOL_HELD_BYTES_MAX, TOOL_NAME_BYTES_MAX};
use serde_json::Value;

use super::json::{Scanner, State, Wrong};
use super::named::Named;
use super::xml::{Parameters, Xml};

/// What the value that is being read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Name,
    Arguments,
    Other,
}

/// What is known of a call. Nothing is given out before its name is known and its arguments have begun.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) name: Option<String>,
    /// Arguments that are not given out yet.
    pub(super) arguments: String,
    /// Where the arguments stand.
    pub(super) arguments_are: Progress,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    #[default]
    Missing,
    /// An object, which can be given out piece by piece.
    Object,
    /// Something else, to be looked at when it is whole.
    Held,
    Done,
}

/// A call whose end has not come.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) said: Said,
    syntax: Syntax,
}

#[derive(Clone, Debug)]
enum Syntax {
    Json(Json),
    Xml(Xml),
    Named(Named),
}

impl Call {
    /// An object. Other keys than those of calls are passed over only where it `is_sure` that this is one.
    pub(super) fn json(is_sure: bool) -> Self {
        Self { said: Said::default(), syntax: Syntax::Json(Json::new(is_sure)) }
    }

    pub(super) fn xml(parameters: &Parameters) -> Self {
        Self { said: Said::default(), syntax: Syntax::Xml(Xml::new(parameters)) }
    }

    pub(super) fn named() -> Self {
        Self { said: Said::default(), syntax: Syntax::Named(Named::new()) }
    }

    /// True when the call is whole.
    pub(super) fn is_done(&self) -> bool {
        match &self.syntax {
            Syntax::Json(call) => call.is_done(),
            Syntax::Xml(call) => call.is_done(),
            Syntax::Named(call) => call.is_done(),
        }
    }

    /// A closing tag has come before the last brackets. True if nothing but brackets was missing; those of the arguments are added.
    pub(super) fn close(&mut self) -> bool {
        match &self.syntax {
            _ if self.said.name.is_none() => false,
            Syntax::Json(_) if self.said.arguments_are == Progress::Done => true,
            Syntax::Json(call) if call.slot == Some(Slot::Arguments) && self.said.arguments_are == Progress::Object => {
                // Level 0 is the call.
                let missing = call.scanner.missing(1);
                self.said.arguments.push_str(missing.as_deref().unwrap_or_default());
                missing.is_some()
            }
            _ => false,
        }
    }

    /// The next character.
    pub(super) fn push(&mut self, c: char) -> Result<(), Wrong> {
        match &mut self.syntax {
            Syntax::Json(call) => call.push(c, &mut self.said),
            Syntax::Xml(call) => call.push(c, &mut self.said),
            Syntax::Named(call) => call.push(c, &mut self.said),
        }
    }
}

/// `{"name": ..., "arguments": {...}}`.
#[derive(Clone, Debug)]
struct Json {
    is_sure: bool,
    scanner: Scanner,
    /// The text of the key that is being read, or was read last, with quotes.
    key: String,
    slot: Option<Slot>,
    /// The text of the name, with quotes.
    name_text: String,
}

impl Json {
    fn new(is_sure: bool) -> Self {
        Self { is_sure, scanner: Scanner::new(), key: String::new(), slot: None, name_text: String::new() }
    }

    /// True when the call is whole.
    fn is_done(&self) -> bool {
        self.scanner.state == State::Done
    }

    /// The next character.
    fn push(&mut self, c: char, said: &mut Said) -> Result<(), Wrong> {
        let (before, depth) = (self.scanner.state.clone(), self.scanner.depth);
        let mut rest = String::new();
        if depth == 1 && before == State::Value && !c.is_ascii_whitespace() {
            self.begin_value(c, said)?;
        }
        let out = match self.slot {
            Some(Slot::Name) => &mut self.name_text,
            Some(Slot::Arguments) => &mut said.arguments,
            _ if depth == 1 && in_key(&before) => &mut self.key,
            _ => &mut rest,
        };
        self.scanner.push(c, out)?;
        if self.key.len() > TOOL_HELD_BYTES_MAX || self.name_text.len() > 8 * TOOL_NAME_BYTES_MAX {
            return Err(Wrong);
        }
        let is_outside = self.scanner.depth == 1 && self.scanner.state == State::CommaOrEnd;
        if self.slot.is_some() && (is_outside || self.is_done()) {
            self.end_value(said)?;
        }
        if self.is_done() && said.name.is_none() { Err(Wrong) } else { Ok(()) }
    }

    fn begin_value(&mut self, c: char, said: &mut Said) -> Result<(), Wrong> {
        let key: String = serde_json::from_str(&format!("\"{}", self.key)).map_err(|_| Wrong)?;
        self.key.clear();
        let slot = match key.as_str() {
            "name" if said.name.is_none() => Slot::Name,
            "arguments" | "parameters" if said.arguments_are == Progress::Missing => Slot::Arguments,
            "id" | "type" => Slot::Other,
            _ if self.is_sure => Slot::Other,
            _ => return Err(Wrong),
        };
        match (slot, c) {
            (Slot::Name, '"') | (Slot::Other, _) => {}
            (Slot::Arguments, '{') => said.arguments_are = Progress::Object,
            (Slot::Arguments, '"' | 'n') => said.arguments_are = Progress::Held,
            _ => return Err(Wrong),
        }
        self.slot = Some(slot);
        Ok(())
    }

    fn end_value(&mut self, said: &mut Said) -> Result<(), Wrong> {
        match self.slot.take() {
            Some(Slot::Name) => {
                let name: String = serde_json::from_str(&self.name_text).map_err(|_| Wrong)?;
                if !is_name(&name) {
                    return Err(Wrong);
                }
                said.name = Some(name);
            }
            Some(Slot::Arguments) => {
                if said.arguments_are == Progress::Held {
                    said.arguments = object_in(&said.arguments)?;
                }
                said.arguments_are = Progress::Done;
            }
            _ => {}
        }
        Ok(())
    }
}

/// May a tool have this name?
pub(super) fn is_name(name: &str) -> bool {
    let is_fine = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    is_fine && (1..=TOOL_NAME_BYTES_MAX).contains(&name.len())
}

fn in_key(state: &State) -> bool {
    matches!(state, State::Text { is_key: true } | State::Escape { is_key: true } | State::Unicode { is_key: true, .. })
}

/// Some models write the object as text in a string, or null for an empty one.
fn object_in(text: &str) -> Result<String, Wrong> {
    match serde_json::from_str(text).map_err(|_| Wrong)? {
        Value::Null => Ok("{}".to_owned()),
        Value::String(inner) => {
            let (mut scanner, mut out) = (Scanner::new(), String::new());
            let inner = inner.trim();
            if !inner.starts_with('{') {
                return Err(Wrong);
            }
            inner.chars().try_for_each(|c| scanner.push(c, &mut out))?;
            if scanner.state == State::Done { Ok(out) } else { Err(Wrong) }
        }
        _ => Err(Wrong),
    }
}
