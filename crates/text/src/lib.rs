//! Text in and out of a model: tokenizer, streaming detokenizer with stop strings, chat and fill-in-the-middle templates,
//! grammars that an answer must follow, tool calls within answers.
//!
//! Everything here may come from a stranger's file or request: vocabularies, templates, prompts. Building and rendering give
//! typed errors; encoding and decoding cannot fail. No file is opened, no clock is read, nothing backtracks.
#![forbid(unsafe_code)]

mod bpe;
mod bytes;
mod chat;
mod detok;
mod error;
mod fim;
mod grammar;
mod hash;
mod jinja;
mod pre;
mod queue;
mod special;
mod spm;
mod tokenizer;
mod tools;
mod unicode;
mod unicode_runs;

pub use chat::ChatTemplate;
pub use detok::{Detokenizer, Pushed, TextStream};
pub use error::TextError;
pub use fim::{FimFile, FimForm, FimInput, FimTemplate, Fitted};
pub use grammar::{Grammar, GrammarEngine, GrammarSpec, Matcher};
pub use tokenizer::{Encode, Tokenizer};
pub use tools::{Calls, TextGrammar, ToolFormat, ToolGrammar, ToolInput, ToolParser, ToolPart, ToolPlan, ToolSpec};
