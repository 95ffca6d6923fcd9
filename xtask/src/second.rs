//! The second tier, `cargo xtask test --clients`: real clients and whole-API checks that take minutes or large packages.

use crate::run::{Outcome, command, root, run};
use crate::serve::Served;
use crate::steps::{Step, default_model, no_model, vonk};
use crate::tools;

/// After the steps of every run, where they are asked for; or alone, with `--only`.
pub const STEPS: &[Step] = &[
    Step { name: "dialects", what: "the Python clients of Ollama and Mistral against our server", run: dialects },
    Step { name: "schema", what: "schemathesis against the OpenAPI document: no 5xx", run: schema },
];

fn dialects() -> Outcome {
    match default_model() {
        Some(model) => script(&model, "dialects", "run_dialects.py", "requirements-dialects.txt"),
        None => no_model(),
    }
}

fn schema() -> Outcome {
    let tiny = root().join("tests").join("golden").join("tiny-qwen2.gguf");
    script(&tiny.to_string_lossy(), "schema", "run_schema.py", "requirements-schema.txt")
}

/// A script of `tests/clients` against a server of its own.
fn script(model: &str, name: &str, script: &str, requirements: &str) -> Outcome {
    let python = match tools::python(name, &format!("tests/clients/{requirements}")) {
        Ok(python) => python,
        Err(why) => return Outcome::Failed(why),
    };
    let served = match Served::start(&vonk(), model) {
        Ok(served) => served,
        Err(why) => return Outcome::Failed(why),
    };
    let url = format!("http://{}", served.address);
    run(command(python, &[]).arg(root().join("tests").join("clients").join(script)).args(["--base-url", &url])).into()
}
