//! Speed of one model in this process, without a server: prefill and decode at chosen depths, beside the machine's ceilings.

use crate::ceiling::{Bound, Ceilings, Demand, Floor};
use crate::stats;
use engine::{Probe, Want};
use ops::Backend;
use serde::Serialize;
use std::time::Instant;

/// What to measure. A part whose count is 0 is left out.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Tokens of context before the measured ones.
    pub depth: usize,
    /// Tokens to prefill.
    pub prefill: usize,
    /// Tokens to decode, one at a time.
    pub decode: usize,
    /// Separate measurements.
    pub reps: usize,
}

/// One figure, measured several times.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Tokens measured.
    pub n: usize,
    /// Tokens of context before them.
    pub depth: usize,
    /// Tokens per second of each repetition.
    pub tps: Vec<f64>,
    /// Tokens per second that the machine would allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling_tps: Option<f64>,
    /// The median of `tps` in percent of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent_of_ceiling: Option<f64>,
    /// What the ceiling is made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
}

impl Part {
    fn new(n: usize, depth: usize) -> Self {
        Self { n, depth, tps: vec![], ceiling_tps: None, percent_of_ceiling: None, bound: None }
    }

    fn put_beside(&mut self, floor: Floor) {
        let ceiling = self.n as f64 / floor.s;
        self.ceiling_tps = Some(ceiling);
        self.percent_of_ceiling = stats::median(&self.tps).map(|tps| 100.0 * tps / ceiling);
        self.bound = Some(floor.bound);
    }
}

/// Both parts.
#[derive(Clone, Debug, Serialize)]
pub struct Local {
    /// Model as it was named.
    pub model: String,
    /// Worker threads.
    pub threads: usize,
    /// Many tokens at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill: Option<Part>,
    /// One token at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<Part>,
    /// Ceilings of the machine, if its instruction set is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Ceilings>,
}

impl Local {
    /// Fills in what the machine would allow.
    pub fn put_beside(&mut self, ceilings: Ceilings, demand: &Demand) {
        self.ceiling = Some(ceilings);
        if let Some(p) = &mut self.prefill {
            p.put_beside(ceilings.floor(&demand.prefill(p.n, p.depth)));
        }
        if let Some(p) = &mut self.decode {
            p.put_beside(ceilings.floor(&demand.decode(p.n, p.depth)));
        }
    }
}

/// Milliseconds of one forward pass of `rows` rows, every row with logits as in verification.
#[derive(Clone, Debug, Serialize)]
pub struct Rows {
    /// Rows of the pass.
    pub rows: usize,
    /// Milliseconds of each repetition.
    pub ms: Vec<f64>,
    /// Milliseconds that the machine would need at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling_ms: Option<f64>,
    /// That in percent of the median of `ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent_of_ceiling: Option<f64>,
    /// What the ceiling is made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
}

impl Rows {
    fn new(rows: usize) -> Self {
        Self { rows, ms: vec![], ceiling_ms: None, percent_of_ceiling: None, bound: None }
    }

    /// Fills in what the machine would allow.
    pub fn put_beside(&mut self, ceilings: Ceilings, demand: &Demand, depth: usize) {
        let floor = ceilings.floor(&[demand.pass(self.rows, self.rows, depth)]);
        self.ceiling_ms = Some(floor.s * 1e3);
        self.percent_of_ceiling = stats::median(&self.ms).map(|ms| 100.0 * floor.s * 1e3 / ms);
        self.bound = Some(floor.bound);
    }
}

/// Token ids that look like nothing, the same every time; never special ones.
fn tokens(n: usize, n_vocab: usize, seed: u64) -> Vec<u32> {
    let range = (n_vocab as u64).clamp(1, 20_000);
    (0..n as u64).map(|i| (base::rng::bits(seed, i, 0) % range) as u32).collect()
}

/// Runs the plan. The first, uncounted repetition warms caches and threads.
pub fn measure<B: Backend>(
    probe: &mut Probe<B>,
    plan: Plan,
    progress: &mut dyn FnMut(&str),
) -> (Option<Part>, Option<Part>) {
    let depth = tokens(plan.depth, probe.n_vocab(), 1);
    progress("warming up");
    probe.rewind(0);
    probe.feed(&depth);
    let text = tokens(plan.prefill.max(1), probe.n_vocab(), 2);
    probe.feed(&text[..text.len().min(64)]);
    let mut prefill = Part::new(plan.prefill, plan.depth);
    let mut decode = Part::new(plan.decode, plan.depth);
    for rep in 0..plan.reps {
        if plan.prefill > 0 {
            probe.rewind(plan.depth);
            let start = Instant::now();
            probe.feed(&text);
            prefill.tps.push(plan.prefill as f64 / start.elapsed().as_secs_f64());
            progress(&format!("prefill {}/{}: {:.1} tok/s", rep + 1, plan.reps, prefill.tps[rep]));
        }
        if plan.decode > 0 {
            probe.rewind(plan.depth);
            let mut next = [7u32];
            let start = Instant::now();
            for _ in 0..plan.decode {
                probe.step(&next, Want::Last);
                // The next token depends on the logits, as in real decoding.
                next[0] = engine::sampler::argmax(probe.logits(0)).0;
            }
            decode.tps.push(plan.decode as f64 / start.elapsed().as_secs_f64());
            progress(&format!("decode {}/{}: {:.1} tok/s", rep + 1, plan.reps, decode.tps[rep]));
        }
    }
    ((plan.prefill > 0).then_some(prefill), (plan.decode > 0).then_some(decode))
}

/// Time of one pass for each row count, at a depth; counts alternate, so that drift hits all alike.
pub fn measure_rows<B: Backend>(probe: &mut Probe<B>, counts: &[usize], depth: usize, reps: usize) -> Vec<Rows> {
    let text = tokens(depth, probe.n_vocab(), 1);
    probe.rewind(0);
    probe.feed(&text);
    let mut out: Vec<Rows> = counts.iter().map(|rows| Rows::new(*rows)).collect();
    for rep in 0..=reps {
        for r in &mut out {
            probe.rewind(depth);
            let rows = tokens(r.rows, probe.n_vocab(), 3 + rep as u64);
            let start = Instant::now();
            probe.step(&rows, Want::All);
            if rep > 0 {
                r.ms.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn figures_stand_beside_what_the_machine_allows() {
        let ceilings = Ceilings { read_gbps: 10.0, int8_gops: 100.0, f32_gflops: 20.0 };
        let demand =
            Demand { weight_bytes: 1_000_000, kv_bytes: 0, layer_macs: 1_000_000, head_macs: 0, attend_macs: 0 };
        let mut rows = Rows { ms: vec![0.1, 0.2, 0.9], ..Rows::new(1) };
        rows.put_beside(ceilings, &demand, 0);
        assert!((rows.percent_of_ceiling.unwrap() - 50.0).abs() < 1e-9, "{rows:?}");
        let decode = Part { tps: vec![2_500.0], ..Part::new(4, 0) };
        let prefill = Part { tps: vec![25_000.0], ..Part::new(64, 0) };
        let (prefill, decode) = (Some(prefill), Some(decode));
        let mut local = Local { model: "m".into(), threads: 1, prefill, decode, ceiling: None };
        local.put_beside(ceilings, &demand);
        let value = serde_json::to_value(&local).unwrap();
        for part in ["decode", "prefill"] {
            let percent = value[part]["percent_of_ceiling"].as_f64().unwrap();
            let want = if part == "decode" { 25.0 } else { 50.0 };
            assert!((percent - want).abs() < 1e-9, "{value}");
        }
        assert_eq!((&value["decode"]["bound"], &value["prefill"]["bound"]), (&"memory".into(), &"compute".into()));
    }
}
