//! One connection: bytes out, an HTTP/1.1 answer in (chunked, by length or until the end), with bounds on every part.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base::limits;

use crate::error::{ClientError, printable};
use crate::http::{Cancel, Deadline, Idle, lock};

/// Bytes taken from the socket at once.
const READ_BYTES: usize = 16 * 1024;
/// Bytes of a status line, a header line or a chunk's size line.
const LINE_BYTES_MAX: usize = limits::HEADER_BYTES_MAX;
/// Interim answers (1xx) before the real one; trailers after a chunked body.
const INTERIM_MAX: usize = 8;

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

/// What came before a body.
#[derive(Debug)]
pub(crate) struct Head {
    status: u16,
    content_type: String,
    framing: Framing,
    /// The connection may be used again.
    is_kept: bool,
}

/// An answer whose body is still arriving. Dropped before its end, it closes the connection, which stops the request.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `content-type`, lower case, empty if none.
    pub content_type: String,
    /// When the request left.
    pub sent_at: Instant,
    /// `None` only while dropped.
    wire: Option<Wire>,
    framing: Framing,
    /// Where the connection goes when the whole answer was read.
    home: Option<Idle>,
}

/// The socket and what came from it.
#[derive(Debug)]
pub(crate) struct Wire {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    at: usize,
    pub deadline: Deadline,
    pub cancel: Option<Cancel>,
    /// Bytes of the present answer have come.
    pub has_answered: bool,
    url: String,
}

impl Wire {
    pub fn new(stream: TcpStream, deadline: Deadline, url: String) -> Self {
        Self { stream, buffer: Vec::new(), at: 0, deadline, cancel: None, has_answered: false, url }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(Cancel::is_cancelled)
    }

    fn failed(&self, during: &'static str, source: io::Error) -> ClientError {
        let url = self.url.clone();
        match source.kind() {
            _ if self.is_cancelled() => ClientError::Cancelled,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ClientError::Timeout { url, after_s: self.deadline.after_s, during }
            }
            _ => ClientError::Io { url, during, source },
        }
    }

    fn wrong(&self, why: impl Into<String>) -> ClientError {
        match self.is_cancelled() {
            true => ClientError::Cancelled,
            false => ClientError::Protocol { url: self.url.clone(), why: why.into() },
        }
    }

    fn allowed(&self, during: &'static str) -> Result<Duration, ClientError> {
        match self.deadline.left() {
            Duration::ZERO => Err(self.failed(during, io::ErrorKind::TimedOut.into())),
            left => Ok(left),
        }
    }

    pub fn send(&mut self, mut bytes: &[u8]) -> Result<(), ClientError> {
        let during = "sending the request";
        self.has_answered = false;
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
    fn fill(&mut self) -> Result<bool, ClientError> {
        let during = "waiting for the answer";
        self.at = 0;
        self.buffer.resize(READ_BYTES, 0);
        loop {
            let allowed = self.allowed(during)?;
            self.stream.set_read_timeout(Some(allowed)).map_err(|e| self.failed(during, e))?;
            match self.stream.read(&mut self.buffer) {
                Ok(n) => {
                    self.buffer.truncate(n);
                    self.has_answered |= n > 0;
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
    fn line(&mut self) -> Result<String, ClientError> {
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

    pub fn head(&mut self) -> Result<Head, ClientError> {
        for _ in 0..INTERIM_MAX {
            let (status, is_1_1) = self.status()?;
            let mut head = self.headers(status)?;
            head.is_kept &= is_1_1;
            if !(100..200).contains(&status) {
                return Ok(head);
            }
        }
        Err(self.wrong("it sends one interim answer after the other"))
    }

    fn status(&mut self) -> Result<(u16, bool), ClientError> {
        let line = self.line()?;
        let mut words = line.split_ascii_whitespace();
        let version = words.next().filter(|w| w.starts_with("HTTP/1."));
        let status = words.next().and_then(|w| w.parse().ok()).filter(|s| (100..600).contains(s));
        match (version, status) {
            (Some(version), Some(status)) => Ok((status, version == "HTTP/1.1")),
            _ => Err(self.wrong(format!("its answer begins with {:?}, not HTTP/1.1", printable(&line, 60)))),
        }
    }

    fn headers(&mut self, status: u16) -> Result<Head, ClientError> {
        let framing = if matches!(status, 204 | 304) { Framing::Done } else { Framing::UntilClose };
        let mut head = Head { status, content_type: String::new(), framing, is_kept: true };
        let mut bytes = 0;
        loop {
            let line = self.line()?;
            bytes += line.len();
            if bytes > limits::HEADER_BYTES_MAX {
                return Err(self.wrong(format!("its headers are longer than {} bytes", limits::HEADER_BYTES_MAX)));
            }
            let Some((name, value)) = line.split_once(':') else {
                match line.is_empty() {
                    true => return Ok(head),
                    false => return Err(self.wrong("one of its headers has no colon")),
                }
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-type" => head.content_type = value.to_ascii_lowercase(),
                "connection" if value.eq_ignore_ascii_case("close") => head.is_kept = false,
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => head.framing = Framing::Chunked(0),
                "transfer-encoding" => return Err(self.wrong(format!("it uses the transfer encoding {value:?}"))),
                "content-length" if !matches!(head.framing, Framing::Chunked(_)) => {
                    let length = value.parse().map_err(|_| self.wrong("its content-length is no number"))?;
                    head.framing = Framing::Length(length);
                }
                _ => {}
            }
        }
    }

    /// Reads a chunk's size line, and the empty line that ends the chunk before it.
    fn chunk_size(&mut self) -> Result<u64, ClientError> {
        let mut line = self.line()?;
        if line.is_empty() {
            line = self.line()?;
        }
        let digits = line.split(';').next().unwrap_or_default().trim();
        match u64::from_str_radix(digits, 16) {
            Ok(size) if !digits.starts_with('+') => Ok(size),
            _ => Err(self.wrong("a chunk of its answer has no size")),
        }
    }

    /// Reads what follows the last chunk; false if the connection cannot be used after it.
    fn end_of_chunks(&mut self) -> bool {
        (0..INTERIM_MAX).map_while(|_| self.line().ok()).any(|line| line.is_empty())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            cancel.release(); // it has a handle of the socket too, which would keep the connection open
        }
    }
}

impl Answer {
    pub(crate) fn new(wire: Wire, head: Head, sent_at: Instant, home: Option<Idle>) -> Self {
        let Head { status, content_type, framing, is_kept } = head;
        Self { status, content_type, sent_at, wire: Some(wire), framing, home: home.filter(|_| is_kept) }
    }

    /// Appends the bytes that are there, or waits for the next ones; false at the body's end.
    ///
    /// # Errors
    /// A failed connection, the deadline, a body that is not framed as HTTP says, or a stop.
    pub fn read(&mut self, out: &mut Vec<u8>) -> Result<bool, ClientError> {
        let Some(wire) = &mut self.wire else { return Ok(false) };
        if let Framing::Chunked(0) = self.framing {
            self.framing = match wire.chunk_size()? {
                0 => Framing::Done,
                size => Framing::Chunked(size),
            };
            if matches!(self.framing, Framing::Done) && (self.home.is_none() || !wire.end_of_chunks()) {
                self.home = None;
            }
        }
        let left = match self.framing {
            Framing::Done | Framing::Length(0) => return Ok(false),
            Framing::Chunked(left) | Framing::Length(left) => left,
            Framing::UntilClose => u64::MAX,
        };
        if wire.pending().is_empty() && !wire.fill()? {
            return match self.framing {
                Framing::UntilClose => Ok(false),
                _ => Err(wire.wrong("it closed the connection in the middle of its answer")),
            };
        }
        let pending = wire.pending();
        let n = usize::try_from(left).map_or(pending.len(), |left| left.min(pending.len()));
        out.extend_from_slice(&pending[..n]);
        wire.at += n;
        if let Framing::Length(left) | Framing::Chunked(left) = &mut self.framing {
            *left = left.saturating_sub(n as u64);
        }
        Ok(true)
    }

    /// The whole body, if it is not longer than `bytes_max`.
    ///
    /// # Errors
    /// See `read`; a longer body.
    pub fn whole(&mut self, bytes_max: usize) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while self.read(&mut body)? {
            if body.len() > bytes_max {
                let why = format!("its answer is longer than {bytes_max} bytes");
                return Err(ClientError::Protocol { url: self.url(), why });
            }
        }
        Ok(body)
    }

    /// The body as JSON, if the status is 200.
    ///
    /// # Errors
    /// See `whole`; a refusal; a body that is not JSON.
    pub fn json(mut self, bytes_max: usize) -> Result<serde_json::Value, ClientError> {
        if self.status != 200 {
            return Err(self.refusal());
        }
        let body = self.whole(bytes_max)?;
        serde_json::from_slice(&body)
            .map_err(|e| ClientError::Protocol { url: self.url(), why: format!("its answer is not JSON: {e}") })
    }

    /// After the last event: reads to the body's end, so that the connection can be used again.
    pub(crate) fn settle(mut self) {
        if let (Some(wire), true) = (&mut self.wire, self.home.is_some()) {
            wire.deadline = Deadline::after(Duration::from_millis(limits::CLIENT_SETTLE_MS_MAX));
            let mut rest = Vec::new();
            while rest.len() < READ_BYTES && self.read(&mut rest).is_ok_and(|more| more) {}
        }
    }

    fn url(&self) -> String {
        self.wire.as_ref().map(|w| w.url.clone()).unwrap_or_default()
    }

    /// The error that a status of 400 and more stands for, in the server's own words.
    pub fn refusal(mut self) -> ClientError {
        let mut body = Vec::new();
        while body.len() < limits::CLIENT_REFUSAL_BYTES_MAX && self.read(&mut body).is_ok_and(|more| more) {}
        body.truncate(limits::CLIENT_REFUSAL_BYTES_MAX);
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = message_of(&value).unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
        let message = match message.is_empty() {
            true => "(no message)".to_owned(),
            false => printable(&message, 500),
        };
        ClientError::Refused { url: self.url(), status: self.status, message }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Some(mut wire) = self.wire.take() else { return };
        let cancel = wire.cancel.take();
        if let Some(cancel) = &cancel {
            cancel.release();
        }
        let is_whole = matches!(self.framing, Framing::Done | Framing::Length(0)) && wire.pending().is_empty();
        let is_dead = cancel.is_some_and(|c| c.is_cancelled());
        if let Some(home) = self.home.take().filter(|_| is_whole && !is_dead) {
            let mut idle = lock(&home);
            if idle.len() < limits::CLIENT_IDLE_CONNECTIONS_MAX {
                idle.push(wire);
            }
        }
    }
}

/// The message of OpenAI's error shape, or of the shapes that others use.
pub fn message_of(value: &serde_json::Value) -> Option<String> {
    let error = value.get("error")?;
    let message = error.get("message").unwrap_or(error);
    Some(message.as_str().map_or_else(|| message.to_string(), str::to_owned))
}
