//! Runs one program that a model wrote, in a Python process of its own behind as many walls as the machine has: limits on
//! time, memory, processes and file size, no network, no writing, no privileges (prelude.py), and namespaces of its own where
//! `unshare` works. The only file here that starts processes. A wall keeps accidents in; it is no jail for an attacker: the
//! program can still read what its user can read.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base::limits;
use serde::{Deserialize, Serialize};

use client::printable;

use crate::error::BenchError;

const PRELUDE: &str = include_str!("prelude.py");
/// How long Python itself may take to start and to tidy up, beyond the program's own time.
const GRACE: Duration = Duration::from_secs(20);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(3);
/// Bytes read of what the prelude says.
const SAID_BYTES_MAX: u64 = 64 * 1024;

/// What a program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramLimits {
    /// Processor seconds.
    pub cpu_s: u64,
    /// Seconds on the clock; more than `cpu_s`, so that a busy machine fails no right answer.
    pub wall_s: u64,
    /// Bytes of address space.
    pub memory_bytes: u64,
}

impl Default for ProgramLimits {
    fn default() -> Self {
        Self {
            cpu_s: limits::EVAL_CPU_S_MAX,
            wall_s: limits::EVAL_WALL_S_MAX,
            memory_bytes: limits::EVAL_MEMORY_BYTES_MAX,
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It ran to its last line.
    Passed,
    /// An `assert` failed.
    Assertion,
    /// Another exception, refusals by the walls among them.
    Exception,
    /// Out of time, and killed.
    Timeout,
    /// Out of memory.
    Memory,
    /// Not Python.
    Syntax,
    /// It ended itself, or crashed, before its last line.
    Exit,
    /// There was no answer to run.
    Ask,
}

impl Verdict {
    /// The word that stands in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Assertion => "assertion",
            Self::Exception => "exception",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Syntax => "syntax",
            Self::Exit => "exit",
            Self::Ask => "ask",
        }
    }
}

/// What the prelude says at the end.
#[derive(Debug, Deserialize)]
pub(crate) struct Outcome {
    pub kind: Verdict,
    pub detail: String,
    pub walls: Vec<String>,
}

/// What stood between the programs and the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Confinement {
    /// Python's version.
    pub python: String,
    /// Walls that stood, in words.
    pub walls: Vec<String>,
}

/// A Python that can run programs.
#[derive(Debug)]
pub(crate) struct Python {
    program: PathBuf,
    version: String,
    /// `unshare` and its arguments, or nothing.
    namespaces: Vec<OsString>,
    /// Off only in tests, to see the other walls hold alone.
    has_hook: bool,
}

/// A folder that goes when this goes.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, BenchError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let failed = |e| BenchError::Python(format!("no temporary folder: {e}"));
        for _ in 0..100 {
            let name = format!("vonk-eval-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = env::temp_dir().join(name);
            let mut builder = DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            match builder.create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Err(failed(std::io::ErrorKind::AlreadyExists.into()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what cannot be removed stays in the system's temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Python {
    /// Finds Python 3.8 or later (`$VONK_PYTHON`, `python3`, `python`) and tries which namespaces this machine grants.
    ///
    /// # Errors
    /// No such Python.
    pub fn find() -> Result<Self, BenchError> {
        let named = env::var_os("VONK_PYTHON").map(PathBuf::from);
        let candidates = named.into_iter().chain(["python3", "python"].iter().filter_map(|name| in_path(name)));
        // Asked in our own environment, for a launcher script needs it; the answer works without.
        let question = "import sys; print(sys.executable); print('%d.%d.%d' % sys.version_info[:3]); \
                        sys.exit(sys.version_info < (3, 8))";
        for candidate in candidates {
            let mut command = Command::new(&candidate);
            command.args(["-I", "-c", question]).stdin(Stdio::null());
            let Some(output) = finished(command, GRACE).filter(|o| o.status.success()) else { continue };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut lines = text.lines();
            if let (Some(program), Some(version)) = (lines.next().filter(|p| !p.is_empty()), lines.next()) {
                let (program, version) = (PathBuf::from(program), version.to_owned());
                let namespaces = namespaces(&program);
                return Ok(Self { program, version, namespaces, has_hook: true });
            }
        }
        Err(BenchError::Python("no Python 3.8 or later was found; install python3 or set VONK_PYTHON to it".to_owned()))
    }

    /// Version and walls, given what the prelude told of its own.
    pub fn confinement(&self, mut walls: Vec<String>) -> Confinement {
        if !self.namespaces.is_empty() {
            walls.push("network-and-process-namespaces".to_owned());
        }
        Confinement { python: self.version.clone(), walls }
    }

    /// Runs `program` to its end or to a limit.
    ///
    /// # Errors
    /// Python did not start or did not say how it went. Whatever the program does is no error but an outcome.
    pub fn run(&self, program: &str, limits: &ProgramLimits) -> Result<Outcome, BenchError> {
        let failed = |what: &str, e: std::io::Error| BenchError::Python(format!("{what}: {e}"));
        let scratch = Scratch::new()?;
        let (job, work) = (scratch.0.join("job.json"), scratch.0.join("work"));
        let text = serde_json::json!({
            "program": program, "cpu_s": limits.cpu_s, "wall_s": limits.wall_s, "memory_bytes": limits.memory_bytes,
            "hook": self.has_hook,
        });
        fs::write(&job, text.to_string()).map_err(|e| failed("cannot write the job", e))?;
        fs::create_dir(&work).map_err(|e| failed("cannot make its folder", e))?;
        let mut command = self.command();
        command.args(["-I", "-B", "-X", "utf8", "-c", PRELUDE]).current_dir(&work).env_clear();
        command.stdin(File::open(&job).map_err(|e| failed("cannot read the job", e))?);
        let allowed = Duration::from_secs(limits.wall_s).saturating_add(GRACE);
        let output = finished(command, allowed)
            .ok_or_else(|| BenchError::Python(format!("{} did not start or hung", self.program.display())))?;
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = printable(said.trim().lines().last().unwrap_or("(nothing)"), 300);
            BenchError::Python(format!("it ended with {} and said: {said}", output.status))
        })
    }

    fn command(&self) -> Command {
        match self.namespaces.split_first() {
            None => Command::new(&self.program),
            Some((unshare, arguments)) => {
                let mut command = Command::new(unshare);
                command.args(arguments).arg(&self.program);
                command
            }
        }
    }
}

/// The file that `name` stands for, made absolute because the programs run elsewhere and without a PATH.
fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let file = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())?;
    fs::canonicalize(file.parent()?).ok().map(|folder| folder.join(name))
}

/// A network without interfaces and a process space that dies with its first process: as root, or as root of a user
/// namespace, or not at all.
fn namespaces(python: &Path) -> Vec<OsString> {
    let Some(unshare) = in_path("unshare") else { return Vec::new() };
    for user in [&[][..], &["--user", "--map-root-user"][..]] {
        let fixed = ["--net", "--pid", "--fork", "--kill-child"];
        let arguments = user.iter().chain(&fixed).map(OsString::from);
        let all: Vec<OsString> = std::iter::once(unshare.clone().into_os_string()).chain(arguments).collect();
        let mut command = Command::new(&unshare);
        command.args(all.iter().skip(1)).arg(python).args(["-I", "-S", "-c", "pass"]).env_clear().stdin(Stdio::null());
        if finished(command, GRACE).is_some_and(|o| o.status.success()) {
            return all;
        }
    }
    Vec::new()
}

/// Runs to the end, or kills after `allowed`; stdin is the caller's to set. `None` if it did not start or had to be killed.
fn finished(mut command: Command, allowed: Duration) -> Option<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    let end = Instant::now().checked_add(allowed)?;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => thread::sleep(LOOK),
            _ => {
                stop(&mut child);
                return None;
            }
        }
    };
    // Both are short: they lie in the pipe whole. Nobody else holds its other end, for the programs' own go nowhere.
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.stdout.take()?.take(SAID_BYTES_MAX).read_to_end(&mut stdout).ok()?;
    child.stderr.take()?.take(SAID_BYTES_MAX).read_to_end(&mut stderr).ok()?;
    Some(Output { status, stdout, stderr })
}

fn stop(child: &mut Child) {
    // Either fails only if it is gone already. `unshare` and the prelude take theirs with them.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
#[path = "python_tests.rs"]
mod tests;
