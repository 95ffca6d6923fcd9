//! The kernels for aarch64: that they compile (every run, where the target can be had), and that they give the reference's bits,
//! under emulation (`cargo xtask test --arm`). Needs no C compiler: rust-lld links, and the target brings musl.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Outcome, cargo, command, output, run, succeeds, target};

const TARGET: &str = "aarch64-unknown-linux-musl";

/// CPUs to emulate, and which tests on each: everything that QEMU knows, so also dot products; then one that has none.
const CPUS: &[(&str, &[&str])] = &[("max", &[]), ("cortex-a72", &["--test", "conformance"])];

/// Lints, which is more than a check and takes as long.
pub fn check() -> Outcome {
    if let Err(why) = add_target() {
        return Outcome::LeftOut(why);
    }
    let args = ["clippy", "--package", "cpu", "--all-targets", "--release", "--quiet", "--target", TARGET];
    run(cargo(&args).args(["--", "-D", "warnings"])).into()
}

/// The tests of `cpu` and of the rooms that define what it must answer, under QEMU.
pub fn emulated() -> Outcome {
    if cfg!(target_arch = "aarch64") {
        return Outcome::LeftOut("this machine is an aarch64: the step unit runs the same tests".into());
    }
    if !cfg!(target_os = "linux") {
        return Outcome::LeftOut("it needs Linux: QEMU emulates its programs only there".into());
    }
    if let Err(why) = add_target() {
        return Outcome::LeftOut(why);
    }
    let qemu = match qemu() {
        Ok(Some(qemu)) => qemu,
        Ok(None) => {
            return Outcome::LeftOut("qemu-aarch64 is not here (Debian, Ubuntu: apt install qemu-user)".into());
        }
        Err(why) => return Outcome::Failed(why),
    };
    CPUS.iter().try_for_each(|(cpu, more)| run(&mut tests(&qemu, cpu, more))).into()
}

/// `cargo test` for the target, each test under `qemu`.
fn tests(qemu: &Path, cpu: &str, more: &[&str]) -> Command {
    let runner = [&qemu.to_string_lossy(), "-cpu", cpu].map(|arg| format!("{arg:?}")).join(", ");
    let mut test = cargo(&["test", "--release", "--target", TARGET]);
    test.args(["--config", &format!("target.{TARGET}.linker = \"rust-lld\"")]);
    test.args(["--config", &format!("target.{TARGET}.runner = [{runner}]")]);
    test.args(["--package", "quant", "--package", "ops", "--package", "cpu"]).args(more);
    test.env("VONK_EMULATED", "1");
    test
}

/// The standard library for the target, added to the toolchain where it is missing.
fn add_target() -> Result<(), String> {
    let folder = output(&mut command("rustc", &["--print", "target-libdir", "--target", TARGET]))?;
    if Path::new(folder.trim()).is_dir() {
        return Ok(());
    }
    let add = run(&mut command("rustup", &["target", "add", TARGET]));
    add.map_err(|why| format!("the target {TARGET} cannot be had here: {why}"))
}

/// From the PATH, or unpacked below the target folder; `None` where it cannot be had.
fn qemu() -> Result<Option<PathBuf>, String> {
    let installed = ["qemu-aarch64", "qemu-aarch64-static"].map(PathBuf::from);
    if let Some(found) = installed.into_iter().find(|q| succeeds(&mut command(q, &["--version"]))) {
        return Ok(Some(found));
    }
    let folder = target().join("test-env").join("qemu");
    match command("sh", &["tests/arm/qemu.sh"]).arg(&folder).status() {
        Ok(status) if status.success() => Ok(Some(folder.join("qemu-aarch64"))),
        Ok(status) if status.code() == Some(3) => Ok(None),
        Ok(status) => Err(format!("QEMU was not unpacked: {status}")),
        Err(e) => Err(format!("sh: {e}")),
    }
}
