//! After the model: which tokens the scores give. A row's token is the target's own, chosen with the randomness of its
//! position; a draft is kept while it is that token (Leviathan et al. 2023, with equality in place of the ratio test: a
//! seeded answer is then the same with and without drafts). Where the time goes: sampling over the vocabulary.

use crate::api::{Effect, Finish};
use crate::engine::Engine;
use crate::lm::Lm;
use crate::sampler::Context;
use base::{TokenId, rng};

/// What one row gives.
enum Chosen {
    Token(TokenId, Option<Box<crate::api::Logprobs>>, u64),
    End(Finish),
}

impl<M: Lm> Engine<M> {
    /// Counts the computed rows as cached, and announces prompts that are complete.
    pub(crate) fn advance(&mut self, effects: &mut Vec<Effect>) {
        for k in 0..self.by_rank.len() {
            let i = self.by_rank[k];
            let slot = &mut self.slots[i];
            slot.n_cached += slot.n_rows;
            let Some(request) = &slot.request else { continue };
            self.queue.charge(request.key, slot.n_rows + slot.n_drafts);
            let n_prompt = request.prompt.len();
            let is_new = !slot.is_announced && slot.n_cached >= n_prompt;
            if is_new {
                slot.is_announced = true;
                effects.push(Effect::Prefilled { id: request.id, n_prompt, n_cached: slot.n_hit });
            }
            let table = &mut self.tables[slot.table..slot.table + slot.n_pages];
            self.pages.publish(&mut slot.lease, &slot.tokens, slot.n_cached, table);
            if slot.room() == 0 && slot.n_pending() == 0 {
                self.finish(i, Finish::Length, effects); // only the prompt was wanted
            } else if is_new && self.force(i, effects) {
                self.slots[i].pick = None; // the scores are for a place that is filled now
                if let Some(reason) = self.full_stop(i) {
                    self.finish(i, reason, effects);
                }
            }
        }
    }

    /// Tokens of every sequence that was scored.
    pub(crate) fn choose(&mut self, effects: &mut Vec<Effect>) {
        for k in 0..self.by_rank.len() {
            let i = self.by_rank[k];
            if self.slots[i].request.is_some() && self.slots[i].pick.is_some() {
                self.verify(i, effects);
            }
        }
    }

    fn verify(&mut self, i: usize, effects: &mut Vec<Effect>) {
        let offered = self.slots[i].n_drafts;
        if let Some(request) = self.slots[i].request.as_ref().filter(|_| offered > 0) {
            effects.push(Effect::Verified { id: request.id });
        }
        let mut accepted = 0;
        let end = loop {
            let (token, logprobs, bits) = match self.score(i, accepted) {
                Chosen::Token(token, logprobs, bits) => (token, logprobs, bits),
                Chosen::End(reason) => break Some(reason),
            };
            let drafted = self.slots[i].drafter.proposal().tokens().get(accepted).copied();
            let is_draft = accepted < offered && drafted == Some(token);
            if let Some(reason) = self.push(i, token, logprobs, bits, effects) {
                accepted += usize::from(is_draft);
                break Some(reason);
            }
            let is_forced = self.force(i, effects);
            if !is_draft {
                break None;
            }
            accepted += 1;
            self.slots[i].n_cached += 1;
            if is_forced {
                break None;
            }
        };
        self.settle(i, offered, accepted);
        if let Some(reason) = end.or_else(|| self.full_stop(i)) {
            self.finish(i, reason, effects);
        }
    }

    /// The token that row `j` of a sequence gives.
    fn score(&mut self, i: usize, j: usize) -> Chosen {
        let slot = &mut self.slots[i];
        let (Some(request), Some(pick)) = (&mut slot.request, slot.pick) else { return Chosen::End(Finish::Cancelled) };
        let mut bits = 0;
        if self.is_traced {
            bits = self.lm.logits(pick.first + j).iter().fold(7, |h, x| rng::bits(h, u64::from(x.to_bits()), 1));
        }
        let n_answer = slot.tokens.len() - request.prompt.len();
        if !request.replay.is_empty() {
            return match request.replay.get(n_answer) {
                Some(token) => Chosen::Token(*token, None, bits),
                None => Chosen::End(Finish::StopToken),
            };
        }
        if !pick.is_full {
            let token = self.lm.best(pick.first + j);
            return if request.stop_tokens.contains(&token) {
                Chosen::End(Finish::StopToken)
            } else {
                Chosen::Token(token, None, bits)
            };
        }
        let mut mask = None;
        if let Some(constraint) = &mut request.constraint {
            self.mask.fill(0);
            if !constraint.allow(&mut self.mask) {
                return Chosen::End(Finish::StopToken);
            }
            mask = Some(&self.mask[..]);
        }
        let context = Context {
            sampling: &request.sampling,
            bias: &request.logit_bias,
            tokens: &slot.tokens,
            n_prompt: request.prompt.len(),
            logprobs: request.logprobs,
            mask,
        };
        let (token, logprobs) = self.sampler.choose(self.lm.logits(pick.first + j), &context);
        if request.stop_tokens.contains(&token) {
            return Chosen::End(Finish::StopToken);
        }
        if let Some(constraint) = &mut request.constraint {
            constraint.accept(token);
        }
        Chosen::Token(token, logprobs, bits)
    }

    /// Adds a token to the answer. Why the answer ends here, if it does.
    fn push(
        &mut self,
        i: usize,
        token: TokenId,
        logprobs: Option<Box<crate::api::Logprobs>>,
        bits: u64,
        effects: &mut Vec<Effect>,
    ) -> Option<Finish> {
        let slot = &mut self.slots[i];
        slot.tokens.push(token);
        if let Some(request) = &slot.request {
            effects.push(Effect::Token { id: request.id, token, logprobs, bits });
        }
        (slot.room() == 0).then_some(if slot.is_cut_by_context { Finish::Context } else { Finish::Length })
    }

    /// Adds the tokens that a grammar leaves no choice about. True if there were any.
    pub(crate) fn force(&mut self, i: usize, effects: &mut Vec<Effect>) -> bool {
        let slot = &mut self.slots[i];
        let Some(constraint) = slot.request.as_mut().and_then(|r| r.constraint.as_mut()) else { return false };
        self.forced.clear();
        constraint.force(&mut self.forced);
        for k in 0..self.forced.len() {
            if self.slots[i].room() > 0 {
                let token = self.forced[k];
                self.push(i, token, None, 0, effects);
            }
        }
        !self.forced.is_empty()
    }

    /// Forced tokens may have filled the answer.
    fn full_stop(&self, i: usize) -> Option<Finish> {
        let slot = &self.slots[i];
        (slot.room() == 0).then_some(if slot.is_cut_by_context { Finish::Context } else { Finish::Length })
    }

    /// Tells drafts and pages what became of the step.
    fn settle(&mut self, i: usize, offered: usize, accepted: usize) {
        let slot = &mut self.slots[i];
        if self.is_drafting && slot.request.as_ref().is_some_and(|r| r.speculate) {
            let source = slot.drafter.proposal().source() as usize;
            slot.drafts.offered[source] += offered as u64;
            slot.drafts.accepted[source] += accepted as u64;
            slot.drafter.verified(offered, accepted, self.draft_price);
            slot.drafter.grow(&slot.tokens);
        }
        let table = &mut self.tables[slot.table..slot.table + slot.n_pages];
        self.pages.publish(&mut slot.lease, &slot.tokens, slot.n_cached, table);
    }
}
