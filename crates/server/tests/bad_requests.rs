//! Requests that must fail: each gets the status that says why, an error body in OpenAI's shape, never a 5xx; and the
//! server answers the next good request. R18, R20, R24, R35, R36, small.
#![allow(clippy::unwrap_used, clippy::panic)] // tests and what they share

mod shell;

use server::Config;
use shell::*;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const GOOD: &str = r#"{"model":"echo","prompt":"ok","max_tokens":2}"#;

fn alive(addr: SocketAddr) {
    assert_eq!(complete(addr, GOOD).status, 200);
}

/// An error that a person can act on.
fn assert_error(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!(answer.status, status, "{what}: {} {}", answer.head, answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["code"], code, "{what}: {error}");
    assert!(error["message"].as_str().unwrap().len() > 20 && error["type"].is_string(), "{what}: {error}");
    assert!(error.as_object().unwrap().contains_key("param"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn bad_bodies() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    let deep = format!(r#"{{"model":"echo","prompt":"x","z":{}"#, "[".repeat(100_000));
    let over = format!(r#"{{"model":"echo","prompt":"{}"}}"#, "x".repeat(1024));
    let replay = format!(r#"{{"model":"echo","prompt":["x","xyz"],"replay":"{}"}}"#, "x".repeat(1022));
    let long_replay = format!(r#"{{"model":"echo","prompt":"x","replay":"{}"}}"#, "x".repeat(8 * 1024 + 1));
    let far_over = format!(r#"{{"model":"echo","prompt":"{}"}}"#, "x".repeat(8 * 1024 + 1));
    let cases: &[(&str, &str, u16, &str, Option<&str>)] = &[
        ("/v1/completions", "", 400, "invalid_json", None),
        ("/v1/completions", "{", 400, "invalid_json", None),
        ("/v1/completions", "[]", 400, "invalid_type", None),
        ("/v1/completions", &deep, 400, "json_too_deep", None),
        ("/v1/completions", r#"{"prompt":"x"}"#, 400, "missing_field", Some("model")),
        ("/v1/completions", r#"{"model":7,"prompt":"x"}"#, 400, "invalid_type", Some("model")),
        ("/v1/completions", r#"{"model":"","prompt":"x"}"#, 400, "invalid_value", Some("model")),
        ("/v1/completions", r#"{"model":"nope","prompt":"x"}"#, 404, "model_not_found", Some("model")),
        ("/v1/completions", r#"{"model":"echo"}"#, 400, "missing_field", Some("prompt")),
        ("/v1/completions", r#"{"model":"echo","prompt":""}"#, 400, "empty_prompt", Some("prompt")),
        ("/v1/completions", r#"{"model":"echo","prompt":["ok",""]}"#, 400, "empty_prompt", Some("prompt")),
        ("/v1/completions", r#"{"model":"echo","prompt":[260]}"#, 400, "invalid_value", Some("prompt")),
        (
            "/v1/completions",
            r#"{"model":"echo","prompt":"x","logit_bias":{"260":1}}"#,
            400,
            "invalid_value",
            Some("logit_bias"),
        ),
        ("/v1/completions", &replay, 400, "context_length_exceeded", Some("replay")),
        ("/v1/completions", &long_replay, 400, "context_length_exceeded", Some("replay")),
        (
            "/v1/chat/completions",
            r#"{"model":"echo","messages":[{"role":"user","content":"x"}],"prediction":{"type":"content"}}"#,
            400,
            "missing_field",
            Some("prediction.content"),
        ),
        ("/v1/completions", &over, 400, "context_length_exceeded", Some("prompt")),
        ("/v1/completions", &far_over, 400, "context_length_exceeded", Some("prompt")),
        ("/v1/completions", r#"{"model":"echo","prompt":"\ud800"}"#, 400, "invalid_string", Some("prompt")),
        ("/v1/chat/completions", r#"{"model":"echo"}"#, 400, "missing_field", Some("messages")),
        ("/v1/chat/completions", r#"{"model":"echo","messages":[]}"#, 400, "invalid_value", Some("messages")),
        (
            "/v1/chat/completions",
            r#"{"model":"echo","messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#,
            400,
            "unsupported_value",
            Some("messages[0].content[0]"),
        ),
        (
            "/v1/chat/completions",
            r#"{"model":"nope","messages":[{"role":"user","content":"x"}]}"#,
            404,
            "model_not_found",
            Some("model"),
        ),
    ];
    for (path, body, status, code, param) in cases {
        let start = Instant::now();
        let answer = post(addr, path, body);
        assert_error(&answer, *status, code, &body[..body.len().min(80)]);
        assert_eq!(answer.json()["error"]["param"].as_str(), *param, "{:.80}", body);
        assert!(start.elapsed() < Duration::from_millis(500));
    }
    assert!(complete(addr, &over).text().contains("1024"), "the numbers are said");
    let bytes = request("POST", "/v1/completions", "Content-Type: application/json\r\n", b"{\"model\":\"\xff\"}");
    assert_error(&raw(addr, &bytes), 400, "invalid_utf8", "invalid UTF-8");
    alive(addr);
}

#[test]
fn bad_media_types_methods_and_paths() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    for headers in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: application/json; charset=latin1\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    ] {
        for path in ["/v1/completions", "/v1/chat/completions"] {
            let answer = raw(addr, &request("POST", path, headers, GOOD.as_bytes()));
            assert_error(&answer, 415, "unsupported_media_type", headers);
        }
    }
    for (method, path) in [
        ("GET", "/v1/completions"),
        ("PUT", "/v1/completions"),
        ("DELETE", "/v1/chat/completions"),
        ("OPTIONS", "/v1/chat/completions"),
        ("POST", "/v1/models"),
        ("GET", "/v1/embeddings"),
        ("POST", "/health"),
        ("PATCH", "/metrics"),
    ] {
        let json = "Content-Type: application/json\r\n";
        let answer = raw(addr, &request(method, path, json, b""));
        assert_error(&answer, 405, "method_not_allowed", path);
        assert!(answer.header("allow").is_some(), "{method} {path}: {}", answer.head);
        assert!(answer.header("access-control-allow-origin").is_none());
    }
    for path in ["/", "/v1", "/v1/completions/", "/../etc/passwd", "/%2e%2e/x", "/v1/nothing"] {
        assert_error(&get(addr, path), 404, "unknown_path", path);
    }
    alive(addr);
}

#[test]
fn oversized() {
    let mut config = Config::default();
    config.limits.body_bytes = 1 << 20;
    let (running, _) = serve(config);
    let addr = running.addr();
    let big = "x".repeat((1 << 20) + 1);
    assert_error(&complete(addr, &big), 413, "body_too_large", "declared");
    // Declared and never sent; and with Expect, answered without waiting for it.
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let expect = raw(addr, format!("{head}Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n").as_bytes());
    assert_error(&expect, 413, "body_too_large", "expect");
    // Chunked, without a length: read to the limit, no further.
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..40 {
        chunked.extend_from_slice(format!("10000\r\n{}\r\n", "x".repeat(0x10000)).as_bytes());
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_error(&raw(addr, &chunked), 413, "body_too_large", "chunked");
    // Headers: too many bytes, too many of them, an endless line.
    let long =
        raw(addr, format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(17_000)).as_bytes());
    assert_eq!(long.status, 431, "{}", long.head);
    let many =
        raw(addr, format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(101)).as_bytes());
    assert_eq!(many.status, 431, "{}", many.head);
    let endless = raw(addr, format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "y".repeat(1 << 20)).as_bytes());
    assert!([0, 414, 431].contains(&endless.status), "{}", endless.head);
    let messages =
        format!(r#"{{"model":"echo","messages":[{}{{}}]}}"#, r#"{"role":"user","content":"x"},"#.repeat(4096));
    let answer = post(addr, "/v1/chat/completions", &messages);
    assert_error(&answer, 400, "too_many", "messages");
    alive(addr);
}

/// Bodies that are being read share a budget; who finds it spent is told to come back.
#[test]
fn bodies_share_a_budget() {
    let mut config = Config::default();
    config.limits.bodies_bytes = 64 * 1024;
    let (running, _) = serve(config);
    let addr = running.addr();
    let head =
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let mut holder = connect(addr);
    holder.write_all(format!("{head}Content-Length: 50000\r\n\r\n{}", " ".repeat(49_000)).as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let crowded = complete(addr, &" ".repeat(30_000));
    assert_error(&crowded, 503, "overloaded", "the second body");
    assert_eq!(crowded.header("retry-after"), Some("1"));
    alive(addr);
    drop(holder);
    std::thread::sleep(Duration::from_millis(100));
    assert_error(&complete(addr, &" ".repeat(60_000)), 400, "invalid_json", "after the first has gone");
}

/// R35: names that point here but are not ours, origins that are not ours, headers twice.
#[test]
fn hosts_and_origins() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let port = addr.port();
    let send = |line: &str, headers: &str| {
        let bytes = format!(
            "{line} HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{GOOD}",
            GOOD.len()
        );
        raw(addr, bytes.as_bytes())
    };
    let mut cases: Vec<(String, String, u16)> = Vec::new();
    let mut case = |line: &str, headers: String, status: u16| cases.push((line.to_owned(), headers, status));
    for line in ["POST /v1/completions", "GET /v1/models", "GET /metrics", "POST /v1/chat/completions"] {
        for host in [
            "evil",
            "",
            " ",
            "x.local",
            "a.internal",
            "127.0.0.1.evil",
            "localhost.evil.com",
            "evil:80",
            "localhost.",
            "0.0.0.0",
            "[::]",
            "127.1",
            "2130706433",
            "localhost:x",
            "user@localhost",
        ] {
            case(line, format!("Host: {host}\r\n"), 403);
        }
        case(line, String::new(), 400);
        case(line, "Host: localhost\r\nHost: localhost\r\n".into(), 400);
        case(line, "Host: localhost\r\nHost: evil\r\n".into(), 400);
        for origin in
            ["null", "http://evil", "https://localhost", "http://localhost:1", "http://127.0.0.1.evil", "file://"]
        {
            case(line, format!("Host: localhost\r\nOrigin: {origin}\r\n"), 403);
        }
        case(line, "Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://evil\r\n".into(), 400);
    }
    // A web page may open a WebSocket anywhere; only the server can say no.
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for line in ["GET /v1/responses", "GET /v1/realtime", "GET /v1/chat/completions"] {
        for headers in [
            "Host: evil\r\n",
            "Host: 127.0.0.1.evil\r\n",
            "Host: localhost\r\nOrigin: null\r\n",
            "Host: localhost\r\nOrigin: http://evil\r\n",
            "Host: evil\r\nOrigin: http://evil\r\n",
            "Host: localhost\r\nOrigin: ws://localhost\r\n",
        ] {
            case(line, format!("{upgrade}{headers}"), 403);
        }
    }
    case("POST http://evil/v1/completions", "Host: localhost\r\n".into(), 403);
    case("POST http://localhost/v1/completions", "Host: evil\r\n".into(), 403);
    assert!(cases.len() >= 60);
    for (line, headers, status) in &cases {
        let answer = send(line, headers);
        // hyper itself answers what is no HTTP at all, without a body.
        assert_eq!(answer.status, *status, "{line} {headers:?}: {} {}", answer.head, answer.text());
        assert!(answer.body.is_empty() || answer.json()["error"]["message"].is_string());
    }
    assert_eq!(knobs.seen("+"), 0, "no side effects");
    for headers in [
        "Host: localhost\r\n".to_owned(),
        format!("Host: LOCALHOST:{port}\r\n"),
        format!("Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"),
        "Host: [::1]:9\r\n".to_owned(),
    ] {
        assert_eq!(send("POST /v1/completions", &headers).status, 200, "{headers}");
    }
    assert_eq!(send("POST http://localhost/v1/completions", "Host: localhost\r\n").status, 200);
}

/// R36: nothing that two parsers could read differently gets through; what follows it is not answered.
#[test]
fn ambiguous_http() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let smuggled = format!("{head}Content-Length: {}\r\n\r\n{GOOD}", GOOD.len());
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 4, 4\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: a\r\n\tfolded\r\n",
        "X: a\nb\r\n",
        "X\0: a\r\n",
    ] {
        let answer = raw(addr, format!("{head}{lengths}\r\n0\r\n\r\n{smuggled}").as_bytes());
        assert!(answer.status == 400 || answer.status == 0, "{lengths:?}: {}", answer.head);
        assert!(!answer.text().contains("text_completion"), "{lengths:?}: {}", answer.text());
    }
    for nonsense in [
        "\r\n\r\n\0\0\0".as_bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS to a plain port",
        b"GET /health\r\n\r\n",
        b"GE\x01T / HTTP/1.1\r\n\r\n",
    ] {
        let answer = raw(addr, nonsense);
        assert!(answer.status == 0 || (400..500).contains(&answer.status), "{}", answer.head);
    }
    assert_eq!(knobs.seen("+"), 0, "nothing was smuggled");
    alive(addr);
}

/// R24 through the front door: every numeric field, and every hint, at its edges, beyond, and as what it is not.
#[test]
fn field_matrix() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    let edges: &[(&str, &[&str])] = &[
        ("temperature", &["-0.001", "0", "2", "2.001"]),
        ("top_p", &["0", "1e-9", "1", "1.001"]),
        ("min_p", &["-0.001", "0", "1", "1.001"]),
        ("top_k", &["-2", "-1", "0", "1048576", "1048577"]),
        ("seed", &["-9223372036854775809", "-9223372036854775808", "18446744073709551615", "18446744073709551616"]),
        ("n", &["0", "1", "8", "9"]),
        ("max_tokens", &["-1", "0", "1", "2147483647", "2147483648"]),
        ("max_completion_tokens", &["-1", "0", "1", "2147483647", "2147483648"]),
        ("presence_penalty", &["-2.001", "-2", "2", "2.001"]),
        ("frequency_penalty", &["-2.001", "-2", "2", "2.001"]),
        ("repeat_penalty", &["0.099", "0.1", "10", "10.001"]),
        ("repetition_penalty", &["0.099", "0.1", "10", "10.001"]),
        ("repeat_last_n", &["-2", "-1", "1048576", "1048577"]),
        ("logprobs", &["-1", "0", "20", "21"]),
        ("top_logprobs", &["-1", "0", "20", "21"]),
        ("best_of", &["0", "1", "2", "9"]),
        ("n_predict", &["-2", "-1", "0", "1", "2147483647", "2147483648"]),
        ("deadline_ms", &["-1", "0", "86400000", "86400001"]),
        ("speculation", &["\"off\"", "\"auto\"", "\"on\"", "\"\""]),
        ("prompt_cache_key", &["\"\"", "\"k\"", "\"\\ud800\""]),
        ("service_tier", &["\"auto\"", "\"default\"", "\"flex\"", "\"priority\"", "\"scale\"", "\"\""]),
        ("replay", &["\"\"", "\"x\"", "\"\\u0000\"", "\"\\ud800\""]),
        (
            "prediction",
            &[
                r#"{"type":"content","content":"ab"}"#,
                r#"{"type":"content","content":""}"#,
                r#"{"type":"content","content":[]}"#,
                r#"{"type":"content","content":[{"type":"text","text":"ab"}]}"#,
                r#"{"type":"content","content":[{"type":"image_url"}]}"#,
                r#"{"type":"content","content":{}}"#,
                r#"{"type":"text","content":"ab"}"#,
            ],
        ),
    ];
    let never =
        ["NaN", "1e308", "-1e308", "1e999", "-0", "-0.0", "\"1\"", "null", "true", "[]", "[1]", "{}", "1.5", "0.5"];
    // One connection for all: they are many.
    let mut stream = connect(addr);
    let (mut n, mut ok) = (0, 0);
    for path in ["/v1/completions", "/v1/chat/completions"] {
        for (field, values) in edges {
            for value in values.iter().chain(&never) {
                for streamed in ["", r#","stream":true"#] {
                    let what = r#""prompt":"ab","messages":[{"role":"user","content":"ab"}]"#;
                    let body = format!(r#"{{"model":"echo",{what},"{field}":{value}{streamed}}}"#);
                    let head = format!(
                        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
                    let text = read_one(&mut stream);
                    let status = &text[9..12];
                    assert!(status == "200" || (status == "400" && text.contains("\"error\"")), "{body}: {text}");
                    n += 1;
                    ok += usize::from(status == "200");
                }
            }
        }
    }
    assert!(n > 1000 && ok > 200 && ok < n, "{ok} of {n}");
}

/// One response of a kept connection.
fn read_one(stream: &mut std::net::TcpStream) -> String {
    let head = read_until(stream, "\r\n\r\n");
    let (head, mut body) = head.split_once("\r\n\r\n").map(|(h, b)| (h.to_owned(), b.to_owned())).unwrap();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ").map(|n| n.parse::<usize>().unwrap()));
    let is_whole = |body: &str| match length {
        Some(n) => body.len() >= n,
        None => body.ends_with("0\r\n\r\n"),
    };
    while !is_whole(&body) {
        let mut chunk = [0; 65536];
        let n = std::io::Read::read(stream, &mut chunk).unwrap();
        assert!(n > 0, "{head} {body}");
        body.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    format!("{head}\r\n\r\n{body}")
}

/// R20: 10⁵ levels in known, unknown and nested fields; and a million little values.
#[test]
fn heavy_json_is_refused_quickly() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    for field in ["messages", "tools", "stop", "logit_bias", "response_format", "prediction", "replay", "whatever"] {
        for open in ["[", "{\"a\":", "[{\"b\":[", "{\"\\\"\":"] {
            let body = format!(r#"{{"model":"echo","{field}":{}"#, open.repeat(100_000));
            let start = Instant::now();
            for path in ["/v1/completions", "/v1/chat/completions"] {
                assert_error(&post(addr, path, &body), 400, "json_too_deep", field);
            }
            assert!(start.elapsed() < Duration::from_millis(1000), "{:?}", start.elapsed());
        }
        let body = format!(r#"{{"model":"echo","{field}":[{}0]}}"#, "0,".repeat(1_000_000));
        let answer = post(addr, "/v1/chat/completions", &body);
        assert_eq!(answer.status, 400, "{field}");
    }
    alive(addr);
}
