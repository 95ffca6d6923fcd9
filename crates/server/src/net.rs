//! Connections: accepted up to a bound in all and per address, closed when a reader stalls, ended gently on shutdown.

use base::limits;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::app::{App, Phase};
use crate::timing::Sent;

/// Completed handshakes that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Pause after `accept` failed (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds with a small send buffer, so that a slow reader stalls us early instead of filling kernel memory.
pub(crate) fn listen(addr: SocketAddr, send_buffer_bytes: usize) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(u32::try_from(send_buffer_bytes).unwrap_or(u32::MAX))?; // accepted sockets inherit it
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Serves until the phase says to stop; true if everything ended by itself.
pub(crate) async fn serve(app: Arc<App>, listener: TcpListener, router: axum::Router) -> bool {
    let mut phase = app.phase.subscribe();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = phase.wait_for(|p| *p != Phase::Open) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match Place::take(&app, peer.ip()) {
                    Some(place) => {
                        connections.spawn(connection(Arc::clone(&app), stream, router.clone(), place));
                    }
                    None => refuse(&app, &stream),
                },
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    tokio::pin!(all_ended);
    let stopped = async { phase.wait_for(|p| *p == Phase::Stopped).await.map(|_| ()) };
    let is_clean = tokio::select! {
        biased; // a stop ends the streams too, so both may be ready at once: the stop counts
        _ = stopped => return false,
        ended = timeout(app.config.limits.drain, &mut all_ended) => ended.is_ok(),
    };
    if !is_clean {
        app.advance(Phase::Cut);
        let _ = timeout(Duration::from_secs(limits::FLUSH_S_MAX), &mut all_ended).await;
    }
    is_clean
}

async fn connection(app: Arc<App>, stream: TcpStream, router: axum::Router, place: Place) {
    let (limits, ip) = (&app.config.limits, place.ip);
    let _ = stream.set_nodelay(true);
    let sent = Sent::default();
    let guard = StallGuard { stream, stall: limits.stream_stall, deadline: None, sent: sent.clone() };
    let io = TokioIo::new(guard);
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.send_buffer_bytes.max(limits.header_bytes).max(8192));
    let (seat, mut left) = Seat::new();
    let service = OfPeer { peer: Peer(ip, sent), seat, inner: TowerToHyperService::new(router) };
    {
        let served = builder.serve_connection(io, service).with_upgrades();
        tokio::pin!(served);
        let mut phase = app.phase.subscribe();
        let is_over = tokio::select! {
            _ = &mut served => true,
            _ = phase.wait_for(|p| *p != Phase::Open) => false,
        };
        if !is_over {
            served.as_mut().graceful_shutdown();
            let _ = served.await; // an error here is the client's: reset, timeout, nonsense
        }
    }
    // A WebSocket goes on in a task of its own. Until that ends, the connection has its place and the drain waits for it.
    left.recv().await;
    drop(place);
}

/// Held by whatever goes on with a connection; among a request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Seat(#[allow(dead_code, reason = "held, not used")] mpsc::Sender<()>);

impl Seat {
    /// The seat, and what ends when the last holder has gone.
    fn new() -> (Self, mpsc::Receiver<()>) {
        let (held, left) = mpsc::channel(1);
        (Self(held), left)
    }
}

/// Whose request it is, and over which connection, among a request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr, pub(crate) Sent);

/// The router, told whose requests they are.
struct OfPeer {
    peer: Peer,
    seat: Seat,
    inner: TowerToHyperService<axum::Router>,
}

impl Service<Request<Incoming>> for OfPeer {
    type Response = <TowerToHyperService<axum::Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<axum::Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<axum::Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        request.extensions_mut().insert(self.seat.clone());
        self.inner.call(request)
    }
}

fn refuse(app: &App, stream: &TcpStream) {
    app.metrics.connections_refused.fetch_add(1, Relaxed);
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
    );
}

/// Connections per address.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<HashMap<IpAddr, usize>>);

/// A connection's place among all and among those of its address.
struct Place {
    app: Arc<App>,
    ip: IpAddr,
}

impl Place {
    fn take(app: &Arc<App>, ip: IpAddr) -> Option<Self> {
        let limits = &app.config.limits;
        let ip = ip.to_canonical();
        let mut peers = app.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if app.metrics.connections.load(Relaxed) >= limits.connections {
            return None;
        }
        let of_ip = peers.entry(ip).or_insert(0);
        if *of_ip >= limits.connections_per_ip {
            return None;
        }
        *of_ip += 1;
        app.metrics.connections.fetch_add(1, Relaxed);
        Some(Self { app: Arc::clone(app), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.app.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.app.metrics.connections.fetch_sub(1, Relaxed);
        if let Some(n) = peers.get_mut(&self.ip) {
            *n -= 1;
            if *n == 0 {
                peers.remove(&self.ip);
            }
        }
    }
}

/// A stream whose writes fail when the peer takes nothing for too long. The failure closes the connection, which drops
/// the response and so cancels its request.
struct StallGuard {
    stream: TcpStream,
    stall: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Time in its writes, for `timings`.
    sent: Sent,
}

impl StallGuard {
    fn guard<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let end = Instant::now() + self.stall;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(end)));
        match deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for StallGuard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for StallGuard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let began = Instant::now();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.sent.add(began.elapsed());
        this.guard(cx, written)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let began = Instant::now();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.sent.add(began.elapsed());
        this.guard(cx, written)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
