//! The completion brain: what to ask, when, and what to show of it. It has no clock, no threads and no network: it is told
//! what happened and when, and says what is to be done. So it is tested without an editor and without a server.
//!
//! A suggestion that is on its way is not asked for again: keys that follow it cost nothing, and the stream goes on below
//! them. A key that contradicts it stops the server's work and asks anew, from a prefix that the server has but for a few
//! tokens (see `window`).

mod mask;
mod names;
pub mod next;
pub mod outline;
mod outline_c;
mod outline_script;
mod recall;
mod ring;
mod scope;
pub mod secret;
pub mod shape;
mod speed;
mod stream;
mod view;
mod window;

use base::limits::{RECENT_KEYS_US, SUGGESTION_BYTES_MAX};

use crate::backend::Ended;
use names::Index;
use recall::Recall;
use ring::{Chunk, Ring};
pub use shape::Mode;
pub use speed::Speed;
use stream::Stream;
pub use view::View;
use window::{Window, Windows};

/// Microseconds since some start.
pub type Micros = u64;

/// Without a key for this long, the time is used for what may be wanted next.
const IDLE_US: u64 = 120_000;
/// A suggestion that still grows is shown from this many pieces on, or when it is whole.
const PIECES_SHOWN_MIN: usize = 2;
/// After a server failed to answer, wait this long; twice as long each time ...
const RETRY_US: u64 = 500_000;
/// ... up to this.
const RETRY_US_MAX: u64 = 8_000_000;

/// What a server is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Path and text of other files, the most important last.
    pub extra: Vec<(String, String)>,
    /// Text before the cursor.
    pub prefix: String,
    /// Text after it.
    pub suffix: String,
    /// Tokens to generate; 0 fills the server's cache.
    pub n_predict: u32,
    /// What the answer may look like.
    pub prediction: Option<String>,
    /// Somebody waits for it.
    pub is_urgent: bool,
}

/// Where a suggestion comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The one that was shown before: the typing agreed with it.
    Typed,
    /// An earlier answer.
    Recalled,
    /// The server's answer to this key.
    Asked,
}

/// A suggestion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// To put at the cursor.
    pub text: String,
    /// It will not grow.
    pub is_whole: bool,
    /// Where it comes from.
    pub source: Source,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask this; tell `text` and `ended` of this number.
    Ask(u64, Prompt),
    /// The answer is not wanted any more; neither is anything about it.
    Cancel(u64),
    /// The answer to a request; more may follow unless it is the last.
    Show {
        /// Whose.
        request: u64,
        /// `None`: nothing to suggest.
        suggestion: Option<Suggestion>,
        /// There is no more to come for this request.
        is_last: bool,
    },
    /// Call `wake` then.
    WakeAt(Micros),
}

/// Counts, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions for a key.
    pub asked: u64,
    /// Those that were stopped because of a key that contradicted, before all was known that could be shown.
    pub cancelled: u64,
    /// Questions while nobody typed.
    pub ahead: u64,
    /// Slices of windows that were computed while nobody typed.
    pub warmed: u64,
}

/// What is asked while nobody types.
#[derive(Debug)]
enum Idle {
    /// Part of a window.
    Warm(Window),
    /// What follows the present suggestion.
    Ahead(Stream),
}

/// A request of the editor that may still get more.
#[derive(Debug)]
struct Waiting {
    request: u64,
    view: View,
    mode: Mode,
    /// What it was told last.
    shown: Option<String>,
}

/// See above.
#[derive(Debug, Default)]
pub struct Brain {
    speed: Speed,
    windows: Windows,
    recall: Recall,
    ring: Ring,
    index: Index,
    waiting: Option<Waiting>,
    stream: Option<Stream>,
    idle: Option<(u64, Idle)>,
    /// When to ask for the view that waits.
    ask_at: Option<Micros>,
    last_key: Micros,
    last_view: Option<View>,
    n_asks: u64,
    failures: u32,
    no_asking_before: Micros,
    counts: Counts,
}

impl Brain {
    /// Knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it did.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What it has measured.
    pub fn speed(&self) -> Speed {
        self.speed
    }

    /// A file was opened, saved or left: its part around `line` may be of use elsewhere.
    pub fn note(&mut self, path: &str, text: &str, line: usize) {
        if !secret::is_secret_file(path) {
            self.ring.note(path, text, line);
            self.index.read(path, text);
        }
    }

    /// A file that another one imports: it explains names, and that is all.
    pub fn import(&mut self, path: &str, text: &str) {
        if !secret::is_secret_file(path) {
            self.index.read_imported(path, text);
        }
    }

    /// A file is gone.
    pub fn forget(&mut self, path: &str) {
        self.ring.forget(path);
        self.index.forget(path);
        self.windows.forget(path);
    }

    /// The editor asks for a suggestion at a cursor. Earlier requests are over.
    pub fn key(&mut self, now: Micros, request: u64, view: View, out: &mut Vec<Effect>) {
        self.drop_waiting(out);
        (self.last_key, self.ask_at) = (now, None);
        self.last_view = Some(view.clone());
        let line = view.before.rsplit('\n').next().unwrap_or_default();
        let is_secret = secret::is_secret_file(&view.path) || secret::is_suspicious(line);
        let Some(mode) = shape::mode(&view.before, &view.after).filter(|_| !is_secret) else {
            self.stop_stream(true, out);
            out.push(Effect::Show { request, suggestion: None, is_last: true });
            return out.push(Effect::WakeAt(now + IDLE_US));
        };
        self.waiting = Some(Waiting { request, view, mode, shown: None });
        self.answer(now, out);
        out.push(Effect::WakeAt(now + IDLE_US));
    }

    /// The editor does not wait for this request any more.
    pub fn cancel(&mut self, request: u64) {
        if self.waiting.as_ref().is_some_and(|w| w.request == request) {
            self.waiting = None;
            self.ask_at = None;
        }
    }

    /// What was to be done later.
    pub fn wake(&mut self, now: Micros, out: &mut Vec<Effect>) {
        if self.ask_at.is_some_and(|at| now >= at) {
            self.ask_at = None;
            self.ask(now, out);
        } else if let Some(at) = self.ask_at {
            return out.push(Effect::WakeAt(at));
        }
        if self.stream.as_ref().is_none_or(|s| s.is_over) && self.idle.is_none() {
            match now >= self.last_key + IDLE_US && now >= self.no_asking_before {
                true => self.use_idle_time(now, out),
                false => out.push(Effect::WakeAt((self.last_key + IDLE_US).max(self.no_asking_before))),
            }
        }
    }

    /// The answer to question `id` goes on.
    pub fn text(&mut self, now: Micros, id: u64, text: &str, out: &mut Vec<Effect>) {
        if let Some((_, Idle::Ahead(ahead))) = self.idle.as_mut().filter(|(i, _)| *i == id) {
            ahead.push(text);
            let is_enough = ahead.has_enough();
            if is_enough {
                self.end_ahead(false);
                out.extend([Effect::Cancel(id), Effect::WakeAt(now)]);
            }
            return;
        }
        let Some(stream) = self.stream.as_mut().filter(|s| s.id == id && !s.is_over) else { return };
        if stream.raw.is_empty() {
            self.speed.saw_first(now.saturating_sub(stream.asked_at) as f64 / 1e3);
            self.windows.know(stream.window.clone());
            self.failures = 0;
        }
        stream.push(text);
        if stream.has_enough() {
            stream.is_over = true;
            out.extend([Effect::Cancel(id), Effect::WakeAt(now)]);
        }
        self.keep_stream();
        self.show(Source::Asked, out);
    }

    /// The answer to question `id` is complete, or there will be none.
    pub fn ended(&mut self, now: Micros, id: u64, ended: Result<Ended, String>, out: &mut Vec<Effect>) {
        if let Ok(e) = &ended {
            self.speed.saw_decode(e.n_predicted, e.predicted_ms);
            self.failures = 0;
        }
        if let Some((_, idle)) = self.idle.take_if(|(i, _)| *i == id) {
            match (idle, &ended) {
                (Idle::Warm(slice), Ok(e)) => {
                    self.speed.saw_prompt(slice.text.len(), e.n_prompt, e.n_new, e.prompt_ms);
                    self.windows.sliced(&slice);
                }
                (Idle::Ahead(ahead), Ok(e)) => {
                    self.idle = Some((id, Idle::Ahead(ahead)));
                    self.end_ahead(e.is_done);
                }
                (_, Err(_)) => self.failed(now),
            }
            return out.push(Effect::WakeAt(now));
        }
        let Some(stream) = self.stream.as_mut().filter(|s| s.id == id && !s.is_over) else { return };
        stream.is_over = true;
        match ended {
            Ok(e) => {
                stream.is_done = e.is_done;
                let bytes = stream.window.text.len() + stream.view.after.len().min(self.speed.suffix_bytes());
                self.windows.know(stream.window.clone());
                if e.n_new >= 24 {
                    self.speed.saw_prompt(bytes, e.n_prompt, e.n_new, e.prompt_ms);
                }
                self.keep_stream();
                self.show(Source::Asked, out);
            }
            Err(_) => {
                self.stream = None;
                self.failed(now);
                self.drop_waiting(out);
            }
        }
        out.push(Effect::WakeAt(now));
    }

    fn failed(&mut self, now: Micros) {
        self.failures = (self.failures + 1).min(16);
        self.no_asking_before = now + (RETRY_US << (self.failures - 1).min(5)).min(RETRY_US_MAX);
    }

    fn drop_waiting(&mut self, out: &mut Vec<Effect>) {
        if let Some(Waiting { request, .. }) = self.waiting.take() {
            out.push(Effect::Show { request, suggestion: None, is_last: true });
        }
    }

    /// From what is on its way or known; else asks.
    fn answer(&mut self, now: Micros, out: &mut Vec<Effect>) {
        let Some(waiting) = &self.waiting else { return };
        match self.stream.as_ref().map(|s| (s.left(&waiting.view), s.is_over, s.is_done)) {
            Some((Some(left), is_over, is_done)) if !left.is_empty() || !is_over || is_done => {
                self.show(Source::Typed, out);
                if !is_over || self.waiting.is_none() {
                    return;
                }
            }
            Some((Some(_), ..)) => {}
            _ => self.stop_stream(true, out),
        }
        let Some(waiting) = &self.waiting else { return };
        let view = &waiting.view;
        if let Some((raw, is_done)) = self.recall.find(&view.path, &view.before, &view.after) {
            self.stop_stream(false, out);
            let Some(waiting) = &self.waiting else { return };
            self.stream = Some(Stream::recalled(waiting.view.clone(), waiting.mode, raw, is_done));
            self.show(Source::Recalled, out);
            if self.waiting.is_none() {
                return;
            }
        }
        let at = now.max(self.no_asking_before) + self.speed.debounce_us();
        match at > now {
            true => {
                self.ask_at = Some(at);
                out.push(Effect::WakeAt(at));
            }
            false => self.ask(now, out),
        }
    }

    /// Asks for the view that waits.
    fn ask(&mut self, now: Micros, out: &mut Vec<Effect>) {
        let Some(Waiting { view, mode, .. }) = &self.waiting else { return };
        let (view, mode) = (view.clone(), *mode);
        // A little that is known already is the beginning of what will come.
        let prediction = self.stream.as_ref().map(|s| s.raw.clone()).filter(|raw| !raw.trim().is_empty());
        self.stop_stream(true, out);
        if let Some((id, _)) = self.idle.take() {
            out.push(Effect::Cancel(id));
        }
        let placed = self.windows.place(&view, &self.speed);
        self.n_asks += 1;
        self.counts.asked += 1;
        let n_predict = self.speed.answer_tokens(mode == Mode::Block);
        let prompt = prompt(&placed.window, &placed.suffix, n_predict, prediction, true);
        out.push(Effect::Ask(self.n_asks, prompt));
        self.stream = Some(Stream::asked(self.n_asks, view, mode, placed.window, now));
    }

    /// Ends the present stream; what it wrote is kept. Only where a key contradicted it, that counts as cancelled.
    fn stop_stream(&mut self, is_contradicted: bool, out: &mut Vec<Effect>) {
        self.keep_stream();
        if let Some(stream) = self.stream.take()
            && !stream.is_over
        {
            self.counts.cancelled += u64::from(is_contradicted);
            out.push(Effect::Cancel(stream.id));
        }
    }

    fn keep_stream(&mut self) {
        if let Some(s) = self.stream.as_ref().filter(|s| !s.raw.trim().is_empty()) {
            self.recall.keep(&s.view.path, &s.view.before, &s.view.after, &s.raw, s.is_done);
        }
    }

    /// Tells the request that waits what can be shown now. It waits no longer once there is no more to come.
    fn show(&mut self, source: Source, out: &mut Vec<Effect>) {
        let (Some(waiting), Some(stream)) = (&mut self.waiting, &self.stream) else { return };
        let Some(left) = stream.left(&waiting.view) else { return };
        let seen = shape::visible(waiting.mode, left, &waiting.view.before, &waiting.view.after, stream.is_done);
        // What is recalled may be a beginning only: then the server is asked for the rest.
        let is_last = seen.is_whole || stream.is_done || (stream.is_over && stream.id != 0);
        let has_text = !seen.text.trim().is_empty();
        let is_ready = is_last || source != Source::Asked || stream.n_pieces >= PIECES_SHOWN_MIN;
        let is_more = !waiting.shown.as_ref().is_some_and(|shown| shown.starts_with(&seen.text));
        let request = waiting.request;
        if has_text && is_ready && (is_more || is_last) {
            waiting.shown = Some(seen.text.clone());
            let suggestion = Some(Suggestion { text: seen.text, is_whole: is_last, source });
            out.push(Effect::Show { request, suggestion, is_last });
        } else if !has_text && is_last {
            out.push(Effect::Show { request, suggestion: None, is_last });
        }
        if is_last {
            self.waiting = None;
        }
    }

    fn use_idle_time(&mut self, now: Micros, out: &mut Vec<Effect>) {
        if let Some(view) = self.after_accept() {
            let placed = self.windows.place(&view, &self.speed);
            let Some(mode) = shape::mode(&view.before, &view.after) else { return };
            self.n_asks += 1;
            self.counts.ahead += 1;
            let n_predict = self.speed.answer_tokens(false);
            out.push(Effect::Ask(self.n_asks, prompt(&placed.window, &placed.suffix, n_predict, None, false)));
            let ahead = Stream::asked(self.n_asks, view, mode, placed.window, now);
            self.idle = Some((self.n_asks, Idle::Ahead(ahead)));
            return;
        }
        let Some(view) = self.last_view.as_ref().filter(|v| !secret::is_secret_file(&v.path)) else { return };
        let (ring, index, bytes) = (&self.ring, &self.index, self.speed.extra_bytes());
        self.windows.aim(view, &self.speed, &mut |text| {
            let about = index.about(text, bytes / 2).into_iter().map(|(path, text)| Chunk { path, text });
            ring.pick(&view.path, text, bytes / 2).into_iter().chain(about).collect()
        });
        if let Some(slice) = self.windows.next_slice(&self.speed) {
            self.n_asks += 1;
            self.counts.warmed += 1;
            out.push(Effect::Ask(self.n_asks, prompt(&slice, "", 0, None, false)));
            self.idle = Some((self.n_asks, Idle::Warm(slice)));
        }
    }

    /// Where the cursor would be if the whole suggestion were accepted, if nothing is known about that place yet.
    fn after_accept(&mut self) -> Option<View> {
        let stream = self.stream.as_ref().filter(|s| s.is_over && !s.is_done)?;
        let view = self.last_view.as_ref()?;
        let left = stream.left(view)?;
        let seen = shape::visible(stream.mode, left, &view.before, &view.after, false);
        if seen.text.trim().is_empty() || left.len() > seen.text.len() || now_is_stale(self.last_key, stream.asked_at) {
            return None;
        }
        let mut next = view.clone();
        next.before.push_str(&seen.text);
        next.offset += seen.text.len();
        self.recall.find(&next.path, &next.before, &next.after).is_none().then_some(next)
    }

    fn end_ahead(&mut self, is_done: bool) {
        if let Some((_, Idle::Ahead(s))) = self.idle.take() {
            if s.raw.trim().is_empty() && !is_done {
                return;
            }
            self.recall.keep(&s.view.path, &s.view.before, &s.view.after, &s.raw, is_done);
            self.windows.know(s.window);
        }
    }
}

/// A suggestion that was asked for long before the last key is not one that somebody looks at.
fn now_is_stale(last_key: Micros, asked_at: Micros) -> bool {
    last_key.saturating_sub(asked_at) > RECENT_KEYS_US
}

/// The prompt for a view once its whole window has been computed in idle time; without other files.
pub fn settled(view: &View, speed: &Speed) -> Prompt {
    let mut windows = Windows::default();
    windows.aim(view, speed, &mut |_| Vec::new());
    while let Some(slice) = windows.next_slice(speed) {
        windows.sliced(&slice);
    }
    let placed = windows.place(view, speed);
    prompt(&placed.window, &placed.suffix, speed.answer_tokens(false), None, true)
}

fn prompt(window: &Window, suffix: &str, n_predict: u32, prediction: Option<String>, is_urgent: bool) -> Prompt {
    let clean = |text: &str| secret::redact(text).into_owned();
    Prompt {
        extra: window.extra.iter().map(|c| (c.path.clone(), clean(&c.text))).collect(),
        prefix: clean(&window.text),
        suffix: clean(suffix),
        n_predict,
        prediction: prediction.map(|mut text| {
            let mut at = text.len().min(SUGGESTION_BYTES_MAX);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.truncate(at);
            text
        }),
        is_urgent,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
