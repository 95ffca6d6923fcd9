//! The engine's door: events in, effects out. Plain data; whoever drives the engine owns time, threads and text.

use base::{RequestId, TokenId, limits};

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

/// One sequence to continue.
#[derive(Clone, Debug)]
pub struct Request {
    /// Chosen by the caller, unique while the request lives.
    pub id: RequestId,
    /// At least one token.
    pub prompt: Vec<TokenId>,
    /// At least one. Clamped to what the context leaves.
    pub max_tokens: usize,
    /// How to choose.
    pub sampling: Sampling,
    /// Generation ends when one of these is chosen; that token is reported in no `Token` effect.
    pub stop_tokens: Vec<TokenId>,
    /// Report the chosen token's log-probability and this many of the best (<= `TOP_LOGPROBS_MAX`).
    pub logprobs: Option<u8>,
    /// Added to the logits before everything else.
    pub logit_bias: Vec<(TokenId, f32)>,
}

/// What can happen to the engine.
#[derive(Debug)]
pub enum Event {
    /// Queue this request.
    Submit(Box<Request>),
    /// Forget this request wherever it is; answered by `Finished(Cancelled)` if it was known.
    Cancel(RequestId),
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
    /// `max_tokens` is zero, or a parameter is out of its range.
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
    /// A token was chosen.
    Token {
        /// Whose.
        id: RequestId,
        /// Which.
        token: TokenId,
        /// If asked for.
        logprobs: Option<Box<Logprobs>>,
    },
    /// The last effect of a request.
    Finished {
        /// Which.
        id: RequestId,
        /// Why.
        reason: Finish,
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
    /// KV pages in use.
    pub pages_used: usize,
    /// KV pages in all.
    pub pages_total: usize,
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
}
