//! The fast backend: kernels written once over `Lanes`, compiled per instruction set, chosen once at start.
//! Where the time goes: `gemm` (weights), then `attend` at depth.

mod act_q;
mod attend;
mod backend;
mod elem;
mod gemm;
mod kv;
mod lanes;
mod tile;

pub use act_q::{ActQ, Need, RowQ};
pub use attend::Attend;
pub use backend::Cpu;
pub use gemm::Gemm;
pub use kv::Kv;
pub use lanes::Lanes;

/// One instruction set's kernels.
pub struct Kernels {
    /// For people and the fingerprint.
    pub name: &'static str,
    /// Most query vectors that attend to f16 directly.
    pub attend_vectors: usize,
    /// One or two groups of weight rows times all rows of activations.
    pub gemm: unsafe fn(&Gemm<'_>, &mut [u8]),
    /// Quantises one row.
    pub quantise: unsafe fn(&[f32], &RowQ, Need),
    /// `(x, weight, eps, out)`, all padded to whole lanes with zeros; the length in use comes last.
    pub rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32], usize),
    /// `gate[i] = silu(gate[i]) * up[i]`, whole lanes.
    pub swiglu: unsafe fn(&mut [f32], &[f32]),
    /// `(heads, d_head, angles, interleaved)`: rotates every head of one row.
    pub rope: unsafe fn(&mut [f32], usize, &[f32], bool),
    /// One chunk-run of attention.
    pub attend: unsafe fn(&Attend<'_>, &mut [f32]),
    /// `(partial, d_pad, max, sum, out)`: folds a chunk's answer into a partial.
    pub merge: unsafe fn(&mut [f32], usize, f32, f32, &[f32]),
    /// Stores one position of a head: `(where, what, whether it is a key)`.
    pub kv_put: unsafe fn(&mut kv::Slot<'_>, &[f32], bool),
    /// `(outs, first column, columns in use, best, ids)`: folds an item's outputs into each row's running best.
    pub fold_best: unsafe fn(&mut [f32], u32, usize, &mut [f32], &mut [u32]),
    /// Reads memory, for the ceiling.
    pub read: unsafe fn(&[u8]) -> u8,
    /// Integer dot products in registers, for the ceiling.
    pub spin_int8: unsafe fn(usize) -> f32,
    /// Fused multiply-adds in registers, for the ceiling.
    pub spin_f32: unsafe fn(usize) -> f32,
}

/// Compiles every kernel for one instruction set and puts them into a table.
macro_rules! table {
    ($lanes:ident, $name:literal, $features:literal) => {
        mod entry {
            use super::$lanes;
            use crate::simd;

            #[target_feature(enable = $features)]
            pub unsafe fn gemm(job: &simd::Gemm<'_>, scratch: &mut [u8]) {
                // SAFETY: the features of this function are those of the lanes.
                unsafe { simd::generic::gemm::<$lanes>(job, scratch) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn quantise(x: &[f32], out: &simd::RowQ, need: simd::Need) {
                // SAFETY: as above.
                unsafe { simd::generic::quantise::<$lanes>(x, out, need) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn rms_norm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32], len: usize) {
                // SAFETY: as above.
                unsafe { simd::generic::rms_norm::<$lanes>(x, w, eps, out, len) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn swiglu(gate: &mut [f32], up: &[f32]) {
                // SAFETY: as above.
                unsafe { simd::generic::swiglu::<$lanes>(gate, up) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn rope(heads: &mut [f32], d_head: usize, angles: &[f32], interleaved: bool) {
                // SAFETY: as above.
                unsafe { simd::generic::rope::<$lanes>(heads, d_head, angles, interleaved) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn attend(job: &simd::Attend<'_>, scratch: &mut [f32]) {
                // SAFETY: as above.
                unsafe { simd::generic::attend::<$lanes>(job, scratch) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn merge(partial: &mut [f32], d_pad: usize, max: f32, sum: f32, out: &[f32]) {
                // SAFETY: as above.
                unsafe { simd::generic::merge::<$lanes>(partial, d_pad, max, sum, out) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn kv_put(slot: &mut simd::generic::Slot<'_>, x: &[f32], is_key: bool) {
                // SAFETY: as above.
                unsafe { simd::generic::kv_put::<$lanes>(slot, x, is_key) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn fold_best(outs: &mut [f32], first: u32, used: usize, best: &mut [f32], ids: &mut [u32]) {
                // SAFETY: as above.
                unsafe { simd::generic::fold_best::<$lanes>(outs, first, used, best, ids) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn read(bytes: &[u8]) -> u8 {
                // SAFETY: as above.
                unsafe { simd::generic::read::<$lanes>(bytes) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn spin_int8(turns: usize) -> f32 {
                // SAFETY: as above.
                unsafe { simd::generic::spin_int8::<$lanes>(turns) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn spin_f32(turns: usize) -> f32 {
                // SAFETY: as above.
                unsafe { simd::generic::spin_f32::<$lanes>(turns) }
            }
        }

        /// Kernels compiled for these lanes.
        pub static KERNELS: crate::simd::Kernels = crate::simd::Kernels {
            name: $name,
            attend_vectors: <$lanes as crate::simd::Lanes>::ATTEND_VECTORS,
            gemm: entry::gemm,
            quantise: entry::quantise,
            rms_norm: entry::rms_norm,
            swiglu: entry::swiglu,
            rope: entry::rope,
            attend: entry::attend,
            merge: entry::merge,
            kv_put: entry::kv_put,
            fold_best: entry::fold_best,
            read: entry::read,
            spin_int8: entry::spin_int8,
            spin_f32: entry::spin_f32,
        };
    };
}
pub(crate) use table;

/// What `table!` compiles.
pub(crate) mod generic {
    pub use super::attend::{attend, merge};
    pub use super::elem::{fold_best, quantise, read, rms_norm, rope, spin_f32, spin_int8, swiglu};
    pub use super::gemm::gemm;
    pub use super::kv::{Slot, kv_put};
}
