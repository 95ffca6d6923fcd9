//! `ops::Backend` over a table of kernels: cuts each operation into items, hands them to the pool.
//! Few barriers: norm and quantisation happen on the calling thread when there is one row; q, k and v are one job; gate, up
//! and their product are one job.

use super::attend::{VECTORS_MAX, partial_len, scratch_len};
use super::gemm::{Input, Into, scratch_bytes};
use super::kv::Slot;
use super::{ActQ, Attend, Gemm, Kernels, Kv, Need, RowQ};
use crate::dispatch::{self, Isa};
use crate::mem::{Act, Aligned, Arena, ITEM, LANES};
use crate::packed::Packed;
use crate::pool::{Out, Pool};
use base::TokenId;
use ops::attention::CHUNK;
use ops::{Backend, Batch, KvShape, KvType, MatSrc, Norm, Numeric, OpsError, PAGE_LEN, Proj, Qkv, RopePairing};
use std::ops::Range;

/// Rows of one sequence whose attention is one item per key/value head.
#[derive(Clone, Copy)]
struct Tile {
    row: usize,
    rows: usize,
}

/// The fast CPU backend.
pub struct Cpu {
    kernels: &'static Kernels,
    kept: KvType,
    pool: Pool,
    weights: Arena,
    normed: Act,
    quantised: ActQ,
    rows_q: Vec<RowQ>,
    gemm_scratch: Aligned<u8>,
    gemm_stride: usize,
    attend_scratch: Aligned<f32>,
    attend_stride: usize,
    partials: Aligned<f32>,
    tiles: Vec<Tile>,
    best: ItemScratch,
    n_ctx: usize,
}

/// Where threads keep an item's outputs that nobody else needs, and the best of each row while a product is not stored.
struct ItemScratch {
    /// Rows there is room for.
    rows: usize,
    /// One item's outputs, `[threads][rows][ITEM]`.
    outs: Aligned<f32>,
    /// Highest value of each lane, `[threads][rows][16]`.
    values: Aligned<f32>,
    /// Where it was: the first column of its group.
    ids: Aligned<u32>,
}

impl ItemScratch {
    fn new(threads: usize, rows: usize) -> Result<Self, OpsError> {
        let (outs, lanes, what) = (threads * rows * ITEM, threads * rows * LANES, "scratch");
        let (outs, values) = (Aligned::zeroed(outs, what)?, Aligned::zeroed(lanes, what)?);
        Ok(Self { rows, outs, values, ids: Aligned::zeroed(lanes, what)? })
    }

    /// The best of row `i` over all threads and lanes: whoever computed it, the highest value, the lower column on a tie.
    fn merged(&self, threads: usize, i: usize) -> (f32, u32) {
        let mut best = (f32::NEG_INFINITY, 0);
        for at in (0..threads).map(|t| (t * self.rows + i) * LANES) {
            for lane in 0..LANES {
                let (value, id) = (self.values[at + lane], self.ids[at + lane] + lane as u32);
                if value > best.0 || (value == best.0 && value > f32::NEG_INFINITY && id < best.1) {
                    best = (value, id);
                }
            }
        }
        best
    }
}

/// f32 vector, padded with zeros to whole lanes.
pub struct Vector(Aligned<f32>);

/// One projection as a job sees it: weights, bias, output and its stride.
type Target<'a> = (&'a Packed, Option<&'a Vector>, Out<'a, f32>, usize);

/// Most projections of one input.
const PROJS_MAX: usize = 4;
/// Items of attention that each thread should have, so that a slow one can do fewer.
const ITEMS_PER_THREAD: usize = 4;
/// Rows from which preparing them is worth a job of its own.
const ROWS_SHARED: usize = 4;

impl Cpu {
    /// On the given instruction set (the best, if none) and number of threads. `None` when the machine lacks it.
    pub fn new(isa: Option<Isa>, threads: usize) -> Option<Self> {
        let kernels = dispatch::kernels(isa.or_else(dispatch::best)?)?;
        let none = || Aligned::zeroed(0, "").ok();
        Some(Self {
            kernels,
            kept: KvType::F16,
            pool: Pool::new(threads),
            weights: Arena::default(),
            normed: Act::new(0, 0).ok()?,
            quantised: ActQ::new(0, 0).ok()?,
            rows_q: Vec::new(),
            gemm_scratch: Aligned::zeroed(0, "").ok()?,
            gemm_stride: 0,
            attend_scratch: none()?,
            attend_stride: 0,
            partials: none()?,
            tiles: Vec::new(),
            best: ItemScratch::new(0, 0).ok()?,
            n_ctx: 0,
        })
    }

    /// With keys and values kept so.
    pub fn with_kv(self, kept: KvType) -> Self {
        Self { kept, ..self }
    }

    /// Norm (if any) and quantisation of `n` rows as far as `mats` need them; fills `normed` and `rows_q`.
    fn prepare<'a>(
        &mut self,
        x: &Act,
        n: usize,
        norm: Option<Norm<'_, Self>>,
        mats: impl Iterator<Item = &'a Packed> + Clone,
    ) {
        let quantise = mats.clone().any(|m| m.dtype.is_quantised());
        let floats = mats.clone().any(|m| !m.dtype.is_quantised());
        let need = mats.fold(Need::default(), |need, m| need.and(m.dtype));
        let Self { kernels, pool, normed, quantised, rows_q, .. } = self;
        rows_q.clear();
        if quantise {
            rows_q.extend((0..n).map(|i| quantised.row(i)));
        }
        let (width, stride, out_stride) = (x.width, x.stride, normed.stride);
        let copies = floats && norm.is_none();
        let out = Out::new(normed.all_mut());
        let each = |i: usize, thread: usize| {
            let from = &x.all()[i * stride..(i + 1) * stride];
            // What is quantised at once is not kept: a thread's one row stays in its first level of cache.
            let to = if floats { i } else { thread };
            let mut src = from;
            if let Some(norm) = &norm {
                // SAFETY: row `i` of `normed` is the item's, or row `thread` the thread's; the kernel's features were checked when
                // the table was chosen.
                src = unsafe {
                    let row = out.part(to * out_stride, stride);
                    (kernels.rms_norm)(from, &norm.weight.0, norm.eps, row, width);
                    row
                };
            } else if copies {
                // SAFETY: the item owns row `i` of `normed`.
                unsafe { out.part(i * out_stride, stride) }.copy_from_slice(from);
            }
            if quantise {
                // SAFETY: the item owns row `i` of the quantised activations.
                unsafe { (kernels.quantise)(&src[..width], &rows_q[i], need) };
            }
        };
        if n < ROWS_SHARED { (0..n).for_each(|i| each(i, 0)) } else { pool.run(n, 4, &each) }
    }

    /// One job: the projections of the prepared rows, two groups of outputs per item.
    fn multiply(&mut self, n: usize, projs: &mut [Proj<'_, Self>], into: Into) {
        let Self { kernels, pool, normed, rows_q, gemm_scratch, gemm_stride, .. } = self;
        let gemm_stride = *gemm_stride;
        assert!(projs.len() <= PROJS_MAX);
        let mut jobs: [Option<Target<'_>>; PROJS_MAX] = [const { None }; PROJS_MAX];
        let mut total = 0;
        for (job, p) in jobs.iter_mut().zip(projs) {
            total += p.mat.groups.div_ceil(2);
            let stride = p.out.stride;
            *job = Some((p.mat, p.bias, Out::new(p.out.all_mut()), stride));
        }
        let scratch = Out::new(&mut gemm_scratch[..]);
        let input = Input { rows_q, x: normed.all(), x_stride: normed.stride, n };
        let (threads, grain) = (pool.threads(), grain(total, pool.threads(), n));
        pool.run(total, grain, &|item, thread| {
            let (mut at, [next, far]) = (item, ahead(item, grain, threads).map(|i| i - item));
            for (mat, bias, out, stride) in jobs.iter().flatten() {
                let items = mat.groups.div_ceil(2);
                if at < items {
                    // SAFETY: each thread has a scratch part of its own.
                    let scratch = unsafe { scratch.part(thread * gemm_stride, gemm_stride) };
                    let groups = (mat.groups - 2 * at).min(2);
                    let job = Gemm {
                        mat,
                        group: 2 * at,
                        groups,
                        next: 2 * (at + next),
                        far: 2 * (at + far),
                        input,
                        bias: bias.map(|b| &b.0[..]),
                        out: out.at(2 * at * LANES),
                        out_stride: *stride,
                        into,
                    };
                    // SAFETY: items of one matrix write disjoint columns; rows have whole groups of columns; `prepare` filled
                    // `n` rows of `mat.cols` columns; the kernel's features were checked when the table was chosen.
                    unsafe { (kernels.gemm)(&job, scratch) };
                    return;
                }
                at -= items;
            }
        });
    }

    /// Cuts the batch into tiles of neighbouring rows of one sequence.
    fn cut(&mut self, batch: Batch<'_>, rows_max: usize) {
        self.tiles.clear();
        for (i, row) in batch.rows.iter().enumerate() {
            let before = i.checked_sub(1).map(|b| batch.rows[b]);
            let goes_on = before.is_some_and(|b| b.table == row.table && b.pos + 1 == row.pos);
            if let Some(tile) = self.tiles.last_mut().filter(|t| goes_on && t.rows < rows_max) {
                tile.rows += 1;
                continue;
            }
            self.tiles.push(Tile { row: i, rows: 1 });
        }
    }
}

/// Items one thread takes at a time: long runs while there is much to do, so that memory is read in streams.
fn grain(items: usize, threads: usize, rows: usize) -> usize {
    if rows > 64 { 1 } else { (items / (threads * 4)).clamp(1, 64) }
}

/// Rows of a tile, at most `most`: as few more tiles as it takes for their items, one for each key/value head, to be shared
/// evenly among threads, and tiles of nearly equal size.
fn even(rows: usize, most: usize, n_kv_heads: usize, threads: usize) -> usize {
    let tiles = rows.div_ceil(most);
    let shared = (tiles..tiles + threads).find(|t| (t * n_kv_heads).is_multiple_of(threads)).unwrap_or(tiles);
    if tiles > 1 { rows.div_ceil(shared) } else { most }
}

/// The item that a thread will probably take after this one: the next of its run of `grain`, or the first of the run that
/// follows those of the other threads.
fn after(item: usize, grain: usize, threads: usize) -> usize {
    let next = item + 1;
    if next.is_multiple_of(grain) { next + grain * (threads - 1) } else { next }
}

/// That item, and the one after it.
fn ahead(item: usize, grain: usize, threads: usize) -> [usize; 2] {
    let next = after(item, grain, threads);
    [next, after(next, grain, threads)]
}

impl Backend for Cpu {
    type Mat = Packed;
    type Vector = Vector;
    type Act = Act;
    type Kv = Kv;

    fn name(&self) -> String {
        format!("cpu {}, {} threads", self.kernels.name, self.pool.threads())
    }
    fn numeric(&self) -> Numeric {
        Numeric::Quantised
    }
    fn kv_type(&self) -> KvType {
        self.kept
    }
    fn load_mat(&mut self, src: MatSrc<'_>, read: impl Fn(Range<usize>) + Sync) -> Result<Packed, OpsError> {
        Packed::new(src, &mut self.pool, &mut self.weights, read)
    }
    fn load_vector(&mut self, values: &[f32]) -> Result<Vector, OpsError> {
        let mut v = Aligned::zeroed(values.len().next_multiple_of(2 * LANES), "a vector")?;
        v[..values.len()].copy_from_slice(values);
        Ok(Vector(v))
    }
    fn new_act(&mut self, rows: usize, width: usize) -> Result<Act, OpsError> {
        Act::new(rows, width)
    }
    fn new_kv(&mut self, shape: KvShape) -> Result<Kv, OpsError> {
        Kv::new(shape, self.kept)
    }
    fn reserve(
        &mut self,
        rows: usize,
        width: usize,
        n_heads: usize,
        d_head: usize,
        n_ctx: usize,
    ) -> Result<(), OpsError> {
        let threads = self.pool.threads();
        self.normed = Act::new(rows.max(threads), width)?;
        self.quantised = ActQ::new(rows, width)?;
        self.rows_q = Vec::with_capacity(rows);
        self.gemm_stride = scratch_bytes(rows).next_multiple_of(64);
        self.gemm_scratch = Aligned::zeroed(threads * self.gemm_stride, "scratch")?;
        let vectors = self.kernels.attend_vectors;
        self.attend_stride = scratch_len(d_head);
        self.attend_scratch = Aligned::zeroed(threads * self.attend_stride, "scratch")?;
        let items = (2 * threads).max(n_heads);
        let partials = items * n_ctx.div_ceil(CHUNK) * vectors * partial_len(d_head);
        self.partials = Aligned::zeroed(partials, "scratch")?;
        self.tiles = Vec::with_capacity(rows);
        self.best = ItemScratch::new(threads, rows)?;
        self.n_ctx = n_ctx;
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
    fn embed(&mut self, table: &Packed, batch: Batch<'_>, out: &mut Act) {
        let (width, stride) = (out.width, out.stride);
        let out = Out::new(out.all_mut());
        self.pool.run(batch.rows.len(), 4, &|i, _| {
            // SAFETY: the item owns row `i`.
            table.row(batch.rows[i].token as usize, unsafe { out.part(i * stride, width) });
        });
    }
    fn gather(&mut self, x: &Act, pick: &[u32], out: &mut Act) {
        for (i, p) in pick.iter().enumerate() {
            out.row_mut(i).copy_from_slice(x.row(*p as usize));
        }
    }
    fn project(&mut self, x: &Act, n: usize, norm: Option<Norm<'_, Self>>, projs: &mut [Proj<'_, Self>]) {
        self.prepare(x, n, norm, projs.iter().map(|p| p.mat));
        self.multiply(n, projs, Into::Set);
    }
    fn project_best(
        &mut self,
        x: &Act,
        n: usize,
        norm: Option<Norm<'_, Self>>,
        mat: &Packed,
        best: &mut [(f32, TokenId)],
    ) {
        self.prepare(x, n, norm, [mat].into_iter());
        let Self { kernels, pool, normed, rows_q, gemm_scratch, gemm_stride, best: kept, .. } = self;
        kept.values.fill(f32::NEG_INFINITY);
        let (gemm_stride, rows, threads) = (*gemm_stride, kept.rows, pool.threads());
        let scratch = Out::new(&mut gemm_scratch[..]);
        let input = Input { rows_q, x: normed.all(), x_stride: normed.stride, n };
        let outs = Out::new(&mut kept.outs[..]);
        let (values, ids) = (Out::new(&mut kept.values[..]), Out::new(&mut kept.ids[..]));
        let items = mat.groups.div_ceil(2);
        let grain = grain(items, threads, n);
        pool.run(items, grain, &|item, thread| {
            let (first, [next, far]) = (item * ITEM, ahead(item, grain, threads));
            let job = Gemm {
                mat,
                group: 2 * item,
                groups: (mat.groups - 2 * item).min(2),
                next: 2 * next,
                far: 2 * far,
                input,
                bias: None,
                out: outs.at(thread * rows * ITEM),
                out_stride: ITEM,
                into: Into::Set,
            };
            let lanes = (thread * rows * LANES, n * LANES);
            // SAFETY: each thread has scratch, outputs and bests of its own, with room for `n` rows (`part` checks); the rest
            // as in `multiply`.
            unsafe {
                (kernels.gemm)(&job, scratch.part(thread * gemm_stride, gemm_stride));
                let outs = outs.part(thread * rows * ITEM, n * ITEM);
                let (values, ids) = (values.part(lanes.0, lanes.1), ids.part(lanes.0, lanes.1));
                (kernels.fold_best)(outs, first as u32, (mat.rows - first).min(ITEM), values, ids);
            }
        });
        best.iter_mut().enumerate().take(n).for_each(|(i, best)| *best = kept.merged(threads, i));
    }
    fn project_add(&mut self, x: &Act, n: usize, mat: &Packed, bias: Option<&Vector>, into: &mut Act) {
        self.prepare(x, n, None, [mat].into_iter());
        self.multiply(n, &mut [Proj { mat, bias, out: into }], Into::Add);
    }
    fn gated(
        &mut self,
        x: &Act,
        n: usize,
        norm: Option<Norm<'_, Self>>,
        gate: &Packed,
        up: &Packed,
        _: &mut Act,
        out: &mut Act,
    ) {
        let mats = [gate, up];
        self.prepare(x, n, norm, mats.into_iter());
        let Self {
            kernels, pool, normed, rows_q, gemm_scratch, gemm_stride, best: ItemScratch { rows, outs, .. }, ..
        } = self;
        let (gemm_stride, strides, rows) = (*gemm_stride, [out.stride, ITEM], *rows);
        assert!(n <= rows);
        // `up` of an item is needed only by that item.
        let (out, ups) = (Out::new(out.all_mut()), Out::new(&mut outs[..]));
        let scratch = Out::new(&mut gemm_scratch[..]);
        let input = Input { rows_q, x: normed.all(), x_stride: normed.stride, n };
        let items = gate.groups.div_ceil(2);
        let (threads, grain) = (pool.threads(), grain(items, pool.threads(), n));
        pool.run(items, grain, &|item, thread| {
            let (group, groups) = (2 * item, (gate.groups - 2 * item).min(2));
            let [next, far] = ahead(item, grain, threads);
            for i in 0..2 {
                let job = Gemm {
                    mat: mats[i],
                    group,
                    groups,
                    next: 2 * next,
                    far: 2 * far,
                    input,
                    bias: None,
                    out: if i == 0 { out.at(group * LANES) } else { ups.at(thread * rows * ITEM) },
                    out_stride: strides[i],
                    into: Into::Set,
                };
                // SAFETY: as in `multiply`; gate and up have equal shapes (checked by the model).
                unsafe { (kernels.gemm)(&job, scratch.part(thread * gemm_stride, gemm_stride)) };
            }
            for r in 0..n {
                // SAFETY: the item owns these columns of `out`, the thread its part of `ups`; features as above.
                unsafe {
                    let g = out.part(r * strides[0] + group * LANES, groups * LANES);
                    (kernels.swiglu)(g, ups.part((thread * rows + r) * ITEM, groups * LANES));
                }
            }
        });
    }
    fn rope(&mut self, q: &mut Act, n: usize, d_head: usize, angles: &Act, pairing: RopePairing) {
        let (stride, width) = (q.stride, q.width);
        let out = Out::new(q.all_mut());
        let kernels = self.kernels;
        let each = |i: usize, _: usize| {
            // SAFETY: the item owns row `i`; the kernel's features were checked when the table was chosen.
            unsafe {
                let heads = out.part(i * stride, width);
                (kernels.rope)(heads, d_head, angles.row(i), pairing == RopePairing::Interleaved);
            }
        };
        if n < ROWS_SHARED { (0..n).for_each(|i| each(i, 0)) } else { self.pool.run(n, 4, &each) }
    }
    fn project_qkv(
        &mut self,
        x: &Act,
        norm: Option<Norm<'_, Self>>,
        qkv: Qkv<'_, Self>,
        kv: &mut Kv,
        layer: usize,
        batch: Batch<'_>,
    ) {
        let (d, n) = (qkv.d_head, batch.rows.len());
        if !d.is_multiple_of(ITEM) {
            return ops::project_qkv_apart(self, x, norm, qkv, kv, layer, batch);
        }
        let Qkv { q, k, v, angles, pairing, .. } = qkv;
        self.prepare(x, n, norm, [q.mat, k.mat, v.mat].into_iter());
        let Self { kernels, pool, normed, rows_q, gemm_scratch, gemm_stride, .. } = self;
        let (gemm_stride, place) = (*gemm_stride, kv.place);
        let jobs = [q, k, v].map(|p| {
            let stride = p.out.stride;
            (p.mat, p.bias, Out::new(p.out.all_mut()), stride)
        });
        let (keys, values) = kv.parts();
        let scratch = Out::new(&mut gemm_scratch[..]);
        let input = Input { rows_q, x: normed.all(), x_stride: normed.stride, n };
        // An item is a head: its columns, then its rotation, then its place in the cache.
        let per = d / ITEM;
        let heads = jobs.each_ref().map(|job| job.0.rows / d);
        let total = heads.iter().sum();
        let (threads, grain) = (pool.threads(), grain(total * per, pool.threads(), n).div_ceil(per));
        pool.run(total, grain, &|item, thread| {
            let mut head = item;
            let mut which = 0;
            while head >= heads[which] {
                head -= heads[which];
                which += 1;
            }
            let (mat, bias, out, stride) = &jobs[which];
            for part in 0..per {
                let at = head * per + part;
                let [next, far] = ahead(item * per + part, grain * per, threads).map(|i| i - item * per - part);
                let job = Gemm {
                    mat,
                    group: 2 * at,
                    groups: 2,
                    next: 2 * (at + next),
                    far: 2 * (at + far),
                    input,
                    bias: bias.map(|b| &b.0[..]),
                    out: out.at(2 * at * LANES),
                    out_stride: *stride,
                    into: Into::Set,
                };
                // SAFETY: as in `multiply`.
                unsafe { (kernels.gemm)(&job, scratch.part(thread * gemm_stride, gemm_stride)) };
            }
            for (i, row) in batch.rows.iter().enumerate() {
                // SAFETY: the item owns these columns of the output, and this head in every page; the kernels' features were
                // checked when the table was chosen.
                unsafe {
                    let x = out.part(i * stride + head * d, d);
                    if which < 2 {
                        (kernels.rope)(x, d, angles.row(i), pairing == RopePairing::Interleaved);
                    }
                    if which > 0 {
                        let all = if which == 1 { &keys } else { &values };
                        let words = all.part(place.at(layer, batch.page_of(*row), head), place.head_len);
                        let mut slot = Slot { words, place, slot: row.pos as usize % PAGE_LEN };
                        (kernels.kv_put)(&mut slot, x, which == 1);
                    }
                }
            }
        });
    }
    fn kv_put(&mut self, kv: &mut Kv, layer: usize, k: &Act, v: &Act, batch: Batch<'_>) {
        let (place, (keys, values)) = (kv.place, kv.parts());
        let d = place.shape.d_head;
        for (i, row) in batch.rows.iter().enumerate() {
            for head in 0..place.shape.n_kv_heads {
                let at = place.at(layer, batch.page_of(*row), head);
                for (all, x, is_key) in [(&keys, k, true), (&values, v, false)] {
                    // SAFETY: nobody else writes now; the kernel's features were checked when the table was chosen.
                    unsafe {
                        let words = all.part(at, place.head_len);
                        let mut slot = Slot { words, place, slot: row.pos as usize % PAGE_LEN };
                        (self.kernels.kv_put)(&mut slot, &x.row(i)[head * d..][..d], is_key);
                    }
                }
            }
        }
    }
    fn attend(&mut self, q: &Act, n_heads: usize, kv: &Kv, layer: usize, batch: Batch<'_>, out: &mut Act) {
        let shape = kv.place.shape;
        let group = n_heads / shape.n_kv_heads;
        let (few, threads) = (self.kernels.attend_vectors, self.pool.threads());
        // Rows that share pages convert them once; but every thread must get several items.
        let share = batch.rows.len() * shape.n_kv_heads / (ITEMS_PER_THREAD * threads);
        let rows = share.min(VECTORS_MAX / group).max(few / group).max(1);
        let rows = even(batch.rows.len(), rows, shape.n_kv_heads, threads);
        self.cut(batch, rows);
        let vectors = if rows * group <= few { few } else { VECTORS_MAX };
        let subs = group.div_ceil(vectors);
        let items = self.tiles.len() * shape.n_kv_heads * subs;
        let chunks = batch.rows.iter().map(|r| r.pos as usize / CHUNK + 1).max().unwrap_or(0);
        let Self { kernels, pool, attend_scratch, attend_stride, partials, tiles, .. } = self;
        let (d, d_pad, plen) = (shape.d_head, kv.place.d_pad, partial_len(shape.d_head));
        let (out_stride, attend_stride) = (out.stride, *attend_stride);
        let out = Out::new(out.all_mut());
        let scratch = Out::new(&mut attend_scratch[..]);
        // One item's vectors: row and head of each, neighbouring rows of a tile times the heads that share a key/value head.
        let vector = |item: usize, v: usize| {
            let (rest, tile) = (item / tiles.len(), tiles[tiles.len() - 1 - item % tiles.len()]);
            let (kv_head, sub) = (rest / subs, rest % subs);
            let heads = (group - sub * vectors).min(vectors);
            (v < tile.rows * heads)
                .then(|| (tile.row + v / heads, kv_head, kv_head * group + sub * vectors + v % heads))
        };
        let run = |item: usize, from: usize, to: usize, ahead: usize, scratch: &mut [f32]| {
            let (mut queries, mut last, mut n, mut head, mut table) =
                ([&[][..]; VECTORS_MAX], [0u32; VECTORS_MAX], 0, 0, 0);
            while let Some((row, kv_head, h)) = vector(item, n) {
                queries[n] = &q.row(row)[h * d..(h + 1) * d];
                last[n] = batch.rows[row].pos;
                (head, table) = (kv_head, batch.rows[row].table as usize);
                n += 1;
            }
            let to = to.min(last[n.max(1) - 1] as usize / CHUNK + 1);
            let (queries, last) = (&queries[..n], &last[..n]);
            let job = Attend { kv, layer, head, pages: &batch.pages[table..], queries, last, from, to, ahead };
            // SAFETY: the kernel's features were checked when the table was chosen.
            unsafe { (kernels.attend)(&job, scratch) };
        };
        let finish = |item: usize, partial: &[f32]| {
            let mut v = 0;
            while let Some((row, _, h)) = vector(item, v) {
                let p = &partial[v * plen..][..plen];
                let inverse = 1.0 / p[d_pad + 1];
                // SAFETY: the item owns head `h` of `row`.
                let o = unsafe { out.part(row * out_stride + h * d, d) };
                o.iter_mut().zip(p).for_each(|(o, x)| *o = x * inverse);
                v += 1;
            }
        };
        let per_item = rows * group.min(vectors) * plen;
        if items >= 2 * threads || chunks < 2 || items * chunks * per_item > partials.len() {
            pool.run(items, 1, &|item, thread| {
                // SAFETY: each thread has a scratch part of its own.
                let scratch = unsafe { scratch.part(thread * attend_stride, attend_stride) };
                run(item, 0, chunks, 1, scratch);
                finish(item, scratch);
            });
            return;
        }
        // Few rows deep in a context: every chunk is an item, and the partials are merged in order afterwards.
        let parts = Out::new(&mut partials[..]);
        pool.run(items * chunks, 1, &|i, thread| {
            let (item, chunk) = (i / chunks, i % chunks);
            // SAFETY: each thread has a scratch part of its own, each item a partial of its own.
            unsafe {
                let scratch = scratch.part(thread * attend_stride, attend_stride);
                run(item, chunk, chunk + 1, threads, scratch);
                let mut n = 0;
                while vector(item, n).is_some() {
                    n += 1;
                }
                parts.part(i * per_item, n * plen).copy_from_slice(&scratch[..n * plen]);
            }
        });
        for item in 0..items {
            let (first, rest) =
                partials[item * chunks * per_item..(item + 1) * chunks * per_item].split_at_mut(per_item);
            for later in rest.chunks_exact(per_item) {
                let mut v = 0;
                while vector(item, v).is_some() {
                    let p = &later[v * plen..][..plen];
                    if p[d_pad + 1] != 0.0 {
                        let into = &mut first[v * plen..][..plen];
                        // SAFETY: the kernel's features were checked when the table was chosen.
                        unsafe { (kernels.merge)(into, d_pad, p[d_pad], p[d_pad + 1], &p[..d_pad]) };
                    }
                    v += 1;
                }
            }
            finish(item, first);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_ahead_is_what_the_thread_takes_next() {
        for (threads, grain) in [(1, 1), (2, 1), (2, 9), (3, 4)] {
            // Threads that take their runs in turn: thread t has runs t, t + threads, ...
            for thread in 0..threads {
                let runs = (thread..20).step_by(threads);
                let taken: Vec<usize> = runs.flat_map(|run| run * grain..(run + 1) * grain).collect();
                assert!(taken.windows(2).all(|w| after(w[0], grain, threads) == w[1]), "{threads} {grain}");
            }
        }
    }

    #[test]
    fn tiles_of_attention_are_shared_evenly_and_no_larger_than_they_may_be() {
        for rows in 1..300 {
            for (most, n_kv_heads, threads) in [(6, 3, 2), (32, 3, 2), (4, 2, 2), (13, 8, 6), (1, 1, 4)] {
                let tile = even(rows, most, n_kv_heads, threads);
                assert!((1..=most).contains(&tile), "{rows} {most}: {tile}");
            }
        }
        assert_eq!((even(16, 6, 3, 2), even(64, 24, 3, 2), even(5, 6, 3, 2)), (4, 16, 6));
    }
}
