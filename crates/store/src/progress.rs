//! How a pull tells what it is doing: a trait that a progress bar, a log or a test implements.

use std::time::{Duration, Instant};

/// Something worth showing. Text in it is safe to print.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Another process fetches the same file; this one waits for it. `Bytes` events follow from the file's growth.
    Waiting {
        /// The model.
        name: &'a str,
    },
    /// A source is tried now.
    Source {
        /// The source, as a person would name it.
        source: &'a str,
        /// Bytes that an earlier, interrupted pull left and that need not come again.
        resumed_at: u64,
    },
    /// Within a source: what it fetches now (package 2 of 6, say).
    Step {
        /// One line.
        what: &'a str,
    },
    /// Bytes so far. Never goes backwards within one source.
    Bytes {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// Recent speed.
        bytes_per_s: f64,
    },
    /// A source failed; the next one, if any, is tried.
    SourceFailed {
        /// The source.
        source: &'a str,
        /// Why.
        why: &'a str,
    },
    /// Something a person should know: a damaged record was dropped, say.
    Note {
        /// One line.
        what: &'a str,
    },
    /// The file is complete, checked and in the store.
    Done {
        /// The model.
        name: &'a str,
        /// Its bytes.
        bytes: u64,
    },
}

/// Receives events. Called from the pulling thread, some ten times a second at most.
pub trait Progress {
    /// Takes one event.
    fn event(&mut self, event: Event<'_>);
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn event(&mut self, _event: Event<'_>) {}
}

impl<F: FnMut(Event<'_>)> Progress for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// Seconds between two `Bytes` events.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// The speed shown is a mean over about this long.
const SPEED_WINDOW_S: f64 = 3.0;

/// Turns byte counts into `Bytes` events: not too many, never backwards, with a speed.
pub(crate) struct Meter<'p> {
    progress: &'p mut dyn Progress,
    total: u64,
    shown: u64,
    at: Instant,
    bytes_per_s: f64,
}

impl<'p> Meter<'p> {
    pub fn new(progress: &'p mut dyn Progress, total: u64, done: u64) -> Self {
        Self { progress, total, shown: done, at: Instant::now(), bytes_per_s: 0.0 }
    }

    /// `done` bytes of the file are accounted for.
    pub fn at(&mut self, done: u64) {
        let passed = self.at.elapsed();
        if done <= self.shown || (passed < REPORT_EVERY && done < self.total) {
            return;
        }
        let seconds = passed.as_secs_f64().max(1e-6);
        let now = (done - self.shown) as f64 / seconds;
        let weight = if self.bytes_per_s == 0.0 { 1.0 } else { (seconds / SPEED_WINDOW_S).min(1.0) };
        self.bytes_per_s += (now - self.bytes_per_s) * weight;
        self.shown = done;
        self.at = Instant::now();
        self.progress.event(Event::Bytes { done, total: self.total, bytes_per_s: self.bytes_per_s });
    }

    /// The file starts again at `done` bytes.
    pub fn back_to(&mut self, done: u64) {
        self.shown = done;
        self.at = Instant::now();
    }

    pub fn step(&mut self, what: &str) {
        self.progress.event(Event::Step { what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_never_go_backwards_and_the_end_is_always_shown() {
        let mut seen = Vec::new();
        let mut sink = |e: Event<'_>| {
            if let Event::Bytes { done, total, .. } = e {
                seen.push((done, total));
            }
        };
        let mut meter = Meter::new(&mut sink, 100, 10);
        for done in [20, 15, 30, 100, 100] {
            meter.at(done);
        }
        assert!(seen.windows(2).all(|w| w[0].0 < w[1].0), "{seen:?}");
        assert_eq!(seen.last(), Some(&(100, 100)));
    }
}
