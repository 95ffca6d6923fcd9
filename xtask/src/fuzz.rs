//! Fuzzing for a few seconds in every run: the targets of `fuzz/`, with coverage, built by the ordinary toolchain and a C++
//! compiler. One target has a planted bug: if that is not found, the fuzzer does not work and the step fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::run::{Outcome, cargo, command, output, root, run, run_for, succeeds, target};

/// Seconds for each target.
const SECONDS: u64 = 15;
/// The target with the planted bug.
const CANARY: &str = "canary";
/// libFuzzer's exit code for a finding.
const FOUND: i32 = 77;
/// What makes the compiler report coverage to libFuzzer.
const COVERAGE: &str = "--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Builds and runs every target.
pub fn main() -> Outcome {
    if !root().join("fuzz").join("Cargo.toml").exists() {
        return Outcome::LeftOut("there is no fuzz folder".into());
    }
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    if !succeeds(&mut command(compiler, &["--version"])) {
        return Outcome::LeftOut("no C++ compiler, which libFuzzer needs (Debian, Ubuntu: apt install g++)".into());
    }
    all().into()
}

fn all() -> Result<(), String> {
    let folder = target().join("fuzz");
    let corpus = folder.join("corpus");
    let mut seeds = fuzz_cargo("run", &folder);
    run(seeds.args(["--quiet", "--no-default-features", "--bin", "seeds", "--"]).arg(&corpus))?;

    let targets = targets()?;
    if !targets.iter().any(|t| t == CANARY) {
        return Err(format!("no fuzz target is called {CANARY}"));
    }
    // Naming the machine as the target keeps the flags away from build scripts.
    let host = host()?;
    let mut build = fuzz_cargo("build", &folder);
    build.args(["--quiet", "--target", &host]).env("RUSTFLAGS", COVERAGE);
    build.args(targets.iter().flat_map(|t| ["--bin", t]));
    run(&mut build)?;
    let programs = folder.join(&host).join("release");
    // Two at a time: the smallest machine that runs the tests has two cores.
    targets.chunks(2).try_for_each(|pair| {
        std::thread::scope(|scope| {
            let (programs, corpus, folder) = (&programs, &corpus, &folder);
            let running: Vec<_> =
                pair.iter().map(|name| scope.spawn(move || one(name, programs, &corpus.join(name), folder))).collect();
            let ended = running.into_iter().map(|r| r.join().unwrap_or(Err("a thread of this program ended".into())));
            ended.collect::<Result<Vec<()>, String>>().map(|_| ())
        })
    })
}

fn fuzz_cargo(what: &str, folder: &Path) -> std::process::Command {
    let mut command = cargo(&[what, "--manifest-path", "fuzz/Cargo.toml", "--locked", "--release"]);
    command.env("CARGO_TARGET_DIR", folder);
    command
}

/// Runs one target; its findings are kept in the target folder.
fn one(name: &str, programs: &Path, corpus: &Path, folder: &Path) -> Result<(), String> {
    let findings = folder.join("findings");
    for path in [corpus, &findings] {
        std::fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let log = findings.join(format!("{name}.log"));
    let log_file = std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let mut command = command(programs.join(name), &["-timeout=5", "-rss_limit_mb=1024", "-malloc_limit_mb=256"]);
    command.args(["-max_len=8192", "-seed=1"]).arg(format!("-max_total_time={SECONDS}"));
    command.arg(format!("-artifact_prefix={}", findings.join(format!("{name}-")).display())).arg(corpus);
    // Many inputs make a target print; what it says is shown only when it found something.
    command.stdout(std::process::Stdio::null()).stderr(log_file);
    let ended = run_for(&mut command, Duration::from_secs(SECONDS + 60))?;
    let runs = runs(&log).unwrap_or_default();
    match ended {
        Some(FOUND) if name == CANARY => println!("{name}: the planted bug was found, as it must be{runs}"),
        Some(0) if name != CANARY => println!("{name}: nothing found in {SECONDS} s{runs}"),
        Some(0) => return Err(format!("the planted bug was not found in {SECONDS} s: the fuzzer does not work")),
        Some(code) => {
            println!("{}", tail(&log));
            return Err(format!("{name} found something (exit code {code}); the input is in {}", findings.display()));
        }
        None => return Err(format!("{name} did not end")),
    }
    Ok(())
}

/// The last input number that libFuzzer reported.
fn runs(log: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&std::fs::read(log).ok()?).into_owned();
    let number =
        text.lines().rev().find_map(|l| l.strip_prefix('#')?.split_whitespace().next()?.parse::<u64>().ok())?;
    Some(format!(" ({number} runs)"))
}

fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// The programs of the fuzz workspace that need libFuzzer.
fn targets() -> Result<Vec<String>, String> {
    let args = ["metadata", "--manifest-path", "fuzz/Cargo.toml", "--no-deps", "--format-version", "1", "--locked"];
    let text = output(&mut cargo(&args))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let programs = metadata["packages"][0]["targets"].as_array().ok_or("the fuzz workspace has no targets")?;
    let is_target = |t: &&serde_json::Value| t["required-features"].to_string().contains("libfuzzer");
    Ok(programs.iter().filter(is_target).filter_map(|t| t["name"].as_str().map(str::to_string)).collect())
}

/// This machine's target triple.
fn host() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let text = output(&mut command(rustc, &["-vV"]))?;
    text.lines().find_map(|l| l.strip_prefix("host: ")).map(str::to_string).ok_or("rustc does not name its host".into())
}
