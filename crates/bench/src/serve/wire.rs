//! The two ways to ask for a stream, read as raw bytes with the time of each read: events are parsed afterwards, so that the
//! client takes as little of the measured time as it can.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base::limits;
use client::{Client, Deadline, Target};
use serde_json::Value;

use crate::error::BenchError;

/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;
/// A key of the handshake; any base64 of 16 bytes will do.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The mask of our frames; secrecy is not wanted.
const MASK: [u8; 4] = [1, 2, 3, 4];
/// Seconds for one answer.
const ANSWER_S: u64 = 120;

/// A stream as it was heard.
pub(crate) struct Heard {
    /// Before the first byte was written.
    pub sent_at: Instant,
    /// Bytes that were sent, the head of HTTP left out.
    pub sent_bytes: usize,
    /// When each event was read.
    pub events: Vec<(Instant, Value)>,
}

impl Heard {
    /// When the first event came that `is_it`.
    pub fn first(&self, is_it: impl Fn(&Value) -> bool) -> Option<Instant> {
        self.events.iter().find(|(_, e)| is_it(e)).map(|(at, _)| *at)
    }
}

/// The server, and where it is.
pub(crate) struct Http {
    client: Client,
    url: String,
}

impl Http {
    /// Over a kept connection, or a new one each time.
    pub fn new(addr: SocketAddr, is_kept: bool) -> Result<Self, BenchError> {
        let url = format!("http://{addr}");
        let target = Target::parse(&url)?;
        let client = if is_kept { Client::new(target, None)? } else { Client::once(target, None)? };
        Ok(Self { client, url })
    }

    /// Asks for something that is not streamed.
    pub fn json(&self, path: &str, body: &Value) -> Result<Value, BenchError> {
        let answer = self.client.post(path, body.to_string().as_bytes(), Deadline::after_s(ANSWER_S), None)?;
        Ok(answer.json(limits::BODY_BYTES_MAX)?)
    }

    /// Asks for a stream of events and hears it to its end.
    pub fn stream(&self, path: &str, body: &Value) -> Result<Heard, BenchError> {
        let body = body.to_string();
        let mut answer = self.client.post(path, body.as_bytes(), Deadline::after_s(ANSWER_S), None)?;
        if answer.status != 200 {
            return Err(answer.refusal().into());
        }
        let (mut bytes, mut reads, sent_at) = (Vec::new(), Vec::new(), answer.sent_at);
        while answer.read(&mut bytes)? {
            reads.push((bytes.len(), Instant::now()));
            if bytes.len() > limits::BODY_BYTES_MAX {
                return Err(BenchError::protocol(&self.url, "its stream does not end"));
            }
        }
        Ok(Heard { sent_at, sent_bytes: body.len(), events: events(&bytes, &reads) })
    }
}

/// The events of a stream, each with the time of the read that made it whole.
fn events(bytes: &[u8], reads: &[(usize, Instant)]) -> Vec<(Instant, Value)> {
    let (mut out, mut from, mut read) = (Vec::new(), 0, 0);
    while let Some(len) = bytes[from..].windows(2).position(|w| w == b"\n\n") {
        let (event, end) = (&bytes[from..from + len], from + len + 2);
        from = end;
        while reads.get(read).is_some_and(|(n, _)| *n < end) {
            read += 1;
        }
        let data = event.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"data: "));
        let value = data.and_then(|d| serde_json::from_slice(d).ok());
        out.extend(reads.get(read).zip(value).map(|((_, at), value)| (*at, value)));
    }
    out
}

/// A WebSocket at `/v1/responses`.
pub(crate) struct Socket {
    stream: TcpStream,
    held: Vec<u8>,
    url: String,
}

impl Socket {
    pub fn open(addr: SocketAddr) -> Result<Self, BenchError> {
        let url = format!("ws://{addr}/v1/responses");
        let failed = |e: std::io::Error| BenchError::protocol(&url, format!("no WebSocket: {e}"));
        let mut stream = TcpStream::connect(addr).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(Duration::from_secs(ANSWER_S))).map_err(failed)?;
        let head = format!(
            "GET /v1/responses HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).map_err(failed)?;
        let mut socket = Self { stream, held: Vec::new(), url: url.clone() };
        let end = loop {
            if let Some(at) = socket.held.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            socket.fill()?;
        };
        if !socket.held.starts_with(b"HTTP/1.1 101") {
            return Err(BenchError::protocol(&url, "it refused the upgrade"));
        }
        socket.held.drain(..end);
        Ok(socket)
    }

    /// Reads some more; when that was.
    fn fill(&mut self) -> Result<Instant, BenchError> {
        let mut chunk = [0; READ_BYTES];
        let read = self.stream.read(&mut chunk);
        let at = Instant::now();
        match read {
            Ok(n @ 1..) if self.held.len() <= limits::BODY_BYTES_MAX => self.held.extend_from_slice(&chunk[..n]),
            Ok(_) => return Err(BenchError::protocol(&self.url, "it closed the WebSocket")),
            Err(e) => return Err(BenchError::protocol(&self.url, format!("the WebSocket broke: {e}"))),
        }
        Ok(at)
    }

    /// The next frame's kind and payload, if it is there.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, short) = (*self.held.first()?, usize::from(*self.held.get(1)? & 0x7f));
        let wide = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let long = self.held.get(2..2 + wide)?.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        let len = if wide == 0 { short } else { long };
        let payload = self.held.get(2 + wide..(2 + wide).checked_add(len)?)?.to_vec();
        self.held.drain(..2 + wide + len);
        Some((first & 0x0f, payload))
    }

    fn send(&mut self, op: u8, payload: &[u8]) -> Result<usize, BenchError> {
        let mut out = vec![0x80 | op];
        match payload.len() {
            n @ 0..126 => out.push(0x80 | n as u8),
            n @ 126..65_536 => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&MASK);
        out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
        let failed = |e: std::io::Error| BenchError::protocol(&self.url, format!("the WebSocket broke: {e}"));
        self.stream.write_all(&out).map_err(failed)?;
        Ok(out.len())
    }

    /// Asks for a response and hears it to its end.
    pub fn ask(&mut self, request: &Value) -> Result<Heard, BenchError> {
        let text = request.to_string();
        let sent_at = Instant::now();
        let sent_bytes = self.send(1, text.as_bytes())?;
        let (mut events, mut at) = (Vec::new(), sent_at);
        loop {
            let Some((op, payload)) = self.frame() else {
                at = self.fill()?;
                continue;
            };
            match op {
                1 => {
                    let event: Value = serde_json::from_slice(&payload).unwrap_or_default();
                    let kind = event["type"].as_str().unwrap_or_default().to_owned();
                    events.push((at, event));
                    if matches!(&*kind, "response.completed" | "response.incomplete" | "response.failed" | "error") {
                        return Ok(Heard { sent_at, sent_bytes, events });
                    }
                }
                9 => _ = self.send(10, &payload)?,
                8 => return Err(BenchError::protocol(&self.url, "it said goodbye")),
                _ => {}
            }
        }
    }
}
