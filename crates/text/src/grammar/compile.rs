//! From the text of a grammar to a parser, within limits.

use std::panic::AssertUnwindSafe;

use base::limits::{GRAMMAR_BYTES_MAX, GRAMMAR_RULES_MAX, GRAMMAR_STACK_BYTES};
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::{ParserFactory, TokenParser, panic_utils};

use super::schema;
use crate::TextError;

/// The text of a grammar, and in what language it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrammarSpec<'a> {
    /// Any JSON object.
    JsonObject,
    /// JSON that is valid under this schema, which is JSON itself.
    JsonSchema(&'a str),
    /// A regular expression, in the syntax of the `regex` crate, for the whole answer.
    Regex(&'a str),
    /// llguidance's dialect of Lark.
    Lark(&'a str),
    /// Tool calls, in Lark that `ToolFormat::plan` wrote: its schemas have been checked.
    Calls(&'a str),
    /// The same, from this marker on: before it everything is allowed, also an end.
    CallsAfter {
        /// Not empty.
        marker: &'a str,
        /// The marker is in it, as a comment.
        text: &'a str,
    },
    /// llguidance's own: Lark, or JSON with a list of `grammars`.
    Native(&'a str),
}

impl<'a> GrammarSpec<'a> {
    /// The language, as a number, and the text: equal for equal grammars.
    pub fn key(&self) -> (u8, &'a str) {
        match *self {
            Self::JsonObject => (0, "{\"type\":\"object\"}"),
            Self::JsonSchema(text) => (1, text),
            Self::Regex(text) => (2, text),
            Self::Lark(text) => (3, text),
            Self::Calls(text) => (4, text),
            Self::Native(text) => (5, text),
            Self::CallsAfter { text, .. } => (6, text),
        }
    }
}

/// Bytes of a message of the library that are passed on.
const REASON_BYTES: usize = 300;

pub(super) fn compile(factory: &ParserFactory, spec: &GrammarSpec<'_>) -> Result<TokenParser, TextError> {
    let (_, text) = spec.key();
    check("the grammar, in bytes,", "GRAMMAR_BYTES_MAX", GRAMMAR_BYTES_MAX, text.len())?;
    on_deep_stack(|| match spec {
        GrammarSpec::JsonObject | GrammarSpec::JsonSchema(_) => {
            let schema = schema::read(text)?;
            let grammar = GrammarWithLexer::from_json_schema(schema::with_options(schema.clone()));
            let parsed = parser(factory, TopLevelGrammar::from_grammar(grammar));
            parsed.map_err(|e| schema::place(&schema, e))
        }
        GrammarSpec::Regex(text) => parser(factory, TopLevelGrammar::from_regex(text)),
        GrammarSpec::Lark(text) => {
            check_rules(text)?;
            parser(factory, TopLevelGrammar::from_lark((*text).to_owned()))
        }
        GrammarSpec::Calls(text) | GrammarSpec::CallsAfter { text, .. } => {
            parser(factory, TopLevelGrammar::from_lark((*text).to_owned()))
        }
        GrammarSpec::Native(text) => {
            check_rules(text)?;
            parser(factory, guarded(|| TopLevelGrammar::from_lark_or_grammar_list(text))?)
        }
    })
}

fn parser(factory: &ParserFactory, grammar: TopLevelGrammar) -> Result<TokenParser, TextError> {
    guarded(|| {
        let mut parser = factory.create_parser(grammar)?;
        parser.start_without_prompt();
        Ok(parser)
    })
}

/// The compiler follows references between rules by recursion.
fn check_rules(text: &str) -> Result<(), TextError> {
    let n_rules = text.bytes().filter(|&b| b == b':').count();
    check("the number of rules (colons)", "GRAMMAR_RULES_MAX", GRAMMAR_RULES_MAX, n_rules)
}

pub(crate) fn check(what: &'static str, limit: &'static str, max: usize, got: usize) -> Result<(), TextError> {
    if got > max { Err(TextError::Limit { what, limit, max, got }) } else { Ok(()) }
}

/// Runs the library so that its panics and its errors become ours.
pub(super) fn guarded<T>(f: impl FnOnce() -> Result<T, anyhow::Error>) -> Result<T, TextError> {
    panic_utils::catch_unwind(AssertUnwindSafe(f)).map_err(|e| TextError::grammar("", reason(&format!("{e:#}"))))
}

/// What of the library's message people can use: no trace, not the whole grammar again.
fn reason(message: &str) -> String {
    if message.starts_with("panic") || message.contains("<backtrace>") {
        return "the grammar compiler failed on this grammar; simplify it".to_owned();
    }
    let message = message.split("\n<").next().unwrap_or_default();
    // A complaint about a regular expression shows the expression first.
    let message = message.rsplit_once("\nerror: ").map_or(message, |(_, what)| what).trim();
    let mut end = message.len().min(REASON_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let tail = if end < message.len() { " ..." } else { "" };
    format!("{}{tail}", &message[..end])
}

/// Runs on a thread with a deep stack: limits on depth and rules keep the recursion well within it.
fn on_deep_stack<T: Send>(f: impl FnOnce() -> Result<T, TextError> + Send) -> Result<T, TextError> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("grammar".to_owned()).stack_size(GRAMMAR_STACK_BYTES);
        let failed = |what: &str| TextError::grammar("", format!("the grammar could not be compiled: {what}"));
        let thread = builder.spawn_scoped(scope, f).map_err(|e| failed(&e.to_string()))?;
        thread.join().map_err(|_| failed("the compiler stopped"))?
    })
}
