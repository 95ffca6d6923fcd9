//! The step: admit what fits, gather one batch of rows (one per decoding sequence, then prompt chunks), run the model once,
//! choose tokens. Sequences share steps; invariant 3 makes that invisible in their answers. Where the time goes: `forward`.

use crate::api::{Drafts, Effect, Event, Finish, Info, Load, Refusal, Request, Stepper};
use crate::sampler::{Context, Sampler};
use base::{RequestId, TokenId, limits};
use model::{Model, Scratch};
use ops::{Backend, Batch, OpsError, PAGE_LEN, Row};
use std::collections::VecDeque;

/// Rows of prompt in a step that also decodes, so that running answers keep moving.
const PREFILL_ROWS_BESIDE_DECODE: usize = 128;

/// Sizes of an engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Positions of one sequence.
    pub n_ctx: usize,
    /// Sequences that run at once.
    pub n_slots: usize,
    /// Most rows of a step; prompts are cut into chunks of at most this.
    pub step_rows: usize,
    /// Hash of everything that logit bits depend on.
    pub fingerprint: String,
}

/// A sequence that has pages.
struct Slot {
    request: Option<Box<Request>>,
    /// Prompt, then answer.
    tokens: Vec<TokenId>,
    /// Positions whose keys and values are in the cache.
    n_cached: usize,
    /// May generate up to this many tokens in all.
    len_max: usize,
    /// Ended by `Context` rather than `Length` when `len_max` is reached.
    is_cut_by_context: bool,
    /// Where its page table starts in `Engine::pages`.
    table: usize,
    n_pages: usize,
    /// Rising with admission: prompts are served in this order.
    order: u64,
}

/// An engine over one model and one backend.
pub struct Engine<B: Backend> {
    backend: B,
    model: Model<B>,
    kv: B::Kv,
    scratch: Scratch<B>,
    sampler: Sampler,
    info: Info,
    step_rows: usize,
    queue: VecDeque<Box<Request>>,
    slots: Vec<Slot>,
    /// Page tables of all slots, `n_ctx / PAGE_LEN` (rounded up) each.
    pages: Vec<u32>,
    free: Vec<u32>,
    rows: Vec<Row>,
    /// Rows with logits, and the slot of each.
    pick: Vec<u32>,
    picked: Vec<usize>,
    by_order: Vec<usize>,
    host: Vec<f32>,
    admitted: u64,
}

impl<B: Backend> Engine<B> {
    /// Sizes everything; after this no step allocates (but for the log-probabilities a request asks for).
    ///
    /// # Errors
    /// Memory.
    pub fn new(mut backend: B, model: Model<B>, config: &Config) -> Result<Self, OpsError> {
        let n_slots = config.n_slots.clamp(1, limits::SLOTS_MAX);
        let n_ctx = config.n_ctx.clamp(1, limits::CTX_MAX);
        let step_rows = config.step_rows.clamp(1, limits::STEP_ROWS_MAX).max(n_slots);
        let per_slot = n_ctx.div_ceil(PAGE_LEN);
        let n_pages = per_slot * n_slots;
        let kv = backend.new_kv(model.kv_shape(n_pages))?;
        let scratch = Scratch::new(&mut backend, &model, step_rows, n_slots, n_ctx)?;
        let slot = |i: usize| Slot {
            request: None,
            tokens: Vec::with_capacity(n_ctx + 1),
            n_cached: 0,
            len_max: 0,
            is_cut_by_context: false,
            table: i * per_slot,
            n_pages: 0,
            order: 0,
        };
        let fingerprint = config.fingerprint.clone();
        Ok(Self {
            sampler: Sampler::new(model.hp.n_vocab),
            info: Info { n_ctx, n_vocab: model.hp.n_vocab, n_slots, fingerprint },
            kv,
            scratch,
            step_rows,
            queue: VecDeque::with_capacity(limits::QUEUE_MAX),
            slots: (0..n_slots).map(slot).collect(),
            pages: vec![0; n_pages],
            free: (0..n_pages as u32).rev().collect(),
            rows: Vec::with_capacity(step_rows),
            pick: Vec::with_capacity(n_slots),
            picked: Vec::with_capacity(n_slots),
            by_order: Vec::with_capacity(n_slots),
            host: Vec::new(),
            admitted: 0,
            backend,
            model,
        })
    }

    /// The backend's name for itself.
    pub fn backend_name(&self) -> String {
        self.backend.name()
    }

    /// Logits of the last step's picked rows, for tests and tools: `[picks][n_vocab]`, with the request of each.
    pub fn last_logits(&mut self) -> Vec<(RequestId, Vec<f32>)> {
        let (backend, scratch, host) = (&self.backend, &self.scratch, &mut self.host);
        let request = |i: usize| self.slots[i].request.as_ref().map_or(RequestId(u64::MAX), |r| r.id);
        let row = |(i, slot): (usize, &usize)| (request(*slot), backend.row(&scratch.logits, i, host).to_vec());
        self.picked.iter().enumerate().map(row).collect()
    }

    fn take(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Submit(request) => match self.refusal(&request) {
                Some(why) => effects.push(Effect::Refused { id: request.id, why }),
                None => self.queue.push_back(request),
            },
            Event::Clock(_) | Event::Took(_) => {}
            Event::Cancel(id) => {
                let queued = self.queue.iter().position(|r| r.id == id).and_then(|i| self.queue.remove(i));
                let running = self.slots.iter().position(|s| s.request.as_ref().is_some_and(|r| r.id == id));
                if queued.is_some() {
                    effects.push(Effect::Finished { id, reason: Finish::Cancelled, drafts: Drafts::default() });
                } else if let Some(i) = running {
                    self.finish(i, Finish::Cancelled, effects);
                }
            }
        }
    }

    fn refusal(&self, r: &Request) -> Option<Refusal> {
        let s = &r.sampling;
        let known = |t: &TokenId| (*t as usize) < self.info.n_vocab;
        let numbers = [s.temperature, s.top_p, s.min_p, s.repeat_penalty, s.presence_penalty, s.frequency_penalty];
        let sane = numbers.iter().all(|x| x.is_finite()) && s.temperature >= 0.0 && s.repeat_penalty > 0.0;
        let biases = r.logit_bias.iter().all(|(t, b)| known(t) && b.is_finite());
        if r.prompt.is_empty() {
            Some(Refusal::EmptyPrompt)
        } else if r.prompt.len() >= self.info.n_ctx {
            Some(Refusal::PromptTooLong)
        } else if !r.prompt.iter().all(known) {
            Some(Refusal::BadToken)
        } else if r.max_tokens == 0 || !sane || !biases {
            Some(Refusal::BadParameter)
        } else if self.queue.len() >= limits::QUEUE_MAX {
            Some(Refusal::QueueFull)
        } else {
            None
        }
    }

    /// Gives slots and pages to the queue's head while both last: first come, first served.
    fn admit(&mut self, effects: &mut Vec<Effect>) {
        while let (Some(head), Some(i)) = (self.queue.front(), self.slots.iter().position(|s| s.request.is_none())) {
            let room = self.info.n_ctx - head.prompt.len();
            let len_max = head.prompt.len() + head.max_tokens.min(room);
            // The last token is never fed back, so it needs no position.
            let n_pages = (len_max - 1).max(head.prompt.len()).div_ceil(PAGE_LEN);
            if n_pages > self.free.len() {
                return;
            }
            let Some(request) = self.queue.pop_front() else { return };
            self.admitted += 1;
            let slot = &mut self.slots[i];
            for p in 0..n_pages {
                self.pages[slot.table + p] = self.free.pop().unwrap_or_default();
            }
            slot.tokens.clear();
            slot.tokens.extend_from_slice(&request.prompt);
            (slot.n_cached, slot.len_max, slot.n_pages) = (0, len_max, n_pages);
            slot.is_cut_by_context = request.max_tokens > room;
            slot.order = self.admitted;
            effects.push(Effect::Admitted { id: request.id });
            slot.request = Some(request);
        }
    }

    fn finish(&mut self, i: usize, reason: Finish, effects: &mut Vec<Effect>) {
        let slot = &mut self.slots[i];
        let Some(request) = slot.request.take() else { return };
        self.free.extend_from_slice(&self.pages[slot.table..slot.table + slot.n_pages]);
        slot.n_pages = 0;
        effects.push(Effect::Finished { id: request.id, reason, drafts: Drafts::default() });
    }

    /// Rows of the next step. Decoding sequences first, one row each; then prompts in order of admission.
    fn gather(&mut self) {
        self.rows.clear();
        self.pick.clear();
        self.picked.clear();
        self.by_order.clear();
        self.by_order.extend((0..self.slots.len()).filter(|i| self.slots[*i].request.is_some()));
        let slots = &self.slots;
        self.by_order.sort_unstable_by_key(|i| (slots[*i].is_prefilling(), slots[*i].order));
        let decoding = self.by_order.iter().filter(|i| !slots[**i].is_prefilling()).count();
        let beside = decoding + PREFILL_ROWS_BESIDE_DECODE.min(self.step_rows - decoding);
        let budget = if decoding > 0 { beside } else { self.step_rows };
        for i in &self.by_order {
            let slot = &slots[*i];
            let n = (slot.tokens.len() - slot.n_cached).min(budget - self.rows.len());
            let row = |pos: usize| Row { token: slot.tokens[pos], pos: pos as u32, table: slot.table as u32 };
            self.rows.extend((slot.n_cached..slot.n_cached + n).map(row));
            if n > 0 && slot.n_cached + n == slot.tokens.len() {
                self.pick.push(self.rows.len() as u32 - 1);
                self.picked.push(*i);
            }
        }
    }

    /// Counts the fed rows as cached, and announces prompts that are complete.
    fn advance(&mut self, effects: &mut Vec<Effect>) {
        for row in &self.rows {
            let per_slot = self.pages.len() / self.slots.len();
            self.slots[row.table as usize / per_slot].n_cached += 1;
        }
        for i in &self.picked {
            let slot = &self.slots[*i];
            if let Some(request) = slot.request.as_ref().filter(|r| r.prompt.len() == slot.tokens.len()) {
                effects.push(Effect::Prefilled { id: request.id, n_prompt: slot.tokens.len(), n_cached: 0 });
            }
        }
    }

    fn choose(&mut self, effects: &mut Vec<Effect>) {
        for p in 0..self.picked.len() {
            let i = self.picked[p];
            let slot = &mut self.slots[i];
            let Some(request) = &slot.request else { continue };
            let logits = self.backend.row(&self.scratch.logits, p, &mut self.host);
            let context = Context {
                sampling: &request.sampling,
                bias: &request.logit_bias,
                tokens: &slot.tokens,
                n_prompt: request.prompt.len(),
                logprobs: request.logprobs,
            };
            let (token, logprobs) = self.sampler.choose(logits, &context);
            if request.stop_tokens.contains(&token) {
                self.finish(i, Finish::StopToken, effects);
                continue;
            }
            effects.push(Effect::Token { id: request.id, token, logprobs, bits: 0 });
            slot.tokens.push(token);
            if slot.tokens.len() >= slot.len_max {
                let reason = if slot.is_cut_by_context { Finish::Context } else { Finish::Length };
                self.finish(i, reason, effects);
            }
        }
    }
}

impl Slot {
    fn is_prefilling(&self) -> bool {
        self.request.as_ref().is_some_and(|r| self.n_cached < r.prompt.len())
    }
}

impl<B: Backend> Stepper for Engine<B>
where
    B::Kv: Send,
    B::Act: Send,
{
    fn info(&self) -> &Info {
        &self.info
    }

    fn step(&mut self, events: &mut Vec<Event>, effects: &mut Vec<Effect>) -> bool {
        for event in events.drain(..) {
            self.take(event, effects);
        }
        self.admit(effects);
        self.gather();
        if self.rows.is_empty() {
            return false;
        }
        let batch = Batch { rows: &self.rows, pages: &self.pages };
        self.model.forward(&mut self.backend, &mut self.kv, &mut self.scratch, batch, &self.pick);
        self.advance(effects);
        self.choose(effects);
        !self.queue.is_empty() || self.slots.iter().any(|s| s.request.is_some())
    }

    fn load(&self) -> Load {
        Load {
            queued: self.queue.len(),
            running: self.slots.iter().filter(|s| s.request.is_some()).count(),
            pages_used: self.pages.len() - self.free.len(),
            pages_total: self.pages.len(),
            ..Load::default()
        }
    }

    fn reset(&mut self) {
        self.queue.clear();
        let mut lost = Vec::new();
        for i in 0..self.slots.len() {
            self.finish(i, Finish::Cancelled, &mut lost);
        }
    }
}
