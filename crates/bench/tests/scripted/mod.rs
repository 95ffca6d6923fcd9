//! A server on loopback that does what a test says, with a thread for each connection.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Answers every connection with `script`, which gets the number of the request and the request's body; returns the address
/// and the bodies.
pub fn serve(
    script: impl Fn(usize, &mut TcpStream, &Value) + Send + Sync + 'static,
) -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = channel();
    let script = Arc::new(script);
    thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let (script, sender) = (Arc::clone(&script), sender.clone());
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let Some((head, body)) = read_request(&mut stream) else { return };
                script(n, &mut stream, &body);
                let _ = sender.send((head, body));
            });
        }
    });
    (url, bodies)
}

fn read_request(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    Some((head, serde_json::from_slice(&body).unwrap()))
}

pub const SSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

pub fn chunk(stream: &mut TcpStream, text: &str) {
    // The peer may have hung up: that is what some tests are about.
    let _ = write!(stream, "{:x};x=y\r\n{text}\r\n", text.len());
}

pub fn delta(stream: &mut TcpStream, text: &str) {
    let event = serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    chunk(stream, &format!("data: {event}\n\n"));
}

/// A whole streamed answer: `texts` with a pause before each.
pub fn answer(stream: &mut TcpStream, texts: &[&str], pause_ms: u64, usage: Option<u64>) {
    stream.write_all(SSE.as_bytes()).unwrap();
    delta(stream, ""); // the role comes first, without text
    for text in texts {
        thread::sleep(Duration::from_millis(pause_ms));
        delta(stream, text);
    }
    chunk(stream, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    if let Some(tokens) = usage {
        let usage = serde_json::json!({"choices": [], "usage": {"prompt_tokens": 200, "completion_tokens": tokens}});
        chunk(stream, &format!("data: {usage}\n\n"));
    }
    chunk(stream, "data: [DONE]\n\n");
    let _ = stream.write_all(b"0\r\n\r\n");
}
