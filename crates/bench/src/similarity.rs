//! How alike two texts are, line by line: the ratio of Python's `difflib.SequenceMatcher(None, a, b, autojunk=False)` over
//! `str.splitlines()`. 2 * matched lines / all lines, where matches are the longest common run and, left and right of it, the
//! same again (Ratcliff and Obershelp 1988).

use std::collections::HashMap;
use std::ops::Range;

use base::limits;

/// The ratio, 0 to 1; `None` for texts of more than `SIMILARITY_LINES_MAX` lines, for it takes quadratic time.
pub(crate) fn of_lines(a: &str, b: &str) -> Option<f64> {
    let (a, b) = (split_lines(a), split_lines(b));
    if a.len().max(b.len()) > limits::SIMILARITY_LINES_MAX {
        return None;
    }
    Some(ratio(&a, &b))
}

/// Python's `str.splitlines()`: more characters end a line than `\n`.
fn split_lines(text: &str) -> Vec<&str> {
    let ends = ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        lines.push(&rest[..at]);
        let after = &rest[at..];
        let end = if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(1, char::len_utf8) };
        rest = &after[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

fn ratio(a: &[&str], b: &[&str]) -> f64 {
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(j);
    }
    let mut matched = 0;
    let mut todo = vec![(0..a.len(), 0..b.len())];
    while let Some((ra, rb)) = todo.pop() {
        let (i, j, n) = longest_run(a, &places, ra.clone(), rb.clone());
        if n > 0 {
            matched += n;
            todo.push((ra.start..i, rb.start..j));
            todo.push((i + n..ra.end, j + n..rb.end));
        }
    }
    2.0 * matched as f64 / (a.len() + b.len()) as f64
}

/// The longest run of equal lines within both ranges: the first in `a` of several, then the first in `b`.
fn longest_run(
    a: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    ra: Range<usize>,
    rb: Range<usize>,
) -> (usize, usize, usize) {
    let mut best = (ra.start, rb.start, 0);
    // Length of the run that ends at the line before in `a` and at each line of `b`.
    let mut ending: HashMap<usize, usize> = HashMap::new();
    for i in ra {
        let mut next = HashMap::new();
        for &j in places.get(a[i]).map_or(&[][..], Vec::as_slice).iter().filter(|j| rb.contains(j)) {
            let n = 1 + j.checked_sub(1).and_then(|before| ending.get(&before)).copied().unwrap_or(0);
            next.insert(j, n);
            if n > best.2 {
                best = (i + 1 - n, j + 1 - n, n);
            }
        }
        ending = next;
    }
    best
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn ratios_are_difflibs() {
        // Golden values of python3, words as lines.
        for (a, b, want) in [
            ("a b c d", "b c d e", 0.75),
            ("a b c d e f", "d e f a b c", 0.5),
            ("a x b x c x", "x a x b x c", 0.833_333_333_333_333_4),
            ("q a b x c d", "a b y c d f", 0.666_666_666_666_666_6),
            ("a b a b a", "b a b", 0.75),
            ("p q r s t u v", "q r z s t a u v w", 0.75),
            ("a a a b", "a b a a", 0.5),
            ("a", "b", 0.0),
        ] {
            let lines = |text: &str| text.replace(' ', "\n");
            assert_eq!(of_lines(&lines(a), &lines(b)), Some(want), "{a} / {b}");
        }
        assert_eq!(of_lines("", ""), Some(1.0));
        assert_eq!(of_lines("a\n", "a"), Some(1.0));
    }

    #[test]
    fn lines_end_where_python_ends_them() {
        let text = "a\rb\r\nc\n\nd\x0be\x0cf\x1cg\u{85}h\u{2028}i\n";
        assert_eq!(split_lines(text), ["a", "b", "c", "", "d", "e", "f", "g", "h", "i"]);
    }

    #[test]
    fn texts_beyond_the_limit_are_not_compared() {
        let long = "x\n".repeat(limits::SIMILARITY_LINES_MAX + 1);
        assert_eq!(of_lines(&long, "x"), None);
    }
}
