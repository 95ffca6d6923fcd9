//! `cargo xtask golden`: makes the recorded answers of other engines again, with the scripts beside them. CI never does;
//! a person runs this and reviews the difference.

use std::path::{Path, PathBuf};

use crate::run::{Outcome, command, root, run};
use crate::tools;

/// Runs the scripts in `tests/golden` whose names are given, or all that begin with `make_`.
pub fn main(args: &[&str]) -> Outcome {
    let folder = root().join("tests").join("golden");
    let scripts = match scripts(&folder, args) {
        Ok(scripts) => scripts,
        Err(why) => return Outcome::Failed(why),
    };
    for script in scripts {
        if let Err(why) = make(&script) {
            return Outcome::Failed(why);
        }
    }
    run(&mut command("git", &["--no-pager", "diff", "--stat", "--", "tests/golden"])).into()
}

fn scripts(folder: &Path, names: &[&str]) -> Result<Vec<PathBuf>, String> {
    if let Some(option) = names.iter().find(|n| n.starts_with('-')) {
        return Err(format!("`{option}` is not an option of golden"));
    }
    if !names.is_empty() {
        let path = |name: &&str| folder.join(format!("{}.py", name.trim_end_matches(".py")));
        return match names.iter().map(path).find(|p| !p.exists()) {
            Some(missing) => Err(format!("there is no {}", missing.display())),
            None => Ok(names.iter().map(path).collect()),
        };
    }
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let is_maker = |p: &PathBuf| {
        let name = p.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("make_") && name.ends_with(".py")
    };
    let mut scripts: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(is_maker).collect();
    scripts.sort();
    Ok(scripts)
}

/// Runs one script with the packages of its own requirements file, or of the common one.
fn make(script: &Path) -> Result<(), String> {
    let stem = script.file_stem().unwrap_or_default().to_string_lossy().replace("make_", "");
    let own = format!("tests/golden/requirements-{stem}.txt");
    let (name, requirements) = if root().join(&own).exists() {
        (format!("golden-{stem}"), own)
    } else {
        ("golden".to_string(), "tests/golden/requirements.txt".to_string())
    };
    let python = tools::python(&name, &requirements)?;
    let mut command = command(python, &[]);
    command.arg(script);
    if stem == "llamacpp" {
        command.args(recorded_models()?).arg("--exact");
    }
    run(&mut command)
}

/// `NAME=PATH` for each model of which there is a record; it must have been pulled.
fn recorded_models() -> Result<Vec<String>, String> {
    let folder = root().join("tests").join("golden");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let files = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = files.filter_map(|f| f.strip_suffix(".llamacpp.json").map(str::to_string)).collect();
    names.sort();
    let pair = |name: String| match crate::steps::model_path(|m| m["name"] == name.as_str()) {
        Some(path) => Ok(format!("{name}={path}")),
        None => Err(format!("{name} is not on this machine: cargo run --release -- pull {name}")),
    };
    names.into_iter().map(pair).collect()
}
