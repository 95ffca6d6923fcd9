//! `vonk bench serve`: a server in this process beside its own engine.

use std::sync::Arc;

use crate::args;
use crate::fault::{Fault, print_json};
use crate::open::open;
use ::bench::serve::{ServeArgs, Shared, run};
use server::{Config, Served};

/// Slots: one request at a time is measured.
const SLOTS: usize = 2;

/// `vonk bench serve`.
pub fn serving(args: args::BenchServe) -> Result<(), Fault> {
    let opened = open(args.model.as_deref())?;
    let text = Arc::new(opened.text()?);
    let engine = Shared::new(opened.engine(&args.engine, SLOTS, None)?);
    let mut config = Config::default();
    // All of them come from one address here.
    config.limits.connections_per_ip = config.limits.connections;
    let running = server::start(config).map_err(Fault::failed)?;
    let name = opened.found.name.clone();
    let served = Served {
        name: name.clone(),
        aliases: vec![],
        unlisted: vec![],
        stepper: engine.stepper(),
        text,
        created: 0,
        defaults: Served::openai_defaults(),
        keeper: None,
        about: opened.about(),
    };
    running.add_models(vec![served]).map_err(Fault::failed)?;
    let given = ServeArgs {
        tokens: args.tokens,
        prompt_tokens: args.prompt_tokens,
        reps: args.reps,
        dialogues: args.dialogue,
        turns: args.turns,
        idle: args.idle,
    };
    let report = run(&given, &name, running.addr(), &engine, &mut |line| eprintln!("{line}"))?;
    running.stop();
    if args.json {
        return print_json(&report);
    }
    print!("{report}");
    Ok(())
}
