//! `GET /v1/responses` as a WebSocket: one response at a time, each from a `response.create` frame. The connection knows
//! the answer that it gave last, so a client sends only what is new. A new request, or `response.cancel`, ends the answer
//! that is being made after the present step and keeps what was said.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use base::limits;
use protocol::ApiError;
use protocol::responses::{End, Frame, ResponseRequest, Shape, Steer, error_frame, parse_frame};
use protocol::ws::{self, Message, WsError};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

use crate::answer::Answer;
use crate::app::{App, Phase};
use crate::auth;
use crate::body::Share;
use crate::caller::Caller;
use crate::frames::Pace;
use crate::generate::{Origin, check_open, engine_stopped, on_text_pool, shutting_down, started};
use crate::net::{Peer, Seat};
use crate::notes::Notes;
use crate::responses::store::Thread;
use crate::responses::turn::{Keep, Turn};
use crate::responses::wire::{Gone, Wire};
use crate::responses::{prepare, resolve};
use crate::runner::Note;
use crate::timing::{Arrival, Sent};
use crate::trace::{self, Trace};

/// Events are sent when they have grown to this many bytes, even if more is ready.
const SEND_BYTES: usize = 16 * 1024;

/// Answers the upgrade; the connection goes on in a task of its own.
///
/// # Errors
/// No upgrade, or not one to a WebSocket.
pub(crate) fn upgrade(
    app: &Arc<App>,
    peer: Peer,
    seat: Seat,
    mut request: Request,
) -> Result<Response<Body>, ApiError> {
    check_open(app)?;
    let (accept, deflate) = handshake(request.headers())?;
    let who = Who::of(request.headers(), peer.0);
    let upgraded = hyper::upgrade::on(&mut request);
    let shared = Arc::clone(app);
    tokio::spawn(async move {
        let _seat = seat;
        let Ok(io) = upgraded.await else { return };
        shared.metrics.websockets.fetch_add(1, Relaxed);
        let _gauge = Gauge(Arc::clone(&shared));
        let wire = Wire::new(&shared, io, deflate.is_some());
        let now = Instant::now();
        let (sent, last, like, work) = (peer.1, None, None, Work::Idle);
        Session { app: shared, who, wire, sent, last, like, work, asked: now, pinged: now }.run().await;
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(deflate) = deflate {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(deflate));
    }
    Ok(response)
}

/// Who has opened a socket: what says so is asked again for each answer.
struct Who {
    /// Those that show a key.
    headers: HeaderMap,
    ip: IpAddr,
    /// Where the traces of its turns go on.
    trace: Option<trace::Context>,
}

impl Who {
    fn of(headers: &HeaderMap, ip: IpAddr) -> Self {
        let shows_key = headers.iter().filter(|(name, _)| auth::KEY_HEADERS.contains(name));
        let headers = shows_key.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { headers, ip, trace: trace::context() }
    }
}

/// The proof for the client, and the terms of compression.
fn handshake(headers: &HeaderMap) -> Result<(HeaderValue, Option<&'static str>), ApiError> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let has = |name, word: &str| text(name).split(',').any(|t| t.trim().eq_ignore_ascii_case(word));
    if !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
        let message =
            "POST a request here, or open a WebSocket. GET /v1/responses/ID fetches an answer that was stored.";
        return Err(ApiError::of(426, "upgrade_required", message));
    }
    if text(header::SEC_WEBSOCKET_VERSION) != "13" {
        return Err(ApiError::bad_request("invalid_header", "Sec-WebSocket-Version must be 13."));
    }
    let accept = ws::accept_key(text(header::SEC_WEBSOCKET_KEY)).and_then(|a| HeaderValue::from_str(&a).ok());
    let accept = accept
        .ok_or_else(|| ApiError::bad_request("invalid_header", "Sec-WebSocket-Key must be the base64 of 16 bytes."))?;
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    let deflate = offers.filter_map(|v| v.to_str().ok()).find_map(ws::choose_deflate);
    Ok((accept, deflate))
}

/// Counts open WebSockets.
struct Gauge(Arc<App>);

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.metrics.websockets.fetch_sub(1, Relaxed);
    }
}

type Started = Result<(Answer, Notes), ApiError>;

/// What the connection is busy with. One for each connection.
#[allow(clippy::large_enum_variant, reason = "moved once an answer; a box would save bytes of idle connections only")]
enum Work {
    Idle,
    /// Rendering, tokenising, waiting for a slot.
    Starting {
        turn: Turn,
        job: Pin<Box<dyn Future<Output = Started> + Send>>,
    },
    Running {
        turn: Turn,
        answer: Answer,
        notes: Notes,
        pace: Pace,
    },
}

/// What the work has brought.
#[allow(clippy::large_enum_variant, reason = "on the stack, never stored")]
enum Progress {
    Started(Started),
    Note(Option<Note>),
}

impl Work {
    async fn next(&mut self) -> Progress {
        match self {
            Self::Idle => std::future::pending().await,
            Self::Starting { job, .. } => Progress::Started(job.await),
            Self::Running { notes, pace, .. } => {
                pace.wait(notes).await;
                Progress::Note(notes.recv().await)
            }
        }
    }
}

/// What happens next. One at a time.
#[allow(clippy::large_enum_variant, reason = "on the stack, never stored")]
enum Event {
    Message(Result<(Message, Share), Gone>),
    Progress(Progress),
    Phase,
    Time,
}

struct Session {
    app: Arc<App>,
    who: Who,
    wire: Wire,
    sent: Sent,
    /// The last answer, and the conversation up to it.
    last: Option<(String, Thread)>,
    work: Work,
    /// How the last answer was asked for, without what it was asked.
    like: Option<ResponseRequest>,
    /// When the last request ended or began.
    asked: Instant,
    pinged: Instant,
}

impl Session {
    async fn run(mut self) {
        let mut phase = self.app.phase.subscribe();
        let gone = loop {
            let now = *phase.borrow_and_update();
            if now >= Phase::Cut || now != Phase::Open && matches!(self.work, Work::Idle) {
                let mut out = Vec::new();
                self.settle(&mut out, |turn, out, answer| {
                    turn.end(out, &End::Failed(shutting_down()), answer.as_ref())
                });
                let _ = self.wire.send_lines(&out).await;
                return self.wire.close(1001, "the server is shutting down").await;
            }
            let deadline = self.deadline();
            let event = tokio::select! {
                message = self.wire.next() => Event::Message(message),
                progress = self.work.next() => Event::Progress(progress),
                _ = phase.changed() => Event::Phase,
                () = sleep_until(deadline) => Event::Time,
            };
            let handled = match event {
                Event::Message(Ok((message, share))) => self.message(message, share).await,
                Event::Message(Err(gone)) => Err(gone),
                Event::Progress(progress) => self.progress(progress).await,
                Event::Phase => Ok(()),
                Event::Time => self.time().await,
            };
            if let Err(gone) = handled {
                break gone;
            }
        };
        // What was said until now can be continued on another connection.
        self.interrupt(&mut Vec::new(), "cancelled");
        match gone {
            Gone::Left => {}
            Gone::Goodbye(code) => self.wire.close(code.unwrap_or(1000), "").await,
            Gone::Wrong(e) => self.wire.close(e.code, e.why).await,
        }
    }

    /// When something is due though nothing happens.
    fn deadline(&self) -> Instant {
        let ping = self.pinged.max(self.wire.heard) + Duration::from_secs(limits::WEBSOCKET_PING_S);
        let idle =
            matches!(self.work, Work::Idle).then(|| self.asked + Duration::from_secs(limits::WEBSOCKET_IDLE_S_MAX));
        idle.map_or(ping, |idle| idle.min(ping))
    }

    async fn time(&mut self) -> Result<(), Gone> {
        let now = Instant::now();
        let is_over = |since: Instant, s: u64| now >= since + Duration::from_secs(s);
        if is_over(self.wire.heard, limits::WEBSOCKET_SILENCE_S_MAX) {
            return Err(Gone::Left);
        }
        let is_idle = matches!(self.work, Work::Idle);
        if is_idle && is_over(self.asked, limits::WEBSOCKET_IDLE_S_MAX) {
            return Err(Gone::Wrong(WsError { code: 1001, why: "no request for too long" }));
        }
        if is_over(self.pinged.max(self.wire.heard), limits::WEBSOCKET_PING_S) {
            self.pinged = now;
            let mut out = Vec::new();
            ws::ping(&mut out);
            self.wire.send(&out).await?;
        }
        Ok(())
    }

    async fn message(&mut self, message: Message, share: Share) -> Result<(), Gone> {
        let (payload, is_deflated) = match message {
            Message::Ping(payload) => {
                let mut out = Vec::new();
                ws::pong(&mut out, &payload);
                return self.wire.send(&out).await;
            }
            Message::Pong => return Ok(()),
            Message::Close(code) => return Err(Gone::Goodbye(code)),
            Message::Data { is_text: false, .. } => {
                return Err(Gone::Wrong(WsError { code: 1003, why: "messages are JSON as text" }));
            }
            Message::Data { payload, is_deflated, .. } => (payload, is_deflated),
        };
        let mut arrival = Arrival::at(self.wire.arrived.into_std(), &self.sent);
        arrival.whole();
        let max = self.app.config.limits.body_bytes;
        // Inflated in the pool of text jobs, which are few: so what all connections inflate at once is bounded.
        let read = on_text_pool(&self.app, move |_| {
            let (_share, began) = (share, Instant::now());
            let text = if is_deflated { ws::inflate(&payload, max) } else { Ok(payload) };
            let text = match text.and_then(|t| String::from_utf8(t).map_err(|_| WsError::data("not UTF-8"))) {
                Ok(text) => text,
                Err(e) => return Ok(Err(e)),
            };
            parse_frame(text.as_bytes()).map(|frame| Ok((frame, began.elapsed())))
        });
        match read.await {
            Ok(Err(e)) => Err(Gone::Wrong(e)),
            Ok(Ok((frame, parse))) => self.frame(frame, arrival.parsed(parse)).await,
            Err(e) => self.refuse(&e).await,
        }
    }

    async fn refuse(&mut self, error: &ApiError) -> Result<(), Gone> {
        self.wire.send_lines(&error_frame(error)).await
    }

    async fn frame(&mut self, frame: Frame, arrival: Arrival) -> Result<(), Gone> {
        let mut out = Vec::new();
        match frame {
            Frame::Ignored => {}
            Frame::Steer(steer) => self.steer(steer, arrival, &mut out),
            Frame::Cancel(id) => {
                let running = match &self.work {
                    Work::Idle => None,
                    Work::Starting { turn, .. } | Work::Running { turn, .. } => Some(turn.id()),
                };
                match (running, id) {
                    (Some(running), Some(id)) if running != id => {}
                    (Some(_), _) => self.interrupt(&mut out, "cancelled"),
                    (None, _) => {} // it has just ended by itself
                }
            }
            Frame::Create(request) => {
                self.interrupt(&mut out, "cancelled");
                if let Err(e) = self.create(*request, arrival, &mut out) {
                    self.wire.send_lines(&out).await?;
                    return self.refuse(&e).await;
                }
            }
        }
        self.wire.send_lines(&out).await
    }

    /// Begins an answer. From here on whatever goes wrong is told as `response.failed`.
    fn create(&mut self, request: ResponseRequest, arrival: Arrival, out: &mut Vec<u8>) -> Result<(), ApiError> {
        check_open(&self.app)?;
        self.asked = Instant::now();
        self.app.asked.fetch_add(1, Relaxed);
        let caller = Caller::of(&self.app, &self.who.headers, self.who.ip)?; // it may have been revoked meanwhile
        self.app.check_quota(&caller)?;
        let origin = Origin { caller: caller.clone(), arrival };
        self.like = Some(request.settings());
        let mut asked = resolve(&self.app, &caller, request, self.last.as_ref())?;
        let keep = if asked.request.store { Keep::All } else { Keep::Thread };
        let mut turn = Turn::new(&self.app, &caller, &mut asked, keep, Shape::Lines);
        turn.begin(out);
        let app = Arc::clone(&self.app);
        let job = async move {
            let timed = move |app: &App| {
                let began = Instant::now();
                prepare(app, &asked).map(|p| p.since(began.into_std()))
            };
            let prepared = on_text_pool(&app, timed).await?;
            started(&app, &prepared, &origin).await
        };
        let trace = Trace::turn(&self.app, self.who.trace);
        let job = async move { trace::within(trace, auth::answering(&caller, job)).await };
        self.work = Work::Starting { turn, job: Box::pin(job) };
        Ok(())
    }

    async fn progress(&mut self, progress: Progress) -> Result<(), Gone> {
        let mut out = Vec::new();
        match progress {
            Progress::Started(Ok((answer, notes))) => {
                if let Work::Starting { turn, .. } = std::mem::replace(&mut self.work, Work::Idle) {
                    self.work = Work::Running { turn, answer, notes, pace: Pace::new() };
                }
            }
            Progress::Started(Err(e)) => self.fail(&mut out, e),
            Progress::Note(None) => self.fail(&mut out, engine_stopped()),
            Progress::Note(Some(note)) => self.note(note, &mut out),
        }
        self.wire.send_lines(&out).await
    }

    /// This news, and what else is ready.
    fn note(&mut self, note: Note, out: &mut Vec<u8>) {
        let Work::Running { turn, answer, notes, pace } = &mut self.work else { return };
        let mut next = Some(note);
        while let Some(note) = next {
            pace.step();
            match answer.take(note) {
                Ok(Some(piece)) => {
                    let began = Instant::now();
                    turn.write(out, &piece, answer);
                    answer.encoded(began.elapsed());
                }
                Ok(None) => {}
                Err(e) => return self.fail(out, e),
            }
            next = if out.len() < SEND_BYTES && !answer.is_done() { notes.try_recv() } else { None };
        }
        if !out.is_empty() {
            pace.left();
        }
        if answer.is_done() {
            self.settle(out, |_, _, _| {});
        }
    }

    fn fail(&mut self, out: &mut Vec<u8>, error: ApiError) {
        self.settle(out, |turn, out, answer| turn.end(out, &End::Failed(error), answer.as_ref()));
    }

    /// Ends what is being made, and keeps what was said.
    fn interrupt(&mut self, out: &mut Vec<u8>, why: &'static str) {
        self.settle(out, |turn, out, answer| turn.interrupt(out, answer.as_mut(), why));
    }

    /// The person has said more: the answer ends, and one that knows it all follows, made as the first was to be.
    fn steer(&mut self, steer: Steer, arrival: Arrival, out: &mut Vec<u8>) {
        let turn = match &mut self.work {
            Work::Starting { turn, .. } | Work::Running { turn, .. } => turn,
            Work::Idle => return out.extend(steer.refusal("response_not_active", "The response has ended.")),
        };
        let Some(like) = self.like.clone().filter(|_| turn.id() == steer.previous_response_id) else {
            return out.extend(steer.refusal("response_not_found", "Another response is being made."));
        };
        turn.steered(out);
        self.interrupt(out, "steered");
        let next = like.follow(steer.previous_response_id.clone(), steer.input.clone());
        if let Err(e) = self.create(next, arrival, out) {
            out.extend(steer.refusal("successor_creation_failed", &e.message));
        }
    }

    /// No answer is being made any more.
    fn settle(&mut self, out: &mut Vec<u8>, end: impl FnOnce(&mut Turn, &mut Vec<u8>, &mut Option<Answer>)) {
        let (mut turn, mut answer) = match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Idle => return,
            Work::Starting { turn, .. } => (turn, None),
            Work::Running { turn, answer, .. } => (turn, Some(answer)),
        };
        end(&mut turn, out, &mut answer);
        self.like = None;
        self.asked = Instant::now();
        if let Some(thread) = turn.thread.take() {
            self.last = Some((turn.id().to_owned(), thread));
        }
    }
}
