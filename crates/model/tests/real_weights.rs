//! Real weights against llama.cpp's recorded answers (tests/golden/*.llamacpp.json), and every backend against the others.
//! Finds the models in the user's store; without them it says so and passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use cpu::{Cpu, Isa, Portable};
use model::{Model, Scratch};
use ops::{Backend, Batch, KvType, Numeric, PAGE_LEN, Row};
use std::path::Path;
use store::{LoadedModel, Store};

fn open(name: &str) -> Option<LoadedModel> {
    let loaded = Store::open(None).ok()?.load(name);
    match loaded {
        Ok((_, model)) => Some(model),
        Err(e) => {
            println!("left out: {name} is not in the store ({e})");
            None
        }
    }
}

/// llama.cpp's recording for one model.
struct Golden {
    ids: Vec<u32>,
    window: usize,
    perplexity: f64,
    top1: Vec<u32>,
    exact_top1: Vec<u32>,
    exact_perplexity: f64,
}

fn golden(name: &str) -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/golden/{name}.llamacpp.json"));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let words = |v: &serde_json::Value| -> Vec<u32> {
        let bytes = base64(v.as_str().unwrap());
        bytes.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect()
    };
    Golden {
        ids: words(&json["sample"]["ids_u32_b64"]),
        window: json["code"]["window"].as_u64().unwrap() as usize,
        perplexity: json["code"]["perplexity"].as_f64().unwrap(),
        top1: words(&json["code"]["top1_u32_b64"]),
        exact_top1: words(&json["exact"]["top1_u32_b64"]),
        exact_perplexity: json["exact"]["perplexity"].as_f64().unwrap(),
    }
}

fn base64(s: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => u32::from(c - b'A'),
        b'a'..=b'z' => u32::from(c - b'a') + 26,
        b'0'..=b'9' => u32::from(c - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut out = Vec::new();
    for four in s.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = four.iter().fold(0, |n, c| n << 6 | value(*c)) << (6 * (4 - four.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    out
}

/// Calls `each(position, logits)` for every position of `ids`, fed in chunks into one context.
fn run<B: Backend>(mut b: B, loaded: &LoadedModel, ids: &[u32], chunk: usize, mut each: impl FnMut(usize, &[f32])) {
    let model = Model::load(&mut b, &loaded.desc, &loaded.bytes(), |_, _| {}).unwrap();
    let mut scratch = Scratch::new(&mut b, &model, chunk, chunk.min(ids.len()), ids.len()).unwrap();
    let pages: Vec<u32> = (0..ids.len().div_ceil(PAGE_LEN) as u32).collect();
    let mut kv = b.new_kv(model.kv_shape(pages.len())).unwrap();
    let mut host = Vec::new();
    for (c, tokens) in ids.chunks(chunk).enumerate() {
        let row = |(i, t): (usize, &u32)| Row { token: *t, pos: (c * chunk + i) as u32, table: 0 };
        let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
        let pick: Vec<u32> = (0..rows.len() as u32).collect();
        model.forward(&mut b, &mut kv, &mut scratch, Batch { rows: &rows, pages: &pages }, &pick);
        for i in 0..rows.len() {
            each(c * chunk + i, b.row(&scratch.logits, i, &mut host));
        }
    }
}

fn argmax(l: &[f32]) -> u32 {
    let max = l.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    l.iter().position(|x| *x == max).unwrap() as u32
}

fn log_softmax(l: &[f32]) -> Vec<f64> {
    let max = l.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let sum: f64 = l.iter().map(|x| f64::from(x - max).exp()).sum();
    l.iter().map(|x| f64::from(x - max) - sum.ln()).collect()
}

/// Kullback-Leibler divergence of two logarithmic distributions.
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// Perplexity and share of equal best tokens over the whole sample, as llama.cpp's recording did it.
fn compare(name: &str, top1_floor: f64) {
    let (Some(loaded), golden) = (open(name), golden(name)) else { return };
    let (mut nll, mut predicted, mut agree, mut at) = (0.0, 0, 0, 0);
    for ids in golden.ids.chunks(golden.window) {
        run(Cpu::new(None, 2).unwrap(), &loaded, ids, 64, |pos, logits| {
            agree += usize::from(argmax(logits) == golden.top1[at]);
            at += 1;
            if let Some(next) = ids.get(pos + 1) {
                nll -= log_softmax(logits)[*next as usize];
                predicted += 1;
            }
        });
    }
    let perplexity = (nll / f64::from(predicted)).exp();
    let (off, top1) = (perplexity / golden.perplexity - 1.0, agree as f64 / at as f64);
    let off_exact = perplexity / golden.exact_perplexity - 1.0;
    println!(
        "{name}: perplexity {perplexity:.4} (llama.cpp {:.4}, {:+.3} %; exact {:+.3} %), top-1 {:.2} %",
        golden.perplexity,
        off * 100.0,
        off_exact * 100.0,
        top1 * 100.0
    );
    assert!(off.abs() < 0.005, "perplexity {perplexity}, llama.cpp {}", golden.perplexity);
    assert!(top1 >= top1_floor, "top-1 agreement {top1}");
}

#[test]
fn the_default_model_agrees_with_llama_cpp() {
    compare("qwen2.5-coder-0.5b", 0.98);
}

#[test]
fn smollm2_agrees_with_llama_cpp() {
    // llama.cpp itself agrees with its own f32 run on 97.7 % of this model's positions.
    compare("smollm2-135m", 0.97);
}

#[test]
fn quantised_activations_cost_little() {
    for name in ["qwen2.5-coder-0.5b", "smollm2-135m"] {
        let (Some(loaded), golden) = (open(name), golden(name)) else { continue };
        let ids = &golden.ids[..256];
        let mut exact: Vec<Vec<f64>> = Vec::new();
        run(Portable::new(Numeric::Exact, 2), &loaded, ids, 64, |_, l| exact.push(log_softmax(l)));
        let best = |l: &[f64]| l.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0 as u32;
        let agree = exact.iter().zip(&golden.exact_top1).filter(|(l, t)| best(l) == **t).count();
        assert!(agree >= 255, "exact mode agrees with llama.cpp's f32 run on {agree} of 256 positions");
        let mut kl = Vec::new();
        run(Cpu::new(None, 2).unwrap(), &loaded, ids, 64, |pos, l| {
            let q = log_softmax(l);
            kl.push(divergence(&exact[pos], &q));
        });
        let mean = mean(&kl);
        println!("{name}: mean KL(exact || cpu) {mean:.5}, worst {:.5}", kl.iter().fold(0.0, |m: f64, x| m.max(*x)));
        assert!(mean <= 0.005, "{name}: mean KL {mean}");
    }
}

#[test]
fn eight_bit_keys_and_values_cost_little() {
    for (name, kl_max) in [("qwen2.5-coder-0.5b", 0.005), ("smollm2-135m", 0.006)] {
        let (Some(loaded), golden) = (open(name), golden(name)) else { continue };
        let ids = &golden.ids[..golden.window];
        // Every eighth position's distribution fits into memory; every position's loss counts.
        let scored = |kept, each: &mut dyn FnMut(usize, Vec<f64>)| {
            let mut nll = 0.0;
            run(Cpu::new(None, 2).unwrap().with_kv(kept), &loaded, ids, 64, |pos, l| {
                let logs = log_softmax(l);
                nll -= ids.get(pos + 1).map_or(0.0, |next| logs[*next as usize]);
                if pos % 8 == 7 {
                    each(pos / 8, logs);
                }
            });
            nll / (ids.len() - 1) as f64
        };
        let best = |l: &[f64]| l.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        let (mut wide, mut kl, mut agree) = (Vec::new(), Vec::new(), 0);
        let before = scored(KvType::F16, &mut |_, logs| wide.push(logs));
        let after = scored(KvType::Q8, &mut |i, logs| {
            kl.push(divergence(&wide[i], &logs));
            agree += usize::from(best(&wide[i]) == best(&logs));
        });
        let (off, top1) = ((after - before).exp() - 1.0, agree as f64 / wide.len() as f64);
        println!(
            "{name}: 8-bit keys and values: perplexity {:.4}, {:+.3} %; mean KL(f16 || q8) {:.5}, worst {:.5}; top-1 {:.2} %",
            after.exp(),
            off * 100.0,
            mean(&kl),
            kl.iter().fold(0.0, |m: f64, x| m.max(*x)),
            top1 * 100.0
        );
        assert!(mean(&kl) <= kl_max && off.abs() < 0.01, "{name}: mean KL {}, perplexity {off:+}", mean(&kl));
        assert_ne!(before.to_bits(), after.to_bits(), "the cache was not kept in eight bits");
    }
}

#[test]
fn logit_bits_are_equal_across_isa_threads_and_chunks() {
    let (Some(loaded), golden) = (open("qwen2.5-coder-0.5b"), golden("qwen2.5-coder-0.5b")) else { return };
    let ids = &golden.ids[..48];
    let mut want: Vec<Vec<u32>> = Vec::new();
    run(Portable::new(Numeric::Quantised, 2), &loaded, ids, 64, |_, l| {
        want.push(l.iter().map(|x| x.to_bits()).collect())
    });
    for isa in Isa::ALL {
        for (threads, chunk) in [(1, 7), (2, 1), (2, 64), (3, 512)] {
            let Some(b) = Cpu::new(Some(isa), threads) else {
                println!("left out: this machine has no {isa:?}");
                continue;
            };
            run(b, &loaded, ids, chunk, |pos, l| {
                let same = l.iter().zip(&want[pos]).all(|(a, b)| a.to_bits() == *b);
                assert!(same, "position {pos}: {isa:?}, {threads} threads, chunks of {chunk}");
            });
        }
    }
}
