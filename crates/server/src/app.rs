//! What all requests share: configuration, models, metrics, and the phase of the server's life.

use engine::api::{Sampling, Stepper};
use protocol::ws::DeflatePool;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Semaphore, watch};

use crate::config::{Config, ServeError};
use crate::gate::Gate;
use crate::keep::Keeper;
use crate::kit::TextKit;
use crate::metrics::Metrics;
use crate::models::About;
use crate::net::Peers;
use crate::otlp::Exporter;
use crate::responses::store::Responses;
use crate::runner::{self, Runner};

/// A model to serve.
pub struct Served {
    /// Its name on the wire.
    pub name: String,
    /// Other names that it answers to.
    pub aliases: Vec<String>,
    /// Names that it answers to and that nobody is told, such as the path of its file.
    pub unlisted: Vec<String>,
    /// Its engine; gets a thread of its own.
    pub stepper: Box<dyn Stepper>,
    /// Its text side.
    pub text: Arc<TextKit>,
    /// When it was made, Unix seconds.
    pub created: u64,
    /// What applies where a request says nothing; the seed is not used.
    pub defaults: Sampling,
    /// Saves its prefix cache.
    pub keeper: Option<Box<dyn Keeper>>,
    /// Told to clients.
    pub about: About,
}

impl Served {
    /// OpenAI's defaults: temperature 1, everything else off.
    pub fn openai_defaults() -> Sampling {
        Sampling { temperature: 1.0, ..Sampling::default() }
    }
}

/// A model that is served.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) unlisted: Vec<String>,
    pub(crate) text: Arc<TextKit>,
    pub(crate) created: u64,
    pub(crate) defaults: Sampling,
    pub(crate) about: About,
    pub(crate) runner: Runner,
}

impl Model {
    /// All names that it answers to.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).chain(&self.unlisted).map(String::as_str)
    }

    /// Whether it answers to this name.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.names().any(|n| n == name)
    }

    /// Whether requests run or wait.
    pub(crate) fn is_busy(&self) -> bool {
        let mailbox = &self.runner.mailbox;
        mailbox.queued() > 0 || mailbox.metrics.running.load(Relaxed) > 0
    }
}

/// Only ever goes down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Taking requests (once there are models).
    Open,
    /// No new requests; running ones may end.
    Draining,
    /// Running ones are ended by an error event.
    Cut,
    /// Gone.
    Stopped,
}

pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) gate: Gate,
    pub(crate) phase: watch::Sender<Phase>,
    models: OnceLock<Vec<Arc<Model>>>,
    pub(crate) metrics: Metrics,
    pub(crate) peers: Peers,
    pub(crate) bodies: Arc<Semaphore>,
    pub(crate) text_jobs: Arc<Semaphore>,
    /// Requests so far that want something; probes do not count.
    pub(crate) asked: AtomicU64,
    pub(crate) responses: Responses,
    /// Where traces go, if anywhere.
    pub(crate) exporter: Option<Arc<Exporter>>,
    /// Compressors of all WebSockets.
    pub(crate) deflate: DeflatePool,
    random: RandomState,
    next_id: AtomicU64,
}

impl App {
    pub(crate) fn new(config: Config, gate: Gate, exporter: Option<Exporter>) -> Self {
        Self {
            gate,
            phase: watch::Sender::new(Phase::Open),
            models: OnceLock::new(),
            metrics: Metrics::default(),
            peers: Peers::default(),
            bodies: crate::body::budget(&config.limits),
            text_jobs: Arc::new(Semaphore::new(config.limits.text_jobs.max(1))),
            asked: AtomicU64::new(0),
            responses: Responses::default(),
            exporter: exporter.map(Arc::new),
            deflate: DeflatePool::default(),
            random: RandomState::new(),
            next_id: AtomicU64::new(1),
            config,
        }
    }

    pub(crate) fn add_models(&self, served: Vec<Served>) -> Result<(), ServeError> {
        let mut names: Vec<&str> =
            served.iter().flat_map(|s| s.aliases.iter().chain([&s.name])).map(|s| &**s).collect();
        names.sort_unstable();
        if names.is_empty() {
            return Err(ServeError::Models("empty"));
        }
        if names.windows(2).any(|w| w[0] == w[1]) || names.contains(&"") {
            return Err(ServeError::Models("with a name twice or an empty one"));
        }
        if self.models.get().is_some() {
            return Err(ServeError::Models("a second time"));
        }
        let mut models = Vec::new();
        for s in served {
            let Served { name, aliases, unlisted, stepper, text, created, defaults, keeper, about } = s;
            let runner = runner::start(&name, stepper, keeper, self.config.limits.queue)?;
            models.push(Arc::new(Model { name, aliases, unlisted, text, created, defaults, about, runner }));
        }
        self.models.set(models).map_err(|_| ServeError::Models("a second time"))
    }

    /// Empty while loading.
    pub(crate) fn models(&self) -> &[Arc<Model>] {
        self.models.get().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Never goes back.
    pub(crate) fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|p| {
            let is_later = to > *p;
            if is_later {
                *p = to;
            }
            is_later
        });
    }

    /// A number that was not used before in this process.
    pub(crate) fn mint(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    /// 64 bits of these parts; nobody who does not know this process' key can find parts with the same bits.
    pub(crate) fn keyed_hash<T: Hash>(&self, parts: T) -> u64 {
        self.random.hash_one(parts)
    }

    /// 64 bits that a client cannot guess, different for each `of`.
    pub(crate) fn random(&self, of: u64) -> u64 {
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(of);
        hasher.finish()
    }
}
