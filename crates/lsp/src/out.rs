//! What goes to the editor: a thread writes, so that nobody else ever waits for an editor that does not read.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use base::limits::LSP_OUT_MAX;
use serde_json::Value;

use crate::rpc;

/// `usize::MAX` in `n_queued` says that the editor is gone or does not read.
const BROKEN: usize = usize::MAX;

/// The way out. Clones share it.
#[derive(Clone, Debug)]
pub struct Out {
    queue: Arc<Mutex<Option<Sender<Value>>>>,
    n_queued: Arc<AtomicUsize>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Out {
    /// Starts to write.
    pub fn start(mut output: impl Write + Send + 'static) -> Self {
        let (queue, messages) = channel::<Value>();
        let n_queued = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&n_queued);
        let write = move || {
            for message in messages {
                if rpc::write(&mut output, &message).is_err() {
                    return count.store(BROKEN, Ordering::SeqCst);
                }
                let _ = count
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n != BROKEN).then(|| n.saturating_sub(1)));
            }
        };
        let thread = std::thread::Builder::new().name("out".to_owned()).spawn(write).ok();
        Self { queue: Arc::new(Mutex::new(Some(queue))), n_queued, thread: Arc::new(Mutex::new(thread)) }
    }

    /// Queues a message.
    pub fn send(&self, message: Value) {
        let grown = self.n_queued.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| match n {
            BROKEN => None,
            n if n >= LSP_OUT_MAX => Some(BROKEN),
            n => Some(n + 1),
        });
        if grown.is_ok_and(|n| n < LSP_OUT_MAX)
            && let Some(queue) = &*self.queue.lock().unwrap_or_else(PoisonError::into_inner)
        {
            let _ = queue.send(message); // the writer has ended: that is told by `is_broken`
        }
    }

    /// Whether the editor is gone or does not read.
    pub fn is_broken(&self) -> bool {
        self.n_queued.load(Ordering::SeqCst) == BROKEN
    }

    /// Writes what is queued, and ends.
    pub fn finish(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join(); // a panic there was told already
        }
    }
}
