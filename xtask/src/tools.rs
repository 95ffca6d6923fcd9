//! What the tests need and Rust does not bring: Python and Node packages, cargo-deny, cargo-fuzz. All of it is put below
//! the target folder, with the ordinary clients; nothing is installed for the user.

use std::path::PathBuf;

use crate::run::{cargo, command, root, run, succeeds, target};

/// rustfmt and clippy, added to the toolchain where they are missing.
pub fn rust_components() -> Result<(), String> {
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !succeeds(&mut cargo(&[tool, "--version"])) {
            run(&mut command("rustup", &["component", "add", component]))?;
        }
    }
    Ok(())
}

/// A cargo tool: on the PATH, or in the target folder, or built there now.
pub fn cargo_tool(name: &str, version: &str) -> Result<PathBuf, String> {
    let ours = target().join("tools").join("bin").join(name);
    let own_name = name.strip_prefix("cargo-").unwrap_or(name);
    for path in [ours.clone(), PathBuf::from(name)] {
        if succeeds(&mut command(&path, &[own_name, "--version"])) || succeeds(&mut command(&path, &["--version"])) {
            return Ok(path);
        }
    }
    // Unoptimised: it runs for a second, and would take minutes longer to build.
    let folder = target().join("tools");
    let mut install = cargo(&["install", "--locked", "--debug", "--version", version, name, "--root"]);
    install.arg(&folder).env("CARGO_TARGET_DIR", folder.join("build")).env("CARGO_PROFILE_DEV_DEBUG", "0");
    run(&mut install)?;
    let _ = std::fs::remove_dir_all(folder.join("build"));
    Ok(ours)
}

/// A Python with the packages of a requirements file, in a virtual environment of that name. Made once; again when the
/// requirements change.
pub fn python(name: &str, requirements: &str) -> Result<PathBuf, String> {
    let folder = target().join("test-env").join(name);
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let wanted = root().join(requirements);
    let text = std::fs::read_to_string(&wanted).map_err(|e| format!("{}: {e}", wanted.display()))?;
    let done = folder.join("requirements-done.txt");
    if std::fs::read_to_string(&done).is_ok_and(|had| had == text) && succeeds(&mut command(&python, &["--version"])) {
        return Ok(python);
    }
    let system = if cfg!(windows) { "python" } else { "python3" };
    run(command(system, &["-m", "venv", "--clear"]).arg(&folder))
        .map_err(|e| format!("{e}. Python 3 with venv is needed (Debian, Ubuntu: apt install python3-venv)"))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(command(&python, &pip).arg(&wanted))?;
    std::fs::write(&done, text).map_err(|e| format!("{}: {e}", done.display()))?;
    Ok(python)
}

/// A folder with the Node packages of `tests/clients/package.json` and a copy of the script, which finds them there.
/// `None` where there is no Node.
pub fn node(script: &str) -> Result<Option<PathBuf>, String> {
    let Some(folder) = node_packages("node", "package.json")? else { return Ok(None) };
    let (from, to) = (root().join("tests").join("clients").join(script), folder.join(script));
    std::fs::copy(from, &to).map_err(|e| format!("{script}: {e}"))?;
    Ok(Some(to))
}

/// A folder of that name with the Node packages of a list in `tests/clients`. Made once; again when the list has changed.
/// `None` where there is no Node.
pub fn node_packages(name: &str, list: &str) -> Result<Option<PathBuf>, String> {
    if !has_node() {
        return Ok(None);
    }
    let folder = target().join("test-env").join(name);
    let failed = |e: std::io::Error| format!("{list}: {e}");
    let done = folder.join("package-done.json");
    let wanted = std::fs::read_to_string(root().join("tests").join("clients").join(list)).map_err(failed)?;
    if !std::fs::read_to_string(&done).is_ok_and(|had| had == wanted) {
        std::fs::create_dir_all(&folder).map_err(failed)?;
        std::fs::write(folder.join("package.json"), &wanted).map_err(failed)?;
        let npm_install = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"];
        run(command(npm(), &npm_install).current_dir(&folder))?;
        std::fs::write(&done, wanted).map_err(failed)?;
    }
    Ok(Some(folder))
}

/// Node and npm are here.
pub fn has_node() -> bool {
    succeeds(&mut command("node", &["--version"])) && succeeds(&mut command(npm(), &["--version"]))
}

pub fn npm() -> &'static str {
    if cfg!(windows) { "npm.cmd" } else { "npm" }
}
