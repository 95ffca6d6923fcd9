//! Who waits, and who is next: the better class first, aged so that nobody starves; within a class the key that was served
//! least (start-time fair queueing, Goyal et al. 1996); within a key the earlier.

use crate::api::{Class, Drafts, Request};
use base::{RequestId, TokenId, limits};

/// After this long in the queue a request counts as one class better.
const AGE_US: u64 = 5_000_000;
/// Keys whose service is remembered; more of them share what the least served one has.
const KEYS: usize = 256;

/// A request without a slot.
pub(crate) struct Waiting {
    pub(crate) request: Box<Request>,
    /// It had a slot and had to give way.
    pub(crate) resumed: Option<Resumed>,
    since_us: u64,
    arrival: u64,
}

/// What a preempted request keeps.
pub(crate) struct Resumed {
    /// Prompt and answer so far.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) drafts: Drafts,
    /// Its `Prefilled` was told.
    pub(crate) is_announced: bool,
}

impl Waiting {
    /// Tokens whose keys and values it needs.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        self.resumed.as_ref().map_or(&self.request.prompt, |r| &r.tokens)
    }
}

/// Requests without a slot, and what each key was served.
pub(crate) struct Queue {
    waiting: Vec<Waiting>,
    shares: Vec<Share>,
    /// Service of the last key that was admitted: a key that comes back starts here, not with a credit for its absence.
    virtual_time: u64,
    arrivals: u64,
    pub(crate) now_us: u64,
}

struct Share {
    key: u64,
    served: u64,
}

impl Queue {
    pub(crate) fn new(n_slots: usize) -> Self {
        let waiting = Vec::with_capacity(limits::QUEUE_MAX + n_slots);
        Self { waiting, shares: Vec::with_capacity(KEYS), virtual_time: 0, arrivals: 0, now_us: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.iter().filter(|w| w.resumed.is_none()).count() >= limits::QUEUE_MAX
    }

    pub(crate) fn push(&mut self, request: Box<Request>, resumed: Option<Resumed>) {
        let floor = self.virtual_time;
        let share = self.share(request.key);
        share.served = share.served.max(floor);
        self.arrivals += 1;
        self.waiting.push(Waiting { request, resumed, since_us: self.now_us, arrival: self.arrivals });
    }

    /// Who is next of those for whom `may` is true.
    pub(crate) fn next(&self, may: impl Fn(&Waiting) -> bool) -> Option<usize> {
        let rank = |w: &Waiting| (self.level(w), self.served(w.request.key), w.resumed.is_none(), w.arrival);
        (0..self.waiting.len()).filter(|i| may(&self.waiting[*i])).min_by_key(|i| rank(&self.waiting[*i]))
    }

    pub(crate) fn get(&self, i: usize) -> &Waiting {
        &self.waiting[i]
    }

    /// Takes it out to be admitted.
    pub(crate) fn admit(&mut self, i: usize) -> Waiting {
        self.virtual_time = self.virtual_time.max(self.served(self.waiting[i].request.key));
        self.waiting.swap_remove(i)
    }

    /// Takes it out, wherever it stands.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Waiting> {
        let i = self.waiting.iter().position(|w| w.request.id == id)?;
        Some(self.waiting.swap_remove(i))
    }

    /// Takes out one whose deadline has passed.
    pub(crate) fn expired(&mut self) -> Option<Waiting> {
        let i = self.waiting.iter().position(|w| w.request.deadline_us <= self.now_us)?;
        Some(self.waiting.swap_remove(i))
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop()
    }

    /// A key used this many rows.
    pub(crate) fn charge(&mut self, key: u64, rows: usize) {
        self.share(key).served += rows as u64;
    }

    fn level(&self, w: &Waiting) -> u64 {
        let class = match w.request.class {
            Class::Interactive => 0,
            Class::Chat => 1,
            Class::Batch => 2u64,
        };
        class.saturating_sub(self.now_us.saturating_sub(w.since_us) / AGE_US)
    }

    fn served(&self, key: u64) -> u64 {
        self.shares.iter().find(|s| s.key == key).map_or(self.virtual_time, |s| s.served)
    }

    fn share(&mut self, key: u64) -> &mut Share {
        let i = match self.shares.iter().position(|s| s.key == key) {
            Some(i) => i,
            None if self.shares.len() < KEYS => {
                self.shares.push(Share { key, served: self.virtual_time });
                self.shares.len() - 1
            }
            None => {
                // The one that was served least loses nothing but a credit.
                let i = (0..KEYS).min_by_key(|i| self.shares[*i].served).unwrap_or(0);
                self.shares[i] = Share { key, served: self.virtual_time };
                i
            }
        };
        &mut self.shares[i]
    }
}
