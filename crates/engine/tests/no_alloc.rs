//! Invariant 2: after "ready" the engine does not allocate. A counting allocator watches ten thousand decode steps and the
//! prefill chunks between them, with drafts, prefix hits and preemption. Without the test harness: its thread allocates, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use base::RequestId;
use cpu::Cpu;
use engine::{Config, Effect, Engine, Event, Request, Sampling, Stepper};
use formats::ModelDesc;
use model::Model;
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

fn main() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny-qwen2.gguf");
    let bytes = std::fs::read(path).unwrap();
    let desc = ModelDesc::from_gguf(&bytes).unwrap();
    let mut backend = Cpu::new(None, 2).unwrap();
    let model = Model::load(&mut backend, &desc, &[&bytes], |_, _| {}).unwrap();
    let config = Config { n_ctx: 400, n_slots: 3, step_rows: 32, n_pages: Some(14), ..Config::default() };
    let mut engine = Engine::of_model(backend, model, &config).unwrap();
    let request = |id: u64| {
        Box::new(Request {
            sampling: Sampling { temperature: (id % 2) as f32, repeat_penalty: 1.1, seed: id, ..Sampling::default() },
            logit_bias: vec![(3, 0.5)],
            ..Request::new(RequestId(id), (0..1 + id as u32 * 37 % 90).collect(), 200)
        })
    };
    let (mut events, mut effects) = (Vec::with_capacity(8), Vec::with_capacity(64));
    let (mut next, mut tokens, mut inside) = (0, 0, 0);
    while tokens < 10_000 {
        // New requests are made outside of the watched part: they are the caller's memory.
        while engine.load().running + engine.load().queued + events.len() < 5 {
            events.push(Event::Submit(request(next)));
            next += 1;
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        engine.step(&mut events, &mut effects);
        inside += ALLOCATIONS.load(Ordering::Relaxed) - before;
        tokens += effects.iter().filter(|e| matches!(e, Effect::Token { .. })).count();
        effects.clear();
    }
    assert_eq!(inside, 0, "allocations inside of steps");
    assert!(next > 20, "requests came and went");
    println!("{tokens} tokens, no allocation");
}
