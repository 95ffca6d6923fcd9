//! The engine over a real (tiny) model and the real backend: answers do not depend on company, chunks, slots or threads;
//! pages come back; cancel works in every phase.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use base::{RequestId, TokenId, rng};
use cpu::Cpu;
use engine::{Config, Effect, Engine, Event, Finish, ModelLm, Refusal, Request, Sampling, Stepper};
use formats::ModelDesc;
use model::Model;
use std::collections::HashMap;

fn engine(n_slots: usize, step_rows: usize, threads: usize, n_ctx: usize) -> Engine<ModelLm<Cpu>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny-qwen2.gguf");
    let bytes = std::fs::read(path).unwrap();
    let desc = ModelDesc::from_gguf(&bytes).unwrap();
    let mut backend = Cpu::new(None, threads).unwrap();
    let model = Model::load(&mut backend, &desc, &[&bytes], |_, _| {}).unwrap();
    let config = Config { n_ctx, n_slots, step_rows, trace: true, ..Config::default() };
    Engine::of_model(backend, model, &config).unwrap()
}

fn prompt(seed: u64, len: usize) -> Vec<TokenId> {
    (0..len).map(|i| (rng::bits(seed, i as u64, 0) % 280) as TokenId).collect()
}

fn request(id: u64, len: usize, temperature: f32) -> Request {
    let sampling = Sampling { temperature, seed: id, ..Sampling::default() };
    Request { sampling, ..Request::new(RequestId(id), prompt(id, len), 20) }
}

#[derive(Default, Debug, PartialEq)]
struct Answer {
    tokens: Vec<TokenId>,
    /// Bits of the logits behind each token, hashed.
    bits: Vec<u64>,
    end: Option<Finish>,
}

fn drive(engine: &mut Engine<ModelLm<Cpu>>, mut events: Vec<Event>) -> HashMap<u64, Answer> {
    let mut answers: HashMap<u64, Answer> = HashMap::new();
    let mut effects = Vec::new();
    loop {
        let busy = engine.step(&mut events, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Token { id, token, bits, .. } => {
                    let answer = answers.entry(id.0).or_default();
                    answer.tokens.push(token);
                    answer.bits.push(bits);
                }
                Effect::Finished { id, reason, .. } => answers.entry(id.0).or_default().end = Some(reason),
                Effect::Refused { id, why } => panic!("{id:?} refused: {why:?}"),
                _ => {}
            }
        }
        if !busy {
            assert_eq!(engine.load().pages_used, 0, "pages lost");
            return answers;
        }
    }
}

#[test]
fn an_answer_does_not_depend_on_company_chunks_slots_or_threads() {
    let lens = [1, 5, 63, 64, 65, 130, 200, 17];
    let temperature = |id: usize| if id.is_multiple_of(2) { 0.0 } else { 0.9 };
    let mut alone = HashMap::new();
    for (id, len) in lens.iter().enumerate() {
        let submit = Event::Submit(Box::new(request(id as u64, *len, temperature(id))));
        alone.extend(drive(&mut engine(1, 256, 1, 300), vec![submit]));
    }
    assert!(alone.values().all(|a| a.tokens.len() == 20 && a.end == Some(Finish::Length)));
    let distinct: std::collections::HashSet<_> = alone.values().map(|a| &a.tokens).collect();
    assert!(distinct.len() > 4, "a model that always says the same proves nothing");
    for (slots, rows, threads) in [(8, 256, 1), (8, 64, 2), (3, 7, 2), (2, 33, 3), (1, 1, 2)] {
        let submit = |(id, len): (usize, &usize)| Event::Submit(Box::new(request(id as u64, *len, temperature(id))));
        let together = drive(&mut engine(slots, rows, threads, 300), lens.iter().enumerate().map(submit).collect());
        for (id, want) in &alone {
            assert_eq!(&together[id], want, "{id}: {slots} slots, {rows} rows, {threads} threads");
        }
    }
}

#[test]
fn cancel_works_in_the_queue_in_prefill_and_in_decode_and_gives_every_page_back() {
    for at in 0..40 {
        let mut engine = engine(2, 16, 1, 300);
        let mut events: Vec<Event> = (0..4).map(|id| Event::Submit(Box::new(request(id, 70, 0.0)))).collect();
        let (mut effects, mut step) = (Vec::new(), 0);
        let mut ends = HashMap::new();
        loop {
            if step == at {
                events.extend((0..4).map(|id| Event::Cancel(RequestId(id))));
            }
            let busy = engine.step(&mut events, &mut effects);
            for e in effects.drain(..) {
                if let Effect::Finished { id, reason, .. } = e {
                    assert!(ends.insert(id.0, reason).is_none(), "two ends for {id:?}");
                }
            }
            step += 1;
            if step > at {
                assert_eq!(
                    engine.load().running + engine.load().queued,
                    0,
                    "cancelled at {at}, still there a step later"
                );
            }
            if !busy && step > at {
                break;
            }
        }
        assert_eq!(ends.len(), 4);
        assert_eq!(engine.load().pages_used, 0);
    }
}

#[test]
fn bad_requests_are_refused_with_the_reason() {
    let mut engine = engine(1, 16, 1, 100);
    let mut refuse = |change: &dyn Fn(&mut Request)| {
        let mut r = request(1, 5, 0.0);
        change(&mut r);
        let (mut events, mut effects) = (vec![Event::Submit(Box::new(r))], Vec::new());
        engine.step(&mut events, &mut effects);
        match effects.pop() {
            Some(Effect::Refused { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refuse(&|r| r.prompt.clear()), Refusal::EmptyPrompt);
    assert_eq!(refuse(&|r| r.prompt = vec![1; 100]), Refusal::PromptTooLong);
    assert_eq!(refuse(&|r| r.prompt[2] = 100_000), Refusal::BadToken);
    assert_eq!(refuse(&|r| r.prediction = vec![100_000]), Refusal::BadToken);
    assert_eq!(refuse(&|r| r.sampling.temperature = f32::NAN), Refusal::BadParameter);
    assert_eq!(refuse(&|r| r.logit_bias = vec![(100_000, 1.0)]), Refusal::BadParameter);
}

#[test]
fn the_context_ends_an_answer_and_stop_tokens_are_not_shown() {
    let mut engine = engine(1, 16, 1, 40);
    let mut long = request(1, 30, 0.0);
    long.max_tokens = 1000;
    let answer = &drive(&mut engine, vec![Event::Submit(Box::new(long.clone()))])[&1];
    assert_eq!((answer.tokens.len(), answer.end), (10, Some(Finish::Context)));
    let stop = answer.tokens[4];
    let first = answer.tokens.iter().position(|t| *t == stop).unwrap();
    let want = answer.tokens[..first].to_vec();
    long.stop_tokens = vec![stop];
    let answer = drive(&mut engine, vec![Event::Submit(Box::new(long))]).remove(&1).unwrap();
    assert_eq!((answer.tokens, answer.end), (want, Some(Finish::StopToken)));
}
