//! A server on loopback that does what a test says, with a thread for each connection, which it keeps for several requests.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A request: which connection it came on, its head and its body.
#[derive(Clone)]
pub struct Asked {
    pub connection: usize,
    pub head: String,
    pub body: String,
}

/// Answers every request with `script`, which returns whether the connection stays; returns the address and the requests, each of
/// which is told before it is answered: whoever has an answer finds its request here.
pub fn serve(script: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static) -> (String, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    let script = Arc::new(script);
    thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let (script, sender) = (Arc::clone(&script), sender.clone());
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some(asked) = read(connection, &mut reader) {
                    let _ = sender.send(asked.clone());
                    if !script(&asked, &mut stream) {
                        break;
                    }
                }
            });
        }
    });
    (url, requests)
}

fn read(connection: usize, reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { connection, head, body: String::from_utf8(body).unwrap() })
}

pub const SSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

pub fn chunk(stream: &mut TcpStream, text: &str) {
    // The peer may have hung up: that is what some tests are about.
    let _ = write!(stream, "{:x}\r\n{text}\r\n", text.len());
}

pub fn delta(stream: &mut TcpStream, text: &str) {
    let text = serde_json::Value::from(text);
    chunk(stream, &format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}}}}]}}\n\n"));
}

/// A whole streamed answer.
pub fn answer(stream: &mut TcpStream, texts: &[&str], finish_reason: &str) {
    let _ = stream.write_all(SSE.as_bytes());
    texts.iter().for_each(|text| delta(stream, text));
    let end = format!("{{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{finish_reason}\"}}]}}");
    chunk(stream, &format!("data: {end}\n\n"));
    chunk(stream, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n");
    chunk(stream, "data: [DONE]\n\n");
    let _ = stream.write_all(b"0\r\n\r\n");
}

/// A whole answer of known length.
pub fn json(stream: &mut TcpStream, status: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all((head + body).as_bytes());
}
