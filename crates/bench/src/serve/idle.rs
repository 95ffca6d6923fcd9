//! Connections on which nothing happens: what they weigh, and what they cost a request that comes in beside them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::prompts;
use crate::serve::Place;
use crate::serve::wire::{Http, Socket};
use crate::stats::Summary;

/// Requests of one block of measurements.
const BLOCK: usize = 15;
/// Tokens of the prompt that each of them has, cached.
const PROMPT_TOKENS: usize = 64;
/// Connections that are opened and used before anything is measured, so that what is made once is there.
const WARM: usize = 16;

/// One kind of idle connection.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// `websocket`, after a turn, or `http`, kept after a request.
    pub kind: &'static str,
    /// How many.
    pub streams: usize,
    /// Resident memory of each, the client's end of it too, where the system tells.
    pub kib_each: Option<Summary>,
    /// ttft of a new connection's request without them.
    pub alone_ms: Summary,
    /// The same beside them.
    pub beside_ms: Summary,
    /// Median beside over median alone.
    pub ratio: f64,
}

fn resident_kib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// Milliseconds to the first token over a new connection.
fn block(http: &Http, out: &mut Vec<f64>) -> Result<(), BenchError> {
    let prompt = prompts::code(3, PROMPT_TOKENS);
    let body = json!({"model": "default", "prompt": prompt, "max_tokens": 1, "temperature": 0, "stream": true});
    for _ in 0..BLOCK {
        let heard = http.stream("/v1/completions", &body)?;
        let at = heard.first(|e| e["choices"][0]["finish_reason"].is_string());
        let at = at.ok_or_else(|| BenchError::Ask("an answer did not end".to_owned()))?;
        out.push((at - heard.sent_at).as_secs_f64() * 1e3);
    }
    Ok(())
}

/// Either kind, open.
enum Open {
    Socket(#[expect(dead_code, reason = "held, not used")] Socket),
    Http(#[expect(dead_code, reason = "held, not used")] TcpStream),
}

fn open(place: &Place<'_>, kind: &str) -> Result<Open, BenchError> {
    if kind == "websocket" {
        let mut socket = Socket::open(place.addr)?;
        let turn = json!({"type": "response.create", "model": "default", "store": false, "input": "hi",
            "max_output_tokens": 1, "temperature": 0});
        let heard = socket.ask(&turn)?;
        let is_end = |e: &Value| matches!(e["type"].as_str(), Some("response.completed" | "response.incomplete"));
        return match heard.first(is_end) {
            Some(_) => Ok(Open::Socket(socket)),
            None => Err(BenchError::Ask("a turn on a WebSocket failed".to_owned())),
        };
    }
    let failed = |e: std::io::Error| BenchError::Ask(format!("a connection to keep: {e}"));
    let mut stream = TcpStream::connect(place.addr).map_err(failed)?;
    stream.write_all(format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", place.addr).as_bytes()).map_err(failed)?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"}") {
        match stream.read(&mut chunk).map_err(failed)? {
            0 => return Err(BenchError::Ask("the server closed a connection to keep".to_owned())),
            n => answer.extend_from_slice(&chunk[..n]),
        }
    }
    Ok(Open::Http(stream))
}

/// Alone and beside idle connections, in turn.
pub(crate) fn run(place: &Place<'_>, streams: usize, rounds: usize) -> Result<Vec<Idle>, BenchError> {
    let http = Http::new(place.addr, false)?; // a new connection each
    let kinds = ["websocket", "http"];
    for kind in kinds {
        let _warm: Vec<Open> = (0..WARM).map(|_| open(place, kind)).collect::<Result<_, _>>()?;
    }
    block(&http, &mut Vec::new())?;
    let mut out = Vec::new();
    for kind in kinds {
        let (mut alone, mut beside, mut kib) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            block(&http, &mut alone)?;
            let before = resident_kib();
            let open: Vec<Open> = (0..streams).map(|_| open(place, kind)).collect::<Result<_, _>>()?;
            let after = resident_kib();
            kib.extend(after.zip(before).map(|(after, before)| (after - before).max(0.0) / streams as f64));
            block(&http, &mut beside)?;
            drop(open);
            place.engine.taken();
        }
        block(&http, &mut alone)?;
        let both = Summary::of(&alone).zip(Summary::of(&beside));
        let (alone_ms, beside_ms) = both.ok_or_else(|| BenchError::Ask("nothing was measured".to_owned()))?;
        let ratio = beside_ms.p50 / alone_ms.p50;
        // Memory that the first round's connections left is used again by the next: the first counts most.
        out.push(Idle { kind, streams, kib_each: Summary::of(&kib), alone_ms, beside_ms, ratio });
    }
    Ok(out)
}
