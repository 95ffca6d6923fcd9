//! What an editor shows around a cursor.

/// A place in a file. `before` and `after` are parts of it that meet at the cursor, of bounded length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The file's path, as the prompt may name it.
    pub path: String,
    /// Text before the cursor, from the beginning of a line on.
    pub before: String,
    /// Text after it.
    pub after: String,
    /// Bytes of the file before the cursor.
    pub offset: usize,
}

impl View {
    /// What was typed since `earlier`, if the two differ by that alone.
    pub fn typed_since(&self, earlier: &View) -> Option<&str> {
        let n = self.offset.checked_sub(earlier.offset)?;
        let (was, typed) = self.before.split_at_checked(self.before.len().checked_sub(n)?)?;
        let n_same = was.len().min(earlier.before.len()).min(256);
        let same = was.as_bytes().ends_with(&earlier.before.as_bytes()[earlier.before.len() - n_same..]);
        (self.path == earlier.path && same && is_same_below(&self.after, &earlier.after)).then_some(typed)
    }
}

/// Whether what follows the cursor is the same, but for brackets and quotes that editors put there and take away.
fn is_same_below(a: &str, b: &str) -> bool {
    let split = |t: &'_ str| -> (String, String) {
        let (line, below) = t.split_once('\n').unwrap_or((t, ""));
        let closers: &[char] = &[')', ']', '}', '"', '\'', '`', '>', '\r'];
        (line.trim_start_matches(closers).trim_end_matches('\r').to_owned(), below.chars().take(128).collect())
    };
    a == b || split(a) == split(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(before: &str, after: &str, offset: usize) -> View {
        View { path: "a".into(), before: before.into(), after: after.into(), offset }
    }

    #[test]
    fn typing_is_told_from_other_changes() {
        let was = view("let x", ";\n}", 5);
        assert_eq!(view("let x = ", ";\n}", 8).typed_since(&was), Some(" = "));
        assert_eq!(view("let x", ";\n}", 5).typed_since(&was), Some(""));
        assert_eq!(view("let x(", ");\n}", 6).typed_since(&was), Some("("), "the editor closed the bracket");
        assert_eq!(view("let ", ";\n}", 4).typed_since(&was), None, "deleted");
        assert_eq!(view("let y = ", ";\n}", 8).typed_since(&was), None, "another text before");
        assert_eq!(view("let x = ", ";\n]", 8).typed_since(&was), None, "another text below");
        let other = View { path: "b".into(), ..view("let x = ", ";\n}", 8) };
        assert_eq!(other.typed_since(&was), None);
    }
}
