//! The client against a scripted server on loopback: connections that are kept, requests that are stopped, answers that are
//! cut or wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod scripted;

use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use client::{Cancel, Client, ClientError, Deadline, Target, stream};
use scripted::{SSE, answer, chunk, delta, json, serve};

fn client(url: &str) -> Client {
    Client::new(Target::parse(url).unwrap(), Some("k1")).unwrap()
}

fn soon() -> Deadline {
    Deadline::after_s(30)
}

fn ask(client: &Client, cancel: Option<&Cancel>) -> Result<stream::Timed, ClientError> {
    let body = serde_json::json!({"stream": true});
    stream::ask(client, "/v1/chat/completions", &body, soon(), cancel, &mut |_| {})
}

#[test]
fn one_connection_serves_many_requests_of_every_framing() {
    let (url, requests) = serve(|asked, s| {
        match asked.head.starts_with("GET") {
            true => json(s, "200 OK", "{\"a\":1}"),
            false => answer(s, &["x", "é", "\n"], "stop"),
        }
        true
    });
    let client = client(&format!("{url}/v1"));
    client.warm(soon()).unwrap();
    for _ in 0..3 {
        assert_eq!(client.get("/v1/models", soon(), None).unwrap().json(100).unwrap()["a"], 1);
        let timed = ask(&client, Some(&Cancel::new())).unwrap();
        assert_eq!((timed.said.text.as_str(), timed.said.tokens), ("xé\n", Some(3)));
        assert_eq!(timed.said.finish_reason.as_deref(), Some("stop"));
    }
    let asked: Vec<_> = requests.iter().take(6).collect();
    assert!(asked.iter().all(|a| a.connection == 0 && a.head.contains("Authorization: Bearer k1\r\n")));
    assert!(asked[1].head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n") && asked[1].body.contains("stream"));
}

#[test]
fn a_connection_that_went_away_while_idle_costs_no_request() {
    let (url, requests) = serve(|_, s| {
        json(s, "200 OK", "{}");
        false // closed although nothing said so
    });
    let client = client(&url);
    for _ in 0..3 {
        client.get("/health", soon(), None).unwrap().json(100).unwrap();
    }
    assert_eq!(requests.iter().take(3).map(|a| a.connection).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_half_read_answer_and_connection_close_are_never_used_again() {
    let (url, requests) = serve(|asked, s| {
        match asked.connection {
            0 => json(s, "200 OK", &"x".repeat(100_000)),
            _ => {
                let _ = s.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
            }
        }
        true
    });
    let client = client(&url);
    let error = client.get("/", soon(), None).unwrap().whole(10).unwrap_err();
    assert!(error.to_string().contains("longer than 10 bytes"), "{error}");
    client.get("/", soon(), None).unwrap().json(10).unwrap();
    client.get("/", soon(), None).unwrap().json(10).unwrap();
    assert_eq!(requests.iter().take(3).map(|a| a.connection).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_stop_from_another_thread_ends_the_request_on_both_sides() {
    let (gone, is_gone) = channel();
    let (url, _requests) = serve(move |asked, s| {
        if asked.connection > 0 {
            json(s, "200 OK", "{}");
            return true;
        }
        s.write_all(SSE.as_bytes()).unwrap();
        delta(s, "first");
        let n = s.read(&mut [0; 1]); // the peer sends nothing more: this returns when it hangs up
        gone.send(n.is_ok_and(|n| n == 0)).unwrap();
        false
    });
    let (client, cancel) = (client(&url), Cancel::new());
    let stopper = cancel.clone();
    let body = serde_json::json!({});
    let result = stream::ask(&client, "/v1/completions", &body, soon(), Some(&cancel), &mut |text| {
        assert_eq!(text, "first");
        let stopper = stopper.clone();
        thread::spawn(move || stopper.cancel());
    });
    assert!(matches!(result, Err(ClientError::Cancelled)), "{result:?}");
    assert!(is_gone.recv_timeout(Duration::from_secs(20)).unwrap());
    // What is stopped stays stopped; others are not touched.
    assert!(matches!(ask(&client, Some(&cancel)), Err(ClientError::Cancelled)));
    client.get("/", soon(), None).unwrap().json(10).unwrap();
}

#[test]
fn a_late_stop_does_not_hit_the_next_request_on_that_connection() {
    let (url, requests) = serve(|_, s| {
        answer(s, &["a"], "stop");
        true
    });
    let (client, first) = (client(&url), Cancel::new());
    ask(&client, Some(&first)).unwrap();
    let second = Cancel::new();
    let body = serde_json::json!({});
    let timed = stream::ask(&client, "/", &body, soon(), Some(&second), &mut |_| first.cancel()).unwrap();
    assert_eq!(timed.said.text, "a");
    assert_eq!(requests.iter().take(2).map(|a| a.connection).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn what_servers_do_wrong_is_told_in_words() {
    type Script = fn(&mut std::net::TcpStream);
    let scripts: [(Script, &str); 6] = [
        (|s| json(s, "503 Service Unavailable", "{\"error\":{\"message\":\"busy\\u001b[2J\"}}"), "503: busy [2J"),
        (|s| json(s, "200 OK", "{}"), "not a stream of events"),
        (|s| s.write_all(b"SSH-2.0-x\r\n").unwrap(), "not HTTP/1.1"),
        (|s| s.write_all(SSE.as_bytes()).unwrap(), "in the middle of its answer"),
        (
            |s| {
                s.write_all(SSE.as_bytes()).unwrap();
                chunk(s, "data: {\"error\":{\"message\":\"no pages\"}}\n\n");
            },
            "200: no pages",
        ),
        (
            |s| {
                s.write_all(SSE.as_bytes()).unwrap();
                delta(s, "half");
                s.write_all(b"0\r\n\r\n").unwrap();
            },
            "without a finish_reason",
        ),
    ];
    for (script, want) in scripts {
        let (url, _requests) = serve(move |_, s| {
            script(s);
            false
        });
        let error = ask(&client(&url), None).unwrap_err().to_string();
        assert!(error.contains(want), "{error} has no {want}");
    }
}

#[test]
fn a_silent_server_is_given_up() {
    let (url, _requests) = serve(|_, s| s.read(&mut [0; 1]).is_ok_and(|n| n > 0));
    let deadline = Deadline::after(Duration::from_millis(50));
    let error = client(&url).get("/", deadline, None).unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
}
