//! `vonk bench keystrokes`: replayed typing against a server of our own, or against one that runs.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::args;
use crate::fault::{Fault, print_json};
use ::bench::fill::{self, FillArgs};
use ::bench::keystrokes::{KeystrokesArgs, run};
use client::{Client, Deadline, Target};

/// `vonk bench keystrokes`.
pub fn keystrokes(args: args::BenchKeystrokes) -> Result<(), Fault> {
    let own = match &args.url {
        Some(_) => None,
        None => Some(Own::start(args.model.as_deref())?),
    };
    let url = args.url.clone().or_else(|| own.as_ref().map(|o| o.url.clone())).unwrap_or_default();
    let given = KeystrokesArgs {
        url,
        against: args.against,
        trace: args.trace,
        gaps: args.gaps,
        n_keys: args.keys,
        seed: args.seed,
        key: args.key.get().filter(|_| own.is_none()),
    };
    let report = run(&given, &mut |line| eprintln!("{line}"))?;
    if let Some(path) = &args.svg {
        let failed = |e| Fault::failed(format!("{}: {e}", path.display()));
        std::fs::write(path, ::bench::latency::svg(&report)).map_err(failed)?;
    }
    if args.json {
        return print_json(&report);
    }
    print!("{report}");
    Ok(())
}

/// `vonk bench fill`.
pub fn fill(args: args::BenchFill) -> Result<(), Fault> {
    let own = match &args.url {
        Some(_) => None,
        None => Some(Own::start(args.model.as_deref())?),
    };
    let key = args.key.get().filter(|_| own.is_none());
    let url = args.url.or_else(|| own.as_ref().map(|o| o.url.clone())).unwrap_or_default();
    let report = fill::run(&FillArgs { url, data: args.data, n: args.n, key }, &mut |line| eprintln!("{line}"))?;
    if args.json {
        return print_json(&report);
    }
    println!("{} places   keys saved   of those wanted   first line exact", report.n);
    for (name, s) in [("ours", report.ours), ("64 lines", report.lines), ("llama.vim's", report.plain)] {
        let (saved, share, exact) = (s.keys_saved_mean, s.keys_saved_share * 100.0, s.first_line_exact_share * 100.0);
        println!("{name:14} {saved:8.2} {share:15.1} % {exact:15.1} %");
    }
    Ok(())
}

/// A server for this measurement, stopped when it is dropped.
struct Own {
    url: String,
    child: Child,
}

impl Own {
    fn start(model: Option<&str>) -> Result<Self, Fault> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (bind, url) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["serve", "--no-kept-cache", "--bind", &bind])
            .args(model.map(|m| ["--model", m]).iter().flatten());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut own = Self { url, child };
        own.wait_ready()?;
        Ok(own)
    }

    fn wait_ready(&mut self) -> Result<(), Fault> {
        let client = Client::once(Target::parse(&self.url).map_err(Fault::failed)?, None).map_err(Fault::failed)?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(base::limits::SERVER_START_S_MAX) {
            if let Some(status) = self.child.try_wait()? {
                return Err(Fault::failed(format!(
                    "the server ended ({status}); does `vonk serve` start with this model?"
                )));
            }
            if client.get("/ready", Deadline::after_s(2), None).is_ok_and(|a| a.status == 200) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(Fault::failed("the server does not get ready"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended already
        let _ = self.child.wait();
    }
}
