//! R31: tokens and every logit bit are equal whatever the engine does to be fast: company, chunks, threads, instruction set,
//! prefix hits, drafts, preemption; with keys and values in f16 and in int8. Fifty comparisons by default for each, as many as
//! `VONK_COMPARISONS` asks for otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use base::{RequestId, TokenId, rng};
use cpu::{Cpu, Isa, Portable};
use engine::{Class, Config, Effect, Engine, Event, Finish, Request, Sampling, Stepper};
use formats::ModelDesc;
use model::Model;
use ops::{Backend, KvType, Numeric};
use std::collections::HashMap;

const N_CTX: usize = 400;

fn load<B: Backend + 'static>(mut backend: B, family: &str, config: &Config) -> Box<dyn Stepper> {
    let path = format!("{}/../../tests/golden/tiny-{family}.gguf", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    let desc = ModelDesc::from_gguf(&bytes).unwrap();
    let model = Model::load(&mut backend, &desc, &[&bytes], |_, _| {}).unwrap();
    Box::new(Engine::of_model(backend, model, config).unwrap())
}

/// `isa` 0 is the plain backend.
fn engine(isa: usize, threads: usize, kept: KvType, family: &str, config: &Config) -> Box<dyn Stepper> {
    let cpu = match isa {
        0 => None,
        1 => Cpu::new(Some(Isa::Avx2), threads),
        _ => Cpu::new(None, threads),
    };
    match cpu {
        Some(cpu) => load(cpu.with_kv(kept), family, config),
        None => load(Portable::new(Numeric::Quantised, threads).with_kv(kept), family, config),
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    tokens: Vec<TokenId>,
    bits: Vec<u64>,
    end: Option<Finish>,
}

/// What a run did beside answering.
#[derive(Default)]
struct Did {
    hits: usize,
    accepted: u64,
    rejected: u64,
    preempted: u64,
}

/// Submits each request at its step, runs to the end.
fn drive(engine: &mut dyn Stepper, mut script: Vec<(usize, Request)>, did: &mut Did) -> HashMap<u64, Answer> {
    let mut answers: HashMap<u64, Answer> = HashMap::new();
    let (mut events, mut effects) = (Vec::new(), Vec::new());
    for step in 0.. {
        let (now, later): (Vec<_>, Vec<_>) = script.into_iter().partition(|(at, _)| *at <= step);
        script = later;
        events.extend(now.into_iter().map(|(_, r)| Event::Submit(Box::new(r))));
        let busy = engine.step(&mut events, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Token { id, token, bits, .. } => {
                    let answer = answers.entry(id.0).or_default();
                    answer.tokens.push(token);
                    answer.bits.push(bits);
                }
                Effect::Finished { id, reason, drafts } => {
                    answers.entry(id.0).or_default().end = Some(reason);
                    let (offered, accepted): (u64, u64) = (drafts.offered.iter().sum(), drafts.accepted.iter().sum());
                    did.accepted += accepted;
                    did.rejected += offered - accepted;
                }
                Effect::Prefilled { n_cached, .. } => did.hits += n_cached,
                Effect::Refused { id, why } => panic!("{id:?} refused: {why:?}"),
                Effect::Preempted { .. } | Effect::Admitted { .. } | Effect::Verified { .. } => {}
            }
        }
        if !busy && script.is_empty() {
            break;
        }
    }
    did.preempted += engine.load().preempted;
    answers
}

fn prompt(seed: u64, len: usize) -> Vec<TokenId> {
    // The first 150 tokens are those of one of two documents.
    let from = |i: usize| if i < 150 { seed % 2 } else { seed };
    (0..len).map(|i| (rng::bits(from(i), i as u64, 0) % 280) as TokenId).collect()
}

fn request(id: u64) -> Request {
    let len = 1 + (rng::bits(id, 1, 1) % 260) as usize;
    let temperature = if id.is_multiple_of(3) { 0.9 } else { 0.0 };
    let sampling = Sampling { temperature, seed: id, ..Sampling::default() };
    Request { sampling, ..Request::new(RequestId(id), prompt(id, len), 40) }
}

/// The answer of a request that has the plainest engine for itself, without drafts.
fn alone(kept: KvType, family: &str, r: &Request) -> Answer {
    let config = Config { n_ctx: N_CTX, trace: true, is_drafting: false, step_rows: 256, ..Config::default() };
    let mut engine = engine(0, 1, kept, family, &config);
    drive(&mut *engine, vec![(0, r.clone())], &mut Did::default()).remove(&r.id.0).unwrap()
}

/// With a share of the tokens replaced: a client's prediction that is not quite right.
fn blur(tokens: &[TokenId], seed: u64) -> Vec<TokenId> {
    let one = |(i, t): (usize, &TokenId)| if rng::bits(seed, i as u64, 2).is_multiple_of(8) { 7 } else { *t };
    tokens.iter().enumerate().map(one).collect()
}

#[test]
fn speed_changes_no_token_and_no_logit_bit() {
    compare(KvType::F16);
}

#[test]
fn nor_does_it_where_keys_and_values_have_eight_bits() {
    compare(KvType::Q8);
}

fn compare(kept: KvType) {
    let wanted: usize = std::env::var("VONK_COMPARISONS").ok().and_then(|s| s.parse().ok()).unwrap_or(50);
    let families = ["qwen2", "llama"];
    let plain: Vec<Vec<(Request, Answer)>> =
        families.iter().map(|f| (0..12).map(request).map(|r| (r.clone(), alone(kept, f, &r))).collect()).collect();
    let (mut did, mut compared, mut round) = (Did::default(), 0, 0);
    while compared < wanted {
        let dice = |lane: u64, n: u64| (rng::bits(77, round, lane) % n) as usize;
        let family = dice(0, 2);
        let n_slots = [1, 2, 5, 12][dice(1, 4)];
        let config = Config {
            n_ctx: N_CTX,
            n_slots,
            step_rows: [1, 7, 33, 64, 256][dice(2, 5)],
            n_pages: (dice(3, 2) == 0).then_some(7 + n_slots),
            is_drafting: dice(4, 4) > 0,
            trace: true,
            fingerprint: String::new(),
        };
        let mut engine = engine(dice(5, 3), 1 + dice(6, 3), kept, families[family], &config);
        let all = &plain[family];
        let mates = 1 + dice(7, 32);
        let one = |i: usize| {
            let (r, answer) = &all[(dice(8, 12) + i) % all.len()];
            let mut r = r.clone();
            r.id = RequestId(i as u64);
            r.class = [Class::Chat, Class::Interactive, Class::Batch][dice(9 + i as u64, 3)];
            r.prediction = if i.is_multiple_of(2) { blur(&answer.tokens, i as u64) } else { vec![] };
            r.speculate = i % 5 != 4;
            (dice(100 + i as u64, 30), r)
        };
        let script: Vec<(usize, Request)> = (0..mates).map(one).collect();
        // The second time most prefixes are in the cache.
        for pass in 0..2 {
            let answers = drive(&mut *engine, script.clone(), &mut did);
            for i in 0..mates {
                let (r, want) = &all[(dice(8, 12) + i) % all.len()];
                let at = format!("round {round} pass {pass} mate {i} of {mates} (request {}): {config:?}", r.id.0);
                assert_eq!(answers[&(i as u64)].tokens, want.tokens, "tokens: {at}");
                assert!(answers[&(i as u64)] == *want, "logit bits: {at}");
                compared += 1;
            }
        }
        round += 1;
    }
    println!(
        "{kept:?}: {compared} comparisons, {} tokens from the cache, {} drafts kept, {} dropped, {} preemptions",
        did.hits, did.accepted, did.rejected, did.preempted
    );
    assert!(did.hits > 500 && did.accepted > 50 && did.rejected > 10, "too tame a test");
}
