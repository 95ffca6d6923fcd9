//! Simulated decoding with drafts: how many steps, and how long by the default cost curve, for answers that are known.
//!
//! usage: draft_sim MODEL.gguf CASES.jsonl [all|even|odd] [-v]
//!
//! A case is `{"kind", "path", "ask", "prediction", "reference", "real"}`: what a client asks, what it predicts, what a perfect
//! model answers, what a real one answered (docs/speculation.md says how such a file is made). Of the model only the vocabulary
//! and the chat template are used.

use base::TokenId;
use engine::draft::{Costs, Count, DRAFT_MAX, Drafter, Pool, SOURCES, allot};
use formats::ModelDesc;
use serde_json::{Map, Value, json};
use std::error::Error;
use text::{ChatTemplate, Encode, Tokenizer};

struct Case {
    kind: String,
    path: String,
    prompt: Vec<TokenId>,
    prediction: Vec<TokenId>,
    reference: Vec<TokenId>,
    real: Vec<TokenId>,
}

#[derive(Clone, Copy, Default)]
struct Outcome {
    tokens: usize,
    steps: usize,
    /// Milliseconds of decoding without drafts, with them, and if only tokens that will be accepted were offered.
    plain: f32,
    drafted: f32,
    oracle: f32,
    counts: [Count; SOURCES],
}

impl Outcome {
    fn add(&mut self, o: &Outcome) {
        self.tokens += o.tokens;
        self.steps += o.steps;
        self.plain += o.plain;
        self.drafted += o.drafted;
        self.oracle += o.oracle;
        for (sum, c) in self.counts.iter_mut().zip(&o.counts) {
            sum.offered += c.offered;
            sum.accepted += c.accepted;
        }
    }

    fn print(&self, name: &str) {
        let sources =
            self.counts[..3].iter().map(|c| format!("{:>6}/{:<6}", c.accepted, c.offered)).collect::<String>();
        println!(
            "{name:44} {:>6} {:>5} {sources} {:>9.0} {:>8.0} {:>6.2} {:>6.2}",
            self.tokens,
            self.steps,
            self.plain,
            self.drafted,
            self.plain / self.drafted,
            self.plain / self.oracle
        );
    }
}

/// One sequence alone on the machine. The first token belongs to the prefill.
fn simulate(
    d: &mut Drafter,
    case: &Case,
    answer: &[TokenId],
    predicts: bool,
    oracle: bool,
    pool: Option<&Pool>,
) -> Outcome {
    let costs = Costs::new();
    let mut out = Outcome { tokens: answer.len().saturating_sub(1), ..Outcome::default() };
    d.start(&case.prompt, if predicts { &case.prediction } else { &[] }, &answer[answer.len() - 1..]);
    let mut tokens = [&case.prompt[..], &answer[..1]].concat();
    let mut done = 1;
    while done < answer.len() {
        let depth = tokens.len();
        let p = d.propose(&tokens, pool.map(|p| (p, 0)));
        let right = p.tokens().iter().zip(&answer[done..]).take_while(|(a, b)| a == b).count();
        let mut take = [0];
        if oracle {
            take[0] = right;
        } else {
            allot(&costs, 1, depth, &[p], DRAFT_MAX, &mut take);
        }
        let accepted = right.min(take[0]);
        d.verified(take[0], accepted, costs.price(1, take[0], depth));
        out.drafted += costs.ns(1 + take[0], depth) / 1e6;
        out.steps += 1;
        let came = (accepted + 1).min(answer.len() - done);
        for i in 0..came {
            out.plain += costs.ns(1, depth + i) / 1e6;
        }
        tokens.extend(&answer[done..done + came]);
        d.grow(&tokens);
        done += came;
    }
    out.counts = *d.counts();
    out
}

fn run(name: &str, cases: &[&Case], real: bool, predicts: bool, pooled: bool, verbose: bool) {
    // As a slot serves them: one drafter, one after the other.
    let (mut live, mut told) = (Drafter::new(16_384), Drafter::new(16_384));
    let mut pool = pooled.then(|| Pool::new(1 << 18));
    let mut sum = Outcome::default();
    let mut worst = f32::MAX;
    for case in cases {
        let answer = if real { &case.real } else { &case.reference };
        if answer.len() < 2 {
            continue;
        }
        let mut out = simulate(&mut live, case, answer, predicts, false, pool.as_ref());
        out.oracle = simulate(&mut told, case, answer, predicts, true, pool.as_ref()).drafted;
        if verbose {
            out.print(&format!("  {:.40}", case.path));
        }
        if let Some(pool) = &mut pool {
            pool.add(0, &[&case.prompt[..], answer].concat());
        }
        worst = worst.min(out.plain / out.drafted);
        sum.add(&out);
    }
    sum.print(&format!("{name} (worst {worst:.3})"));
}

fn read(model: &str, cases: &str) -> Result<Vec<Case>, Box<dyn Error>> {
    let bytes = std::fs::read(model)?;
    let desc = ModelDesc::from_gguf(&bytes)?;
    let vocab = desc.vocab.as_ref().map_err(|e| e.to_string())?;
    let tokenizer = Tokenizer::new(vocab)?;
    let special = |id: Option<TokenId>| id.map_or("", |id| tokenizer.token_text(id));
    let source = vocab.chat_template.as_deref().ok_or("no chat template")?;
    let template = ChatTemplate::new(source, special(tokenizer.bos()), special(tokenizer.eos()))?;
    let plain = |text: &str| tokenizer.encode(text, Encode { add_special: false, parse_special: false });
    let end = tokenizer.eot().ok_or("no end of turn")?;
    let mut out = vec![];
    for line in std::fs::read_to_string(cases)?.lines() {
        let v: Value = serde_json::from_str(line)?;
        let field = |name: &str| v[name].as_str().unwrap_or("");
        let answer = |name: &str| [plain(field(name)), vec![end]].concat();
        let messages = json!([{"role": "user", "content": field("ask")}]);
        let prompt = template.render(&messages, None, true, &Map::new())?;
        out.push(Case {
            kind: field("kind").into(),
            path: field("path").into(),
            prompt: tokenizer.encode(&prompt, Encode::TEMPLATE),
            prediction: plain(field("prediction")),
            reference: answer("reference"),
            real: answer("real"),
        });
    }
    Ok(out)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, cases, ..] = &args[..] else {
        return Err("usage: draft_sim MODEL.gguf CASES.jsonl [all|even|odd] [-v]".into());
    };
    let verbose = args.iter().any(|a| a == "-v");
    let half = |i: usize| match args.get(2).map(String::as_str) {
        Some("even") => i.is_multiple_of(2),
        Some("odd") => !i.is_multiple_of(2),
        _ => true,
    };
    let all = read(model, cases)?;
    let of = |kind: &str| -> Vec<&Case> {
        all.iter().filter(|c| c.kind == kind).enumerate().filter(|(i, _)| half(*i)).map(|(_, c)| c).collect()
    };
    println!("{:44} tokens steps    prediction      history         pool      plain ms  drafts speed oracle", "");
    let edits = of("edit");
    for (name, real) in [("replay", false), ("real", true)] {
        run(&format!("{name}, history"), &edits, real, false, false, verbose);
        run(&format!("{name}, prediction"), &edits, real, true, false, verbose);
    }
    run("real, history and pool", &edits, true, false, true, false);
    for kind in ["plain", "prose"] {
        run(kind, &of(kind), true, false, false, verbose);
        run(&format!("{kind}, with pool"), &of(kind), true, false, true, verbose);
    }
    clock(&edits);
    Ok(())
}

/// How long the drafter itself takes.
fn clock(cases: &[&Case]) {
    let mut drafter = Drafter::new(16_384);
    let time = std::time::Instant::now();
    let mut n = 0;
    while n < 8192 * 20 {
        // Real text, varied a little each time around, 8192 tokens at once.
        let mut prompt: Vec<TokenId> = cases.iter().flat_map(|c| &c.prompt).copied().cycle().take(8192).collect();
        prompt[n % 8192] = 1;
        drafter.start(&prompt, &[], &[]);
        n += prompt.len();
    }
    let start = time.elapsed().as_secs_f64() / n as f64 * 8192.0 * 1e3;
    let (mut steps, mut time) = (0, std::time::Duration::ZERO);
    for case in cases.iter().filter(|c| c.real.len() > 1) {
        drafter.start(&case.prompt, &case.prediction, &[]);
        let mut tokens = case.prompt.clone();
        for token in &case.real {
            let begin = std::time::Instant::now();
            drafter.propose(&tokens, None);
            tokens.push(*token);
            drafter.grow(&tokens);
            time += begin.elapsed();
            steps += 1;
        }
    }
    println!(
        "start: {start:.2} ms for 8192 tokens; propose and grow: {:.1} us",
        time.as_secs_f64() / steps as f64 * 1e6
    );
}
