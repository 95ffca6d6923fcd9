//! What one key has taken and what it may still take. Pure arithmetic: the time comes in as an argument.

use crate::Tokens;
use crate::bucket::Bucket;
use crate::settings::Tier;
use crate::time::{DAY_S, day_of};

/// What a request will need, before it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens of its prompts.
    pub prompt: u64,
    /// Tokens that it may generate.
    pub answer: u64,
    /// Sequences: prompts times choices.
    pub sequences: u64,
}

impl Estimate {
    fn tokens(&self) -> u64 {
        self.prompt.saturating_add(self.answer)
    }
}

/// Why a request has to wait, or cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The tier does not have this model.
    Model,
    /// As many requests run as may.
    Streams {
        /// As many as may.
        limit: u64,
    },
    /// As many sequences run and wait as may.
    Queue {
        /// As many as may.
        limit: u64,
    },
    /// Too many requests in a minute.
    Requests {
        /// Of a minute.
        limit: u64,
        /// Then the request would not be refused.
        wait_ms: u64,
    },
    /// Too many tokens in a minute.
    Tokens {
        /// Of a minute.
        limit: u64,
        /// What the request was reckoned at.
        asked: u64,
        /// What there was.
        left: u64,
        /// Then the request would not be refused.
        wait_ms: u64,
    },
    /// Too many tokens in a day.
    Day {
        /// Of a day.
        limit: u64,
        /// What the request was reckoned at.
        asked: u64,
        /// What there was.
        left: u64,
        /// Until the next day begins.
        wait_ms: u64,
    },
}

/// One limit per minute, as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// Of a minute.
    pub limit: u64,
    /// Can be taken now.
    pub remaining: u64,
    /// Milliseconds until all of it can be taken.
    pub reset_ms: u64,
}

/// Both limits per minute; `None` where the tier has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Requests.
    pub requests: Option<Gauge>,
    /// Tokens.
    pub tokens: Option<Gauge>,
}

/// One key's counters.
#[derive(Debug)]
pub(crate) struct Account {
    streams: u64,
    sequences: u64,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    day: i64,
    /// Tokens of this day, settled.
    day_used: u64,
    /// Tokens of requests under way, as reckoned.
    day_held: u64,
}

impl Account {
    /// `day_used` is what the ledger knows of this day.
    pub(crate) fn new(tier: &Tier, day_used: u64, now_ms: u64) -> Self {
        let full = |size: u64| Bucket::full(size, now_ms);
        Self {
            streams: 0,
            sequences: 0,
            requests: tier.requests_per_minute.map(full),
            tokens: tier.tokens_per_minute.map(full),
            day: day_of(now_ms / 1000),
            day_used,
            day_held: 0,
        }
    }

    fn advance(&mut self, now_ms: u64) {
        self.requests.iter_mut().chain(&mut self.tokens).for_each(|b| b.fill(now_ms));
        let day = day_of(now_ms / 1000);
        if day > self.day {
            (self.day, self.day_used) = (day, 0);
        }
    }

    /// Takes what the request needs, or says why not; then nothing was taken. `queue` is the length of the server's queue.
    pub(crate) fn admit(&mut self, tier: &Tier, queue: u64, ask: &Estimate, now_ms: u64) -> Result<(), Refusal> {
        self.check(tier, queue, ask, now_ms)?;
        let tokens = ask.tokens();
        self.streams += 1;
        self.sequences = self.sequences.saturating_add(ask.sequences);
        if let Some(b) = &mut self.requests {
            b.take(1);
        }
        if let Some(b) = &mut self.tokens {
            b.take(tokens);
        }
        self.day_held = self.day_held.saturating_add(tokens);
        Ok(())
    }

    /// Would it be admitted?
    pub(crate) fn check(&mut self, tier: &Tier, queue: u64, ask: &Estimate, now_ms: u64) -> Result<(), Refusal> {
        self.advance(now_ms);
        if let Some(limit) = tier.streams.filter(|l| self.streams >= *l) {
            return Err(Refusal::Streams { limit });
        }
        // A single request is never too large for its share: it could never be served.
        let limit = ((queue as f64 * tier.queue_share) as u64).max(1);
        if self.sequences > 0 && self.sequences.saturating_add(ask.sequences) > limit {
            return Err(Refusal::Queue { limit });
        }
        self.check_day(tier, ask, now_ms)?;
        let asked = ask.tokens();
        let for_requests = self.requests.map_or(0, |b| b.wait_ms(1));
        let for_tokens = self.tokens.map_or(0, |b| b.wait_ms(asked));
        let wait_ms = for_requests.max(for_tokens);
        match (tier.requests_per_minute, tier.tokens_per_minute, self.tokens) {
            (Some(limit), _, _) if for_requests > 0 => Err(Refusal::Requests { limit, wait_ms }),
            (_, Some(limit), Some(b)) if for_tokens > 0 => {
                Err(Refusal::Tokens { limit, asked, left: b.left(), wait_ms })
            }
            _ => Ok(()),
        }
    }

    fn check_day(&self, tier: &Tier, ask: &Estimate, now_ms: u64) -> Result<(), Refusal> {
        let Some(limit) = tier.tokens_per_day else { return Ok(()) };
        let asked = ask.tokens();
        let left = limit.saturating_sub(self.day_used.saturating_add(self.day_held));
        // Not even one token left is too few for a request of none.
        if left >= asked.max(1) {
            return Ok(());
        }
        let day_ms = DAY_S * 1000;
        Err(Refusal::Day { limit, asked, left, wait_ms: day_ms - now_ms % day_ms })
    }

    /// The request has ended, and this is what it took.
    pub(crate) fn settle(&mut self, ask: &Estimate, used: &Tokens, now_ms: u64) {
        self.advance(now_ms);
        let (asked, used) = (ask.tokens(), used.input.saturating_add(used.output));
        self.streams = self.streams.saturating_sub(1);
        self.sequences = self.sequences.saturating_sub(ask.sequences);
        if let Some(b) = &mut self.tokens {
            b.give(asked.saturating_sub(used));
            b.take(used.saturating_sub(asked));
        }
        self.day_held = self.day_held.saturating_sub(asked);
        self.day_used = self.day_used.saturating_add(used);
    }

    pub(crate) fn standing(&mut self, tier: &Tier, now_ms: u64) -> Standing {
        self.advance(now_ms);
        let gauge = |limit: Option<u64>, bucket: Option<Bucket>| {
            let (limit, bucket) = (limit?, bucket?);
            Some(Gauge { limit, remaining: bucket.left(), reset_ms: bucket.reset_ms() })
        };
        Standing {
            requests: gauge(tier.requests_per_minute, self.requests),
            tokens: gauge(tier.tokens_per_minute, self.tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::Settings;

    fn tier(text: &str) -> Tier {
        (**Settings::parse(&format!("[tiers.t]\n{text}")).unwrap().tier("t").unwrap()).clone()
    }

    fn ask(prompt: u64, answer: u64) -> Estimate {
        Estimate { prompt, answer, sequences: 1 }
    }

    fn used(input: u64, output: u64) -> Tokens {
        Tokens { input, output, ..Tokens::default() }
    }

    #[test]
    fn streams_and_queue_share_count_what_is_under_way() {
        let t = tier("streams = 2\nqueue_share = 0.5");
        let mut a = Account::new(&t, 0, 0);
        let one = ask(1, 1);
        a.admit(&t, 6, &one, 0).unwrap();
        a.admit(&t, 6, &one, 0).unwrap();
        assert_eq!(a.admit(&t, 6, &one, 0), Err(Refusal::Streams { limit: 2 }));
        a.settle(&one, &used(1, 1), 0);
        let three = Estimate { sequences: 3, ..one };
        assert_eq!(a.admit(&t, 6, &three, 0), Err(Refusal::Queue { limit: 3 }));
        a.admit(&t, 6, &Estimate { sequences: 2, ..one }, 0).unwrap();
        a.settle(&one, &used(1, 1), 0);
        a.settle(&Estimate { sequences: 2, ..one }, &used(1, 1), 0);
        a.admit(&t, 6, &Estimate { sequences: 60, ..one }, 0).unwrap(); // alone, it may be as large as a request can be
    }

    #[test]
    fn requests_per_minute_come_back_one_by_one() {
        let t = tier("requests_per_minute = 3");
        let mut a = Account::new(&t, 0, 0);
        for _ in 0..3 {
            a.admit(&t, 9, &ask(1, 1), 0).unwrap();
        }
        let refused = a.admit(&t, 9, &ask(1, 1), 500);
        assert_eq!(refused, Err(Refusal::Requests { limit: 3, wait_ms: 19_500 }));
        assert!(a.admit(&t, 9, &ask(1, 1), 19_999).is_err(), "refusals cost nothing, and are not early");
        a.admit(&t, 9, &ask(1, 1), 20_000).unwrap();
        let requests = Some(Gauge { limit: 3, remaining: 0, reset_ms: 60_000 });
        assert_eq!(a.standing(&t, 20_000), Standing { requests, tokens: None });
    }

    #[test]
    fn tokens_are_reckoned_first_and_settled_after() {
        let t = tier("tokens_per_minute = 600");
        let mut a = Account::new(&t, 0, 0);
        a.admit(&t, 9, &ask(100, 400), 0).unwrap();
        let refused = a.admit(&t, 9, &ask(100, 100), 0);
        assert_eq!(refused, Err(Refusal::Tokens { limit: 600, asked: 200, left: 100, wait_ms: 10_000 }));
        a.settle(&ask(100, 400), &used(100, 50), 0);
        assert_eq!(a.standing(&t, 0).tokens, Some(Gauge { limit: 600, remaining: 450, reset_ms: 15_000 }));
        a.admit(&t, 9, &ask(100, 100), 0).unwrap();
        a.settle(&ask(100, 100), &used(100, 700), 0); // more than was reckoned: it owes
        assert_eq!(a.standing(&t, 0).tokens.unwrap().remaining, 0);
        let refused = a.admit(&t, 9, &ask(1, 0), 0);
        assert_eq!(refused, Err(Refusal::Tokens { limit: 600, asked: 1, left: 0, wait_ms: 35_100 }));
        a.admit(&t, 9, &ask(1, 0), 35_100).unwrap();
        // More than a minute's worth goes with a full bucket, and not before.
        let mut a = Account::new(&t, 0, 0);
        a.admit(&t, 9, &ask(5000, 0), 0).unwrap();
        assert!(matches!(a.admit(&t, 9, &ask(1, 0), 0), Err(Refusal::Tokens { wait_ms: 440_100, .. })));
    }

    #[test]
    fn the_longer_wait_is_told() {
        let t = tier("requests_per_minute = 60\ntokens_per_minute = 60");
        let mut a = Account::new(&t, 0, 0);
        for _ in 0..60 {
            a.admit(&t, 99, &ask(1, 0), 0).unwrap();
        }
        assert_eq!(a.admit(&t, 99, &ask(30, 0), 0), Err(Refusal::Requests { limit: 60, wait_ms: 30_000 }));
        assert!(a.admit(&t, 99, &ask(30, 0), 29_999).is_err());
        a.admit(&t, 99, &ask(30, 0), 30_000).unwrap();
    }

    #[test]
    fn a_day_ends_at_midnight() {
        let t = tier("tokens_per_day = 1000");
        let (noon, day) = (DAY_S * 500, DAY_S * 1000);
        let mut a = Account::new(&t, 800, noon);
        a.admit(&t, 9, &ask(100, 50), noon).unwrap();
        let refused = a.admit(&t, 9, &ask(51, 0), noon);
        assert_eq!(refused, Err(Refusal::Day { limit: 1000, asked: 51, left: 50, wait_ms: day / 2 }));
        a.settle(&ask(100, 50), &used(100, 100), noon);
        assert!(matches!(a.admit(&t, 9, &ask(0, 0), day - 1), Err(Refusal::Day { left: 0, wait_ms: 1, .. })));
        a.admit(&t, 9, &ask(999, 1), day).unwrap();
        a.settle(&ask(999, 1), &used(0, 0), day + 1);
        a.admit(&t, 9, &ask(1000, 0), day + 2).unwrap();
    }
}
