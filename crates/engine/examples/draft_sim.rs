//! Simulated decoding with drafts: how many steps, and how long by the default cost curve, for answers that are known.
//!
//! usage: draft_sim MODEL.gguf CASES.jsonl [all|even|odd] [-v]
//!
//! A case is `{"kind", "path", "ask", "prediction", "reference", "real"}`: what a client asks, what it predicts, what a perfect
//! model answers, what a real one answered. `draft_cases.py` beside this file makes them. Of the model only the vocabulary and
//! the chat template are used.

use base::TokenId;
use engine::draft::{Costs, Count, DRAFT_MAX, Drafter, Pool, Proposal, SOURCES, allot};
use formats::ModelDesc;
use serde_json::{Map, Value, json};
use std::error::Error;
use std::time::{Duration, Instant};
use text::{ChatTemplate, Encode, Tokenizer};

const N_CTX: usize = 16_384;
/// Draft rows of one step, over all sequences.
const ROWS_MAX: usize = 256;
const POOL_TOKENS: usize = 1 << 18;

struct Case {
    kind: String,
    path: String,
    prompt: Vec<TokenId>,
    prediction: Vec<TokenId>,
    reference: Vec<TokenId>,
    real: Vec<TokenId>,
    stops: Vec<TokenId>,
}

#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Reference,
    Real,
    /// The file as it was: nothing changes.
    Copy,
    /// The real one's tokens in random order: nothing repeats but single tokens.
    Shuffled,
}

#[derive(Clone, Copy)]
struct Options {
    answer: Answer,
    predicts: bool,
    pools: bool,
    /// Sequences that decode at once.
    lanes: usize,
    /// Offer exactly what will be accepted.
    is_told: bool,
}

impl Case {
    fn answer(&self, answer: Answer) -> Vec<TokenId> {
        let mut tokens = match answer {
            Answer::Reference => self.reference.clone(),
            Answer::Copy => [&self.prediction[..], &self.reference[self.reference.len() - 1..]].concat(),
            Answer::Real | Answer::Shuffled => self.real.clone(),
        };
        if answer == Answer::Shuffled {
            for i in (1..tokens.len() - 1).rev() {
                tokens.swap(i, (base::rng::bits(1, i as u64, 0) % (i as u64 + 1)) as usize);
            }
        }
        tokens
    }
}

#[derive(Clone, Copy, Default)]
struct Outcome {
    tokens: usize,
    steps: usize,
    /// Milliseconds of decoding.
    ms: f32,
    counts: [Count; SOURCES],
}

impl Outcome {
    fn add(&mut self, o: &Outcome) {
        self.tokens += o.tokens;
        self.steps += o.steps;
        self.ms += o.ms;
        for (sum, c) in self.counts.iter_mut().zip(&o.counts) {
            sum.offered += c.offered;
            sum.accepted += c.accepted;
        }
    }
}

/// A sequence under way.
struct Lane {
    drafter: Drafter,
    answer: Vec<TokenId>,
    tokens: Vec<TokenId>,
    done: usize,
}

impl Lane {
    /// The first token belongs to the prefill.
    fn new(mut drafter: Drafter, case: &Case, o: Options) -> Self {
        let answer = case.answer(o.answer);
        drafter.start(&case.prompt, if o.predicts { &case.prediction } else { &[] }, &case.stops);
        let tokens = [&case.prompt[..], &answer[..1]].concat();
        Self { drafter, answer, tokens, done: 1 }
    }

    /// How many tokens of a proposal are right.
    fn right(&self, p: &Proposal) -> usize {
        p.tokens().iter().zip(&self.answer[self.done..]).take_while(|(a, b)| a == b).count()
    }

    fn finish(self, pool: &mut Option<Pool>, out: &mut Outcome) -> Drafter {
        if let Some(pool) = pool {
            pool.add(0, &self.tokens);
        }
        out.tokens += self.answer.len() - 1;
        for (sum, c) in out.counts.iter_mut().zip(self.drafter.counts()) {
            sum.offered += c.offered;
            sum.accepted += c.accepted;
        }
        self.drafter
    }
}

/// Decodes all cases, `lanes` at once, with drafts or without.
fn decode(cases: &[&Case], o: Options, has_drafts: bool, pool: &mut Option<Pool>) -> Outcome {
    let costs = Costs::new();
    let mut out = Outcome::default();
    let mut queue = cases.iter().copied().filter(|c| c.answer(o.answer).len() > 1);
    let mut free: Vec<Drafter> = (0..o.lanes).map(|_| Drafter::new(N_CTX)).collect();
    let mut lanes: Vec<Lane> = vec![];
    loop {
        while let Some(drafter) = free.pop() {
            let Some(case) = queue.next() else { break };
            lanes.push(Lane::new(drafter, case, o));
        }
        if lanes.is_empty() {
            return out;
        }
        let depth = lanes.iter().map(|l| l.tokens.len()).sum::<usize>() / lanes.len();
        let mut take = vec![0; lanes.len()];
        if has_drafts {
            for lane in &mut lanes {
                lane.drafter.propose(&lane.tokens, pool.as_ref().map(|p| (p, 0)));
            }
            let proposals: Vec<&Proposal> = lanes.iter().map(|l| l.drafter.proposal()).collect();
            allot(&costs, lanes.len(), depth, &proposals, ROWS_MAX.min(DRAFT_MAX * lanes.len()), &mut take);
            if o.is_told {
                take = lanes.iter().zip(&proposals).map(|(l, p)| l.right(p)).collect();
            }
        }
        let drafted: usize = take.iter().sum();
        let price = costs.price(lanes.len(), drafted, depth);
        out.ms += costs.ns(lanes.len() + drafted, depth) / 1e6;
        out.steps += 1;
        for (lane, offered) in lanes.iter_mut().zip(&take) {
            let accepted = lane.right(lane.drafter.proposal()).min(*offered);
            lane.drafter.verified(*offered, accepted, price);
            let end = (lane.done + accepted + 1).min(lane.answer.len());
            lane.tokens.extend(&lane.answer[lane.done..end]);
            lane.drafter.grow(&lane.tokens);
            lane.done = end;
        }
        let (done, running) = lanes.into_iter().partition(|l| l.done == l.answer.len());
        lanes = running;
        free.extend(Vec::into_iter(done).map(|l: Lane| l.finish(pool, &mut out)));
    }
}

/// One line: all cases, and of those decoded alone each (`-v`) and the worst.
fn run(name: &str, cases: &[&Case], o: Options, is_verbose: bool) {
    let new_pool = || o.pools.then(|| Pool::new(POOL_TOKENS));
    let all = |cases: &[&Case], pools: &mut [Option<Pool>; 2]| {
        let plain = decode(cases, o, false, &mut None);
        let drafted = decode(cases, o, true, &mut pools[0]);
        (plain, drafted, decode(cases, Options { is_told: true, ..o }, true, &mut pools[1]))
    };
    let mut pools = [new_pool(), new_pool()];
    if o.lanes > 1 {
        let (plain, drafted, told) = all(cases, &mut pools);
        return print(name, &plain, &drafted, &told);
    }
    let mut sums = (Outcome::default(), Outcome::default(), Outcome::default());
    let mut worst = f32::MAX;
    for case in cases {
        let (plain, drafted, told) = all(&[case], &mut pools);
        if drafted.tokens > 0 {
            worst = worst.min(plain.ms / drafted.ms);
            if is_verbose {
                print(&format!("  {:.40}", case.path), &plain, &drafted, &told);
            }
        }
        sums.0.add(&plain);
        sums.1.add(&drafted);
        sums.2.add(&told);
    }
    print(&format!("{name} (worst {worst:.3})"), &sums.0, &sums.1, &sums.2);
}

fn print(name: &str, plain: &Outcome, drafted: &Outcome, told: &Outcome) {
    let c = &drafted.counts;
    let sources = [0, 1, 2].map(|i| format!("{:>5}/{:<5}", c[i].accepted, c[i].offered)).join(" ");
    let (speed, oracle) = (plain.ms / drafted.ms, plain.ms / told.ms);
    let (tokens, steps) = (drafted.tokens, drafted.steps);
    println!(
        "{name:44} {tokens:>6} {steps:>5} {sources} {:>8.0} {:>7.0} {speed:>6.3} {oracle:>6.2}",
        plain.ms, drafted.ms
    );
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
    let end = tokenizer.token_of("<|im_end|>").or(tokenizer.eot()).ok_or("no end of turn")?;
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
            stops: tokenizer.eog_ids().to_vec(),
        });
    }
    Ok(out)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, cases, ..] = &args[..] else {
        return Err("usage: draft_sim MODEL.gguf CASES.jsonl [all|even|odd] [-v]".into());
    };
    let is_verbose = args.iter().any(|a| a == "-v");
    let is_in = |i: usize| match args.get(2).map(String::as_str) {
        Some("even") => i.is_multiple_of(2),
        Some("odd") => !i.is_multiple_of(2),
        _ => true,
    };
    let all = read(model, cases)?;
    let of = |kind: &str| -> Vec<&Case> {
        let cases = all.iter().filter(|c| c.kind == kind).enumerate();
        cases.filter(|(i, _)| is_in(*i)).map(|(_, c)| c).collect()
    };
    let (edits, plain, prose) = (of("edit"), of("plain"), of("prose"));
    println!("{:44} tokens steps  prediction     history        pool    plain ms  drafts  speed oracle", "");
    let o = Options { answer: Answer::Reference, predicts: false, pools: false, lanes: 1, is_told: false };
    let (real, shuffled) = (Options { answer: Answer::Real, ..o }, Options { answer: Answer::Shuffled, ..o });
    run("files copied", &edits, Options { answer: Answer::Copy, ..o }, is_verbose);
    run("edits replayed", &edits, o, is_verbose);
    run("edits replayed, with prediction", &edits, Options { predicts: true, ..o }, is_verbose);
    run("edits answered", &edits, real, is_verbose);
    run("edits answered, with prediction", &edits, Options { predicts: true, ..real }, is_verbose);
    run("edits answered, with pool", &edits, Options { pools: true, ..real }, is_verbose);
    for lanes in [2, 4, 8] {
        run(&format!("edits answered, {lanes} at once"), &edits, Options { lanes, ..real }, false);
    }
    run("functions answered", &plain, real, is_verbose);
    run("functions answered, with pool", &plain, Options { pools: true, ..real }, is_verbose);
    run("function bodies replayed", &plain, o, is_verbose);
    run("functions shuffled", &plain, shuffled, is_verbose);
    run("functions shuffled, 8 at once", &plain, Options { lanes: 8, ..shuffled }, is_verbose);
    run("prose answered", &prose, real, is_verbose);
    run("prose shuffled", &prose, shuffled, is_verbose);
    clock(&edits);
    Ok(())
}

/// How long the drafter itself takes.
fn clock(cases: &[&Case]) {
    let mut drafter = Drafter::new(N_CTX);
    let texts = || cases.iter().flat_map(|c| &c.prompt).copied().cycle();
    let (mut starts, mut steps, mut stepping) = (vec![], 0u32, Duration::ZERO);
    for i in 0..20 {
        let prompt: Vec<TokenId> = texts().skip(i * 97).take(8192).collect();
        let begin = Instant::now();
        drafter.start(&prompt, &[], &[]);
        starts.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    starts.sort_by(f64::total_cmp);
    for case in cases {
        drafter.start(&case.prompt, &case.prediction, &[]);
        let mut tokens = case.prompt.clone();
        for token in &case.real {
            let begin = Instant::now();
            drafter.propose(&tokens, None);
            tokens.push(*token);
            drafter.grow(&tokens);
            stepping += begin.elapsed();
            steps += 1;
        }
    }
    let start = starts.get(starts.len() / 2).unwrap_or(&0.0);
    println!(
        "start: {start:.2} ms for 8192 tokens; propose and grow: {:.1} us",
        stepping.as_secs_f64() / f64::from(steps) * 1e6
    );
}
