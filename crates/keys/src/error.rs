//! What can go wrong with the file of keys, the settings, or what a person asks of them.

use std::path::PathBuf;

/// Why something about keys did not work.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The database refused.
    #[error("the keys in {path}: {source}")]
    Db {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The database cannot be used as it is.
    #[error("the keys in {path}: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A file or folder.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The settings are wrong; `why` names the line.
    #[error("{path}: {why}")]
    Settings {
        /// The file.
        path: PathBuf,
        /// Where, what, and what to do.
        why: String,
    },
    /// No such key.
    #[error("there is no key {0:?}; `vonk keys list` shows them")]
    NoKey(String),
    /// The key was revoked, so it cannot be given a new secret.
    #[error("the key {0} was revoked; create a new one")]
    Revoked(String),
    /// A value from the command line.
    #[error("{0}")]
    Invalid(String),
    /// The system gave no random bytes.
    #[error("the system has no random bytes: {0}")]
    Random(getrandom::Error),
    /// The ledger's thread could not be started.
    #[error("cannot start the thread of the ledger: {0}")]
    Thread(std::io::Error),
}

impl KeysError {
    /// What was given is wrong, not the machine.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::Settings { .. } | Self::NoKey(_) | Self::Revoked(_) | Self::Invalid(_))
    }
}
