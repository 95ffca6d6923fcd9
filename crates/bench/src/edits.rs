//! Whole-file rewrites of real commits, asked for by chat: the speed that an edit has for the person who waits. Cases, prompt and
//! figures are those of a common script for such measurements (its shuffle, its clock: from before the connection to the end
//! of the stream). `replay` forces the reference answer, as if a perfect model had written it: speed apart from wit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::limits;
use client::stream::Timed;
use client::{ClientError, Target};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data;
use crate::error::BenchError;
use crate::python_random::shuffle;
use crate::similarity;
use crate::stream::timed;

pub use crate::edits_report::{Report, Row};

/// What the server may draft on its own (a field of ours; other servers pass over it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Speculation {
    /// As it sees fit.
    Auto,
    /// Nothing.
    Off,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct EditsArgs {
    /// Server A, `http://host:port`.
    pub url: String,
    /// Server B; without it A alone is measured.
    pub against: Option<String>,
    /// JSONL with `before`, `after`, `subject` and `path`.
    pub data: PathBuf,
    /// Cases.
    pub n: usize,
    /// Chooses the cases, as Python's `random.Random(seed).shuffle` does.
    pub seed: u64,
    /// Characters of `before`, at least and at most.
    pub chars: (usize, usize),
    /// Send the file before the change as OpenAI's `prediction`, to both.
    pub prediction: bool,
    /// Sent to A.
    pub speculation: Option<Speculation>,
    /// Ask for one token before each measured request, so that the file is in the prefix cache.
    pub warm: bool,
    /// Force the reference answer at A; B gets the plain request, for as many tokens.
    pub replay: bool,
    /// Model to ask for.
    pub model: String,
    /// Tokens of an answer, at most.
    pub max_tokens: u32,
    /// Sent to both as `Authorization: Bearer`.
    pub key: Option<String>,
    /// Seconds for one answer.
    pub timeout_s: u64,
}

impl Default for EditsArgs {
    fn default() -> Self {
        Self {
            url: String::new(),
            against: None,
            data: PathBuf::new(),
            n: 8,
            seed: 1,
            chars: (1200, 4000),
            prediction: false,
            speculation: None,
            warm: false,
            replay: false,
            model: "default".to_owned(),
            max_tokens: 1600,
            key: None,
            timeout_s: limits::CLIENT_ANSWER_S_MAX,
        }
    }
}

impl EditsArgs {
    fn check(&self) -> Result<(), BenchError> {
        let rules = [
            ("--n", self.n as u64, limits::BENCH_CASES_MAX as u64),
            ("--max-tokens", self.max_tokens.into(), limits::CTX_MAX as u64),
            ("--timeout", self.timeout_s, limits::CLIENT_ANSWER_S_MAX),
        ];
        for (name, value, max) in rules {
            if !(1..=max).contains(&value) {
                return Err(BenchError::Argument { name, why: format!("{value} is not within 1..={max}") });
            }
        }
        Ok(())
    }
}

/// One commit of one file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Case {
    /// The file.
    #[serde(default = "unnamed")]
    pub path: String,
    /// What the commit's author said.
    pub subject: String,
    /// The file before.
    pub before: String,
    /// The file after.
    pub after: String,
}

fn unnamed() -> String {
    "file".to_owned()
}

impl Case {
    fn prompt(&self) -> String {
        format!(
            "Apply this change to the file `{}` and answer with the complete new file only, in one code block.\n\
             Change: {}\n\n```\n{}\n```",
            self.path, self.subject, self.before
        )
    }

    fn reference(&self) -> String {
        format!("```\n{}\n```", self.after)
    }
}

/// The cases that the settings choose.
///
/// # Errors
/// A file that cannot be used, or one without a case of that length.
pub fn cases(args: &EditsArgs) -> Result<Vec<Case>, BenchError> {
    let hint = "Give a JSONL file whose rows have `path`, `subject`, `before` and `after`";
    let mut cases: Vec<Case> = data::jsonl(&args.data, hint, usize::MAX, |_| Ok(()))?;
    let (min, max) = args.chars;
    cases.retain(|c| (min..=max).contains(&c.before.chars().count()));
    shuffle(&mut cases, args.seed);
    cases.truncate(args.n);
    match cases.is_empty() {
        true => {
            let why = format!("no file in it has {min} to {max} characters before the change");
            Err(BenchError::Data { path: args.data.display().to_string(), line: None, why })
        }
        false => Ok(cases),
    }
}

/// One server under measurement.
pub(crate) struct Side {
    pub label: char,
    pub target: Target,
    failures_in_a_row: usize,
    last_error: Option<BenchError>,
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Number of the case, from 0.
    pub case: usize,
    /// `A` or `B`.
    pub server: char,
    /// The file.
    pub path: String,
    /// What went wrong.
    pub error: String,
}

/// What was seen, for the report.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub rows: Vec<Row>,
    pub failures: Vec<Failure>,
    /// Cases that both answered, and those with equal answers.
    pub both: usize,
    pub equal: usize,
    pub stopped: Option<String>,
}

/// Measures A, and B if there is one, case by case in turn. `progress` gets one line per request.
///
/// # Errors
/// Settings, addresses, data; a server that answers nothing at all; with `replay`, a server that does not know it. Single
/// failures stand in the report; when nobody listens any more, or several requests in a row fail, it ends there and says so.
pub fn run(args: &EditsArgs, progress: &mut dyn FnMut(&str)) -> Result<Report, BenchError> {
    args.check()?;
    let cases = cases(args)?;
    let mut sides = sides(args)?;
    let mut seen = Seen::default();
    for (at, case) in cases.iter().enumerate() {
        // Who asks first changes from case to case; with replay A's answer says how long B's may be.
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if at % 2 == 1 && !args.replay {
            order.reverse();
        }
        let mut texts: Vec<String> = Vec::new();
        for i in order {
            let Some(max_tokens) = tokens_allowed(args, &seen, at, i) else { continue };
            match sides[i].ask(args, at, case, max_tokens) {
                Ok((row, text)) => {
                    progress(&format!("{} {}/{}: {}", row.server, at + 1, cases.len(), row.one_line()));
                    seen.rows.push(row);
                    texts.push(text);
                }
                Err(error) => {
                    progress(&format!("{} {}/{}: failed: {error}", sides[i].label, at + 1, cases.len()));
                    sides[i].failed(&mut seen, at, case, error)?;
                }
            }
        }
        if let [a, b] = texts.as_slice() {
            seen.both += 1;
            seen.equal += usize::from(a == b);
        }
        if seen.stopped.is_some() {
            break;
        }
    }
    for side in &mut sides {
        let has_answered = seen.rows.iter().any(|r| r.server == side.label);
        if let Some(error) = side.last_error.take().filter(|_| !has_answered) {
            return Err(error);
        }
    }
    Ok(Report::new(args, cases.len(), &sides, seen))
}

fn sides(args: &EditsArgs) -> Result<Vec<Side>, BenchError> {
    let both = [('A', Some(&args.url)), ('B', args.against.as_ref())];
    let given = both.into_iter().filter_map(|(label, url)| Some((label, url?)));
    given
        .map(|(label, url)| Ok(Side { label, target: Target::parse(url)?, failures_in_a_row: 0, last_error: None }))
        .collect()
}

/// Tokens that this server's answer may have; `None`: without A's replay there is nothing to compare B with.
fn tokens_allowed(args: &EditsArgs, seen: &Seen, case: usize, side: usize) -> Option<u32> {
    if !args.replay || side == 0 {
        return Some(args.max_tokens);
    }
    let row = seen.rows.last().filter(|r| r.case == case)?;
    u32::try_from(row.completion_tokens).ok().filter(|n| *n > 0)
}

impl Side {
    fn is_replayed(&self, args: &EditsArgs) -> bool {
        args.replay && self.label == 'A'
    }

    fn body(&self, args: &EditsArgs, case: &Case, max_tokens: u32) -> Value {
        let mut body = json!({
            "model": args.model, "temperature": 0, "stream": true, "max_tokens": max_tokens,
            "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": case.prompt()}],
        });
        if args.prediction {
            body["prediction"] = json!({"type": "content", "content": format!("```\n{}\n```", case.before)});
        }
        if let Some(speculation) = args.speculation.filter(|_| self.label == 'A') {
            body["speculation"] = json!(speculation);
        }
        if self.is_replayed(args) {
            body["replay"] = case.reference().into();
        }
        body
    }

    fn post(&self, args: &EditsArgs, body: &Value) -> Result<Timed, BenchError> {
        timed(&self.target, "/v1/chat/completions", body, args.key.as_deref(), args.timeout_s)
    }

    fn ask(&mut self, args: &EditsArgs, at: usize, case: &Case, max_tokens: u32) -> Result<(Row, String), BenchError> {
        let mut cold_ttft_ms = None;
        if args.warm {
            let mut body = self.body(args, case, 1);
            for extra in ["replay", "prediction"] {
                body.as_object_mut().and_then(|b| b.remove(extra));
            }
            cold_ttft_ms = Some(ttft_s(&self.post(args, &body)?) * 1e3);
        }
        let body = self.body(args, case, max_tokens);
        let timed = self.post(args, &body).map_err(|e| if self.is_replayed(args) { explained(e) } else { e })?;
        if self.is_replayed(args) && !is_forced(&case.reference(), &timed) {
            return Err(BenchError::Replay { url: self.target.shown().to_owned() });
        }
        self.failures_in_a_row = 0;
        Ok((self.row(at, case, &timed, cold_ttft_ms), timed.said.text))
    }

    fn row(&self, case_at: usize, case: &Case, timed: &Timed, cold_ttft_ms: Option<f64>) -> Row {
        let seen = &timed.said;
        let (n, ttft_s) = (seen.tokens_or_events(), ttft_s(timed));
        let total_s = timed.ended_at.duration_since(timed.asked_at).as_secs_f64();
        let decode_s = total_s - ttft_s;
        Row {
            case: case_at,
            server: self.label,
            path: client::printable(&case.path, 200),
            prompt_tokens: seen.prompt_tokens,
            cached_tokens: seen.cached_tokens,
            completion_tokens: n,
            is_usage_reported: seen.tokens.is_some(),
            ttft_ms: ttft_s * 1e3,
            cold_ttft_ms,
            tps: (n > 1).then(|| (n - 1) as f64 / decode_s.max(1e-9)),
            effective_tps: n as f64 / total_s.max(1e-9),
            total_ms: total_s * 1e3,
            similarity: similarity::of_lines(&case.after, code_of(&seen.text)),
            accepted_prediction_tokens: seen.accepted_prediction_tokens,
            rejected_prediction_tokens: seen.rejected_prediction_tokens,
            finish_reason: seen.finish_reason.clone(),
            timings: seen.timings.clone(),
        }
    }

    /// Notes a failure; ends everything when there is no sense in going on.
    fn failed(&mut self, seen: &mut Seen, at: usize, case: &Case, error: BenchError) -> Result<(), BenchError> {
        self.failures_in_a_row += 1;
        let is_end = error.is_connect() || self.failures_in_a_row >= limits::EVAL_ASK_FAILURES_MAX;
        let is_first = !seen.rows.iter().any(|r| r.server == self.label);
        if matches!(error, BenchError::Replay { .. } | BenchError::Argument { .. }) || (is_end && is_first) {
            return Err(error);
        }
        let (path, words) = (client::printable(&case.path, 200), error.to_string());
        if is_end {
            seen.stopped = Some(format!("ended after case {}: {words}", at + 1));
        }
        seen.failures.push(Failure { case: at, server: self.label, path, error: words });
        self.last_error = Some(error);
        Ok(())
    }
}

/// From before the connection to the first text, or to the end of an answer without any.
fn ttft_s(timed: &Timed) -> f64 {
    let first = timed.said.texts_at.first().copied().unwrap_or(timed.ended_at);
    first.duration_since(timed.asked_at).as_secs_f64()
}

/// A refusal of a request with `replay`, with a word on what that is.
fn explained(error: BenchError) -> BenchError {
    match error {
        BenchError::Client(ClientError::Refused { url, status, message }) => {
            let message = format!("{message} (this request had `replay`, a field of vonk's own)");
            ClientError::Refused { url, status, message }.into()
        }
        other => other,
    }
}

/// Whether the answer is the reference, or as much of it as was allowed.
fn is_forced(reference: &str, timed: &Timed) -> bool {
    let (text, is_cut) = (&timed.said.text, timed.said.finish_reason.as_deref() == Some("length"));
    !text.is_empty() && (text.trim_end() == reference.trim_end() || (is_cut && reference.starts_with(text.as_str())))
}

/// What stands in the first code block, without the line that opens it; all of an answer without one.
fn code_of(text: &str) -> &str {
    let Some(block) = text.split("```").nth(1) else { return text };
    block.split_once('\n').map_or(block, |(_, code)| code)
}

/// The file's name alone: reports hold no paths of a machine.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |f| f.to_string_lossy().into_owned())
}

/// Medians by the name of the figure.
pub type Figures = BTreeMap<&'static str, f64>;
