//! One JSON value, character by character, as models write it: what is almost JSON is put right as it goes by (line breaks
//! within strings, escapes that are none, a comma before a closing bracket, braces written twice as templates write them), and
//! anything else is refused at the first wrong character.

use base::limits::{JSON_DEPTH_MAX, TOOL_SPACE_BYTES_MAX};

/// This is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong;

/// Where in a value the next character stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After `{`.
    KeyOrEnd,
    /// After `,` in an object.
    Key,
    Colon,
    /// After a value.
    CommaOrEnd,
    /// After `}` of an object that was opened twice.
    EndAgain,
    Text {
        is_key: bool,
    },
    /// After `\`, which is not written yet.
    Escape {
        is_key: bool,
    },
    /// After `\u`, which is not written yet, and these digits.
    Unicode {
        is_key: bool,
        digits: String,
    },
    Number(Number),
    /// What is left of `true`, `false` or `null`.
    Literal(&'static str),
    Done,
}

/// How far a number has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl Number {
    fn next(self, c: char) -> Option<Self> {
        Some(match (self, c) {
            (Self::Minus, '0') => Self::Zero,
            (Self::Minus | Self::Digits, '0'..='9') => Self::Digits,
            (Self::Zero | Self::Digits, '.') => Self::Point,
            (Self::Point | Self::Fraction, '0'..='9') => Self::Fraction,
            (Self::Zero | Self::Digits | Self::Fraction, 'e' | 'E') => Self::Exponent,
            (Self::Exponent, '+' | '-') => Self::Sign,
            (Self::Exponent | Self::Sign | Self::Power, '0'..='9') => Self::Power,
            _ => return None,
        })
    }

    fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Digits | Self::Fraction | Self::Power)
    }
}

/// Reads one value. Its state is of bounded size.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    pub(super) state: State,
    /// Open brackets; bit i says whether the i-th is an object.
    pub(super) depth: usize,
    objects: u64,
    /// Bit i: the i-th object began with two braces.
    doubled: u64,
    /// A comma, and white space after it, that is not written yet: it is dropped if a bracket closes.
    comma: String,
}

const _: () = assert!(JSON_DEPTH_MAX <= 64, "one bit for each level");

impl Scanner {
    pub(super) fn new() -> Self {
        Self { state: State::Value, depth: 0, objects: 0, doubled: 0, comma: String::new() }
    }

    /// Takes a character and appends what is certain of it.
    pub(super) fn push(&mut self, c: char, out: &mut String) -> Result<(), Wrong> {
        match &mut self.state {
            State::Text { is_key } => {
                let is_key = *is_key;
                match c {
                    '"' => self.state = if is_key { State::Colon } else { self.after_value() },
                    '\\' => {
                        self.state = State::Escape { is_key };
                        return Ok(());
                    }
                    _ => {}
                }
                push_char(c, out);
            }
            State::Escape { is_key } => {
                let is_key = *is_key;
                self.state = State::Text { is_key };
                match c {
                    '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => out.extend(['\\', c]),
                    'u' => self.state = State::Unicode { is_key, digits: String::new() },
                    '\'' => out.push(c),
                    // `\d` in a regular expression, `\` at the end of a line: a backslash was meant.
                    _ => {
                        out.push_str("\\\\");
                        push_char(c, out);
                    }
                }
            }
            State::Unicode { is_key, digits } => {
                let is_key = *is_key;
                if c.is_ascii_hexdigit() {
                    digits.push(c);
                    if digits.len() == 4 {
                        out.push_str("\\u");
                        out.push_str(digits);
                        self.state = State::Text { is_key };
                    }
                    return Ok(());
                }
                out.push_str("\\\\u");
                out.push_str(digits);
                self.state = State::Text { is_key };
                return self.push(c, out); // once: the state is another
            }
            State::Number(number) => match number.next(c) {
                Some(next) => {
                    *number = next;
                    out.push(c);
                }
                None if number.may_end() => {
                    self.state = self.after_value();
                    return self.push(c, out); // once: the state is another
                }
                None => return Err(Wrong),
            },
            State::Literal(rest) => {
                *rest = rest.strip_prefix(c).ok_or(Wrong)?;
                if rest.is_empty() {
                    self.state = self.after_value();
                }
                out.push(c);
            }
            _ if matches!(c, ' ' | '\t' | '\n' | '\r') => match self.comma.len() {
                0 => out.push(c),
                n if n < TOOL_SPACE_BYTES_MAX => self.comma.push(c),
                _ => {}
            },
            _ => {
                let is_again = self.state == State::EndAgain || self.state == State::KeyOrEnd && c == '{';
                self.between(c)?;
                if !matches!(c, '}' | ']') {
                    out.push_str(&self.comma);
                }
                self.comma.clear();
                match c {
                    ',' => self.comma.push(c),
                    _ if is_again => {}
                    _ => out.push(c),
                }
            }
        }
        Ok(())
    }

    /// Outside of strings, numbers and literals; no white space.
    fn between(&mut self, c: char) -> Result<(), Wrong> {
        self.state = match (&self.state, c) {
            (State::KeyOrEnd | State::Key, '"') => State::Text { is_key: true },
            (State::KeyOrEnd, '{') if self.depth > 0 && !self.is_doubled() => {
                self.doubled |= 1 << (self.depth - 1);
                State::KeyOrEnd
            }
            (State::KeyOrEnd | State::Key | State::CommaOrEnd, '}') if self.in_object() => match self.is_doubled() {
                true => State::EndAgain,
                false => self.close(),
            },
            (State::EndAgain, '}') => self.close(),
            (State::ValueOrEnd | State::CommaOrEnd, ']') if !self.in_object() => self.close(),
            (State::Value, ']') if !self.comma.is_empty() && !self.in_object() => self.close(),
            (State::Colon, ':') => State::Value,
            (State::CommaOrEnd, ',') if self.in_object() => State::Key,
            (State::CommaOrEnd, ',') => State::Value,
            (State::Value | State::ValueOrEnd, _) => match c {
                '{' => self.open(true)?,
                '[' => self.open(false)?,
                '"' => State::Text { is_key: false },
                '-' => State::Number(Number::Minus),
                '0' => State::Number(Number::Zero),
                '1'..='9' => State::Number(Number::Digits),
                't' => State::Literal("rue"),
                'f' => State::Literal("alse"),
                'n' => State::Literal("ull"),
                _ => return Err(Wrong),
            },
            _ => return Err(Wrong),
        };
        Ok(())
    }

    fn in_object(&self) -> bool {
        self.depth > 0 && self.objects >> (self.depth - 1) & 1 == 1
    }

    fn is_doubled(&self) -> bool {
        self.doubled >> (self.depth - 1) & 1 == 1
    }

    /// The brackets that close everything deeper than `depth`, if nothing but them is missing.
    pub(super) fn missing(&self, depth: usize) -> Option<String> {
        let is_object = |level: usize| self.objects >> level & 1 == 1;
        let close = |level| if is_object(level) { '}' } else { ']' };
        (self.state == State::CommaOrEnd).then(|| (depth..self.depth).rev().map(close).collect())
    }

    fn open(&mut self, is_object: bool) -> Result<State, Wrong> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(Wrong);
        }
        self.objects = self.objects & !(1 << self.depth) | u64::from(is_object) << self.depth;
        self.doubled &= !(1 << self.depth);
        self.depth += 1;
        Ok(if is_object { State::KeyOrEnd } else { State::ValueOrEnd })
    }

    fn close(&mut self) -> State {
        self.depth -= 1;
        self.after_value()
    }

    fn after_value(&self) -> State {
        if self.depth == 0 { State::Done } else { State::CommaOrEnd }
    }
}

/// A character of a string; models forget to escape line breaks and tabs.
pub(super) fn push_char(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        _ => out.push(c),
    }
}
