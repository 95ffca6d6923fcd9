//! The client against a scripted server on loopback: what it measures, and how it speaks of servers that misbehave.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside `#[test]` functions

mod scripted;

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use bench::BenchError;
use bench::humaneval::ask_url;
use bench::remote::{Endpoint, RemoteArgs, Report, compare};
use client::ClientError;
use scripted::{SSE, answer, chunk, delta, serve};
use serde_json::Value;

fn args(url: &str) -> RemoteArgs {
    RemoteArgs { url: url.to_owned(), reps: 2, timeout_s: 30, ..RemoteArgs::default() }
}

fn run(args: &RemoteArgs) -> Result<Report, BenchError> {
    compare(args, &mut |_| {})
}

#[test]
fn times_counts_and_ratios_are_what_the_servers_did() {
    // A pauses 10 ms before each of 5 events, and says they were 9 tokens; B pauses 40 ms and says nothing.
    let (a, bodies) = serve(|_, s, _| answer(s, &["a", "b", "c", "d", "e"], 10, Some(9)));
    let (b, _b) = serve(|_, s, _| answer(s, &["a", "b", "c", "d", "e"], 40, None));
    let args = RemoteArgs { against: Some(b), reps: 3, ..args(&a) };
    let mut lines = Vec::new();
    let report = compare(&args, &mut |line| lines.push(line.to_owned())).unwrap();
    let [sa, sb] = report.servers.as_slice() else { panic!("two servers") };
    for s in &sa.samples {
        assert!(s.ttft_ms >= 10.0 && s.itl_event_ms.unwrap() >= 5.0, "{s:?}");
        assert_eq!((s.tokens, s.events, s.is_usage_reported, s.prompt_tokens), (9, 5, true, Some(200)));
        // 8 tokens in the time of 4 gaps of at least 10 ms.
        assert!(s.itl_ms.unwrap() >= 4.0 && (s.itl_ms.unwrap() * s.tps.unwrap() - 1000.0).abs() < 1e-6, "{s:?}");
        assert!(s.effective_tps < s.tps.unwrap() * 9.0 / 8.0, "{s:?}");
    }
    assert!(sb.samples.iter().all(|s| s.tokens == 5 && !s.is_usage_reported && s.ttft_ms >= 40.0));
    let ratio = report.ratio_a_over_b.unwrap();
    assert!(ratio.ttft_ms.unwrap() < 1.0 && ratio.tps.unwrap() > 1.0, "{ratio:?}");
    assert!(report.notes.iter().any(|n| n.starts_with("B: the server sent no usage")), "{:?}", report.notes);
    let order: String = lines.iter().skip(2).filter_map(|l| l.chars().next()).collect();
    assert_eq!(order, "ABBAAB");
    let shown = report.to_string();
    assert!(shown.contains("effective tok/s") && shown.contains("A/B"), "{shown}");
    let value = serde_json::to_value(&report).unwrap();
    assert!(value["servers"][0]["ttft_ms"]["p50"].as_f64().unwrap() >= 10.0);
    let (head, body) = bodies.recv().unwrap();
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
    assert_eq!(body["temperature"], 0);
    assert_eq!(body["stream_options"]["include_usage"], true);
}

#[test]
fn prompts_are_equal_for_both_and_new_for_every_repetition() {
    let (a, a_bodies) = serve(|_, s, _| answer(s, &["x", "y"], 1, Some(2)));
    let (b, b_bodies) = serve(|_, s, _| answer(s, &["x", "y"], 1, Some(2)));
    let args = RemoteArgs { against: Some(b), endpoint: Endpoint::Completions, seed: Some(7), reps: 3, ..args(&a) };
    run(&args).unwrap();
    let prompts = |bodies: Receiver<(String, Value)>| -> Vec<String> {
        bodies.iter().take(4).map(|(_, body)| body["prompt"].as_str().unwrap().to_owned()).collect()
    };
    let (a_prompts, b_prompts) = (prompts(a_bodies), prompts(b_bodies));
    assert_eq!(a_prompts[1..], b_prompts[1..]);
    assert!((0..4).all(|i| (0..i).all(|j| a_prompts[i] != a_prompts[j])));

    let (one, bodies) = serve(|_, s, _| answer(s, &["x", "y"], 1, Some(2)));
    let report = run(&RemoteArgs { against: Some(one.clone()), reps: 1, ..args_with_completions(&one) }).unwrap();
    let sent = prompts(bodies);
    assert_ne!(sent[2], sent[3], "one server behind both addresses could answer from its cache");
    assert!(report.notes.iter().any(|n| n.contains("same server")));
}

fn args_with_completions(url: &str) -> RemoteArgs {
    RemoteArgs { endpoint: Endpoint::Completions, ..args(url) }
}

#[test]
fn a_server_that_is_down_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = run(&args(&format!("http://{free}"))).unwrap_err();
    assert!(
        matches!(error, BenchError::Client(ClientError::Connect { .. }))
            && error.to_string().contains(&free.to_string()),
        "{error}"
    );
}

#[test]
fn refusals_come_through_in_the_servers_own_words() {
    let (url, _b) = serve(|_, s, _| {
        let body = r#"{"error":{"message":"no model named\u001b[31m x","code":"model_not_found"}}"#;
        write!(s, "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let error = run(&args(&url)).unwrap_err().to_string();
    assert!(error.contains("answered 404: no model named [31m x"), "{error}");
    let (url, _b) = serve(|_, s, _| {
        s.write_all(SSE.as_bytes()).unwrap();
        delta(s, "x");
        chunk(s, "data: {\"error\":{\"message\":\"out of pages\"}}\n\n");
    });
    assert!(run(&args(&url)).unwrap_err().to_string().contains("out of pages"));
}

#[test]
fn answers_that_are_no_streams_are_errors_not_figures() {
    let cases: [(&str, &str); 8] = [
        ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", "not a stream"),
        ("SSH-2.0-x\r\n", "not HTTP/1.1"),
        ("", "closed the connection"),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\n\n", "not JSON"),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: [DONE]\n\n", "without any text"),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no size"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: 1\n\n",
            "closed the connection",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"choices\":[{\"text\":\"x\"}]}\n\n",
            "without a finish_reason",
        ),
    ];
    for (reply, part) in cases {
        let (url, _b) = serve(move |_, s, _| s.write_all(reply.as_bytes()).unwrap());
        let error = run(&args(&url)).unwrap_err().to_string();
        assert!(error.contains(part), "{reply:?}: {error}");
    }
    let (url, _b) = serve(|_, s, _| {
        let _ = s.write_all(b"HTTP/1.1 200 OK\r\n");
        for _ in 0..100_000 {
            if s.write_all(b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n").is_err() {
                return;
            }
        }
    });
    assert!(run(&args(&url)).unwrap_err().to_string().contains("headers are longer"));
}

#[test]
fn a_silent_server_runs_into_the_timeout() {
    let (url, _b) = serve(|_, s, _| {
        s.write_all(SSE.as_bytes()).unwrap();
        delta(s, "x");
        thread::sleep(Duration::from_secs(20));
    });
    let start = Instant::now();
    let error = run(&RemoteArgs { timeout_s: 1, ..args(&url) }).unwrap_err();
    assert!(matches!(error, BenchError::Client(ClientError::Timeout { after_s: 1, .. })), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_drip_of_bytes_runs_into_the_timeout_too() {
    let (url, _b) = serve(|_, s, _| {
        s.write_all(SSE.as_bytes()).unwrap();
        for _ in 0..100 {
            chunk(s, ": still here\n\n");
            thread::sleep(Duration::from_millis(100));
        }
    });
    let error = run(&RemoteArgs { timeout_s: 1, ..args(&url) }).unwrap_err();
    assert!(matches!(error, BenchError::Client(ClientError::Timeout { .. })), "{error}");
}

#[test]
fn one_failure_is_counted_and_the_rest_still_measured() {
    let (url, _b) = serve(|n, s, _| match n {
        2 => s.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy").unwrap(),
        _ => answer(s, &["x", "y"], 2, Some(2)),
    });
    let report = run(&RemoteArgs { reps: 4, ..args(&url) }).unwrap();
    let server = &report.servers[0];
    assert_eq!((server.samples.len(), server.failed), (3, 1));
    assert!(report.to_string().contains("answered 503: busy"), "{report}");
    assert!(report.ratio_a_over_b.is_none());
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let cases = [
        (RemoteArgs { reps: 0, ..args("http://a") }, "--reps"),
        (RemoteArgs { max_tokens: 0, ..args("http://a") }, "--max-tokens"),
        (RemoteArgs { prompt_tokens: usize::MAX, ..args("http://a") }, "--prompt-tokens"),
        (RemoteArgs { timeout_s: 0, ..args("http://a") }, "--timeout"),
        (RemoteArgs { key: Some("a\r\nb".into()), ..args("http://a") }, "API key"),
        (args("https://a"), "plain http"),
    ];
    for (args, part) in cases {
        let error = run(&args).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_chat_answer_is_read_whole_and_its_faults_are_told() {
    let (url, bodies) = serve(|n, s, _| {
        let body = match n {
            0 => r#"{"choices":[{"message":{"role":"assistant","content":"hé"}}],"usage":{}}"#,
            1 => r#"{"choices":[]}"#,
            _ => r#"{"error":"no"}"#,
        };
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        write!(s, "{interim}HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    assert_eq!(ask_url(&url, "m", "p", Some("secret")).unwrap(), "hé");
    let (head, body) = bodies.recv().unwrap();
    assert!(head.contains("Authorization: Bearer secret\r\n"));
    assert_eq!(body["messages"][0]["content"], "p");
    assert_eq!(body["max_tokens"], bench::humaneval::ANSWER_TOKENS_MAX);
    assert!(ask_url(&url, "m", "p", None).unwrap_err().to_string().contains("no message"));
    assert!(ask_url(&url, "m", "p", None).unwrap_err().to_string().contains("no"));
}
