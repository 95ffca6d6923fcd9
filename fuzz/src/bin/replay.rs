//! Runs targets without libFuzzer and without compiler flags: `replay TARGET [--seconds N] [--seed S] [FILE|FOLDER]...`
//! runs every file given, then mutates them and the seeds for N seconds (0 if not given), seeing no coverage.
//! Exit 1 and the failing input in `replay-TARGET.bin` when the target panics.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base::rng::bits;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let Some(target) = targets::TARGETS.into_iter().find(|t| t.name == name) else {
        eprintln!("no target \"{name}\"; there are: {}", targets::TARGETS.map(|t| t.name).join(", "));
        return ExitCode::from(2);
    };
    let (mut seconds, mut seed, mut inputs) = (0, 1, (target.seeds)());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => seconds = args.next().and_then(|n| n.parse().ok()).unwrap_or(0),
            "--seed" => seed = args.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            path => read(Path::new(path), &mut inputs),
        }
    }
    if inputs.is_empty() {
        inputs.push(Vec::new());
    }
    let start = Instant::now();
    let mut runs = 0u64;
    let mut input = Vec::new();
    let is_fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for whole in &inputs {
            input.clone_from(whole);
            (target.run)(&input);
            runs += 1;
        }
        while start.elapsed() < Duration::from_secs(seconds) {
            mutate(&inputs, &mut input, seed, runs);
            (target.run)(&input);
            runs += 1;
        }
    }))
    .is_ok();
    println!("{name}: {runs} runs in {:.1} s", start.elapsed().as_secs_f64());
    if is_fine {
        return ExitCode::SUCCESS;
    }
    let out = PathBuf::from(format!("replay-{name}.bin"));
    match std::fs::write(&out, &input) {
        Ok(()) => eprintln!("failed; the input is in {}", out.display()),
        Err(e) => eprintln!("failed; the input could not be written: {e}"),
    }
    ExitCode::FAILURE
}

fn read(path: &Path, inputs: &mut Vec<Vec<u8>>) {
    if let Ok(entries) = std::fs::read_dir(path) {
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        paths.iter().for_each(|p| read(p, inputs));
    } else if let Ok(bytes) = std::fs::read(path) {
        inputs.push(bytes);
    }
}

/// One to eight cuts, copies and overwrites of a known input.
fn mutate(inputs: &[Vec<u8>], out: &mut Vec<u8>, seed: u64, run: u64) {
    let r = |lane: u64, n: usize| (bits(seed, run, lane) % n.max(1) as u64) as usize;
    out.clone_from(&inputs[r(0, inputs.len())]);
    for step in 0..1 + r(1, 8) as u64 {
        let lane = 2 + step * 8;
        let at = r(lane, out.len());
        let end = (at + r(lane + 1, 32)).min(out.len());
        match r(lane + 2, 6) {
            0 => drop(out.drain(at..end)),
            1 => {
                let copy = out[at..end].to_vec();
                let to = r(lane + 3, out.len());
                out.splice(to..to, copy);
            }
            2 => {
                let other = &inputs[r(lane + 4, inputs.len())];
                let from = r(lane + 5, other.len());
                let piece = other[from..(from + 32).min(other.len())].to_vec();
                drop(out.splice(at..end, piece));
            }
            3 => out.truncate(r(lane + 6, out.len() + 1)),
            _ if at < out.len() => out[at] = bits(seed, run, lane + 7) as u8,
            _ => {}
        }
    }
}
