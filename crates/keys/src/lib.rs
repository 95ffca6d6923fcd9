//! Who may use a shared server, how much of it, and what was used: API keys, tiers, quotas and the ledger.
//!
//! The only room that sees key material and the ledger. `Db` is the file (SQLite, write-ahead log): keys as SHA-256 only, usage
//! by key, model and day. `Settings` are tiers and prices from a TOML file. `Meter` is what a server asks, from memory: a hash
//! and a few additions under a lock. One thread of its own reads changes of the file and writes usage, in batches, so no
//! request waits for the disk.
#![forbid(unsafe_code)]

mod account;
mod bucket;
mod db;
mod error;
mod ledger;
mod meter;
mod secret;
mod settings;
mod time;

pub use account::{Estimate, Gauge, Refusal, Standing};
pub use db::{Created, Db, KeyRow, NewKey, UsageFilter, UsageRow};
pub use error::KeysError;
pub use meter::{Clock, Grant, Meter, Permit, Unknown, system_clock};
pub use settings::{Class, Price, Settings, Tier};
pub use time::{date_text, parse_date, parse_span_s, time_text};

/// Tokens of one request, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of prompts, with those that were in the cache.
    pub input: u64,
    /// Of them, not computed again.
    pub cached_input: u64,
    /// Generated.
    pub output: u64,
    /// Of them, predicted by the client.
    pub accepted_prediction: u64,
}
