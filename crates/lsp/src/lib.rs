//! The editor's side: the completion brain (`brain`), the threads and the server that it works with (`driver`, `backend`),
//! and a language server over it (`session`). A client of protocol; it knows no model.
#![forbid(unsafe_code)]

pub mod backend;
pub mod brain;
pub mod document;
pub mod driver;
pub mod editing;
pub mod ignored;
pub mod imports;
mod out;
pub mod rpc;
pub mod session;
mod status;
mod waiting;
