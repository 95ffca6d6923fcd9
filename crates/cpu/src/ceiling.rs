//! What this machine can do at best, measured with the same lanes as the kernels: bytes read from memory, int8 and f32
//! operations. Figures of speed are printed beside these. Timing is the caller's; here is only the work.

use crate::dispatch::{self, Isa};
use crate::mem::Aligned;
use crate::pool::Pool;
use crate::simd::Kernels;

/// Work to be timed.
pub struct Ceiling {
    kernels: &'static Kernels,
    pool: Pool,
    memory: Aligned<u8>,
}

/// Bytes one thread reads per item.
const READ_ITEM: usize = 1 << 20;

impl Ceiling {
    /// Memory of `bytes` bytes to read, far more than the caches hold. `None` when the machine has no known instruction set.
    pub fn new(isa: Option<Isa>, threads: usize, bytes: usize) -> Option<Self> {
        let kernels = dispatch::kernels(isa.or_else(dispatch::best)?)?;
        let mut memory = Aligned::zeroed(bytes.next_multiple_of(READ_ITEM), "the memory test").ok()?;
        memory.chunks_mut(4096).for_each(|page| page[0] = 1);
        Some(Self { kernels, pool: Pool::new(threads), memory })
    }

    /// Threads that take part.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Reads all the memory once; returns the bytes read. Each thread reads one run of it.
    pub fn read(&mut self) -> u64 {
        let Self { kernels, pool, memory } = self;
        let items = memory.len() / READ_ITEM;
        pool.run(items, items.div_ceil(pool.threads()), &|i, _| {
            // SAFETY: the kernel's features were checked when the table was chosen.
            std::hint::black_box(unsafe { (kernels.read)(&memory[i * READ_ITEM..(i + 1) * READ_ITEM]) });
        });
        memory.len() as u64
    }

    /// int8 multiply-adds in registers; returns operations done (a multiply and an add count as two).
    pub fn int8(&mut self) -> u64 {
        self.spin(true)
    }

    /// f32 fused multiply-adds in registers; returns operations done.
    pub fn f32(&mut self) -> u64 {
        self.spin(false)
    }

    fn spin(&mut self, int8: bool) -> u64 {
        const TURNS: usize = 200_000;
        let Self { kernels, pool, .. } = self;
        let threads = pool.threads();
        pool.run(threads, 1, &|_, _| {
            // SAFETY: the kernel's features were checked when the table was chosen.
            std::hint::black_box(unsafe { (if int8 { kernels.spin_int8 } else { kernels.spin_f32 })(TURNS) });
        });
        // Ten chains of sixteen lanes; an int8 lane does four multiply-adds.
        (threads * TURNS * 10 * 16 * 2 * if int8 { 4 } else { 1 }) as u64
    }
}
