//! What a model is asked. A small file is to be written anew, which small models do best and speculation makes fast: nearly all of
//! it is a copy, and the file goes along as OpenAI's `prediction`. A large one is to be changed by search-and-replace blocks.

use base::limits;
use serde_json::{Value, json};

use crate::source::Source;

/// The form of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// By the length of the file.
    #[default]
    Auto,
    /// The whole file, in one code block.
    Whole,
    /// Search-and-replace blocks.
    Blocks,
}

impl How {
    /// Never `Auto`.
    pub fn of(self, source: &Source) -> Self {
        match self {
            Self::Auto if source.text.len() <= limits::EDIT_WHOLE_BYTES_MAX => Self::Whole,
            Self::Auto => Self::Blocks,
            decided => decided,
        }
    }
}

/// A fence that nothing in the text can be taken for.
pub(crate) fn fence(text: &str) -> String {
    let longest = text.lines().map(|l| run(l.trim_start(), '`')).max().unwrap_or(0);
    "`".repeat((longest + 1).max(3))
}

/// How often a character is repeated at the start.
pub(crate) fn run(line: &str, c: char) -> usize {
    line.chars().take_while(|x| *x == c).count()
}

/// The length of the marks of search-and-replace blocks, such that no line of the text is one.
pub(crate) fn marks(text: &str) -> usize {
    let longest = text.lines().map(|l| ['<', '=', '>'].map(|c| run(l, c)).into_iter().max().unwrap_or(0)).max();
    match longest {
        Some(n) if n >= 7 => n + 1,
        _ => 7,
    }
}

/// A text in a code block whose fence it cannot end.
pub fn fenced(text: &str) -> String {
    let fence = fence(text);
    format!("{fence}\n{}\n{fence}", text.strip_suffix('\n').unwrap_or(text))
}

/// Short files that the change may be about, as far as they fit.
fn others(others: &[&Source]) -> String {
    let mut out = String::new();
    for other in others {
        if out.len() + other.text.len() <= limits::EDIT_OTHERS_BYTES_MAX {
            out.push_str(&format!("For reference, the file `{}`:\n{}\n\n", other.shown.display(), fenced(&other.text)));
        }
    }
    out
}

/// The first message.
pub(crate) fn question(source: &Source, beside: &[&Source], instruction: &str, how: How) -> String {
    let (name, text, beside) = (source.shown.display(), &source.text, others(beside));
    if source.bytes.is_none() {
        return format!(
            "{beside}Write the new file `{name}` and answer with the complete file only, in one code block.\n{instruction}"
        );
    }
    if how == How::Blocks {
        let n = marks(text);
        let (search, middle, end) = ("<".repeat(n), "=".repeat(n), ">".repeat(n));
        return format!(
            "{beside}Change the file `{name}`. Answer only with blocks of this form, one for each place to change:\n\n\
             {search} SEARCH\nlines of the file that go, exactly as they are in it\n{middle}\nlines that come instead\n{end} REPLACE\n\n\
             Each SEARCH part must stand only once in the file: take as many lines as that needs, and no more.\n\n{}\n\n\
             Change: {instruction}",
            fenced(text)
        );
    }
    format!(
        "{beside}Apply this change to the file `{name}` and answer with the complete new file only, in one code block.\n\
         Change: {instruction}\n\n{}",
        fenced(text)
    )
}

/// The request.
pub(crate) fn body(source: &Source, messages: &[Value], model: &str, how: How) -> Value {
    let n = source.text.len();
    let mut body = json!({
        "model": model, "temperature": 0, "stream": true, "stream_options": {"include_usage": true},
        "messages": messages, "max_tokens": tokens_max(n, how),
    });
    if how == How::Whole && n > 0 {
        body["prediction"] = json!({"type": "content", "content": fenced(&source.text)});
    }
    body
}

/// Code has three bytes and more in a token; a file may grow.
fn tokens_max(bytes: usize, how: How) -> u32 {
    let tokens = if how == How::Whole { bytes / 2 + 1024 } else { 4096 };
    u32::try_from(tokens).unwrap_or(u32::MAX).min(limits::EDIT_TOKENS_MAX)
}
