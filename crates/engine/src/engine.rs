//! The step: take events, admit, gather one batch of rows, run the model once, choose tokens. Sequences share steps, prefixes
//! are computed once, drafts are verified many at a time; invariant 3 makes all of it invisible in the answers. Where the
//! time goes: `Lm::forward`. The parts: admit.rs (slots and pages), gather.rs (rows), choose.rs (tokens).

use crate::api::{Effect, Event, Finish, Info, Load, PageForm, SavedPage, Stepper};
use crate::draft::{Costs, Pool, Proposal, Source};
use crate::lm::{Lm, LmSizes, ModelLm};
use crate::pages::{Handle, Pages};
use crate::queue::Queue;
use crate::sampler::Sampler;
use crate::slot::Slot;
use base::{TokenId, limits};
use model::{Model, Picks};
use ops::{Backend, Batch, OpsError, PAGE_LEN, Row};
use std::ops::ControlFlow;

/// Tokens of other files and answers that drafts may come from.
const POOL_TOKENS: usize = 1 << 18;
/// Rows of a step with all logits: what sampled sequences can verify at once.
const FULL_ROWS: usize = 32;

/// Sizes of an engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Positions of one sequence.
    pub n_ctx: usize,
    /// Sequences that run at once.
    pub n_slots: usize,
    /// Most rows of a step; prompts are cut into chunks of at most this.
    pub step_rows: usize,
    /// Pages of the cache; `None` is enough for every slot to be full.
    pub n_pages: Option<usize>,
    /// Draft at all. Off saves the memory for it.
    pub is_drafting: bool,
    /// Report a hash of the logits behind each token (`Effect::Token::bits`); slow, for tests.
    pub trace: bool,
    /// Hash of everything that logit bits depend on.
    pub fingerprint: String,
}

impl Default for Config {
    fn default() -> Self {
        let (step_rows, fingerprint) = (limits::STEP_ROWS_MAX, String::new());
        Self { n_ctx: 4096, n_slots: 1, step_rows, n_pages: None, is_drafting: true, trace: false, fingerprint }
    }
}

impl Config {
    /// The same within the limits, and with room for what must fit.
    fn checked(&self) -> Self {
        let n_slots = self.n_slots.clamp(1, limits::SLOTS_MAX);
        let n_ctx = self.n_ctx.clamp(1, limits::CTX_MAX);
        let per_slot = n_ctx.div_ceil(PAGE_LEN);
        let n_pages = self.n_pages.unwrap_or(per_slot * n_slots).max(per_slot);
        let step_rows = self.step_rows.clamp(1, limits::STEP_ROWS_MAX).max(n_slots);
        Self { n_ctx, n_slots, step_rows, n_pages: Some(n_pages), ..self.clone() }
    }

    /// Sizes of the model's side.
    pub fn lm_sizes(&self) -> LmSizes {
        let c = self.checked();
        let full_rows = FULL_ROWS.max(c.n_slots).min(c.step_rows);
        LmSizes { n_ctx: c.n_ctx, n_pages: c.n_pages.unwrap_or(1), step_rows: c.step_rows, full_rows }
    }
}

/// An engine over one model.
pub struct Engine<M: Lm> {
    pub(crate) lm: M,
    pub(crate) sampler: Sampler,
    pub(crate) info: Info,
    pub(crate) step_rows: usize,
    pub(crate) full_rows: usize,
    pub(crate) is_drafting: bool,
    pub(crate) is_traced: bool,
    pub(crate) queue: Queue,
    pub(crate) slots: Vec<Slot>,
    /// Room for the tokens of sequences that had to give way; never fewer than running sequences.
    pub(crate) spare: Vec<Vec<TokenId>>,
    pub(crate) pages: Pages,
    /// Page tables of all slots, `per_slot` each.
    pub(crate) tables: Vec<u32>,
    pub(crate) per_slot: usize,
    pub(crate) pool: Pool,
    pub(crate) costs: Costs,
    /// What a draft row of the present step costs, in rows without drafts.
    pub(crate) draft_price: f32,
    pub(crate) no_proposal: Proposal,
    pub(crate) rows: Vec<Row>,
    /// Rows that are scored: all logits, or the best only.
    pub(crate) full: Vec<u32>,
    pub(crate) best: Vec<u32>,
    pub(crate) by_rank: Vec<usize>,
    /// Slots with a proposal in this step.
    pub(crate) drafting: Vec<usize>,
    pub(crate) forced: Vec<TokenId>,
    pub(crate) mask: Vec<u32>,
    pub(crate) admitted: u64,
    pub(crate) preempted: u64,
    /// Rows and mean depth of the last step, until its time is told.
    pub(crate) last_step: (usize, usize),
    /// Pages that were taken back from a disk, by their numbers.
    restored: Vec<Option<Handle>>,
}

impl<B: Backend> Engine<ModelLm<B>>
where
    B::Kv: Send,
    B::Act: Send,
{
    /// An engine over a model on a backend.
    ///
    /// # Errors
    /// Memory.
    pub fn of_model(backend: B, model: Model<B>, config: &Config) -> Result<Self, OpsError> {
        Ok(Self::new(ModelLm::new(backend, model, config.lm_sizes())?, config))
    }
}

impl<M: Lm> Engine<M> {
    /// Over a model that was made for `config.lm_sizes()`. Sizes everything; after this no step allocates (but for the
    /// log-probabilities a request asks for).
    pub fn new(lm: M, config: &Config) -> Self {
        let sizes = config.lm_sizes();
        let Config { n_ctx, n_slots, step_rows, is_drafting, trace, fingerprint, .. } = config.checked();
        let per_slot = n_ctx.div_ceil(PAGE_LEN);
        let n_vocab = lm.n_vocab();
        let draft_ctx = if is_drafting { n_ctx } else { 0 };
        Self {
            sampler: Sampler::new(n_vocab),
            info: Info { n_ctx, n_vocab, n_slots, fingerprint },
            step_rows,
            full_rows: sizes.full_rows,
            is_drafting,
            is_traced: trace,
            queue: Queue::new(n_slots),
            slots: (0..n_slots).map(|i| Slot::new(n_ctx, draft_ctx, i * per_slot)).collect(),
            spare: (0..2 * n_slots).map(|_| Vec::with_capacity(n_ctx + 1)).collect(),
            pages: Pages::new(sizes.n_pages),
            tables: vec![0; n_slots * per_slot],
            per_slot,
            pool: Pool::new(if is_drafting { POOL_TOKENS } else { 0 }),
            costs: Costs::new(),
            draft_price: 1.0,
            no_proposal: Proposal::new(Source::History),
            rows: Vec::with_capacity(step_rows),
            full: Vec::with_capacity(step_rows),
            best: Vec::with_capacity(step_rows),
            by_rank: Vec::with_capacity(n_slots),
            drafting: vec![0; n_slots],
            forced: Vec::with_capacity(n_ctx),
            mask: vec![0; n_vocab.div_ceil(32)],
            admitted: 0,
            preempted: 0,
            last_step: (0, 0),
            restored: Vec::new(),
            lm,
        }
    }

    /// The model's name for itself.
    pub fn name(&self) -> String {
        self.lm.name()
    }

    /// Forgets all cached prefixes that no running sequence holds.
    pub fn clear_cache(&mut self) {
        self.pages.clear();
    }

    /// Whether the books of pages add up, for tests.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let table = |s: &Slot| &self.tables[s.table..s.table + s.n_pages];
        let running = self.slots.iter().filter(|s| s.request.is_some());
        self.pages.check(running.map(|s| (&s.lease, table(s))))
    }
}

impl<M: Lm> Stepper for Engine<M> {
    fn info(&self) -> &Info {
        &self.info
    }

    fn step(&mut self, events: &mut Vec<Event>, effects: &mut Vec<Effect>) -> bool {
        for event in events.drain(..) {
            self.take(event, effects);
        }
        self.expire(effects);
        self.admit(effects);
        self.gather(effects);
        if self.rows.is_empty() {
            return !self.queue.is_empty();
        }
        let batch = Batch { rows: &self.rows, pages: &self.tables };
        self.lm.forward(batch, Picks { full: &self.full, best: &self.best });
        self.advance(effects);
        self.choose(effects);
        !self.queue.is_empty() || self.slots.iter().any(|s| s.request.is_some())
    }

    fn load(&self) -> Load {
        Load {
            queued: self.queue.len(),
            running: self.slots.iter().filter(|s| s.request.is_some()).count(),
            pages_used: self.pages.total() - self.pages.available(),
            pages_cached: self.pages.cached() - self.pages.pinned(),
            pages_total: self.pages.total(),
            rows: self.rows.len(),
            preempted: self.preempted,
        }
    }

    fn page_form(&self) -> Option<PageForm> {
        Some(self.lm.page_form())
    }

    fn save_pages(&mut self, each: &mut dyn FnMut(SavedPage<'_>) -> ControlFlow<()>) {
        let mut bytes = vec![0; self.lm.page_form().bytes];
        let lm = &self.lm;
        self.pages.walk(|page| {
            lm.read_page(page.page, &mut bytes);
            let parent = page.parent.and_then(|p| u32::try_from(p).ok());
            each(SavedPage { parent, salt: page.salt, tokens: page.tokens, bytes: &bytes })
        });
    }

    fn restore_page(&mut self, number: u32, page: SavedPage<'_>) -> bool {
        let number = number as usize;
        if number == 0 {
            self.restored.clear();
        }
        let parent = page.parent.and_then(|p| self.restored.get(p as usize).copied().flatten());
        let is_known = page.tokens.iter().all(|t| (*t as usize) < self.info.n_vocab);
        let is_sound = is_known && parent.is_some() == page.parent.is_some();
        let adopted = if is_sound { self.pages.adopt(parent, page.salt, page.tokens) } else { None };
        if number < self.pages.total() {
            self.restored.resize(self.restored.len().max(number + 1), None);
            self.restored[number] = adopted.map(|a| a.handle);
        }
        if let Some(free) = adopted.and_then(|a| a.page) {
            self.lm.write_page(free, page.bytes);
        }
        adopted.is_some()
    }

    fn reset(&mut self) {
        let mut lost = Vec::new();
        while let Some(waiting) = self.queue.pop() {
            self.drop_waiting(waiting, Finish::Cancelled, &mut lost);
        }
        for i in 0..self.slots.len() {
            self.slots[i].n_cached = 0; // nothing that a failed step touched may be shared
            self.finish(i, Finish::Cancelled, &mut lost);
        }
        self.pages.clear();
    }
}
