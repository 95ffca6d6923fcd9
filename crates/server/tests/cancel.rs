//! A client that goes away stops costing: its request is cancelled in the queue, in prefill and in decode, whether it
//! streams or not, whether it says goodbye (FIN) or just falls silent (RST). R25, small.
#![allow(clippy::unwrap_used, clippy::panic)] // tests and what they share

mod shell;

use server::Config;
use shell::*;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Slow enough that nothing ends by itself: 30 ms per step.
const STEP_MS: u64 = 30;

fn begin(addr: SocketAddr, prompt: &str, stream: bool) -> TcpStream {
    let mut socket = connect(addr);
    let body = format!(r#"{{"model":"echo","prompt":"{prompt}","stream":{stream}}}"#);
    socket.write_all(&post_bytes("/v1/completions", &body)).unwrap();
    socket
}

/// Closes with a reset: unread data makes the kernel send RST instead of FIN on Linux; both must cancel.
fn vanish(socket: TcpStream, by_shutdown: bool) {
    if by_shutdown {
        socket.shutdown(std::net::Shutdown::Both).unwrap();
    }
    drop(socket);
}

#[test]
fn cancelled_in_each_phase() {
    let long = "~".repeat(60 * CHUNK); // 60 steps of prefill
    for stream in [false, true] {
        for by_shutdown in [false, true] {
            let (running, knobs) = serve_with(Config::default(), 1024, 1, Knobs::slow(STEP_MS));
            let decoding = begin(running.addr(), "~decode", stream);
            assert!(knobs.wait("admitted", 1));
            let queued = begin(running.addr(), "~queue", stream);
            assert!(knobs.wait("+", 2));
            let end_of = |socket, phase: &str| {
                let at = knobs.steps.load(std::sync::atomic::Ordering::SeqCst);
                let start = Instant::now();
                vanish(socket, by_shutdown);
                assert!(knobs.wait(phase, 1), "{phase} {stream} {by_shutdown}: {:?}", knobs.log.lock().unwrap());
                assert!(start.elapsed() < Duration::from_millis(250));
                let log = knobs.log.lock().unwrap();
                let (step, _) = log.iter().find(|(_, t)| t.contains(phase)).unwrap();
                assert!(step - at <= 3, "{phase}: {} steps", step - at);
            };
            end_of(queued, "queue");
            std::thread::sleep(Duration::from_millis(2 * STEP_MS));
            end_of(decoding, "decode");
            let prefilling = begin(running.addr(), &long, stream);
            assert!(knobs.wait("admitted", 2));
            std::thread::sleep(Duration::from_millis(2 * STEP_MS));
            end_of(prefilling, "prefill");
            let metrics = get(running.addr(), "/metrics").text();
            assert!(metrics.contains("vonk_requests_queued{model=\"echo\"} 0"), "{metrics}");
            assert!(metrics.contains("vonk_cancelled_total{model=\"echo\"} 3"));
        }
    }
}

/// Clients of the storm. `VONK_STORM=5000` is the large one; it needs two open files for each (`ulimit -n`).
fn storm_size() -> usize {
    std::env::var("VONK_STORM").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

/// R25: all clients vanish at once, most of them queued, the others in prefill and decode, by FIN and by RST.
#[test]
fn a_storm_of_leavers_leaves_nothing_behind() {
    let n = storm_size();
    let mut config = Config::default();
    (config.limits.queue, config.limits.connections_per_ip) = (n + 8, n + 8);
    (config.limits.connections, config.limits.queue_wait) = (n + 8, Duration::from_secs(600));
    let (running, knobs) = serve_with(config, 1024, 8, Knobs::slow(20));
    let addr = running.addr();
    // Four decode for ever; four have 60 steps of prefill before them when the storm comes, and a queue behind them.
    let mut sockets: Vec<_> = (0..4).map(|i| begin(addr, "~decode", i % 2 == 0)).collect();
    assert!(knobs.wait("admitted", 4));
    let long = "~".repeat(60 * CHUNK);
    sockets.extend((4..n).map(|i| begin(addr, &long, i % 2 == 0)));
    assert!(knobs.wait("+", n), "{} of {n} arrived", knobs.seen("+"));
    assert!(!get(addr, "/metrics").text().contains("vonk_kv_pages_used{model=\"echo\"} 0\n"));
    let start = Instant::now();
    for (i, socket) in sockets.into_iter().enumerate() {
        vanish(socket, i % 3 == 0);
    }
    let gone = start.elapsed();
    let baseline = ["vonk_kv_pages_used", "vonk_requests_running", "vonk_requests_queued"];
    let is_idle = |text: &str| baseline.iter().all(|name| text.contains(&format!("{name}{{model=\"echo\"}} 0\n")));
    while !is_idle(&get(addr, "/metrics").text()) {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", get(addr, "/metrics").text());
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{n} clients went in {gone:?}; pages were back {:?} after the last had gone", start.elapsed() - gone);
    for phase in ["queue", "decode", "prefill"] {
        println!("{} in {phase}", knobs.seen(&format!(" {phase}")));
    }
    assert_eq!(knobs.seen(" decode") + knobs.seen(" prefill") + knobs.seen(" queue"), n);
    assert!(get(addr, "/metrics").text().contains(&format!("vonk_cancelled_total{{model=\"echo\"}} {n}\n")));
    let steps = knobs.steps.load(std::sync::atomic::Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(100));
    assert!(knobs.steps.load(std::sync::atomic::Ordering::SeqCst) <= steps + 1, "the engine works for nobody");
    assert_eq!(complete(addr, r#"{"model":"echo","prompt":"ok"}"#).status, 200);
}

#[test]
fn a_stop_string_frees_the_engine() {
    let (running, knobs) = serve_with(Config::default(), 1024, 1, Knobs::slow(5));
    let answer = complete(running.addr(), r#"{"model":"echo","prompt":"~abc","stop":["c~a"],"stream":true}"#);
    let text: String = answer
        .events()
        .iter()
        .filter_map(|e| serde_json::from_str::<protocol::Completion>(e).ok())
        .map(|c| c.choices[0].text.clone())
        .collect();
    assert_eq!(text, "~ab");
    assert!(knobs.wait("decode", 1));
}

#[test]
fn all_choices_are_cancelled() {
    let (running, knobs) = serve_with(Config::default(), 1024, 2, Knobs::slow(5));
    let mut socket = connect(running.addr());
    let body = r#"{"model":"echo","prompt":["~a","~b"],"n":3,"stream":true}"#;
    socket.write_all(&post_bytes("/v1/completions", body)).unwrap();
    assert!(read_until(&mut socket, "text_completion").contains("200 OK"));
    drop(socket);
    assert!(knobs.wait("-", 6));
    assert_eq!((knobs.seen("queue"), knobs.seen("decode")), (4, 2));
}

/// A reader that takes nothing: the connection is closed and the request cancelled after the stall limit.
#[test]
fn a_stalled_reader_is_cancelled() {
    let mut config = Config::default();
    config.limits.stream_stall = Duration::from_millis(500);
    config.limits.send_buffer_bytes = 8 * 1024;
    let (running, knobs) = serve_with(config, 1 << 20, 2, Knobs::slow(1));
    let stalled = begin(running.addr(), &format!("~{}", "x".repeat(500)), true);
    let good = std::thread::spawn({
        let addr = running.addr();
        move || (0..20).map(|_| complete(addr, r#"{"model":"echo","prompt":"hello"}"#).status).collect::<Vec<_>>()
    });
    assert!(knobs.wait("decode", 1), "{:?}", knobs.log.lock().unwrap());
    assert!(good.join().unwrap().iter().all(|s| *s == 200));
    drop(stalled);
}

/// A reader that is slow but alive gets everything.
#[test]
fn a_slow_reader_gets_everything() {
    use std::io::Read;
    let mut config = Config::default();
    config.limits.stream_stall = Duration::from_millis(1500);
    config.limits.send_buffer_bytes = 8 * 1024;
    let (running, _) = serve_with(config, 1 << 20, 2, Knobs::slow(0));
    let mut socket = connect(running.addr());
    let body = r#"{"model":"echo","prompt":"~abcdefghi","stream":true,"max_tokens":20000}"#;
    socket.write_all(&post_bytes("/v1/completions", body)).unwrap();
    let mut all = Vec::new();
    let mut chunk = vec![0; 200_000];
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(300));
        let n = socket.read(&mut chunk).unwrap();
        all.extend_from_slice(&chunk[..n]);
    }
    socket.read_to_end(&mut all).unwrap();
    let answer = parse_answer(&all);
    let n = answer.events().iter().filter(|e| e.contains("\"finish_reason\":null")).count();
    assert_eq!((n, answer.events().last().map(String::as_str)), (20000, Some("[DONE]")));
}
