//! What a server of ours adds to its engine: to each token, to the first one, to the turns of an agent's dialogue, and beside many
//! idle connections. The server runs in this process, on an engine that this measurement can drive itself (`tap`).

mod dialogue;
mod idle;
mod talk;
mod tap;
mod token;
mod wire;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use base::limits;
use serde::Serialize;

use crate::error::BenchError;
use crate::stats::Summary;
use crate::table::{self, short};

pub use idle::Idle;
pub use talk::{Dialogues, TurnRow, Way};
pub use tap::Shared;
pub use token::{First, PerToken};

/// What to measure. A part whose count is 0, or that has no file, is left out.
#[derive(Clone, Debug)]
pub struct ServeArgs {
    /// Tokens of the answer whose every token is timed.
    pub tokens: usize,
    /// Tokens of the prompt whose first token is timed, about.
    pub prompt_tokens: usize,
    /// Repetitions of these two.
    pub reps: usize,
    /// Recorded dialogues.
    pub dialogues: Vec<PathBuf>,
    /// Turns of each.
    pub turns: usize,
    /// Idle connections of each kind.
    pub idle: usize,
}

impl ServeArgs {
    fn check(&self) -> Result<(), BenchError> {
        let within = [
            ("--reps", self.reps, 1, limits::BENCH_REPS_MAX),
            ("--tokens", self.tokens, 0, limits::BENCH_STEPS_MAX),
            ("--prompt-tokens", self.prompt_tokens, 0, limits::CTX_MAX),
            ("--turns", self.turns, 2, limits::BENCH_CASES_MAX),
            ("--idle", self.idle, 0, limits::BENCH_IDLE_MAX),
        ];
        match within.into_iter().find(|(_, n, least, most)| !(least..=most).contains(&n)) {
            Some((name, n, least, most)) => {
                Err(BenchError::Argument { name, why: format!("{n} is not within {least}..={most}") })
            }
            None => Ok(()),
        }
    }
}

/// Where the server is.
struct Place<'a> {
    addr: SocketAddr,
    /// Over one kept connection.
    http: wire::Http,
    engine: &'a Shared,
}

/// The whole measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `serve`.
    pub bench: &'static str,
    /// The model, as it is served.
    pub model: String,
    /// What HTTP adds to a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<PerToken>,
    /// What HTTP adds to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<First>,
    /// WebSocket against HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialogues: Option<Dialogues>,
    /// Idle connections, by kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<Idle>,
}

/// Measures the server at `addr`, whose only model runs on `engine`.
///
/// # Errors
/// Settings, files, a server that fails a request.
pub fn run(
    args: &ServeArgs,
    model: &str,
    addr: SocketAddr,
    engine: &Shared,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, BenchError> {
    args.check()?;
    let place = Place { addr, http: wire::Http::new(addr, true)?, engine };
    let mut report =
        Report { bench: "serve", model: model.to_owned(), token: None, first: None, dialogues: None, idle: Vec::new() };
    if args.tokens > 1 {
        progress("every token");
        report.token = Some(token::per_token(&place, args.tokens, args.reps)?);
    }
    if args.prompt_tokens > 0 {
        progress("the first token");
        report.first = Some(token::first(&place, args.prompt_tokens, args.reps)?);
    }
    if !args.dialogues.is_empty() {
        report.dialogues = Some(talk::run(&place, &args.dialogues, args.turns, progress)?);
    }
    if args.idle > 0 {
        progress("idle connections");
        report.idle = idle::run(&place, args.idle, args.reps.min(3))?;
    }
    Ok(report)
}

/// Median and range.
fn cells(what: &str, unit: &str, s: Option<Summary>) -> Vec<String> {
    let figure = s.map_or("-".to_owned(), |s| format!("{} [{}-{}]", short(s.p50), short(s.min), short(s.max)));
    vec![what.to_owned(), figure, unit.to_owned()]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = Vec::new();
        if let Some(t) = &self.token {
            rows.push(cells("per token, in process", "us", Some(t.direct_us)));
            rows.push(cells("  within steps", "us", Some(t.direct_step_us)));
            rows.push(cells("  between steps", "us", Some(t.direct_between_us)));
            rows.push(cells("per token, server-sent events", "us", Some(t.http_us)));
            rows.push(cells("  within steps", "us", Some(t.http_step_us)));
            rows.push(cells("  between steps", "us", Some(t.http_between_us)));
            rows.push(cells("added per token", "us", Some(t.added_us)));
            rows.push(cells("from step to client, beside decoding", "us", t.delivery_us));
            rows.push(cells("network threads' processor time per token", "us", t.network_cpu_us));
        }
        if let Some(t) = &self.first {
            rows.push(cells(
                &format!("first token of {} cached, in process", t.prompt_tokens),
                "ms",
                Some(t.direct_ms),
            ));
            rows.push(cells("  over HTTP", "ms", Some(t.http_ms)));
            rows.push(cells("  added", "ms", Some(t.added_ms)));
            rows.push(cells("  of it tokenising", "ms", Some(t.tokenize_ms)));
        }
        if let Some(d) = &self.dialogues {
            for (name, way) in [("WebSocket, new items", d.websocket), ("HTTP, all items", d.http)] {
                rows.push(cells(&format!("{name}: ttft of {} turns", d.turns), "ms", Some(way.ttft_ms)));
                rows.push(cells("  without prefill", "ms", Some(way.without_prefill_ms)));
                rows.push(cells("  tokenising", "ms", Some(way.tokenize_ms)));
                rows.push(cells("  prefill", "ms", Some(way.prompt_ms)));
                rows.push(cells("  sent", "bytes", Some(way.sent_bytes)));
                rows.push(cells("  prefilled", "tokens", Some(way.prefilled_tokens)));
            }
            rows.push(vec!["WebSocket/HTTP, ttft".to_owned(), format!("{:.3}", d.ttft_ratio)]);
            rows.push(vec!["WebSocket/HTTP, without prefill".to_owned(), format!("{:.3}", d.without_prefill_ratio)]);
        }
        for i in &self.idle {
            rows.push(cells(&format!("{} idle {}: each", i.streams, i.kind), "KiB", i.kib_each));
            rows.push(cells("  ttft alone", "ms", Some(i.alone_ms)));
            rows.push(cells("  ttft beside them", "ms", Some(i.beside_ms)));
            rows.push(vec!["  ratio".to_owned(), format!("{:.3}", i.ratio)]);
        }
        table::write(f, &rows)
    }
}
