//! `vonk lsp`, the real program over its pipes, with a scripted server behind it: lifecycle, positions, cancellation, and a
//! flood of changes that must neither be lost nor kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../client/tests/scripted/mod.rs"]
mod scripted;

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use scripted::{Asked, SSE, chunk, serve};
use serde_json::{Value, json};

const URI: &str = "file:///p/a.rs";

/// A server that fills every gap with ` = 1;` and then says that it is done.
fn filler() -> (String, Receiver<Asked>) {
    hanging(channel().0)
}

/// The same; asked to `hang` it says so here, answers nothing, and says once more when the client has gone.
fn hanging(hangs: Sender<()>) -> (String, Receiver<Asked>) {
    serve(move |asked, stream| {
        if asked.head.starts_with("GET /v1/models") {
            scripted::json(stream, "200 OK", "{\"object\":\"list\",\"data\":[{\"id\":\"script\"}]}");
            return true;
        }
        if asked.body.contains("hang") {
            let _ = stream.write_all(SSE.as_bytes());
            let _ = hangs.send(());
            let _ = stream.read(&mut [0; 1]); // until the client goes
            let _ = hangs.send(());
            return false;
        }
        let _ = stream.write_all(SSE.as_bytes());
        chunk(stream, "data: {\"content\":\" = 1;\\n\",\"stop\":false}\n\n");
        chunk(stream, "data: {\"content\":\"\",\"stop\":true,\"stop_type\":\"eos\",\"model\":\"script\"}\n\n");
        let _ = stream.write_all(b"0\r\n\r\n");
        true
    })
}

struct Editor {
    child: Child,
    to: Option<BufWriter<ChildStdin>>,
    from: BufReader<ChildStdout>,
    n: u64,
}

impl Editor {
    fn start(url: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vonk"));
        command.args(["lsp", "--no-start", "--url", url]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (to, from) = (BufWriter::new(child.stdin.take().unwrap()), BufReader::new(child.stdout.take().unwrap()));
        let mut editor = Self { child, to: Some(to), from, n: 0 };
        let found = editor.ask("initialize", json!({"capabilities": {}}));
        assert_eq!(found["result"]["serverInfo"]["name"], "vonk");
        editor.tell("initialized", json!({}));
        editor
    }

    fn send(&mut self, message: &Value) {
        let body = message.to_string();
        write!(self.to.as_mut().unwrap(), "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    fn start_asking(&mut self, method: &str, params: Value) -> u64 {
        self.n += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.n, "method": method, "params": params}));
        self.to.as_mut().unwrap().flush().unwrap();
        self.n
    }

    fn answer(&mut self, n: u64) -> Value {
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                assert!(self.from.read_line(&mut line).unwrap() > 0, "the program ended");
                if line == "\r\n" {
                    break;
                }
                length = line.strip_prefix("Content-Length: ").map_or(length, |l| l.trim().parse().unwrap());
            }
            let mut body = vec![0; length];
            self.from.read_exact(&mut body).unwrap();
            let message: Value = serde_json::from_slice(&body).unwrap();
            if message["id"] == n && message.get("method").is_none() {
                return message;
            }
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let n = self.start_asking(method, params);
        self.answer(n)
    }

    fn open(&mut self, text: &str) {
        let document = json!({"uri": URI, "languageId": "rust", "version": 1, "text": text});
        self.tell("textDocument/didOpen", json!({"textDocument": document}));
    }

    fn change(&mut self, version: u64, from: (u32, u32), to: (u32, u32), text: &str) {
        let at = |(line, character): (u32, u32)| json!({"line": line, "character": character});
        let change = json!({"range": {"start": at(from), "end": at(to)}, "text": text});
        let params = json!({"textDocument": {"uri": URI, "version": version}, "contentChanges": [change]});
        self.tell("textDocument/didChange", params);
    }

    fn suggestion(&mut self, line: u32, character: u32) -> Value {
        let answer = self.ask("textDocument/inlineCompletion", at(line, character));
        answer["result"]["items"][0]["insertText"].clone()
    }

    /// Peak resident memory, KiB, where the system tells.
    fn peak_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
    }

    fn end(mut self) -> Option<i32> {
        assert_eq!(self.ask("shutdown", Value::Null)["result"], Value::Null);
        self.tell("exit", Value::Null);
        drop(self.to.take());
        self.child.wait().unwrap().code()
    }
}

fn at(line: u32, character: u32) -> Value {
    json!({"textDocument": {"uri": URI}, "position": {"line": line, "character": character}, "context": {"triggerKind": 2}})
}

/// The last prompt that a key asked for.
fn last_prefix(asked: &Receiver<Asked>) -> String {
    let bodies: Vec<Value> = asked.try_iter().filter_map(|a| serde_json::from_str(&a.body).ok()).collect();
    let urgent = bodies.iter().rfind(|b| b["service_tier"] == "priority").expect("nothing was asked");
    urgent["input_prefix"].as_str().unwrap().to_owned()
}

#[test]
fn a_session_from_the_first_message_to_the_exit_code() {
    let (url, asked) = filler();
    let mut editor = Editor::start(&url);
    let begun = Instant::now();
    while editor.ask("vonk/status", Value::Null)["result"]["state"] != "ready" {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not find the server");
        std::thread::sleep(Duration::from_millis(5));
    }
    editor.open("fn old() {}\r\nlet 😀x = é;\r\n");
    editor.change(2, (1, 4), (1, 6), "🦀🦀");
    editor.change(3, (1, 9), (1, 14), "");
    assert_eq!(editor.suggestion(1, 9), " = 1;");
    assert_eq!(last_prefix(&asked), "fn old() {}\r\nlet 🦀🦀x");
    editor.change(4, (2, 0), (2, 0), "\"é\"; old();\r\n");
    editor.change(5, (0, 3), (0, 6), "n");
    editor.change(6, (0, 4), (0, 4), "ew");
    let next = editor.ask("vonk/nextEdit", at(0, 6))["result"].clone();
    let range = json!({"start": {"line": 2, "character": 5}, "end": {"line": 2, "character": 8}});
    assert_eq!(next, json!({"range": range, "newText": "new"}));
    assert_eq!(editor.ask("textDocument/hover", at(0, 0))["error"]["code"], -32601);
    assert_eq!(editor.end(), Some(0));
    let mut editor = Editor::start(&url);
    drop(editor.to.take());
    assert_eq!(editor.child.wait().unwrap().code(), Some(1), "the editor left without a word");
}

#[test]
fn a_request_that_is_cancelled_stops_the_servers_work() {
    let (hangs, has_asked) = channel();
    let (url, _asked) = hanging(hangs);
    let mut editor = Editor::start(&url);
    editor.open("hang x\n");
    let n = editor.start_asking("textDocument/inlineCompletion", at(0, 6));
    // A request that is cancelled sooner asks nothing.
    has_asked.recv_timeout(Duration::from_secs(60)).expect("the server was never asked");
    editor.tell("$/cancelRequest", json!({"id": n}));
    editor.to.as_mut().unwrap().flush().unwrap();
    assert_eq!(editor.answer(n)["error"]["code"], -32800);
    // Another key contradicts it: the connection is closed.
    editor.change(2, (0, 0), (0, 6), "let y");
    assert_eq!(editor.suggestion(0, 5), " = 1;");
    has_asked.recv_timeout(Duration::from_secs(60)).expect("the server still works for a key that is gone");
    assert_eq!(editor.end(), Some(0));
}

/// R50. The rate is printed, not judged: `cargo test -p cli --release --test language_server flood -- --nocapture`.
#[test]
fn a_flood_of_a_hundred_thousand_changes_is_followed_in_bounded_memory() {
    const N: u32 = 100_000;
    const MORE_KIB: u64 = 32 * 1024;
    let (url, asked) = filler();
    let mut editor = Editor::start(&url);
    editor.open("let a\n");
    editor.ask("vonk/status", Value::Null);
    let before = editor.peak_kib();
    let begun = Instant::now();
    for i in 0..N {
        // A name is typed and deleted again, for hours.
        match i % 20 {
            at @ 0..10 => editor.change(u64::from(i) + 2, (0, 5 + at), (0, 5 + at), "x"),
            at => editor.change(u64::from(i) + 2, (0, 24 - at), (0, 25 - at), ""),
        }
    }
    editor.change(u64::from(N) + 2, (0, 4), (0, 5), "last");
    editor.ask("vonk/nextEdit", at(0, 8)); // answered in order: all of them are done
    let s = begun.elapsed().as_secs_f64();
    assert_eq!(editor.suggestion(0, 8), " = 1;");
    assert_eq!(last_prefix(&asked), "let last", "the last text wins");
    let grown = editor.peak_kib().zip(before).map(|(now, before)| now.saturating_sub(before));
    println!("{N} changes in {s:.2} s, {:.0} per second; peak memory grew by {grown:?} KiB", f64::from(N) / s);
    assert!(grown.is_none_or(|kib| kib <= MORE_KIB), "memory grew by {grown:?} KiB");
    // One at a time, as typed: what a key costs until the program is ready for the next.
    let mut us: Vec<u128> = (0..2_000)
        .map(|i| {
            let begun = Instant::now();
            editor.change(u64::from(N) + 3 + i, (0, 8), (0, 8), "y");
            editor.ask("vonk/nextEdit", at(0, 9));
            begun.elapsed().as_micros()
        })
        .collect();
    us.sort_unstable();
    println!("a change and an answer after it, us: p50 {} p99 {}", us[us.len() / 2], us[us.len() * 99 / 100]);
    assert_eq!(editor.end(), Some(0));
}
