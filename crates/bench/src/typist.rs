//! llama.vim's way of asking, for comparison: 64 lines before the cursor's line, the line up to the cursor, 16 lines after; one
//! request at a time, never stopped; answers remembered, and found again up to 128 characters later.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use client::{Client, Deadline, Target};
use lsp::brain::View;
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::keystrokes::{Helper, Kind, Seen};

pub(crate) const LINES_BEFORE: usize = 64;
pub(crate) const LINES_AFTER: usize = 16;
const TOKENS: u32 = 32;
/// Characters that tell a place.
const TAIL_CHARS: usize = 512;
const BACK_CHARS: usize = 128;
/// Seconds for an answer; a server that takes longer shows nothing anyway.
const ANSWER_S: u64 = 60;

/// See above.
pub(crate) struct Plain {
    questions: Sender<View>,
    answers: Receiver<(String, String)>,
    known: HashMap<String, String>,
    is_busy: bool,
    n_asked: u64,
}

impl Plain {
    pub(crate) fn start(url: &str) -> Result<Self, BenchError> {
        let client = Client::once(Target::parse(url)?, None)?;
        let (questions, to_ask) = channel::<View>();
        let (answered, answers) = channel();
        std::thread::spawn(move || {
            for view in to_ask {
                let text = ask(&client, &view).unwrap_or_default();
                if answered.send((tail(&view.before).to_owned(), text)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { questions, answers, known: HashMap::new(), is_busy: false, n_asked: 0 })
    }

    fn hear(&mut self) {
        for (place, text) in self.answers.try_iter() {
            self.known.insert(place, text);
            self.is_busy = false;
        }
    }

    /// Exact, or an earlier answer that the typing since then agrees with; `Some("")` if nothing was answered here.
    fn look(&self, before: &str) -> Option<String> {
        let ends = std::iter::once(before.len()).chain(before.char_indices().rev().map(|(at, _)| at)).take(BACK_CHARS);
        for (back, end) in ends.enumerate() {
            let (earlier, typed) = before.split_at(end);
            let Some(text) = self.known.get(tail(earlier)) else { continue };
            match text.strip_prefix(typed).filter(|left| !left.is_empty()) {
                Some(left) => return Some(left.to_owned()),
                None if back == 0 => return Some(String::new()),
                None => {}
            }
        }
        None
    }
}

fn tail(text: &str) -> &str {
    let from = text.char_indices().rev().take(TAIL_CHARS).last().map_or(0, |(at, _)| at);
    &text[from..]
}

pub(crate) fn ask(client: &Client, view: &View) -> Option<String> {
    let lines: Vec<&str> = view.before.split('\n').collect();
    let (line, above) = lines.split_last()?;
    let mut prefix = above[above.len().saturating_sub(LINES_BEFORE - 1)..].join("\n");
    if !above.is_empty() {
        prefix.push('\n');
    }
    let after: Vec<&str> = view.after.split('\n').take(LINES_AFTER).collect();
    let body = json!({
        "input_prefix": prefix, "prompt": line, "input_suffix": after.join("\n"), "input_extra": [], "id_slot": 0,
        "n_predict": TOKENS, "stop": ["\n"], "temperature": 0, "top_k": 1, "stream": false, "cache_prompt": true,
        "t_max_prompt_ms": 500, "t_max_predict_ms": 500,
    });
    let answer = client.post("/infill", body.to_string().as_bytes(), Deadline::after_s(ANSWER_S), None).ok()?;
    let value: Value = answer.json(base::limits::CLIENT_REFUSAL_BYTES_MAX).ok()?;
    Some(value["content"].as_str()?.to_owned())
}

impl Helper for Plain {
    fn key(&mut self, view: View, gap: Duration) -> Option<Seen> {
        let (asked_at, mut is_asked, mut seen) = (Instant::now(), false, None);
        self.hear();
        let known = self.look(&view.before);
        while seen.is_none() {
            self.hear();
            let hit = self.look(&view.before);
            let ms = asked_at.elapsed().as_secs_f64() * 1e3;
            let is_through = known.as_ref().is_some_and(|k| !k.is_empty());
            match hit {
                Some(text) if !text.is_empty() => {
                    let kind = if is_through { Kind::Through } else { Kind::New };
                    seen = Some(Seen { kind, ms, whole_ms: Some(ms), text });
                }
                Some(_) => break,
                None if asked_at.elapsed() >= gap => break,
                None => {
                    if !is_asked && !self.is_busy {
                        (is_asked, self.is_busy) = (true, true);
                        self.n_asked += 1;
                        let _ = self.questions.send(view.clone());
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        std::thread::sleep(gap.saturating_sub(asked_at.elapsed()));
        seen
    }

    fn asked(&self) -> [u64; 3] {
        [self.n_asked, 0, 0]
    }
}
