//! The VS Code extension: its own checks, which take seconds, and the runs in real editors: VS Code with a browser, Neovim.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Outcome, command, root, run, succeeds, target};
use crate::serve::Served;
use crate::tools;

/// Types, unit tests, and the .vsix.
pub fn extension() -> Outcome {
    if !tools::has_node() {
        return Outcome::LeftOut("node and npm are not installed".into());
    }
    packed().map(|_| ()).into()
}

/// The packed extension in code-server, driven by Chromium, and the set-up of Neovim 0.12: with a stand-in for the language
/// server, and with the real one where the model is here.
pub fn real(vonk: &Path, model: Option<&str>) -> Outcome {
    if !tools::has_node() || !cfg!(target_os = "linux") {
        return Outcome::LeftOut("it needs Linux with node and npm".into());
    }
    match driven(vonk, model) {
        Ok(true) => Outcome::Passed,
        Ok(false) => Outcome::LeftOut("the real language server: no model is here (the stand-in passed)".into()),
        Err(why) => Outcome::Failed(why),
    }
}

fn driven(vonk: &Path, model: Option<&str>) -> Result<bool, String> {
    let vsix = packed()?;
    let host = target().join("test-env").join("editor");
    let test = folder().join("test");
    run(command("sh", &[]).arg(test.join("host").join("install.sh")).arg(&host))?;
    let drive = |more: &[&str]| {
        let mut drive = command("node", &[]);
        drive.arg(test.join("real.mjs")).arg("--host").arg(&host).arg("--vsix").arg(&vsix).args(more);
        run(&mut drive)
    };
    drive(&[])?;
    let nvim = neovim()?;
    let neovim = |more: &[&str]| {
        let Some(nvim) = &nvim else { return Ok(()) };
        run(command("node", &["editors/neovim/test/run.mjs", "--nvim"]).arg(nvim).args(more))
    };
    neovim(&[])?;
    let Some(model) = model.filter(|_| succeeds(&mut command(vonk, &["lsp", "--help"]))) else { return Ok(false) };
    let served = Served::start(vonk, model)?;
    let url = format!("http://{}", served.address);
    let real = ["--program", &vonk.display().to_string(), "--url", &url];
    drive(&real)?;
    neovim(&real)?;
    Ok(true)
}

/// Neovim 0.12, unpacked below the target folder; `None`, with a line that says so, where it cannot be had.
pub fn neovim() -> Result<Option<PathBuf>, String> {
    let folder = target().join("test-env").join("neovim");
    let mut install = command("sh", &["editors/neovim/test/install.sh"]);
    match install.arg(&folder).status() {
        Ok(status) if status.success() => Ok(Some(folder.join("nvim"))),
        Ok(status) if status.code() == Some(3) => {
            println!("note: Neovim 0.12 cannot be had here; its run is left out");
            Ok(None)
        }
        Ok(status) => Err(format!("Neovim was not installed: {status}")),
        Err(e) => Err(format!("sh: {e}")),
    }
}

/// Checks, tests and packs the extension; where the package is.
fn packed() -> Result<PathBuf, String> {
    let wanted = folder().join("package.json");
    let done = folder().join("node_modules").join("installed-for.json");
    let text = fs::read_to_string(&wanted).map_err(|e| format!("{}: {e}", wanted.display()))?;
    if fs::read_to_string(&done).ok().as_ref() != Some(&text) {
        run(&mut npm(&["install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]))?;
        fs::write(&done, text).map_err(|e| format!("{}: {e}", done.display()))?;
    }
    for script in ["check", "test", "package"] {
        run(&mut npm(&["run", "--silent", script]))?;
    }
    Ok(folder().join("vonk.vsix"))
}

fn npm(args: &[&str]) -> Command {
    let mut npm = command(tools::npm(), args);
    npm.current_dir(folder());
    npm
}

fn folder() -> PathBuf {
    root().join("editors").join("vscode")
}
