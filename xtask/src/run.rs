//! Running other programs, and what came of a step.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What came of a step.
pub enum Outcome {
    /// All is well.
    Passed,
    /// Something is missing that a test machine need not have; says what.
    LeftOut(String),
    /// Something is wrong; says what.
    Failed(String),
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Outcome::Failed, |()| Outcome::Passed)
    }
}

/// The workspace's folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A command in the workspace's folder, ready to be given arguments.
pub fn command(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// The cargo that runs this program.
pub fn cargo(args: &[&str]) -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), args)
}

/// Runs a command, its output going where ours goes.
pub fn run(command: &mut Command) -> Result<(), String> {
    let shown = show(command);
    println!("$ {shown}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` ended with {status}")),
        Err(e) => Err(format!("`{shown}` did not start: {e}")),
    }
}

/// Runs a command and returns what it wrote to stdout.
pub fn output(command: &mut Command) -> Result<String, String> {
    let shown = show(command);
    let out = command.output().map_err(|e| format!("`{shown}` did not start: {e}"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr).trim_end().to_string();
        return Err(format!("`{shown}` ended with {}: {said}", out.status));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The command can be run and says that it succeeded.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Runs a command for at most `limit`; its exit code, or `None` when it had to be ended.
pub fn run_for(command: &mut Command, limit: Duration) -> Result<Option<i32>, String> {
    let shown = show(command);
    let mut child = command.spawn().map_err(|e| format!("`{shown}` did not start: {e}"))?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status.code().unwrap_or(-1))),
            Ok(None) if start.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(None);
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(e) => return Err(format!("`{shown}`: {e}")),
        }
    }
}

/// The command line as a person would type it, with paths below the workspace made short.
fn show(command: &Command) -> String {
    let short = |text: &std::ffi::OsStr| {
        let text = text.to_string_lossy().into_owned();
        let root = format!("{}/", root().display());
        let name = Path::new(&text).file_name().map(|n| n.to_string_lossy().into_owned());
        if text.ends_with("/cargo") { name.unwrap_or(text) } else { text.replace(&root, "") }
    };
    std::iter::once(command.get_program()).chain(command.get_args()).map(short).collect::<Vec<_>>().join(" ")
}
