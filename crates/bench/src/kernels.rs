//! Each kernel alone, through the backend's own door: bytes and operations per second beside the machine's ceilings, so that a
//! regression is seen at a glance. Matrices have the shapes of the default model; for one row they take turns, so that
//! weights come from memory as in decoding.

use ops::{Backend, Batch, KvShape, MatSrc, OpsError, PAGE_LEN, Proj, Row, conformance};
use quant::DType;
use serde::Serialize;
use std::time::Instant;

/// One kernel at one row count.
#[derive(Clone, Debug, Serialize)]
pub struct Kernel {
    /// `gemm Q5_0 4864x896`, `attend 14/2x64 depth 2048`.
    pub kernel: String,
    /// Rows of activations.
    pub rows: usize,
    /// Median milliseconds of one call.
    pub ms: f64,
    /// Weight (or key and value) bytes read per second, in GB.
    pub gbps: f64,
    /// int8 operations (f32 for attention) per second, in G: a multiply and an add are two.
    pub gops: f64,
}

/// Weight bytes kept in turn, so that one row's pass finds them in memory and not in a cache.
const TURN_BYTES: usize = 96 << 20;

/// A matrix to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How its weights are stored.
    pub dtype: DType,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

impl Shape {
    /// Shapes of the default model's feed-forward part in this type.
    fn usual(dtype: DType) -> [Self; 2] {
        let width = if dtype.block_len() == 256 { 1024 } else { 896 };
        [Self { dtype, rows: 4864, cols: width }, Self { dtype, rows: width, cols: 4864 }]
    }
}

/// Measures every weight type for each row count, and attention. `reps` calls each, medians.
///
/// # Errors
/// Memory.
pub fn measure<B: Backend>(b: &mut B, types: &[DType], counts: &[usize], reps: usize) -> Result<Vec<Kernel>, OpsError> {
    let most = counts.iter().copied().max().unwrap_or(1);
    let shapes: Vec<Shape> = types.iter().flat_map(|t| Shape::usual(*t)).collect();
    let mut out = measure_shapes(b, &shapes, counts, reps)?;
    for (n, depth) in [(1, 512), (1, 4096), (most, most), (most, 4096)] {
        out.push(attention(b, n, depth, reps)?);
    }
    Ok(out)
}

/// Measures these matrices for each row count. `reps` calls each, medians.
///
/// # Errors
/// Memory.
pub fn measure_shapes<B: Backend>(
    b: &mut B,
    shapes: &[Shape],
    counts: &[usize],
    reps: usize,
) -> Result<Vec<Kernel>, OpsError> {
    let most = counts.iter().copied().max().unwrap_or(1);
    let widest = shapes.iter().map(|s| s.rows.max(s.cols)).max().unwrap_or(1);
    b.reserve(most, widest.max(4864), 14, 64, 8192)?;
    let mut out = Vec::new();
    for shape in shapes {
        matrix(b, *shape, counts, reps, &mut out)?;
    }
    Ok(out)
}

fn matrix<B: Backend>(
    b: &mut B,
    Shape { dtype, rows, cols }: Shape,
    counts: &[usize],
    reps: usize,
    out: &mut Vec<Kernel>,
) -> Result<(), OpsError> {
    let bytes = conformance::random_weights(dtype, rows, cols, 1);
    let turns = if counts.contains(&1) { TURN_BYTES.div_ceil(bytes.len()) } else { 1 };
    let load = |b: &mut B| b.load_mat(MatSrc { name: "bench", dtype, rows, cols, bytes: &bytes }, |_| {});
    let mats = (0..turns).map(|_| load(b)).collect::<Result<Vec<_>, _>>()?;
    for n in counts {
        let (mut x, mut y) = (b.new_act(*n, cols)?, b.new_act(*n, rows)?);
        b.put(&mut x, *n, &conformance::random_rows(*n, cols, 3));
        let mut times = Vec::new();
        for i in 0..reps.max(if *n < 8 { turns } else { 2 }) + 1 {
            let start = Instant::now();
            let mat = &mats[i % mats.len()];
            b.project(&x, *n, None, &mut [Proj { mat, bias: None, out: &mut y }]);
            times.push(start.elapsed().as_secs_f64());
        }
        let s = crate::stats::median(&times[1..]).unwrap_or(f64::NAN);
        out.push(Kernel {
            kernel: format!("gemm {} {rows}x{cols}", dtype.name()),
            rows: *n,
            ms: s * 1e3,
            gbps: bytes.len() as f64 / s / 1e9,
            gops: (2 * rows * cols * n) as f64 / s / 1e9,
        });
    }
    Ok(())
}

/// The last `n` rows of a sequence of `depth` positions: 14 query heads on 2 key/value heads of 64.
fn attention<B: Backend>(b: &mut B, n: usize, depth: usize, reps: usize) -> Result<Kernel, OpsError> {
    let (heads, kv_heads, d) = (14, 2, 64);
    let depth = depth.max(n);
    let n_pages = depth.div_ceil(PAGE_LEN);
    let mut kv = b.new_kv(KvShape { n_layers: 1, n_pages, n_kv_heads: kv_heads, d_head: d })?;
    let pages: Vec<u32> = (0..n_pages as u32).collect();
    let (mut q, mut k, mut v) = (b.new_act(n, heads * d)?, b.new_act(n, kv_heads * d)?, b.new_act(n, kv_heads * d)?);
    let mut out = b.new_act(n, heads * d)?;
    b.put(&mut q, n, &conformance::random_rows(n, heads * d, 1));
    b.put(&mut k, n, &conformance::random_rows(n, kv_heads * d, 2));
    b.put(&mut v, n, &conformance::random_rows(n, kv_heads * d, 3));
    let row = |pos: usize| Row { token: 0, pos: pos as u32, table: 0 };
    for start in (0..depth).step_by(n) {
        let rows: Vec<Row> = (start..(start + n).min(depth)).map(row).collect();
        b.kv_put(&mut kv, 0, &k, &v, Batch { rows: &rows, pages: &pages });
    }
    let rows: Vec<Row> = (depth - n..depth).map(row).collect();
    let mut times = Vec::new();
    for _ in 0..reps.max(3) + 1 {
        let start = Instant::now();
        b.attend(&q, heads, &kv, 0, Batch { rows: &rows, pages: &pages }, &mut out);
        times.push(start.elapsed().as_secs_f64());
    }
    let s = crate::stats::median(&times[1..]).unwrap_or(f64::NAN);
    let keys: usize = rows.iter().map(|r| r.pos as usize + 1).sum();
    Ok(Kernel {
        kernel: format!("attend {heads}/{kv_heads}x{d} depth {depth}"),
        rows: n,
        ms: s * 1e3,
        gbps: (depth * kv_heads * b.kv_type().head_bytes(d) * 2) as f64 / s / 1e9,
        gops: (keys * heads * d * 2 * 2) as f64 / s / 1e9,
    })
}
