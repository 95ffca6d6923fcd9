//! The walls, each alone where that can be: what a program tries, and what became of it.

use super::*;
use std::net::TcpListener;

fn tight() -> ProgramLimits {
    ProgramLimits { cpu_s: 1, wall_s: 8, memory_bytes: 256 << 20 }
}

/// `None` where there is no Python: the test has told that it left its part out.
fn python() -> Option<Python> {
    let python = Python::find();
    if let Err(e) = &python {
        println!("left out: {e}");
    }
    python.ok()
}

fn without_hook() -> Option<Python> {
    python().map(|p| Python { has_hook: false, ..p })
}

#[track_caller]
fn ends(python: &Python, program: &str, kind: Verdict, part: &str) -> Outcome {
    let outcome = python.run(program, &tight()).unwrap();
    assert!(outcome.kind == kind && outcome.detail.contains(part), "{program}\n{outcome:?}");
    outcome
}

#[test]
fn endings_are_told_apart() {
    let Some(python) = python() else { return };
    ends(&python, "assert 1 + 1 == 2\nprint('é' * 100000)", Verdict::Passed, "");
    ends(&python, "x = 1\nassert x == 2, 'no'", Verdict::Assertion, "AssertionError: no (line 2)");
    ends(&python, "1 / 0", Verdict::Exception, "ZeroDivisionError");
    ends(&python, "def f(:", Verdict::Syntax, "SyntaxError");
    ends(&python, "x = '\0'", Verdict::Syntax, "");
    ends(&python, "import sys\nsys.exit(0)", Verdict::Exit, "ended itself");
    ends(&python, "import os\nos._exit(0)", Verdict::Exit, "ended itself");
    ends(&python, "import os\nos.abort()", Verdict::Exit, "signal 6");
    ends(&python, "input()", Verdict::Exception, "EOFError");
    ends(&python, "def f(): f()\nf()", Verdict::Exception, "RecursionError");
    ends(&python, "if __name__ == '__main__': 1 / 0", Verdict::Exception, "ZeroDivisionError");
}

#[test]
fn an_endless_loop_and_an_endless_sleep_are_killed() {
    let Some(python) = python() else { return };
    let start = Instant::now();
    ends(&python, "while True: pass", Verdict::Timeout, "processor time");
    ends(&python, "while True:\n    try:\n        x = 1\n    except BaseException: pass", Verdict::Timeout, "");
    let limits = ProgramLimits { wall_s: 1, ..tight() };
    let outcome = python.run("import time\ntime.sleep(1000)", &limits).unwrap();
    assert_eq!(outcome.kind, Verdict::Timeout, "{outcome:?}");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_memory_hog_is_stopped_at_its_limit() {
    let Some(python) = python() else { return };
    let outcome = ends(&python, "a = []\nwhile True: a.append(bytearray(1 << 20))", Verdict::Memory, "MemoryError");
    assert!(outcome.walls.contains(&"memory-limit".to_owned()), "{outcome:?}");
    ends(&python, "x = 'a' * (300 << 20)", Verdict::Memory, "MemoryError");
}

#[test]
fn sockets_are_refused_and_nothing_arrives_without_the_hook_either() {
    let (Some(python), Some(bare)) = (python(), without_hook()) else { return };
    ends(&python, "import socket\nsocket.socket()", Verdict::Exception, "refused here: socket");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let connect = format!("import socket\nsocket.create_connection({:?}, 1)", "X")
        .replace("\"X\"", &format!("('127.0.0.1', {})", listener.local_addr().unwrap().port()));
    ends(&python, &connect, Verdict::Exception, "refused here");
    let outcome = bare.run(&connect, &tight()).unwrap();
    let has_landlock_net =
        outcome.walls.iter().any(|w| matches!(w.strip_prefix("landlock-"), Some(n) if n.parse().unwrap_or(0) >= 4));
    if bare.namespaces.is_empty() && !has_landlock_net {
        println!("left out: neither namespaces nor Landlock for networks here");
        return;
    }
    assert_eq!(outcome.kind, Verdict::Exception, "{outcome:?}");
    assert!(listener.accept().is_err(), "a connection arrived");
}

#[test]
fn a_fork_bomb_makes_no_process() {
    let (Some(python), Some(bare)) = (python(), without_hook()) else { return };
    let bomb = "import os\nn = 0\nfor i in range(50):\n    try:\n        pid = os.fork()\n    except OSError:\n        continue\n    \
                if pid == 0:\n        os._exit(0)\n    n += 1\nassert n == 0, f'{n} processes'";
    ends(&python, bomb, Verdict::Passed, "");
    let alone = bare.run(bomb, &tight()).unwrap();
    match alone.walls.contains(&"process-limit".to_owned()) {
        true => assert_eq!(alone.kind, Verdict::Passed, "{alone:?}"),
        false => println!("left out: no limit on processes here"),
    }
}

#[test]
fn files_outlive_a_program_that_would_remove_or_change_them() {
    let (Some(python), Some(bare)) = (python(), without_hook()) else { return };
    let scratch = Scratch::new().unwrap();
    let file = scratch.0.join("precious");
    fs::write(&file, "kept").unwrap();
    let quoted = serde_json::Value::from(file.to_string_lossy().into_owned()).to_string();
    let is_locked = bare.run("", &tight()).unwrap().walls.iter().any(|w| w.starts_with("landlock"));
    for python in [&python, &bare].into_iter().take(if is_locked { 2 } else { 1 }) {
        for attack in [format!("import os\nos.remove({quoted})"), format!("open({quoted}, 'w').write('gone')")] {
            ends(python, &attack, Verdict::Exception, "Error");
            assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        }
    }
    ends(&python, "import subprocess\nsubprocess.run(['true'])", Verdict::Exception, "refused");
}

#[test]
fn the_environment_is_empty_and_no_folder_is_left() {
    let Some(python) = python() else { return };
    let program = "import os\nkeys = set(os.environ) - {'OPENBLAS_NUM_THREADS', 'LC_CTYPE', '__CF_USER_TEXT_ENCODING'}\n\
                   assert not keys, keys\nassert os.listdir('.') == []\nassert False, os.getcwd()";
    let outcome = ends(&python, program, Verdict::Assertion, "vonk-eval-");
    let cwd = outcome.detail.trim_start_matches("AssertionError: ").split(" (line").next().unwrap();
    assert!(!Path::new(cwd).exists(), "{cwd} is left");
}
