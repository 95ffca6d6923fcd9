//! `vonk top`: what a server is doing, from its metrics, as lines of text that fit a terminal. A pure function of the texts
//! that were read and when; whoever calls reads and prints.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

/// Samples that are kept: rates and quantiles are over this window, one sample a second.
const WINDOW: usize = 60;
/// Metrics that are read from one answer; a server of ours has a few hundred.
const LINES_MAX: usize = 20_000;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One reading: value by name and labels, as the server wrote them.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reading {
    at_s: f64,
    values: BTreeMap<String, f64>,
}

/// What was read lately.
#[derive(Debug, Default)]
pub struct Top {
    readings: VecDeque<Reading>,
}

impl Top {
    /// Takes the text of `GET /metrics`, read at this second of any clock. False if it is no such text.
    pub fn take(&mut self, at_s: f64, text: &str) -> bool {
        let lines = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).take(LINES_MAX);
        let value = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok().filter(|v: &f64| v.is_finite())?))
        };
        let values: BTreeMap<String, f64> = lines.filter_map(value).collect();
        if !values.keys().any(|k| k.starts_with("vonk_")) {
            return false;
        }
        // A server that began anew counts from zero: what was before says nothing.
        if self
            .readings
            .back()
            .is_some_and(|last| total(last, "vonk_requests_total") > total_of(&values, "vonk_requests_total"))
        {
            self.readings.clear();
        }
        self.readings.push_back(Reading { at_s, values });
        if self.readings.len() > WINDOW + 1 {
            self.readings.pop_front();
        }
        true
    }

    /// The picture, `width` characters wide at most.
    pub fn draw(&self, url: &str, width: usize) -> String {
        let mut out = String::new();
        let Some(now) = self.readings.back() else { return out };
        let first = self.readings.front().unwrap_or(now);
        let before = self.readings.len().checked_sub(2).map_or(now, |i| &self.readings[i]);
        let _ = writeln!(
            out,
            "vonk top  {url}  {:.0} connections, {:.1} requests/s, {:.0} failed",
            now.get("vonk_connections"),
            rate(before, now, |r| total(r, "vonk_requests_total")),
            errors(now) - errors(first),
        );
        for model in models(now) {
            self.draw_model(&mut out, model, first, before, now);
        }
        out.lines().flat_map(|l| l.chars().take(width).chain(['\n'])).collect()
    }

    fn draw_model(&self, out: &mut String, model: &str, first: &Reading, before: &Reading, now: &Reading) {
        let of = |r: &Reading, name: &str| r.get(&format!("{name}{{model=\"{model}\"}}"));
        let per_s = |name: &str| rate(before, now, |r| of(r, name));
        let grown = |name: &str| of(now, name) - of(first, name);
        let pairs = self.readings.iter().zip(self.readings.iter().skip(1));
        let speeds: Vec<f64> = pairs.map(|(a, b)| rate(a, b, |r| of(r, "vonk_generated_tokens_total"))).collect();
        let (prompt, cached) = (grown("vonk_prompt_tokens_total"), grown("vonk_cached_tokens_total"));
        let _ = writeln!(
            out,
            "\n{model}\n  streams  {:.0} running of {:.0} slots, {:.0} waiting; {:.0} cancelled, {:.0} preempted",
            of(now, "vonk_requests_running"),
            of(now, "vonk_slots"),
            of(now, "vonk_requests_queued"),
            grown("vonk_cancelled_total"),
            grown("vonk_preempted_total"),
        );
        let _ = writeln!(out, "  speed    {:>6.1} tok/s  {}", per_s("vonk_generated_tokens_total"), sparks(&speeds));
        let computed = per_s("vonk_prompt_tokens_total") - per_s("vonk_cached_tokens_total");
        let _ = writeln!(
            out,
            "  prompts  {computed:>6.0} tok/s computed, {} of the rest from the cache",
            percent(cached, prompt)
        );
        let (ttft, itl) =
            (Window::of(first, now, "vonk_ttft_seconds", model), Window::of(first, now, "vonk_itl_seconds", model));
        let _ = writeln!(
            out,
            "  waits    ttft p50 {} p95 {} ({:.0} answers), {} a token",
            ms(ttft.quantile(0.5)),
            ms(ttft.quantile(0.95)),
            ttft.count,
            ms(itl.mean()),
        );
        let drafts: Vec<String> = ["prediction", "history", "pool", "model"]
            .iter()
            .filter_map(|source| {
                let n = |outcome: &str| {
                    let key = format!(
                        "vonk_draft_tokens_total{{model=\"{model}\",source=\"{source}\",outcome=\"{outcome}\"}}"
                    );
                    now.get(&key) - first.get(&key)
                };
                let (kept, lost) = (n("accepted"), n("rejected"));
                (kept + lost > 0.0)
                    .then(|| format!("{source} {kept:.0} of {:.0} ({})", kept + lost, percent(kept, kept + lost)))
            })
            .collect();
        let none = if drafts.is_empty() { "none verified" } else { "" };
        let _ = writeln!(out, "  drafts   {}{none}", drafts.join(", "));
        let (used, kept, all) =
            (of(now, "vonk_kv_pages_used"), of(now, "vonk_kv_pages_cached"), of(now, "vonk_kv_pages"));
        let _ =
            writeln!(out, "  pages    {} {used:.0} in use, {kept:.0} cached, {all:.0} in all", bar(used, kept, all));
    }
}

impl Reading {
    fn get(&self, key: &str) -> f64 {
        self.values.get(key).copied().unwrap_or(0.0)
    }
}

/// All values of a family.
fn total(r: &Reading, family: &str) -> f64 {
    total_of(&r.values, family)
}

fn total_of(values: &BTreeMap<String, f64>, family: &str) -> f64 {
    values
        .iter()
        .filter(|(k, _)| k.strip_prefix(family).is_some_and(|rest| rest.starts_with('{')))
        .map(|(_, v)| v)
        .sum()
}

/// Answers with a status of 400 and more.
fn errors(r: &Reading) -> f64 {
    let is_error = |key: &str| {
        let status = key.strip_prefix("vonk_requests_total").and_then(|k| k.split("status=\"").nth(1));
        status.is_some_and(|s| s.starts_with(['4', '5']))
    };
    r.values.iter().filter(|(k, _)| is_error(k)).map(|(_, v)| v).sum()
}

/// Names of models, from a gauge that each has.
fn models(r: &Reading) -> impl Iterator<Item = &str> {
    r.values.keys().filter_map(|k| k.strip_prefix("vonk_slots{model=\"")?.strip_suffix("\"}"))
}

fn rate(a: &Reading, b: &Reading, value: impl Fn(&Reading) -> f64) -> f64 {
    let s = b.at_s - a.at_s;
    if s > 0.0 { ((value(b) - value(a)) / s).max(0.0) } else { 0.0 }
}

/// What fell into the buckets of a histogram between two readings.
struct Window {
    /// Upper bound in seconds and how many are at most that.
    buckets: Vec<(f64, f64)>,
    count: f64,
    sum_s: f64,
}

impl Window {
    fn of(from: &Reading, to: &Reading, name: &str, model: &str) -> Self {
        let grown = |key: &str| to.get(key) - from.get(key);
        let prefix = format!("{name}_bucket{{model=\"{model}\",le=\"");
        let bound = |key: &str| key.strip_prefix(&prefix)?.strip_suffix("\"}")?.parse::<f64>().ok();
        let mut buckets: Vec<(f64, f64)> =
            to.values.keys().filter_map(|key| Some((bound(key)?, grown(key)))).filter(|(b, _)| b.is_finite()).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let whole = |part: &str| grown(&format!("{name}_{part}{{model=\"{model}\"}}"));
        Self { buckets, count: whole("count"), sum_s: whole("sum") }
    }

    /// In seconds, between the bounds of its bucket; `None` without any, or above the last bound.
    fn quantile(&self, q: f64) -> Option<f64> {
        let rank = (q * self.count).max(f64::MIN_POSITIVE);
        let mut below = (0.0, 0.0);
        for &(bound, n) in &self.buckets {
            if n >= rank && self.count > 0.0 {
                return Some(below.0 + (bound - below.0) * (rank - below.1) / (n - below.1).max(f64::MIN_POSITIVE));
            }
            below = (bound, n);
        }
        None
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum_s / self.count)
    }
}

fn ms(s: Option<f64>) -> String {
    s.map_or_else(
        || "-".to_owned(),
        |s| if s < 0.1 { format!("{:.1} ms", s * 1e3) } else { format!("{:.0} ms", s * 1e3) },
    )
}

fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.0} %", part / whole * 100.0) } else { "-".to_owned() }
}

fn sparks(values: &[f64]) -> String {
    let top = values.iter().copied().fold(0.0, f64::max);
    if top <= 0.0 {
        return String::new();
    }
    values.iter().map(|v| BARS[((v / top * 8.0).ceil() as usize).clamp(1, 8) - 1]).collect()
}

fn bar(used: f64, kept: f64, all: f64) -> String {
    const WIDTH: usize = 24;
    let of = |n: f64| if all > 0.0 { ((n / all * WIDTH as f64).round() as usize).min(WIDTH) } else { 0 };
    let (used, both) = (of(used), of(used + kept));
    (0..WIDTH)
        .map(|i| {
            if i < used {
                '█'
            } else if i < both {
                '▒'
            } else {
                '░'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn metrics(tokens: u64, fast: u64, slow: u64) -> String {
        let all = fast + slow;
        format!(
            "# TYPE vonk_slots gauge\nvonk_slots{{model=\"m 1\"}} 8\nvonk_connections 3\n\
             vonk_requests_total{{endpoint=\"chat\",status=\"200\"}} {all}\nvonk_requests_total{{endpoint=\"chat\",status=\"429\"}} {slow}\n\
             vonk_generated_tokens_total{{model=\"m 1\"}} {tokens}\nvonk_prompt_tokens_total{{model=\"m 1\"}} {tokens}\n\
             vonk_cached_tokens_total{{model=\"m 1\"}} {}\nvonk_requests_running{{model=\"m 1\"}} 2\n\
             vonk_ttft_seconds_bucket{{model=\"m 1\",le=\"0.01\"}} {fast}\nvonk_ttft_seconds_bucket{{model=\"m 1\",le=\"0.1\"}} {all}\n\
             vonk_ttft_seconds_bucket{{model=\"m 1\",le=\"+Inf\"}} {all}\nvonk_ttft_seconds_count{{model=\"m 1\"}} {all}\n\
             vonk_draft_tokens_total{{model=\"m 1\",source=\"history\",outcome=\"accepted\"}} {tokens}\n\
             vonk_draft_tokens_total{{model=\"m 1\",source=\"history\",outcome=\"rejected\"}} {tokens}\n\
             vonk_kv_pages_used{{model=\"m 1\"}} 25\nvonk_kv_pages_cached{{model=\"m 1\"}} 25\nvonk_kv_pages{{model=\"m 1\"}} 100\n",
            tokens / 4
        )
    }

    #[test]
    fn rates_and_quantiles_are_of_what_happened_between_the_readings() {
        let mut top = Top::default();
        assert!(top.take(0.0, &metrics(1000, 100, 0)));
        assert!(top.take(2.0, &metrics(1200, 190, 10)));
        let seen = top.draw("http://x", 200);
        for want in [
            "3 connections, 55.0 requests/s, 10 failed",
            "m 1\n",
            "2 running of 8 slots",
            "100.0 tok/s",
            "25 %",
            "ttft p50 5.6 ms p95 55.0 ms (100 answers)",
            "history 200 of 400 (50 %)",
            "██████▒▒▒▒▒▒░░░░░░░░░░░░",
        ] {
            assert!(seen.contains(want), "{want} is missing in\n{seen}");
        }
        assert!(top.draw("http://x", 20).lines().all(|l| l.chars().count() <= 20));
    }

    #[test]
    fn a_server_that_began_anew_gives_no_negative_rates_and_other_texts_are_refused() {
        let mut top = Top::default();
        assert!(!top.take(0.0, "<html>\nnot metrics 1\n"));
        assert!(top.take(0.0, &metrics(1000, 100, 0)));
        assert!(top.take(1.0, &metrics(8, 1, 0)));
        assert!(!top.draw("http://x", 200).contains('-') || top.readings.len() == 1);
        for i in 0..200 {
            assert!(top.take(2.0 + f64::from(i), &metrics(8, 1, 0)));
        }
        assert_eq!(top.readings.len(), WINDOW + 1);
    }
}
