//! Ctrl-C ends what runs in an orderly way: a request is stopped at the server, a check is killed and its edit taken back.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::task::Poll;

use client::Cancel;

/// What the shell expects of a program that Ctrl-C ended.
pub const EXIT_CODE: u8 = 130;

/// Whether somebody pressed Ctrl-C.
#[derive(Clone, Default)]
pub struct Interrupt {
    /// Stops the request that it is given to.
    pub cancel: Cancel,
    /// Nothing is under way: Ctrl-C ends the program at once.
    is_free: Arc<AtomicBool>,
}

impl Interrupt {
    /// From now on: the signal is ours when this returns. Without it (no thread, no signals) Ctrl-C ends the program as usual,
    /// which leaves whole files too.
    pub fn watch() -> Self {
        let interrupt = Self::default();
        let (seen, (ready, is_ready)) = (interrupt.clone(), channel());
        let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(seen.listen(&ready));
        });
        let _ = is_ready.recv(); // an error: the thread has ended, nobody listens
        interrupt
    }

    async fn listen(self, ready: &Sender<()>) {
        // The first look at it is what asks the system for the signal.
        let mut press = Box::pin(tokio::signal::ctrl_c());
        let mut pressed = poll_fn(|context| Poll::Ready(press.as_mut().poll(context))).await;
        let _ = ready.send(()); // who does not wait need not know
        loop {
            let done = match pressed {
                Poll::Ready(done) => done,
                Poll::Pending => press.as_mut().await,
            };
            if done.is_err() {
                return;
            }
            let is_second = self.cancel.is_cancelled();
            self.cancel.cancel();
            if is_second || self.is_free.load(SeqCst) {
                eprintln!();
                std::process::exit(EXIT_CODE.into());
            }
            press.set(tokio::signal::ctrl_c());
            pressed = Poll::Pending;
        }
    }

    /// Waits for a person.
    pub fn while_free<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.is_free.store(true, SeqCst);
        let out = wait();
        self.is_free.store(false, SeqCst);
        out
    }
}
