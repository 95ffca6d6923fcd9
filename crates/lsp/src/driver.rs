//! The brain at work: one thread that thinks, and one for each question that is open. It never waits for a server.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base::limits::COMPLETIONS_OPEN_MAX;
use client::Cancel;

use crate::backend::{Backend, Ended};
use crate::brain::{Brain, Counts, Effect, Micros, Prompt, Speed, Suggestion, View};
use crate::imports::OnFile;

/// What is told to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whose request.
    pub request: u64,
    /// `None`: nothing to suggest.
    pub suggestion: Option<Suggestion>,
    /// There is no more to come.
    pub is_last: bool,
}

/// What the brain knows about itself.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What it did.
    pub counts: Counts,
    /// What it measured.
    pub speed: Speed,
    /// The model that answered last.
    pub model: String,
    /// Why there was no answer, if the last question got none.
    pub error: Option<String>,
}

enum Mail {
    Key(u64, View),
    Forgotten(u64),
    Note(String, String, usize),
    Imported(String, String),
    Gone(String),
    Text(u64, String),
    Ended(u64, Result<Ended, String>),
    Stop,
}

/// A brain with threads. Dropping it stops them.
#[derive(Debug)]
pub struct Driver {
    mail: Sender<Mail>,
    told: Arc<Mutex<Told>>,
    thread: Option<JoinHandle<()>>,
}

/// Gets every answer, in the thread that thinks: it must not wait.
pub type OnShown = Box<dyn FnMut(Shown) + Send>;

impl Driver {
    /// Starts to think.
    pub fn start(backend: Arc<dyn Backend>, on_shown: OnShown) -> Self {
        let (mail, box_of_mail) = channel();
        let told = Arc::new(Mutex::new(Told::default()));
        let work = Work {
            brain: Brain::new(),
            backend,
            on_shown,
            mail: mail.clone(),
            told: Arc::clone(&told),
            start: Instant::now(),
            wake_at: None,
            open: HashMap::new(),
        };
        let thread = std::thread::Builder::new().name("brain".to_owned()).spawn(move || work.run(&box_of_mail)).ok();
        Self { mail, told, thread }
    }

    /// Asks for a suggestion; answers go to `on_shown`. Earlier requests get their last word.
    pub fn key(&self, request: u64, view: View) {
        let _ = self.mail.send(Mail::Key(request, view)); // nobody thinks any more: the editor is leaving
    }

    /// Nobody waits for this request any more.
    pub fn forget_request(&self, request: u64) {
        let _ = self.mail.send(Mail::Forgotten(request));
    }

    /// A file was opened, saved or left.
    pub fn note(&self, path: &str, text: String, line: usize) {
        let _ = self.mail.send(Mail::Note(path.to_owned(), text, line));
    }

    /// What tells it of files that others import, from any thread.
    pub fn on_imported(&self) -> OnFile {
        let mail = self.mail.clone();
        Box::new(move |path, text| drop(mail.send(Mail::Imported(path.to_owned(), text.to_owned()))))
    }

    /// A file is gone.
    pub fn gone(&self, path: &str) {
        let _ = self.mail.send(Mail::Gone(path.to_owned()));
    }

    /// The same, for somebody who asks later.
    pub(crate) fn telling(&self) -> Arc<Mutex<Told>> {
        Arc::clone(&self.told)
    }

    /// What it knows about itself.
    pub fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.mail.send(Mail::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there was told already
        }
    }
}

struct Work {
    brain: Brain,
    backend: Arc<dyn Backend>,
    on_shown: OnShown,
    mail: Sender<Mail>,
    told: Arc<Mutex<Told>>,
    start: Instant,
    wake_at: Option<Micros>,
    open: HashMap<u64, Cancel>,
}

impl Work {
    fn now(&self) -> Micros {
        self.start.elapsed().as_micros() as Micros
    }

    fn run(mut self, mail: &Receiver<Mail>) {
        let mut out = Vec::new();
        loop {
            let wait = self.wake_at.map(|at| Duration::from_micros(at.saturating_sub(self.now())));
            let first = match wait {
                Some(wait) => mail.recv_timeout(wait),
                None => mail.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(first) => {
                    // Of several keys only the last one counts: there is no backlog.
                    let all: Vec<Mail> = std::iter::once(first).chain(mail.try_iter()).collect();
                    let last_key = all.iter().rposition(|m| matches!(m, Mail::Key(..)));
                    for (i, one) in all.into_iter().enumerate() {
                        if !self.take(one, last_key.is_none_or(|last| i >= last), &mut out) {
                            return self.open.values().for_each(Cancel::cancel);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.wake_at = None;
                    self.brain.wake(self.now(), &mut out);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.act(&mut out);
            self.tell(|told, brain| (told.counts, told.speed) = (brain.counts(), brain.speed()));
        }
    }

    /// False at the end.
    fn take(&mut self, mail: Mail, is_last_key: bool, out: &mut Vec<Effect>) -> bool {
        let now = self.now();
        match mail {
            Mail::Key(request, _) if !is_last_key => {
                (self.on_shown)(Shown { request, suggestion: None, is_last: true });
            }
            Mail::Key(request, view) => self.brain.key(now, request, view, out),
            Mail::Forgotten(request) => self.brain.cancel(request),
            Mail::Note(path, text, line) => self.brain.note(&path, &text, line),
            Mail::Imported(path, text) => self.brain.import(&path, &text),
            Mail::Gone(path) => self.brain.forget(&path),
            Mail::Text(id, text) => self.brain.text(now, id, &text, out),
            Mail::Ended(id, ended) => {
                self.open.remove(&id);
                self.tell(|told, _| match &ended {
                    Ok(e) => (told.model, told.error) = (e.model.clone(), None),
                    Err(e) if e.is_empty() => {}
                    Err(e) => told.error = Some(e.clone()),
                });
                self.brain.ended(now, id, ended, out);
            }
            Mail::Stop => return false,
        }
        true
    }

    fn tell(&self, change: impl FnOnce(&mut Told, &Brain)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner), &self.brain);
    }

    fn act(&mut self, out: &mut Vec<Effect>) {
        // What is stopped goes first: its room on the server is what the next question needs.
        out.sort_by_key(|e| !matches!(e, Effect::Cancel(_)));
        for effect in out.drain(..) {
            match effect {
                Effect::Cancel(id) => {
                    if let Some(cancel) = self.open.get(&id) {
                        cancel.cancel();
                    }
                }
                Effect::Ask(id, prompt) => self.ask(id, prompt),
                Effect::Show { request, suggestion, is_last } => {
                    (self.on_shown)(Shown { request, suggestion, is_last });
                }
                Effect::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |was| was.min(at))),
            }
        }
    }

    fn ask(&mut self, id: u64, prompt: Prompt) {
        let (mail, backend, cancel) = (self.mail.clone(), Arc::clone(&self.backend), Cancel::new());
        let ask = {
            let cancel = cancel.clone();
            move || {
                let ended = backend.fill(&prompt, &cancel, &mut |text| {
                    let _ = mail.send(Mail::Text(id, text.to_owned()));
                });
                let ended = ended.map_err(|e| if cancel.is_cancelled() { String::new() } else { e.to_string() });
                let _ = mail.send(Mail::Ended(id, ended));
            }
        };
        let has_room = self.open.len() < COMPLETIONS_OPEN_MAX;
        if has_room && std::thread::Builder::new().name("ask".to_owned()).spawn(ask).is_ok() {
            self.open.insert(id, cancel);
        } else {
            let _ = self.mail.send(Mail::Ended(id, Err("too many questions are open".to_owned())));
        }
    }
}
