//! Edits and replay against scripted servers: which requests go where and when, what is made of the answers, and how faults of
//! servers and data files are told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod scripted;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use bench::BenchError;
use bench::edits::{EditsArgs, Report, Speculation, cases, run};
use scripted::{SSE, chunk, delta, serve};
use serde_json::{Value, json};

/// A data file in the folder for tests, gone with the value.
struct DataFile(PathBuf);

impl DataFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vonk-edits-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    /// `n` commits whose files are long enough.
    fn commits(name: &str, n: usize) -> Self {
        let row = |i: usize| {
            let before = format!("# file {i}\n{}", "x = 1\n".repeat(250));
            let after = before.replacen("x = 1", "x = 2", 1);
            json!({"path": format!("f{i}.py"), "subject": format!("change {i}"), "before": before, "after": after})
        };
        Self::new(name, &(0..n).map(|i| row(i).to_string() + "\n").collect::<String>())
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn args(url: &str, data: &DataFile) -> EditsArgs {
    EditsArgs { url: url.to_owned(), data: data.0.clone(), n: 3, timeout_s: 30, ..EditsArgs::default() }
}

fn quiet(args: &EditsArgs) -> Result<Report, BenchError> {
    run(args, &mut |_| {})
}

/// Streams `text` in two events, 10 ms before each, and says that it was `tokens` tokens.
fn write(s: &mut TcpStream, text: &str, tokens: u64, reason: &str) {
    s.write_all(SSE.as_bytes()).unwrap();
    let half = text.len() / 2;
    for part in [&text[..half], &text[half..]] {
        thread::sleep(Duration::from_millis(10));
        delta(s, part);
    }
    chunk(s, &format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})));
    let usage = json!({"prompt_tokens": 500, "completion_tokens": tokens, "prompt_tokens_details": {"cached_tokens": 20},
        "completion_tokens_details": {"accepted_prediction_tokens": 30, "rejected_prediction_tokens": 4}});
    chunk(s, &format!("data: {}\n\n", json!({"choices": [], "usage": usage, "timings": {"prompt_ms": 7.5}})));
    chunk(s, "data: [DONE]\n\n");
    let _ = s.write_all(b"0\r\n\r\n");
}

fn prompt_of(body: &Value) -> &str {
    body["messages"][0]["content"].as_str().unwrap()
}

/// The file as it is in the prompt, in a code block: the answer of a model that changes nothing.
fn unchanged(body: &Value) -> String {
    let at = prompt_of(body).find("```").unwrap();
    prompt_of(body)[at..].to_owned()
}

fn bodies(receiver: Receiver<(String, Value)>, n: usize) -> Vec<Value> {
    receiver.iter().take(n).map(|(_, body)| body).collect()
}

#[test]
fn rows_medians_and_ratios_are_what_the_servers_did() {
    let data = DataFile::commits("rows", 5);
    let (a, a_bodies) = serve(|_, s, body| write(s, &unchanged(body), 101, "stop"));
    let (b, b_bodies) = serve(|n, s, body| {
        thread::sleep(Duration::from_millis(60));
        let text = if n == 0 { unchanged(body) } else { "no code block".to_owned() };
        write(s, &text, 101, "stop");
    });
    let given = EditsArgs { against: Some(b), ..args(&a, &data) };
    let mut lines = Vec::new();
    let report = run(&given, &mut |line| lines.push(line.to_owned())).unwrap();
    assert_eq!(lines.iter().filter_map(|l| l.chars().next()).collect::<String>(), "ABBAAB");
    assert_eq!(report.rows.len(), 6);
    for row in report.rows.iter().filter(|r| r.server == 'A') {
        assert_eq!((row.prompt_tokens, row.cached_tokens, row.completion_tokens), (Some(500), Some(20), 101));
        assert_eq!((row.accepted_prediction_tokens, row.rejected_prediction_tokens), (Some(30), Some(4)));
        assert_eq!(row.timings.as_ref().unwrap()["prompt_ms"], 7.5);
        // 251 lines against 252, for the block's end stands on a line of its own; one of them differs.
        assert!((row.similarity.unwrap() - 2.0 * 250.0 / 503.0).abs() < 1e-12, "{row:?}");
        // 10 ms to the first text, at least 10 more to the end: what the figures are made of.
        assert!(row.ttft_ms >= 10.0 && row.total_ms >= row.ttft_ms + 9.0, "{row:?}");
        let decode_s = (row.total_ms - row.ttft_ms) / 1e3;
        assert!((row.tps.unwrap() * decode_s - 100.0).abs() < 1e-6, "{row:?}");
        assert!((row.effective_tps * row.total_ms / 1e3 - 101.0).abs() < 1e-6, "{row:?}");
    }
    let value = serde_json::to_value(&report).unwrap();
    assert!(value["medians"]["B"]["ttft_ms"].as_f64().unwrap() >= 70.0, "{value}");
    assert!(value["ratio_a_over_b"]["ttft_ms"].as_f64().unwrap() < 1.0, "{value}");
    assert_eq!(value["equal_answers"], json!({"equal": 1, "of": 3}));
    assert_eq!(value["servers"][0]["tokens"], 303);
    assert!(!value["data"].as_str().unwrap().contains('/'));
    let shown = report.to_string();
    assert!(shown.contains("effective tok/s") && shown.contains("90 drafted tokens kept, 12 not"), "{shown}");
    let (a, b) = (bodies(a_bodies, 3), bodies(b_bodies, 3));
    assert_eq!(a, b, "both get the same requests");
    assert!(prompt_of(&a[0]).starts_with("Apply this change to the file `f"), "{}", prompt_of(&a[0]));
    assert_eq!((&a[0]["max_tokens"], &a[0]["temperature"]), (&json!(1600), &json!(0)));
    assert!(a[0].get("prediction").is_none() && a[0].get("speculation").is_none() && a[0].get("replay").is_none());
}

#[test]
fn the_seed_chooses_as_python_does_and_lengths_are_characters() {
    let row = |i: usize, before: String| json!({"path": i.to_string(), "subject": "", "before": before, "after": ""});
    let mut lines: Vec<Value> = (0..20).map(|i| row(i, "é".repeat(1200))).collect();
    lines.extend([row(90, "é".repeat(1199)), row(91, "x".repeat(4001))]);
    let text: String = lines.iter().map(|l| l.to_string() + "\n\n").collect();
    let data = DataFile::new("choice", &text);
    let chosen = cases(&EditsArgs { n: 6, ..args("http://a", &data) }).unwrap();
    // python3: l = list(range(20)); random.Random(1).shuffle(l); l[:6]
    assert_eq!(chosen.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), ["11", "5", "17", "19", "9", "0"]);
}

#[test]
fn extras_go_where_they_belong() {
    let data = DataFile::commits("extras", 1);
    let (a, a_bodies) = serve(|_, s, body| write(s, &unchanged(body), 9, "stop"));
    let (b, b_bodies) = serve(|_, s, body| write(s, &unchanged(body), 9, "stop"));
    let speculation = Some(Speculation::Off);
    let given = EditsArgs { against: Some(b), prediction: true, speculation, warm: true, n: 1, ..args(&a, &data) };
    let report = quiet(&given).unwrap();
    assert!(report.rows.iter().all(|r| r.cold_ttft_ms.unwrap() >= 10.0));
    assert!(report.to_string().contains("ttft ms, cold"));
    let (a, b) = (bodies(a_bodies, 2), bodies(b_bodies, 2));
    for sent in [&a, &b] {
        assert_eq!((&sent[0]["max_tokens"], &sent[1]["max_tokens"]), (&json!(1), &json!(1600)));
        assert_eq!(prompt_of(&sent[0]), prompt_of(&sent[1]), "the warming request has the same prompt");
        assert!(sent[0].get("prediction").is_none());
        assert_eq!(sent[1]["prediction"]["content"], unchanged(&sent[1]));
    }
    assert_eq!(a[1]["speculation"], "off");
    assert!(b[1].get("speculation").is_none());
}

#[test]
fn replay_forces_a_and_lets_b_write_as_many_tokens() {
    let data = DataFile::commits("replay", 3);
    let (a, a_bodies) = serve(|_, s, body| write(s, body["replay"].as_str().unwrap(), 77, "stop"));
    let (b, b_bodies) = serve(|_, s, body| write(s, &unchanged(body), 77, "length"));
    let given = EditsArgs { against: Some(b), replay: true, ..args(&a, &data) };
    let mut lines = Vec::new();
    let report = run(&given, &mut |line| lines.push(line.to_owned())).unwrap();
    assert_eq!(lines.iter().filter_map(|l| l.chars().next()).collect::<String>(), "ABABAB");
    assert_eq!(report.bench, "replay");
    assert!(report.notes[0].starts_with("REPLAY") && report.to_string().starts_with("replay: 3 cases"));
    assert!(report.rows.iter().filter(|r| r.server == 'A').all(|r| r.similarity == Some(2.0 * 251.0 / 503.0)));
    assert!(report.equal_answers.is_none());
    for (a, b) in bodies(a_bodies, 3).iter().zip(bodies(b_bodies, 3)) {
        assert!(
            a["replay"].as_str().unwrap().starts_with("```\n# file ")
                && a["replay"].as_str().unwrap().contains("x = 2")
        );
        assert!(b.get("replay").is_none());
        assert_eq!(b["max_tokens"], 77);
    }
}

#[test]
fn a_server_without_replay_is_told_from_one_that_has_it() {
    let data = DataFile::commits("ignored", 2);
    let replay = |url: &str| EditsArgs { replay: true, ..args(url, &data) };
    let (url, _b) = serve(|_, s, body| write(s, &unchanged(body), 9, "stop"));
    let error = quiet(&replay(&url)).unwrap_err();
    assert!(
        matches!(error, BenchError::Replay { .. }) && error.to_string().contains("wrote its own answer"),
        "{error}"
    );
    // Cut at the limit, the reference is recognised by its beginning ...
    let (url, _b) = serve(|_, s, body| write(s, &body["replay"].as_str().unwrap()[..40], 9, "length"));
    assert_eq!(quiet(&replay(&url)).unwrap().rows.len(), 2);
    // ... but ended by itself, it is not the reference.
    let (url, _b) = serve(|_, s, body| write(s, &body["replay"].as_str().unwrap()[..40], 9, "stop"));
    assert!(matches!(quiet(&replay(&url)), Err(BenchError::Replay { .. })));
    let (url, _b) = serve(|_, s, _| {
        let body = r#"{"error":{"message":"unknown field"}}"#;
        write!(s, "HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let error = quiet(&replay(&url)).unwrap_err().to_string();
    assert!(error.contains("answered 400: unknown field") && error.contains("`replay`"), "{error}");
}

#[test]
fn single_failures_are_reported_and_several_in_a_row_end_it() {
    let data = DataFile::commits("dies", 8);
    let busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";
    let (url, _b) = serve(|n, s, body| match n {
        1 => s.write_all(busy).unwrap(),
        _ => write(s, &unchanged(body), 9, "stop"),
    });
    let report = quiet(&args(&url, &data)).unwrap();
    assert_eq!((report.rows.len(), report.failures.len(), report.stopped), (2, 1, None));
    assert!(report.failures[0].error.contains("answered 503: busy"), "{:?}", report.failures);
    // Dies in the middle of its third answer, and of every later one.
    let (url, _b) = serve(|n, s, body| match n {
        0 | 1 => write(s, &unchanged(body), 9, "stop"),
        _ => {
            s.write_all(SSE.as_bytes()).unwrap();
            delta(s, "x");
        }
    });
    let report = quiet(&EditsArgs { n: 8, ..args(&url, &data) }).unwrap();
    assert_eq!((report.rows.len(), report.failures.len()), (2, 3));
    let stopped = report.stopped.clone().unwrap();
    assert!(stopped.contains("after case 5") && stopped.contains("in the middle of its answer"), "{stopped}");
    assert!(report.to_string().contains("failed: A case 2 ("), "{report}");
    let (url, _b) = serve(|_, s, _| s.write_all(busy).unwrap());
    assert!(quiet(&args(&url, &data)).unwrap_err().to_string().contains("answered 503"));
}

#[test]
fn a_server_that_is_down_is_named() {
    let data = DataFile::commits("down", 2);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = quiet(&args(&format!("http://{free}"), &data)).unwrap_err();
    assert!(error.is_connect() && error.to_string().contains(&free.to_string()), "{error}");
    let (up, _b) = serve(|_, s, body| write(s, &unchanged(body), 9, "stop"));
    let given = EditsArgs { against: Some(format!("http://{free}")), ..args(&up, &data) };
    assert!(quiet(&given).unwrap_err().is_connect(), "B is down");
}

#[test]
fn files_and_settings_that_are_wrong_are_named_with_the_line() {
    let none = DataFile(PathBuf::from("no-such-file.jsonl"));
    let refused = |given: &EditsArgs| {
        let error = quiet(given).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        error.to_string()
    };
    let error = refused(&args("http://a", &none));
    assert!(error.contains("no-such-file.jsonl") && error.contains("`before`"), "{error}");
    let good = json!({"path": "p", "subject": "s", "before": "b", "after": "a"}).to_string();
    for (name, text, part) in [
        ("json", format!("{good}\n\n{{\n"), "line 3"),
        ("field", format!("{good}\n{{\"path\":\"p\"}}\n"), "line 2: missing field `subject`"),
        ("type", "{\"subject\":1}\n".to_owned(), "line 1: invalid type"),
        ("short", good.clone(), "1200 to 4000 characters"),
        ("empty", String::new(), "no rows"),
    ] {
        let data = DataFile::new(name, &text);
        let error = refused(&args("http://a", &data));
        assert!(error.contains(part), "{name}: {error}");
    }
    let data = DataFile::commits("settings", 1);
    for (given, part) in [
        (EditsArgs { n: 0, ..args("http://a", &data) }, "--n"),
        (EditsArgs { n: usize::MAX, ..args("http://a", &data) }, "--n"),
        (EditsArgs { max_tokens: 0, ..args("http://a", &data) }, "--max-tokens"),
        (EditsArgs { timeout_s: 0, ..args("http://a", &data) }, "--timeout"),
        (args("https://a", &data), "plain http"),
    ] {
        let error = refused(&given);
        assert!(error.contains(part), "{error}");
    }
}
