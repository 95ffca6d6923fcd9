//! What the editor is told about the server: is it there, which model, how fast. A look for a server that runs already costs
//! a moment in a thread of its own and starts none, so the truth is known before anybody has asked for a suggestion.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::driver::{Driver, Told};
use crate::out::Out;
use crate::rpc;

/// Between two notifications, at least.
const GAP: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Looked {
    is_looking: bool,
    /// Of a server that was found.
    model: Option<String>,
    /// When it was told last, and what.
    told: Option<(Instant, Value)>,
}

/// See above. Clones share everything.
#[derive(Clone)]
pub struct Status {
    out: Out,
    backend: Arc<dyn Backend>,
    told: Arc<Mutex<Told>>,
    n_accepted: Arc<AtomicU64>,
    looked: Arc<Mutex<Looked>>,
}

impl Status {
    /// Nothing is known yet.
    pub fn new(out: Out, backend: Arc<dyn Backend>, driver: &Driver) -> Self {
        Self { out, backend, told: driver.telling(), n_accepted: Arc::default(), looked: Arc::default() }
    }

    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was taken.
    pub fn accepted(&self) {
        self.n_accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// How it is now.
    pub fn now(&self) -> Value {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let model = if told.model.is_empty() { self.looked().model.clone() } else { Some(told.model) };
        let state = match (&told.error, &model) {
            (Some(_), _) => "offline",
            (None, Some(_)) => "ready",
            (None, None) => "starting",
        };
        json!({
            "state": state,
            "model": model.unwrap_or_default(),
            "ttft_ms": told.speed.ttft_ms.round(),
            "tps": (10_000.0 / told.speed.decode_ms.max(0.1)).round() / 10.0,
            "asked": told.counts.asked,
            "cancelled": told.counts.cancelled,
            "accepted": self.n_accepted.load(Ordering::Relaxed),
            "error": told.error,
        })
    }

    /// Tells it if it has changed, now and then.
    pub fn tell(&self) {
        if self.looked().told.as_ref().is_none_or(|(at, _)| at.elapsed() >= GAP) {
            // An answer that was stopped when there was enough of it did not say whose it was.
            if self.told.lock().unwrap_or_else(PoisonError::into_inner).counts.asked > 0 {
                self.look();
            }
            self.tell_now();
        }
    }

    fn tell_now(&self) {
        let now = self.now();
        let mut looked = self.looked();
        if looked.told.as_ref().is_none_or(|(_, last)| *last != now) {
            self.out.send(rpc::notification("vonk/status", &now));
        }
        looked.told = Some((Instant::now(), now));
    }

    /// Looks for a server that runs, if none is known; one look at a time.
    pub fn look(&self) {
        {
            let mut looked = self.looked();
            if looked.is_looking || looked.model.is_some() {
                return;
            }
            looked.is_looking = true;
        }
        let this = self.clone();
        let look = move || {
            let model = this.backend.look();
            let is_found = model.is_some();
            {
                let mut looked = this.looked();
                (looked.is_looking, looked.model) = (false, model);
            }
            if is_found {
                this.tell_now();
            }
        };
        if std::thread::Builder::new().name("look".to_owned()).spawn(look).is_err() {
            self.looked().is_looking = false;
        }
    }
}
