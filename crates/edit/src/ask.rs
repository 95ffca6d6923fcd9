//! From an instruction to a proposal: asks the model, shows what it has written so far, and reads the answer. An answer that
//! cannot be used is asked for once more, with the reason.

use std::time::{Duration, Instant};

use base::limits;
use client::{Cancel, Client, Deadline, Said, stream};
use serde_json::{Value, json};

use crate::answer;
use crate::blocks::{self, Parser};
use crate::diff;
use crate::error::EditError;
use crate::prompt::{self, How};
use crate::source::Source;

/// What to ask.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The server.
    pub client: &'a Client,
    /// The model.
    pub model: &'a str,
    /// The file.
    pub source: &'a Source,
    /// Other files of the same edit.
    pub beside: &'a [&'a Source],
    /// What to change.
    pub instruction: &'a str,
    /// The form of the answer.
    pub how: How,
    /// Seconds for one answer.
    pub timeout_s: u64,
    /// Stops it.
    pub cancel: Option<&'a Cancel>,
}

/// A change that nobody has agreed to yet.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// The same with lines that end with `\n`, to be shown.
    pub text: String,
    /// Why a person should look at it first.
    pub doubt: Option<String>,
    /// What it cost.
    pub cost: Cost,
}

/// Time and tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From asking to the end of the answer.
    pub time: Duration,
    /// From asking to the first text, of the first answer.
    pub ttft: Duration,
    /// Tokens of the answers.
    pub tokens: u64,
    /// Tokens of the prompts.
    pub prompt_tokens: u64,
    /// Of them, those from a cache.
    pub cached_tokens: u64,
    /// Tokens of the prediction that were right.
    pub accepted_prediction_tokens: u64,
    /// Answers.
    pub answers: u32,
}

/// Asks. `on_text` gets the new file as far as it is written, whenever more of it has come.
///
/// # Errors
/// The server's; an answer that cannot be used, twice.
pub fn propose(job: &Job<'_>, on_text: &mut dyn FnMut(&str)) -> Result<Proposal, EditError> {
    if job.instruction.len() > limits::EDIT_INSTRUCTION_BYTES_MAX {
        let why = format!("the instruction has more than {} bytes", limits::EDIT_INSTRUCTION_BYTES_MAX);
        return Err(EditError::File { path: job.source.shown.clone(), why });
    }
    let how = if job.source.bytes.is_none() { How::Whole } else { job.how.of(job.source) };
    let question = prompt::question(job.source, job.beside, job.instruction, how);
    let mut messages = vec![json!({"role": "user", "content": question})];
    let mut cost = Cost::default();
    loop {
        let said = one(job, how, &messages, &mut cost, on_text)?;
        match read(job.source, how, &said) {
            Ok(text) => return Ok(proposal(job, text, cost)),
            Err(Useless { why, is_final }) if is_final || cost.answers > 1 => {
                return Err(EditError::Answer { path: job.source.shown.clone(), why });
            }
            Err(Useless { why, .. }) => {
                messages.push(json!({"role": "assistant", "content": said.text}));
                let again = "Answer again, in the form that was asked for, and leave nothing out.";
                messages
                    .push(json!({"role": "user", "content": format!("Your answer cannot be used: {why}. {again}")}));
            }
        }
    }
}

fn one(
    job: &Job<'_>,
    how: How,
    messages: &[Value],
    cost: &mut Cost,
    on_text: &mut dyn FnMut(&str),
) -> Result<Said, EditError> {
    let body = prompt::body(job.source, messages, job.model, how);
    let mut shown =
        Shown { source: job.source, how, answer: String::new(), parser: Parser::new(), text: String::new() };
    shown.text.clone_from(&job.source.text);
    let deadline = Deadline::after_s(job.timeout_s);
    let mut on_piece = |piece: &str| {
        if let Some(text) = shown.more(piece) {
            on_text(text);
        }
    };
    let begin = Instant::now();
    let timed = stream::ask(job.client, "/v1/chat/completions", &body, deadline, job.cancel, &mut on_piece)?;
    let said = timed.said;
    if cost.answers == 0 {
        cost.ttft = said.texts_at.first().map_or(begin.elapsed(), |t| t.duration_since(timed.asked_at));
    }
    cost.answers += 1;
    cost.time += timed.ended_at.duration_since(timed.asked_at);
    cost.tokens += said.tokens_or_events();
    cost.prompt_tokens += said.prompt_tokens.unwrap_or(0);
    cost.cached_tokens += said.cached_tokens.unwrap_or(0);
    cost.accepted_prediction_tokens += said.accepted_prediction_tokens.unwrap_or(0);
    Ok(said)
}

/// What of an answer can be shown while it arrives.
struct Shown<'a> {
    source: &'a Source,
    how: How,
    answer: String,
    parser: Parser,
    text: String,
}

impl Shown<'_> {
    fn more(&mut self, piece: &str) -> Option<&str> {
        if self.how == How::Blocks {
            let done = self.parser.push(piece).ok().filter(|d| !d.is_empty())?;
            for block in done {
                if let Ok(text) = blocks::apply(&self.text, &block) {
                    self.text = text;
                }
            }
            return Some(&self.text);
        }
        self.answer.push_str(piece);
        piece.contains('\n').then(|| answer::so_far(&self.answer, &self.source.text))
    }
}

/// Why an answer is of no use, and whether asking again is, too.
struct Useless {
    why: String,
    is_final: bool,
}

fn read(source: &Source, how: How, said: &Said) -> Result<String, Useless> {
    let is_cut = said.finish_reason.as_deref() == Some("length");
    let useless = |why| Useless { why, is_final: is_cut };
    if how != How::Blocks {
        return answer::file(&said.text, &source.text, is_cut).map_err(useless);
    }
    if is_cut {
        return Err(useless("it was cut off because it grew too long".to_owned()));
    }
    let mut parser = Parser::new();
    let mut blocks = parser.push(&said.text).map_err(useless)?;
    blocks.extend(parser.end().map_err(useless)?);
    if blocks.is_empty() {
        return Err(useless("it has no search-and-replace block".to_owned()));
    }
    blocks.iter().try_fold(source.text.clone(), |text, block| blocks::apply(&text, block)).map_err(useless)
}

fn proposal(job: &Job<'_>, mut text: String, cost: Cost) -> Proposal {
    if !is_about_blanks(job.instruction) {
        text = diff::without_blank_parts(&job.source.text, &text);
    }
    let bytes = diff::merged(job.source, &text);
    let whole = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
    let text = whole.strip_prefix('\u{feff}').unwrap_or(&whole).to_owned();
    let doubt = answer::doubt(&job.source.text, &text)
        .filter(|_| !asks_to_remove(job.instruction))
        .map(|why| format!("{}: {why}", job.source.shown.display()));
    Proposal { bytes, text, doubt, cost }
}

fn is_about_blanks(instruction: &str) -> bool {
    let instruction = instruction.to_lowercase();
    ["blank", "empty", "line", "spac", "format", "pep", "style"].iter().any(|w| instruction.contains(w))
}

fn asks_to_remove(instruction: &str) -> bool {
    let words =
        ["remove", "delete", "drop", "strip", "cut", "shorten", "clean", "rid of", "truncate", "simplif", "move"];
    let instruction = instruction.to_lowercase();
    words.iter().any(|w| instruction.contains(w))
}
