//! R16, small: what an open stream costs while nothing flows. A binary of its own: it measures the process.
#![allow(clippy::unwrap_used, clippy::panic)] // tests and what they share
#![cfg(target_os = "linux")]

mod shell;

use server::Config;
use shell::*;
use std::io::Write;
use std::time::Duration;

fn rss_kib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}

#[test]
fn an_idle_stream_costs_at_most_40_kib() {
    const STREAMS: usize = 200;
    let mut config = Config::default();
    config.limits.heartbeat = Duration::from_millis(50);
    let (running, knobs) = serve_with(config, 1024, STREAMS, Knobs::slow(50));
    let addr = running.addr();
    let body = format!(r#"{{"model":"echo","prompt":"{}","stream":true}}"#, "~".repeat(900));
    for _ in 0..3 {
        complete(addr, r#"{"model":"echo","prompt":"warm"}"#);
    }
    let before = rss_kib();
    let mut sockets: Vec<_> = (0..STREAMS).map(|_| connect(addr)).collect();
    for socket in &mut sockets {
        socket.write_all(&post_bytes("/v1/completions", &body)).unwrap();
    }
    assert!(knobs.wait("admitted", STREAMS + 3));
    std::thread::sleep(Duration::from_millis(300));
    let each = rss_kib().saturating_sub(before) / STREAMS;
    println!("{each} KiB per idle stream, 900 prompt tokens each");
    assert!(each <= 40, "{each} KiB");
}
