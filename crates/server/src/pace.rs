//! How fast answers end while the engine works, for an honest `Retry-After`.

use base::limits;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Times are working time: while nobody asks, nothing ends, and that says nothing about speed.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// Working time at which the last answers ended; the first one is where counting begins.
    ends: VecDeque<Duration>,
    worked: Duration,
    since: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        let mut ends = VecDeque::with_capacity(limits::PACE_FINISHES_MAX + 2);
        ends.push_back(Duration::ZERO);
        Self(Mutex::new(Inner { ends, worked: Duration::ZERO, since: None }))
    }
}

impl Inner {
    fn worked(&self, now: Instant) -> Duration {
        self.worked + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

impl Pace {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine has something to do.
    pub(crate) fn work(&self, now: Instant) {
        self.lock().since.get_or_insert(now);
    }

    /// The engine has nothing to do.
    pub(crate) fn rest(&self, now: Instant) {
        let mut inner = self.lock();
        inner.worked = inner.worked(now);
        inner.since = None;
    }

    /// An answer has ended.
    pub(crate) fn ended(&self, now: Instant) {
        let mut inner = self.lock();
        let worked = inner.worked(now);
        inner.ends.push_back(worked);
        if inner.ends.len() > limits::PACE_FINISHES_MAX + 1 {
            inner.ends.pop_front();
        }
    }

    /// Seconds until `queued` sequences and one more have ended, if it goes on like this. Before any has ended, the
    /// first one is taken to end now.
    pub(crate) fn retry_after_s(&self, queued: usize, now: Instant) -> u32 {
        let inner = self.lock();
        let ended = inner.ends.len().saturating_sub(1).max(1);
        let span = inner.worked(now).saturating_sub(inner.ends.front().copied().unwrap_or_default());
        let s = span.as_secs_f64() / ended as f64 * queued.saturating_add(1) as f64;
        (s.ceil() as u32).clamp(1, limits::RETRY_AFTER_S_MAX) // a float beyond u32 becomes its greatest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_follows_the_queue_and_the_rate() {
        let (pace, start) = (Pace::default(), Instant::now());
        let at = |s: f64| start + Duration::from_secs_f64(s);
        assert_eq!(pace.retry_after_s(0, at(0.0)), 1, "never 0");
        pace.work(at(10.0));
        assert_eq!(pace.retry_after_s(9, at(10.5)), 5, "none has ended: one in half a second is the best guess");
        for i in 1..=4 {
            pace.ended(at(10.0 + 0.5 * f64::from(i))); // two a second
        }
        assert_eq!(pace.retry_after_s(9, at(12.0)), 5);
        assert_eq!(pace.retry_after_s(19, at(12.0)), 10);
        assert_eq!(pace.retry_after_s(usize::MAX, at(12.0)), limits::RETRY_AFTER_S_MAX);
        pace.rest(at(12.0));
        pace.work(at(5000.0)); // a quiet hour is not a slow one
        assert_eq!(pace.retry_after_s(9, at(5000.0)), 5);
        assert_eq!(pace.retry_after_s(9, at(5006.0)), 20, "but a long answer is");
        for i in 0..1000 {
            pace.ended(at(5006.0 + 0.1 * f64::from(i))); // ten a second: the old ones are forgotten
        }
        assert_eq!(pace.retry_after_s(29, at(5105.9)), 3);
    }
}
