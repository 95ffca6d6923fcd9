//! What can go wrong between us and a server: what, where, and what to do next.

use std::io;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be used.
    #[error("{url:?} is no usable address: {why}. Give one like http://127.0.0.1:8080")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The key cannot be sent.
    #[error("the API key must be printable ASCII without spaces")]
    Key,
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
    #[error(
        "{url}: no whole answer after {after_s} s, while {during}. The server hangs, or the time allowed is too short"
    )]
    Timeout {
        /// The server.
        url: String,
        /// Seconds allowed.
        after_s: u64,
        /// What we were about.
        during: &'static str,
    },
    /// Somebody here changed their mind.
    #[error("stopped")]
    Cancelled,
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
    /// No server runs and none can be started.
    #[error("{0}")]
    Server(String),
}

impl ClientError {
    /// Whether the caller's own input is at fault.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::Url { .. } | Self::Key)
    }

    /// Whether asking once more is pointless, for nobody listens.
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Url { .. })
    }
}

/// Text of a peer, safe to print: control characters become spaces, and it is cut at `chars`.
pub fn printable(text: &str, chars: usize) -> String {
    let mut out: String = text.chars().take(chars).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(chars).is_some() {
        out.push('…');
    }
    out
}
