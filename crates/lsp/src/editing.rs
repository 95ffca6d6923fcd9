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
}

impl Editor for Server {
    fn rewrite(
        &self,
        source: &Source,
        instruction: &str,
        cancel: &Cancel,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Edited, String> {
        let found = self.client().map_err(|e| e.to_string())?;
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
    let (a, b): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let end = Document::new(old).map(|d| d.whole().end).unwrap_or_default();
    let at = |line: usize| if line < a.len() { Position { line: line as u32, character: 0 } } else { end };
    let edit = |part: edit::diff::Part| {
        let range = Range { start: at(part.old.start), end: at(part.old.end) };
        json!({"range": range, "newText": b[part.new].concat()})
    };
    parts(&a, &b, false).into_iter().map(edit).collect()
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

    /// Begins an edit; the request `id` is answered when it is over.
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
        let is_own = token.is_none() && all.has_progress;
        let token = token.unwrap_or_else(|| json!(format!("vonk-edit-{n}")));
        let has_progress = is_own || all.has_progress;
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
            let mut last = 0;
            let done = editor.rewrite(&source, &instruction, &cancel, &mut |so_far| {
                let percent = (so_far.lines().count() * 100 / n_lines).min(99);
                if percent > last {
                    last = percent;
                    progress(json!({"kind": "report", "percentage": percent}));
                }
            });
            progress(json!({"kind": "end"}));
            this.finish(n, &id, &uri, version, &text, done, cancel.is_cancelled());
        };
        if std::thread::Builder::new().name("edit".to_owned()).spawn(work).is_err() {
            all.running.remove(&n);
            return Err(failed("no thread can be had"));
        }
        Ok(())
    }

    fn finish(
        &self,
        n: u64,
        id: &Value,
        uri: &str,
        version: i64,
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
        let edits = text_edits(old, &edited.text);
        let n_edits = edits.len();
        if n_edits > 0 {
            // With the version, so that the editor refuses it if the file was changed meanwhile.
            let change = json!({"textDocument": {"uri": uri, "version": version}, "edits": edits});
            let params = json!({"label": "vonk", "edit": {"documentChanges": [change]}});
            self.out.send(rpc::request(2 * n + 1, "workspace/applyEdit", &params));
        }
        let result = json!({"edits": n_edits, "ms": edited.ms, "ttft_ms": edited.ttft_ms, "tokens": edited.tokens});
        self.out.send(rpc::result(id, &result));
    }
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
    fn instructions_come_from_the_editor_or_the_text() {
        let range = json!({"start": {"line": 1}, "end": {"line": 2}});
        assert_eq!(instruction(&json!({"instruction": "do"}), "// vonk: this").unwrap(), "do");
        assert_eq!(instruction(&json!({"range": range}), "// vonk: no\nx\n# vonk: yes\n").unwrap(), "yes");
        assert_eq!(instruction(&json!({"range": range}), "// vonk: no\n"), None);
        assert_eq!(instruction(&json!({}), "// vonk: \n"), None);
    }
}
