//! Traces: what a collector gets over real HTTP, checked against the shape that OTLP's JSON encoding has; that no word of a prompt
//! is in it; that nothing is sent unasked, and nothing waits for a collector that does not answer.
#![allow(clippy::unwrap_used, clippy::panic)] // tests and what they share

mod shell;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use client::{Client, Deadline, Target};
use serde_json::Value;
use server::{Collector, Config};
use shell::*;

/// Delivers as `vonk serve` does.
#[derive(Debug)]
struct Post(Client);

impl Collector for Post {
    fn post(&self, body: &[u8]) -> Result<u64, String> {
        let answer = self.0.post("/v1/traces", body, Deadline::after_s(5), None);
        answer.and_then(|a| a.json(1000)).map(|_| 0).map_err(|e| e.to_string())
    }
}

/// A collector: bodies of POST /v1/traces.
fn collector() -> (Config, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, (tell, told)) = (format!("http://{}", listener.local_addr().unwrap()), mpsc::channel());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut got) = (stream.unwrap(), Vec::new());
            let body = loop {
                let mut buffer = [0; 4096];
                let n = stream.read(&mut buffer).unwrap();
                got.extend_from_slice(&buffer[..n]);
                let text = String::from_utf8_lossy(&got).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).unwrap();
                if body.len() >= length.parse().unwrap() {
                    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n") && head.contains("application/json"));
                    break body.to_owned();
                }
            };
            if tell.send(body).is_err() {
                return;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
        }
    });
    let post = Post(Client::once(Target::parse(&url).unwrap(), None).unwrap());
    (Config { collector: Some(Arc::new(post)), ..Config::default() }, told)
}

fn hex(value: &Value, len: usize) -> String {
    let text = value.as_str().unwrap().to_owned();
    assert!(text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{text}");
    assert!(text.bytes().any(|b| b != b'0'), "an id is not zero");
    text
}

/// Only these fields.
fn only(value: &Value, fields: &[&str]) {
    for key in value.as_object().unwrap_or_else(|| panic!("an object: {value}")).keys() {
        assert!(fields.contains(&key.as_str()), "{key} is not in the specification: {value}");
    }
}

/// The one value of an `AnyValue`, in the encoding of its kind.
fn any(value: &Value) -> Value {
    let o = value.as_object().unwrap();
    let (kind, value) = o.iter().next().filter(|_| o.len() == 1).unwrap();
    match kind.as_str() {
        "stringValue" => assert!(value.is_string()),
        "boolValue" => assert!(value.is_boolean()),
        "intValue" => return value.as_str().unwrap().parse::<i64>().unwrap().into(),
        "doubleValue" => assert!(value.is_f64()),
        "arrayValue" => return value["values"].as_array().unwrap().iter().map(any).collect(),
        other => panic!("{other} is no kind of value"),
    }
    value.clone()
}

fn attributes(list: &Value) -> serde_json::Map<String, Value> {
    let mut all = serde_json::Map::new();
    for pair in list.as_array().into_iter().flatten() {
        only(pair, &["key", "value"]);
        let key = pair["key"].as_str().filter(|k| !k.is_empty()).unwrap().to_owned();
        assert!(all.insert(key, any(&pair["value"])).is_none(), "keys are unique: {pair}");
    }
    all
}

struct Seen {
    trace: String,
    id: String,
    parent: Option<String>,
    name: String,
    kind: u64,
    begun: u64,
    ended: u64,
    is_error: bool,
    attributes: serde_json::Map<String, Value>,
}

/// All spans of a body, which must be what the specification says.
fn spans(body: &str) -> Vec<Seen> {
    let value: Value = serde_json::from_str(body).unwrap();
    only(&value, &["resourceSpans"]);
    let mut all = Vec::new();
    for resource in value["resourceSpans"].as_array().unwrap() {
        only(resource, &["resource", "scopeSpans", "schemaUrl"]);
        only(&resource["resource"], &["attributes", "droppedAttributesCount"]);
        let about = attributes(&resource["resource"]["attributes"]);
        assert_eq!(about["service.name"], "vonk");
        assert!(about["service.version"].is_string() && about["service.instance.id"].is_string());
        for scope in resource["scopeSpans"].as_array().unwrap() {
            only(scope, &["scope", "spans", "schemaUrl"]);
            only(&scope["scope"], &["name", "version"]);
            all.extend(scope["spans"].as_array().unwrap().iter().map(seen));
        }
    }
    all
}

fn seen(span: &Value) -> Seen {
    let fields = ["traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano"];
    only(span, &[&fields[..], &["attributes", "status"]].concat());
    let ns = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let status = &span["status"];
    if !status.is_null() {
        only(status, &["code", "message"]);
    }
    let (begun, ended) = (ns(&span["startTimeUnixNano"]), ns(&span["endTimeUnixNano"]));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    assert!(begun <= ended && u128::from(ended) <= now && begun > 1_600_000_000_000_000_000, "{span}");
    Seen {
        trace: hex(&span["traceId"], 32),
        id: hex(&span["spanId"], 16),
        parent: span.get("parentSpanId").map(|p| hex(p, 16)),
        name: span["name"].as_str().unwrap().to_owned(),
        kind: span["kind"].as_u64().unwrap(),
        begun,
        ended,
        is_error: status["code"] == 2,
        attributes: attributes(&span["attributes"]),
    }
}

/// Ends the server, and waits for all that it has sent.
fn all(running: server::Running, told: &mpsc::Receiver<String>) -> (Vec<Seen>, String) {
    running.drain();
    running.join().unwrap();
    let bodies: Vec<String> = told.try_iter().collect();
    (bodies.iter().flat_map(|b| spans(b)).collect(), bodies.concat())
}

const PARENT: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
const SECRET: &str = "swordfish";

fn ask(addr: SocketAddr, path: &str, headers: &str, body: &str) -> Answer {
    let headers = format!("Content-Type: application/json\r\n{headers}");
    raw(addr, &request("POST", path, &headers, body.as_bytes()))
}

#[test]
fn a_collector_gets_a_span_for_each_request_and_one_for_each_part() {
    let (config, told) = collector();
    let (running, _) = serve(config);
    let addr = running.addr();
    let body = format!(r#"{{"model":"default","prompt":"{SECRET}","max_tokens":5,"temperature":0.5,"seed":7,"n":2}}"#);
    assert_eq!(ask(addr, "/v1/completions", PARENT, &body).status, 200);
    let chat = format!(r#"{{"model":"default","messages":[{{"role":"user","content":"{SECRET}"}}],"stream":true}}"#);
    assert_eq!(ask(addr, "/v1/chat/completions", "", &chat).status, 200);
    let wrong = format!(r#"{{"model":"{SECRET}","prompt":"x"}}"#);
    assert_eq!(ask(addr, "/v1/completions", "traceparent: 00-zz-01\r\n", &wrong).status, 404);
    assert_eq!(get(addr, &format!("/{SECRET}")).status, 404);
    get(addr, "/health");
    assert!(get(addr, "/metrics").text().contains("\nvonk_spans_dropped_total 0\n"));
    let (spans, text) = all(running, &told);
    assert!(!text.contains(SECRET), "no text of a client's is in a trace: {text}");

    let requests: Vec<&Seen> = spans.iter().filter(|s| s.kind == 2).collect();
    let named = |name: &str| requests.iter().filter(|s| s.name == name).collect::<Vec<_>>();
    assert_eq!(requests.len(), 4, "probes have none");
    assert_eq!(named("GET").len(), 1, "a path that is not ours has no route");
    let completions = named("POST /v1/completions");
    let (good, bad) = (completions[0], completions[1]);
    assert_eq!(
        (good.trace.as_str(), good.parent.as_deref()),
        ("0af7651916cd43dd8448eb211c80319c", Some("b7ad6b7169203331"))
    );
    assert!(bad.parent.is_none() && bad.trace != good.trace, "what is no traceparent begins a trace");
    assert_eq!((bad.attributes["http.response.status_code"].as_i64(), bad.is_error), (Some(404), false));
    let a = &good.attributes;
    for (key, value) in [
        ("http.request.method", Value::from("POST")),
        ("http.route", "/v1/completions".into()),
        ("http.response.status_code", 200.into()),
        ("gen_ai.operation.name", "text_completion".into()),
        ("gen_ai.request.max_tokens", 5.into()),
        ("gen_ai.request.temperature", 0.5.into()),
        ("gen_ai.request.seed", 7.into()),
        ("gen_ai.request.choice.count", 2.into()),
        ("gen_ai.usage.output_tokens", 10.into()),
        ("gen_ai.response.finish_reasons", vec!["length", "length"].into()),
    ] {
        assert_eq!(a.get(key), Some(&value), "{key}: {a:?}");
    }
    assert_eq!(a["gen_ai.usage.input_tokens"], SECRET.len());
    assert!(a["gen_ai.request.model"].is_string() && a["gen_ai.usage.cache_read.input_tokens"].is_number());

    let chat = named("POST /v1/chat/completions")[0];
    assert_eq!((&chat.attributes["gen_ai.operation.name"], &chat.parent), (&Value::from("chat"), &None));
    for request in [good, chat] {
        let parts: Vec<&Seen> = spans.iter().filter(|s| s.parent.as_ref() == Some(&request.id)).collect();
        assert_eq!(
            parts.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["tokenise", "queue", "prefill", "decode"]
        );
        for (part, next) in parts.iter().zip(parts.iter().skip(1).map(|p| p.begun).chain([u64::MAX])) {
            assert_eq!((part.trace == request.trace, part.kind), (true, 1));
            assert!(request.begun <= part.begun && part.ended <= request.ended && part.ended <= next, "{}", part.name);
        }
    }
    let mut ids: Vec<&str> = spans.iter().map(|s| s.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), spans.len());
}

#[test]
fn turns_on_a_websocket_are_below_the_request_that_opened_it() {
    let (config, told) = collector();
    let (running, _) = serve(config);
    let mut socket = shell::ws::Ws::open_with(running.addr(), PARENT);
    for _ in 0..2 {
        socket.ask(&format!(r#"{{"type":"response.create","model":"default","input":"{SECRET}"}}"#));
    }
    drop(socket);
    let (spans, text) = all(running, &told);
    assert!(!text.contains(SECRET));
    let opened = spans.iter().find(|s| s.name == "GET /v1/responses").unwrap();
    assert_eq!(opened.parent.as_deref(), Some("b7ad6b7169203331"));
    let turns: Vec<&Seen> = spans.iter().filter(|s| s.name.starts_with("response.create")).collect();
    assert_eq!(turns.len(), 2);
    for turn in turns {
        assert_eq!((turn.parent.as_ref(), &turn.trace), (Some(&opened.id), &opened.trace));
        assert!(turn.attributes["gen_ai.usage.output_tokens"].as_i64() > Some(0));
        assert!(spans.iter().any(|s| s.parent.as_ref() == Some(&turn.id) && s.name == "decode"));
    }
}

#[test]
fn a_caller_whose_trace_is_not_recorded_has_none() {
    let (config, told) = collector();
    let (running, _) = serve(config);
    let unsampled = PARENT.replace("-01\r", "-00\r");
    assert_eq!(ask(running.addr(), "/v1/completions", &unsampled, r#"{"model":"default","prompt":"x"}"#).status, 200);
    assert_eq!(all(running, &told).0.len(), 0);
}

/// Takes no answer before the end.
#[derive(Debug)]
struct Hangs(Mutex<mpsc::Receiver<()>>);

impl Collector for Hangs {
    fn post(&self, _: &[u8]) -> Result<u64, String> {
        let _ = self.0.lock().unwrap().recv_timeout(Duration::from_secs(20));
        Err("nobody answers".to_owned())
    }
}

#[test]
fn a_collector_that_hangs_holds_nobody_up_and_what_is_lost_is_counted() {
    let (let_go, held) = mpsc::channel();
    let (running, _) = serve(Config { collector: Some(Arc::new(Hangs(Mutex::new(held)))), ..Config::default() });
    let addr = running.addr();
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(complete(addr, r#"{"model":"default","prompt":"x"}"#).status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "requests do not wait for a collector");
    drop(let_go);
    let dropped = |text: String| {
        let line = text.lines().find_map(|l| l.strip_prefix("vonk_spans_dropped_total ").map(str::to_owned));
        line.unwrap().parse::<u64>().unwrap()
    };
    while dropped(get(addr, "/metrics").text()) < 20 {
        assert!(begun.elapsed() < Duration::from_secs(60), "lost spans are counted");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn without_a_collector_there_is_no_word_of_traces() {
    let (running, _) = serve(Config::default());
    assert!(!get(running.addr(), "/metrics").text().contains("spans"));
}
