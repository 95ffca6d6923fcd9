//! Model files on disk: the catalogue, pulling, checking, mapping; KV pages on disk. All crash safety of the house lives here.
//!
//! A pulled file is a *blob* named by its SHA-256, complete and read-only before it has that name; a *record* says which
//! model name stands for which blob. Time goes into the network, then into hashing (once, while the bytes come).
//! No HTTP server, no model mathematics. `unsafe` stands in `map.rs` only.
#![deny(unsafe_code)]

pub mod catalogue;
pub mod digest;
pub mod error;
mod http;
mod hub;
pub mod kv_file;
mod load;
#[allow(unsafe_code)]
pub mod map;
mod mirror;
mod part;
mod paths;
pub mod progress;
mod pull;
mod record;
mod source;
pub mod spec;
mod store;

#[cfg(test)]
mod pull_tests;
#[cfg(test)]
mod test_server;

pub use catalogue::{Catalogue, DEFAULT_MODEL, Entry};
pub use digest::Digest;
pub use error::{StoreError, Tried};
pub use kv_file::{KvFile, KvLimits, KvRead, KvRecord, KvWriter, KvWritten};
pub use load::{Found, LoadedModel};
pub use map::{Change, ModelFile};
pub use progress::{Event, Progress, Silent};
pub use pull::Pulled;
pub use spec::{HubSpec, Spec};
pub use store::{Listed, Listing, Removed, Store};

/// The folder of `vonk.toml`, keys and usage: `$VONK_HOME`, else `vonk` in the user's configuration folder. It need not exist.
pub fn settings_dir() -> Option<std::path::PathBuf> {
    paths::settings_dir(&|name| std::env::var(name).ok())
}
