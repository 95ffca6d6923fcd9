//! The command that decides whether an edit stays: run by the shell, within a time, with all that it starts.

use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two looks at the command.
const LOOK: Duration = Duration::from_millis(20);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Exit status 0.
    Passed,
    /// Another one; `None`: ended by a signal.
    Failed(Option<i32>),
    /// It was ended after its time.
    Late,
    /// It was ended because `stop` said so.
    Stopped,
}

/// Runs `command` in the shell; what it prints goes to our standard error.
///
/// # Errors
/// The shell cannot be started.
pub fn run(command: &str, time: Duration, stop: &dyn Fn() -> bool) -> io::Result<Verdict> {
    let mut child = shell(command).stdin(Stdio::null()).stdout(io::stderr()).stderr(Stdio::inherit()).spawn()?;
    let end = Instant::now() + time;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(verdict(status));
        }
        let verdict = match (Instant::now() > end, stop()) {
            (true, _) => Verdict::Late,
            (_, true) => Verdict::Stopped,
            _ => {
                sleep(LOOK);
                continue;
            }
        };
        kill(&mut child);
        return Ok(verdict);
    }
}

fn verdict(status: ExitStatus) -> Verdict {
    if status.success() { Verdict::Passed } else { Verdict::Failed(status.code()) }
}

#[cfg(unix)]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]);
    std::os::unix::process::CommandExt::process_group(&mut shell, 0); // so that all of it can be ended
    shell
}

#[cfg(not(unix))]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("cmd");
    shell.args(["/C", command]);
    shell
}

/// Ends the command and what it started.
fn kill(child: &mut Child) {
    if cfg!(unix) {
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    }
    let _ = child.kill(); // already dead, mostly
    let _ = child.wait();
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    fn check(command: &str, time: Duration, stop: bool) -> Verdict {
        run(command, time, &|| stop).expect("a shell")
    }

    #[test]
    fn commands_pass_fail_and_are_ended_with_their_children() {
        let long = Duration::from_secs(60);
        assert_eq!(check("true", long, false), Verdict::Passed);
        assert_eq!(check("exit 3", long, false), Verdict::Failed(Some(3)));
        let file = tempfile::NamedTempFile::new().unwrap();
        // The grandchild would write after a while, if it lived.
        let command = format!("(sleep 0.3; echo x > {}) & sleep 60", file.path().display());
        assert_eq!(check(&command, Duration::from_millis(50), false), Verdict::Late);
        assert_eq!(check(&command, long, true), Verdict::Stopped);
        sleep(Duration::from_millis(500));
        assert_eq!(std::fs::read(file.path()).unwrap(), b"");
    }
}
