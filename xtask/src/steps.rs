//! `cargo xtask test`: the steps, in order of what they cost, each with a heading and its time.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::run::{Outcome, cargo, command, output, root, run, succeeds, target};
use crate::serve::Served;
use crate::{arm, editor, fuzz, second, tidy, tools};

const DENY_VERSION: &str = "0.20.2";

/// One of the things that `test` does.
pub struct Step {
    /// For `--only`.
    pub name: &'static str,
    /// For people.
    pub what: &'static str,
    /// Does it.
    pub run: fn() -> Outcome,
}

const STEPS: &[Step] = &[
    Step { name: "fmt", what: "every file is formatted", run: fmt },
    Step { name: "tidy", what: "the rules of the house", run: || tidy::main(&[]) },
    Step { name: "deny", what: "licences, sources and known holes of what we depend on", run: deny },
    Step { name: "clippy", what: "lints, as errors", run: clippy },
    Step { name: "check-arm", what: "lints of the kernels for aarch64", run: arm::check },
    Step { name: "model", what: "the default model is on this machine", run: model },
    Step { name: "unit", what: "all tests; those with real weights find the model in the store", run: unit },
    Step { name: "eval", what: "a handful of HumanEval, to see that the model still writes code", run: eval },
    Step { name: "clients", what: "the OpenAI SDKs and Codex CLI against our server", run: clients },
    Step { name: "vscode", what: "the VS Code extension: types, unit tests, package", run: editor::extension },
    Step { name: "chaos", what: "clients that vanish, and death while the cache is saved", run: chaos },
    Step { name: "fuzz", what: "fuzz targets, a few seconds each", run: fuzz::main },
];

/// Steps that run only when they are named: they install much, and take minutes.
const EXTRA: &[Step] = &[
    Step {
        name: "editor",
        what: "the extension in a real VS Code with a real browser (--editor)",
        run: || editor::real(&vonk(), default_model().as_deref()),
    },
    Step { name: "arm", what: "the kernels for aarch64 under emulation: equal bits (--arm)", run: arm::emulated },
];

struct Options {
    keep_going: bool,
    only: Vec<String>,
    /// The second tier, too.
    clients: bool,
}

fn all() -> impl Iterator<Item = &'static Step> {
    STEPS.iter().chain(second::STEPS).chain(EXTRA)
}

/// Runs the steps and prints the summary; the last line counts them.
pub fn main(args: &[&str]) -> ExitCode {
    let options = match parse(args) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\nsteps: {}", all().map(|s| s.name).collect::<Vec<_>>().join(", "));
            return ExitCode::from(2);
        }
    };
    let Some(options) = options else {
        all().for_each(|s| println!("{:9} {}", s.name, s.what));
        return ExitCode::SUCCESS;
    };
    let (mut passed, mut failed, mut left_out) = (0, Vec::new(), Vec::new());
    let start = Instant::now();
    let is_second = |s: &Step| second::STEPS.iter().any(|x| x.name == s.name);
    let is_wanted = |s: &&Step| match options.only.is_empty() {
        true => (options.clients || !is_second(s)) && !EXTRA.iter().any(|x| x.name == s.name),
        false => options.only.iter().any(|o| o == s.name),
    };
    for step in all().filter(is_wanted) {
        println!("\n=== {}: {}", step.name, step.what);
        let _ = std::io::stdout().flush();
        let begun = Instant::now();
        let outcome = (step.run)();
        let seconds = begun.elapsed().as_secs_f64();
        match outcome {
            Outcome::Passed => {
                passed += 1;
                println!("=== {}: passed in {seconds:.1} s", step.name);
            }
            Outcome::LeftOut(why) => {
                println!("=== {}: LEFT OUT: {why}", step.name);
                left_out.push(format!("{}: {why}", step.name));
            }
            Outcome::Failed(why) => {
                println!("=== {}: FAILED in {seconds:.1} s: {why}", step.name);
                failed.push(format!("{}: {why}", step.name));
                if !options.keep_going {
                    break;
                }
            }
        }
    }
    println!("\n=== {:.0} s in all", start.elapsed().as_secs_f64());
    left_out.iter().for_each(|line| println!("left out: {line}"));
    failed.iter().for_each(|line| println!("failed: {line}"));
    println!("{passed} passed, {} failed, {} skipped", failed.len(), left_out.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `None`: the steps are to be listed.
fn parse(args: &[&str]) -> Result<Option<Options>, String> {
    let mut options = Options { keep_going: false, only: Vec::new(), clients: false };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--keep-going" => options.keep_going = true,
            "--clients" => options.clients = true,
            "--editor" => options.only.push("editor".into()),
            "--arm" => options.only.push("arm".into()),
            "--list" => return Ok(None),
            "--only" => match args.next() {
                Some(name) if all().any(|s| s.name == *name) => options.only.push(name.to_string()),
                name => return Err(format!("no step is called `{}`", name.unwrap_or(&""))),
            },
            arg => return Err(format!("`{arg}` is not an option of test")),
        }
    }
    Ok(Some(options))
}

fn fmt() -> Outcome {
    tools::rust_components().and_then(|()| run(&mut cargo(&["fmt", "--all", "--check"]))).into()
}

fn deny() -> Outcome {
    let tool = match tools::cargo_tool("cargo-deny", DENY_VERSION) {
        Ok(tool) => tool,
        Err(why) => return Outcome::Failed(why),
    };
    let args = ["--all-features", "check", "--show-stats", "--hide-inclusion-graph"];
    if let Err(why) = run(command(&tool, &args).args(["licenses", "bans", "sources"])) {
        return Outcome::Failed(why);
    }
    // The advisories are a git repository elsewhere: without a way there, an older copy or none.
    if succeeds(&mut command(&tool, &["fetch", "db"])) {
        return run(command(&tool, &args).arg("advisories")).into();
    }
    println!("note: the list of advisories cannot be reached from here; this one check is left out");
    Outcome::Passed
}

fn clippy() -> Outcome {
    // In the release profile, so that build scripts and procedural macros are built once for this and for the tests.
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--release", "--quiet", "--", "-D", "warnings"])).into()
}

fn unit() -> Outcome {
    run(&mut cargo(&["test", "--workspace", "--release"])).into()
}

fn model() -> Outcome {
    if let Err(why) = run(&mut cargo(&["build", "--release", "--quiet", "--package", "cli"])) {
        return Outcome::Failed(why);
    }
    if default_model().is_some() {
        return Outcome::Passed;
    }
    if std::env::var_os("VONK_OFFLINE").is_some() {
        return Outcome::LeftOut("VONK_OFFLINE is set and the default model is not here".into());
    }
    match run(&mut command(vonk(), &["pull", "default"])) {
        Ok(()) => Outcome::Passed,
        Err(why) => {
            Outcome::LeftOut(format!("the default model could not be fetched ({why}); see above for each source"))
        }
    }
}

fn eval() -> Outcome {
    if default_model().is_none() {
        return no_model();
    }
    let data = std::env::var_os("VONK_DATA").map_or_else(|| root().join("../shared/data"), std::path::PathBuf::from);
    let problems = data.join("humaneval").join("HumanEval.jsonl");
    if !problems.exists() {
        return Outcome::LeftOut("the HumanEval problems are not here (VONK_DATA, or ../shared/data)".into());
    }
    let mut eval = command(vonk(), &["eval", "humaneval", "--limit", "6", "--json", "--data"]);
    let report = match output(eval.arg(problems)) {
        Ok(report) => report,
        Err(why) => return Outcome::Failed(why),
    };
    let report: serde_json::Value = serde_json::from_str(&report).unwrap_or_default();
    println!("HumanEval: {} of {} solved", report["passed"], report["total"]);
    // The 0.5b model solves most of the first six; none at all means that something is broken, not that it is unlucky.
    match report["passed"].as_u64() {
        Some(passed) if passed >= 2 => Outcome::Passed,
        _ => Outcome::Failed("fewer than 2 of 6 problems were solved".into()),
    }
}

fn clients() -> Outcome {
    let Some(path) = default_model() else { return no_model() };
    clients_against(&path)
}

fn clients_against(model: &str) -> Outcome {
    let scripts = root().join("tests").join("clients");
    if !scripts.join("run_python.py").exists() {
        return Outcome::Failed("tests/clients/run_python.py is missing".into());
    }
    let python = match tools::python("clients", "tests/clients/requirements.txt") {
        Ok(python) => python,
        Err(why) => return Outcome::Failed(why),
    };
    let node = match tools::node("run_node.mjs") {
        Ok(node) => node,
        Err(why) => return Outcome::Failed(why),
    };
    let served = match Served::start(&vonk(), model) {
        Ok(served) => served,
        Err(why) => return Outcome::Failed(why),
    };
    let url = format!("http://{}/v1", served.address);
    if let Err(why) = run(command(&python, &[]).arg(scripts.join("run_python.py")).args(["--base-url", &url])) {
        return Outcome::Failed(why);
    }
    let Some(script) = node else {
        return Outcome::LeftOut("the Node SDK: node and npm are not installed (the Python SDK passed)".into());
    };
    if let Err(why) = run(command("node", &[]).arg(&script).args(["--base-url", &url])) {
        return Outcome::Failed(why);
    }
    let packages = script.parent().unwrap_or(&script);
    codex(&python, packages, &served, &[]).into()
}

/// Codex CLI, from a folder with Node packages, against a server.
pub fn codex(python: &Path, packages: &Path, served: &Served, more: &[&str]) -> Result<(), String> {
    let codex = packages.join("node_modules").join(".bin").join(if cfg!(windows) { "codex.cmd" } else { "codex" });
    let mut run_codex = command(python, &[]);
    run_codex.arg(root().join("tests").join("clients").join("run_codex.py")).arg("--codex").arg(codex);
    run_codex.arg("--vonk").arg(vonk()).args(["--base-url", &format!("http://{}/v1", served.address)]);
    run(run_codex.args(more))
}

/// Clients that vanish, and sudden death while the prefix cache is saved; against the real program.
fn chaos() -> Outcome {
    let Some(model) = default_model() else { return no_model() };
    let python = match tools::python("clients", "tests/clients/requirements.txt") {
        Ok(python) => python,
        Err(why) => return Outcome::Failed(why),
    };
    let script = root().join("tests").join("chaos").join("run.py");
    run(command(python, &[]).arg(script).arg("--vonk").arg(vonk()).args(["--model", &model, "--kills", "6"])).into()
}

/// The default model is missing.
pub fn no_model() -> Outcome {
    Outcome::LeftOut("the default model is not on this machine".into())
}

/// Our own program, built for release.
pub fn vonk() -> std::path::PathBuf {
    target().join("release").join(if cfg!(windows) { "vonk.exe" } else { "vonk" })
}

/// Path of the default model's file, if it is on this machine.
pub fn default_model() -> Option<String> {
    model_path(|m| m["is_default"] == serde_json::Value::Bool(true))
}

/// Path of the first model that fits, if its file is on this machine, as `vonk models --json` tells it.
pub fn model_path(fits: impl Fn(&serde_json::Value) -> bool) -> Option<String> {
    let text = output(&mut command(vonk(), &["models", "--json"])).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    let models = value.get("models").unwrap_or(&value).as_array()?;
    models.iter().find(|m| fits(m))?["path"].as_str().map(str::to_string)
}
