//! One engine that a server and this measurement drive in turn, and a record of its steps: so what a server adds is measured
//! on the very same weights, cache and threads, and the time of the model itself can be taken off.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base::{RequestId, TokenId, limits};
use engine::{Effect, Event, Info, Load, PageForm, Request, SavedPage, Stepper};

use crate::error::BenchError;

/// One step that gave tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub began: Instant,
    pub ended: Instant,
    /// Its last token, for comparing answers.
    pub token: TokenId,
}

struct Inner {
    engine: Box<dyn Stepper>,
    steps: Vec<Step>,
}

impl Inner {
    /// Answers go on to their length, whatever the model thinks: a measurement needs them equally long.
    fn step(&mut self, events: &mut Vec<Event>, effects: &mut Vec<Effect>) -> bool {
        for event in events.iter_mut() {
            if let Event::Submit(request) = event {
                request.stop_tokens.clear();
            }
        }
        let (n_before, began) = (effects.len(), Instant::now());
        let is_busy = self.engine.step(events, effects);
        let ended = Instant::now();
        let of_token = |e: &Effect| if let Effect::Token { token, .. } = e { Some(*token) } else { None };
        if let Some(token) = effects[n_before..].iter().rev().find_map(of_token)
            && self.steps.len() < limits::BENCH_STEPS_MAX
        {
            self.steps.push(Step { began, ended, token });
        }
        is_busy
    }
}

/// The engine.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Inner>>);

impl Shared {
    /// Shares an engine.
    pub fn new(engine: Box<dyn Stepper>) -> Self {
        Self(Arc::new(Mutex::new(Inner { engine, steps: Vec::with_capacity(limits::BENCH_STEPS_MAX) })))
    }

    /// For the server.
    pub fn stepper(&self) -> Box<dyn Stepper> {
        let info = self.lock().engine.info().clone();
        Box::new(Tapped { info, shared: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The steps since the last call.
    pub(crate) fn taken(&self) -> Vec<Step> {
        self.lock().steps.drain(..).collect()
    }

    /// One greedy answer, driven from here while the server has nothing to do: from before it is submitted.
    pub(crate) fn direct(&self, prompt: Vec<TokenId>, max_tokens: usize) -> Result<(Instant, Vec<Step>), BenchError> {
        let mut inner = self.lock();
        inner.steps.clear();
        let began = Instant::now();
        let request = Request { speculate: false, ..Request::new(RequestId(u64::MAX), prompt, max_tokens) };
        let (mut events, mut effects) = (vec![Event::Submit(Box::new(request))], Vec::new());
        while inner.step(&mut events, &mut effects) {
            effects.clear();
        }
        if let Some(Effect::Refused { why, .. }) = effects.iter().find(|e| matches!(e, Effect::Refused { .. })) {
            return Err(BenchError::Ask(format!("the engine refused the prompt ({why:?}); ask for fewer tokens")));
        }
        Ok((began, inner.steps.drain(..).collect()))
    }
}

/// What the server holds of it.
struct Tapped {
    info: Info,
    shared: Shared,
}

impl Stepper for Tapped {
    fn info(&self) -> &Info {
        &self.info
    }

    fn step(&mut self, events: &mut Vec<Event>, effects: &mut Vec<Effect>) -> bool {
        self.shared.lock().step(events, effects)
    }

    fn load(&self) -> Load {
        self.shared.lock().engine.load()
    }

    fn reset(&mut self) {
        self.shared.lock().engine.reset();
    }

    fn page_form(&self) -> Option<PageForm> {
        self.shared.lock().engine.page_form()
    }

    fn save_pages(&mut self, each: &mut dyn FnMut(SavedPage<'_>) -> ControlFlow<()>) {
        self.shared.lock().engine.save_pages(each);
    }

    fn restore_page(&mut self, number: u32, page: SavedPage<'_>) -> bool {
        self.shared.lock().engine.restore_page(number, page)
    }
}
