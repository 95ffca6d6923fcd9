//! When the frames of a stream leave, over server-sent events and WebSockets alike: at once, until they follow each other faster
//! than anybody can read.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

use crate::notes::Notes;

/// Steps of the engine that take less than half of this leave together, one frame in this time. A write and the threads that it
/// wakes take a hundred microseconds of a core that the engine would have used; a screen shows a picture every 16 ms. The end of an
/// answer never waits.
const PACE: Duration = Duration::from_millis(16);
/// Frames that follow each other so fast before one waits, so that short answers never do.
const PACE_AFTER: u32 = 16;

/// When the next frame may leave.
pub(crate) struct Pace {
    /// Rings `PACE` after the last frame.
    timer: Pin<Box<Sleep>>,
    /// When the last frame left.
    last: Instant,
    /// Frames that came within half of `PACE` of the one before, or waited and then held more than one step of the engine.
    quick: u32,
    /// Steps in the frame that grows.
    steps: u32,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { timer: Box::pin(sleep(Duration::ZERO)), last: Instant::now(), quick: 0, steps: 0 }
    }

    /// Ready when a frame may leave. Until then nobody asks for what the engine says, so nothing wakes this thread for it.
    pub(crate) fn poll(&mut self, notes: &mut Notes, cx: &mut Context<'_>) -> Poll<()> {
        if self.quick < PACE_AFTER || notes.poll_end(cx).is_ready() {
            return Poll::Ready(());
        }
        self.timer.as_mut().poll(cx)
    }

    /// The same as something to wait for; whoever stops waiting loses nothing.
    pub(crate) async fn wait(&mut self, notes: &mut Notes) {
        std::future::poll_fn(|cx| self.poll(notes, cx)).await;
    }

    /// A step of the engine is in the frame that grows.
    pub(crate) fn step(&mut self) {
        self.steps = self.steps.saturating_add(1);
    }

    /// A frame leaves.
    pub(crate) fn left(&mut self) {
        let now = Instant::now();
        self.quick = quick(self.quick, now.duration_since(self.last), self.steps);
        (self.last, self.steps) = (now, 0);
        if self.quick >= PACE_AFTER {
            self.timer.as_mut().reset(now + PACE);
        }
    }
}

/// Quick frames in a row, after one that left so long after the one before, with so many steps in it.
fn quick(before: u32, since: Duration, steps: u32) -> u32 {
    let is_quick = if before >= PACE_AFTER { steps > 1 } else { since < PACE / 2 };
    if is_quick { before.saturating_add(1) } else { 0 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_streams_that_stay_fast_wait() {
        let ms = Duration::from_millis;
        let after = |n: u32, since: Duration| (0..n).fold(0, |before, _| quick(before, since, 1));
        assert!(after(PACE_AFTER - 1, ms(1)) < PACE_AFTER, "a short answer never waits");
        assert_eq!(after(PACE_AFTER, ms(1)), PACE_AFTER);
        assert_eq!(after(1000, PACE / 2), 0, "a slow one neither");
        assert!(quick(PACE_AFTER, PACE, 2) > PACE_AFTER, "it goes on while waiting gathers something");
        assert_eq!(quick(PACE_AFTER, PACE, 1), 0, "and stops when it does not");
        assert_eq!(quick(u32::MAX, PACE, 3), u32::MAX);
    }

    #[test]
    fn a_fast_stream_waits_and_the_wait_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut pace = Pace::new();
            let (sender, mut notes) = crate::notes::channel();
            let began = Instant::now();
            pace.wait(&mut notes).await; // not yet
            (pace.quick, pace.steps) = (PACE_AFTER, 2);
            pace.left();
            assert_eq!((pace.quick, pace.steps), (PACE_AFTER + 1, 0));
            let stopped = tokio::time::timeout(Duration::ZERO, pace.wait(&mut notes)).await;
            assert!(stopped.is_err() || began.elapsed() >= PACE);
            pace.wait(&mut notes).await;
            assert!(began.elapsed() >= PACE);
            pace.left();
            assert_eq!(pace.quick, 0, "waiting brought nothing");
            pace.wait(&mut notes).await;
            drop(sender);
        });
    }

    #[test]
    fn the_end_of_an_answer_does_not_wait() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (sender, mut notes) = crate::notes::channel();
            let timer = Box::pin(sleep(Duration::from_secs(3600)));
            let mut pace = Pace { quick: PACE_AFTER, timer, ..Pace::new() };
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let other = sender.clone();
            drop(sender);
            assert!(pace.poll(&mut notes, &mut cx).is_pending(), "one of two choices goes on");
            drop(other);
            assert!(pace.poll(&mut notes, &mut cx).is_ready());
            assert!(pace.poll(&mut notes, &mut cx).is_ready(), "and again, while what was said is read");
        });
    }
}
