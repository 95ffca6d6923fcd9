//! SIGTERM drains, a second one stops at once. A binary of its own: signals are for the whole process.
#![allow(clippy::unwrap_used, clippy::panic)] // tests and what they share
#![cfg(unix)]

mod shell;

use server::Config;
use shell::*;
use std::time::{Duration, Instant};

fn kill(signal: &str) {
    let pid = std::process::id().to_string();
    assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

#[test]
fn one_drains_two_stop() {
    let config = || Config { catch_signals: true, ..Config::default() };
    let (running, knobs) = serve_with(config(), 1024, 1, Knobs::slow(20));
    let addr = running.addr();
    let client = std::thread::spawn(move || complete(addr, r#"{"model":"echo","prompt":"0123456789","stream":true}"#));
    assert!(knobs.wait("admitted", 1));
    kill("-TERM");
    assert!(running.join().unwrap(), "clean");
    assert_eq!(client.join().unwrap().events().len(), 12);

    let (running, knobs) = serve_with(config(), 1 << 20, 1, Knobs::slow(20));
    let addr = running.addr();
    let client = std::thread::spawn(move || complete(addr, r#"{"model":"echo","prompt":"~x","stream":true}"#));
    assert!(knobs.wait("admitted", 1));
    kill("-INT");
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    kill("-TERM");
    assert!(!running.join().unwrap(), "not clean");
    assert!(start.elapsed() < Duration::from_secs(1));
    client.join().unwrap();
}
