//! Limits in time and number, heartbeats, overload, and the end: R15, R17, R27, R28, small, with shortened limits.
#![allow(clippy::unwrap_used, clippy::panic)] // tests and what they share

mod shell;

use server::{Config, Limits};
use shell::*;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

fn short() -> Config {
    let limits = Limits {
        header_read: Duration::from_millis(400),
        body_read: Duration::from_millis(600),
        queue_wait: Duration::from_millis(300),
        drain: Duration::from_millis(500),
        heartbeat: Duration::from_millis(100),
        ..Limits::default()
    };
    Config { limits, ..Config::default() }
}

/// One byte at a time until the server closes; how long it let us.
fn drip(addr: std::net::SocketAddr, first: &str) -> (Duration, String) {
    let mut stream = connect(addr);
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let start = Instant::now();
    stream.write_all(first.as_bytes()).unwrap();
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    while start.elapsed() < Duration::from_secs(8) {
        let _ = stream.write_all(b"x");
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(_) => {}
        }
    }
    (start.elapsed(), String::from_utf8_lossy(&all).into_owned())
}

#[test]
fn slow_senders_are_cut_off() {
    let (running, _) = serve(short());
    let addr = running.addr();
    let drippers: Vec<_> = (0..20)
        .map(|i| {
            std::thread::spawn(move || match i % 3 {
                0 => drip(addr, "GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: "),
                1 => drip(addr, ""),
                _ => drip(
                    addr,
                    "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n",
                ),
            })
        })
        .collect();
    for _ in 0..20 {
        let start = Instant::now();
        assert_eq!(complete(addr, r#"{"model":"echo","prompt":"ok"}"#).status, 200);
        assert!(start.elapsed() < Duration::from_millis(500));
    }
    for (i, dripper) in drippers.into_iter().enumerate() {
        let (took, text) = dripper.join().unwrap();
        assert!(took < Duration::from_millis(1600), "{i}: {took:?}");
        if i % 3 == 2 {
            assert!(text.starts_with("HTTP/1.1 408") && text.contains("body_timeout"), "{text}");
        }
    }
}

#[test]
fn silent_connections_are_closed() {
    let (running, _) = serve(short());
    let mut stream = connect(running.addr());
    let start = Instant::now();
    assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0), 0);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn connections_are_counted() {
    let mut config = Config::default();
    config.limits.connections_per_ip = 5;
    let (running, _) = serve(config);
    let held: Vec<_> = (0..5).map(|_| connect(running.addr())).collect();
    std::thread::sleep(Duration::from_millis(50));
    let refused = raw(running.addr(), b"");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    drop(held);
    std::thread::sleep(Duration::from_millis(50));
    let metrics = get(running.addr(), "/metrics").text();
    assert!(metrics.contains("vonk_connections_refused_total 1"), "{metrics}");
    // Churn leaves no connection counted.
    for _ in 0..300 {
        assert_eq!(get(running.addr(), "/health").status, 200);
    }
}

#[test]
fn a_full_queue_is_429_and_a_long_wait_503() {
    let mut config = short();
    config.limits.queue = 2;
    let (running, knobs) = serve_with(config, 1024, 1, Knobs::slow(20));
    let addr = running.addr();
    let endless = r#"{"model":"echo","prompt":"~x","stream":true}"#;
    let mut first = connect(addr);
    first.write_all(&post_bytes("/v1/completions", endless)).unwrap();
    assert!(read_until(&mut first, "\r\n\r\n").contains("200 OK"));
    let waiting: Vec<_> = (0..2).map(|_| std::thread::spawn(move || complete(addr, endless))).collect();
    assert!(knobs.wait("+", 3));
    let start = Instant::now();
    let full = complete(addr, endless);
    assert_eq!((full.status, full.code().as_str()), (429, "queue_full"));
    assert_eq!(full.json()["error"]["type"], "rate_limit_error");
    let retry_after_s = |a: &Answer| a.header("retry-after").unwrap().parse::<u32>().unwrap();
    assert!((1..=60).contains(&retry_after_s(&full)));
    assert!(start.elapsed() < Duration::from_millis(50));
    for answer in waiting {
        let answer = answer.join().unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (503, "queue_timeout"));
        assert!((1..=60).contains(&retry_after_s(&answer)));
    }
    assert!(knobs.wait("queue", 2), "who waited in vain is forgotten");
    drop(first);
    assert!(knobs.wait("decode", 1));
    let many = complete(addr, r#"{"model":"echo","prompt":["a","b","c"]}"#);
    assert_eq!(many.code(), "queue_full");
    assert_eq!(complete(addr, r#"{"model":"echo","prompt":"ok"}"#).status, 200);
}

#[test]
fn a_silent_stream_has_a_heartbeat() {
    let (running, _) = serve_with(short(), 1024, 1, Knobs::slow(40));
    let prompt = "~".repeat(CHUNK * 15); // 0.6 s of prefill
    let body = format!(r#"{{"model":"echo","prompt":"{prompt}","stream":true,"max_tokens":2}}"#);
    let answer = complete(running.addr(), &body);
    assert!(answer.text().matches(": ping\n\n").count() >= 3, "{}", answer.text());
    assert_eq!(answer.events().len(), 4);
}

#[test]
fn drain_lets_running_streams_end() {
    let (running, knobs) = serve_with(short(), 1024, 2, Knobs::slow(20));
    let addr = running.addr();
    let streaming =
        std::thread::spawn(move || complete(addr, r#"{"model":"echo","prompt":"0123456789","stream":true}"#));
    let mut idle = connect(addr);
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(read_until(&mut idle, "ok\"}").contains("200"));
    assert!(knobs.wait("admitted", 1));
    running.drain();
    std::thread::sleep(Duration::from_millis(50));
    assert!(std::net::TcpStream::connect(addr).is_err(), "the listener is closed");
    assert!(running.join().unwrap(), "the stream ended by itself");
    let answer = streaming.join().unwrap();
    assert_eq!(answer.events().len(), 12);
    assert_eq!(answer.events().last().unwrap(), "[DONE]");
    assert_eq!(idle.read(&mut [0; 64]).unwrap_or(0), 0);
}

#[test]
fn drain_ends_long_streams_with_an_error_event() {
    let (running, knobs) = serve_with(short(), 1 << 20, 2, Knobs::slow(5));
    let addr = running.addr();
    let endless = |stream: bool| {
        let body = format!(r#"{{"model":"echo","prompt":"~x","stream":{stream}}}"#);
        std::thread::spawn(move || complete(addr, &body))
    };
    let (streamed, whole, queued) = (endless(true), endless(false), endless(true));
    assert!(knobs.wait("+", 3));
    let start = Instant::now();
    running.drain();
    assert!(!running.join().unwrap());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let mut ends = Vec::new();
    for answer in [streamed.join().unwrap(), whole.join().unwrap(), queued.join().unwrap()] {
        if answer.status == 200 {
            let events = answer.events();
            assert!(events[events.len() - 2].contains("shutting_down"), "{:?}", &events[events.len() - 4..]);
            assert_eq!(events.last().unwrap(), "[DONE]");
            assert!(answer.body.ends_with(b"data: [DONE]\n\n"));
        } else {
            // Not streamed, or still waiting for a slot: the status can say it.
            assert!(answer.status == 503 && ["shutting_down", "queue_timeout"].contains(&answer.code().as_str()));
        }
        ends.push(answer.status);
    }
    assert_eq!(ends[1], 503);
    std::thread::sleep(Duration::from_millis(30));
    let steps = knobs.steps.load(std::sync::atomic::Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(knobs.steps.load(std::sync::atomic::Ordering::SeqCst), steps, "the engine has stopped");
}

#[test]
fn stop_does_not_wait() {
    let (running, knobs) = serve_with(Config::default(), 1 << 20, 2, Knobs::slow(5));
    let addr = running.addr();
    let client = std::thread::spawn(move || complete(addr, r#"{"model":"echo","prompt":"~x","stream":true}"#));
    assert!(knobs.wait("admitted", 1));
    running.drain();
    std::thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    running.stop();
    assert!(!running.join().unwrap());
    assert!(start.elapsed() < Duration::from_secs(1));
    client.join().unwrap();
}

#[test]
fn addresses_and_models_are_checked_at_start() {
    let open = Config { bind: "0.0.0.0:0".parse().unwrap(), ..Config::default() };
    let refused = server::start(open).err().unwrap().to_string();
    assert!(refused.contains("127.0.0.1") && refused.contains("--insecure-open"), "{refused}");
    let (running, knobs) = serve(Config::default());
    let taken = Config { bind: running.addr(), ..Config::default() };
    assert!(server::start(taken).err().unwrap().to_string().contains("--bind"));
    let other = server::start(Config::default()).unwrap();
    assert!(other.add_models(Vec::new()).is_err());
    let twice = || served("echo", Echo::new(64, 1, &knobs));
    assert!(other.add_models(vec![twice(), twice()]).is_err());
}

#[test]
fn an_idle_server_ends_by_itself_and_a_busy_one_does_not() {
    let idle = Duration::from_millis(200);
    let config = Config { stop_when_idle: Some(idle), ..Config::default() };
    let (running, _knobs) = serve_with(config, 100_000, 1, Knobs::slow(2));
    let addr = running.addr();
    let start = Instant::now();
    let mut stream = connect(addr);
    stream
        .write_all(&post_bytes("/v1/completions", r#"{"model":"echo","prompt":"~x","stream":true,"max_tokens":300}"#))
        .unwrap();
    assert_eq!(parse_answer(read_until(&mut stream, "[DONE]").as_bytes()).status, 200, "not cut while it ran");
    assert!(start.elapsed() > idle * 2, "{:?}", start.elapsed());
    drop(stream);
    // Probes do not keep it up.
    let prober = std::thread::spawn(move || while std::net::TcpStream::connect(addr).is_ok() && get_ready(addr) {});
    assert!(running.join().unwrap(), "everything had ended");
    assert!(start.elapsed() > idle * 3);
    prober.join().unwrap();
}

fn get_ready(addr: std::net::SocketAddr) -> bool {
    std::thread::sleep(Duration::from_millis(10));
    let Ok(mut stream) = std::net::TcpStream::connect(addr) else { return false };
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").is_ok()
        && stream.read(&mut [0; 256]).is_ok_and(|n| n > 0)
}
