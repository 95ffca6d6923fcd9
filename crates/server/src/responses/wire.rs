//! The bytes of one WebSocket: read into messages, within the same budget as all bodies, and written.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use protocol::ws::{self, Message, Reader, WsError};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::app::App;
use crate::body::Share;

/// Bytes that are read at once.
const READ_BYTES: usize = 4096;
/// How long a connection that was closed is read on, so that its peer sees why instead of a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Why a connection ends.
#[derive(Debug)]
pub(crate) enum Gone {
    /// The peer has left, or takes nothing.
    Left,
    /// The peer has said goodbye, with this code.
    Goodbye(Option<u16>),
    /// The peer does not keep to the protocol.
    Wrong(WsError),
}

/// One connection.
pub(crate) struct Wire {
    app: Arc<App>,
    io: TokioIo<Upgraded>,
    reader: Reader,
    /// Read, and not yet looked at.
    rest: Vec<u8>,
    seen: usize,
    share: Share,
    may_deflate: bool,
    /// When a message began that is not whole.
    begun: Option<Instant>,
    /// When the peer was heard last.
    pub(crate) heard: Instant,
    /// When the last whole message began.
    pub(crate) arrived: Instant,
}

impl Wire {
    pub(crate) fn new(app: &Arc<App>, io: Upgraded, may_deflate: bool) -> Self {
        let now = Instant::now();
        Self {
            app: Arc::clone(app),
            io: TokioIo::new(io),
            reader: Reader::new(app.config.limits.body_bytes, may_deflate),
            rest: Vec::new(),
            seen: 0,
            share: Share::new(&app.bodies),
            may_deflate,
            begun: None,
            heard: now,
            arrived: now,
        }
    }

    /// The next message, and what it takes of the budget. May be dropped and asked again: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<(Message, Share), Gone> {
        loop {
            let mut bytes = self.rest.get(self.seen..).unwrap_or_default();
            let message = self.reader.push(&mut bytes).map_err(Gone::Wrong)?;
            self.seen = self.rest.len() - bytes.len();
            if let Some(message) = message {
                self.arrived = self.begun.take().unwrap_or_else(Instant::now);
                return Ok((message, std::mem::replace(&mut self.share, Share::new(&self.app.bodies))));
            }
            let full = WsError { code: 1013, why: "too many large messages are being read" };
            self.share.cover(self.reader.held_bytes()).map_err(|_| Gone::Wrong(full))?;
            (self.rest, self.seen) = (Vec::new(), 0); // nothing is held for a connection that is silent
            let mut chunk = [0; READ_BYTES];
            let read = self.io.read(&mut chunk);
            let read = match self.begun {
                Some(begun) => timeout_at(begun + self.app.config.limits.body_read, read).await,
                None => Ok(read.await),
            };
            match read {
                Ok(Ok(n @ 1..)) => self.rest.extend_from_slice(&chunk[..n]),
                Ok(_) => return Err(Gone::Left),
                Err(_) => return Err(Gone::Wrong(WsError { code: 1008, why: "the message did not arrive in time" })),
            }
            self.heard = Instant::now();
            self.begun.get_or_insert(self.heard);
        }
    }

    /// Sends each line as a message.
    pub(crate) async fn send_lines(&mut self, lines: &[u8]) -> Result<(), Gone> {
        let mut out = Vec::with_capacity(lines.len() + 64);
        let pool = self.may_deflate.then_some(&self.app.deflate);
        for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            ws::text(&mut out, line, pool);
        }
        self.send(&out).await
    }

    /// Sends frames.
    pub(crate) async fn send(&mut self, frames: &[u8]) -> Result<(), Gone> {
        let written = async {
            self.io.write_all(frames).await?;
            self.io.flush().await
        };
        written.await.map_err(|_| Gone::Left)
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self, code: u16, why: &str) {
        let mut out = Vec::new();
        ws::close(&mut out, code, why);
        if self.send(&out).await.is_err() || self.io.shutdown().await.is_err() {
            return;
        }
        let mut chunk = [0; READ_BYTES];
        let _ = timeout(LINGER, async { while matches!(self.io.read(&mut chunk).await, Ok(1..)) {} }).await;
    }
}
