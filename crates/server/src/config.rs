//! How to serve: where to listen, who may speak to us, and every limit (defaults are `base::limits`; tests shorten them).

use base::limits;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What `start` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Names allowed in `Host` besides `localhost`, `127.0.0.1`, `[::1]` and the bound address; with a port, only that one.
    pub hosts: Vec<String>,
    /// Web origins (`https://example.org`) allowed besides our own.
    pub origins: Vec<String>,
    /// Listen beyond loopback although anybody who can reach the port may use the server.
    pub insecure_open: bool,
    /// Keys, quotas and the ledger. Once it knows a key, nobody is served without one.
    pub meter: Option<Arc<keys::Meter>>,
    /// Nobody is served without a key, also while there is none.
    pub require_key: bool,
    /// Whether requests of different callers share cached prefixes. Sharing is faster; but who shares can find out by timing
    /// which prompts others have sent. `None`: shared on loopback without keys, which is one user's machine, and nowhere else.
    pub share_prefixes: Option<bool>,
    /// Takes traces of requests; `None`: there are none.
    pub collector: Option<Arc<dyn crate::otlp::Collector>>,
    /// SIGTERM and SIGINT drain; a second one stops at once.
    pub catch_signals: bool,
    /// Drain and end when no request came for this long and none runs.
    pub stop_when_idle: Option<Duration>,
    /// Limits.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            hosts: Vec::new(),
            origins: Vec::new(),
            insecure_open: false,
            meter: None,
            require_key: false,
            share_prefixes: None,
            collector: None,
            catch_signals: false,
            stop_when_idle: None,
            limits: Limits::default(),
        }
    }
}

/// Every bound of this crate.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of all headers.
    pub header_bytes: usize,
    /// Number of headers.
    pub headers: usize,
    /// Time for a client to send its headers, and for an idle connection to stay.
    pub header_read: Duration,
    /// Bytes of one body.
    pub body_bytes: usize,
    /// Bytes of all bodies that are being read.
    pub bodies_bytes: usize,
    /// Time for a client to send its body.
    pub body_read: Duration,
    /// Open connections.
    pub connections: usize,
    /// Open connections from one address.
    pub connections_per_ip: usize,
    /// Sequences waiting for a slot.
    pub queue: usize,
    /// Time a request may wait for a slot.
    pub queue_wait: Duration,
    /// Bytes the kernel may buffer for a slow reader.
    pub send_buffer_bytes: usize,
    /// Time a reader may stall.
    pub stream_stall: Duration,
    /// Time between heartbeats of a silent stream.
    pub heartbeat: Duration,
    /// Time running streams get to end.
    pub drain: Duration,
    /// Prompts that are parsed, rendered and tokenised at once.
    pub text_jobs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: limits::HEADER_BYTES_MAX,
            headers: limits::HEADERS_MAX,
            header_read: Duration::from_secs(limits::HEADER_READ_S_MAX),
            body_bytes: limits::BODY_BYTES_MAX,
            bodies_bytes: limits::BODIES_BYTES_MAX,
            body_read: Duration::from_secs(limits::BODY_READ_S_MAX),
            connections: limits::CONNECTIONS_MAX,
            connections_per_ip: limits::CONNECTIONS_PER_IP_MAX,
            queue: limits::QUEUE_MAX,
            queue_wait: Duration::from_secs(limits::QUEUE_WAIT_S_MAX),
            send_buffer_bytes: limits::STREAM_BUFFER_BYTES_MAX,
            stream_stall: Duration::from_secs(limits::STREAM_STALL_S_MAX),
            heartbeat: Duration::from_secs(limits::HEARTBEAT_S),
            drain: Duration::from_secs(limits::DRAIN_S_MAX),
            text_jobs: limits::TEXT_JOBS_MAX,
        }
    }
}

/// Why the server does not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is reachable by others.
    #[error(
        "{0} can be reached from other machines, and there is no key yet; make one with `vonk keys create --name NAME --tier pro`, or bind 127.0.0.1, or say --insecure-open if anybody may use the server"
    )]
    OpenBind(SocketAddr),
    /// The port cannot be had.
    #[error("cannot listen on {addr}: {source}; is another server running there? Choose another port with --bind")]
    Bind {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Threads or signals cannot be had.
    #[error("cannot start the server: {0}")]
    Start(#[from] std::io::Error),
    /// Models were given twice, or none.
    #[error("the models to serve were given {0}; give them once, at least one, and each name once")]
    Models(&'static str),
    /// A server thread ended by a panic.
    #[error("the server ended by a bug in it (a panic); please report it with the lines printed before this one")]
    Panicked,
}

impl Config {
    /// Refuses addresses that others can reach without a key, unless told otherwise.
    ///
    /// # Errors
    /// `OpenBind`.
    pub fn check(&self) -> Result<(), ServeError> {
        if self.is_loopback() || self.insecure_open || self.is_locked() {
            return Ok(());
        }
        Err(ServeError::OpenBind(self.bind))
    }

    /// Nobody is served without a key.
    pub(crate) fn is_locked(&self) -> bool {
        self.require_key || self.meter.as_ref().is_some_and(|m| m.is_locked())
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.bind.ip().to_canonical().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_bound_unasked() {
        for (bind, ok) in [
            ("127.0.0.1:1", true),
            ("127.8.8.8:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.168.1.2:1", false),
        ] {
            let config = Config { bind: bind.parse().unwrap(), ..Config::default() };
            assert_eq!(config.check().is_ok(), ok, "{bind}");
            assert!(Config { require_key: true, ..config.clone() }.check().is_ok());
            assert!(Config { insecure_open: true, ..config }.check().is_ok());
        }
    }
}
