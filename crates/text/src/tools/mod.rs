//! Tool calls: the form in which a model writes them, a parser that reads them out of an answer as it comes, and the grammar
//! that makes a model write them.
//!
//! What a model writes is a guess at its form, so the parser reads some others beside it, and what turns out to be no call
//! stays text. Sources of the forms: the models' own chat templates.

mod call;
mod fits;
#[cfg(test)]
mod fits_tests;
mod format;
mod grammar;
mod json;
mod kinds;
mod named;
mod parser;
#[cfg(test)]
mod tests;
mod xml;
mod xml_grammar;
#[cfg(test)]
mod xml_tests;

use serde_json::Value;

pub use format::ToolFormat;
pub use grammar::{ToolGrammar, ToolPlan};
pub use parser::{ToolParser, ToolPart};

/// A tool as the parser and the grammar know it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// What it takes.
    pub input: ToolInput,
    /// A call that is begun must be valid.
    pub strict: bool,
    /// May be called; others are only known.
    pub is_allowed: bool,
}

/// What a tool takes.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolInput {
    /// A JSON object of this schema, or any.
    Json(Option<Value>),
    /// Text. A model writes it as `{"input": "..."}`, unless a grammar makes it the whole answer.
    Text(Option<TextGrammar>),
}

/// The grammar of a tool's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextGrammar {
    /// Lark, in llguidance's dialect.
    Lark(String),
    /// A regular expression for the whole.
    Regex(String),
}

/// What the model may or must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// It may call.
    Auto,
    /// It must call.
    Required,
    /// It must call the tool at this place of the list, once.
    Named(usize),
}
