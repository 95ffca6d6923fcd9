//! A small interpreter for the Jinja that chat templates are written in.
//!
//! A template comes out of a model file, so it is hostile until shown otherwise. General engines protect themselves by
//! counting steps; that leaves values nested a hundred thousand deep (dropping or printing them overflows the stack), small
//! values that print as terabytes (`x = [x, x]` forty times), and arithmetic that panics. Here each value knows how deep and
//! how large it is, every operation is paid for from one budget before it runs, and syntax cannot nest deeper than
//! `TEMPLATE_DEPTH_MAX`. Names mean what Python's jinja2 makes of them under Hugging Face's settings: `trim_blocks`,
//! `lstrip_blocks`, no automatic escaping, a sandbox in which nothing can be changed in place.
//!
//! `lex` cuts the source into tokens, `parse` and `expressions` make the tree, `eval` walks it; `value` is what a walk computes with;
//! `filters`, `checks` (tests after `is`), `methods`, `functions` are Jinja's and Python's own names.
mod ast;
mod calls;
mod checks;
mod eval;
mod expressions;
mod filters;
mod format;
mod functions;
mod json;
mod lex;
mod methods;
mod ops;
mod parse;
mod sequences;
mod time;
mod value;

pub(crate) use ast::Node;
pub(crate) use eval::{Inputs, render};
pub(crate) use value::{Fail, FailKind};

/// Parses a template. The error is (line, reason).
pub(crate) fn parse(source: &str) -> Result<Vec<Node>, (u32, String)> {
    parse::parse(lex::lex(source)?)
}
