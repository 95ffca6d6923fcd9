//! Finding and starting a server. The program that is started is this test itself: with `VONK_TEST_SERVER` it plays the server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod scripted;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use client::server::{Notice, Running, Start, Wanted, find_or_start, list};
use scripted::{json, serve};

/// Not a test of its own: what `find_or_start` starts. It ends when its standard input does not matter any more: after a while.
#[test]
fn played_server() {
    let Ok(what) = std::env::var("VONK_TEST_SERVER") else { return };
    if let Some(words) = what.strip_prefix("fail:") {
        eprintln!("{words}\u{1b}[31m");
        std::process::exit(3);
    }
    let asked = AtomicUsize::new(0);
    let (url, _requests) = serve(move |_, s| {
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => json(s, "503 Service Unavailable", "{\"status\":\"loading\"}"),
            _ => json(s, "200 OK", "{\"status\":\"ready\"}"),
        }
        true
    });
    let pid = std::process::id();
    let dir = Path::new(&what);
    let mut starts = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("starts")).unwrap();
    std::io::Write::write_all(&mut starts, b"x").unwrap();
    let _notice = Notice::post(dir, &Running { pid, url, models: vec!["m".into()], started: 1 }).unwrap();
    while dir.exists() {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Plays the server by way of `env`, for the environment is inherited and must not be changed in a process with threads.
fn start(what: &str) -> Start {
    let exe = std::env::current_exe().unwrap();
    let var = format!("VONK_TEST_SERVER={what}");
    let args = [var.as_str(), exe.to_str().unwrap(), "--exact", "played_server", "--nocapture"];
    Start { program: "/usr/bin/env".into(), args: args.map(Into::into).to_vec(), ready_s_max: 60 }
}

fn wanted(dir: &Path, start: Option<Start>) -> Wanted {
    Wanted { run_dir: Some(dir.to_owned()), start, ..Wanted::default() }
}

#[test]
#[cfg(unix)]
fn several_starters_share_one_server_and_it_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let want = wanted(dir.path(), Some(start(dir.path().to_str().unwrap())));
    let news: usize = thread::scope(|scope| {
        let starters: Vec<_> =
            (0..4).map(|_| scope.spawn(|| find_or_start(&want, &mut |_| {}).unwrap().is_new)).collect();
        starters.into_iter().map(|s| usize::from(s.join().unwrap())).sum()
    });
    assert_eq!((news, std::fs::read(dir.path().join("starts")).unwrap().len()), (1, 1));
    let again = find_or_start(&Wanted { model: Some("m".into()), ..wanted(dir.path(), None) }, &mut |_| {}).unwrap();
    assert_eq!((again.is_new, again.model.as_str()), (false, "m"));
    let other = Wanted { model: Some("other".into()), ..wanted(dir.path(), None) };
    assert!(find_or_start(&other, &mut |_| {}).unwrap_err().to_string().contains("vonk serve"));
    let mode = |p: &Path| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(p).unwrap().permissions()) & 0o777;
    let running = &list(dir.path())[0];
    assert_eq!(mode(&dir.path().join(format!("server-{}.json", running.pid))), 0o600);
}

#[test]
#[cfg(unix)]
fn a_server_that_fails_is_reported_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let want = wanted(dir.path(), Some(start("fail:no such model: x")));
    let mut lines = Vec::new();
    let error = find_or_start(&want, &mut |l| lines.push(l.to_owned())).unwrap_err().to_string();
    assert!(error.contains("no such model: x [31m") && error.contains("exit status: 3"), "{error:?}");
    assert!(lines.len() == 1 && lines[0].contains("server.log"), "{lines:?}");
}

#[test]
fn files_of_dead_servers_are_passed_over_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let post = |url: &str, pid| {
        let running = Running { pid, url: url.to_owned(), models: vec!["m".into()], started: 0 };
        std::mem::forget(Notice::post(dir.path(), &running).unwrap());
    };
    // Nobody listens there, though the process lives.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    post(&format!("http://{free}"), std::process::id());
    // A file may say what it wants: we ask this machine only.
    post("http://192.0.2.1:80", 1);
    std::fs::write(dir.path().join("server-2.json"), b"{").unwrap();
    assert_eq!(list(dir.path()).len(), 1);
    assert!(find_or_start(&wanted(dir.path(), None), &mut |_| {}).is_err());
    assert_eq!(list(dir.path()).len(), 0);
}

#[test]
fn a_given_address_is_taken_as_it_is() {
    let (url, requests) = serve(|_, s| {
        json(s, "200 OK", "{}");
        true
    });
    let want = Wanted { url: Some(url), key: Some("k".into()), ..Wanted::default() };
    let found = find_or_start(&want, &mut |_| {}).unwrap();
    let mut answer = found.client.get("/props", client::Deadline::after_s(9), None).unwrap();
    assert_eq!(answer.whole(9).unwrap(), b"{}");
    assert!(requests.recv().unwrap().head.contains("Bearer k"));
}
