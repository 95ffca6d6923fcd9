//! `POST /infill` in llama.cpp's shape: what ends such an answer beside stop strings, and how it is written.

use engine::Sampling;
use protocol::infill::{Infilled, Settings, select};
use protocol::{ApiError, FinishReason, InfillRequest};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use crate::answer::{Answer, Piece};
use crate::app::Model;
use crate::generate::sampling;
use crate::stream::Collected;

/// Where a text ends by its lines, as llama.cpp has it. Looks at each character once, whatever steps brought it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    /// End at a line that is indented less; 0 is off.
    n_indent: usize,
    /// End this long after the first token, once there was a line break.
    t_max: Option<Duration>,
    first: Option<Instant>,
    has_line: bool,
    /// Blanks so far at the beginning of a line that is not the first; `None` within a line.
    indent: Option<usize>,
}

impl Bounds {
    pub(crate) fn of(request: &InfillRequest) -> Self {
        Self {
            n_indent: request.n_indent as usize,
            t_max: request.t_max_predict_ms.map(|ms| Duration::from_millis(ms.into())),
            ..Self::default()
        }
    }

    /// True if the text ends in what came at `at` and begins at byte `from`; then the rest is cut off. Blank lines are not
    /// judged: their indent says nothing.
    pub(crate) fn end(&mut self, text: &mut String, from: usize, at: Instant) -> bool {
        if self.n_indent == 0 && self.t_max.is_none() {
            return false;
        }
        let first = *self.first.get_or_insert(at);
        let mut cut = None;
        for (i, c) in text.get(from..).unwrap_or_default().char_indices() {
            match (c, self.indent) {
                ('\n', _) => (self.has_line, self.indent) = (true, Some(0)),
                (' ' | '\t' | '\r', Some(n)) => self.indent = Some(n + 1),
                (_, Some(n)) if n < self.n_indent => {
                    cut = Some(from + i);
                    break;
                }
                _ => self.indent = None,
            }
        }
        if let Some(cut) = cut {
            text.truncate(cut);
            return true;
        }
        self.has_line && self.t_max.is_some_and(|max| at.saturating_duration_since(first) > max)
    }
}

/// What an infill request adds to the generation that it asks for.
#[derive(Debug)]
pub(crate) struct Infill {
    pub(crate) bounds: Bounds,
    pub(crate) told: Told,
}

/// Writes the answer.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) model: String,
    pub(crate) response_fields: Vec<String>,
    pub(crate) is_cut: bool,
    pub(crate) settings: Settings,
}

impl Told {
    pub(crate) fn new(model: &Model, request: &InfillRequest, is_cut: bool) -> Self {
        let g = &request.generate;
        let Sampling { temperature, top_k, top_p, min_p, .. } = sampling(g, &model.defaults, 0);
        let n_predict = g.max_tokens.map_or(-1, i64::from);
        let settings = Settings { n_predict, temperature, top_k, top_p, min_p, stop: g.stop.clone() };
        Self { model: model.name.clone(), response_fields: request.response_fields.clone(), is_cut, settings }
    }

    /// The last word on a choice.
    fn last(&self, answer: &Answer, index: usize, content: String) -> Value {
        let ending = answer.ending(index);
        let word = ending.word.and_then(|i| self.settings.stop.get(i));
        let stop_type = match (word, ending.finish) {
            (Some(_), _) => "word",
            (None, Some(FinishReason::Stop)) => "eos",
            _ => "limit",
        };
        let told = Infilled {
            index: index as u32,
            content,
            model: self.model.clone(),
            stop: true,
            stop_type: stop_type.to_owned(),
            stopping_word: word.cloned().unwrap_or_default(),
            tokens_predicted: ending.n_tokens,
            tokens_evaluated: ending.n_prompt,
            tokens_cached: ending.n_prompt + ending.n_tokens,
            truncated: self.is_cut,
            generation_settings: self.settings.clone(),
            timings: answer.timings().into(),
        };
        select(serde_json::to_value(told).unwrap_or_default(), &self.response_fields)
    }

    /// A whole answer: one object, or an array of them if several were asked for.
    pub(crate) fn whole(&self, answer: &Answer, choices: Vec<Collected>) -> Result<Vec<u8>, ApiError> {
        let mut all: Vec<Value> = choices.into_iter().enumerate().map(|(i, c)| self.last(answer, i, c.text)).collect();
        let json = if all.len() == 1 { all.remove(0) } else { Value::Array(all) };
        serde_json::to_vec(&json).map_err(|e| ApiError::internal(format!("The answer cannot be written: {e}.")))
    }

    /// The events for a piece of a streamed one.
    pub(crate) fn write(&self, out: &mut Vec<u8>, piece: &Piece, answer: &Answer) {
        let mut event = |value: &Value| out.extend_from_slice(format!("data: {value}\n\n").as_bytes());
        if !piece.text.is_empty() {
            event(&json!({ "index": piece.choice, "content": piece.text, "stop": false }));
        }
        if piece.finish.is_some() {
            event(&self.last(answer, piece.choice, String::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that is left, however it is cut into pieces; whether it was ended.
    fn bounded(text: &str, n_indent: usize, at: usize) -> (String, bool) {
        let mut bounds = Bounds { n_indent, ..Bounds::default() };
        let (mut out, now) = (String::new(), Instant::now());
        let pieces = text.char_indices().map(|(i, _)| i).filter(|i| i % at == 0).chain([text.len()]);
        for (from, to) in pieces.clone().zip(pieces.skip(1)) {
            let seen = out.len();
            out.push_str(&text[from..to]);
            if bounds.end(&mut out, seen, now) {
                return (out, true);
            }
        }
        (out, false)
    }

    #[test]
    fn a_line_that_is_indented_less_ends_it() {
        for at in 1..20 {
            let of = |text, n| bounded(text, n, at);
            assert_eq!(of("a\n    b\n  c", 4), ("a\n    b\n  ".into(), true));
            assert_eq!(of("a\n\n    b\n\n    c\n", 4), ("a\n\n    b\n\n    c\n".into(), false), "blank lines");
            assert_eq!(of("a\n\tb\nc", 1), ("a\n\tb\n".into(), true));
            assert_eq!(of("abc", 4), ("abc".into(), false), "the first line is what it is");
            assert_eq!(of("a\nb", 0), ("a\nb".into(), false));
        }
    }

    #[test]
    fn time_ends_it_at_a_token_after_a_line() {
        let (t0, ms) = (Instant::now(), Duration::from_millis);
        let mut bounds = Bounds { t_max: Some(ms(10)), ..Bounds::default() };
        let mut at = |text: &str, after| bounds.end(&mut text.to_owned(), 0, t0 + ms(after));
        assert!(!at("a", 5) && !at("b", 50), "no line yet");
        assert!(at("c\n", 51));
        let mut bounds = Bounds { t_max: Some(ms(10)), ..Bounds::default() };
        let mut at = |text: &str, after| bounds.end(&mut text.to_owned(), 0, t0 + ms(after));
        assert!(!at("a\n", 1000) && !at("b", 1010), "counted from the first token");
        assert!(at("c", 1011));
    }
}
