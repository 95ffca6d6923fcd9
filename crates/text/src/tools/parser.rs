//! Reads calls out of an answer as it comes. Each character is looked at a bounded number of times; what is held back is
//! bounded by `TOOL_HELD_BYTES_MAX`; how the text is cut into pieces changes nothing but how the parts are cut.
//!
//! White space around a call is dropped. Everything else that is not part of a call is text.

use std::sync::Arc;

use base::limits::{TOOL_CALLS_MAX, TOOL_HELD_BYTES_MAX, TOOL_SPACE_BYTES_MAX};
use serde_json::Value;

use super::call::{Call, Progress};
use super::fits::fits;
use super::format::{CLOSES, Forms, Marker, ToolFormat};
use super::kinds::{self, Kinds};
use super::xml::Parameters;
use super::{ToolInput, ToolSpec};

/// What an answer consists of, in the order of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolPart {
    /// More text.
    Text(String),
    /// A call begins.
    Begin {
        /// The tool. It may be one that nobody offered, where the model wrote it as a call beyond doubt.
        name: String,
    },
    /// More of the call's arguments: the pieces together are a JSON object. For a tool that takes text, more of the text.
    Arguments(String),
    /// The call ends.
    End,
}

/// What stands around calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrap {
    /// Calls between tags; this is the closing one.
    Tag(&'static str),
    /// Calls in a fenced block.
    Fence,
    /// Calls in a list. Some models mark it, some do not.
    List { is_marked: bool },
    /// Nothing.
    Bare { is_marked: bool },
    /// A tag that was left out before a call as XML; the closing one may come.
    Function,
    /// A mark before each call.
    Named,
}

impl Wrap {
    /// It can be nothing but a call, so its name need not be known.
    fn is_sure(self) -> bool {
        matches!(self, Self::Tag(_) | Self::List { is_marked: true } | Self::Bare { is_marked: true } | Self::Named)
    }
}

#[derive(Clone, Debug)]
enum State {
    /// `held` may be the beginning of a marker.
    Text,
    /// A marker has come; `held` is it and the white space after it.
    Opened(Wrap),
    /// `held` is everything since the last text; empty once the call has begun.
    Call { wrap: Wrap, call: Box<Call>, begun: Option<Begun> },
    /// Between calls; `held` may be the beginning of the closing tag.
    After(Wrap),
    /// The whole answer is what one tool takes.
    Raw { name: String, has_begun: bool },
    /// One call was allowed, and has come.
    Over,
}

/// How the arguments of a call are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// As they come.
    Pieces,
    /// The text in them, when it is whole.
    Text,
}

/// The parser of one answer.
#[derive(Clone, Debug)]
pub struct ToolParser {
    forms: Forms,
    /// Names, and whether they take text; of those that may be called.
    known: Vec<(String, bool)>,
    /// Names of tools that may not be called.
    barred: Vec<String>,
    parameters: Parameters,
    /// Forms in which the grammar holds calls to their schemas; none where there is no grammar.
    checked: Option<Forms>,
    /// Strict tools and their schemas: a call in any other form counts only if it fits.
    strict: Arc<[(String, Value)]>,
    is_single: bool,
    state: State,
    held: String,
    /// White space that is dropped if a call follows.
    space: String,
    /// Nothing but white space has come.
    at_start: bool,
    /// Nothing but blanks has come since the last line break.
    at_line: bool,
    n_calls: usize,
}

/// Parts, merged where they go on.
struct Out<'a>(&'a mut Vec<ToolPart>);

impl Out<'_> {
    fn text(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(ToolPart::Text(last)) => last.push_str(text),
            _ => self.0.push(ToolPart::Text(text.to_owned())),
        }
    }

    fn arguments(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(ToolPart::Arguments(last)) => last.push_str(text),
            _ => self.0.push(ToolPart::Arguments(text.to_owned())),
        }
    }
}

impl ToolParser {
    /// For an answer of a model that writes calls in this form.
    pub fn new(format: &ToolFormat, tools: &[ToolSpec]) -> Self {
        let state = match format {
            ToolFormat::Raw { name } => State::Raw { name: name.clone(), has_begun: false },
            _ => State::Text,
        };
        let takes_text = |t: &ToolSpec| matches!(t.input, ToolInput::Text(_));
        let allowed = |t: &&ToolSpec| t.is_allowed;
        let forms = format.forms();
        Self {
            forms,
            parameters: if forms.has_xml { tools.iter().map(parameters).collect() } else { Arc::default() },
            known: tools.iter().filter(allowed).map(|t| (t.name.clone(), takes_text(t))).collect(),
            barred: tools.iter().filter(|t| !t.is_allowed).map(|t| t.name.clone()).collect(),
            checked: None,
            strict: Arc::default(),
            is_single: false,
            state,
            held: String::new(),
            space: String::new(),
            at_start: true,
            at_line: true,
            n_calls: 0,
        }
    }

    /// Where a grammar checks calls in the model's own form: calls of strict tools in other forms are text, unless they fit.
    pub fn strictly(mut self, format: &ToolFormat, tools: &[ToolSpec]) -> Self {
        let schema = |t: &ToolSpec| match &t.input {
            ToolInput::Json(Some(schema)) if t.strict => Some((t.name.clone(), schema.clone())),
            _ => None,
        };
        self.checked = Some(format.own_forms());
        self.strict = tools.iter().filter_map(schema).collect();
        self
    }

    /// Nothing counts after the first call.
    pub fn single(mut self) -> Self {
        self.is_single = true;
        self
    }

    /// One call was allowed, and has come: nothing more will.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// A call has begun and its end has not come.
    pub fn is_in_call(&self) -> bool {
        matches!(self.state, State::Call { begun: Some(_), .. } | State::Raw { .. })
    }

    /// Calls that have begun.
    pub fn n_calls(&self) -> usize {
        self.n_calls
    }

    /// Takes more of the answer and appends what is certain of it.
    pub fn push(&mut self, text: &str, parts: &mut Vec<ToolPart>) {
        let mut out = Out(parts);
        if let State::Raw { name, has_begun } = &mut self.state {
            if !*has_begun {
                *has_begun = true;
                self.n_calls = 1;
                out.0.push(ToolPart::Begin { name: name.clone() });
            }
            out.arguments(text);
            return;
        }
        text.chars().for_each(|c| self.step(c, &mut out));
        self.pieces(&mut out);
    }

    /// Ends the answer and appends what was held back. A call that has begun ends as it stands.
    pub fn finish(&mut self, parts: &mut Vec<ToolPart>) {
        let mut out = Out(parts);
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => return,
            State::Raw { name, has_begun } => {
                if !has_begun {
                    self.n_calls = 1;
                    out.0.push(ToolPart::Begin { name });
                }
                out.0.push(ToolPart::End);
                return;
            }
            State::Call { call, begun: Some(begun), .. } => {
                if begun == Begun::Text {
                    out.arguments(&call.said.arguments);
                }
                out.0.push(ToolPart::End);
                return;
            }
            State::After(_) if self.held.is_empty() => return,
            State::Text if self.held.is_empty() && self.n_calls > 0 => return, // white space after a call
            _ => {}
        }
        self.release(&mut out);
        out.text(&self.space);
        self.space.clear();
    }

    fn step(&mut self, c: char, out: &mut Out<'_>) {
        match &mut self.state {
            State::Text => self.text(c, out),
            State::Opened(wrap) => {
                let wrap = *wrap;
                self.opened(wrap, c, out);
            }
            State::Call { .. } => self.call(c, out),
            State::After(wrap) => {
                let wrap = *wrap;
                self.after(wrap, c, out);
            }
            State::Raw { .. } | State::Over => {}
        }
    }

    /// Between a marker and the first object.
    fn opened(&mut self, wrap: Wrap, c: char, out: &mut Out<'_>) {
        let is_list = wrap == (Wrap::List { is_marked: true }) && c == '[' && !self.held.ends_with('[');
        match c {
            '{' => self.begin(Call::json(wrap.is_sure()), wrap, c, out),
            '<' if self.forms.has_xml && matches!(wrap, Wrap::Tag(_)) => {
                self.begin(Call::xml(&self.parameters), wrap, c, out);
            }
            _ if self.forms.has_named
                && wrap == (Wrap::List { is_marked: true })
                && !self.held.ends_with('[')
                && (c.is_ascii_alphanumeric() || c == '_') =>
            {
                self.begin(Call::named(), Wrap::Named, c, out);
            }
            '[' if wrap == (Wrap::Bare { is_marked: true }) => {
                self.held.push(c);
                self.state = State::Opened(Wrap::List { is_marked: true });
            }
            _ if is_list || c.is_ascii_whitespace() && self.held.len() < TOOL_SPACE_BYTES_MAX => self.held.push(c),
            _ => self.give_up(c, out),
        }
    }

    /// Text, in which a marker may begin.
    fn text(&mut self, c: char, out: &mut Out<'_>) {
        if !self.held.is_empty() {
            self.held.push(c);
            match self.forms.marker(&self.held) {
                Marker::Partial => return,
                Marker::Whole(wrap) => {
                    self.state = State::Opened(wrap);
                    return;
                }
                Marker::Object => {
                    self.held.pop();
                    return self.begin(Call::json(false), Wrap::Fence, c, out);
                }
                Marker::Function => {
                    self.held.pop();
                    let (last, begun) = (c, std::mem::take(&mut self.held));
                    let (call, mut rest) = (Call::xml(&self.parameters), begun.chars().chain([last]));
                    if let Some(first) = rest.next() {
                        self.begin(call, Wrap::Function, first, out);
                        rest.for_each(|c| self.step(c, out));
                    }
                    return;
                }
                Marker::None => {
                    self.held.pop();
                    if self.held == "[" && self.at_start && self.forms.has_bare {
                        self.state = State::Opened(Wrap::List { is_marked: false });
                        return self.step(c, out);
                    }
                    self.release(out);
                }
            }
        }
        let opens = match c {
            '<' | '[' if self.forms.opens_with(c) => true,
            '`' => self.forms.has_fences && self.at_line,
            _ => false,
        };
        if opens {
            self.held.push(c);
        } else if c == '{' && self.at_start && self.forms.has_bare {
            self.begin(Call::json(false), Wrap::Bare { is_marked: false }, c, out);
        } else if c == '[' && self.at_start && self.forms.has_bare {
            self.held.push(c);
            self.state = State::Opened(Wrap::List { is_marked: false });
        } else {
            self.plain(c, out);
        }
    }

    /// A character that is text.
    fn plain(&mut self, c: char, out: &mut Out<'_>) {
        if c.is_ascii_whitespace() {
            self.at_line = c == '\n' || self.at_line;
            self.space.push(c);
            if self.space.len() > TOOL_SPACE_BYTES_MAX {
                out.text(&self.space);
                self.space.clear();
            }
            return;
        }
        (self.at_start, self.at_line) = (false, false);
        out.text(&self.space);
        self.space.clear();
        let mut bytes = [0; 4];
        out.text(c.encode_utf8(&mut bytes));
    }

    /// What was held back is text.
    fn release(&mut self, out: &mut Out<'_>) {
        let held = std::mem::take(&mut self.held);
        held.chars().for_each(|c| self.plain(c, out));
    }

    /// What was held back is text, and this character begins anew.
    fn give_up(&mut self, c: char, out: &mut Out<'_>) {
        self.state = State::Text;
        self.release(out);
        self.text(c, out);
    }

    /// A call may begin, with this character.
    fn begin(&mut self, call: Call, wrap: Wrap, first: char, out: &mut Out<'_>) {
        if self.n_calls == TOOL_CALLS_MAX {
            self.state = State::Text;
            self.release(out);
            return self.plain(first, out);
        }
        self.state = State::Call { wrap, call: Box::new(call), begun: None };
        self.call(first, out);
    }

    fn call(&mut self, c: char, out: &mut Out<'_>) {
        let State::Call { wrap, call, begun } = &mut self.state else { return };
        let wrap = *wrap;
        if begun.is_none() {
            self.held.push(c);
        }
        let is_right = call.push(c).is_ok();
        match begun {
            None if !is_right || self.held.len() > TOOL_HELD_BYTES_MAX => {
                self.held.pop();
                return self.give_up(c, out);
            }
            None => {
                if let Some(name) = &call.said.name
                    && !wrap.is_sure()
                    && !self.known.iter().any(|(known, _)| known == name)
                {
                    return self.give_up_whole(out); // JSON of another kind need not wait for its end
                }
                let is_ready =
                    call.said.name.is_some() && (call.said.arguments_are != Progress::Missing || call.is_done());
                let is_ready = is_ready && (call.is_done() || !self.is_unchecked());
                let State::Call { call, .. } = &self.state else { return };
                if is_ready && call.said.arguments_are != Progress::Held {
                    let Some(how) = self.admit() else { return self.give_up_whole(out) };
                    self.announce(how, out);
                }
            }
            Some(_) if !is_right && c == '<' && matches!(wrap, Wrap::Tag(_)) && call.close() => {
                self.end(out);
                if !self.is_over() {
                    self.state = State::After(wrap);
                    self.after(wrap, c, out);
                }
                return;
            }
            // It has been told to the client: what came is what it is called with.
            Some(_) if !is_right => {
                self.end(out);
                self.state = State::Text;
                return self.text(c, out);
            }
            Some(Begun::Text) if call.said.arguments.len() > TOOL_HELD_BYTES_MAX => *begun = Some(Begun::Pieces),
            Some(_) => {}
        }
        if let State::Call { call, .. } = &self.state
            && call.is_done()
        {
            self.end(out);
            if !self.is_over() {
                self.state = State::After(wrap);
            }
        }
    }

    /// The schema of a strict tool.
    fn schema(&self, name: &str) -> Option<&Value> {
        self.strict.iter().find(|(strict, _)| strict == name).map(|(_, schema)| schema)
    }

    /// Nothing more is asked of calls that stand so: a grammar has held them, or there is none.
    fn is_held(&self, wrap: Wrap) -> bool {
        self.checked.as_ref().is_none_or(|forms| forms.hold(wrap))
    }

    /// The call is of a strict tool, in a form that no grammar checks: it is looked at when it is whole.
    fn is_unchecked(&self) -> bool {
        let State::Call { wrap, call, .. } = &self.state else { return false };
        let is_strict = call.said.name.as_deref().is_some_and(|name| self.schema(name).is_some());
        is_strict && !self.is_held(*wrap)
    }

    /// May the call begin, and how are its arguments given out?
    fn admit(&self) -> Option<Begun> {
        let State::Call { wrap, call, .. } = &self.state else { return None };
        let name = call.said.name.as_deref()?;
        let has_arguments = call.said.arguments_are != Progress::Missing;
        let how = |takes_text| if takes_text { Begun::Text } else { Begun::Pieces };
        let is_held = self.is_held(*wrap);
        let fits = || self.schema(name).is_none_or(|schema| fits_text(schema, &call.said.arguments));
        match self.known.iter().find(|(known, _)| known == name) {
            Some(_) if !is_held && !fits() => None,
            None if !is_held => None,
            Some((_, takes_text)) => (wrap.is_sure() || has_arguments).then(|| how(*takes_text)),
            None => (wrap.is_sure() && !self.barred.iter().any(|b| b == name)).then_some(Begun::Pieces),
        }
    }

    /// JSON so far, and no call: all of it is text.
    fn give_up_whole(&mut self, out: &mut Out<'_>) {
        self.state = State::Text;
        self.release(out);
    }

    fn announce(&mut self, how: Begun, out: &mut Out<'_>) {
        let State::Call { call, begun, .. } = &mut self.state else { return };
        *begun = Some(how);
        self.n_calls += 1;
        (self.at_start, self.at_line) = (false, true);
        self.held = String::new();
        self.space.clear();
        out.0.push(ToolPart::Begin { name: call.said.name.clone().unwrap_or_default() });
    }

    /// Gives out the arguments that have come.
    fn pieces(&mut self, out: &mut Out<'_>) {
        if let State::Call { call, begun: Some(Begun::Pieces), .. } = &mut self.state {
            out.arguments(&call.said.arguments);
            call.said.arguments.clear();
        }
    }

    fn end(&mut self, out: &mut Out<'_>) {
        self.pieces(out);
        let State::Call { call, begun, .. } = &mut self.state else { return };
        match begun {
            Some(Begun::Text) => out.arguments(&text_in(&call.said.arguments)),
            _ if call.said.arguments_are == Progress::Missing => out.arguments("{}"),
            _ => {}
        }
        out.0.push(ToolPart::End);
        if self.is_single {
            self.state = State::Over;
        }
    }

    /// Between calls, or after the last one.
    fn after(&mut self, wrap: Wrap, c: char, out: &mut Out<'_>) {
        let close = match wrap {
            Wrap::Tag(close) => close,
            Wrap::Fence => "```",
            Wrap::List { .. } => "]",
            Wrap::Function => "</tool_call>",
            Wrap::Bare { .. } | Wrap::Named => "",
        };
        let is_tag = matches!(wrap, Wrap::Tag(_));
        let closes: &[&str] = if is_tag { &CLOSES } else { &[close] };
        self.held.push(c);
        if closes.contains(&self.held.as_str()) {
            self.held.clear();
            self.space.clear(); // before the tag
            self.state = State::Text;
            return;
        }
        if closes.iter().any(|close| close.starts_with(&self.held)) {
            return;
        }
        self.held.pop();
        match c {
            '}' if self.held.is_empty() && is_tag => {} // one too many

            '{' if self.held.is_empty() && !matches!(wrap, Wrap::Function | Wrap::Named) => {
                self.begin(Call::json(wrap.is_sure()), wrap, c, out);
            }
            ',' if self.held.is_empty() && matches!(wrap, Wrap::List { .. }) => {}
            ';' if self.held.is_empty() && matches!(wrap, Wrap::Bare { .. }) => {}
            _ if self.held.is_empty() && c.is_ascii_whitespace() => self.plain(c, out),
            _ => {
                // A tag was left open, and another may begin: what is held is shorter than a tag.
                self.state = State::Text;
                let held = std::mem::take(&mut self.held);
                held.chars().chain([c]).for_each(|c| self.text(c, out));
            }
        }
    }
}

/// A tool, and what kinds of value its parameters have.
fn parameters(tool: &ToolSpec) -> (String, Vec<(String, Kinds)>) {
    let of = match &tool.input {
        ToolInput::Json(schema) => schema.as_ref().map(kinds::of_parameters).unwrap_or_default(),
        ToolInput::Text(_) => vec![("input".to_owned(), Kinds::TEXT)],
    };
    (tool.name.clone(), of)
}

/// Do arguments fit their schema?
fn fits_text(schema: &Value, arguments: &str) -> bool {
    let arguments = if arguments.is_empty() { "{}" } else { arguments };
    serde_json::from_str(arguments).is_ok_and(|value: Value| value.is_object() && fits(schema, &value))
}

/// The text that a tool takes, out of the arguments in which a model wrote it.
fn text_in(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(mut o)) => match (o.swap_remove("input"), o.len()) {
            (Some(Value::String(text)), _) => text,
            // Another name for the only one there is.
            (None, 1) => match o.into_iter().next() {
                Some((_, Value::String(text))) => text,
                _ => arguments.to_owned(),
            },
            _ => arguments.to_owned(),
        },
        _ => arguments.to_owned(),
    }
}
