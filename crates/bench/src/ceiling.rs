//! How fast a machine could run a pass at best: its bytes at the measured memory bandwidth, its operations at the measured
//! peaks, the slower of the two (the roofline model: Williams, Waterman, Patterson 2009). What a pass needs is counted from the
//! model's sizes: each weight and each position's keys and values read once, no work but the products.

use base::limits::STEP_ROWS_MAX;
use serde::Serialize;

/// Ceilings of this machine at a thread count, measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ceilings {
    /// Bytes read from memory per second, in GB.
    pub read_gbps: f64,
    /// int8 operations per second, in G: a multiply and an add are two.
    pub int8_gops: f64,
    /// f32 operations per second, in G.
    pub f32_gflops: f64,
}

/// What a model needs, per token or position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Weights that a pass reads.
    pub weight_bytes: u64,
    /// Keys and values of one position.
    pub kv_bytes: u64,
    /// Multiply-adds of a row with weights of the layers.
    pub layer_macs: u64,
    /// Multiply-adds of a row with the output head, if it gets logits.
    pub head_macs: u64,
    /// Multiply-adds of a row with the keys and values of one position (f32).
    pub attend_macs: u64,
}

/// What some passes need.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// From memory.
    pub bytes: f64,
    /// On weights.
    pub int8_ops: f64,
    /// In attention.
    pub f32_ops: f64,
}

/// What holds a pass back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Bytes.
    Memory,
    /// Operations.
    Compute,
}

/// The shortest time that the ceilings allow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// Seconds.
    pub s: f64,
    /// Which ceiling it is.
    pub bound: Bound,
}

impl Demand {
    /// One pass of `rows` rows after `depth` positions, `logits` of them with logits.
    pub fn pass(&self, rows: usize, logits: usize, depth: usize) -> Work {
        let (rows, logits, depth) = (rows as f64, logits as f64, depth as f64);
        let keys = rows * depth + rows * (rows + 1.0) / 2.0;
        Work {
            bytes: self.weight_bytes as f64 + self.kv_bytes as f64 * (depth + rows),
            int8_ops: 2.0 * (self.layer_macs as f64 * rows + self.head_macs as f64 * logits),
            f32_ops: 2.0 * self.attend_macs as f64 * keys,
        }
    }

    /// `n` tokens in passes as long as a step may be; only the last token gets logits.
    pub fn prefill(&self, n: usize, depth: usize) -> Vec<Work> {
        let pass = |at: usize| {
            let rows = (n - at).min(STEP_ROWS_MAX);
            self.pass(rows, usize::from(at + rows == n), depth + at)
        };
        (0..n).step_by(STEP_ROWS_MAX).map(pass).collect()
    }

    /// `n` tokens, one at a time.
    pub fn decode(&self, n: usize, depth: usize) -> Vec<Work> {
        (0..n).map(|i| self.pass(1, 1, depth + i)).collect()
    }
}

impl Ceilings {
    /// The higher of two measurements, each by itself.
    pub fn max(self, o: Self) -> Self {
        Self {
            read_gbps: self.read_gbps.max(o.read_gbps),
            int8_gops: self.int8_gops.max(o.int8_gops),
            f32_gflops: self.f32_gflops.max(o.f32_gflops),
        }
    }

    /// The shortest time for passes that follow each other; within a pass memory and arithmetic overlap.
    pub fn floor(&self, passes: &[Work]) -> Floor {
        let (mut s, mut memory_s) = (0.0, 0.0);
        for work in passes {
            let memory = work.bytes / (self.read_gbps * 1e9);
            let compute = work.int8_ops / (self.int8_gops * 1e9) + work.f32_ops / (self.f32_gflops * 1e9);
            s += memory.max(compute);
            memory_s += if memory >= compute { memory } else { 0.0 };
        }
        Floor { s, bound: if memory_s * 2.0 >= s { Bound::Memory } else { Bound::Compute } }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    const MACHINE: Ceilings = Ceilings { read_gbps: 10.0, int8_gops: 100.0, f32_gflops: 20.0 };
    const MODEL: Demand = Demand {
        weight_bytes: 1_000_000,
        kv_bytes: 1_000,
        layer_macs: 1_000_000,
        head_macs: 500_000,
        attend_macs: 2_000,
    };

    #[test]
    fn one_row_waits_for_memory_and_many_for_arithmetic() {
        // By hand: 1,101,000 bytes at 10 GB/s against 3 Mop at 100 Gop/s and 404 kflop at 20 GFLOP/s.
        let one = MODEL.pass(1, 1, 100);
        assert_eq!(one, Work { bytes: 1_101_000.0, int8_ops: 3e6, f32_ops: 404_000.0 });
        let floor = MACHINE.floor(&[one]);
        assert_eq!(floor.bound, Bound::Memory);
        assert!((floor.s - 110.1e-6).abs() < 1e-12);
        let many = MACHINE.floor(&[MODEL.pass(64, 64, 100)]);
        assert_eq!(many.bound, Bound::Compute);
        // 64 rows: 192 Mop, and 8,480 keys of 4,000 flop each.
        assert!((many.s - (192e6 / 100e9 + 8_480.0 * 4_000.0 / 20e9)).abs() < 1e-12, "{many:?}");
    }

    #[test]
    fn passes_of_several_rows_see_the_keys_of_each_row() {
        let apart: f64 = (0..64).map(|i| MODEL.pass(1, 1, 100 + i).f32_ops).sum();
        assert_eq!(MODEL.pass(64, 64, 100).f32_ops, apart);
        assert_eq!(MODEL.decode(64, 100).iter().map(|w| w.f32_ops).sum::<f64>(), apart);
    }

    #[test]
    fn a_prefill_is_cut_into_steps_and_has_one_row_of_logits() {
        let passes = MODEL.prefill(2 * STEP_ROWS_MAX + 1, 7);
        assert_eq!(passes.len(), 3);
        assert_eq!(passes[0], MODEL.pass(STEP_ROWS_MAX, 0, 7));
        assert_eq!(passes[2], MODEL.pass(1, 1, 7 + 2 * STEP_ROWS_MAX));
        assert!(MODEL.prefill(0, 7).is_empty());
    }
}
