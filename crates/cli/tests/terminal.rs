//! `vonk edit` and `vonk chat` at a real terminal: the real program behind a pseudo terminal, a scripted model, and keys.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../client/tests/scripted/mod.rs"]
mod scripted;

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use scripted::{Asked, SSE, answer, delta, serve};

/// Longer than anything takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(120);
const OLD: &str = "fn main() {\n    println!(\"a\");\n}\n";
const NEW: &str = "fn main() {\n    println!(\"b\");\n}\n";

/// The program at a terminal of its own.
struct Terminal {
    master: File,
    child: Child,
    said: Receiver<Vec<u8>>,
    /// Everything that it wrote.
    seen: String,
    /// How the terminal was before.
    was: Termios,
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// What a shell would have to restore if the program did not.
fn modes(t: &Termios) -> impl PartialEq + std::fmt::Debug {
    (t.input_modes, t.output_modes, t.local_modes)
}

impl Terminal {
    fn start(dir: &Path, url: &str, args: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let open = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let slave = open();
        tcsetwinsize(&slave, size(80, 24)).unwrap();
        let was = tcgetattr(&slave).unwrap();
        // `setsid -c` makes the terminal the controlling one, so that Ctrl-C and a new size come as signals.
        let mut command = Command::new("setsid");
        command.args(["-c", env!("CARGO_BIN_EXE_vonk")]).args(args).args(["--url", url]).current_dir(dir);
        command.env("VONK_HOME", dir.join("home")).env("TERM", "xterm-256color").env_remove("VONK_URL");
        command.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::from(slave));
        let child = command.spawn().unwrap();
        let (sender, said) = channel();
        let master = File::from(master);
        let mut from = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading ends with an error when the program has closed the other side.
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                if sender.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { master, child, said, seen: String::new(), was }
    }

    fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn hear(&mut self, time: Duration) -> bool {
        match self.said.recv_timeout(time) {
            Ok(bytes) => {
                self.seen.push_str(&String::from_utf8_lossy(&bytes));
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    /// Waits for a text that comes after the first `from` bytes of what was seen; returns where it ends.
    fn sees(&mut self, text: &str, from: usize) -> usize {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.seen[from..].find(text) {
                return from + at + text.len();
            }
            assert!(begun.elapsed() < PATIENCE, "did not see {text:?} in {:?}", &self.seen[from..]);
            assert!(self.hear(Duration::from_millis(50)), "it ended without {text:?}: {:?}", &self.seen[from..]);
        }
    }

    /// Waits for the end; what it exited with, and whether the terminal is as it was.
    fn ends(&mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            self.hear(Duration::from_millis(20));
            assert!(begun.elapsed() < PATIENCE, "it does not end: {:?}", self.seen);
        }
        while self
            .said
            .recv_timeout(Duration::from_millis(200))
            .map(|b| self.seen.push_str(&String::from_utf8_lossy(&b)))
            .is_ok()
        {}
        let is = tcgetattr(&self.master).unwrap();
        assert_eq!(modes(&is), modes(&self.was), "the terminal is left as it was found");
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("main.rs"), OLD).unwrap();
    dir
}

fn text(dir: &tempfile::TempDir) -> String {
    std::fs::read_to_string(dir.path().join("main.rs")).unwrap()
}

/// Answers each question with the new file; "louder" makes it loud.
fn editor() -> (String, Receiver<Asked>) {
    serve(|asked, stream| {
        let new = if asked.body.contains("louder") { NEW.replace('b', "B") } else { NEW.to_owned() };
        let text = format!("```\n{new}```\n");
        answer(stream, &text.split_inclusive('\n').collect::<Vec<_>>(), "stop");
        true
    })
}

/// Says something, and then nothing more until it is left, which it tells.
fn endless(first: &'static str) -> (String, Receiver<()>) {
    let (left, is_left) = channel();
    let (url, _asked) = serve(move |_, stream| {
        let _ = stream.write_all(SSE.as_bytes());
        delta(stream, first);
        let _ = stream.read(&mut [0; 1]); // until the client goes
        let _ = left.send(());
        false
    });
    (url, is_left)
}

const EDIT: [&str; 3] = ["edit", "main.rs", "print b"];

#[test]
fn an_edit_is_applied_with_y_and_undone() {
    let ((url, _asked), dir) = (editor(), file());
    let mut t = Terminal::start(dir.path(), &url, &EDIT);
    let at = t.sees("Apply? [y]es, [n]o", 0);
    assert!(
        t.seen.contains("\x1b[31m-    println!(\"a\");") && t.seen.contains("\x1b[32m+    println!(\"b\");"),
        "{:?}",
        t.seen
    );
    assert_eq!(text(&dir), OLD, "not before it was agreed to");
    t.keys("y\n");
    t.sees("Applied as edit 1", at);
    assert_eq!((t.ends().0, text(&dir)), (Some(0), NEW.to_owned()));
    let undo = Command::new(env!("CARGO_BIN_EXE_vonk"))
        .arg("undo")
        .env("VONK_HOME", dir.path().join("home"))
        .output()
        .unwrap();
    assert!(undo.status.success());
    assert_eq!(text(&dir), OLD);
}

#[test]
fn a_hint_asks_again_and_n_leaves_the_file_alone() {
    let ((url, asked), dir) = (editor(), file());
    let mut t = Terminal::start(dir.path(), &url, &EDIT);
    let at = t.sees("Apply?", 0);
    t.keys("louder\n");
    let at = t.sees("println!(\"B\")", at);
    t.sees("Apply?", at);
    t.keys("n\n");
    let (code, seen) = t.ends();
    assert!(code == Some(0) && seen.contains("Not applied"), "{code:?} {seen:?}");
    assert_eq!(text(&dir), OLD);
    assert!(!asked.recv().unwrap().body.contains("louder"));
    assert!(asked.recv().unwrap().body.contains("print b\\nlouder"), "the hint goes after the instruction");
}

#[test]
fn ctrl_c_stops_an_edit_while_it_is_written_and_at_the_question() {
    let ((url, ..), dir) = (endless("```\nfn main() {\n    println!(\"b\");\n"), file());
    let mut t = Terminal::start(dir.path(), &url, &EDIT);
    t.sees("println!(\"b\")", 0);
    t.keys("\x03");
    let (code, seen) = t.ends();
    assert!(code == Some(130) && seen.contains("nothing was written"), "{code:?} {seen:?}");
    let (url, _asked) = editor();
    let mut t = Terminal::start(dir.path(), &url, &EDIT);
    t.sees("Apply?", 0);
    t.keys("\x03");
    assert_eq!((t.ends().0, text(&dir)), (Some(130), OLD.to_owned()));
}

/// The largest row and column that a picture was drawn at.
fn reach(seen: &str) -> (usize, usize) {
    let places = seen.split("\x1b[").filter_map(|part| part.split_once('H')?.0.split_once(';'));
    let number = |text: &str| text.parse::<usize>().unwrap_or(0);
    places.fold((0, 0), |(rows, columns), (r, c)| (rows.max(number(r)), columns.max(number(c))))
}

#[test]
fn what_changes_nothing_can_be_said_differently() {
    let (url, _asked) = serve(|asked, stream| {
        let text = format!("```\n{}```\n", if asked.body.contains("louder") { NEW } else { OLD });
        answer(stream, &[&text], "stop");
        true
    });
    let dir = file();
    // Options may stand between the files and the instruction.
    let mut t = Terminal::start(dir.path(), &url, &["edit", "main.rs", "--timeout", "100", "print b"]);
    let at = t.sees("The model changed nothing. [n]o more, or say what to do differently: ", 0);
    t.keys("louder\n");
    let at = t.sees("Apply?", at);
    t.keys("y\n");
    t.sees("Applied as edit 1", at);
    assert_eq!((t.ends().0, text(&dir)), (Some(0), NEW.to_owned()));
}

#[test]
fn an_instruction_that_is_a_file_is_refused() {
    let dir = file();
    let mut swapped = Command::new(env!("CARGO_BIN_EXE_vonk"));
    swapped.args(["edit", "--yes", "print b", "main.rs"]);
    let out = swapped.current_dir(dir.path()).env("VONK_HOME", dir.path().join("home")).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(2) && said.contains("but \"main.rs\" is a file"), "{said}");
    assert!(!dir.path().join("print b").exists());
}

#[test]
fn a_long_burst_of_keys_is_read_to_its_end() {
    // What is typed comes in one burst that is longer than any buffer between.
    let ((url, asked), dir) = (editor(), file());
    let mut t = Terminal::start(dir.path(), &url, &["chat"]);
    t.sees("Enter sends", 0);
    let typed = "x".repeat(3000);
    t.keys(&format!("{typed}\r"));
    assert!(asked.recv_timeout(PATIENCE).unwrap().body.contains(&typed));
    t.sees("tok/s", 0);
    t.keys("\x03");
    assert_eq!(t.ends().0, Some(0));
}

#[test]
fn a_chat_streams_follows_the_size_and_gives_the_terminal_back() {
    let ((url, is_left), dir) = (endless("forty-two"), file());
    let mut t = Terminal::start(dir.path(), &url, &["chat"]);
    t.sees("Enter sends", 0);
    assert!(t.seen.contains("\x1b[?1049h"), "on a screen of its own");
    t.keys("what is it?\r");
    let at = t.sees("forty-two", 0);
    assert!(is_left.try_recv().is_err(), "the answer is not over");
    t.sees("Esc stops", 0);
    tcsetwinsize(&t.master, size(40, 10)).unwrap();
    // The first picture of the new size begins with an empty screen.
    let at = t.sees("\x1b[2J", at);
    t.sees("forty-two", at);
    t.keys("\x1b");
    t.sees("stopped", at);
    is_left.recv_timeout(PATIENCE).expect("the server's work ends");
    let (rows, columns) = reach(&t.seen[at..]);
    assert!(rows <= 10 && columns <= 40, "drawn up to {rows}, {columns}");
    t.keys("\x03");
    let (code, seen) = t.ends();
    assert_eq!(code, Some(0));
    assert!(
        seen.contains("\x1b[?2004l") && seen.contains("\x1b[?1049l"),
        "{:?}",
        &seen[seen.len().saturating_sub(200)..]
    );
}
