//! `GET /metrics` in Prometheus' text format, from plain atomics: counting costs a few nanoseconds per token.

use engine::api::{Drafts, Load, SOURCES};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds.
const TTFT_S: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const ITL_S: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0];

/// Tokens per second.
const EFFECTIVE_TPS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0];

/// Computed tokens of a prompt that tells how fast prefill is, and generated ones that tell how fast decode is.
const PREFILL_TOKENS_MIN: usize = 32;
const DECODE_TOKENS_MIN: u64 = 16;

fn rate(n: u64, us: u64) -> Option<f64> {
    (n > 0 && us > 0).then(|| n as f64 * 1e6 / us as f64)
}

/// How often a value fell into which bucket: a duration in seconds, or another number.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: [f64; 12],
    counts: [AtomicU64; 13],
    /// In millionths.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: [f64; 12]) -> Self {
        Self { bounds, counts: Default::default(), sum: AtomicU64::new(0) }
    }

    fn count(&self, each: f64, n: u64, sum: u64) {
        let i = self.bounds.iter().position(|b| each <= *b).unwrap_or(self.bounds.len());
        self.counts[i].fetch_add(n, Relaxed);
        self.sum.fetch_add(sum, Relaxed);
    }

    pub(crate) fn observe(&self, d: Duration) {
        self.observe_shares(d, 1);
    }

    /// n observations of an n-th of `d` each.
    pub(crate) fn observe_shares(&self, d: Duration, n: u64) {
        if n == 0 {
            return;
        }
        self.count(d.as_secs_f64() / n as f64, n, u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut total = 0;
        for (i, count) in self.counts.iter().enumerate() {
            total += count.load(Relaxed);
            match self.bounds.get(i) {
                Some(bound) => writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}"),
                None => writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}"),
            }
            .unwrap_or_default();
        }
        let sum = self.sum.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}");
    }
}

/// Counts of one model.
#[derive(Debug)]
pub(crate) struct ModelMetrics {
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) cached_tokens: AtomicU64,
    pub(crate) generated_tokens: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) step_failures: AtomicU64,
    pub(crate) preempted: AtomicU64,
    pub(crate) running: AtomicUsize,
    pages_used: AtomicUsize,
    pages_cached: AtomicUsize,
    pages_total: AtomicUsize,
    rows: AtomicUsize,
    rows_all: AtomicU64,
    /// Prompt tokens that were computed, and how long, for prompts that were long enough to say something.
    prefill_tokens: AtomicU64,
    prefill_us: AtomicU64,
    drafts_offered: [AtomicU64; SOURCES.len()],
    drafts_accepted: [AtomicU64; SOURCES.len()],
    /// From submission to the first token.
    pub(crate) ttft: Histogram,
    /// Between tokens of a sequence; tokens that came in one step share the time since the step before.
    pub(crate) itl: Histogram,
    /// Tokens of a sequence per second from its submission to its last token.
    effective_tps: Histogram,
}

impl Default for ModelMetrics {
    fn default() -> Self {
        Self {
            prompt_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            generated_tokens: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            step_failures: AtomicU64::new(0),
            preempted: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            pages_used: AtomicUsize::new(0),
            pages_cached: AtomicUsize::new(0),
            pages_total: AtomicUsize::new(0),
            rows: AtomicUsize::new(0),
            rows_all: AtomicU64::new(0),
            prefill_tokens: AtomicU64::new(0),
            prefill_us: AtomicU64::new(0),
            drafts_offered: Default::default(),
            drafts_accepted: Default::default(),
            ttft: Histogram::new(TTFT_S),
            itl: Histogram::new(ITL_S),
            effective_tps: Histogram::new(EFFECTIVE_TPS),
        }
    }
}

impl ModelMetrics {
    /// The engine's counts after a step.
    pub(crate) fn show(&self, load: &Load) {
        self.running.store(load.running, Relaxed);
        self.pages_used.store(load.pages_used, Relaxed);
        self.pages_cached.store(load.pages_cached, Relaxed);
        self.pages_total.store(load.pages_total, Relaxed);
        self.rows.store(load.rows, Relaxed);
        self.rows_all.fetch_add(load.rows as u64, Relaxed);
    }

    /// The prompt of a sequence was computed: so many tokens in this time. Short ones say little about speed.
    pub(crate) fn count_prefill(&self, n: usize, took: Duration) {
        if n >= PREFILL_TOKENS_MIN {
            self.prefill_tokens.fetch_add(n as u64, Relaxed);
            self.prefill_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// Prompt tokens per second of one sequence; `None` until a prompt has told.
    pub(crate) fn prefill_tps(&self) -> Option<f64> {
        rate(self.prefill_tokens.load(Relaxed), self.prefill_us.load(Relaxed))
    }

    /// Generated tokens per second of one sequence; `None` until there were some.
    pub(crate) fn decode_tps(&self) -> Option<f64> {
        let n = self.itl.counts.iter().map(|c| c.load(Relaxed)).sum();
        rate(n, self.itl.sum.load(Relaxed)).filter(|_| n >= DECODE_TOKENS_MIN)
    }

    /// A sequence has ended that brought so many tokens in this time, all waiting included.
    pub(crate) fn count_effective(&self, n: u64, took: Duration) {
        if let Some(tps) = rate(n, u64::try_from(took.as_micros()).unwrap_or(u64::MAX)) {
            self.effective_tps.count(tps, 1, (tps * 1e6) as u64); // a float beyond u64 becomes its greatest
        }
    }

    /// A sequence has ended.
    pub(crate) fn count_drafts(&self, drafts: &Drafts) {
        for i in 0..SOURCES.len() {
            self.drafts_offered[i].fetch_add(drafts.offered[i], Relaxed);
            self.drafts_accepted[i].fetch_add(drafts.accepted[i], Relaxed);
        }
    }
}

/// Counts of the whole server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// (endpoint, status): both from small fixed sets, never from the client's text.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    pub(crate) connections: AtomicUsize,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) websockets: AtomicUsize,
    pub(crate) panics: AtomicU64,
}

impl Metrics {
    pub(crate) fn count(&self, endpoint: &'static str, status: u16) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry((endpoint, status)).or_insert(0) += 1;
    }

    pub(crate) fn write(&self, out: &mut String) {
        let _ = writeln!(out, "# TYPE vonk_requests_total counter");
        for ((endpoint, status), n) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(out, "vonk_requests_total{{endpoint=\"{endpoint}\",status=\"{status}\"}} {n}");
        }
        for (kind, name, value) in [
            ("gauge", "vonk_connections", self.connections.load(Relaxed) as u64),
            ("gauge", "vonk_websockets", self.websockets.load(Relaxed) as u64),
            ("counter", "vonk_connections_refused_total", self.connections_refused.load(Relaxed)),
            ("counter", "vonk_panics_total", self.panics.load(Relaxed)),
        ] {
            let _ = writeln!(out, "# TYPE {name} {kind}\n{name} {value}");
        }
    }
}

/// One model as it is written.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) queued: usize,
    pub(crate) slots: usize,
    pub(crate) metrics: &'a ModelMetrics,
}

/// All models: families may not be interleaved, so the loop over names is outside.
pub(crate) fn write_models(out: &mut String, rows: &[Row<'_>]) {
    type Value = fn(&Row<'_>) -> u64;
    let families: [(&str, &str, Value); 14] = [
        ("counter", "vonk_prompt_tokens_total", |r| r.metrics.prompt_tokens.load(Relaxed)),
        ("counter", "vonk_cached_tokens_total", |r| r.metrics.cached_tokens.load(Relaxed)),
        ("counter", "vonk_generated_tokens_total", |r| r.metrics.generated_tokens.load(Relaxed)),
        ("counter", "vonk_cancelled_total", |r| r.metrics.cancelled.load(Relaxed)),
        ("counter", "vonk_step_failures_total", |r| r.metrics.step_failures.load(Relaxed)),
        ("counter", "vonk_preempted_total", |r| r.metrics.preempted.load(Relaxed)),
        ("counter", "vonk_rows_total", |r| r.metrics.rows_all.load(Relaxed)),
        ("gauge", "vonk_step_rows", |r| r.metrics.rows.load(Relaxed) as u64),
        ("gauge", "vonk_requests_running", |r| r.metrics.running.load(Relaxed) as u64),
        ("gauge", "vonk_requests_queued", |r| r.queued as u64),
        ("gauge", "vonk_slots", |r| r.slots as u64),
        ("gauge", "vonk_kv_pages_used", |r| r.metrics.pages_used.load(Relaxed) as u64),
        ("gauge", "vonk_kv_pages_cached", |r| r.metrics.pages_cached.load(Relaxed) as u64),
        ("gauge", "vonk_kv_pages", |r| r.metrics.pages_total.load(Relaxed) as u64),
    ];
    for (kind, name, value) in families {
        let _ = writeln!(out, "# TYPE {name} {kind}");
        for row in rows {
            let _ = writeln!(out, "{name}{{model=\"{}\"}} {}", escape(row.name), value(row));
        }
    }
    write_drafts(out, rows);
    type Pick = fn(&ModelMetrics) -> &Histogram;
    let histograms: [(&str, Pick); 3] = [
        ("vonk_ttft_seconds", |m| &m.ttft),
        ("vonk_itl_seconds", |m| &m.itl),
        ("vonk_effective_tokens_per_second", |m| &m.effective_tps),
    ];
    for (name, pick) in histograms {
        let _ = writeln!(out, "# TYPE {name} histogram");
        for row in rows {
            pick(row.metrics).write(out, name, &format!("model=\"{}\"", escape(row.name)));
        }
    }
}

fn write_drafts(out: &mut String, rows: &[Row<'_>]) {
    let name = "vonk_draft_tokens_total";
    let _ = writeln!(out, "# TYPE {name} counter");
    for row in rows {
        let model = escape(row.name);
        for (i, source) in SOURCES.iter().enumerate() {
            let accepted = row.metrics.drafts_accepted[i].load(Relaxed);
            let rejected = row.metrics.drafts_offered[i].load(Relaxed).saturating_sub(accepted);
            for (outcome, n) in [("accepted", accepted), ("rejected", rejected)] {
                let _ = writeln!(out, "{name}{{model=\"{model}\",source=\"{source}\",outcome=\"{outcome}\"}} {n}");
            }
        }
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_labels_are_escaped() {
        let metrics = ModelMetrics::default();
        for ms in [5, 20, 20, 90_000] {
            metrics.ttft.observe(Duration::from_millis(ms));
        }
        let mut out = String::new();
        write_models(&mut out, &[Row { name: "a\"b", queued: 3, slots: 4, metrics: &metrics }]);
        assert!(out.contains("vonk_ttft_seconds_bucket{model=\"a\\\"b\",le=\"0.01\"} 1\n"), "{out}");
        assert!(out.contains("le=\"0.025\"} 3\n"));
        assert!(out.contains("le=\"60\"} 3\n"));
        assert!(out.contains("vonk_ttft_seconds_bucket{model=\"a\\\"b\",le=\"+Inf\"} 4\n"));
        assert!(out.contains("vonk_ttft_seconds_count{model=\"a\\\"b\"} 4\n"));
        assert!(out.contains("vonk_requests_queued{model=\"a\\\"b\"} 3\n"));
    }

    #[test]
    fn effective_speed_is_of_whole_sequences() {
        let metrics = ModelMetrics::default();
        metrics.count_effective(30, Duration::from_secs(2)); // 15 a second
        metrics.count_effective(600, Duration::from_secs(1));
        metrics.count_effective(0, Duration::from_secs(1)); // nothing came
        let mut out = String::new();
        write_models(&mut out, &[Row { name: "m", queued: 0, slots: 1, metrics: &metrics }]);
        let name = "vonk_effective_tokens_per_second";
        for (le, n) in [("10", 0), ("20", 1), ("500", 1), ("1000", 2), ("+Inf", 2)] {
            assert!(out.contains(&format!("{name}_bucket{{model=\"m\",le=\"{le}\"}} {n}\n")), "{out}");
        }
        assert!(out.contains(&format!("{name}_sum{{model=\"m\"}} 615\n{name}_count{{model=\"m\"}} 2\n")), "{out}");
    }

    #[test]
    fn tokens_of_one_step_share_its_time() {
        let h = Histogram::new(ITL_S);
        h.observe_shares(Duration::from_millis(80), 8); // 10 ms each
        h.observe_shares(Duration::ZERO, 3);
        h.observe_shares(Duration::from_secs(9), 0);
        let mut out = String::new();
        h.write(&mut out, "itl", "");
        assert!(out.contains("le=\"0.001\"} 3\n") && out.contains("le=\"0.005\"} 3\n"), "{out}");
        assert!(out.contains("le=\"0.01\"} 11\n") && out.contains("itl_sum{} 0.08\nitl_count{} 11\n"), "{out}");
    }
}
