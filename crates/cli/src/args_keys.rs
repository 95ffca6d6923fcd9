//! The command line of `vonk keys` and `vonk usage`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `vonk keys`.
#[derive(Args)]
pub struct Keys {
    /// What to do
    #[command(subcommand)]
    pub what: KeysWhat,
}

/// What can be done with keys. A server that runs sees it within a second.
#[derive(Subcommand)]
pub enum KeysWhat {
    /// Make a key and show it, this once. From the first key on, servers serve nobody without one
    Create(KeysCreate),
    /// List keys (not their secrets, which nobody knows)
    List(super::args::Json),
    /// Make a key good for nothing
    Revoke(KeysRevoke),
    /// Give a key a new secret
    Rotate(KeysRotate),
}

/// `vonk keys create`.
#[derive(Args)]
pub struct KeysCreate {
    /// Whose key it is, for your own list
    #[arg(long)]
    pub name: String,
    /// Its tier: free, pro, partner, or one of the config
    #[arg(long)]
    pub tier: String,
    /// Good for this long: 30d, 12h, 15m or 90s [default: until it is revoked]
    #[arg(long)]
    pub expires: Option<String>,
    /// File of tiers and prices [default: vonk.toml in $VONK_HOME, or in the user's configuration folder]
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Print {"id", "key"}
    #[arg(long)]
    pub json: bool,
}

/// `vonk keys revoke`.
#[derive(Args)]
pub struct KeysRevoke {
    /// The key's id, from `vonk keys list`
    pub id: String,
}

/// `vonk keys rotate`.
#[derive(Args)]
pub struct KeysRotate {
    /// The key's id, from `vonk keys list`
    pub id: String,
    /// How long the old secret stays good: 1h, 7d, ...
    #[arg(long, default_value = "0")]
    pub grace: String,
    /// Print {"id", "key"}
    #[arg(long)]
    pub json: bool,
}

/// `vonk usage`.
#[derive(Args)]
pub struct Usage {
    /// Of this key's id only
    #[arg(long)]
    pub key: Option<String>,
    /// From this day (UTC) on: 2026-01-31, or 7d for the last seven days
    #[arg(long)]
    pub since: Option<String>,
    /// Print comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
