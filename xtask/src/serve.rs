//! A `vonk serve` for the length of a step.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::run::command;

const READY_S_MAX: u64 = 120;

/// A running server; ends with this value.
pub struct Served {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Served {
    /// Starts the server on a free loopback port and waits until it is ready.
    pub fn start(vonk: &Path, model: &str) -> Result<Self, String> {
        // The port is free now; should another program take it meanwhile, the server says so and the step fails.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let address = free.map_err(|e| format!("no free port: {e}"))?;
        let mut serve = command(vonk, &["serve", "--model", model, "--no-kept-cache", "--bind", &address.to_string()]);
        let child = serve.spawn().map_err(|e| format!("cannot start {}: {e}", vonk.display()))?;
        let mut served = Self { child, address };
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(READY_S_MAX) {
            if let Ok(Some(status)) = served.child.try_wait() {
                return Err(format!("vonk serve ended with {status}"));
            }
            if served.is_ready() {
                return Ok(served);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("vonk serve was not ready in {READY_S_MAX} s"))
    }

    fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET /ready HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
            let mut head = [0u8; 12];
            stream.read_exact(&mut head)?;
            Ok(head.ends_with(b" 200"))
        };
        ask().unwrap_or(false)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
