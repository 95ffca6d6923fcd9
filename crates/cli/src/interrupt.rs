//! Ctrl-C ends what runs in an orderly way: a request is stopped at the server, a check is killed and its edit taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

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
    /// From now on. Without it (no thread, no signals) Ctrl-C ends the program as usual, which leaves whole files too.
    pub fn watch() -> Self {
        let interrupt = Self::default();
        let seen = interrupt.clone();
        let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    let is_second = seen.cancel.is_cancelled();
                    seen.cancel.cancel();
                    if is_second || seen.is_free.load(SeqCst) {
                        eprintln!();
                        std::process::exit(EXIT_CODE.into());
                    }
                }
            });
        });
        interrupt
    }

    /// Waits for a person.
    pub fn while_free<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.is_free.store(true, SeqCst);
        let out = wait();
        self.is_free.store(false, SeqCst);
        out
    }
}
