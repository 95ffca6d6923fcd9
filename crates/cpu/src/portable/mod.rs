//! The reference: plain scalar Rust over the file's own blocks, in the canonical order. It *defines* every bit.
//! Nothing here is fast on purpose; everything here should be obvious. `Numeric::Exact` is the same graph without
//! quantised activations and with an f32 KV cache (or int8, to see what that alone costs).

mod kv;

use crate::mem::Act;
use crate::pool::{Out, Pool};
use base::TokenId;
use kv::Kv;
use ops::{
    Backend, Batch, KvShape, KvType, MatSrc, Norm, Numeric, OpsError, PAGE_LEN, Proj, RopePairing, attention, math,
};
use quant::{ACT_BLOCK, Block, DType};
use std::ops::Range;

/// A weight matrix as the file has it.
pub struct Mat {
    dtype: DType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    bytes: Vec<u8>,
}

/// Scalar backend.
pub struct Portable {
    pool: Pool,
    numeric: Numeric,
    kept: KvType,
    /// Normalised input, `[rows, width]`.
    normed: Option<Act>,
    q: Vec<i8>,
    q_scale: Vec<f32>,
    width: usize,
}

impl Portable {
    /// A reference backend on `threads` threads.
    pub fn new(numeric: Numeric, threads: usize) -> Self {
        let (kept, q, q_scale) = (KvType::F16, Vec::new(), Vec::new());
        Self { pool: Pool::new(threads), numeric, kept, normed: None, q, q_scale, width: 0 }
    }

    /// With keys and values kept so.
    pub fn with_kv(self, kept: KvType) -> Self {
        Self { kept, ..self }
    }

    /// Norm and, if any matrix wants it, quantisation of `n` rows of `x` into the scratch.
    fn prepare(&mut self, x: &Act, n: usize, norm: Option<Norm<'_, Self>>, quantise: bool) {
        let Some(normed) = &mut self.normed else { return };
        let (width, blocks) = (x.width, x.width.div_ceil(ACT_BLOCK));
        for i in 0..n {
            let out = &mut normed.row_mut(i)[..width];
            match &norm {
                Some(norm) => math::rms_norm(x.row(i), norm.weight, norm.eps, out),
                None => out.copy_from_slice(x.row(i)),
            }
            if quantise {
                let q = &mut self.q[i * width..][..width];
                quant::act::quantise_row(out, q, &mut self.q_scale[i * blocks..][..blocks]);
            }
        }
        self.width = width;
    }

    fn quantises(&self, mat: &Mat) -> bool {
        self.numeric == Numeric::Quantised && mat.dtype.is_quantised()
    }

    /// `f(row, column, dot)` for every output of `mat` over the prepared rows.
    fn multiply(&mut self, n: usize, mat: &Mat, f: &(dyn Fn(usize, usize, f32) + Sync)) {
        let quantised = self.quantises(mat);
        let Self { pool, normed, q, q_scale, width, .. } = self;
        let Some(normed) = normed else { return };
        let (width, blocks) = (*width, width.div_ceil(ACT_BLOCK));
        let exact = self.numeric == Numeric::Exact;
        pool.run(mat.rows, 16, &|r, _| {
            let bytes = &mat.bytes[r * mat.row_bytes..][..mat.row_bytes];
            if quantised {
                let weights = QuantRow::decode(mat, bytes);
                for i in 0..n {
                    f(i, r, weights.dot(&q[i * width..][..width], &q_scale[i * blocks..][..blocks]));
                }
            } else {
                let mut w = vec![0.0f32; mat.cols];
                quant::dequantise_row(mat.dtype, bytes, &mut w);
                for i in 0..n {
                    let x = &normed.row(i)[..mat.cols];
                    f(i, r, if exact { dot_exact(&w, x) } else { dot_f32(&w, x) });
                }
            }
        });
    }
}

/// Canonical dot product with float weights: one fused multiply-add per input, in order.
fn dot_f32(w: &[f32], x: &[f32]) -> f32 {
    w.iter().zip(x).fold(0.0, |acc, (w, x)| w.mul_add(*x, acc))
}

/// The yardstick's dot product: f32 in 32 lanes, which the compiler turns into plain vector code. Its order is its own.
fn dot_exact(w: &[f32], x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 32];
    let (ws, xs) = (w.chunks_exact(32), x.chunks_exact(32));
    let rest: f32 = ws.remainder().iter().zip(xs.remainder()).map(|(w, x)| w * x).sum();
    for (ws, xs) in ws.zip(xs) {
        for ((l, w), x) in lanes.iter_mut().zip(ws).zip(xs) {
            *l += w * x;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// One weight row, decoded: integers, and a scale and bias per group.
struct QuantRow {
    q: Vec<i8>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    group_len: usize,
    has_bias: bool,
}

impl QuantRow {
    fn decode(mat: &Mat, bytes: &[u8]) -> Self {
        let Some(shape) = quant::shape(mat.dtype) else {
            return Self { q: vec![], scale: vec![], bias: vec![], group_len: 32, has_bias: false };
        };
        let (len, groups) = (mat.dtype.block_len(), mat.dtype.block_len() / shape.group_len);
        let mut row = Self {
            q: Vec::with_capacity(mat.cols),
            scale: Vec::with_capacity(mat.cols / shape.group_len),
            bias: Vec::with_capacity(mat.cols / shape.group_len),
            group_len: shape.group_len,
            has_bias: shape.has_bias,
        };
        let mut block = Block::default();
        for b in bytes.chunks_exact(mat.dtype.block_bytes()) {
            quant::decode(mat.dtype, b, &mut block);
            row.q.extend_from_slice(&block.q[..len]);
            row.scale.extend_from_slice(&block.scale[..groups]);
            row.bias.extend_from_slice(&block.bias[..groups]);
        }
        row
    }

    /// Canonical dot product with int8 activations. Per activation block: one fused multiply-add per weight group (and one
    /// for its bias) into a partial sum, then one with the activation scale into the result.
    fn dot(&self, x: &[i8], x_scale: &[f32]) -> f32 {
        let mut acc = 0.0f32;
        for (b, x_scale) in x_scale.iter().enumerate() {
            let mut part = 0.0f32;
            let end = ((b + 1) * ACT_BLOCK).min(x.len());
            for at in (b * ACT_BLOCK..end).step_by(self.group_len) {
                let (w, x) = (&self.q[at..at + self.group_len], &x[at..at + self.group_len]);
                let dot: i32 = w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
                part = self.scale[at / self.group_len].mul_add(dot as f32, part);
                if self.has_bias {
                    let sum: i32 = x.iter().map(|x| i32::from(*x)).sum();
                    part = self.bias[at / self.group_len].mul_add(sum as f32, part);
                }
            }
            acc = x_scale.mul_add(part, acc);
        }
        acc
    }
}

impl Backend for Portable {
    type Mat = Mat;
    type Vector = Vec<f32>;
    type Act = Act;
    type Kv = Kv;

    fn name(&self) -> String {
        match self.numeric {
            Numeric::Quantised => "portable".to_string(),
            Numeric::Exact => "exact".to_string(),
        }
    }
    fn numeric(&self) -> Numeric {
        self.numeric
    }
    fn kv_type(&self) -> KvType {
        self.kept
    }
    fn load_mat(&mut self, src: MatSrc<'_>, read: impl Fn(Range<usize>) + Sync) -> Result<Mat, OpsError> {
        let row_bytes = src.row_bytes()?;
        let bytes = src.bytes.to_vec();
        read(0..bytes.len());
        Ok(Mat { dtype: src.dtype, rows: src.rows, cols: src.cols, row_bytes, bytes })
    }
    fn load_vector(&mut self, values: &[f32]) -> Result<Vec<f32>, OpsError> {
        Ok(values.to_vec())
    }
    fn new_act(&mut self, rows: usize, width: usize) -> Result<Act, OpsError> {
        Act::new(rows, width)
    }
    fn new_kv(&mut self, shape: KvShape) -> Result<Kv, OpsError> {
        Kv::new(shape, self.numeric, self.kept)
    }
    fn reserve(&mut self, rows: usize, width: usize, _: usize, _: usize, _: usize) -> Result<(), OpsError> {
        self.normed = Some(Act::new(rows, width)?);
        self.q = vec![0; rows * width];
        self.q_scale = vec![0.0; rows * width.div_ceil(ACT_BLOCK)];
        Ok(())
    }
    fn put(&mut self, out: &mut Act, n: usize, src: &[f32]) {
        let width = out.width;
        for i in 0..n {
            out.row_mut(i).copy_from_slice(&src[i * width..][..width]);
        }
    }
    fn row<'a>(&self, x: &'a Act, row: usize, _: &'a mut Vec<f32>) -> &'a [f32] {
        x.row(row)
    }
    fn embed(&mut self, table: &Mat, batch: Batch<'_>, out: &mut Act) {
        for (i, row) in batch.rows.iter().enumerate() {
            let bytes = &table.bytes[row.token as usize * table.row_bytes..][..table.row_bytes];
            quant::dequantise_row(table.dtype, bytes, out.row_mut(i));
        }
    }
    fn gather(&mut self, x: &Act, pick: &[u32], out: &mut Act) {
        for (i, p) in pick.iter().enumerate() {
            out.row_mut(i).copy_from_slice(x.row(*p as usize));
        }
    }
    fn project(&mut self, x: &Act, n: usize, norm: Option<Norm<'_, Self>>, projs: &mut [Proj<'_, Self>]) {
        let quantise = projs.iter().any(|p| self.quantises(p.mat));
        self.prepare(x, n, norm, quantise);
        for p in projs {
            let (stride, bias) = (p.out.stride, p.bias);
            let out = Out::new(p.out.all_mut());
            self.multiply(n, p.mat, &|i, r, dot| {
                // SAFETY: the item owns output `r` of every row; one element at a time.
                let y = unsafe { out.part(i * stride + r, 1) };
                y[0] = bias.map_or(dot, |b| dot + b[r]);
            });
        }
    }
    fn project_best(
        &mut self,
        x: &Act,
        n: usize,
        norm: Option<Norm<'_, Self>>,
        mat: &Mat,
        best: &mut [(f32, TokenId)],
    ) {
        let mut values = vec![0.0f32; n * mat.rows];
        let quantise = self.quantises(mat);
        self.prepare(x, n, norm, quantise);
        let out = Out::new(&mut values);
        self.multiply(n, mat, &|i, r, dot| {
            // SAFETY: the item owns output `r` of every row; one element at a time.
            let y = unsafe { out.part(i * mat.rows + r, 1) };
            y[0] = dot;
        });
        for (best, row) in best.iter_mut().zip(values.chunks_exact(mat.rows)) {
            *best = math::best(row);
        }
    }
    fn project_add(&mut self, x: &Act, n: usize, mat: &Mat, bias: Option<&Vec<f32>>, into: &mut Act) {
        let quantise = self.quantises(mat);
        self.prepare(x, n, None, quantise);
        let stride = into.stride;
        let out = Out::new(into.all_mut());
        self.multiply(n, mat, &|i, r, dot| {
            // SAFETY: the item owns output `r` of every row; one element at a time.
            let y = unsafe { out.part(i * stride + r, 1) };
            y[0] += bias.map_or(dot, |b| dot + b[r]);
        });
    }
    fn gated(
        &mut self,
        x: &Act,
        n: usize,
        norm: Option<Norm<'_, Self>>,
        gate: &Mat,
        up: &Mat,
        up_scratch: &mut Act,
        out: &mut Act,
    ) {
        let mut projs = [Proj { mat: gate, bias: None, out }, Proj { mat: up, bias: None, out: up_scratch }];
        self.project(x, n, norm, &mut projs);
        for i in 0..n {
            for (g, u) in out.row_mut(i).iter_mut().zip(up_scratch.row(i)) {
                *g = math::swiglu(*g, *u);
            }
        }
    }
    fn rope(&mut self, q: &mut Act, n: usize, d_head: usize, angles: &Act, pairing: RopePairing) {
        for i in 0..n {
            for head in q.row_mut(i).chunks_exact_mut(d_head) {
                math::rope_head(head, angles.row(i), pairing == RopePairing::Interleaved);
            }
        }
    }
    fn kv_put(&mut self, kv: &mut Kv, layer: usize, k: &Act, v: &Act, batch: Batch<'_>) {
        for (i, row) in batch.rows.iter().enumerate() {
            kv.put(layer, batch.page_of(*row), row.pos as usize % PAGE_LEN, k.row(i), v.row(i));
        }
    }
    fn attend(&mut self, q: &Act, n_heads: usize, kv: &Kv, layer: usize, batch: Batch<'_>, out: &mut Act) {
        let (d_head, group) = (kv.shape.d_head, n_heads / kv.shape.n_kv_heads);
        let (rotated, len) = (kv.kept == KvType::Q8, math::rotate_len(d_head));
        let scale = ops::attention::query_scale(d_head) / if rotated { len as f32 } else { 1.0 };
        let stride = out.stride;
        let out = Out::new(out.all_mut());
        self.pool.run(batch.rows.len() * n_heads, 4, &|item, _| {
            let (i, h) = (item / n_heads, item % n_heads);
            let row = batch.rows[i];
            let mut query: Vec<f32> = q.row(i)[h * d_head..][..d_head].iter().map(|x| x * scale).collect();
            if rotated {
                math::rotate(&mut query, len);
            }
            let keys = row.pos as usize + 1;
            let mut merged: Option<attention::Partial> = None;
            for start in (0..keys).step_by(attention::CHUNK) {
                let n = (keys - start).min(attention::CHUNK);
                let (ks, vs) = kv.read(layer, h / group, start, n, &batch.pages[row.table as usize..]);
                let at = |x: usize| x * d_head..(x + 1) * d_head;
                let part = attention::chunk(&query, n, |j| &ks[at(j)], |j| &vs[at(j)]);
                match &mut merged {
                    None => merged = Some(part),
                    Some(m) => attention::merge(m, &part),
                }
            }
            if let Some(m) = merged {
                // SAFETY: the item owns head `h` of row `i`.
                attention::finish(&m, unsafe { out.part(i * stride + h * d_head, d_head) });
            }
        });
    }
    fn kv_copy_page(&mut self, kv: &mut Kv, from: u32, to: u32) {
        kv.copy_page(from, to);
    }
    fn kv_page_bytes(&self, kv: &Kv) -> usize {
        kv.page_bytes()
    }
    fn kv_layout(&self, kv: &Kv) -> String {
        kv.layout()
    }
    fn kv_read_page(&self, kv: &Kv, page: u32, out: &mut [u8]) {
        kv.read_page(page, out);
    }
    fn kv_write_page(&mut self, kv: &mut Kv, page: u32, bytes: &[u8]) {
        kv.write_page(page, bytes);
    }
}
