//! Speed of one model in this process, without a server: prefill and decode at chosen depths, beside the machine's ceilings.

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
}

/// Milliseconds of one forward pass of `rows` rows, every row with logits as in verification.
#[derive(Clone, Debug, Serialize)]
pub struct Rows {
    /// Rows of the pass.
    pub rows: usize,
    /// Milliseconds of each repetition.
    pub ms: Vec<f64>,
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
    let mut prefill = Part { n: plan.prefill, depth: plan.depth, tps: vec![] };
    let mut decode = Part { n: plan.decode, depth: plan.depth, tps: vec![] };
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
    let mut out: Vec<Rows> = counts.iter().map(|rows| Rows { rows: *rows, ms: vec![] }).collect();
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
