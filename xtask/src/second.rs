//! The second tier, `cargo xtask test --clients`: real clients and whole-API checks that take minutes or large packages.

use std::path::PathBuf;

use crate::run::{Outcome, command, root, run, target};
use crate::serve::Served;
use crate::steps::{Step, codex, default_model, model_path, no_model, vonk};
use crate::{editor, tools};

/// Calls tools by itself, now and then.
const AGENTS_MODEL: &str = "qwen2.5-coder-1.5b";

/// After the steps of every run, where they are asked for; or alone, with `--only`.
pub const STEPS: &[Step] = &[
    Step { name: "dialects", what: "the Python clients of Ollama and Mistral against our server", run: dialects },
    Step { name: "traces", what: "OpenTelemetry's own messages decode the traces of real requests", run: traces },
    Step { name: "schema", what: "schemathesis against the OpenAPI document: no 5xx", run: schema },
    Step { name: "codex", what: "Codex CLI with a larger model: without a catalogue, and by itself", run: codex_slow },
    Step { name: "agents", what: "opencode, Continue, Qwen Code, goose and aider: one task each", run: agents },
    Step { name: "symbols", what: "the completion's index of names against tree-sitter: recall 0.95", run: symbols },
    Step { name: "editors", what: "llama.vim in Neovim, and vonk lsp in Helix", run: editors },
];

fn dialects() -> Outcome {
    match default_model() {
        Some(model) => script(&model, "dialects", "run_dialects.py", "requirements-dialects.txt"),
        None => no_model(),
    }
}

/// The script starts the server, because it is the collector that the server must know of.
fn traces() -> Outcome {
    let tiny = root().join("tests").join("golden").join("tiny-qwen2.gguf");
    match tools::python("traces", "tests/clients/requirements-traces.txt") {
        Err(why) => Outcome::Failed(why),
        Ok(python) => run(command(python, &[])
            .arg(root().join("tests").join("clients").join("run_traces.py"))
            .arg("--vonk")
            .arg(vonk())
            .arg("--model")
            .arg(tiny))
        .into(),
    }
}

fn schema() -> Outcome {
    let tiny = root().join("tests").join("golden").join("tiny-qwen2.gguf");
    script(&tiny.to_string_lossy(), "schema", "run_schema.py", "requirements-schema.txt")
}

fn codex_slow() -> Outcome {
    let Some(model) = agents_model() else { return no_model() };
    let prepared = tools::python("clients", "tests/clients/requirements.txt")
        .and_then(|python| Ok((python, tools::node_packages("node", "package.json")?)));
    match prepared {
        Err(why) => Outcome::Failed(why),
        Ok((_, None)) => no_node(),
        Ok((python, Some(packages))) => match Served::start(&vonk(), model) {
            Ok(served) => codex(&python, &packages, &served, &["--slow"]).into(),
            Err(why) => Outcome::Failed(why),
        },
    }
}

/// Calls are forced, so any model will do, and the smallest reads their long prompts soonest.
fn agents() -> Outcome {
    let Some(model) = default_model() else { return no_model() };
    let packages = match tools::node_packages("agents", "package-agents.json") {
        Ok(Some(folder)) => folder.join("node_modules"),
        Ok(None) => return no_node(),
        Err(why) => return Outcome::Failed(why),
    };
    let vonk = vonk();
    let more = ["--node-modules", &packages.to_string_lossy(), "--vonk", &vonk.to_string_lossy()];
    script_with(&model, "agents", "run_agents.py", "requirements-agents.txt", &more)
}

/// On our own sources, and on files of real commits where these are.
fn symbols() -> Outcome {
    let python = match tools::python("symbols", "tests/symbols/requirements.txt") {
        Ok(python) => python,
        Err(why) => return Outcome::Failed(why),
    };
    let mut compare = command(python, &["tests/symbols/compare.py", "--min", "0.95", "--show", "3", "--vonk"]);
    compare.arg(vonk()).args(["crates", "tests", "editors/vscode/src"]);
    let data =
        std::env::var_os("VONK_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from).join("git-real-dev");
    if data.is_dir() {
        compare.arg("--data").arg(data);
    }
    run(&mut compare).into()
}

/// In real editors, unpacked below the target folder.
fn editors() -> Outcome {
    if !cfg!(target_os = "linux") {
        return Outcome::LeftOut("it needs Linux".into());
    }
    let Some(model) = default_model() else { return no_model() };
    let nvim = match editor::neovim() {
        Ok(nvim) => nvim,
        Err(why) => return Outcome::Failed(why),
    };
    let mut more = vec!["--vonk".to_owned(), vonk().display().to_string()];
    more.extend(nvim.into_iter().flat_map(|path| ["--nvim".to_owned(), path.display().to_string()]));
    match unpacked() {
        Ok(Some(folder)) => more.extend(
            [("--llama-vim", "llama.vim"), ("--hx", "hx")]
                .iter()
                .flat_map(|(arg, name)| [(*arg).to_owned(), folder.join(name).display().to_string()]),
        ),
        Ok(None) => println!("note: llama.vim and Helix cannot be had here; their runs are left out"),
        Err(why) => return Outcome::Failed(why),
    }
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    script_with(&model, "editors", "run_editors.py", "requirements-editors.txt", &more)
}

/// Where llama.vim and Helix are; `None` where they cannot be had.
fn unpacked() -> Result<Option<PathBuf>, String> {
    let folder = target().join("test-env").join("editors-of-others");
    let status = command("sh", &["tests/clients/unpack.sh"]).arg(&folder).status();
    match status.map_err(|e| format!("sh: {e}"))? {
        status if status.success() => Ok(Some(folder)),
        status if status.code() == Some(3) => Ok(None),
        status => Err(format!("llama.vim and Helix were not unpacked: {status}")),
    }
}

/// The model for agents, fetched if it may be; else the default model, which calls tools only where it must.
fn agents_model() -> Option<&'static str> {
    let is_here = || model_path(|m| m["name"] == AGENTS_MODEL).is_some();
    let fetched =
        || std::env::var_os("VONK_OFFLINE").is_none() && run(&mut command(vonk(), &["pull", AGENTS_MODEL])).is_ok();
    if is_here() || fetched() {
        return Some(AGENTS_MODEL);
    }
    println!("note: {AGENTS_MODEL} is not here; the default model stands in for it");
    default_model().map(|_| "default")
}

fn no_node() -> Outcome {
    Outcome::LeftOut("node and npm are not installed".into())
}

/// A script of `tests/clients` against a server of its own.
fn script(model: &str, name: &str, script: &str, requirements: &str) -> Outcome {
    script_with(model, name, script, requirements, &[])
}

fn script_with(model: &str, name: &str, script: &str, requirements: &str, more: &[&str]) -> Outcome {
    let python = match tools::python(name, &format!("tests/clients/{requirements}")) {
        Ok(python) => python,
        Err(why) => return Outcome::Failed(why),
    };
    let served = match Served::start(&vonk(), model) {
        Ok(served) => served,
        Err(why) => return Outcome::Failed(why),
    };
    let url = format!("http://{}", served.address);
    run(command(python, &[])
        .arg(root().join("tests").join("clients").join(script))
        .args(["--base-url", &url])
        .args(more))
    .into()
}
