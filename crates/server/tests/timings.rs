//! `timings` split a request's time: every part is there and not negative, and together they are no more than the client waited.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod shell;

use serde_json::{Value, json};
use server::Config;
use shell::ws::Ws;
use shell::*;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// One after the other, so together at most the whole.
const IN_TURN: [&str; 6] = ["read_ms", "tokenize_ms", "queue_ms", "prompt_ms", "decode_ms", "verify_ms"];
/// Beside decoding, each at most the whole.
const BESIDE: [&str; 2] = ["detokenize_ms", "write_ms"];
/// llama.cpp's, which its clients read.
const LLAMA_CPP: [&str; 6] =
    ["prompt_n", "prompt_ms", "prompt_per_second", "predicted_n", "predicted_ms", "predicted_per_second"];

fn part(t: &Value, name: &str) -> f64 {
    t[name].as_f64().unwrap_or_else(|| panic!("{name} is missing: {t}"))
}

fn check(t: &Value, whole: Duration) {
    let whole_ms = whole.as_secs_f64() * 1e3;
    assert!(IN_TURN.iter().chain(&BESIDE).chain(&LLAMA_CPP).all(|name| part(t, name) >= 0.0), "{t}");
    let sum: f64 = IN_TURN.iter().map(|name| part(t, name)).sum();
    assert!(sum > 0.0 && sum <= whole_ms, "{sum} of {whole_ms}: {t}");
    assert!(BESIDE.iter().all(|name| part(t, name) <= whole_ms), "{whole_ms}: {t}");
    assert!(part(t, "detokenize_ms") > 0.0 && part(t, "tokenize_ms") > 0.0, "{t}");
    let near = |a: f64, b: f64| (a - b).abs() < 1e-3;
    assert!(near(part(t, "decode_ms") + part(t, "verify_ms"), part(t, "predicted_ms")), "{t}");
    if let Some(ttft) = t["ttft_ms"].as_f64() {
        let before: f64 = IN_TURN[..4].iter().map(|name| part(t, name)).sum();
        assert!(near(before, ttft), "{before}: {t}");
    }
}

fn timings_of(events: &[String]) -> Value {
    let read = events.iter().filter_map(|e| serde_json::from_str::<Value>(e).ok());
    read.filter_map(|e| e.get("timings").or(e.pointer("/response/timings")).filter(|t| t.is_object()).cloned())
        .next_back()
        .unwrap_or_else(|| panic!("no timings: {events:?}"))
}

fn asked(addr: SocketAddr, path: &str, body: &str) -> Value {
    let began = Instant::now();
    let answer = post(addr, path, body);
    let whole = began.elapsed();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let is_stream = body.contains(r#""stream":true"#);
    let t = if is_stream { timings_of(&answer.events()) } else { answer.json()["timings"].clone() };
    check(&t, whole);
    assert!(!is_stream || part(&t, "write_ms") > 0.0, "{t}");
    t
}

#[test]
fn every_way_to_ask_tells_every_part() {
    let (running, _) = serve_with(Config::default(), 1024, 4, Knobs::slow(2));
    let addr = running.addr();
    for stream in ["", r#","stream":true"#, r#","stream":true,"stream_options":{"include_usage":true}"#] {
        let t = asked(addr, "/v1/completions", &format!(r#"{{"model":"echo","prompt":"12345"{stream}}}"#));
        assert!(part(&t, "decode_ms") >= 8.0 && part(&t, "verify_ms") == 0.0, "four more steps of 2 ms: {t}");
        assert!(part(&t, "prompt_ms") >= 2.0, "the step that gave it a slot and computed its prompt: {t}");
        let messages = r#""messages":[{"role":"user","content":"hello"}]"#;
        asked(addr, "/v1/chat/completions", &format!(r#"{{"model":"echo",{messages}{stream}}}"#));
        asked(addr, "/infill", &format!(r#"{{"input_prefix":"ab","input_suffix":"cd"{stream}}}"#));
        let whole = asked(addr, "/v1/responses", &format!(r#"{{"model":"echo","input":"hello"{stream}}}"#));
        assert!(part(&whole, "prompt_ms") >= 2.0, "{whole}");
    }
}

#[test]
fn steps_with_drafts_are_told_apart() {
    let (running, _) = serve_with(Config::default(), 1024, 4, Knobs::slow(2));
    let prediction = r#""prediction":{"type":"content","content":"abXX"}"#;
    let t =
        asked(running.addr(), "/v1/completions", &format!(r#"{{"model":"echo","prompt":"abcdefgh",{prediction}}}"#));
    // The first step gives the first token, three more check a draft each, four have none.
    assert!(part(&t, "verify_ms") >= 6.0 && part(&t, "decode_ms") >= 8.0, "{t}");
}

#[test]
fn a_slow_body_and_a_long_queue_are_not_taken_for_work() {
    let (running, knobs) = serve_with(Config::default(), 1024, 1, Knobs::slow(1));
    let addr = running.addr();
    let mut slow = connect(addr);
    let bytes = post_bytes("/v1/completions", r#"{"model":"echo","prompt":"slow"}"#);
    let began = Instant::now();
    slow.write_all(&bytes[..bytes.len() - 9]).unwrap();
    std::thread::sleep(Duration::from_millis(60));
    slow.write_all(&bytes[bytes.len() - 9..]).unwrap();
    let t = read_answer(&mut slow).json()["timings"].clone();
    check(&t, began.elapsed());
    assert!(part(&t, "read_ms") >= 30.0, "{t}");

    knobs.step_ms.store(20, SeqCst);
    let first = std::thread::spawn(move || complete(addr, r#"{"model":"echo","prompt":"12345"}"#));
    assert!(knobs.wait("admitted", 2));
    let t = asked(addr, "/v1/completions", r#"{"model":"echo","prompt":"1"}"#);
    first.join().unwrap();
    assert!(part(&t, "queue_ms") >= 40.0, "it waited for most of six steps: {t}");
}

#[test]
fn a_websocket_tells_each_turn_its_own() {
    let (running, _) = serve_with(Config::default(), 1024, 4, Knobs::slow(2));
    let mut ws = Ws::open(running.addr());
    let mut previous = Value::Null;
    for turn in 0..3 {
        std::thread::sleep(Duration::from_millis(40)); // nobody's time
        let ask = json!({"type": "response.create", "model": "echo", "store": false, "input": format!("turn {turn}"),
            "previous_response_id": previous});
        let began = Instant::now();
        let last = ws.ask(&ask.to_string());
        assert_eq!(last["type"], "response.completed", "{last}");
        check(&last["response"]["timings"], began.elapsed());
        assert!(part(&last["response"]["timings"], "write_ms") > 0.0);
        previous = last["response"]["id"].clone();
    }
}
