//! Two OpenAI-compatible servers side by side: the same requests in turn (A B, B A, ...), so that what the machine does
//! meanwhile hits both alike. Medians, extremes, and the ratio of medians A/B.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use base::{limits, rng};
use client::Target;
use serde::Serialize;

use crate::error::BenchError;
use crate::prompts;
use crate::stats::{Summary, median};
use crate::stream::{Ask, measure};
use crate::table::{self, short};

pub use crate::stream::Sample;

/// Tokens of the answers that warm a server up.
const WARMUP_TOKENS: u32 = 4;

/// Which of OpenAI's two calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    #[default]
    Chat,
    /// `/v1/completions`.
    Completions,
}

impl Endpoint {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
        }
    }
}

/// What to compare, and how.
#[derive(Clone, Debug)]
pub struct RemoteArgs {
    /// Server A, `http://host:port`.
    pub url: String,
    /// Server B; without it A alone is measured.
    pub against: Option<String>,
    /// Model to ask A for.
    pub model: String,
    /// Model to ask B for; the same name if `None`.
    pub model_against: Option<String>,
    /// Repetitions per server, 1..=`BENCH_REPS_MAX`.
    pub reps: usize,
    /// Tokens of each answer, at most.
    pub max_tokens: u32,
    /// Tokens of each prompt, roughly; the report tells the server's count.
    pub prompt_tokens: usize,
    /// Chat or completions.
    pub endpoint: Endpoint,
    /// Sent to both as `Authorization: Bearer`.
    pub key: Option<String>,
    /// For the prompts; from the clock if `None`, so that a second run finds no cache that the first one filled.
    pub seed: Option<u64>,
    /// Seconds for one answer, at most `CLIENT_ANSWER_S_MAX`.
    pub timeout_s: u64,
}

impl Default for RemoteArgs {
    fn default() -> Self {
        Self {
            url: String::new(),
            against: None,
            model: "default".to_owned(),
            model_against: None,
            reps: 5,
            max_tokens: 64,
            prompt_tokens: 256,
            endpoint: Endpoint::Chat,
            key: None,
            seed: None,
            timeout_s: 300,
        }
    }
}

impl RemoteArgs {
    fn check(&self) -> Result<(), BenchError> {
        let bytes_max = limits::BODY_BYTES_MAX / 16;
        let rules = [
            ("--reps", self.reps as u64, 1, limits::BENCH_REPS_MAX as u64),
            ("--max-tokens", self.max_tokens.into(), 1, limits::CTX_MAX as u64),
            ("--prompt-tokens", self.prompt_tokens as u64, 1, bytes_max as u64),
            ("--timeout", self.timeout_s, 1, limits::CLIENT_ANSWER_S_MAX),
        ];
        for (name, value, min, max) in rules {
            if !(min..=max).contains(&value) {
                return Err(BenchError::Argument { name, why: format!("{value} is not within {min}..={max}") });
            }
        }
        Ok(())
    }
}

/// What one server did.
#[derive(Clone, Debug, Serialize)]
pub struct ServerReport {
    /// `A` or `B`.
    pub label: char,
    /// Its address.
    pub url: String,
    /// Model asked for.
    pub model: String,
    /// Time to first text, milliseconds.
    pub ttft_ms: Option<Summary>,
    /// Milliseconds per token after the first.
    pub itl_ms: Option<Summary>,
    /// Milliseconds between events with text.
    pub itl_event_ms: Option<Summary>,
    /// Tokens per second after the first.
    pub tps: Option<Summary>,
    /// Tokens / (ttft + generation time), per second.
    pub effective_tps: Option<Summary>,
    /// Tokens per answer.
    pub tokens: Option<Summary>,
    /// Tokens per prompt, if the server told.
    pub prompt_tokens: Option<Summary>,
    /// Requests that failed.
    pub failed: usize,
    /// How the last of them did.
    pub last_error: Option<String>,
    /// Every request that worked.
    pub samples: Vec<Sample>,
}

/// Medians of A over medians of B.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratios {
    /// Below 1: A is faster.
    pub ttft_ms: Option<f64>,
    /// Below 1: A is faster.
    pub itl_ms: Option<f64>,
    /// Below 1: A is faster.
    pub itl_event_ms: Option<f64>,
    /// Above 1: A is faster.
    pub tps: Option<f64>,
    /// Above 1: A is faster.
    pub effective_tps: Option<f64>,
}

/// The comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Chat or completions.
    pub endpoint: Endpoint,
    /// Repetitions per server.
    pub reps: usize,
    /// Tokens of each answer, at most.
    pub max_tokens: u32,
    /// Prompt tokens aimed at.
    pub prompt_tokens_wanted: usize,
    /// Makes the same prompts again.
    pub seed: u64,
    /// A, then B.
    pub servers: Vec<ServerReport>,
    /// Only with two servers.
    pub ratio_a_over_b: Option<Ratios>,
    /// What to know before one believes the figures.
    pub notes: Vec<String>,
}

/// One server under measurement.
struct Side {
    label: char,
    target: Target,
    model: String,
    samples: Vec<Sample>,
    failed: usize,
    last_error: Option<BenchError>,
}

/// Measures A, and B if there is one. `progress` gets one line per request.
///
/// # Errors
/// Settings out of range, an address that is none, a server that fails its warm-up, or one that fails every request.
/// Single failures are counted in the report.
pub fn compare(args: &RemoteArgs, progress: &mut dyn FnMut(&str)) -> Result<Report, BenchError> {
    args.check()?;
    let seed = args.seed.unwrap_or_else(clock_seed);
    let mut sides = sides(args)?;
    // One server behind both addresses would find A's prompt in its cache when B asks: then they get different ones.
    let is_same_server = matches!(sides.as_slice(), [a, b] if a.target.is_same_server(&b.target));
    for (i, side) in sides.iter_mut().enumerate() {
        progress(&format!("{} {}: warming up", side.label, side.target.shown()));
        let prompt = prompt(args, rng::bits(seed, u64::MAX, i as u64));
        measure(&side.target, 0, &ask(args, &side.model, &prompt, args.max_tokens.min(WARMUP_TOKENS)))?;
    }
    for rep in 0..args.reps {
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if rep % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let lane = if is_same_server { at as u64 } else { 0 };
            let prompt = prompt(args, rng::bits(seed, rep as u64, lane));
            let Some(side) = sides.get_mut(at) else { continue };
            one(args, side, rep, &prompt, progress);
        }
    }
    report(args, seed, is_same_server, sides)
}

pub(crate) fn clock_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

fn sides(args: &RemoteArgs) -> Result<Vec<Side>, BenchError> {
    let model_b = args.model_against.as_ref().unwrap_or(&args.model);
    let both = [('A', Some(&args.url), &args.model), ('B', args.against.as_ref(), model_b)];
    let side = |label, url: &str, model: &String| {
        let target = Target::parse(url)?;
        Ok(Side { label, target, model: model.clone(), samples: Vec::new(), failed: 0, last_error: None })
    };
    both.into_iter().filter_map(|(label, url, model)| url.map(|url| side(label, url, model))).collect()
}

fn prompt(args: &RemoteArgs, seed: u64) -> String {
    let code = prompts::code(seed, args.prompt_tokens);
    match args.endpoint {
        Endpoint::Chat => format!("Continue this Python file. Answer with code only, as much as you can.\n{code}"),
        Endpoint::Completions => code,
    }
}

fn ask<'a>(args: &'a RemoteArgs, model: &'a str, prompt: &'a str, max_tokens: u32) -> Ask<'a> {
    Ask { endpoint: args.endpoint, model, prompt, max_tokens, key: args.key.as_deref(), timeout_s: args.timeout_s }
}

fn one(args: &RemoteArgs, side: &mut Side, rep: usize, prompt: &str, progress: &mut dyn FnMut(&str)) {
    let head = format!("{} {}/{}", side.label, rep + 1, args.reps);
    match measure(&side.target, rep, &ask(args, &side.model, prompt, args.max_tokens)) {
        Ok(s) => {
            let speed = s.tps.map_or("-".to_owned(), |tps| format!("{tps:.1}"));
            progress(&format!("{head}: ttft {:.1} ms, {} tokens, {speed} tok/s", s.ttft_ms, s.tokens));
            side.samples.push(s);
        }
        Err(e) => {
            progress(&format!("{head}: failed: {e}"));
            side.failed += 1;
            side.last_error = Some(e);
        }
    }
}

fn report(args: &RemoteArgs, seed: u64, is_same_server: bool, sides: Vec<Side>) -> Result<Report, BenchError> {
    let mut servers = Vec::new();
    for mut side in sides {
        if side.samples.is_empty()
            && let Some(error) = side.last_error.take()
        {
            return Err(error);
        }
        servers.push(server(side));
    }
    let ratio_a_over_b = match servers.as_slice() {
        [a, b] => Some(Ratios::of(a, b)),
        _ => None,
    };
    Ok(Report {
        endpoint: args.endpoint,
        reps: args.reps,
        max_tokens: args.max_tokens,
        prompt_tokens_wanted: args.prompt_tokens,
        seed,
        notes: notes(&servers, is_same_server),
        servers,
        ratio_a_over_b,
    })
}

fn server(side: Side) -> ServerReport {
    let of = |figure: &dyn Fn(&Sample) -> Option<f64>| {
        Summary::of(&side.samples.iter().filter_map(figure).collect::<Vec<_>>())
    };
    ServerReport {
        label: side.label,
        url: side.target.shown().to_owned(),
        model: side.model.clone(),
        ttft_ms: of(&|s| Some(s.ttft_ms)),
        itl_ms: of(&|s| s.itl_ms),
        itl_event_ms: of(&|s| s.itl_event_ms),
        tps: of(&|s| s.tps),
        effective_tps: of(&|s| Some(s.effective_tps)),
        tokens: of(&|s| Some(s.tokens as f64)),
        prompt_tokens: of(&|s| s.prompt_tokens.map(|n| n as f64)),
        failed: side.failed,
        last_error: side.last_error.map(|e| e.to_string()),
        samples: side.samples,
    }
}

fn notes(servers: &[ServerReport], is_same_server: bool) -> Vec<String> {
    let mut notes = Vec::new();
    for s in servers {
        if s.samples.iter().any(|sample| !sample.is_usage_reported) {
            notes.push(format!("{}: the server sent no usage; its events were counted as tokens.", s.label));
        }
        if s.failed > 0 {
            let error = s.last_error.as_deref().unwrap_or_default();
            notes.push(format!("{}: {} requests failed; the last: {error}", s.label, s.failed));
        }
        let cached: Vec<f64> = s.samples.iter().filter_map(|x| x.cached_tokens.map(|n| n as f64)).collect();
        let prompt = s.prompt_tokens.map_or(0.0, |p| p.p50);
        if median(&cached).is_some_and(|n| n > prompt / 2.0) {
            notes.push(format!("{}: most of each prompt came from a cache: ttft says little.", s.label));
        }
        if s.tps.is_none() {
            notes
                .push(format!("{}: answers were too short, or came at once: no speed after the first token.", s.label));
        }
    }
    if let [a, b] = servers
        && let (Some(a), Some(b)) = (a.tokens, b.tokens)
        && (a.p50 - b.p50).abs() > 0.1 * a.p50.max(b.p50)
    {
        notes.push(
            "The answers differ in length by more than 10 %: effective speed favours the longer ones.".to_owned(),
        );
    }
    if is_same_server {
        notes.push("A and B are the same server: they got different prompts.".to_owned());
    }
    notes
}

impl Ratios {
    fn of(a: &ServerReport, b: &ServerReport) -> Self {
        let ratio = |a: Option<Summary>, b: Option<Summary>| Some(a?.p50 / b?.p50).filter(|r| r.is_finite());
        Self {
            ttft_ms: ratio(a.ttft_ms, b.ttft_ms),
            itl_ms: ratio(a.itl_ms, b.itl_ms),
            itl_event_ms: ratio(a.itl_event_ms, b.itl_event_ms),
            tps: ratio(a.tps, b.tps),
            effective_tps: ratio(a.effective_tps, b.effective_tps),
        }
    }
}

impl Report {
    fn rows(&self) -> Vec<Vec<String>> {
        let r = self.ratio_a_over_b;
        type Figure = fn(&ServerReport) -> Option<Summary>;
        let figures: [(&str, Figure, Option<Option<f64>>); 7] = [
            ("ttft ms", |s| s.ttft_ms, r.map(|r| r.ttft_ms)),
            ("itl ms/token", |s| s.itl_ms, r.map(|r| r.itl_ms)),
            ("itl ms/event", |s| s.itl_event_ms, r.map(|r| r.itl_event_ms)),
            ("tok/s after first", |s| s.tps, r.map(|r| r.tps)),
            ("effective tok/s", |s| s.effective_tps, r.map(|r| r.effective_tps)),
            ("answer tokens", |s| s.tokens, None),
            ("prompt tokens", |s| s.prompt_tokens, None),
        ];
        let mut head = vec![String::new()];
        for s in &self.servers {
            head.extend([format!("{} p50", s.label), "min - max".to_owned()]);
        }
        head.extend(r.map(|_| "A/B".to_owned()));
        let mut rows = vec![head];
        for (name, figure, ratio) in figures {
            let mut row = vec![name.to_owned()];
            for s in &self.servers {
                let summary = figure(s);
                row.push(summary.map_or("-".to_owned(), |s| short(s.p50)));
                row.push(summary.map_or("-".to_owned(), |s| format!("{} - {}", short(s.min), short(s.max))));
            }
            row.extend(ratio.map(|r| r.map_or("-".to_owned(), |r| format!("{r:.2}"))));
            rows.push(row);
        }
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for s in &self.servers {
            writeln!(f, "{}  {}  model {}  {} of {} requests", s.label, s.url, s.model, s.samples.len(), self.reps)?;
        }
        let rows = self.rows();
        table::write(f, &rows)?;
        if self.ratio_a_over_b.is_some() {
            writeln!(f, "A/B: ttft and itl below 1 and speeds above 1 mean that A is faster.")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        write!(f, "seed {}", self.seed)
    }
}
