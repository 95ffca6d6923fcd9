//! Asking for an edit, against a scripted model: what is sent, what is shown meanwhile, what is refused, what is asked again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../client/tests/scripted/mod.rs"]
mod scripted;

use std::sync::mpsc::Receiver;

use client::{Client, Target};
use edit::{EditError, How, Job, Proposal, Source, diff, propose};
use scripted::{Asked, answer, serve};
use serde_json::Value;

/// Answers the n-th request with the n-th text, the last one again and again.
fn model(answers: &'static [(&'static str, &'static str)]) -> (Client, Receiver<Asked>) {
    let n = std::sync::atomic::AtomicUsize::new(0);
    let (url, requests) = serve(move |_, stream| {
        let n = n.fetch_add(1, std::sync::atomic::Ordering::Relaxed).min(answers.len() - 1);
        let (text, finish) = answers[n];
        answer(stream, &text.split_inclusive(' ').collect::<Vec<_>>(), finish);
        true
    });
    (Client::new(Target::parse(&url).unwrap(), None).unwrap(), requests)
}

fn source(text: &str) -> (tempfile::TempDir, Source) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.py");
    std::fs::write(&path, text).unwrap();
    let source = Source::read(&path, true).unwrap();
    (dir, source)
}

fn ask(client: &Client, source: &Source, how: How) -> (Result<Proposal, EditError>, Vec<String>) {
    let mut shown = Vec::new();
    let instruction = "make it shout";
    let job = Job { client, model: "m", source, beside: &[], instruction, how, timeout_s: 60, cancel: None };
    let result = propose(&job, &mut |text| shown.push(text.to_owned()));
    (result, shown)
}

#[test]
fn a_small_file_is_written_anew_with_itself_as_the_prediction() {
    let (client, requests) = model(&[("Sure:\n```python\nprint('a')\nprint('B')\nprint('c')\n```\n", "stop")]);
    let (_dir, source) = source("print('a')\r\nprint('b')\r\nprint('c')");
    let (proposal, shown) = ask(&client, &source, How::Auto);
    let proposal = proposal.unwrap();
    assert_eq!(proposal.bytes, b"print('a')\r\nprint('B')\r\nprint('c')");
    assert_eq!((proposal.cost.tokens, proposal.cost.answers, proposal.doubt), (3, 1, None));
    assert!(shown.iter().all(|s| "print('a')\nprint('B')\nprint('c')\n".starts_with(s.as_str())), "{shown:?}");
    let body: Value = serde_json::from_str(&requests.recv().unwrap().body).unwrap();
    assert_eq!(body["prediction"]["content"], "```\nprint('a')\nprint('b')\nprint('c')\n```");
    assert_eq!((&body["temperature"], &body["stream"]), (&0.into(), &true.into()));
    let prompt = body["messages"][0]["content"].as_str().unwrap();
    assert!(
        prompt.contains("Change: make it shout") && prompt.ends_with("```\nprint('a')\nprint('b')\nprint('c')\n```")
    );
}

#[test]
fn a_large_file_is_changed_by_blocks() {
    let text: String = (0..2000).map(|i| format!("line {i}\n")).collect();
    let blocks = "<<<<<<< SEARCH\nline 7\n=======\nLINE 7\n>>>>>>> REPLACE\n\n\
                  <<<<<<< SEARCH\nline 1000\nline 1001\n=======\nline 1001\n>>>>>>> REPLACE";
    let (client, requests) = model(Box::leak(Box::new([(blocks, "stop")])));
    let (_dir, source) = source(&text);
    let (proposal, shown) = ask(&client, &source, How::Auto);
    let want = text.replace("line 7\n", "LINE 7\n").replace("line 1000\n", "");
    assert_eq!(proposal.unwrap().text, want);
    assert_eq!(
        diff::counts(&diff::unified(&text, &shown[0], false)),
        (1, 1),
        "the first block is shown when it is whole"
    );
    let body: Value = serde_json::from_str(&requests.recv().unwrap().body).unwrap();
    assert!(
        body["prediction"].is_null() && body["messages"][0]["content"].as_str().unwrap().contains("<<<<<<< SEARCH")
    );
}

#[test]
fn a_useless_answer_is_asked_for_once_more_with_the_reason() {
    let (client, requests) = model(&[("```\na\n# ... rest of the code\n```", "stop"), ("```\nA\nb\nc\n```", "stop")]);
    let (_dir, source) = source("a\nb\nc\n");
    let (proposal, _) = ask(&client, &source, How::Auto);
    let proposal = proposal.unwrap();
    assert_eq!((proposal.text.as_str(), proposal.cost.answers), ("A\nb\nc\n", 2));
    let second = requests.iter().nth(1).unwrap().body;
    assert!(second.contains("leaves code out") && second.contains("rest of the code"), "{second}");
}

#[test]
fn answers_that_stay_useless_change_nothing() {
    type Case = (&'static [(&'static str, &'static str)], How, &'static str, u32);
    let cases: [Case; 4] = [
        (&[("I cannot do that.", "stop")], How::Whole, "not the file", 2),
        (&[("```\na\n", "length")], How::Whole, "cut off", 1),
        (&[("<<<<<<< SEARCH\nzzz\n=======\n>>>>>>> REPLACE\n", "stop")], How::Blocks, "not in the file", 2),
        (&[("nothing", "stop")], How::Blocks, "no search-and-replace block", 2),
    ];
    for (answers, how, want, n) in cases {
        let (client, requests) = model(answers);
        let (_dir, source) = source("a\nb\nc\n");
        let error = ask(&client, &source, how).0.unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        assert_eq!(requests.try_iter().count() as u32, n, "{want}");
    }
}

#[test]
fn a_tail_that_nobody_asked_to_drop_is_doubted() {
    let (client, _requests) = model(&[("```\n0\n1\n2\n```", "stop")]);
    let (_dir, source) = source(&(0..40).map(|i| format!("{i}\n")).collect::<String>());
    let proposal = ask(&client, &source, How::Auto).0.unwrap();
    assert!(proposal.doubt.unwrap().contains("its last 37 lines"));
}

#[test]
fn a_file_that_is_not_there_yet_is_written() {
    let (client, requests) = model(&[("```\nhello\n```", "stop")]);
    let dir = tempfile::tempdir().unwrap();
    let source = Source::read(&dir.path().join("new.txt"), false).unwrap();
    let (proposal, _) = ask(&client, &source, How::Auto);
    assert_eq!(proposal.unwrap().bytes, b"hello\n");
    assert!(requests.recv().unwrap().body.contains("Write the new file"));
}

#[test]
fn files_that_are_not_edited() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let read = |name: &str| Source::read(&path(name), false);
    let write = |name: &str, bytes: &[u8]| std::fs::write(path(name), bytes).unwrap();
    write("binary", b"a\0b");
    write("latin", b"caf\xe9");
    write("long", &vec![b'x'; base::limits::EDIT_FILE_BYTES_MAX as usize + 1]);
    write(".env", b"KEY=1");
    write("key.txt", b"-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for (name, want) in
        [("binary", "binary"), ("latin", "UTF-8"), ("long", "bytes"), (".", "regular"), ("no/x", "cannot find")]
    {
        let error = read(name).unwrap_err().to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
    for name in [".env", "key.txt"] {
        assert!(matches!(read(name), Err(EditError::Guarded { .. })), "{name}");
        assert!(Source::read(&path(name), true).is_ok());
    }
}

#[test]
#[cfg(unix)]
fn links_are_followed_to_what_they_mean_but_not_out_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("real"), "x\n").unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    let source = Source::read(&dir.path().join("link"), false).unwrap();
    assert!(source.path.ends_with("real"), "the link stays a link");
    std::os::unix::fs::symlink("nothing", dir.path().join("dangling")).unwrap();
    assert!(Source::read(&dir.path().join("dangling"), false).is_err());
    // The test runs in this crate's folder: a link in it that leads out is not followed.
    let link = std::path::PathBuf::from(format!("target-link-{}", std::process::id()));
    std::os::unix::fs::symlink(dir.path().join("real"), &link).unwrap();
    let (refused, forced) = (Source::read(&link, false), Source::read(&link, true));
    std::fs::remove_file(&link).unwrap();
    assert!(matches!(refused, Err(EditError::Guarded { .. })), "{refused:?}");
    assert!(forced.is_ok());
}
