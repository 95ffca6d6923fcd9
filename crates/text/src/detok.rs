//! Tokens to text as they arrive: never half a character, never a part of a stop string.
use crate::error::TextError;
use crate::tokenizer::Tokenizer;
use base::TokenId;
use base::limits::{STOP_BYTES_MAX, STOPS_MAX};
use std::collections::VecDeque;

/// Turns pieces of UTF-8 into whole characters. Bytes that are not UTF-8 become U+FFFD, as many as
/// `String::from_utf8_lossy` writes for the whole.
#[derive(Clone, Debug, Default)]
pub struct Detokenizer {
    /// The beginning of a character, at most three bytes.
    held: Vec<u8>,
}

impl Detokenizer {
    /// Appends the characters that `bytes` complete.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    return;
                }
                Err(e) => {
                    let (valid, broken) = rest.split_at(e.valid_up_to());
                    out.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    let Some(n) = e.error_len() else {
                        self.held = broken.to_vec();
                        return;
                    };
                    out.push('\u{fffd}');
                    rest = broken.get(n..).unwrap_or_default();
                }
            }
        }
    }

    /// Ends the text: a character that never became whole is U+FFFD.
    pub fn finish(&mut self, out: &mut String) {
        if !self.held.is_empty() {
            self.held.clear();
            out.push('\u{fffd}');
        }
    }
}

/// Stop strings as an automaton over bytes (Aho and Corasick 1975): its state is the longest end of the text that begins a stop.
#[derive(Clone, Debug)]
struct Stops {
    nodes: Vec<StopNode>,
}

#[derive(Clone, Debug, Default)]
struct StopNode {
    edges: Vec<(u8, usize)>,
    /// Where to go on when no edge fits: the longest proper end of this node's text that begins a stop.
    fallback: usize,
    /// Bytes of this node's text.
    depth: usize,
    /// The longest stop that ends here: which, and its bytes.
    stop: Option<(usize, usize)>,
}

impl Stops {
    fn new(stops: &[String]) -> Stops {
        let mut nodes = vec![StopNode::default()];
        for (which, stop) in stops.iter().enumerate().filter(|(_, s)| !s.is_empty()) {
            let mut node = 0;
            for &byte in stop.as_bytes() {
                node = match nodes[node].edges.iter().find(|(b, _)| *b == byte) {
                    Some(&(_, next)) => next,
                    None => {
                        let depth = nodes[node].depth + 1;
                        nodes.push(StopNode { depth, ..StopNode::default() });
                        let next = nodes.len() - 1;
                        nodes[node].edges.push((byte, next));
                        next
                    }
                };
            }
            let _ = nodes[node].stop.get_or_insert((which, stop.len()));
        }
        let mut automaton = Stops { nodes };
        automaton.link();
        automaton
    }

    /// Sets the fallbacks, shallow nodes first.
    fn link(&mut self) {
        let mut queue = VecDeque::from([0]);
        while let Some(node) = queue.pop_front() {
            for (byte, child) in self.nodes[node].edges.clone() {
                let fallback = if node == 0 { 0 } else { self.step(self.nodes[node].fallback, byte) };
                self.nodes[child].fallback = fallback;
                if self.nodes[child].stop.is_none() {
                    self.nodes[child].stop = self.nodes[fallback].stop;
                }
                queue.push_back(child);
            }
        }
    }

    fn step(&self, mut node: usize, byte: u8) -> usize {
        loop {
            let here = &self.nodes[node];
            if let Some(&(_, next)) = here.edges.iter().find(|(b, _)| *b == byte) {
                return next;
            }
            if node == 0 {
                return 0;
            }
            node = here.fallback;
        }
    }
}

/// What a push did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Index of the stop string that ended the text. Nothing more is emitted then.
    pub stopped: Option<usize>,
}

/// A stream of tokens as text, ended by stop strings.
///
/// The text ends before the stop string that is completed first; where several are completed by the same byte, before the
/// longest. Text that may be the beginning of a stop string is held back until it is known.
#[derive(Clone, Debug)]
pub struct TextStream {
    detokenizer: Detokenizer,
    stops: Stops,
    /// State of `stops` after `held`.
    node: usize,
    /// Text that is not emitted yet.
    held: String,
    shows_special: bool,
    stopped: Option<usize>,
}

impl TextStream {
    /// A stream that ends at one of these strings; empty ones never match. Special tokens are left out of the text unless
    /// `shows_special`.
    ///
    /// # Errors
    /// `Limit` for more than `STOPS_MAX` stops or one above `STOP_BYTES_MAX`.
    pub fn new(stops: &[String], shows_special: bool) -> Result<TextStream, TextError> {
        let limit =
            |what, limit, max, got| if got > max { Err(TextError::Limit { what, limit, max, got }) } else { Ok(()) };
        limit("the number of stop strings", "STOPS_MAX", STOPS_MAX, stops.len())?;
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        limit("the longest stop string, in bytes,", "STOP_BYTES_MAX", STOP_BYTES_MAX, longest)?;
        Ok(TextStream {
            detokenizer: Detokenizer::default(),
            stops: Stops::new(stops),
            node: 0,
            held: String::new(),
            shows_special,
            stopped: None,
        })
    }

    /// Takes a token and appends the text that is certain now.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: TokenId, out: &mut String) -> Pushed {
        if !self.shows_special && tokenizer.is_special(id) {
            return Pushed { stopped: self.stopped };
        }
        self.push_bytes(tokenizer.token_bytes(id), out)
    }

    /// Takes the bytes of a token and appends the text that is certain now.
    pub fn push_bytes(&mut self, bytes: &[u8], out: &mut String) -> Pushed {
        if self.stopped.is_none() {
            let scanned = self.held.len();
            self.detokenizer.push(bytes, &mut self.held);
            self.scan(scanned, out);
        }
        Pushed { stopped: self.stopped }
    }

    /// Ends the text and appends what was held back.
    pub fn finish(&mut self, out: &mut String) -> Pushed {
        if self.stopped.is_none() {
            let scanned = self.held.len();
            self.detokenizer.finish(&mut self.held);
            self.scan(scanned, out);
        }
        if self.stopped.is_none() {
            out.push_str(&self.held);
            self.held.clear();
            self.node = 0;
        }
        Pushed { stopped: self.stopped }
    }

    /// Looks for stops in the held text from byte `scanned` on, and emits what no stop can take back.
    fn scan(&mut self, scanned: usize, out: &mut String) {
        for (i, &byte) in self.held.as_bytes().iter().enumerate().skip(scanned) {
            self.node = self.stops.step(self.node, byte);
            if let Some((which, bytes)) = self.stops.nodes[self.node].stop {
                out.push_str(self.held.get(..(i + 1).saturating_sub(bytes)).unwrap_or_default());
                self.held.clear();
                self.stopped = Some(which);
                return;
            }
        }
        // The end that may begin a stop is whole characters: stops and text are both UTF-8.
        let certain = self.held.len().saturating_sub(self.stops.nodes[self.node].depth);
        out.push_str(self.held.get(..certain).unwrap_or_default());
        self.held.drain(..certain);
    }
}

#[cfg(test)]
mod tests;
