//! Processor time of a server on this machine and of this process, from what Linux tells about processes.

use std::fs;

use crate::error::BenchError;

/// Clock ticks per second in `/proc`: 100 on every Linux that there is.
const TICKS_PER_S: f64 = 100.0;
/// Processes that are looked at.
const PROCESSES_MAX: usize = 100_000;

/// A stop watch for two processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor {
    server: u32,
    ticks: u64,
}

impl Processor {
    /// Starts at 0; `None` if nobody on this machine listens there, or the system does not say who.
    pub fn of(url: &str) -> Result<Option<Self>, BenchError> {
        let target = client::Target::parse(url)?;
        let port = target.shown().rsplit(':').next().and_then(|p| p.split('/').next()).and_then(|p| p.parse().ok());
        let is_here = ["127.", "localhost", "[::1]"].iter().any(|h| target.shown().contains(h));
        let server = port.filter(|_| is_here).and_then(listener);
        Ok(server.and_then(|server| Some(Self { server, ticks: ticks(server)? })))
    }

    /// Since then.
    pub fn seconds(self) -> Option<f64> {
        Some(ticks(self.server)?.saturating_sub(self.ticks) as f64 / TICKS_PER_S)
    }
}

/// User and system time of a process and of this one.
fn ticks(pid: u32) -> Option<u64> {
    let of = |who: &str| {
        let stat = fs::read_to_string(format!("/proc/{who}/stat")).ok()?;
        // Fields count from behind the name, which may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_ascii_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    Some(of(&pid.to_string())? + of("self")?)
}

/// The process that listens on a TCP port.
fn listener(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|p| fs::read_to_string(p).unwrap_or_default());
    let sockets: Vec<String> = tables.iter().flat_map(|t| t.lines()).filter_map(|l| inode(l, port)).collect();
    let is_one = |link: &str| sockets.iter().any(|s| link == format!("socket:[{s}]"));
    for entry in fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX) {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let mut links = files.flatten().filter_map(|f| fs::read_link(f.path()).ok());
        if links.any(|l| l.to_str().is_some_and(is_one)) {
            return Some(pid);
        }
    }
    None
}

fn inode(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let local = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
    (local == port && *fields.get(3)? == "0A").then(|| fields.get(9).map(|s| (*s).to_owned()))?
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn the_listener_is_found_and_its_time_is_read() {
        let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listening.local_addr().unwrap().port();
        assert_eq!(listener(port), Some(std::process::id()));
        let watch = Processor::of(&format!("http://127.0.0.1:{port}/v1")).unwrap().unwrap();
        let mut x = 0u64;
        while watch.seconds().unwrap() == 0.0 {
            x = std::hint::black_box(x.wrapping_mul(3).wrapping_add(1));
        }
        drop(listening);
        assert_eq!(listener(port), None);
    }
}
