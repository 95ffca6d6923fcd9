//! The little HTTP/1.1 that asking a server takes: one POST per connection over a plain TCP socket, the answer read as it
//! arrives (chunked, by length or until the end), with one deadline for all of it and bounds on every part.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use base::limits;

use crate::error::BenchError;

/// Bytes taken from the socket at once.
const READ_BYTES: usize = 16 * 1024;
/// Bytes of a status line, a header line or a chunk's size line.
const LINE_BYTES_MAX: usize = limits::HEADER_BYTES_MAX;
/// Interim answers (1xx) before the real one.
const INTERIM_MAX: usize = 8;

/// A server, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As it is shown in messages.
    pub shown: String,
    host: String,
    port: u16,
    base_path: String,
}

impl Target {
    /// Reads `http://host[:port][/path]`; the scheme may be left out.
    pub fn parse(url: &str) -> Result<Self, BenchError> {
        let no = |why| BenchError::Url { url: url.chars().take(200).collect(), why };
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
        let base_path = if path.ends_with("/v1") { path.to_owned() } else { format!("{path}/v1") };
        let shown = format!("http://{authority}{path}");
        Ok(Self { shown, host: host.to_owned(), port, base_path })
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

    /// Tries every address that the name has.
    fn connect(&self, deadline: Deadline) -> Result<TcpStream, BenchError> {
        let failed = |source| BenchError::Connect { url: self.shown.clone(), source };
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
pub(crate) struct Deadline {
    end: Instant,
    after_s: u64,
}

impl Deadline {
    /// This many seconds from now.
    pub fn after_s(after_s: u64) -> Self {
        let after_s = after_s.clamp(1, limits::CLIENT_ANSWER_S_MAX);
        Self { end: Instant::now() + Duration::from_secs(after_s), after_s }
    }

    fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}

/// How the body's end is told.
#[derive(Debug)]
enum Framing {
    /// Bytes left of the present chunk.
    Chunked(u64),
    /// Bytes left.
    Length(u64),
    UntilClose,
    Done,
}

/// An answer whose body is still arriving.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `content-type`, lower case, empty if none.
    pub content_type: String,
    /// When the request left.
    pub sent_at: Instant,
    wire: Wire,
    framing: Framing,
}

/// The socket and what came from it.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    at: usize,
    deadline: Deadline,
    url: String,
}

/// Sends `body` as JSON to `<base>/v1<path>` and reads the answer's head.
///
/// # Errors
/// No connection, a failed one, the deadline, or an answer that is not HTTP. A status of 400 and more is no error here.
pub(crate) fn post(
    target: &Target,
    path: &str,
    body: &[u8],
    key: Option<&str>,
    deadline: Deadline,
) -> Result<Answer, BenchError> {
    let mut head = format!(
        "POST {}{path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Accept: text/event-stream, application/json\r\nUser-Agent: vonk-bench/{}\r\nConnection: close\r\n",
        target.base_path,
        target.authority(),
        body.len(),
        env!("CARGO_PKG_VERSION"),
    );
    if let Some(key) = key {
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            let why = "it must be printable ASCII without spaces".to_owned();
            return Err(BenchError::Argument { name: "the API key", why });
        }
        head.push_str(&format!("Authorization: Bearer {key}\r\n"));
    }
    head.push_str("\r\n");
    let stream = target.connect(deadline)?;
    let mut wire = Wire { stream, buffer: Vec::new(), at: 0, deadline, url: target.shown.clone() };
    let sent_at = Instant::now();
    // A server may refuse and close before it has read everything: then its words matter more than our broken pipe.
    let sent = wire.send(&[head.as_bytes(), body].concat());
    let answer = wire.head(sent_at);
    match (sent, answer) {
        (Err(e), Err(_)) => Err(e),
        (_, answer) => answer,
    }
}

impl Wire {
    fn failed(&self, during: &'static str, source: io::Error) -> BenchError {
        let url = self.url.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                BenchError::Timeout { url, after_s: self.deadline.after_s, during }
            }
            _ => BenchError::Io { url, during, source },
        }
    }

    fn wrong(&self, why: impl Into<String>) -> BenchError {
        BenchError::Protocol { url: self.url.clone(), why: why.into() }
    }

    fn allowed(&self, during: &'static str) -> Result<Duration, BenchError> {
        match self.deadline.left() {
            Duration::ZERO => Err(self.failed(during, io::ErrorKind::TimedOut.into())),
            left => Ok(left),
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), BenchError> {
        let during = "sending the request";
        while !bytes.is_empty() {
            let allowed = self.allowed(during)?;
            self.stream.set_write_timeout(Some(allowed)).map_err(|e| self.failed(during, e))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(self.failed(during, io::ErrorKind::WriteZero.into())),
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(during, e)),
            }
        }
        Ok(())
    }

    /// Waits for more bytes; false at the end of the connection.
    fn fill(&mut self) -> Result<bool, BenchError> {
        let during = "waiting for the answer";
        self.buffer.clear();
        self.at = 0;
        self.buffer.resize(READ_BYTES, 0);
        loop {
            let allowed = self.allowed(during)?;
            self.stream.set_read_timeout(Some(allowed)).map_err(|e| self.failed(during, e))?;
            match self.stream.read(&mut self.buffer) {
                Ok(n) => {
                    self.buffer.truncate(n);
                    return Ok(n > 0);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.buffer.clear();
                    return Err(self.failed(during, e));
                }
            }
        }
    }

    fn pending(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// The next line without its end.
    fn line(&mut self) -> Result<String, BenchError> {
        let mut line = Vec::new();
        loop {
            let pending = self.pending();
            let end = pending.iter().position(|&b| b == b'\n');
            line.extend_from_slice(&pending[..end.unwrap_or(pending.len())]);
            self.at += end.map_or(pending.len(), |e| e + 1);
            if line.len() > LINE_BYTES_MAX {
                return Err(self.wrong(format!("a line of its answer's head is longer than {LINE_BYTES_MAX} bytes")));
            }
            if end.is_some() {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if !self.fill()? {
                return Err(self.wrong("it closed the connection in the middle of its answer"));
            }
        }
    }

    fn head(mut self, sent_at: Instant) -> Result<Answer, BenchError> {
        for _ in 0..INTERIM_MAX {
            let status = self.status()?;
            let (content_type, framing) = self.headers()?;
            if !(100..200).contains(&status) {
                return Ok(Answer { status, content_type, sent_at, wire: self, framing });
            }
        }
        Err(self.wrong("it sends one interim answer after the other"))
    }

    fn status(&mut self) -> Result<u16, BenchError> {
        let line = self.line()?;
        let mut words = line.split_ascii_whitespace();
        let is_http = words.next().is_some_and(|w| w.starts_with("HTTP/1."));
        let status = words.next().and_then(|w| w.parse().ok()).filter(|s| (100..600).contains(s));
        match status {
            Some(status) if is_http => Ok(status),
            _ => {
                Err(self
                    .wrong(format!("its answer begins with {:?}, not HTTP/1.1", crate::error::printable(&line, 60))))
            }
        }
    }

    fn headers(&mut self) -> Result<(String, Framing), BenchError> {
        let (mut content_type, mut framing, mut bytes) = (String::new(), Framing::UntilClose, 0);
        loop {
            let line = self.line()?;
            bytes += line.len();
            if bytes > limits::HEADER_BYTES_MAX {
                return Err(self.wrong(format!("its headers are longer than {} bytes", limits::HEADER_BYTES_MAX)));
            }
            let Some((name, value)) = line.split_once(':') else {
                match line.is_empty() {
                    true => return Ok((content_type, framing)),
                    false => return Err(self.wrong("one of its headers has no colon")),
                }
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-type" => content_type = value.to_ascii_lowercase(),
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => framing = Framing::Chunked(0),
                "transfer-encoding" => return Err(self.wrong(format!("it uses the transfer encoding {value:?}"))),
                "content-length" if !matches!(framing, Framing::Chunked(_)) => {
                    let length = value.parse().map_err(|_| self.wrong("its content-length is no number"))?;
                    framing = Framing::Length(length);
                }
                _ => {}
            }
        }
    }
}

impl Answer {
    /// Appends the bytes that are there, or waits for the next ones; false at the body's end.
    pub fn read(&mut self, out: &mut Vec<u8>) -> Result<bool, BenchError> {
        if let Framing::Chunked(0) = self.framing {
            self.framing = match self.chunk_size()? {
                0 => Framing::Done,
                size => Framing::Chunked(size),
            };
        }
        let left = match self.framing {
            Framing::Done | Framing::Length(0) => return Ok(false),
            Framing::Chunked(left) | Framing::Length(left) => left,
            Framing::UntilClose => u64::MAX,
        };
        if self.wire.pending().is_empty() && !self.wire.fill()? {
            return match self.framing {
                Framing::UntilClose => Ok(false),
                _ => Err(self.wire.wrong("it closed the connection in the middle of its answer")),
            };
        }
        let pending = self.wire.pending();
        let n = usize::try_from(left).map_or(pending.len(), |left| left.min(pending.len()));
        out.extend_from_slice(&pending[..n]);
        self.wire.at += n;
        self.took(n as u64)
    }

    fn took(&mut self, n: u64) -> Result<bool, BenchError> {
        match &mut self.framing {
            Framing::Length(left) => *left = left.saturating_sub(n),
            Framing::Chunked(left) => *left = left.saturating_sub(n),
            Framing::UntilClose | Framing::Done => {}
        }
        Ok(true)
    }

    /// Reads a chunk's size line, and the empty line that ends the chunk before it.
    fn chunk_size(&mut self) -> Result<u64, BenchError> {
        let mut line = self.wire.line()?;
        if line.is_empty() {
            line = self.wire.line()?;
        }
        let digits = line.split(';').next().unwrap_or_default().trim();
        match u64::from_str_radix(digits, 16) {
            Ok(size) if !digits.starts_with('+') => Ok(size),
            _ => Err(self.wire.wrong("a chunk of its answer has no size")),
        }
    }

    /// The whole body, if it is not longer than `bytes_max`; longer ones are an error, or cut if `is_cut_allowed`.
    pub fn whole(&mut self, bytes_max: usize, is_cut_allowed: bool) -> Result<Vec<u8>, BenchError> {
        let mut body = Vec::new();
        while self.read(&mut body)? {
            if body.len() > bytes_max {
                if is_cut_allowed {
                    body.truncate(bytes_max);
                    break;
                }
                return Err(self.wire.wrong(format!("its answer is longer than {bytes_max} bytes")));
            }
        }
        Ok(body)
    }

    /// The error that a status of 400 and more stands for, in the server's own words.
    pub fn refusal(mut self) -> BenchError {
        let body = self.whole(limits::CLIENT_REFUSAL_BYTES_MAX, true).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = message_of(&value).unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
        let message = match message.is_empty() {
            true => "(no message)".to_owned(),
            false => crate::error::printable(&message, 500),
        };
        BenchError::Refused { url: self.wire.url, status: self.status, message }
    }
}

/// The message of OpenAI's error shape, or of the shapes that others use.
pub(crate) fn message_of(value: &serde_json::Value) -> Option<String> {
    let error = value.get("error")?;
    let message = error.get("message").unwrap_or(error);
    Some(message.as_str().map_or_else(|| message.to_string(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused_with_the_reason() {
        let path = |url: &str| Target::parse(url).map(|t| (t.authority(), t.base_path)).unwrap();
        assert_eq!(path("http://localhost:8080"), ("localhost:8080".into(), "/v1".into()));
        assert_eq!(path("HTTP://a.b/"), ("a.b:80".into(), "/v1".into()));
        assert_eq!(path("127.0.0.1:9/v1/"), ("127.0.0.1:9".into(), "/v1".into()));
        assert_eq!(path("http://[::1]:7/x"), ("[::1]:7".into(), "/x/v1".into()));
        for bad in
            ["", "https://a", "ftp://a", "http://", "http://a:x", "http://a:0", "http://a:70000", "http://[::1]x"]
        {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        for bad in ["http://a\r\nX: y", "http://u@a", "http://a/?q", "http://a b"] {
            assert!(matches!(Target::parse(bad), Err(BenchError::Url { .. })), "{bad}");
        }
    }
}
