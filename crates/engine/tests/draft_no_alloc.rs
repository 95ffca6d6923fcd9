//! Invariant 2 for drafts: no door of theirs allocates after `new`. A test of its own, because the counter sees the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use base::TokenId;
use base::rng::bits;
use engine::draft::{Costs, Drafter, Pool, Suffixes, allot};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tokens that repeat nothing.
fn fresh(n: usize, seed: u64) -> Vec<TokenId> {
    (0..n as u64).map(|i| (bits(seed, i, 7) % 1_000_000_007) as TokenId).collect()
}

#[test]
fn nothing_is_allocated_after_new() {
    let file = fresh(2000, 20);
    let prompt = [&[1, 2], &file[..], &[3]].concat();
    let answer = [&file[..700], &fresh(20, 21), &file[720..]].concat();
    let (mut drafter, mut pool, mut costs) = (Drafter::new(5000), Pool::new(3000), Costs::new());
    let mut tokens = Vec::with_capacity(5000);
    let mut suffixes = Suffixes::new(20_000);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for round in 0..3 {
        let prediction = if round == 1 { &file[..] } else { &[] };
        drafter.start(&prompt, prediction, &[3]);
        tokens.clear();
        tokens.extend_from_slice(&prompt);
        for token in &answer {
            let mut take = [0];
            allot(&costs, 1, tokens.len(), &[drafter.propose(&tokens, Some((&pool, 1)))], 64, &mut take);
            drafter.verified(take[0], 0, 0.001);
            costs.observe(1 + take[0], tokens.len(), 12_000_000);
            tokens.push(*token);
            drafter.grow(&tokens);
        }
        drafter.propose_model(&answer[..20]);
        pool.add(1, &tokens);
    }
    // What quadratic or growing indexes fear: one token over and over, and few tokens at random.
    for n_tokens in [1, 2] {
        let mut tokens = (0..20_000u64).map(|i| (bits(1, i, 0) % n_tokens) as TokenId);
        suffixes.clear();
        assert!(tokens.all(|t| suffixes.push(t)));
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}
