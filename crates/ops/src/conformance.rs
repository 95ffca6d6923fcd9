//! Conformance: what every computing backend must answer, bit for bit, like the reference it is given.
//! Inputs are seeded; failures name the operation, the type and the shape.

use crate::{Backend, Batch, KvShape, MatSrc, Norm, OpsError, PAGE_LEN, Proj, Qkv, RopePairing, Row, math};
use base::rng;
use quant::{DType, half};

/// Random but sane weights: small half-float scales, any codes. `rows * row_bytes` bytes.
pub fn random_weights(dtype: DType, rows: usize, cols: usize, seed: u64) -> Vec<u8> {
    let bytes = dtype.row_bytes(cols as u64).unwrap_or(0) as usize * rows;
    let mut out: Vec<u8> = (0..bytes).map(|i| rng::bits(seed, i as u64, 7) as u8).collect();
    let small = |at: u64| half::f32_to_f16_sat(0.002 + 0.01 * rng::uniform(seed, at, 8)).to_le_bytes();
    // Where each type keeps its half floats.
    let halves: &[usize] = match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        _ => &[],
    };
    for (b, block) in out.chunks_exact_mut(dtype.block_bytes()).enumerate() {
        let x = rng::uniform(seed, b as u64, 9) - 0.5;
        match dtype {
            DType::F32 => block.copy_from_slice(&x.to_le_bytes()),
            DType::F16 => block.copy_from_slice(&half::f32_to_f16_sat(x).to_le_bytes()),
            DType::BF16 => block.copy_from_slice(&((x.to_bits() >> 16) as u16).to_le_bytes()),
            _ => {}
        }
        for (i, at) in halves.iter().enumerate() {
            block[*at..*at + 2].copy_from_slice(&small(b as u64 * 2 + i as u64));
        }
    }
    out
}

/// Uniform activations in -2..2 with an outlier now and then.
pub fn random_rows(n: usize, width: usize, seed: u64) -> Vec<f32> {
    let one = |i: usize| {
        let x = 4.0 * rng::uniform(seed, i as u64, 1) - 2.0;
        if rng::bits(seed, i as u64, 2).is_multiple_of(97) { 30.0 * x } else { x }
    };
    (0..n * width).map(one).collect()
}

fn same(what: &str, a: &[f32], b: &[f32]) -> Result<(), String> {
    let at = a.iter().zip(b).position(|(x, y)| x.to_bits() != y.to_bits());
    match at {
        _ if a.len() != b.len() => Err(format!("{what}: {} values, expected {}", a.len(), b.len())),
        Some(i) => Err(format!(
            "{what}: value {i} is {} ({:08x}), expected {} ({:08x})",
            a[i],
            a[i].to_bits(),
            b[i],
            b[i].to_bits()
        )),
        None => Ok(()),
    }
}

fn rows_of<B: Backend>(b: &B, x: &B::Act, n: usize) -> Vec<f32> {
    let mut host = Vec::new();
    (0..n).flat_map(|i| b.row(x, i, &mut host).to_vec()).collect()
}

fn fail(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// Most rows of a step that is compared.
const ROWS: usize = 64;

/// Answers of one backend for the first rows of the same activations: projection, sum, gate and look-up, `[n, width]` each.
struct Projected<B: Backend> {
    mat: B::Mat,
    bias: B::Vector,
    norm: B::Vector,
    acts: [B::Act; 4],
    tokens: Vec<Row>,
}

impl<B: Backend> Projected<B> {
    fn new(b: &mut B, dtype: DType, rows: usize, cols: usize) -> Result<Self, OpsError> {
        b.reserve(ROWS, cols.max(rows), 1, 16, PAGE_LEN)?;
        let bytes = random_weights(dtype, rows, cols, 11);
        let row = |i: usize| Row { token: (i * 7 % rows) as u32, pos: 0, table: 0 };
        let new = |b: &mut B, width| b.new_act(ROWS, width);
        let mut case = Self {
            mat: b.load_mat(MatSrc { name: "w", dtype, rows, cols, bytes: &bytes }, |_| {})?,
            bias: b.load_vector(&random_rows(1, rows, 5))?,
            norm: b.load_vector(&random_rows(1, cols, 6))?,
            acts: [new(b, cols)?, new(b, rows)?, new(b, rows)?, new(b, cols)?],
            tokens: (0..ROWS).map(row).collect(),
        };
        b.put(&mut case.acts[0], ROWS, &random_rows(ROWS, cols, 3));
        Ok(case)
    }

    fn answers(&mut self, b: &mut B, n: usize) -> [Vec<f32>; 4] {
        let Self { mat, bias, norm, acts: [x, y, z, looked_up], tokens } = self;
        b.project(x, n, None, &mut [Proj { mat, bias: Some(bias), out: y }]);
        let set = rows_of(b, y, n);
        b.project_add(x, n, mat, None, y);
        let sum = rows_of(b, y, n);
        b.gated(x, n, Some(Norm { weight: norm, eps: 1e-6 }), mat, mat, z, y);
        let gated = rows_of(b, y, n);
        b.embed(mat, Batch { rows: &tokens[..n], pages: &[0] }, looked_up);
        [set, sum, gated, rows_of(b, looked_up, n)]
    }
}

/// Projections, gates and look-ups of every weight type, for every row count of a step up to `ROWS`. A row's answer does not
/// depend on the rows beside it, so the reference is asked once.
pub fn check_projections<A: Backend, R: Backend>(backends: &mut [A], reference: &mut R) -> Result<(), String> {
    for dtype in DType::ALL.into_iter().filter(|t| t.is_weight()) {
        // Odd numbers of groups, padded groups, and inputs beyond one panel of the fast backend.
        let shapes: &[(usize, usize)] =
            if dtype.block_len() == 256 { &[(48, 512), (17, 1280)] } else { &[(48, 576), (33, 1312), (1, 32)] };
        for (rows, cols) in shapes {
            let want = Projected::new(reference, dtype, *rows, *cols).map_err(fail)?.answers(reference, ROWS);
            for b in backends.iter_mut() {
                let mut case = Projected::new(b, dtype, *rows, *cols).map_err(fail)?;
                for n in 1..=ROWS {
                    let got = case.answers(b, n);
                    for (op, (got, want)) in
                        ["project", "project_add", "gated", "embed"].iter().zip(got.iter().zip(&want))
                    {
                        let what = format!("{}: {op} {} [{rows}, {cols}] x {n}", b.name(), dtype.name());
                        same(&what, got, &want[..want.len() / ROWS * n])?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// The fused best of a projection: its bits and its columns, over ties, outliers and rows that hold nothing to choose from.
pub fn check_best<A: Backend, R: Backend>(backends: &mut [A], reference: &mut R) -> Result<(), String> {
    for dtype in DType::ALL.into_iter().filter(|t| t.is_weight()) {
        for (rows, cols) in [(1, 256), (37, 512), (400, 256)] {
            for n in [1, 3, 8, 65] {
                let want = best_of(reference, dtype, rows, cols, n)?;
                for b in backends.iter_mut() {
                    let got = best_of(b, dtype, rows, cols, n)?;
                    // Activations that are not a number have no bits to compare; the rows before them have.
                    let same = |a: &(f32, u32), b: &(f32, u32)| a.0.to_bits() == b.0.to_bits() && a.1 == b.1;
                    if !want[..n - n / 3].iter().zip(&got).all(|(a, b)| same(a, b)) {
                        let what = format!("{}: best of {} [{rows}, {cols}] x {n}", b.name(), dtype.name());
                        return Err(format!("{what}: {got:?}, expected {want:?}"));
                    }
                }
            }
        }
    }
    Ok(())
}

/// `project_best`, which must be the best of what `project` stores. The second half of the weight rows repeats the first, so
/// that every best is a tie; the last third of the activations is not a number, the row before it zero.
fn best_of<B: Backend>(b: &mut B, dtype: DType, rows: usize, cols: usize, n: usize) -> Result<Vec<(f32, u32)>, String> {
    b.reserve(n, cols, 1, 16, PAGE_LEN).map_err(fail)?;
    let mut bytes = random_weights(dtype, rows, cols, 12);
    let half = rows / 2 * (bytes.len() / rows);
    bytes.copy_within(..half, half);
    let mat = b.load_mat(MatSrc { name: "w", dtype, rows, cols, bytes: &bytes }, |_| {}).map_err(fail)?;
    let ones = b.load_vector(&vec![1.0; cols]).map_err(fail)?;
    let (mut x, mut y) = (b.new_act(n, cols).map_err(fail)?, b.new_act(n, rows).map_err(fail)?);
    let (mut values, numbers) = (random_rows(n, cols, 4), n - n / 3);
    values[numbers * cols..].fill(f32::NAN);
    values[(numbers - 1) * cols..numbers * cols].fill(0.0);
    b.put(&mut x, n, &values);
    let norm = || Some(Norm { weight: &ones, eps: 1e-6 });
    let mut best = vec![(0.0, 0); n];
    b.project_best(&x, n, norm(), &mat, &mut best);
    b.project(&x, n, norm(), &mut [Proj { mat: &mat, bias: None, out: &mut y }]);
    let stored = rows_of(b, &y, n);
    for (i, (got, row)) in best.iter().zip(stored.chunks_exact(rows)).enumerate() {
        let want = math::best(row);
        if got.0.to_bits() != want.0.to_bits() || got.1 != want.1 {
            return Err(format!(
                "best of {} [{rows}, {cols}], row {i} of {n}: {got:?}, expected {want:?}",
                dtype.name()
            ));
        }
    }
    Ok(best)
}

struct Heads {
    n_heads: usize,
    n_kv_heads: usize,
    d_head: usize,
}

/// Feeds `n` positions in steps of `step` rows, two sequences side by side, keys and values times `scale`; returns the answers of the last layer.
fn attended<B: Backend>(b: &mut B, h: &Heads, n: usize, step: usize, scale: f32) -> Result<Vec<f32>, String> {
    let (q_width, kv_width) = (h.n_heads * h.d_head, h.n_kv_heads * h.d_head);
    let pages_each = n.div_ceil(PAGE_LEN);
    b.reserve(2 * step, q_width, h.n_heads, h.d_head, n).map_err(fail)?;
    let shape = KvShape { n_layers: 2, n_pages: 2 * pages_each, n_kv_heads: h.n_kv_heads, d_head: h.d_head };
    let mut kv = b.new_kv(shape).map_err(fail)?;
    // Pages of the two sequences alternate, so that a wrong page table cannot go unnoticed.
    let tables: Vec<u32> = (0..2).flat_map(|s| (0..pages_each).map(move |p| (2 * p + s) as u32)).collect();
    let new = |b: &mut B, width| b.new_act(2 * step, width).map_err(fail);
    let (mut q, mut k, mut v) = (new(b, q_width)?, new(b, kv_width)?, new(b, kv_width)?);
    let (mut out, mut angles) = (new(b, q_width)?, new(b, h.d_head)?);
    let mut answers = vec![Vec::new(); 2];
    for start in (0..n).step_by(step) {
        let len = step.min(n - start);
        let mut rows = Vec::new();
        for s in 0..2usize {
            rows.extend((0..len).map(|i| Row { token: 0, pos: (start + i) as u32, table: (s * pages_each) as u32 }));
        }
        let data = |width: usize, seed: u64| -> Vec<f32> {
            let one = |r: &Row| random_rows(1, width, seed + u64::from(r.pos) * 13 + u64::from(r.table) * 1_000_003);
            rows.iter().flat_map(one).collect()
        };
        b.put(&mut angles, rows.len(), &data(h.d_head, 4));
        b.put(&mut q, rows.len(), &data(q_width, 1));
        b.put(&mut k, rows.len(), &scaled(data(kv_width, 2), scale));
        b.put(&mut v, rows.len(), &scaled(data(kv_width, 3), scale));
        b.rope(&mut k, rows.len(), h.d_head, &angles, RopePairing::Halves);
        b.rope(&mut q, rows.len(), h.d_head, &angles, RopePairing::Interleaved);
        let batch = Batch { rows: &rows, pages: &tables };
        b.kv_put(&mut kv, 1, &k, &v, batch);
        b.attend(&q, h.n_heads, &kv, 1, batch, &mut out);
        let all = rows_of(b, &out, rows.len());
        for (s, answer) in answers.iter_mut().enumerate() {
            answer.extend_from_slice(&all[s * len * q_width..(s + 1) * len * q_width]);
        }
    }
    Ok(answers.concat())
}

/// Attention: head shapes of real models, chunk borders, and step sizes, which must not matter.
pub fn check_attention<A: Backend, R: Backend>(backends: &mut [A], reference: &mut R) -> Result<(), String> {
    // The last but one has two blocks of scales, of which the second is short.
    for (n_heads, n_kv_heads, d_head) in
        [(7, 1, 64), (6, 2, 128), (3, 3, 16), (9, 1, 32), (4, 2, 24), (4, 1, 40), (50, 1, 16)]
    {
        let h = Heads { n_heads, n_kv_heads, d_head };
        let n = 530;
        let want = attended(reference, &h, n, 64, 1.0)?;
        for b in backends.iter_mut() {
            for step in [1, 7, 64, 300] {
                let got = attended(b, &h, n, step, 1.0)?;
                same(
                    &format!("{}: attend {n_heads}/{n_kv_heads} heads of {d_head}, steps of {step}", b.name()),
                    &got,
                    &want,
                )?;
            }
        }
    }
    Ok(())
}

/// Queries of `n` rows of two sequences, rotated, and what attention says of the keys and values that were stored.
fn queried<B: Backend>(
    b: &mut B,
    h: &Heads,
    dtype: DType,
    pairing: RopePairing,
    n: usize,
) -> Result<[Vec<f32>; 2], String> {
    let (cols, d, layer, first) = (256, h.d_head, 1, 40);
    let (q_width, kv_width) = (h.n_heads * d, h.n_kv_heads * d);
    let pages_each = (first + n).div_ceil(PAGE_LEN);
    b.reserve(2 * n, cols.max(q_width), h.n_heads, d, pages_each * PAGE_LEN).map_err(fail)?;
    let shape = KvShape { n_layers: 2, n_pages: 2 * pages_each, n_kv_heads: h.n_kv_heads, d_head: d };
    let mut kv = b.new_kv(shape).map_err(fail)?;
    let load = |b: &mut B, rows: usize, seed: u64| -> Result<(B::Mat, B::Vector), OpsError> {
        let bytes = random_weights(dtype, rows, cols, seed);
        let mat = b.load_mat(MatSrc { name: "w", dtype, rows, cols, bytes: &bytes }, |_| {})?;
        Ok((mat, b.load_vector(&random_rows(1, rows, seed + 1))?))
    };
    let (q, k) = (load(b, q_width, 21).map_err(fail)?, load(b, kv_width, 23).map_err(fail)?);
    let v = load(b, kv_width, 25).map_err(fail)?;
    let norm = b.load_vector(&random_rows(1, cols, 6)).map_err(fail)?;
    let new = |b: &mut B, width| b.new_act(2 * n, width).map_err(fail);
    let (mut x, mut angles, mut out) = (new(b, cols)?, new(b, d)?, new(b, q_width)?);
    let (mut qs, mut ks, mut vs) = (new(b, q_width)?, new(b, kv_width)?, new(b, kv_width)?);
    b.put(&mut x, 2 * n, &random_rows(2 * n, cols, 3));
    b.put(&mut angles, 2 * n, &random_rows(2 * n, d, 4));
    let tables: Vec<u32> = (0..2).flat_map(|s| (0..pages_each).map(move |p| (2 * p + s) as u32)).collect();
    let row = |i: usize| Row { token: 0, pos: (first + i % n) as u32, table: (i / n * pages_each) as u32 };
    let rows: Vec<Row> = (0..2 * n).map(row).collect();
    let batch = Batch { rows: &rows, pages: &tables };
    let qkv = Qkv {
        q: Proj { mat: &q.0, bias: Some(&q.1), out: &mut qs },
        k: Proj { mat: &k.0, bias: None, out: &mut ks },
        v: Proj { mat: &v.0, bias: Some(&v.1), out: &mut vs },
        d_head: d,
        angles: &angles,
        pairing,
    };
    b.project_qkv(&x, Some(Norm { weight: &norm, eps: 1e-6 }), qkv, &mut kv, layer, batch);
    b.attend(&qs, h.n_heads, &kv, layer, batch, &mut out);
    Ok([rows_of(b, &qs, 2 * n), rows_of(b, &out, 2 * n)])
}

/// `project_qkv`, which backends may do head by head: head widths that are whole items and such that are not, both pairings,
/// rows that cross pages.
pub fn check_qkv<A: Backend, R: Backend>(backends: &mut [A], reference: &mut R) -> Result<(), String> {
    for (n_heads, n_kv_heads, d_head) in [(7, 1, 64), (4, 2, 128), (5, 5, 32), (4, 2, 24), (2, 1, 80)] {
        let h = Heads { n_heads, n_kv_heads, d_head };
        for (dtype, pairing) in [(DType::Q4_K, RopePairing::Halves), (DType::F16, RopePairing::Interleaved)] {
            for n in [1, 2, 5, 33] {
                let want = queried(reference, &h, dtype, pairing, n)?;
                for b in backends.iter_mut() {
                    let got = queried(b, &h, dtype, pairing, n)?;
                    let what = format!("{}: {n_heads}/{n_kv_heads} heads of {d_head}, twice {n} rows", b.name());
                    same(&format!("{what}: queries"), &got[0], &want[0])?;
                    same(&format!("{what}: what was stored"), &got[1], &want[1])?;
                }
            }
        }
    }
    Ok(())
}

fn scaled(xs: Vec<f32>, scale: f32) -> Vec<f32> {
    xs.into_iter().map(|x| x * scale).collect()
}

/// Where instruction sets could part: subnormals (also as halves), keys and values beyond what halves hold, blocks of activations
/// that are next to nothing, exponentials that vanish or are cut off.
pub fn check_edges<A: Backend, R: Backend>(backends: &mut [A], reference: &mut R) -> Result<(), String> {
    for scale in [1e-44, 1e-39, 1e-37, 1e-35, 1e-7, 1e-5, 30.0, 3e3, 1e8] {
        for dtype in [DType::F32, DType::F16, DType::Q4_1, DType::Q8_0, DType::Q6_K] {
            let want = at_edge(reference, dtype, scale)?;
            if want.iter().any(|x| !x.is_finite()) {
                return Err(format!("{} times {scale:e} is no number: nothing is compared", dtype.name()));
            }
            for b in backends.iter_mut() {
                let got = at_edge(b, dtype, scale)?;
                same(&format!("{}: {} with inputs times {scale:e}", b.name(), dtype.name()), &got, &want)?;
            }
        }
    }
    Ok(())
}

/// Projections, a gate with and without norm, and attention over inputs times `scale`.
fn at_edge<B: Backend>(b: &mut B, dtype: DType, scale: f32) -> Result<Vec<f32>, String> {
    let (rows, cols, n) = (33, 512, 5);
    let mut case = Projected::new(b, dtype, rows, cols).map_err(fail)?;
    b.put(&mut case.acts[0], ROWS, &scaled(random_rows(ROWS, cols, 3), scale));
    let mut out = case.answers(b, n).concat();
    let Projected { mat, acts: [x, y, z, _], .. } = &mut case;
    b.gated(x, n, None, mat, mat, z, y);
    out.extend(rows_of(b, y, n));
    // Beside a bias the smallest would not be seen.
    b.project(x, n, None, &mut [Proj { mat, bias: None, out: y }]);
    out.extend(rows_of(b, y, n));
    let heads = Heads { n_heads: 4, n_kv_heads: 2, d_head: 40 };
    out.extend(attended(b, &heads, 80, 9, scale)?);
    Ok(out)
}

/// A copied page answers like its original, in every layer; the original stays.
pub fn check_page_copy<B: Backend>(b: &mut B) -> Result<(), String> {
    let (heads, d, n) = (4, 32, PAGE_LEN);
    b.reserve(n, heads * d, heads, d, n).map_err(fail)?;
    let shape = KvShape { n_layers: 3, n_pages: 4, n_kv_heads: 2, d_head: d };
    let mut kv = b.new_kv(shape).map_err(fail)?;
    let new = |b: &mut B, width| b.new_act(n, width).map_err(fail);
    let (mut q, mut k, mut v, mut out) = (new(b, heads * d)?, new(b, 2 * d)?, new(b, 2 * d)?, new(b, heads * d)?);
    let rows: Vec<Row> = (0..n).map(|i| Row { token: 0, pos: i as u32, table: 0 }).collect();
    b.put(&mut q, n, &random_rows(n, heads * d, 1));
    let mut answers = [Vec::new(), Vec::new(), Vec::new()];
    for (turn, page) in [1u32, 3, 1].into_iter().enumerate() {
        if turn == 1 {
            b.kv_copy_page(&mut kv, 1, 3);
        }
        for layer in 0..shape.n_layers {
            let batch = Batch { rows: &rows, pages: &[page] };
            if turn == 0 {
                b.put(&mut k, n, &random_rows(n, 2 * d, 10 + layer as u64));
                b.put(&mut v, n, &random_rows(n, 2 * d, 20 + layer as u64));
                b.kv_put(&mut kv, layer, &k, &v, batch);
            }
            b.attend(&q, heads, &kv, layer, batch, &mut out);
            answers[turn].extend(rows_of(b, &out, n));
        }
    }
    same("the copied page", &answers[1], &answers[0])?;
    same("the original after the copy", &answers[2], &answers[0])
}

/// A page's bytes, put into a page of another cache (of another size, of another backend of this kind), answer alike in every
/// layer, and come out again as they went in. The page's neighbours stay as they were.
pub fn check_page_bytes<B: Backend>(from: &mut B, to: &mut B) -> Result<(), String> {
    for (n_kv_heads, d) in [(2, 32), (1, 24)] {
        let (heads, n) = (4, PAGE_LEN);
        let shape = KvShape { n_layers: 3, n_pages: 4, n_kv_heads, d_head: d };
        let (bytes, want) = one_page(from, shape, heads, 2, None)?;
        let (again, got) = one_page(to, KvShape { n_pages: 3, ..shape }, heads, 1, Some(&bytes))?;
        same(&format!("{n} restored positions of {n_kv_heads} heads of {d}"), &got, &want)?;
        if again != bytes || bytes.iter().all(|b| *b == 0) {
            return Err("a page's bytes did not come out as they went in".into());
        }
    }
    Ok(())
}

/// Fills `page` by `kv_put`, or from `bytes`; returns its bytes and the answers over it.
fn one_page<B: Backend>(
    b: &mut B,
    shape: KvShape,
    heads: usize,
    page: u32,
    bytes: Option<&[u8]>,
) -> Result<(Vec<u8>, Vec<f32>), String> {
    let (n, d, kv_width) = (PAGE_LEN, shape.d_head, shape.n_kv_heads * shape.d_head);
    b.reserve(n, heads * d, heads, d, n).map_err(fail)?;
    let mut kv = b.new_kv(shape).map_err(fail)?;
    let new = |b: &mut B, width| b.new_act(n, width).map_err(fail);
    let (mut q, mut k, mut v, mut out) = (new(b, heads * d)?, new(b, kv_width)?, new(b, kv_width)?, new(b, heads * d)?);
    let rows: Vec<Row> = (0..n).map(|i| Row { token: 0, pos: i as u32, table: 0 }).collect();
    b.put(&mut q, n, &random_rows(n, heads * d, 1));
    let mut here = vec![0; b.kv_page_bytes(&kv)];
    match bytes {
        Some(bytes) => b.kv_write_page(&mut kv, page, bytes),
        None => {
            for layer in 0..shape.n_layers {
                b.put(&mut k, n, &random_rows(n, kv_width, 10 + layer as u64));
                b.put(&mut v, n, &random_rows(n, kv_width, 20 + layer as u64));
                b.kv_put(&mut kv, layer, &k, &v, Batch { rows: &rows, pages: &[page] });
            }
        }
    }
    for other in (0..shape.n_pages as u32).filter(|p| *p != page) {
        b.kv_read_page(&kv, other, &mut here);
        if here.iter().any(|x| *x != 0) {
            return Err(format!("page {other} changed with page {page}"));
        }
    }
    let mut answers = Vec::new();
    for layer in 0..shape.n_layers {
        b.attend(&q, heads, &kv, layer, Batch { rows: &rows, pages: &[page] }, &mut out);
        answers.extend(rows_of(b, &out, n));
    }
    b.kv_read_page(&kv, page, &mut here);
    Ok((here, answers))
}
