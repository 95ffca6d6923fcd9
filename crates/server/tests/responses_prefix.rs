//! What a turn costs in tokens, with the real engine and a tiny model that has learnt nothing: the conversation so far is in
//! the prefix cache, over HTTP and WebSocket, also on a new connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod shell;

use std::sync::Arc;

use cpu::Portable;
use engine::api::Sampling;
use engine::{Config as EngineConfig, Engine};
use formats::{Gguf, ModelDesc};
use model::Model;
use ops::Numeric;
use serde_json::Value;
use server::{Config, Running, Served};
use shell::ws::Ws;
use shell::*;

fn tiny() -> Running {
    let path = format!("{}/../../tests/golden/tiny-qwen2.gguf", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    let desc = ModelDesc::from_gguf(&bytes).unwrap();
    let mut backend = Portable::new(Numeric::Quantised, 1);
    let model = Model::load(&mut backend, &desc, &[&bytes], |_, _| {}).unwrap();
    let config = EngineConfig { n_ctx: 1000, n_slots: 3, ..EngineConfig::default() };
    let stepper = Box::new(Engine::of_model(backend, model, &config).unwrap());
    let mut vocab = formats::vocab_from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap();
    vocab.chat_template = spec().chat_template;
    let text = Arc::new(make_kit(&vocab));
    let running = server::start(Config::default()).unwrap();
    let defaults = Sampling::default();
    let (name, aliases) = ("tiny".into(), vec![]);
    running
        .add_models(vec![Served {
            name,
            aliases,
            unlisted: vec![],
            stepper,
            text,
            created: 1,
            defaults,
            keeper: None,
            about: server::About::default(),
        }])
        .unwrap();
    running
}

/// Prompt tokens of an answer: all, and those that were not in the cache.
fn computed(response: &Value) -> (u64, u64) {
    let of = |v: &Value| v.as_u64().unwrap();
    let usage = &response["usage"];
    (of(&usage["input_tokens"]), of(&usage["input_tokens"]) - of(&usage["input_tokens_details"]["cached_tokens"]))
}

fn create(fields: &str) -> String {
    format!(r#"{{"type":"response.create","model":"tiny","store":false,"max_output_tokens":8,{fields}}}"#)
}

#[test]
fn a_turn_computes_what_is_new() {
    let running = tiny();
    let system = "You answer in few words and always to the point. ".repeat(8);
    let mut ws = Ws::open(running.addr());
    let warm = ws.ask(&create(&format!(r#""input":[{{"role":"developer","content":"{system}"}}],"generate":false"#)));
    let (n_warm, new) = computed(&warm["response"]);
    assert_eq!((n_warm, warm["response"]["usage"]["output_tokens"].as_u64()), (new, Some(0)), "nothing was there");
    let mut last = warm;
    let mut before = n_warm;
    for turn in 0..4 {
        if turn == 2 {
            ws = Ws::open(running.addr()); // the connection was lost
        }
        let id = last["response"]["id"].clone();
        // A developer message may come with any turn: it changes nothing that was there before.
        let input = format!(
            r#"[{{"role":"developer","content":"Turn {turn}."}},{{"role":"user","content":"And what of number {turn}?"}}]"#
        );
        last = ws.ask(&create(&format!(r#""previous_response_id":{id},"input":{input}"#)));
        let (n, new) = computed(&last["response"]);
        // The new question and the answer before it, and what the last page of the cache did not cover.
        assert!(new <= n - before + 48, "turn {turn}: {new} of {n} tokens computed, {before} were there");
        assert!(new < n / 2, "turn {turn}: {new} of {n}");
        before = n;
    }
}

#[test]
fn a_resent_conversation_hits_the_cache_as_well() {
    let running = tiny();
    let system = "You answer in few words and always to the point. ".repeat(8);
    let items = |n: usize| -> String {
        let turns = (0..n).map(|i| {
            format!(r#",{{"role":"user","content":"question {i}"}},{{"role":"assistant","content":"answer {i}"}}"#)
        });
        format!(r#"[{{"role":"developer","content":"{system}"}}{}]"#, turns.collect::<String>())
    };
    let mut before = 0;
    for n in 0..4 {
        let body = format!(
            r#"{{"model":"tiny","store":false,"max_output_tokens":2,"prompt_cache_key":"k{n}","input":{}}}"#,
            items(n)
        );
        let answer = post(running.addr(), "/v1/responses", &body).json();
        let (total, new) = computed(&answer);
        assert!(n == 0 || new <= total - before + 48, "{n}: {new} of {total} tokens computed, {before} were there");
        before = total;
    }
}
