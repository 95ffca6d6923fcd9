//! A request's news on their way from the engine's thread to whoever writes the answer: in order, with a bell for the end. So a
//! writer that lets news gather need not be woken for each of them, and still learns at once that no more will come.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};

use crate::runner::Note;

/// The engine's side: one for each choice of a request, dropped when the choice has ended.
#[derive(Clone)]
pub(crate) struct NoteSender {
    notes: mpsc::UnboundedSender<Note>,
    _is_open: Arc<oneshot::Sender<Infallible>>,
}

/// The writer's side. It holds at most `max_tokens` entries for each choice, and a few more.
pub(crate) struct Notes {
    notes: mpsc::UnboundedReceiver<Note>,
    end: oneshot::Receiver<Infallible>,
}

pub(crate) fn channel() -> (NoteSender, Notes) {
    let ((to, notes), (is_open, end)) = (mpsc::unbounded_channel(), oneshot::channel());
    (NoteSender { notes: to, _is_open: Arc::new(is_open) }, Notes { notes, end })
}

impl NoteSender {
    /// Nobody may be there to hear it.
    pub(crate) fn send(&self, note: Note) {
        let _ = self.notes.send(note);
    }
}

impl Notes {
    /// The next, or `None` when all choices have ended and all was read.
    pub(crate) async fn recv(&mut self) -> Option<Note> {
        self.notes.recv().await
    }

    /// The same.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Note>> {
        self.notes.poll_recv(cx)
    }

    /// What is there already.
    pub(crate) fn try_recv(&mut self) -> Option<Note> {
        self.notes.try_recv().ok()
    }

    /// `recv` for threads of their own.
    #[cfg(test)]
    pub(crate) fn blocking_recv(&mut self) -> Option<Note> {
        self.notes.blocking_recv()
    }

    /// Ready when all choices have ended; what they said may still be unread.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The end may be asked for again and again.
        if self.end.is_terminated() { Poll::Ready(()) } else { Pin::new(&mut self.end).poll(cx).map(|_| ()) }
    }
}
