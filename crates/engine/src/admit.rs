//! Who gets a slot and pages, who has to give them back. A better class takes them from a worse one; among running
//! sequences the best rank (class, then order of admission) never gives way, so somebody always gets on.

use crate::api::{Class, Drafts, Effect, Event, Finish, Refusal, Request};
use crate::engine::Engine;
use crate::lm::Lm;
use crate::queue::{Resumed, Waiting};
use crate::slot::Slot;
use base::TokenId;
use ops::PAGE_LEN;

impl<M: Lm> Engine<M> {
    pub(crate) fn take(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Submit(request) => match self.refusal(&request) {
                Some(why) => effects.push(Effect::Refused { id: request.id, why }),
                None => self.queue.push(request, None),
            },
            Event::Cancel(id) => {
                let running = self.slots.iter().position(|s| s.request.as_ref().is_some_and(|r| r.id == id));
                if let Some(i) = running {
                    self.finish(i, Finish::Cancelled, effects);
                } else if let Some(waiting) = self.queue.remove(id) {
                    self.drop_waiting(waiting, Finish::Cancelled, effects);
                }
            }
            Event::Clock(us) => self.queue.now_us = self.queue.now_us.max(us),
            Event::Took(ns) => {
                let (rows, depth) = std::mem::take(&mut self.last_step);
                let is_target_alone = self.small.as_ref().is_none_or(|s| s.spent == 0.0);
                if rows > 0 && is_target_alone {
                    self.costs.observe(rows, depth, ns);
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
        } else if ![&r.prompt, &r.prediction, &r.replay].into_iter().flatten().all(known) {
            Some(Refusal::BadToken)
        } else if !sane || !biases {
            Some(Refusal::BadParameter)
        } else if self.queue.is_full() {
            Some(Refusal::QueueFull)
        } else {
            None
        }
    }

    /// Ends what is past its deadline.
    pub(crate) fn expire(&mut self, effects: &mut Vec<Effect>) {
        while let Some(waiting) = self.queue.expired() {
            self.drop_waiting(waiting, Finish::Deadline, effects);
        }
        for i in 0..self.slots.len() {
            if self.slots[i].request.as_ref().is_some_and(|r| r.deadline_us <= self.queue.now_us) {
                self.finish(i, Finish::Deadline, effects);
            }
        }
    }

    pub(crate) fn drop_waiting(&mut self, waiting: Waiting, reason: Finish, effects: &mut Vec<Effect>) {
        let id = waiting.request.id;
        let mut drafts = Drafts::default();
        if let Some(resumed) = waiting.resumed {
            drafts = resumed.drafts;
            self.spare.push(resumed.tokens);
        }
        effects.push(Effect::Finished { id, reason, drafts });
    }

    /// Gives slots to those who wait, while slots and pages last.
    pub(crate) fn admit(&mut self, effects: &mut Vec<Effect>) {
        while let Some(next) = self.queue.next(|w| self.may_be_seated(w) && !self.waits_for_prefix(w)) {
            let class = self.queue.get(next).request.class;
            let slot = self.slots.iter().position(|s| s.request.is_none());
            let fits = self.fits(self.queue.get(next));
            match slot.filter(|_| fits) {
                Some(i) => self.seat(next, i, effects),
                None if self.preempt_below(class, effects) => {}
                None => return,
            }
        }
    }

    /// Every running sequence must find room for its tokens when it has to give way (`preempt`).
    fn may_be_seated(&self, w: &Waiting) -> bool {
        w.resumed.is_some() || self.spare.len() > self.slots.iter().filter(|s| s.request.is_some()).count()
    }

    /// Somebody with a slot is computing more of its prefix than is cached: it is cheaper to wait for that.
    fn waits_for_prefix(&self, w: &Waiting) -> bool {
        let (tokens, salt) = (w.tokens(), w.request.salt);
        let common = |s: &&Slot| {
            let n = s.tokens.len().min(tokens.len() - 1);
            (0..n).take_while(|i| s.tokens[*i] == tokens[*i]).count() / PAGE_LEN * PAGE_LEN
        };
        let class = w.request.class;
        let of_use = |r: &Request| r.salt == salt && r.class <= class;
        let computing = |s: &&Slot| s.request.as_ref().is_some_and(|r| of_use(r)) && !s.is_decoding();
        let soon = self.slots.iter().filter(computing).filter(|s| common(s) > s.n_cached).map(|s| common(&s)).max();
        soon.is_some_and(|n| n > self.pages.peek(salt, tokens).n_cached)
    }

    /// Its prompt and one page of answer fit beside what running prompts still need.
    fn fits(&self, w: &Waiting) -> bool {
        let pages = |n_tokens: usize| (n_tokens + 1).div_ceil(PAGE_LEN).min(self.per_slot);
        let running = self.slots.iter().filter(|s| s.request.is_some());
        let promised: usize = running.map(|s| pages(s.tokens.len()).saturating_sub(s.n_pages)).sum();
        let peek = self.pages.peek(w.request.salt, w.tokens());
        peek.cost(pages(w.tokens().len())) + promised <= self.pages.available()
    }

    fn seat(&mut self, next: usize, i: usize, effects: &mut Vec<Effect>) {
        let Waiting { request, resumed, .. } = self.queue.admit(next);
        self.admitted += 1;
        let slot = &mut self.slots[i];
        let room = self.info.n_ctx - request.prompt.len();
        slot.len_max = request.prompt.len() + request.max_tokens.min(room);
        slot.is_cut_by_context = request.max_tokens > room;
        slot.order = self.admitted;
        match resumed {
            Some(mut resumed) => {
                std::mem::swap(&mut slot.tokens, &mut resumed.tokens);
                self.spare.push(resumed.tokens);
                (slot.drafts, slot.is_announced) = (resumed.drafts, resumed.is_announced);
            }
            None => {
                slot.tokens.clear();
                slot.tokens.extend_from_slice(&request.prompt);
                (slot.drafts, slot.is_announced) = (Drafts::default(), false);
                effects.push(Effect::Admitted { id: request.id });
            }
        }
        let table = &mut self.tables[slot.table..slot.table + self.per_slot];
        let hit = self.pages.start(request.salt, &slot.tokens, table, &mut slot.lease);
        if let Some(copy) = hit.copy {
            self.lm.copy_page(copy.from, copy.to);
        }
        slot.n_cached = hit.n_cached;
        slot.n_hit = hit.n_cached.min(request.prompt.len());
        slot.n_pages = hit.n_cached.div_ceil(PAGE_LEN);
        if self.is_drafting && request.speculate && request.max_tokens > 0 {
            slot.drafter.start(&slot.tokens, &request.prediction, &request.stop_tokens);
        }
        slot.request = Some(request);
    }

    /// Makes a running sequence of a worse class wait again. False if there is none.
    fn preempt_below(&mut self, class: Class, effects: &mut Vec<Effect>) -> bool {
        let worst =
            (0..self.slots.len()).filter(|i| self.slots[*i].request.is_some()).max_by_key(|i| self.slots[*i].rank());
        match worst.filter(|i| self.slots[*i].rank().0 > class) {
            Some(i) => self.preempt(i, effects),
            None => false,
        }
    }

    /// Takes slot and pages away; what it has computed stays in the cache as long as nobody needs the room.
    pub(crate) fn preempt(&mut self, i: usize, effects: &mut Vec<Effect>) -> bool {
        let Some(mut tokens) = self.spare.pop() else { return false };
        self.let_go(i);
        let slot = &mut self.slots[i];
        let Some(request) = slot.request.take() else { return false };
        std::mem::swap(&mut slot.tokens, &mut tokens);
        self.preempted += 1;
        effects.push(Effect::Preempted { id: request.id });
        let resumed = Resumed { tokens, drafts: slot.drafts, is_announced: slot.is_announced };
        self.queue.push(request, Some(resumed));
        true
    }

    /// Gives its pages back.
    fn let_go(&mut self, i: usize) {
        let slot = &mut self.slots[i];
        let table = &mut self.tables[slot.table..slot.table + slot.n_pages];
        self.pages.end(&mut slot.lease, &slot.tokens, slot.n_cached, table);
        (slot.n_pages, slot.n_rows, slot.n_drafts, slot.pick) = (0, 0, 0, None);
    }

    pub(crate) fn finish(&mut self, i: usize, reason: Finish, effects: &mut Vec<Effect>) {
        self.let_go(i);
        let slot = &mut self.slots[i];
        let Some(request) = slot.request.take() else { return };
        if self.is_drafting && request.max_tokens > 0 {
            self.pool.add(request.salt, &slot.tokens);
        }
        effects.push(Effect::Finished { id: request.id, reason, drafts: slot.drafts });
    }

    /// Pages for the first `len` positions of a sequence; whoever ranks below it gives way. How many positions it has.
    pub(crate) fn grow(&mut self, i: usize, len: usize, effects: &mut Vec<Effect>) -> usize {
        loop {
            let slot = &mut self.slots[i];
            while slot.n_pages * PAGE_LEN < len {
                let Some(page) = self.pages.take() else { break };
                self.tables[slot.table + slot.n_pages] = page;
                slot.n_pages += 1;
            }
            let has = slot.n_pages * PAGE_LEN;
            if has > slot.n_cached || has >= len {
                return has.min(len);
            }
            let rank = slot.rank();
            let below = |j: &usize| self.slots[*j].request.is_some() && self.slots[*j].rank() > rank;
            let worst = (0..self.slots.len()).filter(below).max_by_key(|j| self.slots[*j].rank());
            if !worst.is_some_and(|j| self.preempt(j, effects)) {
                return 0;
            }
        }
    }
}
