//! Worker threads that cost microseconds per call: spin for the next job, park only when none comes.
//! A job is a loop over items; threads take runs of items from one counter, so a slow core does less.
//! Items write disjoint outputs (`Out`), and no answer depends on who computed it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Turns of the spin loop before a worker parks: about 100 microseconds.
const SPINS: u32 = 20_000;
const OPEN: u64 = 1 << 31;
const ACTIVE: u64 = OPEN - 1;

/// `f(item, thread)`.
type Job = dyn Fn(usize, usize) + Sync;

struct Shared {
    /// Epoch in the upper half, then whether the job is open, then the number of workers inside it.
    gate: AtomicU64,
    /// The open job. Written by `run` while nobody is inside, read only by workers inside.
    job: std::cell::UnsafeCell<Option<(*const Job, usize, usize)>>,
    next: AtomicUsize,
    sleepers: AtomicUsize,
    stop: AtomicBool,
    failed: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `job` is the only part that is not Sync; the gate orders every access to it (see `run` and `enter`).
unsafe impl Sync for Shared {}
// SAFETY: the raw pointer in `job` is only followed between opening and closing of the gate, while `run` keeps it alive.
unsafe impl Send for Shared {}

/// A fixed set of threads; the calling thread is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<std::thread::JoinHandle<()>>,
}

impl Pool {
    /// `threads` in all, at least one. Threads that cannot be started are done without. Returns when all of them run:
    /// a thread allocates while it starts, and that must not fall into a step.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            job: std::cell::UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let (starting, all_started) = std::sync::mpsc::channel::<()>();
        let spawn = |i: usize| {
            let (shared, starting) = (Arc::clone(&shared), starting.clone());
            let body = move || {
                drop(starting);
                worker(&shared, i);
            };
            std::thread::Builder::new().name(format!("vonk-worker-{i}")).spawn(body).ok()
        };
        let workers = (1..threads.clamp(1, base::limits::THREADS_MAX)).filter_map(spawn).collect();
        drop(starting);
        // An error is the good case: nobody ever sends, and the last sender is gone.
        let _ = all_started.recv();
        Self { shared, workers }
    }

    /// Threads that take part, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(i, thread)` once for every `i < n`, `grain` neighbours at a time, and returns when all are done.
    /// `thread < self.threads()` names the calling thread, for scratch memory.
    /// Takes `&mut self` so that two jobs cannot run at once.
    pub fn run(&mut self, n: usize, grain: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        let grain = grain.max(1);
        if n == 0 {
            return;
        }
        if self.workers.is_empty() || n <= grain {
            (0..n).for_each(|i| f(i, 0));
            return;
        }
        let s = &*self.shared;
        let job: *const (dyn Fn(usize, usize) + Sync + '_) = f;
        // SAFETY: only the lifetime is changed; the gate is closed and empty again before `run` returns, so nobody follows it later.
        let job: *const Job = unsafe { std::mem::transmute(job) };
        // SAFETY: the gate is closed and nobody is inside (end of the last `run`), so no worker reads the cell now.
        unsafe { *s.job.get() = Some((job, n, grain)) };
        s.next.store(0, Ordering::Relaxed);
        let epoch = (s.gate.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        s.gate.store((epoch << 32) | OPEN, Ordering::SeqCst);
        if s.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = s.lock.lock().unwrap_or_else(PoisonError::into_inner);
            s.wake.notify_all();
        }
        let closing = Closing(s);
        take(s, f, n, grain, 0);
        drop(closing);
        assert!(!s.failed.load(Ordering::Relaxed), "a worker thread panicked in an earlier step");
    }
}

/// Closes the gate and waits for the workers inside, also when the caller's own share panics.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while self.0.gate.load(Ordering::Acquire) & ACTIVE != 0 {
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(SPINS) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }
}

fn take(s: &Shared, f: &(dyn Fn(usize, usize) + Sync), n: usize, grain: usize, thread: usize) {
    loop {
        let start = s.next.fetch_add(grain, Ordering::Relaxed);
        if start >= n {
            return;
        }
        (start..(start + grain).min(n)).for_each(|i| f(i, thread));
    }
}

/// Leaves the job, also when it panics; then the pool is marked as failed.
struct Inside<'a>(&'a Shared);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
        }
        self.0.gate.fetch_sub(1, Ordering::AcqRel);
    }
}

fn worker(s: &Shared, thread: usize) {
    let mut seen = 0u64;
    let mut spins = 0u32;
    while !s.stop.load(Ordering::Relaxed) {
        let gate = s.gate.load(Ordering::Acquire);
        if gate & OPEN != 0 && gate >> 32 != seen {
            if s.gate.compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                seen = gate >> 32;
                spins = 0;
                let _inside = Inside(s);
                // SAFETY: we are counted inside an open gate, so `run` wrote the cell before and waits for us to leave.
                let Some((job, n, grain)) = (unsafe { *s.job.get() }) else { continue };
                // SAFETY: the closure outlives `run`, and `run` waits until we left.
                take(s, unsafe { &*job }, n, grain, thread);
            }
            continue;
        }
        spins += 1;
        if spins < SPINS {
            std::hint::spin_loop();
            continue;
        }
        park(s, seen);
        spins = 0;
    }
}

fn park(s: &Shared, seen: u64) {
    let mut guard = s.lock.lock().unwrap_or_else(PoisonError::into_inner);
    s.sleepers.fetch_add(1, Ordering::SeqCst);
    loop {
        let gate = s.gate.load(Ordering::SeqCst);
        if (gate & OPEN != 0 && gate >> 32 != seen) || s.stop.load(Ordering::SeqCst) {
            break;
        }
        guard = s.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    s.sleepers.fetch_sub(1, Ordering::SeqCst);
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _guard = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for w in self.workers.drain(..) {
            let _ = w.join();
        }
    }
}

/// A slice that several items of one job write to, each to its own part.
#[derive(Clone, Copy)]
pub struct Out<'a, T> {
    ptr: *mut T,
    len: usize,
    life: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: `Out` hands out parts only through `part`, whose caller promises that parts in use at once do not overlap.
unsafe impl<T: Send> Sync for Out<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Out<'_, T> {}

impl<'a, T> Out<'a, T> {
    /// Borrows the slice for the length of a job.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { ptr: slice.as_mut_ptr(), len: slice.len(), life: std::marker::PhantomData }
    }

    /// Where element `at` is; panics when there is none. Following the pointer is the caller's matter, under `part`'s promise.
    pub fn at(&self, at: usize) -> *mut T {
        assert!(at < self.len);
        self.ptr.wrapping_add(at)
    }

    /// The part `at..at + len`; panics when that is not inside.
    ///
    /// # Safety
    /// No two parts that live at the same time overlap: every item of a job takes parts that only its index names.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, at: usize, len: usize) -> &mut [T] {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: in bounds by the assertion; unshared by the caller's promise; alive for 'a by construction.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(at), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_runs_exactly_once_at_every_thread_count_and_grain() {
        for threads in [1, 2, 3, 5] {
            let mut pool = Pool::new(threads);
            for round in 0..2000 {
                let n = round % 97;
                let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                pool.run(n, round % 7, &|i, _| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn parked_workers_wake_up_again() {
        let mut pool = Pool::new(3);
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let hits = AtomicUsize::new(0);
            pool.run(1000, 1, &|_, _| {
                hits.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(hits.load(Ordering::Relaxed), 1000);
        }
    }

    #[test]
    fn a_panicking_item_is_not_lost_and_does_not_hang() {
        let mut pool = Pool::new(2);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..100 {
                pool.run(64, 1, &|i, _| assert!(i != 63, "planted"));
            }
        }));
        assert!(caught.is_err());
    }
}
