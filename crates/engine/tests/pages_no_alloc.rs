//! Pages do not allocate after `new`: a counting allocator watches whole lives of sequences, with eviction, copies, saving
//! and clearing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use engine::pages::{Lease, Pages};
use ops::PAGE_LEN;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;

struct Counting;

thread_local! {
    /// Of this thread alone: the test runner's own thread allocates now and then.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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

#[test]
fn lives_of_sequences_allocate_nothing() {
    let (mut pages, mut table) = (Pages::new(50), [0; 20]);
    let mut tokens = Vec::with_capacity(20 * PAGE_LEN);
    let (mut n_hit, mut n_copies, mut n_walked) = (0, 0, 0);
    let before = ALLOCATIONS.get();
    for life in 0..2000 {
        // Prompts of two kinds that differ in length, with a tail of their own.
        tokens.clear();
        let n = 1 + base::rng::bits(life, 0, 0) as usize % (20 * PAGE_LEN);
        tokens.extend((0..n as u64).map(|i| (life % 2 + i + if i > 900 { life } else { 0 }) as u32));
        let mut lease = Lease::default();
        assert!(pages.peek(life % 2, &tokens).n_cached < n);
        let hit = pages.start(life % 2, &tokens, &mut table, &mut lease);
        (n_hit, n_copies) = (n_hit + hit.n_cached, n_copies + usize::from(hit.copy.is_some()));
        let n_table = n.div_ceil(PAGE_LEN);
        table[hit.n_cached.div_ceil(PAGE_LEN)..n_table].fill_with(|| pages.take().unwrap());
        pages.publish(&mut lease, &tokens, n / 2, &mut table[..n_table]);
        pages.end(&mut lease, &tokens, n - n % 3, &mut table[..n_table]);
        if life % 100 == 0 {
            pages.walk(|_| {
                n_walked += 1;
                ControlFlow::Continue(())
            });
        }
        if life % 500 == 499 {
            pages.clear();
            let root = pages.adopt(None, 9, &tokens[..PAGE_LEN.min(n)]);
            assert!(root.is_some_and(|a| a.page.is_some()));
        }
    }
    assert_eq!(ALLOCATIONS.get(), before, "allocations");
    assert!(n_hit > 100_000 && n_copies > 500 && n_walked > 500, "{n_hit} {n_copies} {n_walked}");
    pages.check([]).unwrap();
}
