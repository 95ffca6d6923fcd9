//! Drafts: the suffix automaton against naive search, allotment against brute force, copying through edits, the bound on losses,
//! hostile text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use base::TokenId;
use base::rng::bits;
use engine::draft::{Costs, DRAFT_MAX, Drafter, Pool, Proposal, Source, Suffixes, allot};

/// Tokens that repeat nothing.
fn fresh(n: usize, seed: u64) -> Vec<TokenId> {
    (0..n as u64).map(|i| (bits(seed, i, 7) % 1_000_000_007) as TokenId).collect()
}

fn random(n: usize, alphabet: u64, seed: u64) -> Vec<TokenId> {
    (0..n as u64).map(|i| (bits(seed, i, 3) % alphabet) as TokenId).collect()
}

/// All ends, before the text's own, of the longest suffix that ends earlier; and its length.
fn naive_repeat(text: &[TokenId]) -> (usize, Vec<usize>) {
    let n = text.len();
    let len = |end: usize| text[..end].iter().rev().zip(text.iter().rev()).take_while(|(a, b)| a == b).count();
    let best = (0..n).map(len).max().unwrap_or(0);
    (best, (1..n).filter(|e| len(*e) == best).collect())
}

#[test]
fn the_automaton_finds_what_naive_search_finds() {
    for seed in 0..300 {
        let text = random(1 + seed as usize % 90, 1 + seed % 5, seed);
        let mut suffixes = Suffixes::new(text.len());
        for n in 1..=text.len() {
            assert!(suffixes.push(text[n - 1]));
            let (len, ends) = naive_repeat(&text[..n]);
            match suffixes.longest() {
                None => assert_eq!(len, 0, "seed {seed}, {n} tokens"),
                Some(r) => {
                    assert_eq!((r.len, Some(&r.first)), (len, ends.first()), "seed {seed}, {n} tokens");
                    assert!(ends.contains(&r.latest), "seed {seed}, {n} tokens: {r:?} of {ends:?}");
                }
            }
        }
        assert!(!suffixes.push(0), "the text is full");
    }
}

#[test]
fn shorter_repeats_are_repeats_too() {
    for seed in 0..60 {
        let text = random(80, 3, seed);
        let mut suffixes = Suffixes::new(80);
        text.iter().for_each(|t| assert!(suffixes.push(*t)));
        let mut len = usize::MAX;
        for r in suffixes.repeats() {
            assert!(r.len < len, "falling lengths");
            len = r.len;
            for end in [r.first, r.latest] {
                assert!(end < 80 && text[end - len..end] == text[80 - len..], "seed {seed}: {r:?}");
            }
        }
    }
}

fn proposal(odds: &[f32]) -> Proposal {
    let mut p = Proposal::new(Source::History);
    odds.iter().for_each(|o| p.push(1, *o));
    p
}

#[test]
fn allotment_is_the_best_of_all() {
    for seed in 0..200u64 {
        let u = |i: u64| bits(seed, i, 1) as f32 / u64::MAX as f32;
        let mut costs = Costs::new();
        // Curves with steps.
        (0..6).for_each(|i| costs.observe(1 + (u(i) * 20.0) as usize, 512, (1e6 + u(i + 50) * 3e7) as u64));
        let drafts: Vec<Proposal> =
            (0..3).map(|s| proposal(&[0, 1, 2, 3].map(|i| u(100 + s * 4 + i).sqrt()))).collect();
        let refs: Vec<&Proposal> = drafts.iter().collect();
        let (base, rows_max) = (3 + (u(200) * 8.0) as usize, (u(201) * 14.0) as usize);
        let mut take = [9; 3];
        allot(&costs, base, 700, &refs, rows_max, &mut take);
        let rate = |take: &[usize; 3]| {
            let gain: f32 = take.iter().zip(&refs).map(|(n, p)| p.cumulative()[..*n].iter().sum::<f32>()).sum();
            (base as f32 + gain) / costs.ns(base + take.iter().sum::<usize>(), 700)
        };
        let all = (0..125).map(|i| [i % 5, i / 5 % 5, i / 25]).filter(|t| t.iter().sum::<usize>() <= rows_max);
        let best = all.map(|t| rate(&t)).fold(0.0, f32::max);
        assert!(take.iter().sum::<usize>() <= rows_max);
        assert!(rate(&take) >= best * 0.999_999, "seed {seed}: {take:?} gives {}, best is {best}", rate(&take));
    }
}

/// Decodes `answer` as a model that writes exactly this would; gives the steps, and checks what must hold always.
fn decode(drafter: &mut Drafter, prompt: &[TokenId], answer: &[TokenId], prediction: &[TokenId]) -> usize {
    let costs = Costs::new();
    drafter.start(prompt, prediction, &[]);
    let mut tokens = prompt.to_vec();
    let (mut done, mut steps) = (0, 0);
    while done < answer.len() {
        let p = drafter.propose(&tokens, None);
        assert!(p.tokens().len() <= DRAFT_MAX && p.odds().iter().all(|o| (0.0..=1.0).contains(o)));
        let mut take = [0];
        allot(&costs, 1, tokens.len(), &[p], DRAFT_MAX, &mut take);
        let accepted = p.tokens()[..take[0]].iter().zip(&answer[done..]).take_while(|(a, b)| a == b).count();
        drafter.verified(take[0], accepted, costs.price(1, take[0], tokens.len()));
        let came = (accepted + 1).min(answer.len() - done);
        tokens.extend(&answer[done..done + came]);
        drafter.grow(&tokens);
        done += came;
        steps += 1;
    }
    steps
}

/// Starts a sequence that may lose some: as after a draft of 20 tokens that were all right.
fn start(drafter: &mut Drafter, prompt: &[TokenId], prediction: &[TokenId], stops: &[TokenId]) {
    drafter.start(prompt, prediction, stops);
    drafter.verified(20, 20, 0.1);
}

#[test]
fn a_copy_takes_few_steps() {
    let file = fresh(1000, 1);
    let mut drafter = Drafter::new(4096);
    let steps = decode(&mut drafter, &[&[1, 2, 3], &file[..], &[4, 5]].concat(), &file, &[]);
    assert!(steps < 40, "{steps} steps from history");
    let steps = decode(&mut drafter, &[1, 2, 3], &file, &file);
    assert!(steps < 40, "{steps} steps from the prediction");
    let count = drafter.counts()[Source::Prediction as usize];
    assert!(count.accepted > 900 && count.offered < 1100, "{count:?}");
}

#[test]
fn copying_goes_on_after_edits() {
    let file = fresh(1200, 2);
    let new = fresh(40, 3);
    let edits: [(&str, Vec<TokenId>); 5] = [
        ("insertion", [&file[..600], &new[..7], &file[600..]].concat()),
        ("deletion", [&file[..600], &file[620..]].concat()),
        ("replacement of one", [&file[..600], &new[..1], &file[601..]].concat()),
        ("replacement, longer", [&file[..600], &new[..9], &file[604..]].concat()),
        ("two edits and a new end", [&file[..300], &new[..3], &file[300..700], &file[702..1100], &new[3..8]].concat()),
    ];
    for (name, answer) in &edits {
        for with_prediction in [false, true] {
            let prompt = [&[1, 2], &file[..], &[3]].concat();
            let prediction = if with_prediction { &file[..] } else { &[] };
            let steps = decode(&mut Drafter::new(4096), &prompt, answer, prediction);
            assert!(steps < 75, "{name}, prediction {with_prediction}: {steps} steps for {} tokens", answer.len());
        }
    }
}

#[test]
fn a_copy_prefers_the_neighbourhood_of_its_last_place() {
    // Three equal blocks with different ends: after an edit within the second, the copy goes on in the second.
    let (block, ends) = (fresh(40, 4), fresh(3, 5));
    let file = [&block[..], &ends[..1], &block, &ends[1..2], &block, &ends[2..], &fresh(50, 6)].concat();
    let mut drafter = Drafter::new(1024);
    start(&mut drafter, &[], &file, &[]);
    let mut tokens = vec![];
    for i in 0..70 {
        tokens.push(file[i]);
        if i == 60 {
            tokens.push(7);
        }
        drafter.propose(&tokens, None);
    }
    assert_eq!(drafter.proposal().tokens()[..12], file[70..82], "through the end of the second block");
}

#[test]
fn drafts_end_at_a_stop_token() {
    let file = fresh(50, 8);
    let mut drafter = Drafter::new(256);
    start(&mut drafter, &[&file[..], &[9], &file[..20]].concat(), &[], &[file[30]]);
    let p = drafter.propose(&[&file[..], &[9], &file[..20]].concat(), None);
    assert_eq!(p.tokens(), &file[20..31]);
}

#[test]
fn a_period_is_drafted_beyond_the_end_of_the_text() {
    let mut drafter = Drafter::new(256);
    let text = [8, 1, 2, 3, 1, 2, 3];
    start(&mut drafter, &text, &[], &[]);
    let p = drafter.propose(&text, None);
    assert_eq!(p.tokens()[..8], [1, 2, 3, 1, 2, 3, 1, 2]);
}

#[test]
fn a_draft_model_is_believed_as_far_as_it_was_right() {
    let mut drafter = Drafter::new(1024);
    start(&mut drafter, &[0], &[], &[]);
    let mut tokens = vec![0];
    let text = fresh(400, 40);
    let odds = |d: &mut Drafter| d.propose_model(&text[..4]).odds().to_vec();
    let before = odds(&mut drafter);
    // Its first two tokens are right, the third never.
    for three in text.chunks_exact(3) {
        drafter.propose(&tokens, None);
        drafter.propose_model(&[three[0], three[1], 5]);
        tokens.extend(three);
        drafter.grow(&tokens);
        drafter.verified(3, 2, 0.1);
    }
    let after = odds(&mut drafter);
    assert!(after[0] > 0.95 && after[1] > 0.95 && after[2] < 0.1 && after[3] == before[3], "{before:?} {after:?}");
    let count = drafter.counts()[Source::Model as usize];
    assert_eq!((count.offered, count.accepted), (399, 266));
}

#[test]
fn losses_are_bounded_whatever_happens() {
    // The worst text: it always begins to repeat, so that drafts look good, and then goes elsewhere.
    let costs = Costs::new();
    let mut drafter = Drafter::new(8192);
    drafter.start(&[0], &[], &[]);
    let mut tokens: Vec<TokenId> = vec![0];
    let (mut spent, mut plain) = (0.0, 0.0);
    for n in 0..3000u64 {
        let p = drafter.propose(&tokens, None);
        // Everything that is proposed is taken: the worst that a scheduler can do.
        let (taken, wrong) = (p.tokens().len(), p.tokens().first().copied().unwrap_or(0) ^ 1);
        let price = costs.price(1, taken, 512);
        drafter.verified(taken, 0, price);
        spent += costs.ns(1 + taken, 512);
        plain += costs.ns(1, 512);
        tokens.push(if bits(1, n, 0).is_multiple_of(4) { (n + 10) as TokenId } else { wrong });
        let lost = (spent - plain) / costs.ns(1, 512);
        assert!(lost <= 0.2 + 0.01 * (n + 1) as f32 + 0.05, "{lost} after {n} tokens");
    }
}

#[test]
fn sequences_draft_only_from_their_own_salt() {
    let file = fresh(100, 9);
    let mut pool = Pool::new(1000);
    pool.add(1, &file);
    let mut drafter = Drafter::new(256);
    for salt in [1, 2] {
        start(&mut drafter, &file[..20], &[], &[]);
        let p = drafter.propose(&file[..20], Some((&pool, salt)));
        let expect: &[TokenId] = if salt == 1 { &file[20..30] } else { &[] };
        assert_eq!(&p.tokens()[..expect.len().min(p.tokens().len())], expect, "salt {salt}");
        assert_eq!(p.tokens().is_empty(), salt == 2);
    }
}

#[test]
fn a_pool_keeps_the_newest_and_finds_what_naive_search_finds() {
    let mut pool = Pool::new(500);
    let mut kept: Vec<(u64, Vec<TokenId>)> = vec![];
    for n in 0..60u64 {
        let sequence = random(20 + n as usize * 7 % 60, 4, n);
        pool.add(n % 2, &sequence);
        kept.push((n % 2, sequence));
        while kept.iter().map(|k| k.1.len()).sum::<usize>() > 500 {
            kept.remove(0);
        }
        let ask = random(30, 4, 1000 + n);
        let Some(found) = pool.find(n % 2, &ask) else { continue };
        let after: Vec<TokenId> = pool.after(found).collect();
        let is_there = |s: &[TokenId]| {
            (found.len..s.len()).any(|e| s[e..] == after && s[e - found.len..e] == ask[ask.len() - found.len..])
        };
        assert!(kept.iter().any(|(salt, s)| *salt == n % 2 && is_there(s)), "{found:?}");
    }
    // What was pushed out is not found.
    let (old, new) = (fresh(100, 1), fresh(500, 2));
    let mut pool = Pool::new(500);
    pool.add(0, &old);
    assert!(pool.find(0, &old[..50]).is_some_and(|f| f.len == 50));
    pool.add(0, &new);
    assert_eq!(pool.find(0, &old[..50]), None);
    assert!(pool.find(0, &new[..400]).is_some_and(|f| pool.after(f).eq(new[400..].iter().copied())));
}

#[test]
fn costs_learn_the_machine_and_stay_monotone() {
    let mut costs = Costs::new();
    assert_eq!(costs.ns(1, 512), 10e6);
    assert!((costs.ns(8, 512) / 15.867e6 - 1.0).abs() < 1e-3, "a third of the way from 4 to 16 rows");
    // Three times as fast, and flat to 32 rows; one measurement in ten is far off.
    for n in 0..2000u64 {
        let rows = 1 + (bits(5, n, 0) % 128) as usize;
        let ns = 3e6 + 1e5 * rows.saturating_sub(32) as f32;
        costs.observe(rows, 512, if n % 10 == 9 { ns as u64 * 50 } else { ns as u64 });
    }
    for rows in [1, 8, 32, 64, 128] {
        let (ns, truth) = (costs.ns(rows, 512), 3e6 + 1e5 * rows.saturating_sub(32) as f32);
        assert!((0.75..1.35).contains(&(ns / truth)), "{rows} rows: {ns} for {truth}");
    }
    assert!((1..600).all(|r| costs.ns(r, 512) <= costs.ns(r + 1, 512)));
    assert!(costs.ns(4, 8192) > costs.ns(4, 512));
}

#[test]
fn hostile_text_and_odd_calls_do_no_harm() {
    // One token over and over, and Fibonacci words, are what quadratic indexes fear.
    let n = 60_000;
    let mut fibonacci = (vec![1], vec![1, 2]);
    while fibonacci.1.len() < n {
        let next = [&fibonacci.1[..], &fibonacci.0].concat();
        fibonacci = (fibonacci.1, next);
    }
    for text in [vec![7; n], fibonacci.1[..n].to_vec(), random(n, 2, 1)] {
        let mut suffixes = Suffixes::new(n);
        assert!(text.iter().all(|t| suffixes.push(*t)));
        assert!(suffixes.longest().is_some());
    }
    let mut drafter = Drafter::new(16);
    let long = fresh(100, 30);
    drafter.start(&long, &long, &long);
    drafter.grow(&long[..5]);
    drafter.propose(&[], None);
    drafter.propose(&long, None);
    drafter.verified(1000, 2000, f32::NAN);
    assert!(drafter.propose(&long, None).tokens().len() <= DRAFT_MAX);
    Drafter::new(0).propose(&[1], None);
    allot(&Costs::new(), 0, 0, &[], 10, &mut []);
}
