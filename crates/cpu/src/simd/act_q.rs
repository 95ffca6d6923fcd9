//! A step's activations as int8, with what the kernels need beside the integers: block scales, sums per weight group (for
//! biases) and sums times the zero point, negated (so that a dot product of unsigned codes starts where it must end up).

use super::Lanes;
use crate::mem::{Aligned, LANES};
use ops::OpsError;
use quant::{ACT_BLOCK, DType};

/// Zero points of 32-column groups, in the order they are stored.
const ZEROS_32: [i32; 3] = [8, 16, 128];
/// Zero points of 16-column groups.
const ZEROS_16: [i32; 2] = [4, 32];

/// Where a zero point's run starts, in groups of 32: those of 16-column groups are twice as long.
const fn run_of(zero: u8) -> usize {
    let mut i = 0;
    while i < ZEROS_32.len() {
        if ZEROS_32[i] == zero as i32 {
            return i;
        }
        i += 1;
    }
    if ZEROS_16[1] == zero as i32 { ZEROS_32.len() + 2 } else { ZEROS_32.len() }
}

/// Room for quantised rows of up to `width` columns.
pub struct ActQ {
    q: Aligned<i8>,
    scale: Aligned<f32>,
    sums: Aligned<f32>,
    negs: Aligned<i32>,
    width: usize,
}

/// Where one quantised row is, or goes.
#[derive(Clone, Copy)]
pub struct RowQ {
    /// `[cols]`, readable to the next multiple of 64.
    pub q: *mut i8,
    /// `[cols / ACT_BLOCK]`, rounded up.
    pub scale: *mut f32,
    /// Sums of 32 columns, then (at `g32`) of 16.
    pub sums: *mut f32,
    /// Negated sums times zero points, one run per zero point.
    pub negs: *mut i32,
    /// Groups of 32 that there is room for; twice as many of 16.
    pub g32: usize,
}

// SAFETY: a `RowQ` names one row's memory; the backend gives each row to one item of a job, and readers only after it.
unsafe impl Sync for RowQ {}
// SAFETY: as above.
unsafe impl Send for RowQ {}

impl RowQ {
    /// Sums for groups of 16 or 32 columns.
    #[inline(always)]
    pub fn sums_of(&self, group_len: usize) -> *mut f32 {
        self.sums.wrapping_add(if group_len == 32 { 0 } else { self.g32 })
    }
    /// Negated sums for a zero point (any pointer for zero point 0).
    #[inline(always)]
    pub fn negs_of<const ZERO: u8>(&self) -> *mut i32 {
        self.negs.wrapping_add(const { run_of(ZERO) } * self.g32)
    }
    /// Stores the sums of `count` groups of 32 columns from `g` on (`both`), at most sixteen, and of the twice as many of 16
    /// that they are made of, as far as they are needed.
    ///
    /// # Safety
    /// As `Lanes`; `g + count <= self.g32`, and nobody else reads or writes this row.
    #[inline(always)]
    pub unsafe fn put_sums<L: Lanes>(&self, g: usize, count: usize, need: Need, both: L::I, halves: [L::I; 2]) {
        debug_assert!(g + count <= self.g32 && count <= LANES);
        let (first, second) = ((2 * count).min(LANES), (2 * count).saturating_sub(LANES));
        let runs16 = ZEROS_32.len() * self.g32;
        // SAFETY: the groups are within the row's g32 (asserted), and the runs are laid out one after the other in the row.
        unsafe {
            if need.biases {
                let sums = self.sums.add(self.g32 + 2 * g);
                put::<L>(self.sums.add(g), count, L::to_f(both));
                put::<L>(sums, first, L::to_f(halves[0]));
                put::<L>(sums.add(first), second, L::to_f(halves[1]));
            }
            for i in 0..ZEROS_32.len() {
                if need.zeros_32[i] {
                    let minus = L::splat_i(-ZEROS_32[i]);
                    put_i::<L>(self.negs.add(i * self.g32 + g), count, L::mul_i(both, minus));
                }
            }
            for i in 0..ZEROS_16.len() {
                if need.zeros_16[i] {
                    let (minus, negs) = (L::splat_i(-ZEROS_16[i]), self.negs.add(runs16 + 2 * (i * self.g32 + g)));
                    put_i::<L>(negs, first, L::mul_i(halves[0], minus));
                    put_i::<L>(negs.add(first), second, L::mul_i(halves[1], minus));
                }
            }
        }
    }
}

/// Stores the first `count` lanes.
///
/// # Safety
/// As `Lanes`; so many are writable at `to`.
#[inline(always)]
unsafe fn put<L: Lanes>(to: *mut f32, count: usize, x: L::F) {
    // SAFETY: the caller's promise.
    unsafe {
        if count == LANES {
            return L::store(to, x);
        }
        let mut lanes = [0f32; LANES];
        L::store(lanes.as_mut_ptr(), x);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
    }
}

/// Stores the first `count` lanes.
///
/// # Safety
/// As `Lanes`; so many are writable at `to`.
#[inline(always)]
unsafe fn put_i<L: Lanes>(to: *mut i32, count: usize, x: L::I) {
    // SAFETY: the caller's promise.
    unsafe {
        if count == LANES {
            return L::store_bytes(to.cast(), x);
        }
        let mut lanes = [0i32; LANES];
        L::store_bytes(lanes.as_mut_ptr().cast(), x);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
    }
}

/// Which sums the matrices that will read the rows ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need {
    biases: bool,
    zeros_32: [bool; ZEROS_32.len()],
    zeros_16: [bool; ZEROS_16.len()],
}

impl Need {
    /// Whether any sum is needed.
    pub fn any(self) -> bool {
        self.biases || self.zeros_32.contains(&true) || self.zeros_16.contains(&true)
    }

    /// Adds what weights of this type need.
    pub fn and(mut self, dtype: DType) -> Self {
        let Some(shape) = quant::shape(dtype) else { return self };
        self.biases |= shape.has_bias;
        let zero = i32::from(shape.zero);
        self.zeros_32.iter_mut().zip(ZEROS_32).for_each(|(n, z)| *n |= z == zero);
        self.zeros_16.iter_mut().zip(ZEROS_16).for_each(|(n, z)| *n |= z == zero);
        self
    }
}

impl ActQ {
    /// Zeroed room for `rows` rows.
    pub fn new(rows: usize, width: usize) -> Result<Self, OpsError> {
        let width = width.next_multiple_of(ACT_BLOCK);
        let (g32, what) = (width / 32, "quantised activations");
        Ok(Self {
            q: Aligned::zeroed(rows * width, what)?,
            scale: Aligned::zeroed(rows * (width / ACT_BLOCK), what)?,
            sums: Aligned::zeroed(rows * 3 * g32, what)?,
            negs: Aligned::zeroed(rows * 7 * g32, what)?,
            width,
        })
    }

    /// The place of row `i`. Panics when there is no such row.
    pub fn row(&mut self, i: usize) -> RowQ {
        let (w, g32) = (self.width, self.width / 32);
        RowQ {
            q: self.q[i * w..(i + 1) * w].as_mut_ptr(),
            scale: self.scale[i * (w / ACT_BLOCK)..(i + 1) * (w / ACT_BLOCK)].as_mut_ptr(),
            sums: self.sums[i * 3 * g32..(i + 1) * 3 * g32].as_mut_ptr(),
            negs: self.negs[i * 7 * g32..(i + 1) * 7 * g32].as_mut_ptr(),
            g32,
        }
    }
}
