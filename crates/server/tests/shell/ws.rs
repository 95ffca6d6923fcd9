//! A WebSocket client that speaks raw frames, so that tests can send wrong ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::{connect, read_until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub struct Ws {
    pub stream: TcpStream,
    held: Vec<u8>,
    pub head: String,
}

/// A client's frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        n @ 0..126 => out.push(0x80 | n as u8),
        n @ 126..65536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

pub fn upgrade(headers: &str) -> String {
    format!(
        "GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
}

impl Ws {
    pub fn open(addr: SocketAddr) -> Self {
        Self::open_with(addr, "OpenAI-Beta: responses_websockets=2026-02-06\r\n")
    }

    pub fn open_with(addr: SocketAddr, headers: &str) -> Self {
        let mut stream = connect(addr);
        stream.write_all(upgrade(headers).as_bytes()).unwrap();
        let head = read_until(&mut stream, "\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self { stream, held: Vec::new(), head }
    }

    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.stream.write_all(&frame(first, payload)).unwrap();
    }

    pub fn say(&mut self, json: &str) {
        self.send(0x81, json.as_bytes());
    }

    /// The next frame: its first byte and payload; `None` when the server has closed.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.bytes(2)?;
        assert_eq!(first[1] & 0x80, 0, "servers do not mask");
        let n = match first[1] {
            126 => self.bytes(2)?.iter().fold(0, |n, b| n << 8 | usize::from(*b)),
            127 => self.bytes(8)?.iter().fold(0, |n, b| n << 8 | usize::from(*b)),
            n => usize::from(n),
        };
        Some((first[0], self.bytes(n)?))
    }

    fn bytes(&mut self, n: usize) -> Option<Vec<u8>> {
        let mut chunk = [0; 65536];
        while self.held.len() < n {
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(m) => self.held.extend_from_slice(&chunk[..m]),
            }
        }
        let rest = self.held.split_off(n);
        Some(std::mem::replace(&mut self.held, rest))
    }

    /// The next event.
    pub fn event(&mut self) -> Value {
        loop {
            let (first, payload) = self.frame().expect("the server has closed");
            match first {
                0x81 => return serde_json::from_slice(&payload).unwrap(),
                0xc1 => {
                    let text = protocol::ws::inflate(&payload, 1 << 24).unwrap();
                    return serde_json::from_slice(&text).unwrap();
                }
                0x89 => self.send(0x8a, &payload),
                _ => panic!("frame {first:x}: {}", String::from_utf8_lossy(&payload)),
            }
        }
    }

    /// All events up to the one that ends a response, or an error.
    pub fn events(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            all.push(self.event());
            let kind = all[all.len() - 1]["type"].as_str().unwrap();
            if matches!(kind, "response.completed" | "response.incomplete" | "response.failed" | "error") {
                return all;
            }
        }
    }

    /// Sends a request and reads its last event.
    pub fn ask(&mut self, json: &str) -> Value {
        self.say(json);
        self.events().pop().unwrap()
    }

    /// The close code, after which nothing comes.
    pub fn closed(&mut self) -> Option<u16> {
        loop {
            let (first, payload) = self.frame()?;
            if first == 0x88 {
                let code = payload.get(..2).map(|c| u16::from_be_bytes([c[0], c[1]]));
                let _ = self.stream.write_all(&frame(0x88, &payload[..payload.len().min(2)]));
                assert!(self.frame().is_none());
                return code;
            }
        }
    }
}

/// The text that an answer says.
pub fn said(response: &Value) -> String {
    let items = response["output"].as_array().unwrap();
    items.iter().flat_map(|i| i["content"].as_array().unwrap()).map(|p| p["text"].as_str().unwrap()).collect()
}
