//! `/v1/responses` as a WebSocket: turns, state, steering, resumption, and clients that do not keep to the protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod shell;

use serde_json::{Value, json};
use server::Config;
use shell::ws::{KEY, Ws, said, upgrade};
use shell::*;
use std::io::Write;
use std::time::{Duration, Instant};

const CREATE: &str = r#"{"type":"response.create","model":"echo","store":false"#;

fn create(fields: &str) -> String {
    format!("{CREATE},{fields}}}")
}

fn next(previous: &Value, input: &str) -> String {
    create(&format!(r#""previous_response_id":{},"input":"{input}""#, previous["response"]["id"]))
}

fn text(event: &Value) -> String {
    said(&event["response"])
}

#[test]
fn turns_follow_each_other_with_what_is_new_only() {
    let (running, knobs) = serve(Config::default());
    let mut ws = Ws::open(running.addr());
    assert!(ws.head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{}", ws.head);
    ws.say(&create(r#""input":"sys","generate":false"#));
    let warm = ws.events();
    let kinds: Vec<&str> = warm.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["response.created", "response.in_progress", "response.completed"]);
    assert_eq!((warm[2]["response"]["output"].clone(), knobs.last().max_tokens), (json!([]), 0));
    let first = ws.ask(&next(&warm[2], "hi"));
    assert_eq!(text(&first), "user:sys\nuser:hi\n");
    let second = ws.ask(&next(&first, "more"));
    assert_eq!(text(&second), format!("user:sys\nuser:hi\nassistant:{}\nuser:more\n", text(&first)));
    // The events are those of HTTP.
    let body = r#"{"model":"echo","input":"abc","stream":true}"#;
    let http: Vec<Value> =
        post(running.addr(), "/v1/responses", body).events().iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    ws.say(&create(r#""input":"abc""#));
    let kind = |e: &Value| (e["type"].clone(), e["sequence_number"].clone(), e["delta"].clone());
    assert_eq!(ws.events().iter().map(kind).collect::<Vec<_>>(), http.iter().map(kind).collect::<Vec<_>>());
    ws.say(r#"{"type":"response.processed","response_id":"x"}"#);
    ws.send(0x89, b"there?");
    assert_eq!(ws.frame(), Some((0x8a, b"there?".to_vec())));
    ws.send(0x88, &1000u16.to_be_bytes());
    assert_eq!(ws.closed(), Some(1000));
}

/// Steps that come faster than anybody reads leave together, and nothing is lost by it.
#[test]
fn a_fast_answer_is_whole_and_in_order() {
    let (running, knobs) = serve_with(Config::default(), 4096, 4, std::sync::Arc::default());
    knobs.burst.store(1, std::sync::atomic::Ordering::SeqCst);
    let input = "0123456789 ".repeat(90);
    let mut ws = Ws::open(running.addr());
    ws.say(&create(&format!(r#""input":"{input}""#)));
    let events = ws.events();
    let numbers = events.iter().map(|e| e["sequence_number"].as_u64());
    assert!(numbers.eq((0..events.len() as u64).map(Some)));
    let deltas: String = events.iter().filter_map(|e| e["delta"].as_str()).collect();
    assert_eq!(deltas, text(events.last().unwrap()));
    assert_eq!(deltas, format!("user:{input}\n"));
}

#[test]
fn errors_leave_the_connection_open() {
    let (running, _) = serve(Config::default());
    let mut ws = Ws::open(running.addr());
    for (frame, status, code) in [
        ("{".to_owned(), 400, "invalid_json"),
        (r#"{"type":"session.update"}"#.to_owned(), 400, "invalid_value"),
        (r#"{"model":"echo"}"#.to_owned(), 400, "missing_field"),
        (r#"{"type":"response.create","model":"other","input":"x"}"#.to_owned(), 404, "model_not_found"),
        (create(r#""input":"x","previous_response_id":"resp_0""#), 400, "previous_response_not_found"),
        (create(r#""input":[{"type":"nonsense"}]"#), 400, "unsupported_value"),
        (create(&format!(r#""x":{}"#, "[".repeat(100_000))), 400, "json_too_deep"),
    ] {
        let error = ws.ask(&frame);
        let seen = (&error["type"], &error["status"], error["error"]["code"].as_str());
        assert_eq!(seen, (&json!("error"), &json!(status), Some(code)), "{error}");
    }
    let failed = ws.ask(&create(&format!(r#""input":"{}""#, "x".repeat(2000))));
    assert_eq!(failed["type"], "response.failed");
    assert_eq!(failed["response"]["error"]["code"], "context_length_exceeded");
    let failed = ws.ask(&create(r#""input":"a\u0007""#));
    assert_eq!(failed["response"]["error"]["code"], "server_error");
    assert_eq!(ws.ask(&next(&failed, "x"))["error"]["code"], "previous_response_not_found", "there was no answer");
    assert_eq!(text(&ws.ask(&create(r#""input":"fine""#))), "user:fine\n");
}

#[test]
fn a_full_queue_is_told_with_the_time_to_wait() {
    let mut config = Config::default();
    config.limits.queue = 1;
    let (running, knobs) = serve_with(config, 1024, 1, Knobs::slow(50));
    let mut all: Vec<Ws> = (0..3).map(|_| Ws::open(running.addr())).collect();
    for (i, ws) in all.iter_mut().enumerate() {
        ws.say(&create(r#""input":"a long enough text to keep the engine busy""#));
        match i {
            0 => _ = read_deltas(ws, 1),
            1 => assert!(knobs.wait("+", 2)),
            _ => {}
        }
    }
    let failed = all[2].events().pop().unwrap();
    let error = &failed["response"]["error"];
    assert_eq!(error["code"], "rate_limit_exceeded", "{failed}");
    assert!(error["message"].as_str().unwrap().to_lowercase().contains("try again in "), "{error}");
}

/// Reads deltas until so many have come.
fn read_deltas(ws: &mut Ws, n: usize) -> String {
    let mut said = String::new();
    let mut seen = 0;
    while seen < n {
        let event = ws.event();
        if event["type"] == "response.output_text.delta" {
            said.push_str(event["delta"].as_str().unwrap());
            seen += 1;
        }
    }
    said
}

#[test]
fn a_cancelled_answer_keeps_what_was_said() {
    let (running, knobs) = serve_with(Config::default(), 1024, 4, Knobs::slow(10));
    let mut ws = Ws::open(running.addr());
    ws.say(&create(&format!(r#""input":"{}""#, "words ".repeat(25))));
    let mut said_so_far = read_deltas(&mut ws, 12);
    ws.say(r#"{"type":"response.cancel","response_id":"resp_of_another"}"#);
    said_so_far += &read_deltas(&mut ws, 1);
    let steps = knobs.steps.load(std::sync::atomic::Ordering::SeqCst);
    ws.say(r#"{"type":"response.cancel"}"#);
    let end = ws.events().pop().unwrap();
    assert!(knobs.wait("decode", 1));
    let at = knobs.log.lock().unwrap().iter().find(|(_, t)| t.contains("decode")).unwrap().0;
    assert!(at - steps <= 4, "{} steps", at - steps);
    assert_eq!(end["type"], "response.incomplete");
    assert_eq!(end["response"]["incomplete_details"]["reason"], "cancelled");
    let said = text(&end);
    assert!(said.starts_with(&said_so_far) && said.len() < 60, "{said}");
    assert_eq!(end["response"]["usage"]["output_tokens"], said.len(), "a token is a byte here");
    // The next message goes on from there.
    ws.say(&next(&end, "shorter"));
    assert!(knobs.wait("admitted", 2));
    let prompt: String = knobs.last().prompt.iter().map(|t| *t as u8 as char).collect();
    assert!(prompt.ends_with(&format!("assistant:{said}\nuser:shorter\n")), "{prompt}");
}

#[test]
fn a_new_request_ends_the_one_before_wherever_it_is() {
    let (running, knobs) = serve_with(Config::default(), 1024, 1, Knobs::slow(10));
    let mut ws = Ws::open(running.addr());
    ws.say(&create(&format!(r#""input":"{}""#, "words ".repeat(25))));
    let created = ws.event();
    let id = created["response"]["id"].clone();
    read_deltas(&mut ws, 3);
    ws.say(&create(&format!(r#""previous_response_id":{id},"input":"no, this""#)));
    let first = ws.events();
    assert_eq!(first.last().unwrap()["type"], "response.incomplete");
    assert_eq!(first.last().unwrap()["response"]["id"], id);
    let second = ws.events().pop().unwrap();
    assert_eq!(
        (&second["type"], second["response"]["previous_response_id"].clone()),
        (&json!("response.completed"), id)
    );
    assert!(text(&second).ends_with("\nuser:no, this\n"));
    // The same while it waits for a slot: what the person said is kept.
    let mut other = Ws::open(running.addr());
    other.say(&create(&format!(r#""input":"{}""#, "words ".repeat(25))));
    read_deltas(&mut other, 1);
    ws.say(&create(r#""input":"waits""#));
    let waiting = ws.event()["response"]["id"].clone();
    assert!(knobs.wait("+", 4));
    ws.say(&create(&format!(r#""previous_response_id":{waiting},"input":"goes on""#)));
    let ended = ws.events().pop().unwrap();
    assert_eq!((&ended["response"]["id"], &ended["response"]["output"]), (&waiting, &json!([])));
    drop(other);
    assert_eq!(text(&ws.events().pop().unwrap()), "user:waits\nuser:goes on\n");
    assert!(knobs.seen("queue") == 1 || knobs.seen("prefill") == 1);
}

#[test]
fn an_answer_can_be_steered() {
    let (running, knobs) = serve_with(Config::default(), 1024, 4, Knobs::slow(10));
    let mut ws = Ws::open(running.addr());
    ws.say(&create(&format!(r#""input":"{}","instructions":"Be","metadata":{{"a":"b"}}"#, "words ".repeat(25))));
    let id = ws.event()["response"]["id"].clone();
    read_deltas(&mut ws, 3);
    ws.say(r#"{"type":"response.steer","previous_response_id":"resp_0","input":"x"}"#);
    ws.say(&format!(r#"{{"type":"response.steer","previous_response_id":{id},"input":"no, this"}}"#));
    let events = ws.events();
    let of = |kind: &str| events.iter().find(|e| e["type"] == kind).unwrap_or_else(|| panic!("{kind}: {events:#?}"));
    let failed = of("response.steer.failed");
    assert_eq!((&failed["error"]["code"], &failed["steer"]["input"]), (&json!("response_not_found"), &json!("x")));
    assert_eq!(of("response.steer.accepted")["steer"]["previous_response_id"], id);
    let said = text(of("response.incomplete"));
    assert_eq!(of("response.incomplete")["response"]["incomplete_details"]["reason"], "steered");
    let next = ws.events().pop().unwrap()["response"].clone();
    assert_eq!((&next["previous_response_id"], &next["metadata"]["a"]), (&id, &json!("b")));
    let prompt: String = knobs.last().prompt.iter().map(|t| *t as u8 as char).collect();
    assert!(
        prompt.starts_with("system:Be\nuser:words ") && prompt.ends_with(&format!("{said}\nuser:no, this\n")),
        "{prompt}"
    );
    ws.say(&format!(r#"{{"type":"response.steer","previous_response_id":{},"input":"late"}}"#, next["id"]));
    assert_eq!(ws.event()["error"]["code"], "response_not_active");
    let wrong =
        ws.ask(r#"{"type":"response.steer","previous_response_id":"r","input":[{"role":"system","content":"x"}]}"#);
    assert_eq!(wrong["error"]["code"], "invalid_input");
}

#[test]
fn a_lost_connection_is_taken_up_by_another() {
    let (running, knobs) = serve_with(Config::default(), 1024, 4, Knobs::slow(5));
    let mut ws = Ws::open(running.addr());
    let first = ws.ask(&create(r#""input":"one""#));
    ws.say(&next(&first, "two"));
    let id = ws.event()["response"]["id"].clone();
    let said = read_deltas(&mut ws, 5);
    drop(ws);
    assert!(knobs.wait("decode", 1), "the engine does not work for nobody");
    // From the answer before the loss ...
    let mut ws = Ws::open(running.addr());
    assert!(text(&ws.ask(&next(&first, "again"))).ends_with("\nuser:again\n"));
    // ... and from what was said of the one that was lost.
    let went_on = ws.ask(&create(&format!(r#""previous_response_id":{id},"input":"go on""#)));
    assert!(text(&went_on).contains(&format!("user:two\nassistant:{said}")), "{}", text(&went_on));
    // It was not to be stored: nobody can fetch it, and no other key can go on from it.
    let id = first["response"]["id"].as_str().unwrap();
    assert_eq!(get(running.addr(), &format!("/v1/responses/{id}")).status, 404);
    let mut other = Ws::open_with(running.addr(), "Authorization: Bearer other\r\n");
    assert_eq!(other.ask(&next(&first, "x"))["error"]["code"], "previous_response_not_found");
}

#[test]
fn upgrades_pass_the_same_gate_as_requests() {
    let (running, _) = serve(Config::default());
    let status = |bytes: String| {
        raw(running.addr(), bytes.replace("Connection: Upgrade", "Connection: close, Upgrade").as_bytes()).status
    };
    for (from, to, expected) in [
        ("Host: localhost", "Host: evil", 403),
        ("Host: localhost", "Host: 127.0.0.1.evil", 403),
        ("Host: localhost", "Host: localhost\r\nHost: localhost", 400),
        ("\r\n\r\n", "\r\nOrigin: http://evil\r\n\r\n", 403),
        ("\r\n\r\n", "\r\nOrigin: null\r\n\r\n", 403),
        ("Upgrade: websocket", "Upgrade: h2c", 426),
        ("Version: 13", "Version: 8", 400),
        (KEY, "short", 400),
        (KEY, "", 400),
        ("GET /v1/responses", "GET /v1/models", 200),
    ] {
        assert_eq!(status(upgrade("").replace(from, to)), expected, "{to}");
    }
    let post = upgrade("Content-Type: application/json\r\nContent-Length: 2\r\n").replace("GET", "POST") + "{}";
    assert_eq!(status(post), 400, "a request, not an upgrade");
    Ws::open_with(running.addr(), "Origin: http://localhost\r\n").ask(&create(r#""input":"x""#));
}

#[test]
fn frames_that_break_the_protocol_close_the_connection() {
    let mut config = Config::default();
    config.limits.body_bytes = 100_000;
    let (running, _) = serve(config);
    let long = vec![b'x'; 70_000];
    let bomb = protocol::ws::DeflatePool::default().deflate(&vec![b' '; 8 << 20]).unwrap();
    assert!(bomb.len() < 50_000);
    type Frames<'a> = &'a [(u8, &'a [u8])];
    let cases: [(Frames<'_>, u16); 9] = [
        (&[(0x82, b"{}")], 1003),
        (&[(0x81, b"\xff\xfe")], 1007),
        (&[(0xc1, b"not deflate at all")], 1007),
        (&[(0xc1, &bomb)], 1009),
        (&[(0x01, &long), (0x80, &long)], 1009),
        (&[(0x80, b"x")], 1002),
        (&[(0x91, b"x")], 1002),
        (&[(0x09, b"x")], 1002),
        (&[(0x01, b"x"), (0x01, b"y")], 1002),
    ];
    for (frames, code) in cases {
        let mut ws = Ws::open_with(running.addr(), "Sec-WebSocket-Extensions: permessage-deflate\r\n");
        for (first, payload) in frames {
            ws.send(*first, payload);
        }
        assert_eq!(ws.closed(), Some(code), "{:?}", frames[0].0);
    }
    let mut ws = Ws::open(running.addr());
    ws.stream.write_all(&[0x81, 2, b'{', b'}']).unwrap();
    assert_eq!(ws.closed(), Some(1002), "not masked");
    let mut ws = Ws::open(running.addr());
    ws.send(0xc1, b"x");
    assert_eq!(ws.closed(), Some(1002), "compression was not agreed");
}

#[test]
fn messages_may_be_compressed_and_in_pieces() {
    let (running, _) = serve(Config::default());
    let mut ws =
        Ws::open_with(running.addr(), "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n");
    let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert!(ws.head.contains(agreed), "{}", ws.head);
    let pool = protocol::ws::DeflatePool::default();
    let input = "compress me ".repeat(30);
    let deflated = pool.deflate(create(&format!(r#""input":"{input}""#)).as_bytes()).unwrap();
    let (a, b) = deflated.split_at(deflated.len() / 2);
    ws.send(0x41, a);
    ws.send(0x89, b"between");
    ws.send(0x00, b"");
    ws.send(0x80, b);
    assert_eq!(ws.frame(), Some((0x8a, b"between".to_vec())));
    let events = ws.events();
    assert_eq!(text(events.last().unwrap()), format!("user:{input}\n"));
    // Byte by byte, as a slow network brings it.
    for byte in shell::ws::frame(0x81, create(r#""input":"slow""#).as_bytes()) {
        ws.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(text(ws.events().last().unwrap()), "user:slow\n");
}

#[test]
fn long_events_are_compressed_and_short_ones_are_not() {
    let (running, _) = serve(Config::default());
    let mut ws = Ws::open_with(running.addr(), "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    ws.say(&create(&format!(r#""input":"{}""#, "a".repeat(400))));
    let (mut long, mut short) = (0, 0);
    loop {
        let (first, payload) = ws.frame().unwrap();
        long += usize::from(first == 0xc1);
        short += usize::from(first == 0x81);
        let text = if first == 0xc1 { protocol::ws::inflate(&payload, 1 << 20).unwrap() } else { payload };
        if String::from_utf8_lossy(&text).starts_with(r#"{"type":"response.completed""#) {
            break;
        }
    }
    assert!(long >= 1 && short > 300, "{long} {short}");
}

#[test]
fn a_message_that_does_not_arrive_ends_the_connection() {
    let mut config = Config::default();
    config.limits.body_read = Duration::from_millis(300);
    let (running, _) = serve(config);
    let mut ws = Ws::open(running.addr());
    assert_eq!(text(&ws.ask(&create(r#""input":"x""#))), "user:x\n");
    std::thread::sleep(Duration::from_millis(500)); // silence between messages is fine
    ws.stream.write_all(&[0x81, 0x85, 0]).unwrap();
    let start = Instant::now();
    assert_eq!(ws.closed(), Some(1008));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_shutdown_lets_answers_end_and_says_goodbye() {
    let (running, knobs) = serve_with(Config::default(), 1024, 4, Knobs::slow(10));
    let (mut idle, mut busy) = (Ws::open(running.addr()), Ws::open(running.addr()));
    busy.say(&create(r#""input":"a few words""#));
    assert!(knobs.wait("admitted", 1));
    running.drain();
    assert_eq!(idle.closed(), Some(1001));
    let end = busy.events().pop().unwrap();
    assert_eq!((&end["type"], text(&end).as_str()), (&json!("response.completed"), "user:a few words\n"));
    assert_eq!(busy.closed(), Some(1001));
    assert!(running.join().unwrap(), "everything ended by itself");
}

#[test]
fn a_shutdown_ends_answers_that_take_too_long() {
    let mut config = Config::default();
    config.limits.drain = Duration::from_millis(300);
    let (running, knobs) = serve_with(config, 1024, 4, Knobs::slow(30));
    let mut ws = Ws::open(running.addr());
    ws.say(&create(&format!(r#""input":"{}""#, "words ".repeat(100))));
    assert!(knobs.wait("admitted", 1));
    running.drain();
    let end = ws.events().pop().unwrap();
    assert_eq!((&end["type"], &end["response"]["error"]["code"]), (&json!("response.failed"), &json!("server_error")));
    assert_eq!(ws.closed(), Some(1001));
    assert!(!running.join().unwrap());
}

#[test]
fn a_websocket_keeps_its_place_among_connections() {
    let mut config = Config::default();
    config.limits.connections_per_ip = 2;
    let (running, _) = serve(config);
    let (one, mut two) = (Ws::open(running.addr()), Ws::open(running.addr()));
    two.ask(&create(r#""input":"x""#));
    assert_eq!(get(running.addr(), "/health").status, 503);
    drop(one);
    let end = Instant::now() + Duration::from_secs(10);
    // The connection that asked last may still have its place, too.
    while !get(running.addr(), "/metrics").text().contains("vonk_websockets 1\n") {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
}
