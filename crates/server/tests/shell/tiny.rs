//! The real scheduler, sampler and model code behind the real server, with a tiny model that has learnt nothing.

use std::sync::Arc;

use cpu::Portable;
use engine::api::Sampling;
use engine::{Config as EngineConfig, Engine};
use formats::{Gguf, ModelDesc};
use model::Model;
use ops::Numeric;
use server::{Config, Running, Served};

use crate::shell::{make_kit, spec};

/// Serves it as `tiny`; `hint` is added to the chat template, which otherwise shows no form of tool calls.
pub fn serve(hint: &str) -> Running {
    let path = format!("{}/../../tests/golden/tiny-qwen2.gguf", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    let desc = ModelDesc::from_gguf(&bytes).unwrap();
    let mut backend = Portable::new(Numeric::Quantised, 1);
    let model = Model::load(&mut backend, &desc, &[&bytes], |_, _| {}).unwrap();
    let config = EngineConfig { n_ctx: 900, n_slots: 3, ..EngineConfig::default() };
    let stepper = Box::new(Engine::of_model(backend, model, &config).unwrap());
    let mut vocab = formats::vocab_from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap();
    vocab.chat_template = spec().chat_template.map(|t| t + hint);
    let text = Arc::new(make_kit(&vocab));
    let running = server::start(Config::default()).unwrap();
    let defaults = Sampling { temperature: 1.0, ..Sampling::default() };
    running
        .add_models(vec![Served {
            name: "tiny".into(),
            aliases: vec![],
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
