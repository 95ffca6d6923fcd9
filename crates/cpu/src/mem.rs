//! Buffers whose first element starts a cache line, and the activation matrix built on one. Large ones ask for huge pages:
//! streaming weights through 4 KiB pages spends a tenth of the time on address translation.

use ops::OpsError;

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;

/// Bytes of a huge page on x86-64 and on most arm64 systems.
const HUGE: usize = 2 << 20;

/// A zeroed vector whose data starts on a 64-byte line, or on a huge page if it is large.
pub struct Aligned<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// `len` zeros, or an error that says what they were for.
    pub fn zeroed(len: usize, what: &str) -> Result<Self, OpsError> {
        let is_large = len.saturating_mul(size_of::<T>()) >= HUGE;
        let align = if is_large { HUGE } else { LINE };
        let pad = align / size_of::<T>();
        let fail =
            || OpsError::Memory { what: what.to_string(), bytes: (len as u64).saturating_mul(size_of::<T>() as u64) };
        let total = len.checked_add(pad).ok_or_else(fail)?;
        // Ask first: a refused `vec!` would abort the process.
        Vec::<T>::new().try_reserve_exact(total).map_err(|_| fail())?;
        let data = vec![T::default(); total];
        let start = data.as_ptr().align_offset(align).min(pad);
        let out = Self { data, start, len };
        if is_large {
            advise_huge(&out);
        }
        Ok(out)
    }
}

/// Asks the system to back these pages, which nobody touched yet, with huge ones. It may decline; nothing depends on it.
fn advise_huge<T>(data: &[T]) {
    #[cfg(target_os = "linux")]
    // SAFETY: the range is ours and stays mapped; the advice changes how it is backed, never what it holds.
    unsafe {
        libc::madvise(data.as_ptr().cast_mut().cast(), size_of_val(data), libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = data;
}

impl<T> std::ops::Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.data[self.start..self.start + self.len]
    }
}

impl<T> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..self.start + self.len]
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
