//! Rust source with comments and literals blanked out, so that a word can be looked for in code only. Small, and enough
//! for tidy: it is no parser.

/// The code of a file: same lines, everything else replaced by spaces.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let end = i + skip(&bytes[i..], i.checked_sub(1).map(|p| bytes[p]));
        if end == i {
            out.push(bytes[i]);
            i += 1;
        } else {
            out.extend(bytes[i..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
            i = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Length of the comment or literal that begins here; 0 if none does.
fn skip(rest: &[u8], before: Option<u8>) -> usize {
    let is_word = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, 0),
        [b'b', b'"', ..] if !is_word => quoted(rest, 1),
        [b'r', b'"' | b'#', ..] if !is_word => raw(rest, 1),
        [b'b', b'r', b'"' | b'#', ..] if !is_word => raw(rest, 2),
        [b'\'', b'\\', ..] => rest.iter().skip(3).position(|&b| b == b'\'').map_or(1, |n| n + 4),
        [b'\'', _, b'\'', ..] => 3,
        _ => 0,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0usize, 0);
    while i < rest.len() {
        match &rest[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] if depth == 1 => return i + 2,
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    i
}

fn quoted(rest: &[u8], prefix: usize) -> usize {
    let mut i = prefix + 1;
    while i < rest.len() {
        match rest[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    rest.len()
}

fn raw(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|&&b| b == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return 0; // A raw identifier.
    }
    let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let body = prefix + hashes + 1;
    rest[body..].windows(end.len()).position(|w| w == end).map_or(rest.len(), |n| body + n + end.len())
}

/// The word stands in the code as a word of its own; gives the line, counted from 1.
pub fn line_with_word(code: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.lines().position(|line| line.split(|c| !is_part(c)).any(|w| w == word)).map(|n| n + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let hidden = [
            "// unsafe",
            "/* unsafe /* unsafe */ unsafe */",
            "\"unsafe\"",
            "\"\\\" unsafe\"",
            "r\"unsafe\"",
            "r#\"\" unsafe \"#",
            "b\"unsafe\"",
            "br#\"unsafe\"#",
            "let unsafe_code = 1;",
            "'\"'; // unsafe",
            "'\\''; \"unsafe\"",
            "/// unsafe",
        ];
        for text in hidden {
            assert_eq!(line_with_word(&code_only(text), "unsafe"), None, "{text}");
        }
        let shown = [
            "unsafe {}",
            "a\n/* x\n */ unsafe fn f()",
            "let c = '\"'; unsafe {}",
            "\"\"; unsafe {}",
            "fn f<'a>() { unsafe {} }",
        ];
        for text in shown {
            let line = text.lines().count();
            assert_eq!(line_with_word(&code_only(text), "unsafe"), Some(line), "{text}");
        }
    }
}
