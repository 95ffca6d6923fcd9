//! A language server over standard input and output. The thread that reads never waits: it changes documents in place and
//! hands everything else on. Suggestions are answered when they are known or no longer wanted, never later.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::limits::{DOCUMENTS_MAX, LSP_WAITING_MAX, NEXT_EDIT_SCAN_BYTES_MAX, NOTE_BYTES_MAX};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::brain::View;
use crate::brain::next::{Next, Trail};
use crate::brain::outline::Language;
use crate::document::{Document, Position, Range};
use crate::driver::Driver;
use crate::editing::{Editor, Edits};
use crate::ignored::{Ignored, path_of};
use crate::imports::Imports;
use crate::out::Out;
use crate::rpc::{self, Incoming, code};
use crate::status::Status;
use crate::waiting::{Kind, Waiting};

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `shutdown`, then `exit`.
    Orderly,
    /// `exit` alone, or the editor went away.
    Abrupt,
}

/// Serves one editor until it leaves. `editor` makes edits by instruction, where that can be had.
///
/// # Errors
/// A message that cannot be framed; an editor that does not read what it asked for.
pub fn serve(
    mut input: impl BufRead,
    output: impl Write + Send + 'static,
    backend: Arc<dyn Backend>,
    editor: Option<Arc<dyn Editor>>,
) -> io::Result<End> {
    let out = Out::start(output);
    let waiting = Waiting::new(out.clone());
    let driver = Driver::start(Arc::clone(&backend), waiting.clone().on_shown());
    let mut session = Session {
        edits: Edits::new(out.clone(), editor),
        status: Status::new(out.clone(), backend, &driver),
        imports: Imports::start(driver.on_imported()),
        out,
        waiting,
        driver,
        files: HashMap::new(),
        ignored: Ignored::default(),
        stage: Stage::New,
        n_requests: 0,
        trail: Trail::default(),
    };
    let mut body = Vec::new();
    while rpc::read(&mut input, &mut body)? {
        session.take(&body);
        if let Stage::Over(end) = session.stage {
            session.finish();
            return Ok(end);
        }
        if session.out.is_broken() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the editor does not read its answers"));
        }
    }
    session.finish();
    Ok(End::Abrupt)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Running,
    ShutDown,
    Over(End),
}

/// An open file.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    version: i64,
    /// `None`: it is too large.
    text: Option<Document>,
    /// Nothing of it may go into a prompt.
    is_ignored: bool,
    line: u32,
}

struct Session {
    out: Out,
    waiting: Waiting,
    driver: Driver,
    imports: Imports,
    edits: Edits,
    files: HashMap<String, Open>,
    ignored: Ignored,
    stage: Stage,
    n_requests: u64,
    status: Status,
    trail: Trail,
}

#[derive(Deserialize)]
struct TextDocument {
    uri: String,
    #[serde(default)]
    version: Option<i64>,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
struct OfDocument {
    #[serde(rename = "textDocument")]
    document: TextDocument,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
struct DidChange {
    #[serde(rename = "textDocument")]
    document: TextDocument,
    #[serde(rename = "contentChanges")]
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    range: Option<Range>,
    text: String,
}

#[derive(Deserialize)]
struct AtPosition {
    #[serde(rename = "textDocument")]
    document: TextDocument,
    position: Position,
}

#[derive(Deserialize)]
struct OtherFiles {
    /// The editor can go to another file.
    #[serde(default, rename = "otherFiles")]
    other_files: bool,
}

#[derive(Deserialize)]
struct CodeAction {
    #[serde(rename = "textDocument")]
    document: TextDocument,
    range: Range,
}

#[derive(Deserialize)]
struct Execute {
    command: String,
    #[serde(default)]
    arguments: Vec<Value>,
    #[serde(default, rename = "workDoneToken")]
    token: Option<Value>,
}

fn read<'a, T: Deserialize<'a>>(params: Option<&'a RawValue>) -> Result<T, String> {
    serde_json::from_str(params.map_or("null", RawValue::get)).map_err(|e| format!("wrong parameters: {e}"))
}

impl Session {
    fn take(&mut self, body: &[u8]) {
        let incoming: Incoming = match serde_json::from_slice(body) {
            Ok(incoming) => incoming,
            Err(e) => return self.out.send(rpc::error(&Value::Null, code::PARSE, &format!("not a message: {e}"))),
        };
        let params = incoming.params.as_deref();
        match (incoming.id, incoming.method) {
            (Some(id), Some(method)) => self.request(&id, &method, params),
            (None, Some(method)) => self.notification(&method, params),
            // An answer to something that was asked of the editor: nothing hangs on it.
            (Some(_), None) => {}
            (None, None) => self.out.send(rpc::error(&Value::Null, code::INVALID, "a message has no method")),
        }
    }

    fn request(&mut self, id: &Value, method: &str, params: Option<&RawValue>) {
        let answer = match (self.stage, method) {
            (Stage::New, "initialize") => {
                self.initialize(params);
                // Nothing may be told before this answer, and what is looked up tells.
                self.out.send(rpc::result(id, &capabilities()));
                self.status.look();
                Ok(None)
            }
            (Stage::New, _) => Err((code::NOT_INITIALIZED, "send initialize first".to_owned())),
            (Stage::ShutDown, _) => Err((code::INVALID, "it is shut down".to_owned())),
            (_, "shutdown") => {
                self.stage = Stage::ShutDown;
                self.waiting.end_all();
                Ok(Some(Value::Null))
            }
            (_, "textDocument/inlineCompletion") => self.suggest(id, params, false),
            (_, "textDocument/completion") => self.suggest(id, params, true),
            (_, "textDocument/codeAction") => self.actions(params).map(Some),
            (_, "workspace/executeCommand") => self.execute(id, params),
            (_, "vonk/status") => {
                self.status.look();
                Ok(Some(self.status.now()))
            }
            (_, "vonk/nextEdit") => self.next_edit(params).map(Some),
            (_, "vonk/server") => {
                self.edits.tell_server(id);
                Ok(None)
            }
            (_, "vonk/edit") => self.edit(id, params),
            (_, "initialize") => Err((code::INVALID, "it is initialized already".to_owned())),
            _ => Err((code::NO_METHOD, format!("{method} is not known"))),
        };
        match answer {
            Ok(Some(result)) => self.out.send(rpc::result(id, &result)),
            Ok(None) => {}
            Err((code, message)) => self.out.send(rpc::error(id, code, &message)),
        }
    }

    fn initialize(&mut self, params: Option<&RawValue>) {
        let options: Value = read(params).unwrap_or_default();
        let is_streaming = options.pointer("/initializationOptions/streaming").and_then(Value::as_bool) == Some(true);
        self.waiting.stream_growth(is_streaming);
        let has_progress = options.pointer("/capabilities/window/workDoneProgress").and_then(Value::as_bool);
        self.edits.show_progress(has_progress == Some(true));
        self.stage = Stage::Running;
    }

    fn notification(&mut self, method: &str, params: Option<&RawValue>) {
        let done = match method {
            "exit" => {
                let end = if self.stage == Stage::ShutDown { End::Orderly } else { End::Abrupt };
                self.stage = Stage::Over(end);
                Ok(())
            }
            _ if self.stage != Stage::Running => Ok(()),
            "textDocument/didOpen" => self.opened(params),
            "textDocument/didChange" => self.changed(params),
            "textDocument/didSave" => self.saved(params),
            "textDocument/didClose" => self.closed(params),
            "$/cancelRequest" => self.cancelled(params, "id"),
            "window/workDoneProgress/cancel" => self.cancelled(params, "token"),
            "workspace/didChangeWatchedFiles" => {
                self.ignore_anew();
                Ok(())
            }
            "vonk/accepted" => {
                self.status.accepted();
                Ok(())
            }
            _ => Ok(()), // notifications that are not known are to be passed over
        };
        if let Err(why) = done {
            let params = json!({"type": 2, "message": format!("{method}: {why}")});
            self.out.send(rpc::notification("window/logMessage", &params));
        }
    }

    fn opened(&mut self, params: Option<&RawValue>) -> Result<(), String> {
        let TextDocument { uri, version, text } = read::<OfDocument>(params)?.document;
        if self.files.len() >= DOCUMENTS_MAX && !self.files.contains_key(&uri) {
            return Err(format!("more than {DOCUMENTS_MAX} files are open; this one gets no suggestions"));
        }
        let path = path_of(&uri);
        self.ignored.forget();
        let text = Document::new(&text.unwrap_or_default()).ok();
        let is_ignored = self.ignored.is_ignored(&path) || text.as_ref().is_some_and(Document::is_binary);
        let open = Open { path, version: version.unwrap_or(0), text, is_ignored, line: 0 };
        self.note(&open);
        self.look_up_imports(&open);
        self.files.insert(uri, open);
        Ok(())
    }

    fn changed(&mut self, params: Option<&RawValue>) -> Result<(), String> {
        let DidChange { document, changes } = read(params)?;
        if let Some(left) = self.trail.path().filter(|p| *p != document.uri).map(str::to_owned) {
            let text = self.files.get(&left).and_then(|o| o.text.as_ref());
            self.trail.leave(text.map_or(&[], Document::lines));
        }
        let open = self.files.get_mut(&document.uri).ok_or("the file is not open")?;
        open.version = document.version.unwrap_or(open.version + 1);
        for Change { range, text } in changes {
            match (range, &mut open.text) {
                (None, _) => {
                    self.trail.forget(&document.uri);
                    open.text = Document::new(&text).ok();
                }
                (Some(range), Some(known)) => {
                    open.line = range.start.line;
                    self.trail.changing(&document.uri, &known.touched(range), known.lines());
                    let was = known.lines().len() as isize;
                    if known.change(range, &text).is_err() {
                        open.text = None;
                    }
                    self.trail.changed(open.text.as_ref().map_or(0, |t| t.lines().len() as isize - was));
                }
                (Some(_), None) => {} // too large; only its whole text could tell that it is not any more
            }
        }
        Ok(())
    }

    fn saved(&mut self, params: Option<&RawValue>) -> Result<(), String> {
        let OfDocument { document, text } = read(params)?;
        let open = self.files.get_mut(&document.uri).ok_or("the file is not open")?;
        if let Some(text) = text {
            open.text = Document::new(&text).ok();
        }
        self.ignore_anew();
        if let Some(open) = self.files.get(&document.uri) {
            self.note(open);
            self.look_up_imports(open);
        }
        Ok(())
    }

    /// Reads the ignore rules anew: editors seldom say when such a file changes. What they name now leaves the prompts.
    fn ignore_anew(&mut self) {
        self.ignored.forget();
        for open in self.files.values_mut() {
            let was = open.is_ignored;
            open.is_ignored =
                self.ignored.is_ignored(&open.path) || open.text.as_ref().is_some_and(Document::is_binary);
            if open.is_ignored && !was {
                self.driver.gone(&shown(&open.path));
            }
        }
    }

    fn closed(&mut self, params: Option<&RawValue>) -> Result<(), String> {
        let uri = read::<OfDocument>(params)?.document.uri;
        let open = self.files.remove(&uri).ok_or("the file is not open")?;
        self.trail.forget(&uri);
        self.note(&open);
        Ok(())
    }

    /// The file may be of use in prompts about others.
    fn note(&self, open: &Open) {
        let text = open.text.as_ref().filter(|_| !open.is_ignored).map(Document::text);
        if let Some(text) = text.filter(|t| t.len() <= NOTE_BYTES_MAX) {
            self.driver.note(&shown(&open.path), text, open.line as usize);
        }
    }

    fn look_up_imports(&self, open: &Open) {
        if let Some(text) = open.text.as_ref().filter(|_| !open.is_ignored) {
            self.imports.of(&open.path, text.text());
        }
    }

    fn cancelled(&mut self, params: Option<&RawValue>, field: &str) -> Result<(), String> {
        let params: Value = read(params)?;
        let what = params.get(field).ok_or("it does not say what")?;
        if let Some(request) = self.waiting.cancel(what) {
            self.driver.forget_request(request);
        }
        self.edits.cancel(what);
        Ok(())
    }

    fn suggest(
        &mut self,
        id: &Value,
        params: Option<&RawValue>,
        is_list: bool,
    ) -> Result<Option<Value>, (i32, String)> {
        let AtPosition { document, position } = read(params).map_err(|e| (code::PARAMS, e))?;
        let none = || Ok(Some(if is_list { json!({"isIncomplete": true, "items": []}) } else { json!({"items": []}) }));
        let Some(open) = self.files.get_mut(&document.uri) else { return none() };
        open.line = position.line;
        let Some(text) = open.text.as_ref().filter(|_| !open.is_ignored) else { return none() };
        let (before, after, offset) = text.around(position);
        let view = View { path: shown(&open.path), before, after, offset };
        self.n_requests += 1;
        let kind = if is_list { Kind::list(&view.before) } else { Kind::Inline };
        self.waiting.add(self.n_requests, id.clone(), kind, document.uri, position, LSP_WAITING_MAX);
        self.driver.key(self.n_requests, view);
        self.status.tell();
        Ok(None)
    }

    fn actions(&mut self, params: Option<&RawValue>) -> Result<Value, (i32, String)> {
        let CodeAction { document, range } = read(params).map_err(|e| (code::PARAMS, e))?;
        let can_edit =
            self.edits.can_edit() && self.files.get(&document.uri).is_some_and(|o| o.text.is_some() && !o.is_ignored);
        if !can_edit {
            return Ok(json!([]));
        }
        let title = "Edit with vonk…";
        let command =
            json!({"title": title, "command": "vonk.edit", "arguments": [{"uri": document.uri, "range": range}]});
        Ok(json!([{"title": title, "kind": "refactor.rewrite", "command": command}]))
    }

    /// Where the last change goes on; `null` where it does not. Answered here and now: it is a search, no question to a model.
    fn next_edit(&self, params: Option<&RawValue>) -> Result<Value, (i32, String)> {
        let AtPosition { document, position } = read(params).map_err(|e| (code::PARAMS, e))?;
        let OtherFiles { other_files } = read(params).map_err(|e| (code::PARAMS, e))?;
        let open = self.files.get(&document.uri).filter(|o| !o.is_ignored);
        let Some(text) = open.and_then(|o| o.text.as_ref()) else { return Ok(Value::Null) };
        let range = |text: &Document, next: &Next| {
            json!(Range { start: text.position(next.start), end: text.position(next.end) })
        };
        if let Some(next) = self.trail.next(&document.uri, text.lines(), text.place(position)) {
            return Ok(json!({"range": range(text, &next), "newText": next.text}));
        }
        let is_here = other_files && self.trail.path() == Some(document.uri.as_str());
        Ok(self.next_elsewhere(&document.uri, text).filter(|_| is_here).map_or(Value::Null, |(uri, other, next)| {
            json!({"textDocument": {"uri": uri}, "range": range(other, &next), "newText": next.text})
        }))
    }

    /// In the other open files of the same language, within a bound, in the order of their names.
    fn next_elsewhere(&self, uri: &str, text: &Document) -> Option<(&str, &Document, Next)> {
        let language = Language::of(uri)?;
        let mut others: Vec<(&String, &Document)> = self
            .files
            .iter()
            .filter(|(other, o)| *other != uri && !o.is_ignored && Language::of(other) == Some(language))
            .filter_map(|(other, o)| Some((other, o.text.as_ref()?)))
            .collect();
        others.sort_unstable_by_key(|(other, _)| *other);
        let mut bytes = 0;
        let within = others.into_iter().take_while(|(_, other)| {
            bytes += other.lines().iter().map(String::len).sum::<usize>();
            bytes <= NEXT_EDIT_SCAN_BYTES_MAX
        });
        within.into_iter().find_map(|(uri, other)| {
            Some((uri.as_str(), other, self.trail.next_elsewhere(text.lines(), other.lines())?))
        })
    }

    fn execute(&mut self, id: &Value, params: Option<&RawValue>) -> Result<Option<Value>, (i32, String)> {
        let Execute { command, arguments, token } = read(params).map_err(|e| (code::PARAMS, e))?;
        let argument = arguments.first().cloned().unwrap_or_default();
        match command.as_str() {
            "vonk.accepted" => {
                self.status.accepted();
                Ok(Some(Value::Null))
            }
            "vonk.edit" => {
                let uri = argument["uri"].as_str().ok_or((code::PARAMS, "the argument has no uri".to_owned()))?;
                self.start_edit(id, uri, &argument, token)?;
                Ok(None)
            }
            _ => Err((code::NO_METHOD, format!("{command} is not known"))),
        }
    }

    /// `vonk/edit`: like the command, for an editor that draws the change while it is written and applies it by itself.
    fn edit(&mut self, id: &Value, params: Option<&RawValue>) -> Result<Option<Value>, (i32, String)> {
        let mut argument: Value = read(params).map_err(|e| (code::PARAMS, e))?;
        let OfDocument { document, .. } = read(params).map_err(|e| (code::PARAMS, e))?;
        if argument.get("partialResultToken").is_none_or(Value::is_null) {
            argument["partialResultToken"] = id.clone();
        }
        self.start_edit(id, &document.uri, &argument, None)?;
        Ok(None)
    }

    fn start_edit(&self, id: &Value, uri: &str, argument: &Value, token: Option<Value>) -> Result<(), (i32, String)> {
        let open = self.files.get(uri).filter(|o| !o.is_ignored);
        let text = open.and_then(|o| Some((o.path.clone(), o.version, o.text.as_ref()?.text())));
        let Some((path, version, text)) = text else {
            return Err((code::FAILED, "the file is not open, too large, or ignored".to_owned()));
        };
        self.edits.start(id, uri, &path, version, &text, argument, token)
    }

    fn finish(self) {
        self.waiting.end_all();
        self.edits.cancel_all();
        drop(self.driver);
        self.out.finish();
    }
}

/// As prompts and the brain name a file.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn capabilities() -> Value {
    json!({
        "capabilities": {
            "positionEncoding": "utf-16",
            "textDocumentSync": {"openClose": true, "change": 2, "save": {"includeText": false}},
            "inlineCompletionProvider": true,
            "completionProvider": {"resolveProvider": false},
            "codeActionProvider": {"codeActionKinds": ["refactor.rewrite"]},
            "executeCommandProvider": {"commands": ["vonk.edit", "vonk.accepted"], "workDoneProgress": true},
        },
        "serverInfo": {"name": "vonk", "version": env!("CARGO_PKG_VERSION")},
    })
}
