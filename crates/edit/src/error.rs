//! Why a file was not changed, and what to do about it.

use std::io;
use std::path::PathBuf;

use client::ClientError;

/// See each.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The system refuses.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What we were about.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A file that is not edited.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A file that is edited only with `--force`.
    #[error("{}: {why}. --force edits it all the same", path.display())]
    Guarded {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Somebody else wrote to the file.
    #[error("{}: it was changed since it was {since}; nothing was written", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// `read` or `edited`.
        since: &'static str,
    },
    /// The model's answer cannot be used.
    #[error("{}: the model's answer cannot be used: {why}", path.display())]
    Answer {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The journal.
    #[error("{0}")]
    Journal(String),
}

impl EditError {
    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// Whether the caller's own input is at fault.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::File { .. } | Self::Guarded { .. } | Self::Journal(_) => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Client(e) => e.is_bad_input(),
            Self::Changed { .. } | Self::Answer { .. } => false,
        }
    }
}
