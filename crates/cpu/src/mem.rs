//! Buffers whose first element starts a cache line, the arena that weights lie in, and the activation matrix. Large memory
//! asks for huge pages: streaming weights through 4 KiB pages spends a tenth of the time on address translation.

use ops::OpsError;
use std::marker::PhantomData;
use std::sync::Arc;

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;

/// Bytes of a huge page on x86-64 and on most arm64 systems.
#[cfg(any(unix, test))]
const HUGE: usize = 2 << 20;

/// From so many bytes on a buffer takes its own pages from the system, so that what is never touched of it costs no memory.
#[cfg(unix)]
const PAGES_MIN: usize = 128 << 10;

/// Bytes of an arena's slab. What is never touched of it costs no memory, only addresses.
const SLAB: usize = 64 << 20;

/// One line of memory.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "bytes that buffers lie in")] [u8; LINE]);

/// Fresh pages of the system: zeros that become real when they are touched.
#[cfg(unix)]
struct Pages {
    start: *mut u8,
    bytes: usize,
}

#[cfg(unix)]
impl Pages {
    fn new(bytes: usize, huge: bool) -> Option<Self> {
        #[cfg(not(target_os = "linux"))]
        let _ = huge;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
        // SAFETY: a new private map of no file, wherever the system finds room: no memory in use is touched.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        // Huge pages are a wish: the system may decline, and nothing depends on it.
        #[cfg(target_os = "linux")]
        if huge {
            // SAFETY: the range was just mapped; the advice changes how it is backed, never what it holds.
            unsafe { libc::madvise(start, bytes, libc::MADV_HUGEPAGE) };
        }
        Some(Self { start: start.cast(), bytes })
    }
}

#[cfg(unix)]
impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this; its buffers hold the slab that holds it, so none of them is left.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// Who owns the bytes of a slab. Neither moves them.
enum Memory {
    #[cfg(unix)]
    Pages(#[expect(dead_code, reason = "held for its bytes")] Pages),
    Lines(#[expect(dead_code, reason = "held for its bytes")] Vec<Line>),
}

/// Zeroed memory that buffers lie in; it goes when the last of them goes.
struct Slab {
    /// On a line, or on a huge page if the slab is large.
    start: *mut u8,
    bytes: usize,
    _memory: Memory,
}

// SAFETY: the pointer leads to plain memory that the slab owns; `Aligned` parts it so that no byte has two owners.
unsafe impl Send for Slab {}
// SAFETY: as above; the slab itself never reads or writes its bytes.
unsafe impl Sync for Slab {}

impl Slab {
    fn new(bytes: usize) -> Option<Self> {
        #[cfg(unix)]
        if bytes >= PAGES_MIN {
            let (huge, room) = (bytes >= HUGE, if bytes >= HUGE { HUGE } else { 0 });
            let pages = Pages::new(bytes.checked_add(room)?, huge)?;
            let start = pages.start.wrapping_add(pages.start.align_offset(HUGE).min(room));
            return Some(Self { start, bytes, _memory: Memory::Pages(pages) });
        }
        let n = bytes.div_ceil(LINE);
        let mut lines = Vec::new();
        // Ask first: a refused `vec!` would abort the process.
        lines.try_reserve_exact(n).ok()?;
        lines.resize(n, Line([0; LINE]));
        Some(Self { start: lines.as_mut_ptr().cast(), bytes, _memory: Memory::Lines(lines) })
    }
}

mod plain {
    /// Numbers for which every pattern of bits, so also zero, is a value.
    ///
    /// # Safety
    /// It must be so, and they need no finer alignment than a line.
    pub unsafe trait Plain: Copy {}
    macro_rules! plain {
        ($($t:ty)*) => {$(
            // SAFETY: integers and floats take every pattern of bits.
            unsafe impl Plain for $t {}
        )*};
    }
    plain!(u8 i8 u16 u32 i32 f32);
}
use plain::Plain;

/// A zeroed array whose data starts on a 64-byte line, or on a huge page if it is large and lies alone.
pub struct Aligned<T> {
    start: *mut T,
    len: usize,
    _slab: Arc<Slab>,
    _owned: PhantomData<T>,
}

// SAFETY: it owns its part of the slab as a vector owns its elements.
unsafe impl<T: Send> Send for Aligned<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Aligned<T> {}

impl<T: Plain> Aligned<T> {
    /// `len` zeros in memory of their own, or an error that says what they were for.
    pub fn zeroed(len: usize, what: &str) -> Result<Self, OpsError> {
        let bytes = len.saturating_mul(size_of::<T>());
        let slab = Slab::new(bytes).ok_or_else(|| no_memory(what, bytes))?;
        Ok(Self::part(Arc::new(slab), 0, len))
    }

    /// Elements at byte `at` of a slab. Whoever calls keeps the parts of a slab apart.
    fn part(slab: Arc<Slab>, at: usize, len: usize) -> Self {
        assert!(at.is_multiple_of(LINE) && at <= slab.bytes && len <= (slab.bytes - at) / size_of::<T>());
        Self { start: slab.start.wrapping_add(at).cast(), len, _slab: slab, _owned: PhantomData }
    }
}

fn no_memory(what: &str, bytes: usize) -> OpsError {
    OpsError::Memory { what: what.to_string(), bytes: bytes as u64 }
}

impl<T> std::ops::Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `part` checked that the elements lie in the slab, which lives as long as this; they were zeros, which are
        // values of every `Plain`; nobody else has them.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

/// Where weights lie: one behind the other in large slabs. Small matrices get onto huge pages so, and none is rounded up to
/// whole ones.
#[derive(Default)]
pub struct Arena {
    slab: Option<Arc<Slab>>,
    used: usize,
}

impl Arena {
    /// As `Aligned::zeroed`.
    pub fn zeroed<T: Plain>(&mut self, len: usize, what: &str) -> Result<Aligned<T>, OpsError> {
        let bytes = len.saturating_mul(size_of::<T>());
        // The rest of the open slab would be left unused for these.
        if bytes > SLAB / 2 {
            return Aligned::zeroed(len, what);
        }
        let open = self.slab.take().filter(|slab| bytes <= slab.bytes - self.used);
        let slab = match open {
            Some(slab) => slab,
            None => {
                self.used = 0;
                Arc::new(Slab::new(SLAB).ok_or_else(|| no_memory(what, bytes))?)
            }
        };
        let part = Aligned::part(Arc::clone(&slab), self.used, len);
        self.used = (self.used + bytes).next_multiple_of(LINE).min(slab.bytes);
        self.slab = Some(slab);
        Ok(part)
    }
}

/// Lanes of one packed weight group; widths are padded to it.
pub const LANES: usize = 16;

/// Outputs of one item of a multiplication: two groups.
pub const ITEM: usize = 2 * LANES;

/// Activations `[rows, width]` in f32; each row is padded to a whole number of lanes, so that kernels store full registers.
pub struct Act {
    data: Aligned<f32>,
    /// Rows there is room for.
    pub rows: usize,
    /// Columns in use.
    pub width: usize,
    /// Columns from one row to the next.
    pub stride: usize,
}

impl Act {
    /// Zeroed room.
    pub fn new(rows: usize, width: usize) -> Result<Self, OpsError> {
        let stride = width.next_multiple_of(LANES);
        let len = rows.checked_mul(stride).unwrap_or(usize::MAX / 8);
        Ok(Self { data: Aligned::zeroed(len, "activations")?, rows, width, stride })
    }
    /// `[width]`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.stride..i * self.stride + self.width]
    }
    /// `[width]`.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.stride..i * self.stride + self.width]
    }
    /// All rows with their padding.
    pub fn all_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
    /// All rows with their padding.
    pub fn all(&self) -> &[f32] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn buffers_are_zeroed_aligned_and_apart() {
        let mut arena = Arena::default();
        let lens = [1, 63, 64, 65, 0, HUGE, SLAB / 2, SLAB / 2, SLAB / 2 + 1, SLAB + 1, 7];
        let mut all: Vec<_> = lens.iter().map(|len| arena.zeroed::<u8>(*len, "t").unwrap()).collect();
        all.push(Aligned::zeroed(5, "t").unwrap());
        for (i, a) in all.iter_mut().enumerate() {
            assert!(a.as_ptr().addr().is_multiple_of(LINE));
            let ends = [a.first().copied(), a.last().copied()];
            assert!(ends.iter().flatten().all(|b| *b == 0), "buffer {i} shares bytes with another");
            let n = a.len();
            a[..n.min(LINE)].fill(1);
            a[n.saturating_sub(LINE)..].fill(1);
        }
        assert_eq!(all.iter().zip(lens).filter(|(a, len)| a.len() != *len).count(), 0);
    }

    #[test]
    fn a_buffer_outlives_its_arena_and_its_neighbours() {
        let mut arena = Arena::default();
        let (gone, mut kept) = (arena.zeroed::<f32>(99, "t").unwrap(), arena.zeroed::<f32>(99, "t").unwrap());
        drop((gone, arena));
        kept[98] = 1.0;
        assert_eq!(kept.iter().sum::<f32>(), 1.0);
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        assert!(matches!(Aligned::<f32>::zeroed(usize::MAX, "t"), Err(OpsError::Memory { .. })));
        assert!(matches!(Arena::default().zeroed::<f32>(usize::MAX / 4, "t"), Err(OpsError::Memory { .. })));
    }
}
