//! R16 for WebSockets: what an open one costs while nothing flows, after a turn. A binary of its own: it measures the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![cfg(target_os = "linux")]

mod shell;

use server::Config;
use shell::ws::Ws;
use shell::*;

fn rss_kib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}

#[test]
fn an_idle_websocket_costs_at_most_40_kib() {
    const SOCKETS: usize = 250;
    let (running, _) = serve(Config::default());
    let open = || {
        let mut ws = Ws::open_with(running.addr(), "Sec-WebSocket-Extensions: permessage-deflate\r\n");
        ws.ask(r#"{"type":"response.create","model":"echo","store":false,"input":"hi"}"#);
        ws
    };
    for _ in 0..3 {
        open();
    }
    let before = rss_kib();
    let sockets: Vec<Ws> = (0..SOCKETS).map(|_| open()).collect();
    let each = rss_kib().saturating_sub(before) / SOCKETS;
    println!("{each} KiB per idle WebSocket, client included");
    assert!(each <= 40, "{each} KiB");
    let metrics = get(running.addr(), "/metrics").text();
    assert!(metrics.contains(&format!("vonk_websockets {SOCKETS}\n")), "{metrics}");
    drop(sockets);
}
