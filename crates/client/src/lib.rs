//! Our side of asking a server: `http` speaks to any OpenAI-compatible one over connections that are kept, `stream` reads an
//! answer as it is written, `server` finds this user's running vonk server or starts one, `place` says where its files are.
//! Plain blocking sockets and no reactor: an editor's key must not wait for one.
#![forbid(unsafe_code)]

mod error;
pub mod http;
pub mod place;
pub mod server;
pub mod stream;
mod wire;

pub use error::{ClientError, printable};
pub use http::{Cancel, Client, Deadline, Target};
pub use stream::Said;
pub use wire::{Answer, message_of};
