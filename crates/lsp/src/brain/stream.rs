//! An answer on its way, and how much of it is left after what was typed meanwhile.

use base::limits::SUGGESTION_BYTES_MAX;

use super::Micros;
use super::shape::{self, Mode};
use super::view::View;
use super::window::Window;

/// What the model writes for a gap.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Number of the question; 0 if it was known.
    pub id: u64,
    /// Where it was asked for.
    pub view: View,
    /// What was asked for.
    pub mode: Mode,
    /// What the server knows when it has computed the prompt.
    pub window: Window,
    /// What it wrote so far.
    pub raw: String,
    /// In how many pieces.
    pub n_pieces: usize,
    /// When.
    pub asked_at: Micros,
    /// Nothing more will come.
    pub is_over: bool,
    /// Because the model said so.
    pub is_done: bool,
}

impl Stream {
    /// Nothing has come yet.
    pub fn asked(id: u64, view: View, mode: Mode, window: Window, asked_at: Micros) -> Self {
        Self { id, view, mode, window, raw: String::new(), n_pieces: 0, asked_at, is_over: false, is_done: false }
    }

    /// Known from before.
    pub fn recalled(view: View, mode: Mode, raw: String, is_done: bool) -> Self {
        let window = Window { path: String::new(), extra: Vec::new(), text: String::new() };
        Self { id: 0, view, mode, window, raw, n_pieces: usize::MAX, asked_at: 0, is_over: true, is_done }
    }

    /// Takes what came.
    pub fn push(&mut self, text: &str) {
        self.raw.push_str(text);
        self.n_pieces += 1;
    }

    /// What is left of it at a later place, if the typing since agrees with it: as far as it is known.
    pub fn left<'a>(&'a self, view: &View) -> Option<&'a str> {
        let typed = view.typed_since(&self.view)?;
        match self.raw.strip_prefix(typed) {
            Some(left) => Some(left),
            // The typing is ahead of the model, and agrees so far.
            None if !self.is_over && !self.raw.is_empty() && typed.starts_with(&self.raw) => Some(""),
            None => None,
        }
    }

    /// What it wrote is enough to show, with a line beyond: the beginning of what comes after it is accepted.
    pub fn has_enough(&self) -> bool {
        let seen = shape::visible(self.mode, &self.raw, &self.view.before, &self.view.after, false);
        let beyond = self.raw.get(seen.text.len()..).unwrap_or_default();
        let n_lines = beyond.split_inclusive('\n').filter(|l| l.ends_with('\n') && !l.trim().is_empty()).count();
        let is_beyond = match self.mode {
            Mode::Line => n_lines >= 1,
            Mode::Block => true,
        };
        (seen.is_whole && is_beyond) || self.raw.len() >= SUGGESTION_BYTES_MAX
    }
}
