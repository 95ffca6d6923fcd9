//! The little HTTP/1.1 that asking a server takes, over plain TCP. Connections are kept and used again, so that a key typed
//! costs no handshake; a request can be stopped from another thread, which the server sees at once; one deadline for all of it.

use std::io;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::limits;

use crate::error::ClientError;
use crate::wire::{Answer, Wire};

/// A server's address, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    shown: String,
    host: String,
    port: u16,
    /// Before every path; without the `/v1` that people write behind it.
    base_path: String,
}

impl Target {
    /// Reads `http://host[:port][/path]`; the scheme may be left out, and a `/v1` at the end is not part of the path.
    ///
    /// # Errors
    /// `Url`.
    pub fn parse(url: &str) -> Result<Self, ClientError> {
        let no = |why| ClientError::Url { url: url.chars().take(200).collect(), why };
        if url.is_empty() || !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(no("it is empty or has spaces, control or non-ASCII characters"));
        }
        let rest = match url.split_once("://") {
            None => url,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err(no("this client speaks plain http only; put a TLS-ending proxy between"));
            }
            Some(_) => return Err(no("only http is spoken")),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') || rest.contains(['?', '#']) {
            return Err(no("user names, queries and fragments are not taken"));
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some("80"))),
            None => authority.split_once(':').map_or((authority, Some("80")), |(host, port)| (host, Some(port))),
        };
        let port = port.and_then(|p| p.parse().ok()).filter(|&p: &u16| p > 0).ok_or(no("its port is no number"))?;
        if host.is_empty() {
            return Err(no("it names no host"));
        }
        let path = path.trim_end_matches('/');
        let base_path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        let shown = format!("http://{authority}{path}");
        Ok(Self { shown, host: host.to_owned(), port, base_path })
    }

    /// As it is shown in messages.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether both are the same socket.
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(&other.host) && self.port == other.port
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Whether its host has an address. May take as long as the system's resolver.
    ///
    /// # Errors
    /// `Connect`.
    pub fn resolve(&self) -> Result<(), ClientError> {
        let failed = |source| ClientError::Connect { url: self.shown.clone(), source };
        let none = || failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)?.next().map(|_| ()).ok_or_else(none)
    }

    /// Tries every address that the name has.
    fn connect(&self, deadline: Deadline) -> Result<TcpStream, ClientError> {
        let failed = |source| ClientError::Connect { url: self.shown.clone(), source };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)? {
            let allowed = Duration::from_secs(limits::CLIENT_CONNECT_S_MAX).min(deadline.left());
            match TcpStream::connect_timeout(&address, allowed.max(Duration::from_millis(1))) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(failed)?;
                    return Ok(stream);
                }
                Err(e) => last = e,
            }
        }
        Err(failed(last))
    }
}

/// When everything has to be over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Instant,
    pub(crate) after_s: u64,
}

impl Deadline {
    /// This many seconds from now, at most `CLIENT_ANSWER_S_MAX`.
    pub fn after_s(after_s: u64) -> Self {
        Self::after(Duration::from_secs(after_s.max(1)))
    }

    /// This long from now, at most `CLIENT_ANSWER_S_MAX` seconds.
    pub fn after(time: Duration) -> Self {
        let time = time.min(Duration::from_secs(limits::CLIENT_ANSWER_S_MAX));
        Self { end: Instant::now() + time, after_s: time.as_secs_f64().ceil() as u64 }
    }

    pub(crate) fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}

/// Stops a request from another thread. The server sees the connection go, and stops computing within one step.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<CancelState>);

#[derive(Debug, Default)]
struct CancelState {
    is_cancelled: AtomicBool,
    /// Of the request that runs now.
    socket: Mutex<Option<TcpStream>>,
}

impl Cancel {
    /// Nothing is stopped yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the request that it was given to, and every later one that it is given to.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        if let Some(socket) = self.0.socket.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = socket.shutdown(Shutdown::Both); // it may be gone already
        }
    }

    /// Whether `cancel` was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }

    fn watch(&self, stream: &TcpStream) -> Result<(), ClientError> {
        let mut socket = self.0.socket.lock().unwrap_or_else(PoisonError::into_inner);
        *socket = stream.try_clone().ok();
        match self.is_cancelled() {
            true => Err(ClientError::Cancelled),
            false => Ok(()),
        }
    }

    /// From now on the connection belongs to somebody else.
    pub(crate) fn release(&self) {
        self.0.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Idle connections to one server.
pub(crate) type Idle = Arc<Mutex<Vec<Wire>>>;

/// Asks one server. Clones share the connections that are idle.
#[derive(Clone, Debug)]
pub struct Client {
    target: Target,
    key: Option<String>,
    /// `None`: every request has a connection of its own.
    idle: Option<Idle>,
}

impl Client {
    /// Keeps connections.
    ///
    /// # Errors
    /// `Key`.
    pub fn new(target: Target, key: Option<&str>) -> Result<Self, ClientError> {
        Ok(Self { idle: Some(Idle::default()), ..Self::once(target, key)? })
    }

    /// Makes a connection for each request, which is what many clients do, and therefore what is measured.
    ///
    /// # Errors
    /// `Key`.
    pub fn once(target: Target, key: Option<&str>) -> Result<Self, ClientError> {
        if key.is_some_and(|k| k.is_empty() || !k.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(ClientError::Key);
        }
        Ok(Self { target, key: key.map(str::to_owned), idle: None })
    }

    /// Whom it asks.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Makes a connection in advance if none is idle.
    ///
    /// # Errors
    /// `Connect`.
    pub fn warm(&self, deadline: Deadline) -> Result<(), ClientError> {
        let Some(idle) = &self.idle else { return Ok(()) };
        if !lock(idle).is_empty() {
            return Ok(());
        }
        let wire = self.wire(deadline)?;
        lock(idle).push(wire);
        Ok(())
    }

    /// Sends GET `path`, which begins with `/`, and reads the answer's head.
    ///
    /// # Errors
    /// See `post`.
    pub fn get(&self, path: &str, deadline: Deadline, cancel: Option<&Cancel>) -> Result<Answer, ClientError> {
        self.ask("GET", path, &[], deadline, cancel)
    }

    /// Sends `body` as JSON to `path`, which begins with `/`, and reads the answer's head.
    ///
    /// # Errors
    /// No connection, a failed one, the deadline, `cancel`, or an answer that is not HTTP. A status of 400 and more is no
    /// error here.
    pub fn post(
        &self,
        path: &str,
        body: &[u8],
        deadline: Deadline,
        cancel: Option<&Cancel>,
    ) -> Result<Answer, ClientError> {
        self.ask("POST", path, body, deadline, cancel)
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        deadline: Deadline,
        cancel: Option<&Cancel>,
    ) -> Result<Answer, ClientError> {
        let request = [self.head(method, path, body.len()).as_bytes(), body].concat();
        while let Some(mut wire) = self.idle.as_ref().and_then(|idle| lock(idle).pop()) {
            wire.deadline = deadline;
            let is_fresh = false;
            match self.exchange(wire, is_fresh, &request, cancel) {
                Ok(answer) => return Ok(answer),
                Err(Failed { is_stale: true, .. }) => {} // The server had closed it: nothing was asked yet.
                Err(failed) => return Err(failed.error),
            }
        }
        self.exchange(self.wire(deadline)?, true, &request, cancel).map_err(|failed| failed.error)
    }

    fn wire(&self, deadline: Deadline) -> Result<Wire, ClientError> {
        Ok(Wire::new(self.target.connect(deadline)?, deadline, self.target.shown.clone()))
    }

    fn exchange(
        &self,
        mut wire: Wire,
        is_fresh: bool,
        request: &[u8],
        cancel: Option<&Cancel>,
    ) -> Result<Answer, Failed> {
        let certain = |error| Failed { error, is_stale: false };
        if let Some(cancel) = cancel {
            cancel.watch(&wire.stream).map_err(certain)?;
            wire.cancel = Some(cancel.clone());
        }
        let sent_at = Instant::now();
        // A server may refuse and close before it has read everything: then its words matter more than our broken pipe.
        let sent = wire.send(request);
        let head = wire.head();
        match (sent, head) {
            (_, Ok(head)) => Ok(Answer::new(wire, head, sent_at, self.idle.clone())),
            (Err(error), Err(_)) | (Ok(()), Err(error)) => {
                let is_late = matches!(error, ClientError::Timeout { .. } | ClientError::Cancelled);
                Err(Failed { error, is_stale: !is_fresh && !wire.has_answered && !is_late })
            }
        }
    }

    fn head(&self, method: &str, path: &str, body_bytes: usize) -> String {
        let mut head = format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream, application/json\r\nUser-Agent: vonk/{}\r\n",
            self.target.base_path,
            self.target.authority(),
            env!("CARGO_PKG_VERSION"),
        );
        if method == "POST" {
            head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n"));
        }
        if self.idle.is_none() {
            head.push_str("Connection: close\r\n");
        }
        if let Some(key) = &self.key {
            head.push_str(&format!("Authorization: Bearer {key}\r\n"));
        }
        head.push_str("\r\n");
        head
    }
}

/// Why an exchange failed, and whether that may be because the connection was idle for too long.
struct Failed {
    error: ClientError,
    is_stale: bool,
}

pub(crate) fn lock(idle: &Idle) -> std::sync::MutexGuard<'_, Vec<Wire>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused_with_the_reason() {
        let path = |url: &str| Target::parse(url).map(|t| (t.authority(), t.base_path)).unwrap();
        assert_eq!(path("http://localhost:8080"), ("localhost:8080".into(), "".into()));
        assert_eq!(path("HTTP://a.b/"), ("a.b:80".into(), "".into()));
        assert_eq!(path("127.0.0.1:9/v1/"), ("127.0.0.1:9".into(), "".into()));
        assert_eq!(path("http://[::1]:7/x"), ("[::1]:7".into(), "/x".into()));
        for bad in
            ["", "https://a", "ftp://a", "http://", "http://a:x", "http://a:0", "http://a:70000", "http://[::1]x"]
        {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        for bad in ["http://a\r\nX: y", "http://u@a", "http://a/?q", "http://a b"] {
            assert!(matches!(Target::parse(bad), Err(ClientError::Url { .. })), "{bad}");
        }
        assert!(Client::new(Target::parse("a").unwrap(), Some("a\r\nb: c")).is_err());
    }
}
