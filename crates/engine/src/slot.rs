//! A sequence that has a slot: its tokens, its pages, its drafts, and the rows it has in the present step.

use crate::api::{Drafts, Request};
use crate::draft::Drafter;
use crate::pages::Lease;
use base::TokenId;

/// With at most this many tokens not yet computed a sequence counts as decoding: it goes into every step.
const DECODE_ROWS_MAX: usize = 16;

/// Room for one sequence, made once.
pub(crate) struct Slot {
    pub(crate) request: Option<Box<Request>>,
    /// Prompt, then answer. One longer than the context.
    pub(crate) tokens: Vec<TokenId>,
    /// Positions whose keys and values are in the cache.
    pub(crate) n_cached: usize,
    /// Of the prompt, found in the cache.
    pub(crate) n_hit: usize,
    /// May have up to this many tokens in all.
    pub(crate) len_max: usize,
    /// Ended by `Context` rather than `Length` when `len_max` is reached.
    pub(crate) is_cut_by_context: bool,
    /// `Prefilled` was told.
    pub(crate) is_announced: bool,
    /// Where its page table starts in `Engine::tables`, and how many pages it has.
    pub(crate) table: usize,
    pub(crate) n_pages: usize,
    pub(crate) lease: Lease,
    /// Rising with admission.
    pub(crate) order: u64,
    pub(crate) drafter: Drafter,
    pub(crate) drafts: Drafts,
    /// Rows of the present step: tokens, then drafts.
    pub(crate) n_rows: usize,
    pub(crate) n_drafts: usize,
    /// Its first picked row in the list of those with all logits, or of those with the best only.
    pub(crate) pick: Option<Pick>,
}

/// Where a slot's scores are.
#[derive(Clone, Copy)]
pub(crate) struct Pick {
    pub(crate) is_full: bool,
    pub(crate) first: usize,
}

impl Slot {
    /// For sequences of `n_ctx` tokens, of which the first `draft_ctx` are looked at for drafts.
    pub(crate) fn new(n_ctx: usize, draft_ctx: usize, table: usize) -> Self {
        Self {
            request: None,
            tokens: Vec::with_capacity(n_ctx + 1),
            n_cached: 0,
            n_hit: 0,
            len_max: 0,
            is_cut_by_context: false,
            is_announced: false,
            table,
            n_pages: 0,
            lease: Lease::default(),
            order: 0,
            drafter: Drafter::new(draft_ctx),
            drafts: Drafts::default(),
            n_rows: 0,
            n_drafts: 0,
            pick: None,
        }
    }

    /// Tokens that are not computed yet.
    pub(crate) fn n_pending(&self) -> usize {
        self.tokens.len() - self.n_cached
    }

    pub(crate) fn is_decoding(&self) -> bool {
        self.n_pending() <= DECODE_ROWS_MAX
    }

    /// Tokens it may still get.
    pub(crate) fn room(&self) -> usize {
        self.len_max - self.tokens.len()
    }

    /// What comes first when steps and pages are short: the better class, then the earlier.
    pub(crate) fn rank(&self) -> (crate::api::Class, u64) {
        (self.request.as_ref().map(|r| r.class).unwrap_or_default(), self.order)
    }
}

/// The next token depends on nothing but the best logit.
pub(crate) fn is_plain_greedy(r: &Request) -> bool {
    let s = &r.sampling;
    let penalised = s.repeat_penalty != 1.0 || s.presence_penalty != 0.0 || s.frequency_penalty != 0.0;
    let greedy = s.temperature <= 0.0 || s.top_k == 1;
    greedy && !penalised && r.logit_bias.is_empty() && r.logprobs.is_none() && r.constraint.is_none()
}
