//! Keys and values in eight bits: what the cache answers is what exact attention gives over keys and values that were rotated
//! and rounded here, by other code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use cpu::{Cpu, Portable};
use ops::{Backend, Batch, KvShape, KvType, Numeric, PAGE_LEN, Row, conformance::random_rows};

const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const N: usize = 300;

/// Attention of the last ten of `N` positions with these queries, keys and values, `[N, heads * d]` each.
fn attended<B: Backend>(mut b: B, d: usize, [q_rows, k, v]: [&[f32]; 3]) -> Vec<f32> {
    b.reserve(N, HEADS * d, HEADS, d, N).unwrap();
    let n_pages = N.div_ceil(PAGE_LEN);
    let mut kv = b.new_kv(KvShape { n_layers: 1, n_pages, n_kv_heads: KV_HEADS, d_head: d }).unwrap();
    let new = |b: &mut B, width| b.new_act(N, width).unwrap();
    let (mut ks, mut vs) = (new(&mut b, KV_HEADS * d), new(&mut b, KV_HEADS * d));
    let (mut q, mut out) = (new(&mut b, HEADS * d), new(&mut b, HEADS * d));
    b.put(&mut ks, N, k);
    b.put(&mut vs, N, v);
    b.put(&mut q, N, q_rows);
    let pages: Vec<u32> = (0..n_pages as u32).rev().collect();
    let rows: Vec<Row> = (0..N as u32).map(|pos| Row { token: 0, pos, table: 0 }).collect();
    b.kv_put(&mut kv, 0, &ks, &vs, Batch { rows: &rows, pages: &pages });
    b.attend(&q, HEADS, &kv, 0, Batch { rows: &rows[N - 10..], pages: &pages }, &mut out);
    let mut host = Vec::new();
    (0..10).flat_map(|i| b.row(&out, i, &mut host).to_vec()).collect()
}

/// The format's definition once more, in f64: what a value is after it was kept.
fn kept(x: &[f32], d: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for head in x.chunks(d) {
        for block in head.chunks(32) {
            let amax = block.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let scale = half(amax / 127.0);
            out.extend(block.iter().map(|x| {
                let q = f64::from(x * (1.0 / scale as f32)).round_ties_even().clamp(-128.0, 127.0);
                (q * scale) as f32
            }));
        }
    }
    out
}

/// To the nearest of numbers with eleven bits, ties to even: f16 for what is neither tiny nor huge.
fn half(x: f32) -> f64 {
    let x = f64::from(x);
    let step = 2f64.powi(x.log2().floor() as i32 - 10);
    (x / step).round_ties_even() * step
}

/// The rotation by its definition: a sum over all elements of a run, negative where `i & j` has an odd number of bits.
fn rotated(x: &[f32], run: usize) -> Vec<f32> {
    let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    let one =
        |run: &[f32], i: usize| run.iter().enumerate().map(|(j, x)| sign(i, j) * f64::from(*x)).sum::<f64>() as f32;
    x.chunks(run).flat_map(|xs| (0..run).map(move |i| one(xs, i))).collect()
}

/// Of so few bits that sums of them are exact in any order.
fn short(n: usize, width: usize, seed: u64) -> Vec<f32> {
    random_rows(n, width, seed).iter().map(|x| (x * 256.0).round() / 256.0).collect()
}

#[test]
fn eight_bits_are_attention_over_rotated_and_rounded_keys() {
    for (d, run) in [(64, 32), (16, 16), (40, 8), (24, 8)] {
        let (q, k, v) = (short(N, HEADS * d, 9), short(N, KV_HEADS * d, 1), short(N, KV_HEADS * d, 2));
        let query: Vec<f32> = rotated(&q, run).iter().map(|x| x / run as f32).collect();
        let (key, value) = (kept(&rotated(&k, run), d), kept(&v, d));
        let want = attended(Portable::new(Numeric::Exact, 1), d, [&query, &key, &value]);
        let check = |got: Vec<f32>, how: &str| {
            // The scale of queries is multiplied before the rotation or after it: the same but for rounding.
            let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-4, "{how}, heads of {d}: {off}");
        };
        let given: [&[f32]; 3] = [&q, &k, &v];
        for numeric in [Numeric::Quantised, Numeric::Exact] {
            check(attended(Portable::new(numeric, 2).with_kv(KvType::Q8), d, given), "portable");
        }
        if let Some(cpu) = Cpu::new(None, 2) {
            check(attended(cpu.with_kv(KvType::Q8), d, given), "cpu");
        }
        let wide = attended(Portable::new(Numeric::Quantised, 1), d, given);
        let worst = wide.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst > 1e-3, "{worst} from f16 with heads of {d}: it was not kept in eight bits");
    }
}

#[test]
fn a_page_takes_half_the_bytes_and_a_sixteenth_for_scales() {
    fn page_bytes<B: Backend>(mut b: B, d_head: usize) -> usize {
        let kv = b.new_kv(KvShape { n_layers: 3, n_pages: 2, n_kv_heads: 2, d_head }).unwrap();
        b.kv_page_bytes(&kv)
    }
    for d in [64, 128] {
        let portable = |kept| page_bytes(Portable::new(Numeric::Quantised, 1).with_kv(kept), d);
        assert_eq!(portable(KvType::Q8) * 32, portable(KvType::F16) * 17);
        let Some(cpu) = Cpu::new(None, 1) else { continue };
        assert_eq!(page_bytes(cpu.with_kv(KvType::Q8), d), portable(KvType::Q8));
    }
}
