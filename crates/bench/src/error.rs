//! What can go wrong between us and a server, a data file or Python: what, where, and what to do next.

use client::ClientError;

/// Why a measurement or an evaluation has no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The server could not be asked, or said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Replay was asked for and the server wrote its own text.
    #[error(
        "{url} wrote its own answer and not the reference: it does not know `replay`, a field of vonk's own. \
         Use a vonk server that has it, or `vonk bench edits`"
    )]
    Replay {
        /// The server.
        url: String,
    },
    /// A setting makes no sense.
    #[error("{name}: {why}")]
    Argument {
        /// The setting.
        name: &'static str,
        /// What is allowed.
        why: String,
    },
    /// A data file cannot be used.
    #[error("{path}{}: {why}", line.map(|n| format!(" line {n}")).unwrap_or_default())]
    Data {
        /// The file.
        path: String,
        /// Line, from 1.
        line: Option<usize>,
        /// What is wrong.
        why: String,
    },
    /// Python cannot run programs for us.
    #[error("cannot run programs with Python: {0}")]
    Python(String),
    /// For askers that are not a server: the model in this process did not answer.
    #[error("the model did not answer: {0}")]
    Ask(String),
}

impl BenchError {
    /// Whether the caller's own input is at fault: an address, a setting, a data file.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::Argument { .. } | Self::Data { .. }) || matches!(self, Self::Client(e) if e.is_bad_input())
    }

    /// Whether asking once more is pointless, for nobody listens.
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Client(e) if e.is_connect())
    }

    /// An answer that no OpenAI-compatible server gives.
    pub(crate) fn protocol(url: &str, why: impl Into<String>) -> Self {
        ClientError::Protocol { url: url.to_owned(), why: why.into() }.into()
    }
}
