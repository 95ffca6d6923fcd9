//! `vonk bench --url`, `edits`, `replay` and `load`: servers measured from outside, as users meet them.

use crate::args::{self, SpeculationKind};
use crate::fault::{Fault, print_json};
use ::bench::edits::{self, EditsArgs, Speculation};
use ::bench::load::{self, LoadArgs};
use ::bench::remote::{RemoteArgs, compare};

/// `vonk bench chat`, and `vonk bench --url`: the same requests in turn.
pub fn chat(args: args::BenchChat) -> Result<(), Fault> {
    let args::BenchChat { url, against, model, reps, max_tokens, prompt_tokens, key, json } = args;
    let key = key.get();
    let remote = RemoteArgs { url, against, reps, max_tokens, prompt_tokens, model, key, ..Default::default() };
    let report = compare(&remote, &mut show)?;
    if json {
        return print_json(&report);
    }
    println!("{report}");
    Ok(())
}

/// `vonk bench edits`, and `vonk bench replay` with `replay`.
pub fn edits(args: args::BenchEdits, replay: bool) -> Result<(), Fault> {
    let given = EditsArgs {
        url: args.url,
        against: args.against,
        data: args.data,
        n: args.n,
        seed: args.seed,
        chars: (args.min_chars, args.max_chars),
        prediction: args.prediction,
        speculation: args.speculation.map(|s| match s {
            SpeculationKind::Auto => Speculation::Auto,
            SpeculationKind::Off => Speculation::Off,
        }),
        warm: args.warm,
        replay,
        model: args.model,
        max_tokens: args.max_tokens,
        key: args.key.get(),
        timeout_s: args.timeout,
    };
    let report = edits::run(&given, &mut show)?;
    if args.json {
        print_json(&report)?;
    } else {
        print!("{report}");
    }
    match (&report.stopped, report.failures.last()) {
        (Some(why), _) => Err(Fault::failed(why)),
        (None, Some(last)) => Err(Fault::failed(format!("{} requests failed: {}", report.failures.len(), last.error))),
        (None, None) => Ok(()),
    }
}

/// `vonk bench load`.
pub fn load(args: args::BenchLoad) -> Result<(), Fault> {
    let given = LoadArgs {
        url: args.url,
        against: args.against,
        rates: args.rates,
        streams: args.streams,
        seconds: args.seconds,
        max_tokens: args.max_tokens,
        prompt_tokens: args.prompt_tokens,
        slo_ttft_ms: args.slo_ttft_ms,
        slo_itl_ms: args.slo_itl_ms,
        model: args.model,
        key: args.key.get(),
        seed: args.seed,
        timeout_s: args.timeout,
    };
    let report = load::run(&given, &mut show)?;
    if args.json {
        print_json(&report)?;
    } else {
        print!("{report}");
    }
    report.stopped.map_or(Ok(()), |why| Err(Fault::failed(why)))
}

fn show(line: &str) {
    eprintln!("{line}");
}
