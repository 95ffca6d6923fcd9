//! A whole session over the wire, with a scripted model behind it: lifecycle, cancellation, positions, floods, huge files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{BufReader, PipeReader, PipeWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use client::{Cancel, ClientError};
use edit::Source;
use lsp::backend::{Backend, Ended};
use lsp::brain::Prompt;
use lsp::editing::{Edited, Editor};
use lsp::rpc;
use lsp::session::{End, serve};
use serde_json::{Value, json};

/// Answers each prompt with one line, or hangs until it is stopped.
#[derive(Default)]
struct Script {
    answer: Mutex<String>,
    prompts: Mutex<Vec<Prompt>>,
    n_running: AtomicU64,
}

impl Backend for Script {
    fn fill(&self, prompt: &Prompt, cancel: &Cancel, on_text: &mut dyn FnMut(&str)) -> Result<Ended, ClientError> {
        self.prompts.lock().unwrap().push(prompt.clone());
        self.n_running.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        while answer == "hang" && !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.n_running.fetch_sub(1, Ordering::SeqCst);
        if cancel.is_cancelled() {
            return Err(ClientError::Cancelled);
        }
        for piece in answer.split_inclusive(' ').filter(|_| prompt.n_predict > 0) {
            on_text(piece);
        }
        Ok(Ended { is_done: true, model: "script".into(), ..Ended::default() })
    }

    fn look(&self) -> Option<String> {
        (*self.answer.lock().unwrap() != "down").then(|| "seen".to_owned())
    }
}

impl Editor for Script {
    fn rewrite(
        &self,
        source: &Source,
        said: &str,
        cancel: &Cancel,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Edited, String> {
        while said == "hang" && !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let text = source.text.replace("old", said);
        on_text(&text);
        Ok(Edited { text, tokens: 3, ..Edited::default() })
    }
}

struct Client {
    to: Option<PipeWriter>,
    from: BufReader<PipeReader>,
    session: Option<JoinHandle<std::io::Result<End>>>,
    script: Arc<Script>,
    n: u64,
}

impl Client {
    fn raw(answer: &str) -> Self {
        let (input, to) = std::io::pipe().unwrap();
        let (from, output) = std::io::pipe().unwrap();
        let script = Arc::new(Script { answer: Mutex::new(answer.into()), ..Script::default() });
        let (backend, editor) = (Arc::clone(&script), Arc::clone(&script));
        let session = std::thread::spawn(move || serve(BufReader::new(input), output, backend, Some(editor)));
        Self { to: Some(to), from: BufReader::new(from), session: Some(session), script, n: 0 }
    }

    fn new(answer: &str) -> Self {
        let mut client = Self::raw(answer);
        let caps = json!({"capabilities": {"window": {"workDoneProgress": true}}});
        let result = client.ask("initialize", caps);
        assert_eq!(result["capabilities"]["inlineCompletionProvider"], true);
        assert_eq!(result["capabilities"]["positionEncoding"], "utf-16");
        client.tell("initialized", json!({}));
        client
    }

    fn send(&mut self, message: Value) {
        rpc::write(self.to.as_mut().unwrap(), &message).unwrap();
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(rpc::notification(method, &params));
    }

    fn start(&mut self, method: &str, params: Value) -> u64 {
        self.n += 1;
        let n = self.n;
        self.send(json!({"jsonrpc": "2.0", "id": n, "method": method, "params": params}));
        n
    }

    /// The next message; the status comes when it likes, and is passed over.
    fn read(&mut self) -> Value {
        loop {
            let message = self.message();
            if message["method"] != "vonk/status" {
                return message;
            }
        }
    }

    fn message(&mut self) -> Value {
        let mut body = Vec::new();
        assert!(rpc::read(&mut self.from, &mut body).unwrap(), "the session ended");
        serde_json::from_slice(&body).unwrap()
    }

    /// The answer to a request; what comes before it is passed over.
    fn answer(&mut self, n: u64) -> Value {
        loop {
            let message = self.read();
            if message["id"] == n && message.get("method").is_none() {
                return message;
            }
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let n = self.start(method, params);
        self.answer(n)["result"].clone()
    }

    fn open(&mut self, uri: &str, text: &str) {
        self.tell(
            "textDocument/didOpen",
            json!({"textDocument": {"uri": uri, "languageId": "rust", "version": 1, "text": text}}),
        );
    }

    fn change(&mut self, uri: &str, version: i64, from: (u32, u32), to: (u32, u32), text: &str) {
        let range = json!({"start": {"line": from.0, "character": from.1}, "end": {"line": to.0, "character": to.1}});
        let params = json!({"textDocument": {"uri": uri, "version": version}, "contentChanges": [{"range": range, "text": text}]});
        self.tell("textDocument/didChange", params);
    }

    /// The last one that somebody waited for.
    fn last_prompt(&self) -> Prompt {
        self.script.prompts.lock().unwrap().iter().rfind(|p| p.is_urgent).unwrap().clone()
    }

    fn end(mut self) -> End {
        let n = self.start("shutdown", Value::Null);
        assert_eq!(self.answer(n)["result"], Value::Null);
        self.tell("exit", Value::Null);
        self.session.take().unwrap().join().unwrap().unwrap()
    }
}

fn at(uri: &str, line: u32, character: u32) -> Value {
    json!({"textDocument": {"uri": uri}, "position": {"line": line, "character": character}, "context": {"triggerKind": 2}})
}

const URI: &str = "file:///p/a.rs";

#[test]
fn a_session_from_beginning_to_end() {
    let mut c = Client::raw(" = 1;\n");
    let early = c.start("textDocument/inlineCompletion", at(URI, 0, 0));
    assert_eq!(c.answer(early)["error"]["code"], rpc::code::NOT_INITIALIZED);
    c.ask("initialize", json!({}));
    c.open(URI, "let x\n");
    let items = c.ask("textDocument/inlineCompletion", at(URI, 0, 5));
    assert_eq!(items["items"][0]["insertText"], " = 1;");
    assert_eq!(items["items"][0]["range"]["start"], json!({"line": 0, "character": 5}));
    let unknown = c.start("textDocument/hover", at(URI, 0, 0));
    assert_eq!(c.answer(unknown)["error"]["code"], rpc::code::NO_METHOD);
    let wrong = c.start("textDocument/inlineCompletion", json!({"textDocument": 1}));
    assert_eq!(c.answer(wrong)["error"]["code"], rpc::code::PARAMS);
    let mut status = c.ask("vonk/status", Value::Null);
    // The answer's last word may come after its text; until then the model is the one that was seen at the start.
    while status["model"] != "script" {
        status = c.ask("vonk/status", Value::Null);
    }
    assert_eq!(status["state"], "ready");
    let n = c.start("shutdown", Value::Null);
    assert_eq!(c.answer(n)["result"], Value::Null);
    let late = c.start("textDocument/inlineCompletion", at(URI, 0, 5));
    assert_eq!(c.answer(late)["error"]["code"], rpc::code::INVALID);
    c.tell("exit", Value::Null);
    assert_eq!(c.session.take().unwrap().join().unwrap().unwrap(), End::Orderly);
}

#[test]
fn the_status_is_true_before_anybody_asked_for_a_suggestion() {
    let mut c = Client::new("x\n");
    let told = c.message();
    assert_eq!((&told["method"], &told["params"]["state"]), (&json!("vonk/status"), &json!("ready")));
    assert_eq!(c.ask("vonk/status", Value::Null)["model"], "seen");
    assert!(c.script.prompts.lock().unwrap().is_empty());
    c.end();
    let mut c = Client::new("down");
    assert_eq!(c.ask("vonk/status", Value::Null)["state"], "starting");
    *c.script.answer.lock().unwrap() = "x\n".into();
    while c.ask("vonk/status", Value::Null)["state"] != "ready" {
        std::thread::sleep(Duration::from_millis(1)); // each question looks again
    }
    c.end();
}

#[test]
fn a_rename_goes_on_at_its_next_place() {
    let mut c = Client::new("x\n");
    let at_of = |line: u32, character: u32| json!({"textDocument": {"uri": URI}, "position": {"line": line, "character": character}});
    assert_eq!(c.ask("vonk/nextEdit", at_of(0, 0)), Value::Null, "the file is not open");
    c.open(URI, "fn old_name() {}\r\n\r\nfn 😀() {\r\n    \"😀\"; old_name(); new.old_name();\r\n}\r\n");
    assert_eq!(c.ask("vonk/nextEdit", at_of(0, 0)), Value::Null, "nothing was changed");
    c.change(URI, 2, (0, 3), (0, 11), "n");
    c.change(URI, 3, (0, 4), (0, 4), "ew");
    let next = c.ask("vonk/nextEdit", at_of(0, 6));
    let range = json!({"start": {"line": 3, "character": 10}, "end": {"line": 3, "character": 18}});
    assert_eq!(next, json!({"range": range, "newText": "new"}));
    c.change(URI, 4, (3, 10), (3, 18), "new");
    let next = c.ask("vonk/nextEdit", at_of(3, 13));
    assert_eq!(next["range"]["start"], json!({"line": 3, "character": 21}));
    c.change(URI, 5, (3, 21), (3, 29), "new");
    assert_eq!(c.ask("vonk/nextEdit", at_of(3, 24)), Value::Null, "all are done");
    let wrong = c.start("vonk/nextEdit", json!({"textDocument": {"uri": URI}}));
    assert_eq!(c.answer(wrong)["error"]["code"], rpc::code::PARAMS);
    c.end();
}

#[test]
fn a_rename_goes_on_in_other_open_files() {
    let mut c = Client::new("x\n");
    let uri = |name: &str| format!("file:///p/{name}");
    let asks = |uri: &str, line: u32, others: bool| json!({"textDocument": {"uri": uri}, "position": {"line": line, "character": 6}, "otherFiles": others});
    c.open(&uri("a.rs"), "fn old_name() {}\n");
    c.open(&uri("b.rs"), "fn b() {\n    old_name();\n    \"old_name\";\n    old_name();\n}\n");
    c.open(&uri("c.rs"), "use a::old_name;\n");
    c.open(&uri("d.py"), "old_name()\n");
    c.change(&uri("a.rs"), 2, (0, 3), (0, 11), "new_name");
    assert_eq!(c.ask("vonk/nextEdit", asks(&uri("a.rs"), 0, false)), Value::Null, "an editor that stays in its file");
    let place = |line: u32, from: u32| json!({"start": {"line": line, "character": from}, "end": {"line": line, "character": from + 8}});
    let want =
        |name: &str, range: Value| json!({"textDocument": {"uri": uri(name)}, "range": range, "newText": "new_name"});
    assert_eq!(c.ask("vonk/nextEdit", asks(&uri("a.rs"), 0, true)), want("b.rs", place(1, 4)));
    c.change(&uri("b.rs"), 2, (1, 4), (1, 12), "new_name");
    let next = c.ask("vonk/nextEdit", asks(&uri("b.rs"), 1, true));
    assert_eq!(next, json!({"range": place(3, 4), "newText": "new_name"}), "it goes on where it went to");
    c.change(&uri("b.rs"), 3, (3, 4), (3, 12), "new_name");
    assert_eq!(c.ask("vonk/nextEdit", asks(&uri("b.rs"), 3, true)), want("c.rs", place(0, 7)));
    c.change(&uri("c.rs"), 2, (0, 7), (0, 15), "new_name");
    assert_eq!(c.ask("vonk/nextEdit", asks(&uri("c.rs"), 0, true)), Value::Null, "another language is another name");
    // A local name is nobody else's.
    c.open(&uri("e.rs"), "fn e() {\n    let thing = 1;\n}\n");
    c.open(&uri("f.rs"), "fn f(thing: u8) { thing; }\n");
    c.change(&uri("e.rs"), 2, (1, 8), (1, 13), "other");
    assert_eq!(c.ask("vonk/nextEdit", asks(&uri("e.rs"), 1, true)), Value::Null);
    c.end();
}

#[test]
fn an_editor_that_vanishes_ends_the_session() {
    let mut c = Client::new("hang");
    c.open(URI, "let x\n");
    c.start("textDocument/inlineCompletion", at(URI, 0, 5));
    drop(c.to.take());
    assert_eq!(c.session.take().unwrap().join().unwrap().unwrap(), End::Abrupt);
    while c.script.n_running.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(Duration::from_millis(1)); // the model's work was stopped
    }
}

#[test]
fn what_is_no_message_is_told_and_survived_and_what_is_no_frame_ends() {
    let mut c = Client::new("x\n");
    let to = c.to.as_mut().unwrap();
    to.write_all(b"Content-Length: 5\r\n\r\n{\"a\":").unwrap();
    assert_eq!(c.read()["error"]["code"], rpc::code::PARSE);
    let deep = "[".repeat(100_000);
    write!(c.to.as_mut().unwrap(), "Content-Length: {}\r\n\r\n{deep}", deep.len()).unwrap();
    assert_eq!(c.read()["error"]["code"], rpc::code::PARSE);
    c.send(json!({"jsonrpc": "2.0", "id": "vonk-1", "result": null}));
    c.tell(
        "textDocument/didChange",
        json!({"textDocument": {"uri": "file:///unknown", "version": 1}, "contentChanges": []}),
    );
    assert_eq!(c.read()["method"], "window/logMessage");
    c.to.as_mut().unwrap().write_all(b"Content-Length: nonsense\r\n\r\n").unwrap();
    assert!(c.session.take().unwrap().join().unwrap().is_err());
}

#[test]
fn positions_count_utf_16_units_and_lines_end_as_they_do() {
    let mut c = Client::new("done\n");
    c.open(URI, "let 😀 = \"é\";\r\nlet y\r\n");
    c.change(URI, 2, (0, 4), (0, 6), "🦀🦀");
    c.change(URI, 3, (1, 5), (1, 5), " = ");
    c.ask("textDocument/inlineCompletion", at(URI, 1, 8));
    let prompt = c.last_prompt();
    assert_eq!(prompt.prefix, "let 🦀🦀 = \"é\";\r\nlet y = ");
    assert_eq!(prompt.suffix, "\r\n");
    assert_eq!(c.end(), End::Orderly);
}

#[test]
fn editors_without_ghost_text_get_a_list() {
    let mut c = Client::new("o(1);\n");
    c.open(URI, "x.fo\n");
    let list = c.ask("textDocument/completion", at(URI, 0, 4));
    assert_eq!(list["isIncomplete"], true);
    assert_eq!(list["items"][0]["textEdit"]["newText"], "foo(1);");
    assert_eq!(list["items"][0]["textEdit"]["range"]["start"]["character"], 2);
    c.end();
}

#[test]
fn cancelled_requests_are_answered_at_once_and_a_storm_leaves_nothing_behind() {
    let mut c = Client::new("hang");
    c.open(URI, "let x\n");
    for i in 0..500u32 {
        c.change(URI, i64::from(i) + 2, (0, 5 + i), (0, 5 + i), "y");
        let n = c.start("textDocument/inlineCompletion", at(URI, 0, 6 + i));
        c.tell("$/cancelRequest", json!({"id": n}));
        let code = c.answer(n)["error"]["code"].clone();
        // The key before may have been passed over for this one already: then it was answered with nothing.
        assert!(code == rpc::code::CANCELLED || code.is_null());
    }
    *c.script.answer.lock().unwrap() = "z\n".into();
    // The last question hangs on: another key stops it.
    c.change(URI, 600, (0, 505), (0, 505), "q");
    let items = c.ask("textDocument/inlineCompletion", at(URI, 0, 506));
    assert_eq!(items["items"][0]["insertText"], "z");
    let script = Arc::clone(&c.script);
    assert_eq!(c.end(), End::Orderly);
    while script.n_running.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_flood_of_changes_is_followed() {
    let mut c = Client::new("hang");
    c.open(URI, "");
    const N: u32 = 100_000;
    for i in 0..N {
        let (line, character) = (i / 100, i % 100);
        let text = if character == 99 { "\n" } else { "x" };
        c.change(URI, i64::from(i) + 2, (line, character), (line, character), text);
    }
    *c.script.answer.lock().unwrap() = "end\n".into();
    c.ask("textDocument/inlineCompletion", at(URI, N / 100, 0));
    let prompt = c.last_prompt();
    assert_eq!((prompt.prefix.as_str(), prompt.suffix.as_str()), (format!("{}\n", "x".repeat(99)).as_str(), ""));
    c.ask("textDocument/inlineCompletion", at(URI, N / 100 - 1, 99));
    let prompt = c.last_prompt();
    assert!(prompt.prefix.ends_with(&"x".repeat(99)) && prompt.suffix == "\n", "the end of the line before");
    assert_eq!(c.end(), End::Orderly);
}

#[test]
fn huge_binary_secret_and_unknown_files_get_nothing() {
    let mut c = Client::new("x\n");
    let huge = "y".repeat(base::limits::DOCUMENT_BYTES_MAX + 1);
    for (uri, text) in [("file:///p/huge.rs", huge.as_str()), ("file:///p/b.bin", "a\0b"), ("file:///p/.env", "A=1\n")]
    {
        c.open(uri, text);
        let items = c.ask("textDocument/inlineCompletion", at(uri, 0, 1));
        assert_eq!(items, json!({"items": []}), "{uri}");
    }
    assert_eq!(c.ask("textDocument/inlineCompletion", at("file:///never/opened", 0, 0)), json!({"items": []}));
    assert!(c.script.prompts.lock().unwrap().is_empty());
    // Once its whole text is small enough, it is a file like others.
    let whole =
        json!({"textDocument": {"uri": "file:///p/huge.rs", "version": 2}, "contentChanges": [{"text": "let x\n"}]});
    c.tell("textDocument/didChange", whole);
    let items = c.ask("textDocument/inlineCompletion", at("file:///p/huge.rs", 0, 5));
    assert_eq!(items["items"][0]["insertText"], "x");
    c.end();
}

#[test]
fn an_edit_shows_progress_and_changes_only_the_lines_that_differ() {
    let mut c = Client::new("");
    c.open(URI, "keep\r\nold é\r\nkeep\r\n");
    let range = json!({"start": {"line": 0, "character": 0}, "end": {"line": 3, "character": 0}});
    let actions = c.ask(
        "textDocument/codeAction",
        json!({"textDocument": {"uri": URI}, "range": range, "context": {"diagnostics": []}}),
    );
    assert_eq!(actions[0]["command"]["command"], "vonk.edit");
    let argument = json!({"uri": URI, "range": range, "instruction": "new"});
    let n = c.start("workspace/executeCommand", json!({"command": "vonk.edit", "arguments": [argument]}));
    let (mut methods, mut applied) = (Vec::new(), Value::Null);
    loop {
        let message = c.read();
        if message["id"] == n {
            assert_eq!(
                message["result"]["edits"],
                applied["edit"]["documentChanges"][0]["edits"].as_array().unwrap().len()
            );
            break;
        }
        methods.push(message["method"].as_str().unwrap().to_owned());
        if message["method"] == "workspace/applyEdit" {
            applied = message["params"].clone();
        }
    }
    assert!(methods.starts_with(&["window/workDoneProgress/create".into(), "$/progress".into()]));
    let change = &applied["edit"]["documentChanges"][0];
    assert_eq!(change["textDocument"], json!({"uri": URI, "version": 1}), "refused if it was changed meanwhile");
    assert!(change["edits"].to_string().contains("new é"));
    let none = c.start("workspace/executeCommand", json!({"command": "vonk.edit", "arguments": [{"uri": URI}]}));
    assert_eq!(c.answer(none)["error"]["code"], rpc::code::FAILED, "no instruction");
    let argument = json!({"uri": URI, "instruction": "hang"});
    let hanging = c.start(
        "workspace/executeCommand",
        json!({"command": "vonk.edit", "arguments": [argument], "workDoneToken": "t"}),
    );
    c.tell("window/workDoneProgress/cancel", json!({"token": "t"}));
    assert_eq!(c.answer(hanging)["error"]["code"], rpc::code::CANCELLED);
    c.end();
}

#[test]
fn what_an_ignore_file_names_later_leaves_the_prompts() {
    let dir = tempfile::tempdir().unwrap();
    let uri = |name: &str| format!("file://{}", dir.path().join(name).display());
    let mut c = Client::new("x\n");
    c.open(&uri("private.rs"), "pub fn secret_thing() {}\n");
    c.open(&uri("other.rs"), "let y\n");
    let items = c.ask("textDocument/inlineCompletion", at(&uri("private.rs"), 0, 24));
    assert_eq!(items["items"][0]["insertText"], "x");
    std::fs::write(dir.path().join(".vonkignore"), "private.rs\n").unwrap();
    // Any file's saving is a reason to look: the ignore file itself may be open elsewhere only.
    c.tell("textDocument/didSave", json!({"textDocument": {"uri": uri("other.rs")}}));
    assert_eq!(c.ask("textDocument/inlineCompletion", at(&uri("private.rs"), 0, 24)), json!({"items": []}));
    std::fs::write(dir.path().join(".vonkignore"), "").unwrap();
    c.tell("workspace/didChangeWatchedFiles", json!({"changes": []}));
    let items = c.ask("textDocument/inlineCompletion", at(&uri("private.rs"), 0, 24));
    assert_eq!(items["items"][0]["insertText"], "x");
    c.end();
}
