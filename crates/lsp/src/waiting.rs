//! Requests of the editor that wait for a suggestion, and the form of their answers. Each gets exactly one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::limits::LSP_HOLD_MS;
use serde_json::{Value, json};

use crate::brain::Suggestion;
use crate::document::Position;
use crate::driver::{OnShown, Shown};
use crate::out::Out;
use crate::rpc::{self, code};

/// Characters of a suggestion in a list.
const LABEL_CHARS: usize = 60;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `textDocument/inlineCompletion`.
    Inline,
    /// `textDocument/completion`: with the word before the cursor, by which editors filter.
    List {
        /// That word, or what there is of it.
        word: String,
    },
}

impl Kind {
    /// For a list.
    pub fn list(before: &str) -> Self {
        let start = before.char_indices().rev().find(|(_, c)| !(c.is_alphanumeric() || *c == '_'));
        let from = start.map_or(0, |(at, c)| at + c.len_utf8());
        Self::List { word: before[from..].to_owned() }
    }

    fn empty(&self) -> Value {
        self.answer(None, Position::default())
    }

    fn answer(&self, suggestion: Option<&Suggestion>, at: Position) -> Value {
        let range = |from: u32| json!({"start": {"line": at.line, "character": from}, "end": at});
        let accepted = json!({"title": "accepted", "command": "vonk.accepted", "arguments": [{"kind": "all"}]});
        match (self, suggestion) {
            (Self::Inline, None) => json!({"items": []}),
            (Self::Inline, Some(s)) => {
                json!({"items": [{"insertText": s.text, "range": range(at.character), "command": accepted}]})
            }
            (Self::List { .. }, None) => json!({"isIncomplete": true, "items": []}),
            (Self::List { word }, Some(s)) => {
                let start = at.character.saturating_sub(word.encode_utf16().count() as u32);
                let whole = format!("{word}{}", s.text);
                let first = whole.trim().lines().next().unwrap_or_default();
                let label: String = first.chars().take(LABEL_CHARS).collect();
                let mark = if first.len() < whole.trim().len() { "…" } else { "" };
                json!({"isIncomplete": true, "items": [{
                    "label": format!("{label}{mark}"),
                    "kind": 1,
                    "detail": "vonk",
                    "documentation": whole,
                    "filterText": if word.is_empty() { &whole } else { word },
                    "sortText": "\u{7f}",
                    "insertTextFormat": 1,
                    "textEdit": {"range": range(start), "newText": whole},
                    "command": accepted,
                }]})
            }
        }
    }
}

#[derive(Debug)]
struct One {
    id: Value,
    kind: Kind,
    uri: String,
    at: Position,
    /// When the first text came.
    first: Option<Instant>,
    is_answered: bool,
}

#[derive(Debug, Default)]
struct All {
    requests: BTreeMap<u64, One>,
    is_streaming: bool,
}

/// See above. Clones share everything.
#[derive(Clone, Debug)]
pub struct Waiting {
    out: Out,
    all: Arc<Mutex<All>>,
}

impl Waiting {
    /// Nobody waits.
    pub fn new(out: Out) -> Self {
        Self { out, all: Arc::default() }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the editor wants to be told when a suggestion that it has grows.
    pub fn stream_growth(&self, is_streaming: bool) {
        self.all().is_streaming = is_streaming;
    }

    /// A request waits from now on. The oldest ones beyond `most` get an empty answer.
    pub fn add(&self, request: u64, id: Value, kind: Kind, uri: String, at: Position, most: usize) {
        let mut all = self.all();
        all.requests.insert(request, One { id, kind, uri, at, first: None, is_answered: false });
        while all.requests.len() > most {
            let Some((_, one)) = all.requests.pop_first() else { return };
            self.reply(&one, None);
        }
    }

    fn reply(&self, one: &One, suggestion: Option<&Suggestion>) {
        if !one.is_answered {
            self.out.send(rpc::result(&one.id, &one.kind.answer(suggestion, one.at)));
        }
    }

    /// The editor does not want it any more; which one it was.
    pub fn cancel(&self, id: &Value) -> Option<u64> {
        let mut all = self.all();
        let request = all.requests.iter().find(|(_, one)| one.id == *id).map(|(request, _)| *request)?;
        let one = all.requests.remove(&request)?;
        if !one.is_answered {
            self.out.send(rpc::error(&one.id, code::CANCELLED, "cancelled"));
        }
        Some(request)
    }

    /// Everybody gets an empty answer.
    pub fn end_all(&self) {
        for one in std::mem::take(&mut self.all().requests).into_values() {
            if !one.is_answered {
                self.out.send(rpc::result(&one.id, &one.kind.empty()));
            }
        }
    }

    /// What the driver calls.
    pub fn on_shown(self) -> OnShown {
        Box::new(move |shown| self.take(&shown))
    }

    fn take(&self, shown: &Shown) {
        let mut all = self.all();
        let is_streaming = all.is_streaming;
        let Some(one) = all.requests.get_mut(&shown.request) else { return };
        let first = *one.first.get_or_insert_with(Instant::now);
        let is_due = shown.is_last || is_streaming || first.elapsed() >= Duration::from_millis(LSP_HOLD_MS);
        if one.is_answered {
            if let Some(s) = shown.suggestion.as_ref().filter(|_| is_streaming) {
                let params = json!({"textDocument": {"uri": one.uri}, "position": one.at, "insertText": s.text, "isWhole": s.is_whole});
                self.out.send(rpc::notification("vonk/suggestion", &params));
            }
        } else if is_due {
            self.reply(one, shown.suggestion.as_ref());
            one.is_answered = true;
        }
        if shown.is_last || (one.is_answered && !is_streaming) {
            all.requests.remove(&shown.request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_replace_the_word_and_are_not_filtered_away() {
        let kind = Kind::list("let 😀x = foo.ba");
        assert_eq!(kind, Kind::List { word: "ba".into() });
        let s = Suggestion { text: "r(1);\nmore".into(), is_whole: true, source: crate::brain::Source::Asked };
        let answer = kind.answer(Some(&s), Position { line: 3, character: 16 });
        let item = &answer["items"][0];
        assert_eq!(item["label"], "bar(1);…");
        assert_eq!(item["filterText"], "ba");
        assert_eq!(item["textEdit"]["range"]["start"]["character"], 14);
        assert_eq!(item["textEdit"]["newText"], "bar(1);\nmore");
        assert_eq!(answer["isIncomplete"], true);
    }
}
