//! The contract between models and hardware: the dozen operations that a decoder needs, and what their answers must be.
//! A backend may compute, or only count; a model cannot tell. `conformance` holds the tests every computing backend must pass.
//!
//! Canonical order (docs/determinism.md): an output element is a chain of fused multiply-adds whose order is fixed by
//! positions in the weights and in the sequence, never by batch, thread or instruction set.
#![forbid(unsafe_code)]

pub mod attention;
pub mod conformance;
pub mod math;

use base::TokenId;
use quant::{DType, KV_BLOCK};
use std::ops::Range;

/// Positions in one KV page.
pub const PAGE_LEN: usize = 64;

/// How matrices and the KV cache are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numeric {
    /// int8 activations wherever weights are quantised, KV in f16 or int8. What is served.
    Quantised,
    /// Weights dequantised, f32 activations, KV in f32 (or int8): the yardstick for what `Quantised` costs.
    Exact,
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// f16; f32 where everything is computed exactly.
    #[default]
    F16,
    /// int8 and an f16 scale for each `quant::KV_BLOCK` elements of a head (`quant::kv`). Keys are rotated before
    /// (`math::rotate`), and so are the queries that meet them: some models' keys have a few channels a hundred times as large
    /// as the rest, which then get no code but zero.
    Q8,
}

impl KvType {
    /// Bytes of the keys, or of the values, of one head at one position.
    pub fn head_bytes(self, d_head: usize) -> usize {
        match self {
            Self::F16 => 2 * d_head,
            Self::Q8 => d_head + 2 * d_head.div_ceil(KV_BLOCK),
        }
    }
}

/// What can go wrong before "ready". Nothing can after.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// A tensor cannot be used as asked.
    #[error("tensor {name}: {what}")]
    Tensor {
        /// Which.
        name: String,
        /// Why, and what to do.
        what: String,
    },
    /// Memory could not be had.
    #[error("not enough memory for {what} ({bytes} bytes); use a smaller --ctx, fewer --slots or a smaller model")]
    Memory {
        /// For what.
        what: String,
        /// How much.
        bytes: u64,
    },
}

/// A weight matrix as the file has it: `rows` outputs of `cols` inputs each, row-major in blocks of `dtype`.
#[derive(Clone, Copy)]
pub struct MatSrc<'a> {
    /// For messages.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// `rows * dtype.row_bytes(cols)` bytes.
    pub bytes: &'a [u8],
}

impl MatSrc<'_> {
    /// Bytes of one row, if the shape and the bytes agree.
    pub fn row_bytes(&self) -> Result<usize, OpsError> {
        let fail = |what: String| OpsError::Tensor { name: self.name.to_string(), what };
        if !self.dtype.is_weight() || self.rows == 0 || self.cols == 0 {
            return Err(fail(format!("{}x{} of type {} is no weight matrix", self.rows, self.cols, self.dtype.name())));
        }
        let per_row = self.dtype.row_bytes(self.cols as u64).and_then(|b| usize::try_from(b).ok());
        let per_row = per_row.ok_or_else(|| {
            fail(format!("a row of {} is not whole {} blocks; convert the model again", self.cols, self.dtype.name()))
        })?;
        if per_row.checked_mul(self.rows) != Some(self.bytes.len()) {
            return Err(fail(format!("{} bytes for {} rows of {per_row}", self.bytes.len(), self.rows)));
        }
        Ok(per_row)
    }
}

/// One token position in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Input token.
    pub token: TokenId,
    /// Absolute position in its sequence.
    pub pos: u32,
    /// Where in `Batch::pages` the page table of its sequence starts.
    pub table: u32,
}

/// The rows of one step. Rows of one sequence are consecutive and in rising position.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// Rows.
    pub rows: &'a [Row],
    /// Page tables of all sequences, one after the other: position `p` of a row lives in page `pages[table + p / PAGE_LEN]`.
    pub pages: &'a [u32],
}

impl Batch<'_> {
    /// The page that a row's position lives in.
    pub fn page_of(&self, row: Row) -> u32 {
        self.pages[row.table as usize + row.pos as usize / PAGE_LEN]
    }
}

/// Sizes of a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Decoder layers.
    pub n_layers: usize,
    /// Pages, shared by all sequences.
    pub n_pages: usize,
    /// Key/value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
}

impl KvShape {
    /// Bytes of one position over all layers, without padding.
    pub fn bytes_per_token(&self, kept: KvType) -> usize {
        self.n_layers * self.n_kv_heads * 2 * kept.head_bytes(self.d_head)
    }
}

/// Which elements of a head are rotated together (Su et al. 2021, RoFormer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairing {
    /// (0, 1), (2, 3) ...: GGUF llama files.
    Interleaved,
    /// (i, i + d_rot / 2): qwen2, and every Hugging Face file.
    Halves,
}

/// RMS norm in front of a projection (Zhang & Sennrich 2019).
pub struct Norm<'a, B: Backend + ?Sized> {
    /// `[d_model]`.
    pub weight: &'a B::Vector,
    /// Added to the mean square.
    pub eps: f32,
}

/// One of several projections of the same input.
pub struct Proj<'a, B: Backend + ?Sized> {
    /// `[n_out, n_in]`.
    pub mat: &'a B::Mat,
    /// `[n_out]`.
    pub bias: Option<&'a B::Vector>,
    /// `[rows, n_out]`.
    pub out: &'a mut B::Act,
}

/// What attention needs of each row: queries, keys and values, and how queries and keys are rotated.
pub struct Qkv<'a, B: Backend + ?Sized> {
    /// `[n_heads * d_head, d_model]`.
    pub q: Proj<'a, B>,
    /// `[n_kv_heads * d_head, d_model]`.
    pub k: Proj<'a, B>,
    /// `[n_kv_heads * d_head, d_model]`.
    pub v: Proj<'a, B>,
    /// Width of a head.
    pub d_head: usize,
    /// As for `Backend::rope`.
    pub angles: &'a B::Act,
    /// Which elements are rotated together.
    pub pairing: RopePairing,
}

/// `Backend::project_qkv`, one operation after the other.
pub fn project_qkv_apart<B: Backend + ?Sized>(
    b: &mut B,
    x: &B::Act,
    norm: Option<Norm<'_, B>>,
    qkv: Qkv<'_, B>,
    kv: &mut B::Kv,
    layer: usize,
    batch: Batch<'_>,
) {
    let (Qkv { q, k, v, d_head, angles, pairing }, n) = (qkv, batch.rows.len());
    let mut projs = [q, k, v];
    b.project(x, n, norm, &mut projs);
    let [q, k, v] = projs;
    b.rope(q.out, n, d_head, angles, pairing);
    b.rope(k.out, n, d_head, angles, pairing);
    b.kv_put(kv, layer, k.out, v.out, batch);
}

/// The operations. All widths and row counts were checked when the model was loaded; `n` is the rows in use.
pub trait Backend: Send {
    /// A weight matrix in the backend's own layout.
    type Mat: Send + Sync;
    /// A vector of f32 (norms, biases).
    type Vector: Send + Sync;
    /// Activations `[rows, width]` in f32.
    type Act: Send;
    /// Paged keys and values of all layers.
    type Kv: Send;

    /// For people and for the fingerprint, e.g. `cpu avx512-vnni, 2 threads`.
    fn name(&self) -> String;
    /// How it computes.
    fn numeric(&self) -> Numeric;
    /// How it keeps keys and values.
    fn kv_type(&self) -> KvType;

    /// Takes in a weight matrix. `read` is told, from any thread, which of `src.bytes` are done with: their memory can be let
    /// go while the rest is still to be read.
    fn load_mat(&mut self, src: MatSrc<'_>, read: impl Fn(Range<usize>) + Sync) -> Result<Self::Mat, OpsError>;
    /// Takes in a vector.
    fn load_vector(&mut self, values: &[f32]) -> Result<Self::Vector, OpsError>;
    /// Room for activations, zeroed.
    fn new_act(&mut self, rows: usize, width: usize) -> Result<Self::Act, OpsError>;
    /// Room for keys and values, zeroed.
    fn new_kv(&mut self, shape: KvShape) -> Result<Self::Kv, OpsError>;
    /// Sizes scratch memory: the most rows of a step, the widest matrix input, query heads, head width, context.
    fn reserve(
        &mut self,
        rows: usize,
        width: usize,
        n_heads: usize,
        d_head: usize,
        n_ctx: usize,
    ) -> Result<(), OpsError>;

    /// Host to device: `src` is `[n, width]`.
    fn put(&mut self, out: &mut Self::Act, n: usize, src: &[f32]);
    /// One row, on the host; `host` is used only by backends with memory of their own.
    fn row<'a>(&self, x: &'a Self::Act, row: usize, host: &'a mut Vec<f32>) -> &'a [f32];
    /// `out[i] = table[tokens[i]]`, dequantised as `scale * q + bias`.
    fn embed(&mut self, table: &Self::Mat, batch: Batch<'_>, out: &mut Self::Act);
    /// `out[i] = x[pick[i]]`.
    fn gather(&mut self, x: &Self::Act, pick: &[u32], out: &mut Self::Act);
    /// `out = norm(x) * mat^T + bias` for each projection.
    fn project(&mut self, x: &Self::Act, n: usize, norm: Option<Norm<'_, Self>>, projs: &mut [Proj<'_, Self>]);
    /// For each row of `norm(x) * mat^T` the highest value and its column (`math::best`), without storing the product:
    /// `best` is `[n]`. The values have `project`'s bits.
    fn project_best(
        &mut self,
        x: &Self::Act,
        n: usize,
        norm: Option<Norm<'_, Self>>,
        mat: &Self::Mat,
        best: &mut [(f32, TokenId)],
    );
    /// `into += x * mat^T + bias`, rounded as `into + (dot + bias)`.
    fn project_add(
        &mut self,
        x: &Self::Act,
        n: usize,
        mat: &Self::Mat,
        bias: Option<&Self::Vector>,
        into: &mut Self::Act,
    );
    /// `out = silu(norm(x) gate^T) * (norm(x) up^T)` (Shazeer 2020). `up_scratch` is `[rows, d_ff]`.
    fn gated(
        &mut self,
        x: &Self::Act,
        n: usize,
        norm: Option<Norm<'_, Self>>,
        gate: &Self::Mat,
        up: &Self::Mat,
        up_scratch: &mut Self::Act,
        out: &mut Self::Act,
    );
    /// Rotates the first `d_rot` elements of each head of `q` in place. `angles` is `[rows, d_rot]`: cosines, then sines.
    fn rope(&mut self, q: &mut Self::Act, n: usize, d_head: usize, angles: &Self::Act, pairing: RopePairing);
    /// Queries, keys and values of each row, `norm(x) * mat^T + bias`; queries and keys rotated; keys and values stored. One
    /// operation, so that a backend can do it head by head, without going over memory again.
    fn project_qkv(
        &mut self,
        x: &Self::Act,
        norm: Option<Norm<'_, Self>>,
        qkv: Qkv<'_, Self>,
        kv: &mut Self::Kv,
        layer: usize,
        batch: Batch<'_>,
    ) {
        project_qkv_apart(self, x, norm, qkv, kv, layer, batch);
    }
    /// Stores the rows' keys and values.
    fn kv_put(&mut self, kv: &mut Self::Kv, layer: usize, k: &Self::Act, v: &Self::Act, batch: Batch<'_>);
    /// Causal attention of each row over positions `0..=pos` of its sequence, grouped-query heads, scale `1/sqrt(d_head)`.
    fn attend(
        &mut self,
        q: &Self::Act,
        n_heads: usize,
        kv: &Self::Kv,
        layer: usize,
        batch: Batch<'_>,
        out: &mut Self::Act,
    );
    /// Copies one page (all layers) to another: copy-on-write of a shared prefix's last page.
    fn kv_copy_page(&mut self, kv: &mut Self::Kv, from: u32, to: u32);

    /// Bytes of one page, all layers, as `kv_read_page` gives it.
    fn kv_page_bytes(&self, kv: &Self::Kv) -> usize;
    /// How such bytes are laid out: types, order, padding and sizes. Bytes are good for any cache that says the same.
    fn kv_layout(&self, kv: &Self::Kv) -> String;
    /// Copies a page out, keys and values of all layers. `out` has `kv_page_bytes` bytes.
    fn kv_read_page(&self, kv: &Self::Kv, page: u32, out: &mut [u8]);
    /// Puts bytes of `kv_read_page` into a page. `bytes` has `kv_page_bytes` bytes.
    fn kv_write_page(&mut self, kv: &mut Self::Kv, page: u32, bytes: &[u8]);
}
