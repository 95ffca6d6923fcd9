//! The thread that writes usage and follows the file: it looks a few times a second, so a kill loses less than a second.

use crate::meter::Shared;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The thread, and how to end it.
pub(crate) struct Ledger {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Stop {
    is_set: Mutex<bool>,
    wake: Condvar,
}

impl Ledger {
    pub(crate) fn start(shared: Arc<Shared>, tick: Duration) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let for_thread = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            while !for_thread.waits(tick) {
                shared.tick();
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it, after what it is doing.
    pub(crate) fn end(self) {
        *self.stop.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.wake.notify_all();
        let _ = self.thread.join();
    }
}

impl Stop {
    /// True when it is time to end.
    fn waits(&self, tick: Duration) -> bool {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        *self.wake.wait_timeout_while(is_set, tick, |s| !*s).unwrap_or_else(PoisonError::into_inner).0
    }
}
