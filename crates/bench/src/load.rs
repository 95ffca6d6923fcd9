//! Many requests at once. Open loop: arrivals at a rate, as users come, whether or not the server keeps up (Poisson, the same
//! for the same seed). Closed loop: a number of streams, each asking again when it has its answer. Prompts are fresh and of
//! mixed sizes. Goodput counts the requests whose first text and whose mean pace were in time.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Builder, Scope};
use std::time::{Duration, Instant};

use base::{limits, rng};
use client::Target;
use client::stream::Timed;
use serde::Serialize;

use crate::error::BenchError;
use crate::prompts;
use crate::remote::{Endpoint, clock_seed};
use crate::stats::quantile;
use crate::stream::Ask;
use crate::table::{self, short, short_or_dash};

/// What to measure.
#[derive(Clone, Debug)]
pub struct LoadArgs {
    /// Server A, `http://host:port`.
    pub url: String,
    /// Server B; without it A alone is measured.
    pub against: Option<String>,
    /// Arrivals per second, one measurement each.
    pub rates: Vec<f64>,
    /// Streams, one measurement each.
    pub streams: Vec<usize>,
    /// Seconds of each measurement.
    pub seconds: u64,
    /// Tokens of each answer, at most.
    pub max_tokens: u32,
    /// Tokens of a prompt, roughly: one of these for each request.
    pub prompt_tokens: Vec<usize>,
    /// Goodput: milliseconds to the first text, at most.
    pub slo_ttft_ms: f64,
    /// Goodput: mean milliseconds per token after it, at most.
    pub slo_itl_ms: f64,
    /// Model to ask for.
    pub model: String,
    /// Sent to both as `Authorization: Bearer`.
    pub key: Option<String>,
    /// For arrivals and prompts; from the clock if `None`, so that a second run finds no cache.
    pub seed: Option<u64>,
    /// Seconds for one answer.
    pub timeout_s: u64,
}

impl Default for LoadArgs {
    fn default() -> Self {
        Self {
            url: String::new(),
            against: None,
            rates: vec![],
            streams: vec![],
            seconds: 20,
            max_tokens: 64,
            prompt_tokens: vec![32, 64, 128, 256],
            slo_ttft_ms: 200.0,
            slo_itl_ms: 40.0,
            model: "default".to_owned(),
            key: None,
            seed: None,
            timeout_s: 120,
        }
    }
}

impl LoadArgs {
    fn check(&self) -> Result<(), BenchError> {
        let no = |name, why: String| Err(BenchError::Argument { name, why });
        let points = self.rates.len() + self.streams.len();
        if !(1..=limits::LOAD_POINTS_MAX).contains(&points) {
            return no("--rates, --streams", format!("give 1 to {} of them in all", limits::LOAD_POINTS_MAX));
        }
        let whole = [
            ("--seconds", self.seconds, limits::LOAD_S_MAX),
            ("--max-tokens", self.max_tokens.into(), limits::CTX_MAX as u64),
            ("--timeout", self.timeout_s, limits::CLIENT_ANSWER_S_MAX),
        ];
        let streams = self.streams.iter().map(|n| ("--streams", *n as u64, limits::LOAD_OPEN_MAX as u64));
        let prompts = self.prompt_tokens.iter().map(|n| ("--prompt-tokens", *n as u64, limits::CTX_MAX as u64));
        for (name, value, max) in whole.into_iter().chain(streams).chain(prompts) {
            if !(1..=max).contains(&value) {
                return no(name, format!("{value} is not within 1..={max}"));
            }
        }
        if self.prompt_tokens.is_empty() {
            return no("--prompt-tokens", "give at least one size".to_owned());
        }
        let most = limits::LOAD_REQUESTS_MAX as f64 / self.seconds as f64 / 2.0;
        if let Some(rate) = self.rates.iter().find(|r| !(**r > 0.0 && **r <= most)) {
            return no("--rates", format!("{rate} is not above 0 and at most {most:.1} for {} s", self.seconds));
        }
        Ok(())
    }
}

/// 50th, 95th and 99th percentile, exact (of all values, interpolated between neighbours).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 95th.
    pub p95: f64,
    /// 99th.
    pub p99: f64,
}

impl Percentiles {
    fn of(values: &[f64]) -> Option<Self> {
        Some(Self { p50: quantile(values, 0.5)?, p95: quantile(values, 0.95)?, p99: quantile(values, 0.99)? })
    }
}

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Mode {
    /// At a rate.
    Open {
        /// Arrivals per second.
        rate: f64,
    },
    /// From a number of streams.
    Closed {
        /// Streams.
        streams: usize,
    },
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { rate } => write!(f, "{rate}/s"),
            Self::Closed { streams } => write!(f, "{streams} streams"),
        }
    }
}

/// One server at one rate or stream count.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `A` or `B`.
    pub server: char,
    /// How requests came.
    #[serde(flatten)]
    pub mode: Mode,
    /// Requests sent.
    pub sent: usize,
    /// Those answered.
    pub finished: usize,
    /// Those that failed or were refused.
    pub errors: usize,
    /// Arrivals that were not sent, for `LOAD_OPEN_MAX` requests were open.
    pub not_sent: usize,
    /// Those answered in time.
    pub good: usize,
    /// Their number per second of the measurement.
    pub goodput_rps: f64,
    /// From arrival to first text.
    pub ttft_ms: Option<Percentiles>,
    /// Mean of each request, per token after the first.
    pub itl_ms: Option<Percentiles>,
    /// Between events with text, over all requests.
    pub itl_event_ms: Option<Percentiles>,
    /// Tokens that came within the measurement, per second of it.
    pub tokens_per_s: f64,
    /// Tokens of all answers.
    pub tokens: u64,
    /// Seconds until the last answer had ended.
    pub drained_s: f64,
    /// How the last failure came about.
    pub last_error: Option<String>,
}

/// The whole measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `load`.
    pub bench: &'static str,
    /// Addresses, A first.
    pub servers: Vec<String>,
    /// Seconds of each row.
    pub seconds: u64,
    /// Tokens of each answer, at most.
    pub max_tokens: u32,
    /// Sizes of prompts.
    pub prompt_tokens: Vec<usize>,
    /// Limits of goodput.
    pub slo_ttft_ms: f64,
    /// Limits of goodput.
    pub slo_itl_ms: f64,
    /// Makes the same arrivals and prompts again.
    pub seed: u64,
    /// In the order of measuring.
    pub rows: Vec<Row>,
    /// Why it ended early.
    pub stopped: Option<String>,
}

/// One server under load.
struct Side<'a> {
    label: char,
    target: Target,
    lane: u64,
    args: &'a LoadArgs,
}

/// One request that came through.
struct Done {
    ttft_ms: f64,
    itl_ms: Option<f64>,
    gaps_ms: Vec<f64>,
    tokens: u64,
    tokens_in_time: f64,
}

type Outcome = Result<Done, BenchError>;

/// Measures every rate, then every stream count, at both servers in turn. `progress` gets one line per row.
///
/// # Errors
/// Settings, addresses, a server that fails its first request. A server that answers nothing at all in one of the rows ends
/// the measurement there.
pub fn run(args: &LoadArgs, progress: &mut dyn FnMut(&str)) -> Result<Report, BenchError> {
    args.check()?;
    let seed = args.seed.unwrap_or_else(clock_seed);
    let sides = sides(args)?;
    for side in &sides {
        progress(&format!("{} {}: warming up", side.label, side.target.shown()));
        let (now, end) = (Instant::now(), Instant::now());
        side.request(rng::bits(seed, u64::MAX, side.lane), now, end)?;
    }
    let open = args.rates.iter().map(|rate| Mode::Open { rate: *rate });
    let modes: Vec<Mode> = open.chain(args.streams.iter().map(|n| Mode::Closed { streams: *n })).collect();
    let (mut rows, mut stopped) = (Vec::new(), None);
    'all: for (at, mode) in modes.into_iter().enumerate() {
        let mut order: Vec<&Side> = sides.iter().collect();
        if at % 2 == 1 {
            order.reverse();
        }
        for side in order {
            let row = side.measure(mode, rng::bits(seed, at as u64, side.lane));
            progress(&row.one_line());
            let is_dead = row.finished == 0 && row.errors > 0;
            let why = format!("ended early: {} answered nothing at {}: {}", side.target.shown(), mode, row.why());
            rows.push(row);
            if is_dead {
                stopped = Some(why);
                break 'all;
            }
        }
    }
    Ok(Report {
        bench: "load",
        servers: sides.iter().map(|s| s.target.shown().to_owned()).collect(),
        seconds: args.seconds,
        max_tokens: args.max_tokens,
        prompt_tokens: args.prompt_tokens.clone(),
        slo_ttft_ms: args.slo_ttft_ms,
        slo_itl_ms: args.slo_itl_ms,
        seed,
        rows,
        stopped,
    })
}

fn sides(args: &LoadArgs) -> Result<Vec<Side<'_>>, BenchError> {
    let mut out: Vec<Side> = Vec::new();
    for (label, url) in [('A', Some(&args.url)), ('B', args.against.as_ref())] {
        let Some(url) = url else { continue };
        let target = Target::parse(url)?;
        // One server behind both addresses would find A's prompts in its cache: then B gets others.
        let lane = out.iter().any(|s| s.target.is_same_server(&target)).into();
        out.push(Side { label, target, lane, args });
    }
    Ok(out)
}

/// Seconds after the start at which requests arrive: exponential gaps.
fn arrivals(rate: f64, seconds: u64, seed: u64) -> Vec<f64> {
    let (mut at, mut out) = (0.0, Vec::new());
    for i in 0..limits::LOAD_REQUESTS_MAX as u64 {
        let uniform = (rng::bits(seed, i, 1) >> 11) as f64 / (1u64 << 53) as f64;
        at += -(1.0 - uniform).ln() / rate;
        if at >= seconds as f64 {
            break;
        }
        out.push(at);
    }
    out
}

impl Side<'_> {
    fn measure(&self, mode: Mode, seed: u64) -> Row {
        let start = Instant::now();
        let (sender, outcomes) = channel();
        let not_sent = match mode {
            Mode::Open { rate } => self.open(rate, seed, start, &sender),
            Mode::Closed { streams } => self.closed(streams, seed, start, &sender),
        };
        drop(sender);
        self.row(mode, outcomes, not_sent, start.elapsed())
    }

    fn end(&self, start: Instant) -> Instant {
        start + Duration::from_secs(self.args.seconds)
    }

    /// Sends each request when it is due, whatever became of the others; returns how many could not be sent.
    fn open(&self, rate: f64, seed: u64, start: Instant, sender: &Sender<Outcome>) -> usize {
        let (open, end) = (AtomicUsize::new(0), self.end(start));
        let mut not_sent = 0;
        thread::scope(|scope| {
            for (i, at) in arrivals(rate, self.args.seconds, seed).into_iter().enumerate() {
                let due = start + Duration::from_secs_f64(at);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let is_room = open.fetch_add(1, Ordering::Relaxed) < limits::LOAD_OPEN_MAX;
                let (sender, prompt, open) = (sender.clone(), rng::bits(seed, i as u64, 2), &open);
                let work = move || {
                    let _ = sender.send(self.request(prompt, due, end));
                    open.fetch_sub(1, Ordering::Relaxed);
                };
                if !(is_room && is_started(scope, work)) {
                    open.fetch_sub(1, Ordering::Relaxed);
                    not_sent += 1;
                }
            }
        });
        not_sent
    }

    /// Streams that ask again and again until the time is over, or until several requests in a row failed.
    fn closed(&self, streams: usize, seed: u64, start: Instant, sender: &Sender<Outcome>) -> usize {
        let end = self.end(start);
        let mut not_started = 0;
        thread::scope(|scope| {
            for stream in 0..streams {
                let sender = sender.clone();
                let work = move || {
                    let mut failures = 0;
                    for i in 0..(limits::LOAD_REQUESTS_MAX / streams.max(1)) as u64 {
                        let now = Instant::now();
                        if now >= end || failures >= limits::EVAL_ASK_FAILURES_MAX {
                            return;
                        }
                        let outcome = self.request(rng::bits(seed, i, 3 + stream as u64), now, end);
                        failures = if outcome.is_err() { failures + 1 } else { 0 };
                        let _ = sender.send(outcome);
                    }
                };
                not_started += usize::from(!is_started(scope, work));
            }
        });
        not_started
    }

    /// One request that arrived at `due`; tokens count as in time until `end`.
    fn request(&self, seed: u64, due: Instant, end: Instant) -> Outcome {
        let sizes = &self.args.prompt_tokens;
        let size = sizes[(rng::bits(seed, 0, 4) % sizes.len().max(1) as u64) as usize];
        let prompt = format!(
            "Continue this Python file. Answer with code only, as much as you can.\n{}",
            prompts::code(seed, size)
        );
        let ask = Ask {
            endpoint: Endpoint::Chat,
            model: &self.args.model,
            prompt: &prompt,
            max_tokens: self.args.max_tokens,
            key: self.args.key.as_deref(),
            timeout_s: self.args.timeout_s,
        };
        let timed = ask.timed(&self.target)?;
        Done::of(&timed, due, end)
            .ok_or_else(|| BenchError::protocol(self.target.shown(), "it streamed an answer without any text"))
    }

    fn row(&self, mode: Mode, outcomes: Receiver<Outcome>, not_sent: usize, drained: Duration) -> Row {
        let (mut done, mut errors, mut last_error) = (Vec::new(), 0, None);
        for outcome in outcomes {
            match outcome {
                Ok(d) => done.push(d),
                Err(e) => {
                    errors += 1;
                    last_error = Some(e.to_string());
                }
            }
        }
        let in_time =
            |d: &&Done| d.ttft_ms <= self.args.slo_ttft_ms && d.itl_ms.is_none_or(|itl| itl <= self.args.slo_itl_ms);
        let good = done.iter().filter(in_time).count();
        let seconds = self.args.seconds as f64;
        let gaps: Vec<f64> = done.iter().flat_map(|d| d.gaps_ms.iter().copied()).collect();
        Row {
            server: self.label,
            mode,
            sent: done.len() + errors,
            finished: done.len(),
            errors,
            not_sent,
            good,
            goodput_rps: good as f64 / seconds,
            ttft_ms: Percentiles::of(&done.iter().map(|d| d.ttft_ms).collect::<Vec<_>>()),
            itl_ms: Percentiles::of(&done.iter().filter_map(|d| d.itl_ms).collect::<Vec<_>>()),
            itl_event_ms: Percentiles::of(&gaps),
            tokens_per_s: done.iter().map(|d| d.tokens_in_time).sum::<f64>() / seconds,
            tokens: done.iter().map(|d| d.tokens).sum(),
            drained_s: drained.as_secs_f64(),
            last_error,
        }
    }
}

/// Whether a thread for it could be had.
fn is_started<'scope>(scope: &'scope Scope<'scope, '_>, work: impl FnOnce() + Send + 'scope) -> bool {
    Builder::new().spawn_scoped(scope, work).is_ok()
}

impl Done {
    /// `None` for an answer without text.
    fn of(timed: &Timed, due: Instant, end: Instant) -> Option<Self> {
        let at = &timed.said.texts_at;
        let (first, last) = (at.first()?, at.last()?);
        let tokens = timed.said.tokens_or_events();
        let ms = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64() * 1e3;
        let in_time = at.iter().filter(|t| **t <= end).count();
        Some(Self {
            ttft_ms: ms(due, *first),
            itl_ms: (tokens > 1).then(|| ms(*first, *last) / (tokens - 1) as f64),
            gaps_ms: at.windows(2).map(|w| ms(w[0], w[1])).collect(),
            tokens,
            tokens_in_time: tokens as f64 * in_time as f64 / at.len() as f64,
        })
    }
}

impl Row {
    fn why(&self) -> &str {
        self.last_error.as_deref().unwrap_or("no request was sent")
    }

    fn one_line(&self) -> String {
        let ttft = short_or_dash(self.ttft_ms.map(|t| t.p50));
        let (server, mode, speed) = (self.server, self.mode, short(self.tokens_per_s));
        let counts = format!("{} of {} finished, {} in time", self.finished, self.sent, self.good);
        format!("{server} {mode}: {counts}, ttft p50 {ttft} ms, {speed} tok/s")
    }

    fn cells(&self) -> Vec<String> {
        let three = |p: Option<Percentiles>| {
            p.map_or("-".to_owned(), |p| format!("{} / {} / {}", short(p.p50), short(p.p95), short(p.p99)))
        };
        vec![
            format!("{} {}", self.server, self.mode),
            self.sent.to_string(),
            self.finished.to_string(),
            self.errors.to_string(),
            self.not_sent.to_string(),
            format!("{:.2}", self.goodput_rps),
            three(self.ttft_ms),
            three(self.itl_ms),
            short(self.tokens_per_s),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, url) in ['A', 'B'].iter().zip(&self.servers) {
            writeln!(f, "{label}  {url}")?;
        }
        let head = ["", "sent", "finished", "errors", "unsent", "good/s", "ttft ms", "itl ms", "tok/s"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.rows.iter().map(Row::cells));
        table::write(f, &rows)?;
        writeln!(
            f,
            "{} s each; ttft and itl: p50 / p95 / p99; good: ttft <= {} ms and itl <= {} ms; seed {}",
            self.seconds, self.slo_ttft_ms, self.slo_itl_ms, self.seed
        )?;
        for row in self.rows.iter().filter(|r| r.errors > 0) {
            writeln!(f, "note: {} {}: {} errors; the last: {}", row.server, row.mode, row.errors, row.why())?;
        }
        self.stopped.iter().try_for_each(|why| writeln!(f, "note: {why}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn arrivals_are_poisson_and_the_same_for_the_same_seed() {
        let at = arrivals(5.0, 1000, 7);
        assert_eq!(at, arrivals(5.0, 1000, 7));
        assert_ne!(at, arrivals(5.0, 1000, 8));
        assert!(at.windows(2).all(|w| w[0] < w[1]) && at.iter().all(|t| (0.0..1000.0).contains(t)));
        // 5,000 expected, sd 71; gaps are exponential: mean 0.2, and 1/e of them longer than that.
        assert!(at.len().abs_diff(5000) < 400, "{}", at.len());
        let longer = at.windows(2).filter(|w| w[1] - w[0] > 0.2).count() as f64 / at.len() as f64;
        assert!((longer - (-1.0f64).exp()).abs() < 0.03, "{longer}");
    }

    #[test]
    fn arrivals_end_at_the_limit() {
        assert_eq!(arrivals(1e9, 3600, 1).len(), limits::LOAD_REQUESTS_MAX);
    }
}
