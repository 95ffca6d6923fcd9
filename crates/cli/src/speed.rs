//! `vonk bench`: this machine's ceilings, a model's speed beside them; measurements of servers are in `servers`.

use crate::args::{self, BenchWhat};
use crate::fault::{Fault, print_json};
use crate::open::{Opened, WithBackend, kv_type, open, threads, with_backend};
use crate::servers;
use ::bench::ceiling::{Bound, Ceilings, Demand};
use ::bench::kernels::{self, Kernel};
use ::bench::local::{Local, Part, Plan, measure, measure_rows};
use ::bench::stats;
use cpu::Ceiling;
use formats::ModelDesc;
use ops::{Backend, KvType};
use quant::DType;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Memory read for the bandwidth figure: far beyond any cache.
const READ_BYTES: usize = 512 << 20;
/// Repetitions of a ceiling's measurement.
const CEILING_REPS: usize = 7;

/// What a pass of this model needs, where keys and values are kept so.
pub fn demand(desc: &ModelDesc, kept: KvType) -> Demand {
    let (traffic, hp) = (model::traffic(desc, kept), &desc.hp);
    let head_macs = (hp.d_model * hp.n_vocab) as u64;
    Demand {
        weight_bytes: traffic.weight_bytes,
        kv_bytes: traffic.kv_bytes_per_position,
        layer_macs: traffic.weight_macs.saturating_sub(head_macs),
        head_macs,
        attend_macs: (2 * hp.n_layers * hp.n_heads * hp.d_head) as u64,
    }
}

/// The median; NaN of nothing.
fn median(values: &[f64]) -> f64 {
    stats::median(values).unwrap_or(f64::NAN)
}

/// `vonk bench ...`.
pub fn bench(args: args::Bench) -> Result<(), Fault> {
    match args.what {
        Some(BenchWhat::Rows(rows)) => return bench_rows(rows),
        Some(BenchWhat::Kernels(k)) => return bench_kernels(&k),
        Some(BenchWhat::Ceiling(c)) => return bench_ceiling(&c),
        Some(BenchWhat::Roofline(r)) => return crate::roofline::roofline(&r),
        Some(BenchWhat::Chat(c)) => return servers::chat(c),
        Some(BenchWhat::Edits(e)) => return servers::edits(e, false),
        Some(BenchWhat::Replay(e)) => return servers::edits(e, true),
        Some(BenchWhat::Load(l)) => return servers::load(l),
        Some(BenchWhat::Symbols(s)) => return crate::symbols::symbols(s),
        Some(BenchWhat::Keystrokes(k)) => return crate::keystrokes::keystrokes(k),
        Some(BenchWhat::Fill(f)) => return crate::keystrokes::fill(f),
        Some(BenchWhat::Serve(s)) => return crate::serving::serving(s),
        None => {}
    }
    if let Some(url) = &args.url {
        return servers::chat(args::BenchChat {
            url: url.clone(),
            against: args.against,
            model: args.model.unwrap_or_else(|| "default".to_string()),
            reps: args.reps,
            max_tokens: args.max_tokens,
            prompt_tokens: args.prompt_tokens,
            key: args.key,
            json: args.json,
        });
    }
    let opened = open(args.model.as_deref())?;
    let (before, demand) = (ceilings(threads(&args.engine)), demand(&opened.loaded.desc, kv_type(&args.engine)));
    let mut reports = Vec::new();
    for depth in &args.depth {
        let plan = Plan { depth: *depth, prefill: args.prefill, decode: args.decode, reps: args.reps };
        let quiet = args.json;
        let (prefill, decode) = with_backend(&args.engine, Measure { opened: &opened, plan, quiet })?;
        let (model, threads) = (opened.found.name.clone(), threads(&args.engine));
        let mut local = Local { model, threads, prefill, decode, ceiling: None };
        if let Some(ceilings) = ceilings_again(local.threads, before) {
            local.put_beside(ceilings, &demand);
        }
        if args.json {
            print_json(&local)?;
        }
        reports.push(local);
    }
    if !args.json {
        print_table(&opened, &reports, &args.engine);
    }
    Ok(())
}

struct Measure<'a> {
    opened: &'a Opened,
    plan: Plan,
    quiet: bool,
}

impl WithBackend for Measure<'_> {
    type Out = (Option<Part>, Option<Part>);
    fn run<B: Backend + 'static>(self, backend: B) -> Result<Self::Out, Fault> {
        let n_ctx = self.plan.depth + self.plan.prefill.max(self.plan.decode).max(64);
        let most = self.opened.loaded.desc.hp.n_ctx;
        if n_ctx > most {
            return Err(Fault::input(format!("depth and tokens make {n_ctx}, beyond the model's context of {most}")));
        }
        let mut probe = self.opened.probe(backend, n_ctx, base::limits::STEP_ROWS_MAX, 1)?;
        let mut show = |line: &str| {
            if !self.quiet {
                eprint!("\r\x1b[2K{line}");
            }
        };
        let out = measure(&mut probe, self.plan, &mut show);
        show("");
        Ok(out)
    }
}

struct MeasureRows<'a>(&'a Opened, &'a args::BenchRows);

impl WithBackend for MeasureRows<'_> {
    type Out = Vec<::bench::local::Rows>;
    fn run<B: Backend + 'static>(self, backend: B) -> Result<Self::Out, Fault> {
        let most = self.1.rows.iter().copied().max().unwrap_or(1);
        if most == 0 || most > base::limits::STEP_ROWS_MAX {
            return Err(Fault::input(format!("--rows must be between 1 and {}", base::limits::STEP_ROWS_MAX)));
        }
        let mut probe = self.0.probe(backend, self.1.depth + most, base::limits::STEP_ROWS_MAX, most)?;
        Ok(measure_rows(&mut probe, &self.1.rows, self.1.depth, self.1.reps))
    }
}

fn bench_rows(args: args::BenchRows) -> Result<(), Fault> {
    let opened = open(args.model.as_deref())?;
    let before = ceilings(threads(&args.engine));
    let mut rows = with_backend(&args.engine, MeasureRows(&opened, &args))?;
    let ceilings = ceilings_again(threads(&args.engine), before);
    if let Some(ceilings) = ceilings {
        let demand = demand(&opened.loaded.desc, kv_type(&args.engine));
        rows.iter_mut().for_each(|r| r.put_beside(ceilings, &demand, args.depth));
    }
    if args.json {
        return print_json(&json!({"rows": rows, "ceiling": ceilings}));
    }
    let one = rows.first().map_or(1.0, |r| median(&r.ms));
    for r in &rows {
        let ms = median(&r.ms);
        let beside = beside(r.ceiling_ms, r.percent_of_ceiling, r.bound);
        println!(
            "{:4} rows at depth {}: {ms:8.2} ms, {:5.2} x the first; ceiling {beside}",
            r.rows,
            args.depth,
            ms / one
        );
    }
    Ok(())
}

/// A ceiling's figure, how much of it was reached, and what it is made of.
fn beside(ceiling: Option<f64>, percent: Option<f64>, bound: Option<Bound>) -> String {
    let bound = match bound {
        Some(Bound::Memory) => "memory",
        Some(Bound::Compute) => "compute",
        None => return String::new(),
    };
    let (ceiling, percent) = (ceiling.unwrap_or(f64::NAN), percent.unwrap_or(f64::NAN));
    format!("{ceiling:9.2} {percent:6.0} % {bound:>8}")
}

struct MeasureKernels<'a>(&'a args::BenchKernels, Vec<DType>);

impl WithBackend for MeasureKernels<'_> {
    type Out = Vec<Kernel>;
    fn run<B: Backend + 'static>(self, mut backend: B) -> Result<Self::Out, Fault> {
        Ok(kernels::measure(&mut backend, &self.1, &self.0.rows, self.0.reps)?)
    }
}

fn bench_kernels(args: &args::BenchKernels) -> Result<(), Fault> {
    let known = || DType::ALL.into_iter().filter(|t| t.is_weight());
    let named = |name: &String| {
        let list = || known().map(DType::name).collect::<Vec<_>>().join(", ");
        let found = known().find(|t| t.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| Fault::input(format!("`{name}` is no weight type; there are {}", list())))
    };
    let types = if args.types.is_empty() {
        known().collect()
    } else {
        args.types.iter().map(named).collect::<Result<_, _>>()?
    };
    if args.rows.is_empty() || args.rows.iter().any(|n| *n == 0 || *n > base::limits::STEP_ROWS_MAX) {
        return Err(Fault::input(format!("--rows must be between 1 and {}", base::limits::STEP_ROWS_MAX)));
    }
    let measured = with_backend(&args.engine, MeasureKernels(args, types))?;
    let ceiling = ceilings(threads(&args.engine));
    if args.json {
        return print_json(&json!({"kernels": measured, "ceiling": ceiling}));
    }
    println!("{:30} {:>5} {:>10} {:>8} {:>6} {:>9} {:>6}", "kernel", "rows", "ms", "GB/s", "of it", "Gop/s", "of it");
    for k in &measured {
        let share = |x: f64, of: Option<f64>| of.map_or(String::new(), |of| format!("{:.0} %", 100.0 * x / of));
        let is_f32 = k.kernel.starts_with("attend") || k.kernel.contains("F16") || k.kernel.contains("F32");
        let peak = ceiling.as_ref().map(|c| if is_f32 { c.f32_gflops } else { c.int8_gops });
        let memory = share(k.gbps, ceiling.as_ref().map(|c| c.read_gbps));
        println!(
            "{:30} {:5} {:10.4} {:8.1} {memory:>6} {:9.1} {:>6}",
            k.kernel,
            k.rows,
            k.ms,
            k.gbps,
            k.gops,
            share(k.gops, peak)
        );
    }
    Ok(())
}

/// Measures the ceilings of this machine at a thread count.
pub fn ceilings(threads: usize) -> Option<Ceilings> {
    let mut c = Ceiling::new(None, threads, READ_BYTES)?;
    let mut best = |work: &mut dyn FnMut(&mut Ceiling) -> u64| {
        let rate = |_| {
            let start = Instant::now();
            work(&mut c) as f64 / start.elapsed().as_secs_f64() / 1e9
        };
        median(&(0..CEILING_REPS).map(rate).collect::<Vec<f64>>())
    };
    Some(Ceilings {
        read_gbps: best(&mut Ceiling::read),
        int8_gops: best(&mut Ceiling::int8),
        f32_gflops: best(&mut Ceiling::f32),
    })
}

/// Measures the ceilings once more, after the work, and takes the higher ones: a shared machine drifts.
pub fn ceilings_again(threads: usize, before: Option<Ceilings>) -> Option<Ceilings> {
    Some(ceilings(threads)?.max(before?))
}

fn bench_ceiling(args: &args::BenchCeiling) -> Result<(), Fault> {
    let most = cpu::dispatch::threads();
    let mut counts = vec![1];
    counts.extend((most > 1).then_some(most));
    let (mut read, mut int8, mut f32s) = (Map::new(), Map::new(), Map::new());
    for threads in counts {
        let c = ceilings(threads).ok_or_else(|| Fault::failed("no instruction set of this CPU is known here"))?;
        if !args.json {
            println!(
                "{threads} threads: memory read {:.1} GB/s, int8 {:.0} Gop/s, f32 {:.0} GFLOP/s",
                c.read_gbps, c.int8_gops, c.f32_gflops
            );
        }
        for (map, value) in [(&mut read, c.read_gbps), (&mut int8, c.int8_gops), (&mut f32s, c.f32_gflops)] {
            map.insert(threads.to_string(), Value::from(value));
        }
    }
    if args.json {
        print_json(&json!({"read_gbps": read, "int8_gops": int8, "f32_gflops": f32s}))?;
    }
    Ok(())
}

/// Figures beside what memory and arithmetic would allow.
fn print_table(opened: &Opened, reports: &[Local], engine: &args::Engine) {
    let (traffic, threads) = (model::traffic(&opened.loaded.desc, kv_type(engine)), threads(engine));
    println!(
        "{}, {threads} threads; {} weight bytes and {} KV bytes per position and token",
        opened.found.name, traffic.weight_bytes, traffic.kv_bytes_per_position
    );
    if let Some(c) = reports.first().and_then(|r| r.ceiling) {
        println!(
            "this machine: memory read {:.1} GB/s, int8 {:.0} Gop/s, f32 {:.0} GFLOP/s",
            c.read_gbps, c.int8_gops, c.f32_gflops
        );
    }
    println!(
        "{:8} {:>6} {:>7} {:>10} {:>17} {:>9} {:>8} {:>8}",
        "", "tokens", "depth", "tok/s", "min-max", "ceiling", "of it", "bound by"
    );
    for r in reports {
        for (name, p) in [("prefill", &r.prefill), ("decode", &r.decode)] {
            let Some(p) = p else { continue };
            let (low, high) = stats::min_max(&p.tps).unwrap_or((f64::NAN, f64::NAN));
            let beside = beside(p.ceiling_tps, p.percent_of_ceiling, p.bound);
            let range = format!("{low:.1}-{high:.1}");
            println!("{name:8} {:6} {:7} {:10.1} {range:>17} {beside}", p.n, p.depth, median(&p.tps));
        }
    }
    if let Some((p, d)) = reports.first().and_then(|r| r.prefill.as_ref().zip(r.decode.as_ref())) {
        let (ttft, itl) = (p.n as f64 / median(&p.tps), 1.0 / median(&d.tps));
        let effective = d.n as f64 / (ttft + d.n as f64 * itl);
        println!(
            "a prompt of {} and an answer of {}: ttft {:.0} ms, effective speed {effective:.1} tok/s",
            p.n,
            d.n,
            (ttft + itl) * 1e3
        );
    }
}
