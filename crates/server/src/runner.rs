//! One OS thread per model drives its engine: mail in, one step, news out. The thread never waits for a client: each
//! request's news go to a channel of its own, which holds at most `max_tokens` entries and a few more.

use base::{RequestId, TokenId, limits};
use engine::api::{Drafts, Effect, Event, Finish, Info, Logprobs, Refusal, Request, Stepper};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::keep::{self, Keeper};
use crate::metrics::ModelMetrics;
use crate::notes::{self, NoteSender, Notes};
use crate::pace::Pace;

/// What happened to one choice of a request, and when.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) choice: usize,
    pub(crate) at: Instant,
    /// Its tokens come of a step that also checked drafts for it.
    pub(crate) is_verified: bool,
    pub(crate) news: News,
}

#[derive(Debug)]
pub(crate) enum News {
    Admitted,
    Prefilled {
        n_prompt: usize,
        n_cached: usize,
    },
    /// All tokens of one step, if no log-probabilities were asked for.
    Tokens(Box<[TokenId]>),
    /// One token with its log-probabilities.
    Scored {
        token: TokenId,
        logprobs: Box<Logprobs>,
    },
    /// Boxed because a channel has room for many notes from the start, and few of them are this one.
    Finished(Finish, Box<Drafts>),
    Refused(Refusal),
    /// The step that served this request failed.
    Failed,
}

enum Mail {
    Submit { request: Box<Request>, choice: usize, to: NoteSender },
    Cancel(RequestId),
}

#[derive(Default)]
struct Inbox {
    mail: Vec<Mail>,
    is_closed: bool,
}

/// What the engine's thread and the requests share. The mail is bounded: submissions by `queue_max`, cancellations by
/// one per live request.
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    /// Sequences that were submitted and have no slot yet, or had to give it back.
    waiting: AtomicUsize,
    queue_max: usize,
    is_dead: AtomicBool,
    /// Zero of the engine's clock.
    started: Instant,
    pace: Pace,
    pub(crate) metrics: ModelMetrics,
}

/// Why a request is not even queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    QueueFull,
    EngineStopped,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waiting for a slot.
    pub(crate) fn queued(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// The engine's time.
    pub(crate) fn clock_us(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }

    /// When it is worth while to try again.
    pub(crate) fn retry_after_s(&self) -> u32 {
        self.pace.retry_after_s(self.queued(), Instant::now())
    }

    /// The engine takes requests.
    pub(crate) fn is_alive(&self) -> bool {
        !self.is_dead.load(SeqCst)
    }

    /// Queues all sequences of a request, or none. Their news come tagged with their place in `requests`.
    pub(crate) fn submit(self: &Arc<Self>, requests: Vec<Request>) -> Result<(Notes, Ticket), NoRoom> {
        let n = requests.len();
        let reserve = |w: usize| w.checked_add(n).filter(|sum| *sum <= self.queue_max);
        self.waiting.fetch_update(SeqCst, SeqCst, reserve).map_err(|_| NoRoom::QueueFull)?;
        let (to, from) = notes::channel();
        let open = requests.iter().map(|r| Some(r.id)).collect();
        {
            let mut inbox = self.lock();
            if inbox.is_closed || self.is_dead.load(SeqCst) {
                self.waiting.fetch_sub(n, SeqCst);
                return Err(NoRoom::EngineStopped);
            }
            inbox.mail.extend(requests.into_iter().enumerate().map(|(choice, request)| Mail::Submit {
                request: Box::new(request),
                choice,
                to: to.clone(),
            }));
        }
        self.wake.notify_one();
        Ok((from, Ticket { mailbox: Arc::clone(self), open }))
    }

    fn cancel(&self, ids: impl Iterator<Item = RequestId>) {
        let mut inbox = self.lock();
        if !inbox.is_closed {
            inbox.mail.extend(ids.map(Mail::Cancel));
        }
        drop(inbox);
        self.wake.notify_one();
    }

    /// Ends the thread after its present step.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_all();
    }

    /// True if nothing happens for so long.
    fn stays_idle(&self, time: Duration) -> bool {
        let inbox = self.lock();
        let idle = |i: &mut Inbox| i.mail.is_empty() && !i.is_closed;
        let waited = self.wake.wait_timeout_while(inbox, time, idle);
        waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// There is mail, or the end has come.
    fn is_wanted(&self) -> bool {
        let inbox = self.lock();
        !inbox.mail.is_empty() || inbox.is_closed
    }

    /// Moves the mail out; waits for some if the engine is idle. False when closed.
    fn take(&self, is_busy: bool, mail: &mut Vec<Mail>) -> bool {
        let mut inbox = self.lock();
        while inbox.mail.is_empty() && !is_busy && !inbox.is_closed {
            inbox = self.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        mail.append(&mut inbox.mail);
        !inbox.is_closed
    }
}

/// Holds a request's place; dropping it cancels what has not ended, wherever it is.
pub(crate) struct Ticket {
    mailbox: Arc<Mailbox>,
    open: Vec<Option<RequestId>>,
}

impl Ticket {
    /// This choice has ended by itself.
    pub(crate) fn ended(&mut self, choice: usize) {
        if let Some(id) = self.open.get_mut(choice) {
            *id = None;
        }
    }

    /// When it is worth while to try again.
    pub(crate) fn retry_after_s(&self) -> u32 {
        self.mailbox.retry_after_s()
    }

    /// This choice shall end now.
    pub(crate) fn cancel(&mut self, choice: usize) {
        if let Some(id) = self.open.get_mut(choice).and_then(Option::take) {
            self.mailbox.cancel(std::iter::once(id));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open.iter().any(Option::is_some) {
            self.mailbox.cancel(self.open.drain(..).flatten());
        }
    }
}

/// The way to the thread, which ends after `Mailbox::close`.
pub(crate) struct Runner {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) info: Info,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Runner {
    /// Waits until the thread has ended.
    pub(crate) fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = thread.map(std::thread::JoinHandle::join); // its panics were caught and told
    }
}

/// Starts the thread.
pub(crate) fn start(
    name: &str,
    stepper: Box<dyn Stepper>,
    keeper: Option<Box<dyn Keeper>>,
    queue_max: usize,
) -> std::io::Result<Runner> {
    let mailbox = Arc::new(Mailbox {
        inbox: Mutex::default(),
        wake: Condvar::new(),
        waiting: AtomicUsize::new(0),
        queue_max,
        is_dead: AtomicBool::new(false),
        started: Instant::now(),
        pace: Pace::default(),
        metrics: ModelMetrics::default(),
    });
    let info = stepper.info().clone();
    let for_thread = Arc::clone(&mailbox);
    let thread_name: String = format!("engine {name}").chars().filter(|c| *c != '\0').take(15).collect();
    let thread = std::thread::Builder::new().name(thread_name).spawn(move || {
        Driver { keeper, ..Driver::new(stepper, for_thread) }.run();
    })?;
    Ok(Runner { mailbox, info, thread: Mutex::new(Some(thread)) })
}

/// Where a sequence's news go.
struct Route {
    choice: usize,
    to: NoteSender,
    is_waiting: bool,
    is_prefilled: bool,
    submitted: Instant,
    admitted: Option<Instant>,
    last_token: Option<Instant>,
    n_tokens: u64,
    /// Tokens of the present step.
    burst: Vec<TokenId>,
    /// The present step checks drafts for it.
    is_verified: bool,
}

struct Driver {
    stepper: Box<dyn Stepper>,
    mailbox: Arc<Mailbox>,
    routes: HashMap<RequestId, Route>,
    /// Who has a burst.
    bursts: Vec<RequestId>,
    /// How long the last step took, if it ran rows; the engine is told with the next one.
    took_ns: Option<u64>,
    failures: usize,
    keeper: Option<Box<dyn Keeper>>,
    /// The cache has changed since it was saved.
    is_unsaved: bool,
}

impl Driver {
    fn new(stepper: Box<dyn Stepper>, mailbox: Arc<Mailbox>) -> Self {
        Self {
            stepper,
            mailbox,
            routes: HashMap::new(),
            bursts: Vec::new(),
            took_ns: None,
            failures: 0,
            keeper: None,
            is_unsaved: false,
        }
    }

    fn run(mut self) {
        let (mut mail, mut events, mut effects) = (Vec::new(), Vec::new(), Vec::new());
        let mut is_busy = false;
        loop {
            if !is_busy && self.is_unsaved && self.mailbox.stays_idle(keep::IDLE) {
                let mailbox = Arc::clone(&self.mailbox);
                self.save(&|| mailbox.is_wanted());
            }
            if !self.mailbox.take(is_busy, &mut mail) {
                break;
            }
            let now = Instant::now();
            if !is_busy {
                self.mailbox.pace.work(now);
            }
            events.push(Event::Clock(self.mailbox.clock_us(now)));
            events.extend(self.took_ns.take().map(Event::Took));
            self.open(&mut mail, &mut events);
            let began = Instant::now();
            let step = catch_unwind(AssertUnwindSafe(|| self.stepper.step(&mut events, &mut effects)));
            let now = Instant::now();
            for effect in effects.drain(..) {
                // A slot is given before the forward pass, which is prefill then.
                let at = if matches!(effect, Effect::Admitted { .. }) { began } else { now };
                self.tell(effect, at);
            }
            self.flush(now);
            is_busy = match step {
                Ok(is_busy) => {
                    self.failures = 0;
                    self.is_unsaved |= self.stepper.load().rows > 0;
                    self.show_load(now.duration_since(began));
                    is_busy
                }
                Err(_) => {
                    events.clear();
                    if !self.recover(now) {
                        break;
                    }
                    false
                }
            };
            if !is_busy {
                self.mailbox.pace.rest(now);
            }
        }
        let end = Instant::now() + Duration::from_secs(limits::KV_SAVE_S_MAX);
        self.save(&|| Instant::now() > end);
        // Nobody may wait for an engine that has gone.
        self.mailbox.is_dead.store(true, SeqCst);
        self.mailbox.take(true, &mut mail);
        self.open(&mut mail, &mut events);
        self.fail_all(Instant::now());
    }

    /// Saves the prefix cache if there is a place for it.
    fn save(&mut self, is_wanted: &dyn Fn() -> bool) {
        let Some(keeper) = self.keeper.as_mut().filter(|_| self.is_unsaved && self.failures == 0) else { return };
        let saved = catch_unwind(AssertUnwindSafe(|| keeper.save(&mut *self.stepper, is_wanted)));
        self.is_unsaved = saved.is_ok_and(|is_done| !is_done);
    }

    fn open(&mut self, mail: &mut Vec<Mail>, events: &mut Vec<Event>) {
        for piece in mail.drain(..) {
            match piece {
                Mail::Submit { request, choice, to } => {
                    let submitted = Instant::now();
                    let (is_waiting, is_prefilled, is_verified, last_token, burst) =
                        (true, false, false, None, Vec::new());
                    let admitted = None;
                    let route = Route {
                        choice,
                        to,
                        is_waiting,
                        is_prefilled,
                        submitted,
                        admitted,
                        last_token,
                        n_tokens: 0,
                        burst,
                        is_verified,
                    };
                    self.routes.insert(request.id, route);
                    events.push(Event::Submit(request));
                }
                Mail::Cancel(id) => events.push(Event::Cancel(id)),
            }
        }
    }

    /// A failed step costs the requests that were in the engine; true if it can go on.
    fn recover(&mut self, now: Instant) -> bool {
        self.mailbox.metrics.step_failures.fetch_add(1, Relaxed);
        self.failures += 1;
        self.fail_all(now);
        let reset = catch_unwind(AssertUnwindSafe(|| self.stepper.reset()));
        reset.is_ok() && self.failures < limits::STEP_FAILURES_MAX
    }

    fn fail_all(&mut self, at: Instant) {
        for (_, route) in self.routes.drain() {
            if route.is_waiting {
                self.mailbox.waiting.fetch_sub(1, SeqCst);
            }
            route.to.send(Note { choice: route.choice, at, is_verified: false, news: News::Failed });
        }
    }

    fn show_load(&mut self, took: Duration) {
        let load = self.stepper.load();
        self.mailbox.metrics.show(&load);
        self.took_ns = (load.rows > 0).then(|| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Tokens wait for the end of the step, so that they leave together.
    fn tell(&mut self, effect: Effect, at: Instant) {
        match effect {
            Effect::Admitted { id } => self.send(id, News::Admitted, at),
            Effect::Prefilled { id, n_prompt, n_cached } => self.send(id, News::Prefilled { n_prompt, n_cached }, at),
            Effect::Token { id, token, logprobs: Some(logprobs), .. } => {
                self.send(id, News::Scored { token, logprobs }, at);
            }
            Effect::Token { id, token, logprobs: None, .. } => {
                let Some(route) = self.routes.get_mut(&id) else { return };
                if route.burst.is_empty() {
                    self.bursts.push(id);
                }
                route.burst.push(token);
            }
            Effect::Verified { id } => {
                if let Some(route) = self.routes.get_mut(&id) {
                    route.is_verified = true;
                }
            }
            Effect::Preempted { id } => {
                self.mailbox.metrics.preempted.fetch_add(1, Relaxed);
                let Some(route) = self.routes.get_mut(&id) else { return };
                if !std::mem::replace(&mut route.is_waiting, true) {
                    self.mailbox.waiting.fetch_add(1, SeqCst);
                }
            }
            Effect::Finished { id, reason, drafts } => self.send(id, News::Finished(reason, Box::new(drafts)), at),
            Effect::Refused { id, why } => self.send(id, News::Refused(why), at),
        }
    }

    /// Sends what is left of the step.
    fn flush(&mut self, at: Instant) {
        while let Some(id) = self.bursts.pop() {
            if let Some(route) = self.routes.get_mut(&id) {
                self.mailbox.send_burst(route, at);
            }
        }
    }

    fn send(&mut self, id: RequestId, news: News, at: Instant) {
        let Some(route) = self.routes.get_mut(&id) else { return };
        self.mailbox.send_burst(route, at);
        let is_last = matches!(news, News::Finished(..) | News::Refused(_));
        self.mailbox.send(route, news, at);
        if is_last {
            self.routes.remove(&id);
        }
    }
}

/// The engine thread's end of it.
impl Mailbox {
    fn send_burst(&self, route: &mut Route, at: Instant) {
        if !route.burst.is_empty() {
            let tokens = route.burst.as_slice().into();
            route.burst.clear();
            self.send(route, News::Tokens(tokens), at);
        }
    }

    fn send(&self, route: &mut Route, news: News, at: Instant) {
        let was_waiting = std::mem::take(&mut route.is_waiting);
        if was_waiting {
            self.waiting.fetch_sub(1, SeqCst);
        }
        match &news {
            News::Admitted => route.admitted = Some(at),
            News::Prefilled { n_prompt, n_cached } if !std::mem::replace(&mut route.is_prefilled, true) => {
                self.metrics.prompt_tokens.fetch_add(*n_prompt as u64, Relaxed);
                self.metrics.cached_tokens.fetch_add(*n_cached as u64, Relaxed);
                let took = route.admitted.map_or(Duration::ZERO, |from| at.saturating_duration_since(from));
                self.metrics.count_prefill(n_prompt.saturating_sub(*n_cached), took);
            }
            News::Tokens(tokens) => self.count_tokens(route, tokens.len() as u64, at),
            News::Scored { .. } => self.count_tokens(route, 1, at),
            News::Finished(reason, drafts) => {
                if *reason == Finish::Cancelled {
                    self.metrics.cancelled.fetch_add(1, Relaxed);
                }
                self.metrics.count_drafts(drafts);
                if let Some(last) = route.last_token {
                    self.metrics.count_effective(route.n_tokens, last.saturating_duration_since(route.submitted));
                }
                if !was_waiting {
                    self.pace.ended(at);
                }
            }
            _ => {}
        }
        // The first tokens of a step stand for the time since the last one.
        let is_tokens = matches!(news, News::Tokens(_) | News::Scored { .. });
        let is_verified = is_tokens && std::mem::take(&mut route.is_verified);
        route.to.send(Note { choice: route.choice, at, is_verified, news }); // nobody listens: its Cancel is on the way
    }

    /// A step that yields n tokens counts as n, each an n-th of the time since the last step: sums and means stay those
    /// of the tokens. The tokens beside the very first one count as 0.
    fn count_tokens(&self, route: &mut Route, n: u64, at: Instant) {
        self.metrics.generated_tokens.fetch_add(n, Relaxed);
        route.n_tokens += n;
        match route.last_token.replace(at) {
            Some(last) => self.metrics.itl.observe_shares(at.duration_since(last), n),
            None => {
                self.metrics.ttft.observe(at.duration_since(route.submitted));
                self.metrics.itl.observe_shares(Duration::ZERO, n - 1);
            }
        }
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
