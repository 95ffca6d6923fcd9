//! The part of the command line that tells clients about a running server; see `args`.

use clap::{Args, ValueEnum};

/// The key of a server.
#[derive(Args)]
pub struct Key {
    /// The server's key, if it wants one; what it is may be seen in the list of processes [default: $VONK_API_KEY]
    #[arg(long)]
    key: Option<String>,
}

impl Key {
    /// As given, or from the environment.
    pub fn get(&self) -> Option<String> {
        self.key.clone().or_else(|| std::env::var("VONK_API_KEY").ok()).filter(|k| !k.is_empty())
    }
}

/// A running server.
#[derive(Args)]
pub struct ServerAt {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Its key.
    #[command(flatten)]
    key: Key,
}

impl ServerAt {
    /// As given, or from the environment.
    pub fn key(&self) -> Option<String> {
        self.key.get()
    }
}

/// `vonk connect`.
#[derive(Args)]
pub struct Connect {
    /// The client; without one, or with --list, they are listed
    pub client: Option<String>,
    /// Install it: joined with what is there, which is kept as FILE.vonk-backup-N
    #[arg(long)]
    pub write: bool,
    /// List the clients that are known
    #[arg(long)]
    pub list: bool,
    /// The model to use [default: the first one that the server lists]
    #[arg(long)]
    pub model: Option<String>,
    /// The server.
    #[command(flatten)]
    pub server: ServerAt,
}

/// Clients that take a catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CatalogOf {
    /// Codex CLI: the file that `model_catalog_json` names
    Codex,
}

/// `vonk catalog`.
#[derive(Args)]
pub struct Catalog {
    /// Whose
    #[arg(value_enum)]
    pub client: CatalogOf,
    /// The server.
    #[command(flatten)]
    pub server: ServerAt,
}
