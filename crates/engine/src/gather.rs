//! The rows of a step: decoding sequences first, with the drafts that pay; then prompts by rank, as far as the budget goes.

use crate::api::Effect;
use crate::draft;
use crate::engine::Engine;
use crate::lm::Lm;
use crate::slot::{Pick, is_plain_greedy};
use crate::small::{ANSWER_MIN, DRAFT_MODEL_MAX};
use base::limits::SLOTS_MAX;
use ops::{PAGE_LEN, Row};

/// A draft that is copied is kept if so many of its first tokens are expected to be right; else a draft model is asked.
const COPY_PROMISES: f32 = 1.5;
/// A step that also decodes takes about this long at most, so that running answers keep moving ...
const STEP_NS_BESIDE_DECODE: f32 = 100e6;
/// ... and has so many rows of prompt: fewer would waste the weights that are read for them, more gain nothing.
const PREFILL_ROWS_BESIDE_DECODE: [usize; 6] = [128, 96, 64, 48, 32, 16];

impl<M: Lm> Engine<M> {
    /// Chooses the rows of the next step and which of them are scored.
    pub(crate) fn gather(&mut self, effects: &mut Vec<Effect>) {
        self.by_rank.clear();
        self.by_rank.extend((0..self.slots.len()).filter(|i| self.slots[*i].request.is_some()));
        let slots = &self.slots;
        self.by_rank.sort_unstable_by_key(|i| (!slots[*i].is_decoding(), slots[*i].rank()));
        self.share_rows(effects);
        self.draft();
        self.lay_out();
    }

    /// How many of its tokens each sequence computes now.
    fn share_rows(&mut self, effects: &mut Vec<Effect>) {
        let is_decoding = |i: &&usize| self.slots[**i].is_decoding();
        let n_decoding: usize = self.by_rank.iter().filter(is_decoding).map(|i| self.slots[*i].n_pending()).sum();
        let mut left = if n_decoding > 0 { self.rows_beside(n_decoding) } else { self.step_rows };
        for k in 0..self.by_rank.len() {
            let i = self.by_rank[k];
            let slot = &mut self.slots[i];
            (slot.n_rows, slot.n_drafts, slot.pick) = (0, 0, None);
            if slot.request.is_none() {
                continue; // it had to give its pages to one before it
            }
            let want = slot.n_cached + slot.n_pending().min(left);
            let has = self.grow(i, want, effects);
            let slot = &mut self.slots[i];
            slot.n_rows = has.saturating_sub(slot.n_cached);
            left -= slot.n_rows;
        }
        // A sequence may have lost its pages after it got rows.
        self.by_rank.retain(|i| self.slots[*i].request.is_some() && self.slots[*i].n_rows > 0);
    }

    /// Rows of a step that decodes so many.
    fn rows_beside(&self, n_decoding: usize) -> usize {
        let depth = self.mean_depth();
        let in_time = |n: &&usize| self.costs.ns(n_decoding + **n, depth) <= STEP_NS_BESIDE_DECODE;
        let least = PREFILL_ROWS_BESIDE_DECODE[PREFILL_ROWS_BESIDE_DECODE.len() - 1];
        let prompt = PREFILL_ROWS_BESIDE_DECODE.iter().find(in_time).copied().unwrap_or(least);
        (n_decoding + prompt).min(self.step_rows)
    }

    fn mean_depth(&self) -> usize {
        self.by_rank.iter().map(|i| self.slots[*i].n_cached).sum::<usize>() / self.by_rank.len().max(1)
    }

    /// Adds the drafts that are worth their rows.
    fn draft(&mut self) {
        if let Some(small) = &mut self.small {
            small.spent = 0.0;
        }
        if !self.is_drafting {
            return;
        }
        let base: usize = self.by_rank.iter().map(|i| self.slots[*i].n_rows).sum();
        let (mut n, depth) = (0, self.mean_depth());
        for i in &self.by_rank {
            let slot = &mut self.slots[*i];
            let Some(request) = slot.request.as_ref().filter(|r| r.speculate) else { continue };
            if slot.n_rows == slot.n_pending() && slot.room() > 1 {
                slot.drafter.propose(&slot.tokens, Some((&self.pool, request.salt)));
                self.drafting[n] = *i;
                n += 1;
            }
        }
        if n == 0 {
            return;
        }
        if n == 1 && self.by_rank.len() == 1 {
            self.ask_draft_model(self.drafting[0], depth);
        }
        let mut proposals = [&self.no_proposal; SLOTS_MAX];
        for (p, i) in proposals.iter_mut().zip(&self.drafting[..n]) {
            *p = self.slots[*i].drafter.proposal();
        }
        let mut take = [0; SLOTS_MAX];
        let rows_max = self.step_rows - base;
        draft::allot(&self.costs, base, depth, &proposals[..n], rows_max, &mut take[..n]);
        self.draft_price = self.costs.price(base, take[..n].iter().sum(), depth);
        self.draft_price += self.small.as_ref().map_or(0.0, |s| s.spent / take[0].max(1) as f32);
        let mut full_left = self.full_rows - self.by_rank.iter().filter(|i| self.needs_full(**i)).count();
        for d in 0..n {
            let i = self.drafting[d];
            let mut most = take[d].min(self.slots[i].room() - 1);
            if self.needs_full(i) {
                most = most.min(full_left);
                full_left -= most;
            }
            self.add_drafts(i, most);
        }
    }

    /// Where one sequence decodes alone and what could be copied promises little, a draft model may do better.
    fn ask_draft_model(&mut self, i: usize, depth: usize) {
        let (Some(small), slot) = (&mut self.small, &mut self.slots[i]) else { return };
        let promised: f32 = slot.drafter.proposal().cumulative().iter().take(DRAFT_MODEL_MAX).sum();
        if promised >= COPY_PROMISES {
            return;
        }
        let most = DRAFT_MODEL_MAX.min(slot.room() - 1);
        let n = slot.drafter.model_len(&self.costs, depth, small.cost, most);
        let Some(request) = slot.request.as_ref().filter(|_| n > 0) else { return };
        if slot.tokens.len() < request.prompt.len() + ANSWER_MIN {
            return;
        }
        small.write(i, &slot.tokens, n, |t| request.stop_tokens.contains(&t));
        if !small.draft.is_empty() {
            slot.drafter.propose_model(&small.draft);
        }
    }

    /// Drafts for which there are pages without taking any from others.
    fn add_drafts(&mut self, i: usize, n: usize) {
        let slot = &mut self.slots[i];
        while slot.n_pages * PAGE_LEN < slot.tokens.len() + n {
            let Some(page) = self.pages.take() else { break };
            self.tables[slot.table + slot.n_pages] = page;
            slot.n_pages += 1;
        }
        slot.n_drafts = n.min((slot.n_pages * PAGE_LEN).saturating_sub(slot.tokens.len()));
    }

    fn needs_full(&self, i: usize) -> bool {
        self.is_traced || self.slots[i].request.as_ref().is_some_and(|r| !is_plain_greedy(r))
    }

    /// Writes the rows, and the picks of sequences whose tokens are all in this step.
    fn lay_out(&mut self) {
        self.rows.clear();
        self.full.clear();
        self.best.clear();
        let scored = |s: &crate::slot::Slot| if s.n_rows == s.n_pending() && s.room() > 0 { 1 + s.n_drafts } else { 0 };
        let n_picks: usize = self.by_rank.iter().map(|i| scored(&self.slots[*i])).sum();
        // The head's weights are read once for each kind of pick, so with a few rows one kind is better.
        let any_full = self.by_rank.iter().any(|i| self.needs_full(*i) && scored(&self.slots[*i]) > 0);
        let all_full = any_full && n_picks <= self.full_rows;
        for k in 0..self.by_rank.len() {
            let i = self.by_rank[k];
            let is_full = all_full || self.needs_full(i);
            let slot = &mut self.slots[i];
            let table = slot.table as u32;
            let fed = &slot.tokens[slot.n_cached..slot.n_cached + slot.n_rows];
            let drafts = &slot.drafter.proposal().tokens()[..slot.n_drafts];
            let row = |(k, t): (usize, &base::TokenId)| Row { token: *t, pos: (slot.n_cached + k) as u32, table };
            self.rows.extend(fed.iter().chain(drafts).enumerate().map(row));
            let n = scored(slot);
            if n > 0 {
                let list = if is_full { &mut self.full } else { &mut self.best };
                slot.pick = Some(Pick { is_full, first: list.len() });
                let end = self.rows.len() as u32;
                list.extend(end - n as u32..end);
            }
        }
        let depth: usize = self.rows.iter().map(|r| r.pos as usize).sum();
        self.last_step = (self.rows.len(), depth / self.rows.len().max(1));
    }
}
