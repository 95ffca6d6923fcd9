//! Start and end: a thread with the reactor, signals, drain.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::app::{App, Phase, Served};
use crate::config::{Config, ServeError};
use crate::gate::Gate;
use crate::otlp::Exporter;
use crate::{net, routes};

/// A server that runs. Dropping it stops it at once.
pub struct Running {
    addr: SocketAddr,
    app: Arc<App>,
    thread: Option<JoinHandle<bool>>,
}

/// Threads that carry bytes to and from clients. Events are small, and a second thread on few cores is woken for nothing and
/// takes its time from the engine.
fn reactor_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores > 4 { 2 } else { 1 }
}

/// Binds and answers: `/health` is good, `/ready` says loading until `Running::add_models`.
///
/// # Errors
/// An address that others can reach or that is taken; no thread.
pub fn start(config: Config) -> Result<Running, ServeError> {
    config.check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("http")
        .worker_threads(reactor_threads())
        .max_blocking_threads(config.limits.text_jobs.max(1) + 4)
        .enable_all()
        .build()?;
    let bind = config.bind;
    let entered = runtime.enter();
    let listener =
        net::listen(bind, config.limits.send_buffer_bytes).map_err(|source| ServeError::Bind { addr: bind, source })?;
    let signals = if config.catch_signals { Some(Signals::new()?) } else { None };
    drop(entered);
    let addr = listener.local_addr()?;
    let gate = Gate::new(addr, &config.hosts, &config.origins);
    let collector = config.collector.clone();
    let exporter = collector.map(|c| Exporter::start(c, RandomState::new().hash_one(addr))).transpose()?;
    let app = Arc::new(App::new(config, gate, exporter));
    let (shared, router) = (Arc::clone(&app), routes::router(Arc::clone(&app)));
    let thread = std::thread::Builder::new().name("http main".to_owned()).spawn(move || {
        let is_clean = runtime.block_on(async {
            if let Some(signals) = signals {
                tokio::spawn(signals.drive(Arc::clone(&shared)));
            }
            if let Some(time) = shared.config.stop_when_idle {
                tokio::spawn(stop_when_idle(Arc::clone(&shared), time));
            }
            net::serve(Arc::clone(&shared), listener, router).await
        });
        shared.advance(Phase::Stopped);
        runtime.shutdown_background();
        is_clean
    })?;
    Ok(Running { addr, app, thread: Some(thread) })
}

/// Serves these models until a signal ends it; true if every request ended by itself.
///
/// # Errors
/// See `start` and `Running::add_models`.
pub fn serve(config: Config, models: Vec<Served>) -> Result<bool, ServeError> {
    let running = start(config)?;
    running.add_models(models)?;
    running.join()
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts the engines' threads; from now on `/ready` is good.
    ///
    /// # Errors
    /// No models, a name twice, a second call, no thread.
    pub fn add_models(&self, models: Vec<Served>) -> Result<(), ServeError> {
        self.app.add_models(models)
    }

    /// What a first SIGTERM does: no new requests, running ones may end.
    pub fn drain(&self) {
        self.app.advance(Phase::Draining);
    }

    /// What a second SIGTERM does.
    pub fn stop(&self) {
        self.app.advance(Phase::Stopped);
    }

    /// Waits for the end; true if every request ended by itself.
    ///
    /// # Errors
    /// `Panicked`.
    pub fn join(mut self) -> Result<bool, ServeError> {
        self.thread.take().map_or(Ok(false), JoinHandle::join).map_err(|_| ServeError::Panicked)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        self.app.models().iter().for_each(|m| m.runner.mailbox.close());
        self.app.models().iter().for_each(|m| m.runner.join());
        if let Some(meter) = &self.app.config.meter {
            meter.close();
        }
        if let Some(exporter) = &self.app.exporter {
            exporter.close();
        }
    }
}

/// Drains when nobody asked for so long. Looks from time to time, so it may come later by an eighth.
async fn stop_when_idle(app: Arc<App>, time: Duration) {
    let (mut asked, mut since) = (0, Instant::now());
    while app.phase() == Phase::Open {
        tokio::time::sleep((time / 8).max(Duration::from_millis(1))).await;
        let now = app.asked.load(Relaxed);
        let is_busy = app.models().is_empty() || app.models().iter().any(|m| m.is_busy());
        if now != asked || is_busy {
            (asked, since) = (now, Instant::now());
        } else if since.elapsed() >= time {
            app.advance(Phase::Draining);
        }
    }
}

/// SIGTERM and SIGINT; elsewhere Ctrl-C.
struct Signals {
    #[cfg(unix)]
    term: tokio::signal::unix::Signal,
    #[cfg(unix)]
    int: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    #[cfg(not(unix))]
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// The first drains, the second stops.
    async fn drive(mut self, app: Arc<App>) {
        self.next().await;
        app.advance(Phase::Draining);
        self.next().await;
        app.advance(Phase::Stopped);
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
