//! Mistral's later form of calls, `NAME[ARGS]{...}` after `[TOOL_CALLS]`, as it comes. An id may stand between, in `[CALL_ID]...`, and
//! `[ARGS]` may be missing, as it is where special tokens are not shown.

use base::limits::TOOL_NAME_BYTES_MAX;

use super::call::{Progress, Said, is_name};
use super::json::{self, Scanner, Wrong};

pub(super) const ARGS: &str = "[ARGS]";
pub(super) const CALL_ID: &str = "[CALL_ID]";

#[derive(Clone, Debug)]
enum State {
    Name(String),
    /// White space after the name, or the beginning of a mark.
    Mark(String),
    Id(usize),
    /// White space before the arguments.
    Gap,
    Arguments(Scanner),
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Named(State);

impl Named {
    pub(super) fn new() -> Self {
        Self(State::Name(String::new()))
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(&self.0, State::Arguments(s) if s.state == json::State::Done)
    }

    /// The next character.
    pub(super) fn push(&mut self, c: char, said: &mut Said) -> Result<(), Wrong> {
        match &mut self.0 {
            State::Name(name) if c == '[' || c == '{' || c.is_ascii_whitespace() => {
                if !is_name(name) {
                    return Err(Wrong);
                }
                said.name = Some(std::mem::take(name));
                self.0 = State::Mark(String::new());
                return self.push(c, said); // once: the state is another
            }
            State::Name(name) if name.len() < TOOL_NAME_BYTES_MAX => name.push(c),
            State::Mark(mark) if mark.is_empty() && c.is_ascii_whitespace() => {}
            State::Mark(mark) if mark.is_empty() && c == '{' => return self.begin(said),
            State::Mark(mark) => {
                mark.push(c);
                if mark == ARGS {
                    self.0 = State::Gap;
                } else if mark == CALL_ID {
                    self.0 = State::Id(0);
                } else if !ARGS.starts_with(mark.as_str()) && !CALL_ID.starts_with(mark.as_str()) {
                    return Err(Wrong);
                }
            }
            State::Id(_) if c == '[' => self.0 = State::Mark("[".to_owned()),
            State::Id(n) if *n < TOOL_NAME_BYTES_MAX && (c.is_ascii_alphanumeric() || "_-".contains(c)) => *n += 1,
            State::Gap if c.is_ascii_whitespace() => {}
            State::Gap if c == '{' => return self.begin(said),
            State::Arguments(scanner) => {
                scanner.push(c, &mut said.arguments)?;
                if scanner.state == json::State::Done {
                    said.arguments_are = Progress::Done;
                }
            }
            _ => return Err(Wrong),
        }
        Ok(())
    }

    fn begin(&mut self, said: &mut Said) -> Result<(), Wrong> {
        let mut scanner = Scanner::new();
        scanner.push('{', &mut said.arguments)?;
        said.arguments_are = Progress::Object;
        self.0 = State::Arguments(scanner);
        Ok(())
    }
}
