//! An open file: lines with their ends, changed in place. Positions come as LSP has them (line, UTF-16 units in it) and are
//! brought inside the text where they lie outside, as the protocol wants it. A key in a long file costs its line, not the file.

use base::limits::{DOCUMENT_BYTES_MAX, VIEW_BYTES_MAX};

/// A place in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// From 0.
    pub line: u32,
    /// UTF-16 code units from the line's beginning.
    pub character: u32,
}

/// From here to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Range {
    /// The first place.
    pub start: Position,
    /// Behind the last one.
    pub end: Position,
}

/// A file that grew beyond `DOCUMENT_BYTES_MAX`: nothing is suggested in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// See above.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Each with its end; the last one has none, and there is always a last one.
    lines: Vec<String>,
    bytes: usize,
}

/// Lines with their ends: `\n`, `\r\n` or `\r`.
fn split(text: &str) -> Vec<String> {
    let (mut lines, mut from, bytes) = (Vec::new(), 0, text.as_bytes());
    let mut at = 0;
    while at < bytes.len() {
        at += 1;
        let ends = match bytes[at - 1] {
            b'\n' => true,
            b'\r' => bytes.get(at) != Some(&b'\n'),
            _ => false,
        };
        if ends {
            lines.push(text[from..at].to_owned());
            from = at;
        }
    }
    lines.push(text[from..].to_owned());
    lines
}

/// The part of a line before its end.
fn body(line: &str) -> &str {
    line.strip_suffix("\r\n").or_else(|| line.strip_suffix(['\n', '\r'])).unwrap_or(line)
}

/// Bytes before the UTF-16 unit; a place within a character, or behind the line, goes to its beginning or the line's end.
fn byte_of(line: &str, unit: u32) -> usize {
    let (body, unit) = (body(line), unit as usize);
    if body.is_ascii() {
        return unit.min(body.len());
    }
    let mut units = 0;
    for (at, c) in body.char_indices() {
        if units + c.len_utf16() > unit {
            return at;
        }
        units += c.len_utf16();
    }
    body.len()
}

impl Document {
    /// A whole text.
    ///
    /// # Errors
    /// Longer than `DOCUMENT_BYTES_MAX`.
    pub fn new(text: &str) -> Result<Self, TooLarge> {
        match text.len() <= DOCUMENT_BYTES_MAX {
            true => Ok(Self { lines: split(text), bytes: text.len() }),
            false => Err(TooLarge),
        }
    }

    /// The whole text.
    pub fn text(&self) -> String {
        self.lines.concat()
    }

    /// Its lines, each with its end; the last one has none.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The lines that a change of this range touches.
    pub fn touched(&self, range: Range) -> std::ops::Range<usize> {
        let (a, b) = (self.place(range.start).0, self.place(range.end).0);
        a.min(b)..a.max(b) + 1
    }

    /// A place given as line and byte.
    pub fn position(&self, (line, byte): (usize, usize)) -> Position {
        let text = self.lines.get(line).and_then(|l| l.get(..byte)).unwrap_or_default();
        Position { line: line as u32, character: text.encode_utf16().count() as u32 }
    }

    /// A place inside the text, as line and byte.
    pub fn place(&self, at: Position) -> (usize, usize) {
        match self.lines.get(at.line as usize) {
            Some(line) => (at.line as usize, byte_of(line, at.character)),
            None => (self.lines.len() - 1, self.lines.last().map_or(0, String::len)),
        }
    }

    /// Puts `text` in place of a range; a range that ends before it begins is turned.
    ///
    /// # Errors
    /// The text would be longer than `DOCUMENT_BYTES_MAX`; it is unchanged then.
    pub fn change(&mut self, range: Range, text: &str) -> Result<(), TooLarge> {
        let (a, b) = (self.place(range.start), self.place(range.end));
        let ((first, from), (last, to)) = (a.min(b), a.max(b));
        let removed: usize =
            self.lines[first..=last].iter().map(String::len).sum::<usize>() - from - (self.lines[last].len() - to);
        if self.bytes - removed + text.len() > DOCUMENT_BYTES_MAX {
            return Err(TooLarge);
        }
        self.bytes = self.bytes - removed + text.len();
        if first == last
            && !text.contains(['\n', '\r'])
            && from.max(to) <= body(&self.lines[first]).len()
            && !self.touches_cr(first, from)
        {
            self.lines[first].replace_range(from..to, text);
            return Ok(());
        }
        // A line feed put behind a carriage return makes one line end of two: the line before is part of it then.
        let above = usize::from(first > 0 && from == 0 && self.lines[first - 1].ends_with('\r'));
        let mut joined = self.lines[first - above..first].concat();
        joined.push_str(&self.lines[first][..from]);
        joined.push_str(text);
        joined.push_str(&self.lines[last][to..]);
        let is_end = last + 1 == self.lines.len();
        let mut new = split(&joined);
        if !is_end && new.last().is_some_and(String::is_empty) {
            new.pop();
        }
        // What followed may begin with the line feed that this end was waiting for, or has lost its line end to a neighbour.
        self.lines.splice(first - above..=last, new);
        Ok(())
    }

    /// Whether a place at a line's beginning follows a lone carriage return: then what is typed there may belong to it.
    fn touches_cr(&self, line: usize, at: usize) -> bool {
        at == 0 && line > 0 && self.lines[line - 1].ends_with('\r')
    }

    /// The text around a place: whole lines before and after it, within `VIEW_BYTES_MAX` bytes each, and bytes before it.
    pub fn around(&self, at: Position) -> (String, String, usize) {
        let (line, byte) = self.place(at);
        let half = VIEW_BYTES_MAX / 2;
        let (mut first, mut bytes) = (line, byte);
        while first > 0 && bytes + self.lines[first - 1].len() <= half {
            first -= 1;
            bytes += self.lines[first].len();
        }
        let (mut before, here) = (self.lines[first..line].concat(), &self.lines[line]);
        let mut from = byte.saturating_sub(VIEW_BYTES_MAX);
        while !here.is_char_boundary(from) {
            from += 1;
        }
        before.push_str(&here[from..byte]);
        let mut to = here.len().min(byte + half);
        while !here.is_char_boundary(to) {
            to -= 1;
        }
        let mut after = here[byte..to].to_owned();
        for more in &self.lines[line + 1..] {
            if to < here.len() || after.len() + more.len() > half {
                break;
            }
            after.push_str(more);
        }
        let offset = self.lines[..line].iter().map(String::len).sum::<usize>() + byte;
        (before, after, offset)
    }

    /// Everything.
    pub fn whole(&self) -> Range {
        let last = self.lines.len() - 1;
        let character = self.lines[last].encode_utf16().count() as u32;
        Range { start: Position::default(), end: Position { line: last as u32, character } }
    }

    /// Whether it holds what no source code has.
    pub fn is_binary(&self) -> bool {
        self.lines.iter().take(64).any(|l| l.contains('\0'))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn at(line: u32, character: u32) -> Position {
        Position { line, character }
    }

    /// The definition, by going through the text: bytes before a position.
    fn naive(text: &str, want: Position) -> usize {
        let (mut line, mut rest) = (0, 0);
        while line < want.line {
            let Some(end) = text[rest..].find(['\n', '\r']) else { return text.len() };
            rest += end + if text[rest + end..].starts_with("\r\n") { 2 } else { 1 };
            line += 1;
        }
        let body = text[rest..].split(['\n', '\r']).next().unwrap();
        let mut units = 0;
        for (i, c) in body.char_indices() {
            if units + c.len_utf16() > want.character as usize {
                return rest + i;
            }
            units += c.len_utf16();
        }
        rest + body.len()
    }

    proptest! {
        #[test]
        fn changes_are_those_of_a_plain_text(
            start in "[aé😀\r\n]{0,12}",
            edits in proptest::collection::vec((0u32..5, 0u32..6, 0u32..5, 0u32..6, "[bü𝄞\r\n]{0,5}"), 0..8),
        ) {
            let (mut text, mut document) = (start.clone(), Document::new(&start).unwrap());
            for (l0, c0, l1, c1, new) in edits {
                let (a, b) = (naive(&text, at(l0, c0)), naive(&text, at(l1, c1)));
                text.replace_range(a.min(b)..a.max(b), &new);
                document.change(Range { start: at(l0, c0), end: at(l1, c1) }, &new).unwrap();
                prop_assert_eq!(document.text(), text.clone());
                prop_assert_eq!(&document, &Document::new(&text).unwrap(), "the same lines");
            }
        }

        #[test]
        fn views_meet_at_the_cursor(text in "[aé😀\r\n]{0,20}", line in 0u32..6, character in 0u32..8) {
            let (before, after, offset) = Document::new(&text).unwrap().around(at(line, character));
            prop_assert_eq!(offset, naive(&text, at(line, character)));
            prop_assert_eq!(before + &after, text);
        }
    }

    #[test]
    fn surrogates_and_crlf() {
        let mut d = Document::new("a😀b\r\nc").unwrap();
        d.change(Range { start: at(0, 3), end: at(0, 4) }, "X").unwrap();
        assert_eq!(d.text(), "a😀X\r\nc");
        d.change(Range { start: at(0, 2), end: at(0, 2) }, "-").unwrap();
        assert_eq!(d.text(), "a-😀X\r\nc", "within a pair is before it");
        d.change(Range { start: at(0, 99), end: at(1, 0) }, "").unwrap();
        assert_eq!(d.text(), "a-😀Xc", "behind the line is before its end");
        assert_eq!(d.whole().end, at(0, 6));
    }

    #[test]
    fn huge_texts_are_refused_and_views_of_long_lines_bounded() {
        assert_eq!(Document::new(&"x".repeat(DOCUMENT_BYTES_MAX + 1)), Err(TooLarge));
        let mut d = Document::new(&"é".repeat(VIEW_BYTES_MAX)).unwrap();
        let (before, after, _) = d.around(at(0, VIEW_BYTES_MAX as u32 * 3 / 4));
        assert!(before.len() <= VIEW_BYTES_MAX && after.len() <= VIEW_BYTES_MAX / 2);
        let end = d.whole().end;
        assert_eq!(d.change(Range { start: end, end }, &"x".repeat(DOCUMENT_BYTES_MAX)), Err(TooLarge));
        assert_eq!(d.text().len(), 2 * VIEW_BYTES_MAX);
    }
}
