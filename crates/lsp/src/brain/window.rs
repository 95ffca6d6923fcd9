//! Which part of the file goes into the prompt. The order of a fill-in-the-middle prompt is prefix, suffix, middle, and the
//! model was trained on texts that are split anywhere, so the prefix must end at the cursor: what follows it is computed
//! again for each key. Hence a suffix of a few lines, and a prefix whose top stays where it is, so that the server has all
//! but its last tokens in its prefix cache. Tops move only when the prefix has doubled, and the new one is computed while
//! nobody types.

use base::limits::{WINDOW_BYTES_MAX, WINDOWS_MAX};

use super::ring::Chunk;
use super::speed::Speed;
use super::view::View;

/// Bytes by which a window's top is recognised.
const HEAD_BYTES: usize = 256;
/// Places at which it is looked for.
const PLACES_MAX: usize = 8;

/// A beginning of a prompt that the server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The file.
    pub path: String,
    /// What stands before it in the prompt.
    pub extra: Vec<Chunk>,
    /// The file's text from the top of the window on, as far as it is known.
    pub text: String,
}

/// A window that is being computed while nobody types.
#[derive(Debug)]
struct Warming {
    window: Window,
    n_done: usize,
}

/// A prompt for a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// With it, the window that is known once the prompt has been computed.
    pub window: Window,
    /// The text after the cursor.
    pub suffix: String,
    /// Bytes that the server has to compute, about.
    pub n_new: usize,
}

/// The windows that are known, the last used one last.
#[derive(Debug, Default)]
pub struct Windows {
    known: Vec<Window>,
    warming: Option<Warming>,
}

/// The rest of the line and as many lines as the budget has, whole ones.
fn suffix(view: &View, bytes: usize) -> &str {
    let after = view.after.as_str();
    let first = after.find('\n').map_or(after.len(), |at| at + 1);
    let mut end = first;
    while let Some(more) = after.get(end..).filter(|m| !m.is_empty()) {
        let len = more.find('\n').map_or(more.len(), |at| at + 1);
        if end + len > bytes {
            break;
        }
        end += len;
    }
    floor(after, end.min(WINDOW_BYTES_MAX))
}

fn floor(text: &str, mut at: usize) -> &str {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    &text[..at]
}

/// The last bytes of a text, from the beginning of a line on (or of a character, in one long line).
fn last_lines(text: &str, bytes: usize) -> &str {
    let mut from = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    match text[from..].find('\n') {
        Some(at) if from > 0 && from + at + 1 < text.len() => &text[from + at + 1..],
        _ => &text[from..],
    }
}

fn common(a: &str, b: &str) -> usize {
    let n = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    floor(a, n).len()
}

impl Windows {
    /// The prompt for a view: with the longest window that leaves little to compute, but rather one that has not doubled; else
    /// with few lines.
    pub fn place(&mut self, view: &View, speed: &Speed) -> Placed {
        let suffix = suffix(view, speed.suffix_bytes());
        let cost = |known: &Window, text: &str| text.len() - common(&known.text, text) + suffix.len();
        let fits = |w: &Window| {
            let text = from_top(w, view)?;
            let (n_new, len) = (cost(w, text), text.len());
            let is_cheap = n_new <= speed.cold_bytes() + suffix.len() && len <= WINDOW_BYTES_MAX;
            is_cheap.then_some((len <= 2 * speed.window_bytes(), len, n_new))
        };
        let found = self.known.iter().enumerate().filter_map(|(i, w)| Some((fits(w)?, i))).max();
        if let Some(((_, len, n_new), i)) = found {
            let window = self.known.remove(i);
            self.known.push(window.clone());
            let text = view.before[view.before.len() - len..].to_owned();
            return Placed { window: Window { text, ..window }, suffix: suffix.to_owned(), n_new };
        }
        let text = last_lines(&view.before, speed.cold_bytes()).to_owned();
        let n_new = text.len() + suffix.len();
        Placed { window: Window { path: view.path.clone(), extra: Vec::new(), text }, suffix: suffix.to_owned(), n_new }
    }

    /// The server has computed this.
    pub fn know(&mut self, window: Window) {
        self.known.retain(|w| !(w.path == window.path && w.extra == window.extra && window.text.starts_with(head(w))));
        self.known.push(window);
        if self.known.len() > WINDOWS_MAX {
            self.known.remove(0);
        }
    }

    /// A file is gone: windows of it, and those that have some of it before them, are not asked for again.
    pub fn forget(&mut self, path: &str) {
        let has = |w: &Window| w.path == path || w.extra.iter().any(|c| c.path == path);
        self.known.retain(|w| !has(w));
        self.warming.take_if(|w| has(&w.window));
    }

    /// Whether the view deserves a larger window or one whose top is nearer; `extra` is asked for what goes before it.
    pub fn aim(&mut self, view: &View, speed: &Speed, extra: &mut dyn FnMut(&str) -> Vec<Chunk>) {
        let want = speed.window_bytes().min(WINDOW_BYTES_MAX);
        let is_good = |len: usize| len <= want * 2 && (len >= want / 2 || len == view.before.len());
        let has_good = self.known.iter().filter_map(|w| from_top(w, view)).any(|text| is_good(text.len()));
        let is_aimed = self.warming.as_ref().is_some_and(|w| from_top(&w.window, view).is_some());
        if has_good || is_aimed {
            return;
        }
        let text = last_lines(&view.before, want);
        let window = Window { path: view.path.clone(), extra: extra(text), text: text.to_owned() };
        if self
            .known
            .iter()
            .any(|w| w.path == window.path && w.extra == window.extra && w.text.starts_with(&window.text))
        {
            return;
        }
        self.warming = Some(Warming { window, n_done: 0 });
    }

    /// The next part of it, small enough that a key pressed meanwhile need not wait long.
    pub fn next_slice(&self, speed: &Speed) -> Option<Window> {
        let Warming { window, n_done } = self.warming.as_ref()?;
        let text = floor(&window.text, n_done + speed.slice_bytes());
        let end = text.rfind('\n').map_or(text.len(), |at| at + 1);
        let end = if text.len() == window.text.len() || end <= *n_done { text.len() } else { end };
        Some(Window { text: window.text[..end].to_owned(), ..window.clone() })
    }

    /// The slice was computed.
    pub fn sliced(&mut self, slice: &Window) {
        let Some(w) = self.warming.as_mut().filter(|w| w.window.text.starts_with(&slice.text)) else { return };
        w.n_done = slice.text.len();
        if w.n_done == w.window.text.len()
            && let Some(done) = self.warming.take()
        {
            self.know(done.window);
        }
    }
}

fn head(window: &Window) -> &str {
    floor(&window.text, HEAD_BYTES)
}

/// The text from a window's top to the cursor, if the file still has that top.
fn from_top<'a>(window: &Window, view: &'a View) -> Option<&'a str> {
    let head = head(window);
    if window.path != view.path || head.is_empty() {
        return None;
    }
    let places = view.before.match_indices(head).take(PLACES_MAX).map(|(at, _)| &view.before[at..]);
    places.max_by_key(|text| common(text, &window.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(before: &str, after: &str) -> View {
        View { path: "a.rs".into(), before: before.into(), after: after.into(), offset: before.len() }
    }

    fn file(lines: usize) -> String {
        (0..lines).map(|i| format!("line number {i} of the file\n")).collect()
    }

    #[test]
    fn typing_computes_only_what_was_typed_and_the_suffix() {
        let (mut windows, speed) = (Windows::default(), Speed::default());
        let mut text = file(400);
        let placed = windows.place(&view(&text, ""), &speed);
        assert!(placed.n_new <= speed.cold_bytes() && placed.window.text.ends_with("line number 399 of the file\n"));
        windows.know(placed.window);
        for key in "let x = 1;\n".chars() {
            text.push(key);
            let placed = windows.place(&view(&text, "\nrest\n"), &speed);
            assert_eq!(placed.n_new, 1 + placed.suffix.len());
            windows.know(placed.window);
        }
        assert_eq!(windows.known.len(), 1);
    }

    #[test]
    fn a_large_window_is_warmed_in_slices_and_then_used() {
        let (mut windows, speed) = (Windows::default(), Speed::default());
        let here = view(&file(400), "");
        let small = windows.place(&here, &speed);
        windows.know(small.window.clone());
        windows.aim(&here, &speed, &mut |_| vec![Chunk { path: "b".into(), text: "extra".into() }]);
        let mut n_slices = 0;
        let mut last = 0;
        while let Some(slice) = windows.next_slice(&speed) {
            assert!(slice.text.len() > last && slice.text.len() - last <= speed.slice_bytes());
            last = slice.text.len();
            windows.sliced(&slice);
            n_slices += 1;
        }
        assert!(n_slices > 1);
        let large = windows.place(&here, &speed);
        assert!(large.window.text.len() > small.window.text.len() && large.window.extra.len() == 1 && large.n_new == 0);
        windows.aim(&here, &speed, &mut |_| vec![]);
        assert!(windows.next_slice(&speed).is_none(), "nothing more to do here");
    }

    #[test]
    fn edits_above_the_cursor_keep_the_top_and_jumps_make_a_new_window() {
        let (mut windows, speed) = (Windows::default(), Speed::default());
        let text = file(60);
        windows.know(Window { path: "a.rs".into(), extra: vec![], text: text.clone() });
        let inserted = format!("use new;\n{text}");
        assert_eq!(windows.place(&view(&inserted, ""), &speed).n_new, 0, "lines above the top");
        let changed = text.replace("number 55 ", "number 55b ");
        let placed = windows.place(&view(&changed, ""), &speed);
        assert_eq!(placed.n_new, changed.len() - changed.find("55b").unwrap() - 2);
        let up = windows.place(&view(&text[..text.len() / 2], "rest"), &speed);
        assert_eq!(up.n_new, 4, "further up in the same window");
        let other = View { path: "b.rs".into(), ..view(&text, "") };
        assert!(windows.place(&other, &speed).n_new > 0);
    }

    #[test]
    fn a_window_that_has_doubled_gives_way_to_a_new_one_that_is_then_left_alone() {
        let (mut windows, speed) = (Windows::default(), Speed::default());
        let mut here = view(&file(2 * speed.window_bytes() / 25), "");
        windows.know(Window { path: "a.rs".into(), extra: vec![], text: here.before.clone() });
        assert!(here.before.len() > 2 * speed.window_bytes());
        let mut n_slices = 0;
        for _ in 0..500 {
            here.before.push('x');
            windows.aim(&here, &speed, &mut |_| vec![]);
            if let Some(slice) = windows.next_slice(&speed) {
                windows.sliced(&slice);
                n_slices += 1;
            }
        }
        assert!(n_slices <= speed.window_bytes() / speed.slice_bytes() * 2, "{n_slices} slices");
        let placed = windows.place(&here, &speed);
        assert!(placed.window.text.len() <= speed.window_bytes() + 500);
    }

    #[test]
    fn windows_and_their_texts_are_bounded() {
        let (mut windows, speed) = (Windows::default(), Speed::default());
        for i in 0..3 * WINDOWS_MAX {
            windows.know(Window { path: format!("{i}"), extra: vec![], text: "x".into() });
        }
        assert_eq!(windows.known.len(), WINDOWS_MAX);
        let long = "é".repeat(1 << 20);
        let placed = windows.place(&view(&long, &long), &speed);
        assert!(placed.window.text.len() <= speed.cold_bytes() && placed.suffix.len() <= WINDOW_BYTES_MAX);
        windows.aim(&view(&long, &long), &speed, &mut |_| vec![]);
        while let Some(slice) = windows.next_slice(&speed) {
            assert!(slice.text.len() <= WINDOW_BYTES_MAX);
            windows.sliced(&slice);
        }
    }
}
