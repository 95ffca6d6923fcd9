//! `kill -9` at random moments of a whole edit, from asking a (scripted) model to the last file: each time every file is the old
//! or the new one, whole, and after the next command all of them are on one side; undo restores every byte. The edit that is
//! killed is this test itself with `VONK_TEST_EDIT`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../client/tests/scripted/mod.rs"]
mod scripted;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Client, Target};
use edit::{Change, How, Job, Journal, Source, State, propose};

const KILLS: u64 = 100;
const FILES: [&str; 3] = ["a.py", "b.py", "c.py"];

fn old(name: &str) -> String {
    (0..60).map(|i| format!("{name} line {i}\r\n")).collect()
}

fn new(name: &str) -> String {
    old(name).replace("line 7\r", "LINE 7\r")
}

/// Not a test of its own: the edit that is killed.
#[test]
fn played_edit() {
    let Ok(what) = std::env::var("VONK_TEST_EDIT") else { return };
    let (url, dir) = what.split_once(' ').unwrap();
    let client = Client::new(Target::parse(url).unwrap(), None).unwrap();
    let sources: Vec<Source> = FILES.iter().map(|f| Source::read(&Path::new(dir).join(f), false).unwrap()).collect();
    let change = |source: &Source| {
        let (instruction, how) = ("shout", How::Auto);
        let job =
            Job { client: &client, model: "m", source, beside: &[], instruction, how, timeout_s: 60, cancel: None };
        let after = propose(&job, &mut |_| {}).unwrap().bytes;
        Change { path: source.path.clone(), before: source.bytes.clone(), after }
    };
    let changes: Vec<Change> = sources.iter().map(change).collect();
    let (journal, _) = Journal::open(&Path::new(dir).join("state")).unwrap();
    journal.apply(&changes, "shout", false).unwrap();
}

fn start(url: &str, dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "played_edit"]).env("VONK_TEST_EDIT", format!("{url} {}", dir.display()));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn fresh() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    FILES.iter().for_each(|f| fs::write(dir.path().join(f), old(f)).unwrap());
    dir
}

#[test]
fn a_hundred_kills() {
    // The model copies the file and changes one line; it sends `\n` where the file has `\r\n`.
    let (url, _requests) = scripted::serve(|asked, stream| {
        let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
        let prediction = body["prediction"]["content"].as_str().unwrap().replace("line 7\n", "LINE 7\n");
        let pieces: Vec<String> = prediction.split_inclusive('\n').map(str::to_owned).collect();
        scripted::answer(stream, &pieces.iter().map(String::as_str).collect::<Vec<_>>(), "stop");
        true
    });
    let dir = fresh();
    let begin = Instant::now();
    assert!(start(&url, dir.path()).wait().unwrap().success());
    let whole = begin.elapsed().max(Duration::from_millis(2));
    assert!(FILES.iter().all(|f| fs::read_to_string(dir.path().join(f)).unwrap() == new(f)));
    let (mut undone, mut recovered) = (0, 0);
    for kill in 0..KILLS {
        let dir = fresh();
        let mut child = start(&url, dir.path());
        // Spread over the whole edit and a little beyond, in an order that tells nothing.
        std::thread::sleep(whole.mul_f64(1.1 * ((kill * 37) % KILLS) as f64 / KILLS as f64));
        let _ = child.kill(); // SIGKILL; it may have ended
        child.wait().unwrap();
        let read = |f: &str| fs::read_to_string(dir.path().join(f)).unwrap();
        assert!(FILES.iter().all(|f| read(f) == old(f) || read(f) == new(f)), "kill {kill}: a file is neither");
        let (journal, lines) = Journal::open(&dir.path().join("state")).unwrap();
        recovered += lines.len();
        let n_new = FILES.iter().filter(|f| read(f) == new(f)).count();
        assert!(n_new == 0 || n_new == FILES.len(), "kill {kill}: {n_new} files are new");
        let names = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|n| n.starts_with('.')).count(), 0, "kill {kill}: files are left beside ours");
        assert_eq!(journal.list().iter().any(|e| e.state == State::Applied), n_new > 0, "kill {kill}");
        if n_new > 0 {
            journal.undo(None, false).unwrap();
            assert!(FILES.iter().all(|f| read(f) == old(f)), "kill {kill}: undo");
            undone += 1;
        }
    }
    println!(
        "{KILLS} kills within {whole:?}: {undone} edits were whole and undone, {recovered} were brought to an end"
    );
}
