//! Tiny models made with Hugging Face transformers: every position's logits against its float32 answer, from both containers;
//! and equal bits between backends, thread counts and prefill chunks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use cpu::{Cpu, Isa, Portable};
use formats::ModelDesc;
use model::{Model, Picks, Scratch};
use ops::{Backend, Batch, KvType, Numeric, PAGE_LEN, Row};
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

#[derive(Clone)]
struct Case {
    name: String,
    ids: Vec<u32>,
    n_vocab: usize,
    gguf: Vec<u8>,
    folder: Option<PathBuf>,
    logits: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(golden().join("tiny.json")).unwrap()).unwrap();
    let case = |m: &serde_json::Value| {
        let file = |key: &str| m["files"][key].as_str().map(|f| golden().join(f));
        let raw = std::fs::read(file("logits").unwrap()).unwrap();
        Case {
            name: m["name"].as_str().unwrap().to_string(),
            ids: m["ids"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as u32).collect(),
            n_vocab: m["shape"][1].as_u64().unwrap() as usize,
            gguf: std::fs::read(file("gguf").unwrap()).unwrap(),
            folder: file("folder"),
            logits: raw.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect(),
        }
    };
    index["models"].as_array().unwrap().iter().map(case).collect()
}

/// Logits of all positions, fed in chunks.
fn run<B: Backend>(mut b: B, desc: &ModelDesc, files: &[&[u8]], ids: &[u32], chunk: usize) -> Vec<f32> {
    let model = Model::load(&mut b, desc, files, |_, _| {}).unwrap();
    let mut scratch = Scratch::new(&mut b, &model, chunk, chunk, ids.len()).unwrap();
    let n_pages = ids.len().div_ceil(PAGE_LEN);
    let mut kv = b.new_kv(model.kv_shape(n_pages)).unwrap();
    let pages: Vec<u32> = (0..n_pages as u32).rev().collect();
    let (mut out, mut host) = (Vec::new(), Vec::new());
    for (c, tokens) in ids.chunks(chunk).enumerate() {
        let row = |(i, t): (usize, &u32)| Row { token: *t, pos: (c * chunk + i) as u32, table: 0 };
        let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
        let pick: Vec<u32> = (0..rows.len() as u32).collect();
        model.forward(&mut b, &mut kv, &mut scratch, Batch { rows: &rows, pages: &pages }, &pick);
        let start = out.len();
        for i in 0..rows.len() {
            out.extend_from_slice(b.row(&scratch.logits, i, &mut host));
        }
        // The same step again, with logits for some rows and the best token for the others, in another order.
        let (full, best): (Vec<u32>, Vec<u32>) = pick.iter().rev().partition(|i| *i % 3 == 0);
        let picks = Picks { full: &full, best: &best };
        model.forward_picks(&mut b, &mut kv, &mut scratch, Batch { rows: &rows, pages: &pages }, picks);
        let logits = |i: u32| &out[start + i as usize * model.hp.n_vocab..][..model.hp.n_vocab];
        assert_eq!(scratch.best, best.iter().map(|i| ops::math::best(logits(*i))).collect::<Vec<_>>());
        for (i, row) in full.iter().enumerate() {
            assert_eq!(b.row(&scratch.logits, i, &mut host), logits(*row));
        }
    }
    out
}

/// Largest difference relative to the largest logit of the position.
fn worst(got: &[f32], want: &[f32], n_vocab: usize) -> f32 {
    assert_eq!(got.len(), want.len());
    let row = |(g, w): (&[f32], &[f32])| {
        let top = w.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        g.iter().zip(w).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / top
    };
    got.chunks(n_vocab).zip(want.chunks(n_vocab)).map(row).fold(0.0, f32::max)
}

#[test]
fn exact_logits_agree_with_transformers_from_gguf() {
    for case in cases() {
        let desc = ModelDesc::from_gguf(&case.gguf).unwrap();
        let got = run(Portable::new(Numeric::Exact, 2), &desc, &[&case.gguf], &case.ids, 48);
        let error = worst(&got, &case.logits, case.n_vocab);
        println!("{}: {error:.2e}", case.name);
        assert!(error < 1e-4, "{}: {error}", case.name);
    }
}

#[test]
fn exact_logits_agree_with_transformers_from_safetensors() {
    let mut seen = 0;
    for case in cases() {
        let Some(folder) = &case.folder else { continue };
        for config in ["config.json", "config.v4.json"] {
            let read = |f: &str| std::fs::read(folder.join(f)).ok();
            let Some(config) = read(config) else { continue };
            let (weights, tokenizer) = (read("model.safetensors").unwrap(), read("tokenizer.json").unwrap());
            let tokenizer_config = read("tokenizer_config.json");
            let files: &[&[u8]] = &[&weights];
            let desc =
                ModelDesc::from_safetensors(files, &config, &tokenizer, tokenizer_config.as_deref(), None).unwrap();
            let got = run(Portable::new(Numeric::Exact, 2), &desc, files, &case.ids, 48);
            let error = worst(&got, &case.logits, case.n_vocab);
            assert!(error < 1e-4, "{}: {error}", case.name);
            seen += 1;
        }
    }
    assert!(seen >= 3);
}

#[test]
fn every_backend_thread_count_and_chunk_gives_equal_bits() {
    for (case, kept) in cases().into_iter().flat_map(|c| [(c.clone(), KvType::F16), (c, KvType::Q8)]) {
        let desc = ModelDesc::from_gguf(&case.gguf).unwrap();
        let files: &[&[u8]] = &[&case.gguf];
        let want = run(Portable::new(Numeric::Quantised, 1).with_kv(kept), &desc, files, &case.ids, 48);
        let error = worst(&want, &case.logits, case.n_vocab);
        assert!(error < 0.1, "{}: int8 activations and {kept:?} cost {error}", case.name);
        let check = |got: Vec<f32>, how: String| {
            let same = got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && got.len() == want.len(), "{}, {kept:?}: {how}", case.name);
        };
        let portable = Portable::new(Numeric::Quantised, 3).with_kv(kept);
        check(run(portable, &desc, files, &case.ids, 7), "portable".into());
        for isa in Isa::ALL {
            for (threads, chunk) in [(1, 1), (1, 48), (2, 1), (2, 7), (3, 48), (2, 13)] {
                match Cpu::new(Some(isa), threads) {
                    Some(b) => {
                        let got = run(b.with_kv(kept), &desc, files, &case.ids, chunk);
                        check(got, format!("{isa:?} {threads} {chunk}"));
                    }
                    None => println!("left out: this machine has no {isa:?}"),
                }
            }
        }
    }
}

#[test]
fn a_missing_or_misshapen_tensor_is_named() {
    let case = &cases()[0];
    let mut desc = ModelDesc::from_gguf(&case.gguf).unwrap();
    let load =
        |desc: &ModelDesc| Model::load(&mut Portable::new(Numeric::Quantised, 1), desc, &[&case.gguf], |_, _| {}).err();
    let at = desc.tensors.iter().position(|t| t.name == "blk.1.ffn_up.weight").unwrap();
    desc.tensors[at].shape = vec![1, 2];
    assert!(load(&desc).unwrap().to_string().contains("blk.1.ffn_up.weight"));
    desc.tensors.remove(at);
    assert!(load(&desc).unwrap().to_string().contains("blk.1.ffn_up.weight is missing"));
    desc.arch = "mamba".into();
    assert!(load(&desc).unwrap().to_string().contains("mamba"));
}
