//! Changes to the user's source files: the only room that writes them. `source` reads a file and knows its form, `prompt` asks,
//! `answer` and `blocks` read what a model wrote, `diff` shows it and applies only what really changed, `journal` writes it so
//! that a crash leaves the old or the new file whole and `undo` restores every byte. `ask` puts it together.
#![forbid(unsafe_code)]

pub mod answer;
pub mod ask;
pub mod blocks;
pub mod check;
pub mod diff;
mod error;
mod files;
pub mod journal;
pub mod prompt;
pub mod source;

pub use ask::{Job, Proposal, propose};
pub use error::EditError;
pub use journal::{Change, Entry, Journal, State};
pub use prompt::How;
pub use source::Source;
