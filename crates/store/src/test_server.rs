//! A tiny HTTP server on the loopback address for tests: answers what a test's closure says, and can break off.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request, as far as tests look at it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// First byte of the Range header; 0 without one.
    pub fn from(&self) -> usize {
        let range = self.header("range").and_then(|r| r.strip_prefix("bytes="));
        range.and_then(|r| r.split('-').next()).map_or(0, |n| n.parse().unwrap())
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Break the connection off after so many bytes of the body.
    pub cut_after: Option<usize>,
    /// Wait so long after each 64 KiB.
    pub pause: Duration,
    /// Send the body again and again, in chunks, for ever.
    pub is_endless: bool,
}

impl Reply {
    pub fn new(status: u16, body: &[u8]) -> Self {
        let body = body.to_vec();
        Self { status, headers: vec![], body, cut_after: None, pause: Duration::ZERO, is_endless: false }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The file, or the part of it that was asked for.
    pub fn file(request: &Seen, file: &[u8]) -> Self {
        let Some(range) = request.header("range") else { return Self::new(200, file) };
        let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let from: usize = from.parse().unwrap();
        let end = to.parse::<usize>().map_or(file.len(), |to| to + 1);
        let shown = format!("bytes {from}-{}/{}", end - 1, file.len());
        Self::new(206, &file[from..end]).with("Content-Range", &shown)
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.cut_after = Some(after);
        self
    }
}

/// The server; ends with this value.
pub struct Server {
    pub url: String,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub fn start(answer: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen2, stop2, answer) = (seen.clone(), stop.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop2.load(Ordering::SeqCst) {
                    return;
                }
                let (seen, answer) = (seen2.clone(), answer.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, &seen, answer.as_ref());
                });
            }
        });
        Self { url, seen, stop }
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.strip_prefix("http://").unwrap());
    }
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Seen>>,
    answer: &(dyn Fn(&Seen, usize) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or("").to_string();
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.push((name.to_string(), value.to_string()));
    }
    let request = Seen { path, headers };
    let n = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let reply = answer(&request, n);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &match reply.is_endless {
        true => "Transfer-Encoding: chunked\r\n\r\n".to_string(),
        false => format!("Content-Length: {}\r\n\r\n", reply.body.len()),
    };
    stream.write_all(head.as_bytes())?;
    if reply.is_endless {
        loop {
            // Ends when the client hangs up.
            stream.write_all(format!("{:x}\r\n", reply.body.len()).as_bytes())?;
            stream.write_all(&reply.body)?;
            stream.write_all(b"\r\n")?;
        }
    }
    let end = reply.cut_after.unwrap_or(reply.body.len());
    for piece in reply.body[..end].chunks(64 * 1024) {
        stream.write_all(piece)?;
        stream.flush()?;
        std::thread::sleep(reply.pause);
    }
    Ok(())
}
