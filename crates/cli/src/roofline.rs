//! `vonk bench roofline`: a model's kernels and whole passes below the machine's roofs, drawn.

use crate::args;
use crate::fault::{Fault, print_json};
use crate::open::{Opened, WithBackend, kv_type, open, threads, with_backend};
use crate::speed::{ceilings, ceilings_again, demand};
use ::bench::ceiling::{Ceilings, Demand, Work};
use ::bench::kernels::{Kernel, Shape, measure_shapes};
use ::bench::local::{Plan, measure, measure_rows};
use ::bench::roofline::{Point, svg};
use ::bench::stats::median;
use formats::ModelDesc;
use ops::Backend;
use serde_json::{Value, json};

/// Row counts of the kernels.
const KERNEL_ROWS: [usize; 5] = [1, 4, 16, 64, 512];
/// Row counts of whole passes: what verification of drafts does.
const PASS_ROWS: [usize; 3] = [4, 16, 64];
/// Tokens of the prefill.
const PREFILL: usize = 512;
/// Tokens of the decode.
const DECODE: usize = 32;
/// Rows of a matrix, at most: the output head is cut to this.
const MATRIX_ROWS_MAX: u64 = 8192;
/// Weights of a kernel's matrix, at least: smaller ones would be read from a cache.
const WEIGHTS_MIN: u64 = 1 << 20;

/// `vonk bench roofline`.
pub fn roofline(args: &args::BenchRoofline) -> Result<(), Fault> {
    let opened = open(args.model.as_deref())?;
    let threads = threads(&args.engine);
    let before = ceilings(threads).ok_or_else(|| Fault::failed("no instruction set of this CPU is known here"))?;
    eprintln!("measuring kernels");
    let shapes = shapes(&opened.loaded.desc);
    let kernels = with_backend(&args.engine, Kernels(&shapes, args.reps))?;
    eprintln!("measuring whole passes");
    let demand = demand(&opened.loaded.desc, kv_type(&args.engine));
    let mut points = with_backend(&args.engine, Passes { opened: &opened, demand, reps: args.reps })?;
    points.extend(kernels.iter().map(kernel_point));
    let ceilings = ceilings_again(threads, Some(before)).unwrap_or(before);
    let title = format!("Roofline: {}, {threads} threads", short_name(&opened.found.name));
    if let Some(path) = &args.out {
        let drawn = svg(&title, NOTES, ceilings, &points);
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| Fault::failed(format!("{}: {e}", folder.display())))?;
        }
        std::fs::write(path, drawn).map_err(|e| Fault::failed(format!("{}: {e}", path.display())))?;
        eprintln!("wrote {}", path.display());
    }
    let rows: Vec<Value> = points.iter().map(|p| row(p, ceilings)).collect();
    if args.json {
        let model = &opened.found.name;
        return print_json(&json!({"model": model, "threads": threads, "ceiling": ceilings, "points": rows}));
    }
    println!("{:28} {:14} {:>9} {:>9} {:>9} {:>6}", "series", "point", "ops/byte", "Gop/s", "roof", "of it");
    for (p, row) in points.iter().zip(&rows) {
        let figure = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
        let (roof, percent) = (figure("ceiling_gops"), figure("percent_of_ceiling"));
        println!("{:28} {:14} {:9.1} {:9.1} {roof:9.1} {percent:4.0} %", p.series, p.label, p.intensity, p.gops);
    }
    Ok(())
}

const NOTES: [&str; 2] = [
    "Kernels: one matrix times 1 to 512 rows (x1 ... x512), weights from memory. Medians.",
    "Whole model: a pass with attention and everything else in it; 4 to 64 rows at depth 512, all with logits.",
];

/// The last part of a path, without its extension: pictures hold no paths of a machine.
fn short_name(name: &str) -> String {
    std::path::Path::new(name).file_name().map_or_else(String::new, |f| f.to_string_lossy().replace(".gguf", ""))
}

fn row(p: &Point, c: Ceilings) -> Value {
    let roof = c.int8_gops.min(c.read_gbps * p.intensity);
    json!({
        "series": p.series, "point": p.label, "ops_per_byte": p.intensity, "gops": p.gops,
        "ceiling_gops": roof, "percent_of_ceiling": 100.0 * p.gops / roof,
    })
}

fn kernel_point(k: &Kernel) -> Point {
    let short = k.kernel.strip_prefix("gemm ").unwrap_or(&k.kernel);
    let dtype = short.split(' ').next().unwrap_or(short);
    let label = format!("{dtype} x{}", k.rows);
    Point { series: short.to_owned(), label, intensity: k.gops / k.gbps, gops: k.gops }
}

/// For each quantised type of the model, the matrix that most of its weights are in.
fn shapes(desc: &ModelDesc) -> Vec<Shape> {
    let mut found: Vec<(Shape, u64)> = Vec::new();
    for t in desc.tensors.iter().filter(|t| t.name != "token_embd.weight" && t.dtype.block_len() > 1) {
        let [rows, cols] = t.shape.as_slice() else { continue };
        if rows * cols < WEIGHTS_MIN {
            continue;
        }
        let shape = Shape { dtype: t.dtype, rows: (*rows).min(MATRIX_ROWS_MAX) as usize, cols: *cols as usize };
        match found.iter_mut().find(|(s, _)| *s == shape) {
            Some((_, bytes)) => *bytes += t.extent.len(),
            None => found.push((shape, t.extent.len())),
        }
    }
    found.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let mut out: Vec<Shape> = Vec::new();
    for (shape, _) in found {
        if out.iter().all(|s| s.dtype != shape.dtype) {
            out.push(shape);
        }
    }
    out
}

struct Kernels<'a>(&'a [Shape], usize);

impl WithBackend for Kernels<'_> {
    type Out = Vec<Kernel>;
    fn run<B: Backend + 'static>(self, mut backend: B) -> Result<Self::Out, Fault> {
        Ok(measure_shapes(&mut backend, self.0, &KERNEL_ROWS, self.1)?)
    }
}

struct Passes<'a> {
    opened: &'a Opened,
    demand: Demand,
    reps: usize,
}

impl WithBackend for Passes<'_> {
    type Out = Vec<Point>;
    fn run<B: Backend + 'static>(self, backend: B) -> Result<Self::Out, Fault> {
        let steps = base::limits::STEP_ROWS_MAX;
        let most = PASS_ROWS.into_iter().max().unwrap_or(1);
        let mut probe = self.opened.probe(backend, PREFILL + most.max(DECODE), steps, most)?;
        let plan = Plan { depth: 0, prefill: PREFILL, decode: DECODE, reps: self.reps };
        let (prefill, decode) = measure(&mut probe, plan, &mut |_| {});
        let mut out = Vec::new();
        let mut add = |label: String, passes: &[Work], s: Option<f64>| {
            let ops: f64 = passes.iter().map(|w| w.int8_ops).sum();
            let bytes = self.demand.weight_bytes as f64 * passes.len() as f64;
            let Some(s) = s else { return };
            out.push(Point { series: "whole model".into(), label, intensity: ops / bytes, gops: ops / s / 1e9 });
        };
        let s = |part: Option<::bench::local::Part>| part.and_then(|p| Some(p.n as f64 / median(&p.tps)?));
        add("decode".into(), &self.demand.decode(DECODE, 0), s(decode));
        for r in measure_rows(&mut probe, &PASS_ROWS, PREFILL, self.reps) {
            let work = self.demand.pass(r.rows, r.rows, PREFILL);
            add(format!("{} rows", r.rows), &[work], median(&r.ms).map(|ms| ms / 1e3));
        }
        add(format!("prefill {PREFILL}"), &self.demand.prefill(PREFILL, 0), s(prefill));
        Ok(out)
    }
}
