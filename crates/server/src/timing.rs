//! Where a request's time goes. Read off the clock a few times for each request and step, never for each byte.

use protocol::{Split, Timings};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::runner::{News, Note};

/// Time that one connection has spent in writes to its socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicU64>);

impl Sent {
    pub(crate) fn add(&self, took: Duration) {
        self.0.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    fn ns(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How a request came in.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// Its first bytes.
    pub(crate) at: Instant,
    /// Until the last ones.
    read: Duration,
    /// Of parsing, where that is not part of its preparation.
    parse: Duration,
    /// Of its connection.
    sent: Sent,
    sent_before_ns: u64,
}

impl Arrival {
    /// At this time, over this connection.
    pub(crate) fn at(at: Instant, sent: &Sent) -> Self {
        let (read, parse) = (Duration::ZERO, Duration::ZERO);
        Self { at, read, parse, sent: sent.clone(), sent_before_ns: sent.ns() }
    }

    /// Its message has been parsed, which took this long.
    pub(crate) fn parsed(self, parse: Duration) -> Self {
        Self { parse, ..self }
    }

    /// It is whole now.
    pub(crate) fn whole(&mut self) {
        self.read = self.at.elapsed();
    }
}

/// What came of one choice, in tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) n_prompt: u64,
    pub(crate) n_cached: u64,
    pub(crate) n_tokens: u64,
    pub(crate) n_drafted: u64,
    pub(crate) n_accepted: u64,
}

/// When what happened to the first choice of a request.
#[derive(Debug)]
pub(crate) struct Clock {
    arrival: Arrival,
    /// Parsing, rendering, tokenising.
    text: Duration,
    admitted: Option<Instant>,
    prefilled: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
    /// Tokens of the first step.
    n_first: u64,
    /// Of the time from first to last, that of steps with drafts.
    verify: Duration,
    detokenize: Duration,
    encode: Duration,
}

impl Clock {
    /// Of a request whose preparation took this long.
    pub(crate) fn new(arrival: Arrival, prepare: Duration) -> Self {
        let text = arrival.parse + prepare;
        let (admitted, prefilled, first, last, n_first) = (None, None, None, None, 0);
        let (verify, detokenize, encode) = Default::default();
        Self { arrival, text, admitted, prefilled, first, last, n_first, verify, detokenize, encode }
    }

    /// It has had a slot.
    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.is_some()
    }

    pub(crate) fn take(&mut self, note: &Note) {
        match note.news {
            News::Admitted => _ = self.admitted.get_or_insert(note.at),
            News::Prefilled { .. } => _ = self.prefilled.get_or_insert(note.at),
            News::Tokens(ref tokens) => self.tokens(tokens.len() as u64, note),
            News::Scored { .. } => self.tokens(1, note),
            _ => {}
        }
    }

    fn tokens(&mut self, n: u64, note: &Note) {
        if *self.first.get_or_insert(note.at) == note.at {
            self.n_first += n;
        }
        let last = self.last.replace(note.at).unwrap_or(note.at);
        if note.is_verified {
            self.verify += note.at.saturating_duration_since(last);
        }
    }

    /// Tokens were made into text.
    pub(crate) fn detokenized(&mut self, took: Duration) {
        self.detokenize += took;
    }

    /// Text was made into events.
    pub(crate) fn encoded(&mut self, took: Duration) {
        self.encode += took;
    }

    /// Its parts since it was submitted: name, begin, end.
    pub(crate) fn parts(&self, submitted: Instant) -> [(&'static str, Option<Instant>, Option<Instant>); 3] {
        let Self { admitted, prefilled, first, last, .. } = *self;
        let submitted = admitted.map_or(submitted, |at| at.min(submitted));
        let prefilled = prefilled.or(first);
        [("queue", Some(submitted), admitted), ("prefill", admitted, prefilled), ("decode", prefilled, last)]
    }

    pub(crate) fn timings(&self, c: &Counts) -> Timings {
        let between = |a: Option<Instant>, b: Option<Instant>| match (a, b) {
            (Some(a), Some(b)) => b.saturating_duration_since(a),
            _ => Duration::ZERO,
        };
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let rate = |n: u64, d: Duration| if d.is_zero() { 0.0 } else { n as f64 / d.as_secs_f64() };
        let (prefill, decode) = (between(self.admitted, self.prefilled), between(self.first, self.last));
        let prompt_n = c.n_prompt.saturating_sub(c.n_cached);
        let Arrival { at, read, ref sent, sent_before_ns, .. } = self.arrival;
        let queue = between(Some(at), self.admitted).saturating_sub(read + self.text);
        let socket = Duration::from_nanos(sent.ns().saturating_sub(sent_before_ns));
        Timings {
            prompt_n,
            prompt_ms: ms(prefill),
            prompt_per_second: rate(prompt_n, prefill),
            predicted_n: c.n_tokens,
            predicted_ms: ms(decode),
            predicted_per_second: rate(c.n_tokens.saturating_sub(self.n_first), decode),
            ttft_ms: ms(between(Some(at), self.first)),
            split: Split {
                read_ms: ms(read),
                tokenize_ms: ms(self.text),
                queue_ms: ms(queue),
                decode_ms: ms(decode.saturating_sub(self.verify)),
                verify_ms: ms(self.verify),
                detokenize_ms: ms(self.detokenize),
                write_ms: ms(self.encode + socket),
            },
            cached_n: c.n_cached,
            draft_n: c.n_drafted,
            draft_n_accepted: c.n_accepted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        let (start, sent) = (Instant::now(), Sent::default());
        sent.add(Duration::from_millis(500)); // an earlier request's
        let mut arrival = Arrival::at(start, &sent);
        (arrival.read, arrival.parse) = (Duration::from_millis(3), Duration::from_millis(1));
        let mut clock = Clock::new(arrival, Duration::from_millis(4));
        let mut note = |ms: u64, is_verified: bool, news: News| {
            clock.take(&Note { choice: 0, at: start + Duration::from_millis(ms), is_verified, news });
        };
        let tokens = |n: usize| News::Tokens(vec![7; n].into());
        note(20, false, News::Admitted);
        note(50, false, News::Prefilled { n_prompt: 9, n_cached: 2 });
        note(50, false, tokens(1));
        note(60, false, tokens(1));
        note(85, true, tokens(4));
        note(100, true, tokens(1)); // no draft was kept: it was verified all the same
        clock.detokenized(Duration::from_millis(2));
        clock.encoded(Duration::from_millis(1));
        sent.add(Duration::from_millis(6));
        let t = clock.timings(&Counts { n_prompt: 9, n_cached: 2, n_tokens: 7, n_drafted: 6, n_accepted: 3 });
        let want = Split {
            read_ms: 3.0,
            tokenize_ms: 5.0,
            queue_ms: 12.0,
            decode_ms: 10.0,
            verify_ms: 40.0,
            detokenize_ms: 2.0,
            write_ms: 7.0,
        };
        assert_eq!((t.split, t.prompt_ms, t.ttft_ms, t.predicted_ms, t.prompt_n), (want, 30.0, 50.0, 50.0, 7));
        assert_eq!(t.predicted_per_second, 120.0, "six tokens after the first step");
    }

    #[test]
    fn a_request_that_never_got_a_slot_has_only_been_read() {
        let mut arrival = Arrival::at(Instant::now(), &Sent::default());
        arrival.whole();
        let t = Clock::new(arrival, Duration::from_secs(9)).timings(&Counts::default());
        assert_eq!((t.ttft_ms, t.split.queue_ms, t.split.tokenize_ms), (0.0, 0.0, 9e3));
    }
}
