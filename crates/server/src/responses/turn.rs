//! One answer of the Responses API while it is made: its events, and what is kept of it.

use protocol::responses::{End, Head, Item, ResponseWriter, Shape};
use protocol::{ApiError, FinishReason};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::answer::{Answer, Piece};
use crate::app::App;
use crate::caller::Caller;
use crate::responses::Asked;
use crate::responses::store::Thread;
use crate::tools::Said;

/// What is kept of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Nothing,
    /// To be continued for some minutes.
    Thread,
    /// To be continued and fetched.
    All,
}

/// An answer that is made.
pub(crate) struct Turn {
    app: Arc<App>,
    key: u64,
    keep: Keep,
    before: Thread,
    input: Vec<Item>,
    is_warm_up: bool,
    writer: ResponseWriter,
    /// The whole answer, when it has ended.
    pub(crate) whole: Vec<u8>,
    /// The conversation with this answer, when it has ended well.
    pub(crate) thread: Option<Thread>,
}

impl Turn {
    pub(crate) fn new(app: &Arc<App>, caller: &Caller, asked: &mut Asked, keep: Keep, shape: Shape) -> Self {
        let Asked { request, before, model } = asked;
        let key = app.random(app.mint());
        let is_warm_up = request.is_warm_up();
        let head = Head {
            id: format!("resp_{key:016x}"),
            key,
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            model: model.name.clone(),
            fingerprint: model.runner.info.fingerprint.clone(),
            previous: request.previous_response_id.clone(),
            echo: std::mem::take(&mut request.echo),
            names: request.names.clone(),
            is_warm_up,
        };
        Self {
            app: Arc::clone(app),
            key: caller.key,
            keep,
            before: before.clone(),
            input: if keep == Keep::Nothing { Vec::new() } else { request.input.clone() },
            is_warm_up,
            writer: ResponseWriter::new(head, shape),
            whole: Vec::new(),
            thread: None,
        }
    }

    pub(crate) fn id(&self) -> &str {
        self.writer.id()
    }

    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        self.writer.begin(out);
    }

    /// Appends the events for a piece, and those of the end when it is the last one.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, piece: &Piece, answer: &Answer) {
        self.say(out, piece, answer);
        match piece.finish {
            None => {}
            Some(FinishReason::Length) if !self.is_warm_up => {
                self.end(out, &End::Incomplete("max_output_tokens"), Some(answer));
            }
            Some(_) => self.end(out, &End::Completed, Some(answer)),
        }
    }

    fn say(&mut self, out: &mut Vec<u8>, piece: &Piece, answer: &Answer) {
        let mut logprobs = (!piece.logprobs.is_empty()).then(|| answer.chat_logprobs(&piece.logprobs));
        if !answer.has_tools() {
            if !piece.text.is_empty() || logprobs.is_some() {
                self.writer.text(out, &piece.text, logprobs);
            }
            return;
        }
        for said in &piece.said {
            match said {
                Said::Text(text) => self.writer.text(out, text, logprobs.take()),
                Said::Call { id, name, .. } => self.writer.call(out, name, id.clone()),
                Said::Input { text, .. } => self.writer.arguments(out, text),
                Said::End { .. } => self.writer.call_end(out),
            }
        }
    }

    /// Appends the events of the end, and keeps what is to be kept. What was said before a failure is not: the client
    /// was told that there is no answer.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>, end: &End, answer: Option<&Answer>) {
        let usage = answer.map(Answer::usage).unwrap_or_default();
        let timings = answer.map(Answer::timings).unwrap_or_default();
        self.whole = self.writer.end(out, end, &usage, &timings);
        if self.keep == Keep::Nothing || matches!(end, End::Failed(_)) {
            return;
        }
        let json = (self.keep == Keep::All).then(|| self.whole.clone());
        let items = std::mem::take(&mut self.input).into_iter().chain(self.writer.items().iter().cloned());
        let thread = self.app.responses.grown(&self.before, items.collect());
        self.app.responses.keep(self.writer.id(), self.key, thread.clone(), json);
        self.thread = Some(thread);
    }

    /// The person has said more.
    pub(crate) fn steered(&mut self, out: &mut Vec<u8>) {
        let id = format!("steer_{:016x}", self.app.random(self.app.mint()));
        self.writer.steered(out, &id);
    }

    /// Ends it here and now, with what was said.
    pub(crate) fn interrupt(&mut self, out: &mut Vec<u8>, mut answer: Option<&mut Answer>, why: &'static str) {
        if let Some(answer) = &mut answer {
            let piece = answer.interrupt();
            self.say(out, &piece, answer);
        }
        self.end(out, &End::Incomplete(why), answer.as_deref());
    }

    /// Ends it by an error.
    pub(crate) fn fail(&mut self, out: &mut Vec<u8>, error: &ApiError) {
        self.end(out, &End::Failed(error.clone()), None);
    }
}
