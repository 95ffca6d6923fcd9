//! "Edit with vonk…": an instruction becomes changes of an open file. The model rewrites, the editor gets only the lines that
//! differ, and it shows progress meanwhile. Nothing is written to disk here; the editor applies and can undo.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::limits::{COMPLETION_S_MAX, LSP_EDITS_MAX};
use client::Cancel;
use edit::diff::parts;
use edit::{How, Job, Source, propose};
use serde_json::{Value, json};

use crate::backend::Server;
use crate::document::{Document, Position, Range};
use crate::out::Out;
use crate::rpc::{self, code};

/// Marks an instruction in the text itself, for editors that have no field for one.
const MARK: &str = "vonk:";
/// Waiting for an answer may take this many times as long as for a suggestion.
const PATIENCE: u64 = 30;

/// What came of an edit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edited {
    /// The whole new text.
    pub text: String,
    /// Milliseconds to the first text.
    pub ttft_ms: f64,
    /// Milliseconds in all.
    pub ms: f64,
    /// Tokens of the answer.
    pub tokens: u64,
}

/// Somebody who rewrites files.
pub trait Editor: Send + Sync {
    /// Rewrites `source`. `on_text` gets the new text as far as it is written.
    ///
    /// # Errors
    /// In words.
    fn rewrite(
        &self,
        source: &Source,
        instruction: &str,
        cancel: &Cancel,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Edited, String>;

    /// Address and model of the server that is asked, which is found or started now if need be.
    ///
    /// # Errors
    /// In words.
    fn server(&self) -> Result<(String, String), String> {
        Err("there is no server".to_owned())
    }
}

impl Editor for Server {
    fn server(&self) -> Result<(String, String), String> {
        let found = self.living().map_err(|e| e.to_string())?;
        Ok((found.client.target().shown().to_owned(), found.model))
    }

    fn rewrite(
        &self,
        source: &Source,
        instruction: &str,
        cancel: &Cancel,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Edited, String> {
        let found = self.living().map_err(|e| e.to_string())?;
        let job = Job {
            client: &found.client,
            model: &found.model,
            source,
            beside: &[],
            instruction,
            how: How::Auto,
            timeout_s: COMPLETION_S_MAX * PATIENCE,
            cancel: Some(cancel),
        };
        let proposal = propose(&job, on_text).map_err(|e| e.to_string())?;
        let text = String::from_utf8(proposal.bytes).map_err(|_| "the answer is not UTF-8".to_owned())?;
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        Ok(Edited { text, ttft_ms: ms(proposal.cost.ttft), ms: ms(proposal.cost.time), tokens: proposal.cost.tokens })
    }
}

/// The lines that differ, as LSP's text edits, from the first to the last.
pub fn text_edits(old: &str, new: &str) -> Vec<Value> {
    text_edits_within(old, new, None)
}

/// Only those that touch these lines, from the first to behind the last.
fn text_edits_within(old: &str, new: &str, lines: Option<std::ops::Range<usize>>) -> Vec<Value> {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let end = Document::new(old).map(|d| d.whole().end).unwrap_or_default();
    let at = |line: usize| if line < a.len() { Position { line: line as u32, character: 0 } } else { end };
    let edit = |part: edit::diff::Part| {
        let range = Range { start: at(part.old.start), end: at(part.old.end) };
        json!({"range": range, "newText": b[part.new].concat()})
    };
    let touches = |part: &edit::diff::Part| {
        lines.as_ref().is_none_or(|l| part.old.start <= l.end && part.old.end >= l.start && !is_beside(&part.old, l))
    };
    parts(&a, &b, false).into_iter().filter(touches).map(edit).collect()
}

/// Whether lines that are replaced only border on these; what is put in there borders and belongs.
fn is_beside(old: &std::ops::Range<usize>, lines: &std::ops::Range<usize>) -> bool {
    !old.is_empty() && (old.start >= lines.end || old.end <= lines.start)
}

/// The lines that were selected; `None`: none, or all.
fn selected(argument: &Value, text: &str) -> Option<std::ops::Range<usize>> {
    let range: Range = serde_json::from_value(argument.get("range")?.clone()).ok()?;
    let (start, end) = (range.start.line as usize, range.end.line as usize);
    // A selection that ends before the first character of a line does not mean that line.
    let end = if range.end.character > 0 || range.start == range.end { end + 1 } else { end };
    (range.start != range.end && (start > 0 || end < text.lines().count())).then_some(start..end)
}

/// Tells an editor that draws an edit while it is written: only the lines that are new or other than before.
#[derive(Debug, Default)]
struct Growth {
    told: String,
}

impl Growth {
    /// From line `at` on, the new text reads `text`. `None`: as before.
    fn more(&mut self, so_far: &str) -> Option<Value> {
        let same = self.told.bytes().zip(so_far.bytes()).take_while(|(a, b)| a == b).count();
        if same == so_far.len() && same == self.told.len() {
            return None;
        }
        let same = so_far.as_bytes()[..same].iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let at = so_far[..same].bytes().filter(|b| *b == b'\n').count();
        self.told.truncate(same);
        self.told.push_str(&so_far[same..]);
        Some(json!({"at": at, "text": &so_far[same..]}))
    }
}

#[derive(Debug)]
struct Running {
    id: Value,
    token: Value,
    cancel: Cancel,
}

#[derive(Debug, Default)]
struct All {
    running: HashMap<u64, Running>,
    n_started: u64,
    has_progress: bool,
}

/// Edits that run.
#[derive(Clone)]
pub struct Edits {
    out: Out,
    editor: Option<Arc<dyn Editor>>,
    all: Arc<Mutex<All>>,
}

impl Edits {
    /// None runs; without an editor none ever will.
    pub fn new(out: Out, editor: Option<Arc<dyn Editor>>) -> Self {
        Self { out, editor, all: Arc::default() }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the editor draws progress that the server begins.
    pub fn show_progress(&self, has_progress: bool) {
        self.all().has_progress = has_progress;
    }

    /// Whether edits can be had.
    pub fn can_edit(&self) -> bool {
        self.editor.is_some()
    }

    /// Stops the edit of this request or progress token.
    pub fn cancel(&self, what: &Value) {
        self.all().running.values().filter(|r| r.id == *what || r.token == *what).for_each(|r| r.cancel.cancel());
    }

    /// Stops all.
    pub fn cancel_all(&self) {
        self.all().running.values().for_each(|r| r.cancel.cancel());
    }

    /// Answers which server is asked, when that is known.
    pub fn tell_server(&self, id: &Value) {
        let (this, id) = (self.clone(), id.clone());
        let work = move || {
            let found = this.editor.as_ref().map_or(Err("there is no server".to_owned()), |e| e.server());
            this.out.send(match found {
                Ok((url, model)) => rpc::result(&id, &json!({"url": url, "model": model})),
                Err(why) => rpc::error(&id, code::FAILED, &why),
            });
        };
        // If no thread can be had the editor asks in vain, as it would for anything else.
        let _ = std::thread::Builder::new().name("server".to_owned()).spawn(work);
    }

    /// Begins an edit; the request `id` is answered when it is over. With a `partialResultToken` the editor is told what is
    /// written meanwhile and gets the changes as the answer; without, they are applied by `workspace/applyEdit`.
    ///
    /// # Errors
    /// No instruction; too many at once; no editor.
    pub fn start(
        &self,
        id: &Value,
        uri: &str,
        path: &Path,
        version: i64,
        text: &str,
        argument: &Value,
        token: Option<Value>,
    ) -> Result<(), (i32, String)> {
        let failed = |why: &str| (code::FAILED, why.to_owned());
        let editor = self.editor.clone().ok_or_else(|| failed("edits are not to be had here"))?;
        let instruction = instruction(argument, text).ok_or_else(|| {
            failed("say what to change: send `instruction`, or write a line with `vonk: ...` into the text")
        })?;
        let mut all = self.all();
        if all.running.len() >= LSP_EDITS_MAX {
            return Err(failed("an edit is running already"));
        }
        all.n_started += 1;
        let n = all.n_started;
        let grown = argument.get("partialResultToken").filter(|t| !t.is_null()).cloned();
        let is_own = token.is_none() && grown.is_none() && all.has_progress;
        let has_progress = all.has_progress && (is_own || token.is_some());
        let token = token.unwrap_or_else(|| json!(format!("vonk-edit-{n}")));
        let lines = if grown.is_some() { None } else { selected(argument, text) };
        let is_part = grown.is_some() || lines.is_some();
        let instruction = if is_part { of_lines(instruction, argument, text) } else { instruction };
        if is_own {
            self.out.send(rpc::request(2 * n, "window/workDoneProgress/create", &json!({"token": token})));
        }
        let cancel = Cancel::new();
        all.running.insert(n, Running { id: id.clone(), token: token.clone(), cancel: cancel.clone() });
        let (this, id, uri, source) = (self.clone(), id.clone(), uri.to_owned(), Source::open(path, text));
        let text = text.to_owned();
        let work = move || {
            let progress = |value: Value| {
                if has_progress {
                    this.out.send(rpc::notification("$/progress", &json!({"token": token, "value": value})));
                }
            };
            progress(
                json!({"kind": "begin", "title": "vonk", "message": instruction, "cancellable": true, "percentage": 0}),
            );
            let n_lines = text.lines().count().max(1);
            let (mut last, mut growth) = (0, Growth::default());
            let done = editor.rewrite(&source, &instruction, &cancel, &mut |so_far| {
                if let Some(token) = &grown
                    && let Some(value) = growth.more(so_far)
                {
                    this.out.send(rpc::notification("$/progress", &json!({"token": token, "value": value})));
                }
                let percent = (so_far.lines().count() * 100 / n_lines).min(99);
                if percent > last {
                    last = percent;
                    progress(json!({"kind": "report", "percentage": percent}));
                }
            });
            progress(json!({"kind": "end"}));
            let applied_at = grown.is_none().then_some((uri.as_str(), version, lines));
            this.finish(n, &id, applied_at, &text, done, cancel.is_cancelled());
        };
        if std::thread::Builder::new().name("edit".to_owned()).spawn(work).is_err() {
            all.running.remove(&n);
            return Err(failed("no thread can be had"));
        }
        Ok(())
    }

    /// `applied_at`: the file, its version and the lines that may change, where the changes are to be applied rather than to be
    /// the answer.
    fn finish(
        &self,
        n: u64,
        id: &Value,
        applied_at: Option<(&str, i64, Option<std::ops::Range<usize>>)>,
        old: &str,
        done: Result<Edited, String>,
        is_cancelled: bool,
    ) {
        self.all().running.remove(&n);
        let edited = match done {
            _ if is_cancelled => return self.out.send(rpc::error(id, code::CANCELLED, "cancelled")),
            Err(why) => return self.out.send(rpc::error(id, code::FAILED, &why)),
            Ok(edited) => edited,
        };
        let all = text_edits(old, &edited.text);
        let lines = applied_at.as_ref().and_then(|(.., lines)| lines.clone());
        let edits = if lines.is_some() { text_edits_within(old, &edited.text, lines) } else { all.clone() };
        if edits.is_empty() && !all.is_empty() {
            let why = "the model changed only lines outside of the selection; nothing was applied";
            return self.out.send(rpc::error(id, code::FAILED, why));
        }
        let n_edits = edits.len();
        let result = |edits: Value| {
            let cost = json!({"edits": edits, "ms": edited.ms, "ttft_ms": edited.ttft_ms, "tokens": edited.tokens});
            rpc::result(id, &cost)
        };
        let Some((uri, version, _)) = applied_at else { return self.out.send(result(json!(edits))) };
        if n_edits > 0 {
            // With the version, so that the editor refuses it if the file was changed meanwhile.
            let change = json!({"textDocument": {"uri": uri, "version": version}, "edits": edits});
            let params = json!({"label": "vonk", "edit": {"documentChanges": [change]}});
            self.out.send(rpc::request(2 * n + 1, "workspace/applyEdit", &params));
        }
        self.out.send(result(json!(n_edits)));
    }
}

/// The instruction, for the lines of the range if that is not the whole file.
fn of_lines(instruction: String, argument: &Value, text: &str) -> String {
    let line = |at: &str| argument.pointer(at).and_then(Value::as_u64).map(|n| n as usize);
    let (Some(first), Some(last)) = (line("/range/start/line"), line("/range/end/line")) else { return instruction };
    if first == 0 && last + 1 >= text.lines().count() {
        return instruction;
    }
    let begins = text.lines().nth(first).unwrap_or_default().trim();
    format!("{instruction}\nChange only lines {} to {} of the file, which begin with `{begins}`.", first + 1, last + 1)
}

/// What the editor sends, else what the text itself asks for, within the range first.
fn instruction(argument: &Value, text: &str) -> Option<String> {
    if let Some(said) = argument["instruction"].as_str().filter(|s| !s.trim().is_empty()) {
        return Some(said.to_owned());
    }
    let line = |at: &str| argument.pointer(at).and_then(Value::as_u64).map(|n| n as usize);
    let (first, last) = (line("/range/start/line").unwrap_or(0), line("/range/end/line").unwrap_or(usize::MAX));
    let mut marked = text.lines().enumerate().filter_map(|(i, l)| Some((i, l.split_once(MARK)?.1.trim())));
    marked.find(|(i, said)| (first..=last).contains(i) && !said.is_empty()).map(|(_, said)| said.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn apply(old: &str, edits: &[Value]) -> String {
        let mut document = Document::new(old).unwrap();
        for edit in edits.iter().rev() {
            let range: Range = serde_json::from_value(edit["range"].clone()).unwrap();
            document.change(range, edit["newText"].as_str().unwrap()).unwrap();
        }
        document.text()
    }

    proptest! {
        #[test]
        fn edits_make_the_new_text_of_the_old(old in "([ab]{0,2}(\n|\r\n)){0,6}[ab]{0,2}", new in "([ab]{0,2}(\n|\r\n)){0,6}[ab]{0,2}") {
            prop_assert_eq!(apply(&old, &text_edits(&old, &new)), new);
        }
    }

    #[test]
    fn edits_are_small() {
        let edits = text_edits("a\nb\nc\n", "a\nX\nc\n");
        let range = json!({"start": {"line": 1, "character": 0}, "end": {"line": 2, "character": 0}});
        assert_eq!(edits, [json!({"range": range, "newText": "X\n"})]);
        assert!(text_edits("a\n", "a\n").is_empty());
    }

    #[test]
    fn a_selection_bounds_what_is_applied() {
        let (old, new) = ("a\nb\nc\nd\n", "A\nB\nx\nc\nD\n");
        let within =
            |lines| text_edits_within(old, new, lines).iter().map(|e| e["newText"].clone()).collect::<Vec<_>>();
        assert_eq!(within(Some(1..3)), ["A\nB\nx\n"], "one part is not divided");
        assert_eq!(within(Some(2..3)), [] as [&str; 0]);
        assert_eq!(text_edits_within("a\nb\n", "a\nnew\nb\n", Some(1..2)).len(), 1, "put in before the first line");
        let range = |a: (u32, u32), b: (u32, u32)| json!({"range": {"start": {"line": a.0, "character": a.1}, "end": {"line": b.0, "character": b.1}}});
        assert_eq!(selected(&range((1, 0), (3, 0)), old), Some(1..3));
        assert_eq!(selected(&range((1, 2), (2, 1)), old), Some(1..3));
        assert_eq!(selected(&range((0, 0), (4, 0)), old), None, "all of it");
        assert_eq!(selected(&range((2, 1), (2, 1)), old), None, "a cursor selects nothing");
        assert_eq!(selected(&json!({}), old), None);
    }

    proptest! {
        #[test]
        fn growth_tells_enough_to_write_the_text(texts in prop::collection::vec("([ab]{0,2}\n){0,6}", 1..6)) {
            let (mut growth, mut lines) = (Growth::default(), Vec::new());
            for text in &texts {
                if let Some(value) = growth.more(text) {
                    lines.truncate(value["at"].as_u64().unwrap() as usize);
                    lines.extend(value["text"].as_str().unwrap().lines().map(str::to_owned));
                }
                prop_assert_eq!(&lines, &text.lines().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_part_of_a_file_is_named_in_the_instruction() {
        let text = "a\nb {\nc\n";
        let range = |first: u64, last: u64| json!({"range": {"start": {"line": first}, "end": {"line": last}}});
        assert_eq!(of_lines("do".into(), &range(0, 3), text), "do");
        assert_eq!(of_lines("do".into(), &json!({}), text), "do");
        let part = of_lines("do".into(), &range(1, 2), text);
        assert_eq!(part, "do\nChange only lines 2 to 3 of the file, which begin with `b {`.");
    }

    /// Writes a line after the other, and then all of it.
    struct Script;

    impl Editor for Script {
        fn rewrite(&self, _: &Source, _: &str, _: &Cancel, on_text: &mut dyn FnMut(&str)) -> Result<Edited, String> {
            on_text("x\n");
            on_text("x\ny\n");
            Ok(Edited { text: "x\ny\n".into(), ..Edited::default() })
        }
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_editor_that_draws_is_told_what_grows_and_applies_by_itself() {
        let sink = Sink::default();
        let edits = Edits::new(Out::start(sink.clone()), Some(Arc::new(Script)));
        edits.show_progress(true);
        let argument = json!({"instruction": "do", "partialResultToken": "t"});
        edits.start(&json!(1), "file:///a", Path::new("a"), 1, "x\nz\n", &argument, None).unwrap();
        while !edits.all().running.is_empty() {
            std::thread::yield_now();
        }
        edits.tell_server(&json!(2));
        let said = || String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        while !said().contains("there is no server") {
            std::thread::yield_now();
        }
        edits.out.finish();
        let said = said();
        assert!(said.contains(r#"{"token":"t","value":{"at":0,"text":"x\n"}}"#), "{said}");
        assert!(said.contains(r#"{"token":"t","value":{"at":1,"text":"y\n"}}"#), "{said}");
        assert!(said.contains(r#""newText":"y\n""#), "{said}");
        assert!(!said.contains("applyEdit") && !said.contains("workDoneProgress"), "{said}");
    }

    #[test]
    fn instructions_come_from_the_editor_or_the_text() {
        let range = json!({"start": {"line": 1}, "end": {"line": 2}});
        assert_eq!(instruction(&json!({"instruction": "do"}), "// vonk: this").unwrap(), "do");
        assert_eq!(instruction(&json!({"range": range}), "// vonk: no\nx\n# vonk: yes\n").unwrap(), "yes");
        assert_eq!(instruction(&json!({"range": range}), "// vonk: no\n"), None);
        assert_eq!(instruction(&json!({}), "// vonk: \n"), None);
    }
}
