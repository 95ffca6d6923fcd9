//! `vonk top`: the live view of a server.

use crate::args;
use crate::fault::Fault;
use base::limits;
use client::server::{Wanted, find_or_start};
use client::{Client, Deadline, place};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Bytes of metrics that are read.
const METRICS_BYTES_MAX: usize = 1 << 20;

/// Reads the metrics every second and draws them; once where nobody watches.
pub fn top(args: args::Top) -> Result<(), Fault> {
    let set = |name: &str| place::env(name).filter(|v| !v.is_empty());
    let (url, key) = (args.url.or_else(|| set("VONK_URL")), set("VONK_API_KEY"));
    let wanted = Wanted { url, key, run_dir: place::run_dir(&place::env), ..Wanted::default() };
    let client = find_or_start(&wanted, &mut |line| eprintln!("{line}")).map_err(Fault::input)?.client;
    let (begun, mut view) = (Instant::now(), bench::top::Top::default());
    let is_watched = std::io::stdout().is_terminal() && !args.once;
    let url = client.target().shown().to_owned();
    loop {
        let text = read(&client)?;
        if !view.take(begun.elapsed().as_secs_f64(), &text) {
            return Err(Fault::input(format!("{url}/metrics has no metrics of vonk. Name a vonk server with --url")));
        }
        let (width, picture) = (columns(), |width| view.draw(&url, width));
        let mut out = std::io::stdout().lock();
        if is_watched {
            // Home, each line cleared to its end, the rest of the screen cleared: no flicker.
            let lines: String = picture(width).lines().map(|l| format!("{l}\x1b[K\n")).collect();
            write!(out, "\x1b[H{lines}\x1b[J")?;
            out.flush()?;
        } else if args.once && begun.elapsed() < Duration::from_secs(1) {
            // Rates need two readings.
        } else {
            writeln!(out, "{}", picture(width))?;
            if args.once {
                return Ok(());
            }
        }
        drop(out);
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn read(client: &Client) -> Result<String, Fault> {
    let deadline = Deadline::after_s(limits::CLIENT_CONNECT_S_MAX);
    let mut answer = client.get("/metrics", deadline, None).map_err(Fault::failed)?;
    if answer.status != 200 {
        return Err(Fault::failed(answer.refusal()));
    }
    Ok(String::from_utf8_lossy(&answer.whole(METRICS_BYTES_MAX).map_err(Fault::failed)?).into_owned())
}

/// As the shell says, or as wide as everybody has.
fn columns() -> usize {
    std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|c| *c > 20).unwrap_or(100)
}
