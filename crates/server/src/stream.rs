//! Answers on their way out: as server-sent events, pulled by the connection as fast as its client reads, or whole.
//! All tokens of a step are one chunk (with log-probabilities, one each), and all chunks that are ready leave in one write.

use axum::body::{Body, Bytes};
use axum::http::Response;
use http_body::Frame;
use protocol::chat::{ChatChoice, ChatCompletion, ChatLogprobs, ReplyMessage};
use protocol::chunks::{self, Chunks, Shape};
use protocol::completion::{Completion, CompletionChoice, CompletionLogprobs};
use protocol::{ApiError, ReplyCall, ServiceTier};
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

use crate::answer::{Answer, Piece, Scored};
use crate::app::{App, Phase};
use crate::dialect;
use crate::frames::Pace;
use crate::generate::{engine_stopped, shutting_down, sse_response};
use crate::infill::Told;
use crate::notes::Notes;
use crate::responses::turn::Turn;
use crate::tools::Said;

/// A frame is sent when it has grown to this many bytes, even if more is ready.
const FRAME_BYTES: usize = 16 * 1024;

/// The body of a streamed answer. Dropping it (the client has gone) cancels the request.
pub(crate) struct SseBody {
    app: Arc<App>,
    answer: Answer,
    notes: Notes,
    writer: Writer,
    out: Vec<u8>,
    is_ended: bool,
    heartbeat: Duration,
    ping: Pin<Box<Sleep>>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_cut: bool,
    pace: Pace,
}

/// In whose shape a stream is written.
pub(crate) enum Writer {
    OpenAi(OpenAi),
    Infill(Told),
    Responses(Box<Turn>),
    Dialect(dialect::Told),
}

/// OpenAI's chunks.
pub(crate) struct OpenAi {
    pub(crate) chunks: Chunks,
    pub(crate) shape: Shape,
    pub(crate) include_usage: bool,
    /// Characters of each choice so far, for log-probabilities.
    pub(crate) offsets: Vec<u64>,
}

impl OpenAi {
    /// Appends the chunks for a piece.
    fn write(&mut self, out: &mut Vec<u8>, piece: &Piece, answer: &Answer) {
        let index = piece.choice as u32;
        if answer.has_tools() {
            self.write_said(out, piece, answer);
        } else if !piece.text.is_empty() || !piece.logprobs.is_empty() {
            match self.shape {
                Shape::Chat => {
                    let logprobs = some(&piece.logprobs).map(|l| answer.chat_logprobs(l));
                    self.chunks.text(out, index, &piece.text, logprobs.as_ref());
                }
                Shape::Completion => {
                    let offset = &mut self.offsets[piece.choice];
                    let logprobs = some(&piece.logprobs).map(|l| answer.completion_logprobs(l, offset));
                    self.chunks.text(out, index, &piece.text, logprobs.as_ref());
                }
            }
        }
        let Some(reason) = piece.finish else { return };
        let timings = answer.is_done().then(|| answer.timings());
        self.chunks.finish(out, index, reason, timings.as_ref().filter(|_| !self.include_usage));
        if let Some(timings) = timings {
            if self.include_usage {
                self.chunks.usage(out, &answer.usage(), &timings);
            }
            out.extend_from_slice(chunks::DONE);
        }
    }
}

impl OpenAi {
    /// Appends the chunks for a piece with calls. Log-probabilities of all its tokens, those of calls too, come first.
    fn write_said(&self, out: &mut Vec<u8>, piece: &Piece, answer: &Answer) {
        let index = piece.choice as u32;
        if let Some(scored) = some(&piece.logprobs) {
            self.chunks.text(out, index, "", Some(&answer.chat_logprobs(scored)));
        }
        for said in &piece.said {
            match said {
                Said::Text(text) => self.chunks.text(out, index, text, None::<&ChatLogprobs>),
                Said::Call { place, id, kind, name } => self.chunks.call(out, index, *place, id, *kind, name),
                Said::Input { place, kind, text } => self.chunks.call_input(out, index, *place, *kind, text),
                Said::End { .. } => {}
            }
        }
    }
}

impl SseBody {
    pub(crate) fn new(app: &Arc<App>, answer: Answer, notes: Notes, mut writer: Writer) -> Self {
        let heartbeat = app.config.limits.heartbeat;
        let mut out = Vec::with_capacity(1024);
        match &mut writer {
            Writer::OpenAi(w) => (0..answer.len()).for_each(|index| w.chunks.begin(&mut out, index as u32)),
            Writer::Infill(_) | Writer::Dialect(_) => {}
            Writer::Responses(turn) => turn.begin(&mut out),
        }
        Self {
            app: Arc::clone(app),
            answer,
            notes,
            writer,
            out,
            is_ended: false,
            heartbeat,
            ping: Box::pin(sleep(heartbeat)),
            cut: Box::pin(until_cut(app)),
            is_cut: false,
            pace: Pace::new(),
        }
    }

    /// Fills `out`; ready when there is something to send or nothing will come.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pace.poll(&mut self.notes, cx).is_pending() && !self.is_cut(cx) {
            return Poll::Pending;
        }
        while !self.is_ended && self.out.len() < FRAME_BYTES {
            match self.notes.poll_recv(cx) {
                Poll::Ready(Some(note)) => {
                    self.pace.step();
                    match self.answer.take(note) {
                        Ok(Some(piece)) => self.write(&piece),
                        Ok(None) => {}
                        Err(e) => self.fail(&e),
                    }
                }
                Poll::Ready(None) => self.fail(&engine_stopped()),
                Poll::Pending => break,
            }
        }
        if !self.out.is_empty() || self.is_ended {
            return Poll::Ready(());
        }
        if self.is_cut(cx) {
            self.fail(&shutting_down());
            return Poll::Ready(());
        }
        ready!(self.ping.as_mut().poll(cx));
        match &self.writer {
            Writer::Dialect(w) => w.ping(&mut self.out),
            _ => self.out.extend_from_slice(chunks::PING),
        }
        Poll::Ready(())
    }

    /// Running answers shall end.
    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_cut = self.is_cut || self.cut.as_mut().poll(cx).is_ready();
        self.is_cut
    }

    fn write(&mut self, piece: &Piece) {
        let began = std::time::Instant::now();
        match &mut self.writer {
            Writer::OpenAi(w) => w.write(&mut self.out, piece, &self.answer),
            Writer::Infill(w) => w.write(&mut self.out, piece, &self.answer),
            Writer::Responses(turn) => turn.write(&mut self.out, piece, &self.answer),
            Writer::Dialect(w) => w.write(&mut self.out, piece, &self.answer),
        }
        self.answer.encoded(began.elapsed());
        self.is_ended = self.answer.is_done();
    }

    fn fail(&mut self, error: &ApiError) {
        self.is_ended = true;
        self.answer.failed(error);
        match &mut self.writer {
            Writer::Responses(turn) => turn.fail(&mut self.out, error),
            Writer::Dialect(w) => w.fail(&mut self.out, error),
            Writer::Infill(_) => chunks::error_event(&mut self.out, error),
            Writer::OpenAi(_) => {
                chunks::error_event(&mut self.out, error);
                self.out.extend_from_slice(chunks::DONE);
            }
        }
    }
}

fn some<T>(list: &[T]) -> Option<&[T]> {
    (!list.is_empty()).then_some(list)
}

/// A stream that is complete already.
pub(crate) fn static_sse(events: Vec<u8>) -> Result<Response<Body>, ApiError> {
    sse_response(http_body_util::Full::new(Bytes::from(events)))
}

async fn until_cut_of(mut phase: tokio::sync::watch::Receiver<Phase>) {
    let _ = phase.wait_for(|p| *p >= Phase::Cut).await;
}

/// Ends when running answers shall end.
fn until_cut(app: &App) -> impl Future<Output = ()> + Send + 'static {
    until_cut_of(app.phase.subscribe())
}

impl http_body::Body for SseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        match catch_unwind(AssertUnwindSafe(|| this.fill(cx))) {
            Ok(filled) => ready!(filled),
            Err(_) => {
                this.app.metrics.panics.fetch_add(1, Relaxed);
                this.out.clear();
                this.fail(&ApiError::internal("Writing the answer failed by a bug in the server. Please report it."));
            }
        }
        if this.out.is_empty() {
            return Poll::Ready(None);
        }
        this.pace.left();
        this.ping.as_mut().reset(Instant::now() + this.heartbeat);
        // Not copied: an idle stream keeps no buffer.
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(std::mem::take(&mut this.out))))))
    }
}

/// Where a whole answer comes from.
pub(crate) struct Whole {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) fingerprint: String,
    pub(crate) service_tier: Option<ServiceTier>,
    pub(crate) shape: Shape,
}

#[derive(Default)]
pub(crate) struct Collected {
    /// Without the calls.
    pub(crate) text: String,
    pub(crate) calls: Vec<ReplyCall>,
    logprobs: Vec<Scored>,
    finish: Option<protocol::FinishReason>,
}

impl Collected {
    fn take(&mut self, said: Said) {
        match said {
            Said::Text(text) => self.text.push_str(&text),
            Said::Call { id, kind, name, .. } => self.calls.push(ReplyCall::new(id, kind, name)),
            Said::Input { text, .. } => self.calls.iter_mut().last().into_iter().for_each(|c| c.push(&text)),
            Said::End { .. } => {}
        }
    }
}

/// Waits for the whole answer.
///
/// # Errors
/// The request failed, or the server is going down.
pub(crate) async fn collect(app: &App, answer: &mut Answer, mut notes: Notes) -> Result<Vec<Collected>, ApiError> {
    let mut choices: Vec<Collected> = std::iter::repeat_with(Collected::default).take(answer.len()).collect();
    let cut = until_cut(app);
    tokio::pin!(cut);
    while !answer.is_done() {
        let note = tokio::select! {
            note = notes.recv() => note.ok_or_else(engine_stopped)?,
            () = &mut cut => return Err(shutting_down()),
        };
        let Some(piece) = answer.take(note)? else { continue };
        let choice = &mut choices[piece.choice];
        if answer.has_tools() {
            piece.said.into_iter().for_each(|said| choice.take(said));
        } else {
            choice.text.push_str(&piece.text);
        }
        choice.logprobs.extend(piece.logprobs);
        choice.finish = piece.finish;
    }
    Ok(choices)
}

/// Waits for the whole answer of a turn.
///
/// # Errors
/// As `collect`.
pub(crate) async fn finish(app: &App, mut answer: Answer, mut notes: Notes, turn: &mut Turn) -> Result<(), ApiError> {
    let cut = until_cut(app);
    tokio::pin!(cut);
    while !answer.is_done() {
        let note = tokio::select! {
            note = notes.recv() => note.ok_or_else(engine_stopped)?,
            () = &mut cut => return Err(shutting_down()),
        };
        if let Some(piece) = answer.take(note)? {
            turn.write(&mut Vec::new(), &piece, &answer);
        }
    }
    Ok(())
}

impl Whole {
    /// Its JSON.
    pub(crate) fn render(self, answer: &Answer, choices: Vec<Collected>) -> Result<Vec<u8>, ApiError> {
        let Self { id, created, model, fingerprint, service_tier, shape } = self;
        let (usage, timings) = (Some(answer.usage()), Some(answer.timings()));
        let system_fingerprint = Some(fingerprint);
        let numbered = (0u32..).zip(choices);
        let json = match shape {
            Shape::Chat => serde_json::to_vec(&ChatCompletion {
                id,
                object: "chat.completion".to_owned(),
                created,
                model,
                system_fingerprint,
                service_tier,
                choices: numbered.map(|(index, c)| chat_choice(answer, index, c)).collect(),
                usage,
                timings,
            }),
            Shape::Completion => serde_json::to_vec(&Completion {
                id,
                object: "text_completion".to_owned(),
                created,
                model,
                system_fingerprint,
                service_tier,
                choices: numbered.map(|(index, c)| completion_choice(answer, index, c)).collect(),
                usage,
                timings,
            }),
        };
        json.map_err(|e| ApiError::internal(format!("The answer cannot be written: {e}.")))
    }
}

fn chat_choice(answer: &Answer, index: u32, c: Collected) -> ChatChoice {
    let is_call_only = c.text.is_empty() && !c.calls.is_empty();
    ChatChoice {
        index,
        message: ReplyMessage {
            role: "assistant".to_owned(),
            content: (!is_call_only).then_some(c.text),
            refusal: None,
            tool_calls: c.calls,
        },
        logprobs: some(&c.logprobs).map(|l| answer.chat_logprobs(l)),
        finish_reason: c.finish,
    }
}

fn completion_choice(answer: &Answer, index: u32, c: Collected) -> CompletionChoice {
    let logprobs: Option<CompletionLogprobs> = some(&c.logprobs).map(|l| answer.completion_logprobs(l, &mut 0));
    CompletionChoice { index, text: c.text, logprobs, finish_reason: c.finish }
}
