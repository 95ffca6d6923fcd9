//! What a measurement on edits comes to: rows, medians, the ratio of two servers, and what to know before one believes it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::edits::{EditsArgs, Failure, Figures, Seen, Side, Speculation, file_name};
use crate::stats::{Summary, median};
use crate::table::{self, short, short_or_dash};

/// One case at one server.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Number of the case, from 0.
    pub case: usize,
    /// `A` or `B`.
    pub server: char,
    /// The file.
    pub path: String,
    /// Tokens of the prompt, if the server told.
    pub prompt_tokens: Option<u64>,
    /// Those that it took from its cache, if it told.
    pub cached_tokens: Option<u64>,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Whether that is the server's count; otherwise it is the number of events.
    pub is_usage_reported: bool,
    /// Milliseconds from before the connection to the first text.
    pub ttft_ms: f64,
    /// The same of the request that warmed the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold_ttft_ms: Option<f64>,
    /// Tokens per second after the first.
    pub tps: Option<f64>,
    /// Tokens over the whole time, per second.
    pub effective_tps: f64,
    /// Milliseconds from before the connection to the end of the stream.
    pub total_ms: f64,
    /// Lines of the answer against the file after the commit, 0 to 1 (difflib's ratio).
    pub similarity: Option<f64>,
    /// Predicted tokens that were kept, if the server told.
    pub accepted_prediction_tokens: Option<u64>,
    /// Predicted tokens that were not.
    pub rejected_prediction_tokens: Option<u64>,
    /// Why the answer ended.
    pub finish_reason: Option<String>,
    /// The server's own figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Value>,
}

impl Row {
    pub(crate) fn one_line(&self) -> String {
        format!(
            "ttft {} ms, {} tokens, {} tok/s, effective {}, similarity {}, {}",
            short(self.ttft_ms),
            self.completion_tokens,
            short_or_dash(self.tps),
            short(self.effective_tps),
            short_or_dash(self.similarity),
            self.path
        )
    }
}

type Figure = fn(&Row) -> Option<f64>;

/// Name in JSON, name in the table, value.
const FIGURES: [(&str, &str, Figure); 8] = [
    ("prompt_tokens", "prompt tokens", |r| r.prompt_tokens.map(|n| n as f64)),
    ("cached_tokens", "of them cached", |r| r.cached_tokens.map(|n| n as f64)),
    ("completion_tokens", "answer tokens", |r| Some(r.completion_tokens as f64)),
    ("cold_ttft_ms", "ttft ms, cold", |r| r.cold_ttft_ms),
    ("ttft_ms", "ttft ms", |r| Some(r.ttft_ms)),
    ("tps", "tok/s after first", |r| r.tps),
    ("effective_tps", "effective tok/s", |r| Some(r.effective_tps)),
    ("similarity", "similarity", |r| r.similarity),
];

/// One server over all cases.
#[derive(Clone, Debug, Serialize)]
pub struct ServerReport {
    /// `A` or `B`.
    pub label: char,
    /// Its address.
    pub url: String,
    /// Cases answered.
    pub answered: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Each figure over the cases.
    pub summaries: BTreeMap<&'static str, Summary>,
    /// Tokens of all answers.
    pub tokens: u64,
    /// All tokens over all time, per second.
    pub overall_effective_tps: Option<f64>,
    /// Mean over the cases.
    pub mean_similarity: Option<f64>,
    /// Sum, if the server told.
    pub accepted_prediction_tokens: Option<u64>,
    /// Sum, if the server told.
    pub rejected_prediction_tokens: Option<u64>,
}

/// How many cases were answered alike by both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Equal {
    /// With equal text.
    pub equal: usize,
    /// Answered by both.
    pub of: usize,
}

/// The whole measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `edits` or `replay`.
    pub bench: &'static str,
    /// The data file's name.
    pub data: String,
    /// Cases chosen.
    pub n: usize,
    /// Chooses the same cases again.
    pub seed: u64,
    /// Whether the file before the change was sent as `prediction`.
    pub prediction: bool,
    /// Sent to A.
    pub speculation: Option<Speculation>,
    /// Whether each file was in the cache first.
    pub warm: bool,
    /// Tokens of an answer, at most.
    pub max_tokens: u32,
    /// One for each case and server that worked.
    pub rows: Vec<Row>,
    /// One for each that did not.
    pub failures: Vec<Failure>,
    /// A, then B.
    pub servers: Vec<ServerReport>,
    /// By label.
    pub medians: BTreeMap<char, Figures>,
    /// Medians of A over medians of B, and the overall speeds.
    pub ratio_a_over_b: Option<Figures>,
    /// With two servers and without replay.
    pub equal_answers: Option<Equal>,
    /// Why it ended early.
    pub stopped: Option<String>,
    /// What to know before one believes the figures.
    pub notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(args: &EditsArgs, n: usize, sides: &[Side], seen: Seen) -> Self {
        let servers: Vec<ServerReport> = sides.iter().map(|s| server(s, &seen)).collect();
        let medians: BTreeMap<char, Figures> = servers.iter().map(|s| (s.label, s.medians())).collect();
        let ratio_a_over_b = medians.get(&'A').zip(medians.get(&'B')).map(|(a, b)| {
            let ratio = |(name, a): (&&'static str, &f64)| Some((*name, a / b.get(name)?));
            a.iter().filter_map(ratio).filter(|(_, r)| r.is_finite()).collect()
        });
        let is_same = matches!(sides, [a, b] if a.target.is_same_server(&b.target));
        let both = sides.len() == 2 && !args.replay;
        Self {
            bench: if args.replay { "replay" } else { "edits" },
            data: file_name(&args.data),
            n,
            seed: args.seed,
            prediction: args.prediction,
            speculation: args.speculation,
            warm: args.warm,
            max_tokens: args.max_tokens,
            notes: notes(args, &servers, &seen, is_same),
            rows: seen.rows,
            failures: seen.failures,
            servers,
            medians,
            ratio_a_over_b,
            equal_answers: both.then_some(Equal { equal: seen.equal, of: seen.both }),
            stopped: seen.stopped,
        }
    }

    fn rows_of_table(&self) -> Vec<Vec<String>> {
        let mut head = vec![String::new()];
        for s in &self.servers {
            head.extend([format!("{} p50", s.label), "min - max".to_owned()]);
        }
        head.extend(self.ratio_a_over_b.as_ref().map(|_| "A/B".to_owned()));
        let mut rows = vec![head];
        for (name, shown, _) in FIGURES {
            if self.servers.iter().all(|s| !s.summaries.contains_key(name)) {
                continue;
            }
            let mut row = vec![shown.to_owned()];
            for s in &self.servers {
                let summary = s.summaries.get(name);
                row.push(short_or_dash(summary.map(|s| s.p50)));
                row.push(summary.map_or("-".to_owned(), |s| format!("{} - {}", short(s.min), short(s.max))));
            }
            row.extend(self.ratio_a_over_b.as_ref().map(|r| short_or_dash(r.get(name).copied())));
            rows.push(row);
        }
        let mut overall = vec!["overall effective".to_owned()];
        for s in &self.servers {
            overall.extend([short_or_dash(s.overall_effective_tps), String::new()]);
        }
        overall.extend(self.ratio_a_over_b.as_ref().map(|r| short_or_dash(r.get("overall_effective_tps").copied())));
        rows.push(overall);
        rows
    }
}

fn server(side: &Side, seen: &Seen) -> ServerReport {
    let rows: Vec<&Row> = seen.rows.iter().filter(|r| r.server == side.label).collect();
    let values = |figure: Figure| rows.iter().filter_map(|r| figure(r)).collect::<Vec<f64>>();
    let summaries = FIGURES.into_iter().filter_map(|(name, _, figure)| Some((name, Summary::of(&values(figure))?)));
    let (tokens, s) = rows.iter().fold((0, 0.0), |(n, s), r| (n + r.completion_tokens, s + r.total_ms / 1e3));
    let similarities = values(|r| r.similarity);
    let sum = |of: fn(&Row) -> Option<u64>| rows.iter().filter_map(|r| of(r)).reduce(u64::saturating_add);
    ServerReport {
        label: side.label,
        url: side.target.shown().to_owned(),
        answered: rows.len(),
        failed: seen.failures.iter().filter(|f| f.server == side.label).count(),
        summaries: summaries.collect(),
        tokens,
        overall_effective_tps: (s > 0.0).then(|| tokens as f64 / s),
        mean_similarity: (!similarities.is_empty())
            .then(|| similarities.iter().sum::<f64>() / similarities.len() as f64),
        accepted_prediction_tokens: sum(|r| r.accepted_prediction_tokens),
        rejected_prediction_tokens: sum(|r| r.rejected_prediction_tokens),
    }
}

impl ServerReport {
    fn medians(&self) -> Figures {
        let overall = self.overall_effective_tps.map(|v| ("overall_effective_tps", v));
        self.summaries.iter().map(|(name, s)| (*name, s.p50)).chain(overall).collect()
    }
}

fn notes(args: &EditsArgs, servers: &[ServerReport], seen: &Seen, is_same: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if args.replay {
        notes.push(
            "REPLAY: A wrote the reference answers because it was told to: its speed is a perfect model's, its similarity \
             says nothing. B wrote its own, at most as many tokens."
                .to_owned(),
        );
    }
    for s in servers {
        let rows: Vec<&Row> = seen.rows.iter().filter(|r| r.server == s.label).collect();
        if rows.iter().any(|r| !r.is_usage_reported) {
            notes.push(format!("{}: the server sent no usage; its events were counted as tokens.", s.label));
        }
        let cached: Vec<f64> =
            rows.iter().filter_map(|r| Some(r.cached_tokens? as f64 / r.prompt_tokens? as f64)).collect();
        if !args.warm && median(&cached).is_some_and(|part| part > 0.5) {
            notes.push(format!("{}: most of each prompt came from a cache: this is not cold.", s.label));
        }
        let cut = rows.iter().filter(|r| r.finish_reason.as_deref() == Some("length")).count();
        if cut > 0 && (!args.replay || s.label == 'A') {
            notes.push(format!("{}: {cut} answers were cut at {} tokens.", s.label, args.max_tokens));
        }
    }
    if is_same {
        notes.push("A and B are the same server: who comes second finds the prompt in its cache.".to_owned());
    }
    notes
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} cases of {}, seed {}", self.bench, self.n, self.data, self.seed)?;
        for s in &self.servers {
            write!(f, "{}  {}  {} of {} cases", s.label, s.url, s.answered, self.n)?;
            match (s.accepted_prediction_tokens, s.rejected_prediction_tokens) {
                (Some(yes), Some(no)) if yes + no > 0 => writeln!(f, ", {yes} drafted tokens kept, {no} not")?,
                _ => writeln!(f)?,
            }
        }
        table::write(f, &self.rows_of_table())?;
        if let Some(equal) = self.equal_answers {
            writeln!(f, "equal answers: {} of {}", equal.equal, equal.of)?;
        }
        for failure in &self.failures {
            writeln!(f, "failed: {} case {} ({}): {}", failure.server, failure.case, failure.path, failure.error)?;
        }
        for note in self.notes.iter().chain(&self.stopped) {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
