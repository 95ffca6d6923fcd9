//! `vonk eval`: quality, by running what the model writes.

use crate::args::{self, EvalWhat};
use crate::fault::{Fault, print_json};
use crate::generate::generate;
use crate::open::open;
use crate::run::chat_prompt;
use ::bench::{BenchError, humaneval};

/// `vonk eval ...`.
pub fn eval(args: args::Eval) -> Result<(), Fault> {
    match args.what {
        EvalWhat::Humaneval(args) => humaneval(args),
    }
}

fn humaneval(args: args::Humaneval) -> Result<(), Fault> {
    let path = args.data.clone().unwrap_or_else(humaneval::default_path);
    let problems = humaneval::load(&path, args.limit).map_err(Fault::input)?;
    let mut progress = |line: &str| eprintln!("{line}");
    let report = match &args.url {
        Some(url) => {
            let (model, key) = (args.model.as_deref().unwrap_or("default"), args.key.get());
            let mut ask = |prompt: &str| humaneval::ask_url(url, model, prompt, key.as_deref());
            humaneval::run(&problems, &mut ask, &mut progress).map_err(Fault::failed)?
        }
        None => {
            let opened = open(args.model.as_deref())?;
            let text = opened.text()?;
            let mut engine = opened.engine(&args.engine, 1, None)?;
            let sampling = args::Sampling::greedy(humaneval::ANSWER_TOKENS_MAX);
            let mut ask = |prompt: &str| {
                let ids = chat_prompt(&text, None, prompt).map_err(not_answered)?;
                let outcome = generate(&mut *engine, &text, ids, &sampling, &mut |_| Ok(()));
                outcome.map(|o| o.text).map_err(not_answered)
            };
            humaneval::run(&problems, &mut ask, &mut progress).map_err(Fault::failed)?
        }
    };
    if args.json {
        return print_json(&report);
    }
    println!("{report}");
    Ok(())
}

fn not_answered(fault: Fault) -> BenchError {
    BenchError::Ask(fault.message)
}
