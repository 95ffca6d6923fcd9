//! How good completions are, apart from time: what the model writes at recorded places, with the prompt that editors get from
//! us, with a fixed number of lines around the cursor, and with llama.vim's form of that, side by side.

use std::path::PathBuf;
use std::sync::Arc;

use client::server::Wanted;
use client::{Cancel, Client, Target};
use lsp::backend::{Backend, Server};
use lsp::brain::{Prompt, Speed, View, settled};
use serde::{Deserialize, Serialize};

use crate::data::jsonl;
use crate::error::BenchError;
use crate::typist;

const HINT: &str = "The file holds lines with `prefix`, `suffix` and `typed_next` or `middle`";

/// What to measure.
#[derive(Clone, Debug)]
pub struct FillArgs {
    /// The server.
    pub url: String,
    /// JSONL.
    pub data: PathBuf,
    /// Rows.
    pub n: usize,
    /// Sent to the server.
    pub key: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    prefix: String,
    suffix: String,
    #[serde(default)]
    typed_next: Option<String>,
    #[serde(default)]
    middle: Option<String>,
    #[serde(default)]
    path: Option<String>,
}

/// One way of asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Characters of the wanted first line that the answer begins with, of all its characters.
    pub keys_saved_share: f64,
    /// The same per place.
    pub keys_saved_mean: f64,
    /// Answers whose first line is the wanted one.
    pub first_line_exact_share: f64,
}

/// All ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct FillReport {
    /// Places.
    pub n: usize,
    /// With the prompt of the completion brain.
    pub ours: Score,
    /// With 64 lines that end at the cursor, and 16 lines after.
    pub lines: Score,
    /// With 64 lines before, the line so far as the middle, 16 lines after.
    pub plain: Score,
}

/// A fixed number of lines around the cursor.
fn around(view: &View, n_predict: u32) -> Prompt {
    let before: Vec<&str> = view.before.split_inclusive('\n').collect();
    let after = view.after.split_inclusive('\n').take(typist::LINES_AFTER);
    Prompt {
        prefix: before[before.len().saturating_sub(typist::LINES_BEFORE)..].concat(),
        suffix: after.collect(),
        n_predict,
        is_urgent: true,
        ..Prompt::default()
    }
}

/// Asks for each place in all ways.
///
/// # Errors
/// The file's, the server's.
pub fn run(args: &FillArgs, progress: &mut dyn FnMut(&str)) -> Result<FillReport, BenchError> {
    let rows: Vec<Row> =
        jsonl(&args.data, HINT, args.n, |r: &Row| match r.typed_next.is_some() || r.middle.is_some() {
            true => Ok(()),
            false => Err("it has neither `typed_next` nor `middle`"),
        })?;
    let client = Client::once(Target::parse(&args.url)?, args.key.as_deref())?;
    let server =
        Arc::new(Server::new(Wanted { url: Some(args.url.clone()), key: args.key.clone(), ..Wanted::default() }));
    let (mut ours, mut lines, mut plain) = (Tally::default(), Tally::default(), Tally::default());
    for (i, row) in rows.iter().enumerate() {
        let want = row.typed_next.as_deref().or(row.middle.as_deref()).unwrap_or_default();
        let path = row.path.clone().unwrap_or_else(|| "main.rs".to_owned());
        let view = View { path, before: row.prefix.clone(), after: row.suffix.clone(), offset: row.prefix.len() };
        let prompt = settled(&view, &Speed::default());
        for (tally, prompt) in [(&mut lines, around(&view, prompt.n_predict)), (&mut ours, prompt)] {
            let mut text = String::new();
            server.fill(&prompt, &Cancel::new(), &mut |piece| text.push_str(piece))?;
            tally.add(&text, want);
        }
        plain.add(&typist::ask(&client, &view).unwrap_or_default(), want);
        if (i + 1) % 25 == 0 {
            progress(&format!("{} of {} places", i + 1, rows.len()));
        }
    }
    Ok(FillReport { n: rows.len(), ours: ours.score(), lines: lines.score(), plain: plain.score() })
}

#[derive(Debug, Default)]
struct Tally {
    n: usize,
    saved: usize,
    wanted: usize,
    exact: usize,
}

impl Tally {
    fn add(&mut self, text: &str, want: &str) {
        // A text that begins on the next line is wanted as it is; else the line counts.
        let first = |t: &'_ str| -> String { t.trim_end().split('\n').next().unwrap_or_default().to_owned() };
        let (text, want) = (first(text), first(want));
        self.n += 1;
        self.wanted += want.chars().count();
        self.saved += text.chars().zip(want.chars()).take_while(|(a, b)| a == b).count();
        self.exact += usize::from(text.trim_end() == want.trim_end());
    }

    fn score(&self) -> Score {
        let share = |n: usize, of: usize| n as f64 / of.max(1) as f64;
        Score {
            keys_saved_share: share(self.saved, self.wanted),
            keys_saved_mean: share(self.saved, self.n),
            first_line_exact_share: share(self.exact, self.n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_saved_as_far_as_the_answer_goes_along() {
        let mut tally = Tally::default();
        tally.add("abcX\nmore", "abcd\nother");
        tally.add("é1 \n", "é1");
        let score = tally.score();
        assert_eq!((score.keys_saved_mean, score.first_line_exact_share), (2.5, 0.5));
        assert!((score.keys_saved_share - 5.0 / 6.0).abs() < 1e-9);
    }
}
