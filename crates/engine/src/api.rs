//! The engine's door: events in, effects out. Plain data; whoever drives the engine owns time, threads and text.

use base::{RequestId, TokenId, limits};
use std::ops::ControlFlow;

/// How the next token is chosen from the logits. Applied in this order: logit bias, penalties, temperature, top_k, top_p, min_p.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy (the highest logit; ties go to the lower id).
    pub temperature: f32,
    /// Keep the k most likely; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set whose probabilities sum to at least this.
    pub top_p: f32,
    /// Keep tokens at least this times as likely as the most likely one.
    pub min_p: f32,
    /// Divide (multiply, if negative) the logits of recent tokens by this; 1 is off.
    pub repeat_penalty: f32,
    /// How many tokens back count as recent for `repeat_penalty`.
    pub repeat_last_n: u32,
    /// Subtract from the logit of every token that was generated (OpenAI).
    pub presence_penalty: f32,
    /// Subtract times the number of times it was generated (OpenAI).
    pub frequency_penalty: f32,
    /// The draw at a position depends on (seed, position) only.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        }
    }
}

/// Who goes first. A better class takes slots and pages from a worse one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Completions while somebody types.
    Interactive,
    /// Somebody waits for an answer.
    #[default]
    Chat,
    /// Nobody waits.
    Batch,
}

/// What a grammar lets come next. It is asked and told in order, one token at a time; the engine's thread owns it.
pub trait Constraint: Send + std::fmt::Debug {
    /// Sets the bit of every token that may come next (`mask[t / 32] >> (t % 32) & 1`; all bits are clear before).
    /// False when nothing may come next: the answer ends.
    fn allow(&mut self, mask: &mut [u32]) -> bool;
    /// This token, which was allowed or forced, has come.
    fn accept(&mut self, token: TokenId);
    /// Appends tokens that must come next whatever the model thinks (jump-forward, Zheng et al. 2024); they are not passed to `accept`.
    fn force(&mut self, _tokens: &mut Vec<TokenId>) {}
    /// A fresh copy in the same state, for requests with several answers.
    fn copy(&self) -> Box<dyn Constraint>;
}

impl Clone for Box<dyn Constraint> {
    fn clone(&self) -> Self {
        self.copy()
    }
}

/// One sequence to continue.
#[derive(Clone, Debug)]
pub struct Request {
    /// Chosen by the caller, unique while the request lives.
    pub id: RequestId,
    /// At least one token.
    pub prompt: Vec<TokenId>,
    /// Clamped to what the context leaves. 0: only compute the prompt into the cache.
    pub max_tokens: usize,
    /// How to choose.
    pub sampling: Sampling,
    /// Generation ends when one of these is chosen; that token is reported in no `Token` effect.
    pub stop_tokens: Vec<TokenId>,
    /// Report the chosen token's log-probability and this many of the best (<= `TOP_LOGPROBS_MAX`).
    pub logprobs: Option<u8>,
    /// Added to the logits before everything else.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Priority.
    pub class: Class,
    /// Who asks: within a class, keys get equal shares.
    pub key: u64,
    /// Cached prefixes and drafts are shared among requests with equal salt only.
    pub salt: u64,
    /// Time (`Event::Clock`) at which the request ends with `Finish::Deadline`, wherever it is; `u64::MAX` is never.
    pub deadline_us: u64,
    /// Draft tokens when they are likely to be right. The answer does not depend on it.
    pub speculate: bool,
    /// What the client expects the answer to look like (OpenAI `prediction`); may be empty.
    pub prediction: Vec<TokenId>,
    /// For measuring: the answer is these tokens, whatever the model thinks, and ends after them. Empty is off.
    pub replay: Vec<TokenId>,
    /// Which tokens may come.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl Request {
    /// Greedy, with everything else at its default.
    pub fn new(id: RequestId, prompt: Vec<TokenId>, max_tokens: usize) -> Self {
        Self {
            id,
            prompt,
            max_tokens,
            sampling: Sampling::default(),
            stop_tokens: Vec::new(),
            logprobs: None,
            logit_bias: Vec::new(),
            class: Class::default(),
            key: 0,
            salt: 0,
            deadline_us: u64::MAX,
            speculate: true,
            prediction: Vec::new(),
            replay: Vec::new(),
            constraint: None,
        }
    }
}

/// What can happen to the engine.
#[derive(Debug)]
pub enum Event {
    /// Queue this request.
    Submit(Box<Request>),
    /// Forget this request wherever it is; answered by `Finished(Cancelled)` if it was known.
    Cancel(RequestId),
    /// Microseconds since the driver's start: the engine has no clock.
    Clock(u64),
    /// How long the last step took, in nanoseconds: what drafts are weighed against.
    Took(u64),
}

/// Where drafted tokens came from.
pub const SOURCES: [&str; 4] = ["prediction", "history", "pool", "model"];

/// Drafted tokens by source (`SOURCES`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drafts {
    /// Verified.
    pub offered: [u64; SOURCES.len()],
    /// Of them, kept.
    pub accepted: [u64; SOURCES.len()],
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token was chosen.
    StopToken,
    /// `max_tokens` were generated.
    Length,
    /// The context is full.
    Context,
    /// The caller cancelled.
    Cancelled,
    /// `deadline_us` has passed.
    Deadline,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue holds `QUEUE_MAX` requests.
    QueueFull,
    /// No tokens in the prompt.
    EmptyPrompt,
    /// The prompt leaves no room for one token in the context.
    PromptTooLong,
    /// A token id is not in the vocabulary.
    BadToken,
    /// A parameter is out of its range.
    BadParameter,
}

/// Natural-log probabilities at one position, after logit bias, before temperature.
#[derive(Clone, Debug)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub chosen: f32,
    /// The best, in falling order; `n` of them are filled.
    pub top: [(TokenId, f32); limits::TOP_LOGPROBS_MAX],
    /// How many of `top` are filled.
    pub n: u8,
}

/// What the engine did.
#[derive(Debug)]
pub enum Effect {
    /// Left the queue and has a slot.
    Admitted {
        /// Which.
        id: RequestId,
    },
    /// The whole prompt is in the cache; the first token follows in this step.
    Prefilled {
        /// Which.
        id: RequestId,
        /// Prompt tokens.
        n_prompt: usize,
        /// Of them, not computed again (prefix hit).
        n_cached: usize,
    },
    /// This step also checked drafts for it; its tokens, if it gives any, follow.
    Verified {
        /// Whose.
        id: RequestId,
    },
    /// A token was chosen.
    Token {
        /// Whose.
        id: RequestId,
        /// Which.
        token: TokenId,
        /// If asked for.
        logprobs: Option<Box<Logprobs>>,
        /// Hash of all logits that the token was chosen from, if the engine traces (`Config::trace`); else 0.
        bits: u64,
    },
    /// Gave its slot to a better class or to older requests of its own, and waits again; its answer goes on later.
    Preempted {
        /// Which.
        id: RequestId,
    },
    /// The last effect of a request.
    Finished {
        /// Which.
        id: RequestId,
        /// Why.
        reason: Finish,
        /// What became of its drafts.
        drafts: Drafts,
    },
    /// The only effect of a request that was not taken.
    Refused {
        /// Which.
        id: RequestId,
        /// Why.
        why: Refusal,
    },
}

/// What callers need to know of an engine.
#[derive(Clone, Debug)]
pub struct Info {
    /// Positions of one sequence (prompt and answer).
    pub n_ctx: usize,
    /// Size of the vocabulary the model scores.
    pub n_vocab: usize,
    /// Sequences that run at once.
    pub n_slots: usize,
    /// Equal logit bits are promised between engines with equal fingerprints.
    pub fingerprint: String,
}

/// Counts at this moment, for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Waiting for a slot.
    pub queued: usize,
    /// Have a slot.
    pub running: usize,
    /// KV pages that running sequences use.
    pub pages_used: usize,
    /// KV pages that only the prefix cache holds.
    pub pages_cached: usize,
    /// KV pages in all.
    pub pages_total: usize,
    /// Rows of the last step.
    pub rows: usize,
    /// Sequences that had to give way, since the start.
    pub preempted: u64,
}

/// A page of the prefix cache, on its way to a disk or back.
#[derive(Clone, Copy, Debug)]
pub struct SavedPage<'a> {
    /// Number of the page before it; `None` at the start of a sequence.
    pub parent: Option<u32>,
    /// Who may share it (`Request::salt`).
    pub salt: u64,
    /// Its tokens.
    pub tokens: &'a [TokenId],
    /// Its keys and values, all layers.
    pub bytes: &'a [u8],
}

/// What a page's bytes are: pages go only into a cache that says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageForm {
    /// Bytes of one page.
    pub bytes: usize,
    /// Types, order and sizes of what is in them.
    pub layout: String,
}

/// An engine of any backend, to be driven by one thread.
pub trait Stepper: Send {
    /// Sizes and fingerprint.
    fn info(&self) -> &Info;
    /// Takes all `events` (leaving the vector empty), runs at most one forward pass, appends `effects`.
    /// True while there is work left: call again without waiting for an event.
    fn step(&mut self, events: &mut Vec<Event>, effects: &mut Vec<Effect>) -> bool;
    /// Counts for metrics.
    fn load(&self) -> Load;
    /// Ends every request after a failed step: pages back, queue empty. The caller has told the clients.
    fn reset(&mut self);
    /// What saved pages look like; `None` where nothing can be saved.
    fn page_form(&self) -> Option<PageForm> {
        None
    }
    /// Shows every cached page: parents before children, the most valuable first. Pages are numbered from 0 in this order.
    fn save_pages(&mut self, _each: &mut dyn FnMut(SavedPage<'_>) -> ControlFlow<()>) {}
    /// Takes back a saved page, in the order they were saved; `number` is its own, by which later ones name it as `parent`.
    /// False where there is no room, or its parent was not taken.
    fn restore_page(&mut self, _number: u32, _page: SavedPage<'_>) -> bool {
        false
    }
}
