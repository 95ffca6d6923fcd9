//! What can go wrong between us and a server, a data file or Python: what, where, and what to do next.

use std::io;

/// Why a measurement or an evaluation has no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The address cannot be used.
    #[error("{url:?} is no usable address: {why}. Give one like http://127.0.0.1:8080")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nobody answers there.
    #[error("cannot reach {url}: {source}. Is the server up, and is this its address?")]
    Connect {
        /// The server.
        url: String,
        /// From the system.
        source: io::Error,
    },
    /// The connection failed later.
    #[error("{url}: the connection failed while {during}: {source}")]
    Io {
        /// The server.
        url: String,
        /// What we were about.
        during: &'static str,
        /// From the system.
        source: io::Error,
    },
    /// Too slow.
    #[error("{url}: no whole answer after {after_s} s, while {during}. The server hangs, or --timeout is too short")]
    Timeout {
        /// The server.
        url: String,
        /// Seconds allowed.
        after_s: u64,
        /// What we were about.
        during: &'static str,
    },
    /// The server said no.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// The server.
        url: String,
        /// HTTP status; 200 if the error came inside a stream.
        status: u16,
        /// The server's own words.
        message: String,
    },
    /// The answer is not what HTTP, server-sent events or OpenAI's API allow.
    #[error("{url}: {why}. Is this an OpenAI-compatible server?")]
    Protocol {
        /// The server.
        url: String,
        /// What is wrong.
        why: String,
    },
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
        matches!(self, Self::Url { .. } | Self::Argument { .. } | Self::Data { .. })
    }

    /// Whether asking once more is pointless, for nobody listens.
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Url { .. })
    }
}

/// Text of a peer, safe to print: control characters become spaces, and it is cut at `chars`.
pub(crate) fn printable(text: &str, chars: usize) -> String {
    let mut out: String = text.chars().take(chars).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(chars).is_some() {
        out.push('…');
    }
    out
}
