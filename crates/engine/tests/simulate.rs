//! The whole scheduler in a simulator, over seeds (R26, R29): arrivals, cancels, deadlines, classes, too few pages, grammars,
//! drafts. What is checked: every answer is the one that a plain loop gives, no page is lost, nobody lives past a deadline,
//! everybody ends once and in bounded time, and the same script gives the same effects.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod toy;

use base::{RequestId, TokenId, rng};
use engine::{Class, Config, Effect, Engine, Event, Finish, Request, Sampling, Stepper};
use std::collections::HashMap;
use toy::{END, Rhythm, Toy, VOCAB, answer};

/// Numbers of one script.
struct Dice {
    seed: u64,
    n: u64,
}

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.n += 1;
        (rng::bits(self.seed, self.n, 11) % n as u64) as usize
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

struct Script {
    config: Config,
    /// Step of arrival.
    requests: Vec<(u64, Request)>,
    cancels: Vec<(u64, RequestId)>,
    step_us: u64,
    has_draft_model: bool,
}

fn script(seed: u64) -> Script {
    let mut dice = Dice { seed, n: 0 };
    let n_ctx = 70 + dice.below(300);
    let n_slots = 1 + dice.below(5);
    let per_slot = n_ctx.div_ceil(ops::PAGE_LEN);
    let config = Config {
        n_ctx,
        n_slots,
        step_rows: [1, 3, 17, 64, 200][dice.below(5)],
        n_pages: Some(per_slot + dice.below(per_slot * n_slots)),
        is_drafting: !dice.one_in(6),
        trace: true,
        fingerprint: String::new(),
    };
    let count = 3 + dice.below(14);
    let requests = (0..count).map(|id| (dice.below(60) as u64, request(id as u64, n_ctx, &mut dice))).collect();
    let cancels = (0..dice.below(4)).map(|_| (dice.below(80) as u64, RequestId(dice.below(count) as u64))).collect();
    Script { config, requests, cancels, step_us: 1_000, has_draft_model: seed.is_multiple_of(3) }
}

fn request(id: u64, n_ctx: usize, dice: &mut Dice) -> Request {
    // A few documents: prompts begin with parts of them, so prefixes are shared.
    let document = dice.below(3) as u64;
    let n_shared = dice.below(n_ctx);
    let n_own = dice.below(20);
    let token = |from: u64, i: usize| 1 + (rng::bits(from, i as u64, 5) % (VOCAB as u64 - 1)) as TokenId;
    let mut prompt: Vec<TokenId> = (0..n_shared).map(|i| token(document, i)).collect();
    prompt.extend((0..n_own).map(|i| token(100 + id, i)));
    prompt.truncate(n_ctx - 1);
    if prompt.is_empty() {
        prompt.push(3);
    }
    let max_tokens = if dice.one_in(12) { 0 } else { 1 + dice.below(n_ctx) };
    let mut r = Request::new(RequestId(id), prompt, max_tokens);
    r.stop_tokens = vec![END];
    r.class = [Class::Interactive, Class::Chat, Class::Batch][dice.below(3)];
    r.key = dice.below(3) as u64;
    r.salt = dice.below(2) as u64;
    r.speculate = !dice.one_in(4);
    if dice.one_in(2) {
        r.sampling = Sampling { temperature: 0.8, top_k: dice.below(8) as u32, seed: id, ..Sampling::default() };
    }
    if dice.one_in(5) {
        r.sampling.repeat_penalty = 1.2;
        r.logit_bias = vec![(5, 1.0)];
    }
    if dice.one_in(5) {
        r.constraint = Some(Box::new(Rhythm::default()));
    } else if dice.one_in(6) {
        r.replay = (0..dice.below(40)).map(|i| token(900 + id, i % 7)).collect();
    }
    if dice.one_in(2) {
        r.prediction = answer(&r, n_ctx).0.iter().map(|t| if dice.one_in(9) { 1 } else { *t }).collect();
    }
    if dice.one_in(8) {
        r.deadline_us = dice.below(150_000) as u64;
    }
    r
}

#[derive(Default)]
struct Seen {
    tokens: Vec<TokenId>,
    bits: Vec<u64>,
    end: Option<Finish>,
    prefilled: usize,
}

struct Outcome {
    log: Vec<String>,
    seen: HashMap<u64, Seen>,
    accepted: u64,
    by_model: u64,
    preempted: u64,
    hits: usize,
}

fn run(script: &Script) -> Outcome {
    let sizes = script.config.lm_sizes();
    let mut engine = Engine::new(Toy::new(sizes.n_pages), &script.config);
    if script.has_draft_model {
        // It reads a window only, so it is often wrong.
        engine = engine.with_draft_model(Box::new(Toy::new(script.config.draft_sizes().n_pages)), 0.3);
    }
    let mut out = Outcome { log: vec![], seen: HashMap::new(), accepted: 0, by_model: 0, preempted: 0, hits: 0 };
    let (mut events, mut effects) = (Vec::new(), Vec::new());
    let last_arrival = script.requests.iter().map(|r| r.0).max().unwrap();
    for step in 0.. {
        let now = step * script.step_us;
        events.push(Event::Clock(now));
        events.extend(script.requests.iter().filter(|r| r.0 == step).map(|r| Event::Submit(Box::new(r.1.clone()))));
        events.extend(script.cancels.iter().filter(|c| c.0 == step).map(|c| Event::Cancel(c.1)));
        let busy = engine.step(&mut events, &mut effects);
        if engine.load().rows > 0 {
            events.push(Event::Took(1_000_000 + 50_000 * engine.load().rows as u64));
        }
        engine.check().unwrap_or_else(|e| panic!("step {step}: {e}"));
        for effect in effects.drain(..) {
            out.log.push(format!("{step} {effect:?}"));
            note(effect, &mut out);
        }
        for (_, r) in script.requests.iter().filter(|(at, r)| *at <= step && r.deadline_us <= now) {
            assert!(out.seen[&r.id.0].end.is_some(), "{:?} lives past its deadline", r.id);
        }
        if !busy && step > last_arrival {
            break;
        }
        assert!(step < 20_000, "somebody starves: {:?}", engine.load());
    }
    let load = engine.load();
    assert_eq!((load.queued, load.running, load.pages_used), (0, 0, 0), "something is left over");
    engine.clear_cache();
    assert_eq!(engine.load().pages_cached, 0);
    out
}

fn note(effect: Effect, out: &mut Outcome) {
    let mut of = |id: RequestId| {
        let seen = out.seen.entry(id.0).or_default();
        assert!(seen.end.is_none(), "{id:?}: something after its end");
        std::mem::take(seen)
    };
    match effect {
        Effect::Token { id, token, bits, .. } => {
            let mut seen = of(id);
            seen.tokens.push(token);
            seen.bits.push(bits);
            out.seen.insert(id.0, seen);
        }
        Effect::Prefilled { id, n_cached, n_prompt } => {
            let mut seen = of(id);
            assert!(n_cached < n_prompt && seen.tokens.is_empty());
            seen.prefilled += 1;
            out.hits += n_cached;
            out.seen.insert(id.0, seen);
        }
        Effect::Finished { id, reason, drafts } => {
            let mut seen = of(id);
            seen.end = Some(reason);
            out.seen.insert(id.0, seen);
            let (offered, accepted): (u64, u64) = (drafts.offered.iter().sum(), drafts.accepted.iter().sum());
            assert!(accepted <= offered);
            out.accepted += accepted;
            out.by_model += drafts.accepted[3];
        }
        Effect::Preempted { .. } => out.preempted += 1,
        Effect::Admitted { .. } | Effect::Verified { .. } => {}
        Effect::Refused { id, why } => panic!("{id:?} refused: {why:?}"),
    }
}

fn seeds() -> u64 {
    std::env::var("VONK_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(600)
}

#[test]
fn every_answer_is_the_plain_one_and_no_page_is_lost() {
    let (mut accepted, mut by_model, mut preempted, mut hits, mut whole) = (0, 0, 0, 0, 0);
    for seed in 0..seeds() {
        let script = script(seed);
        let out = run(&script);
        for (_, r) in &script.requests {
            let seen = &out.seen[&r.id.0];
            let (tokens, bits, end) = answer(r, script.config.n_ctx);
            let n = seen.tokens.len();
            let cut = matches!(seen.end, Some(Finish::Cancelled | Finish::Deadline));
            assert!(cut || (seen.end == Some(end) && n == tokens.len()), "seed {seed} {:?}: {:?}", r.id, seen.end);
            assert!(cut || seen.prefilled == 1, "seed {seed} {:?}: announced {} times", r.id, seen.prefilled);
            assert!(n <= tokens.len() && seen.tokens == tokens[..n], "seed {seed} {:?}: another answer", r.id);
            assert_eq!(seen.bits, bits[..n], "seed {seed} {:?}: other logit bits", r.id);
            whole += usize::from(!cut);
        }
        accepted += out.accepted;
        by_model += out.by_model;
        preempted += out.preempted;
        hits += out.hits;
    }
    let n = seeds();
    assert!(
        accepted > n && preempted > n / 4 && hits as u64 > 20 * n,
        "{accepted} {preempted} {hits}: too tame a test"
    );
    assert!(whole as u64 > 5 * n && by_model > n / 4, "{whole} {by_model}");
}

#[test]
fn the_same_script_gives_the_same_effects() {
    for seed in 0..40 {
        assert_eq!(run(&script(seed)).log, run(&script(seed)).log, "seed {seed}");
    }
}

/// What was saved and restored, in part, serves as well as what was computed; pages of a wrong place are not taken.
#[test]
fn restored_pages_give_the_same_answers() {
    let (mut hits, mut refused) = (0, 0);
    for seed in 0..150 {
        let script = script(seed);
        let pages = script.config.lm_sizes().n_pages;
        let mut first = Engine::new(Toy::new(pages), &script.config);
        let submit = |r: &(u64, Request)| Event::Submit(Box::new(Request { deadline_us: u64::MAX, ..r.1.clone() }));
        let run = |engine: &mut Engine<Toy>| {
            let (mut events, mut effects) = (script.requests.iter().map(submit).collect(), Vec::new());
            while engine.step(&mut events, &mut effects) {}
            engine.check().unwrap();
            let mut out =
                Outcome { log: vec![], seen: HashMap::new(), accepted: 0, by_model: 0, preempted: 0, hits: 0 };
            effects.into_iter().for_each(|e| note(e, &mut out));
            out
        };
        run(&mut first);
        let mut saved = Vec::new();
        first.save_pages(&mut |p| {
            saved.push((p.parent, p.salt, p.tokens.to_vec(), p.bytes.to_vec()));
            std::ops::ControlFlow::Continue(())
        });
        let mut second = Engine::new(Toy::new(pages), &script.config);
        for (number, (parent, salt, tokens, bytes)) in saved.iter().enumerate() {
            // Some records are lost; their children have no place then.
            if number % 11 != 7 {
                let page = engine::SavedPage { parent: *parent, salt: *salt, tokens, bytes };
                refused += usize::from(!second.restore_page(number as u32, page));
            }
            second.check().unwrap();
        }
        let out = run(&mut second);
        hits += out.hits;
        for (_, r) in &script.requests {
            assert_eq!(out.seen[&r.id.0].tokens, answer(r, script.config.n_ctx).0, "seed {seed} {:?}", r.id);
        }
    }
    assert!(hits > 10_000 && refused > 50, "{hits} {refused}: too tame a test");
}

/// R26: a cancel at every step of a script; afterwards everything goes on as if the cancelled one had never been there.
#[test]
fn cancel_at_every_step() {
    for at in 0..60 {
        let mut s = script(3);
        s.cancels = s.requests.iter().map(|r| (at, r.1.id)).take(2).collect();
        let out = run(&s);
        for (_, r) in s.requests.iter().skip(2).filter(|(_, r)| r.deadline_us == u64::MAX) {
            assert_eq!(out.seen[&r.id.0].tokens, answer(r, s.config.n_ctx).0, "cancel at {at}");
        }
    }
}
