//! Reads an answer that is a whole file: what of it is the file, and whether it can be trusted to be all of it.

use crate::diff::parts;
use crate::prompt::run;

/// Lines at the end of a file whose loss is noticed.
const TAIL_LINES: usize = 10;
/// Lines that any change may take away.
const FEW_LINES: usize = 3;

/// A code block in an answer.
struct Block<'a> {
    text: &'a str,
    is_closed: bool,
}

/// The first block. A file that holds fences of its own ends at the last fence of the answer.
fn block<'a>(answer: &'a str, old: &str) -> Option<Block<'a>> {
    let (mut at, mut start, mut length, mut end) = (0, None, 0, None);
    for line in answer.split_inclusive('\n') {
        let ticks = run(line.trim_start(), '`');
        match start {
            None if ticks >= 3 => {
                (start, length) = (Some(at + line.len()), ticks);
            }
            Some(_) if ticks >= length && line.trim().len() == ticks => {
                end = Some(at);
                let is_ambiguous = old.lines().any(|l| run(l.trim_start(), '`') >= length);
                if !is_ambiguous {
                    break;
                }
            }
            _ => {}
        }
        at += line.len();
    }
    let start = start?;
    Some(Block { text: answer.get(start..end.unwrap_or(answer.len()))?, is_closed: end.is_some() })
}

/// What stands of the file in an answer that is still being written: whole lines only.
pub fn so_far<'a>(answer: &'a str, old: &str) -> &'a str {
    let Some(block) = block(answer, old) else { return "" };
    if block.is_closed { block.text } else { block.text.rfind('\n').map_or("", |end| &block.text[..=end]) }
}

/// The new file in a finished answer.
///
/// # Errors
/// Words for the model and for the person: what is wrong with the answer.
pub fn file(answer: &str, old: &str, is_cut: bool) -> Result<String, String> {
    if is_cut {
        return Err("it was cut off because it grew too long".to_owned());
    }
    let text = match block(answer, old) {
        Some(Block { text, is_closed: true }) => text,
        // A model that forgot the last fence has written everything if it came to the file's last line.
        Some(Block { text, .. }) if last_line(text).is_some() && last_line(text) == last_line(old) => text,
        Some(_) => return Err("its code block has no end".to_owned()),
        None if is_like(answer, old) => answer,
        None => return Err("it is not the file in a code block".to_owned()),
    };
    if text.trim().is_empty() && !old.trim().is_empty() {
        return Err("its code block is empty".to_owned());
    }
    if let Some(line) = placeholder(text, old) {
        return Err(format!(
            "it leaves code out: {:?} stands for lines of the file",
            client::printable(line.trim(), 80)
        ));
    }
    Ok(text.to_owned())
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim_end).rfind(|l| !l.is_empty())
}

/// Whether half of its lines are lines of the file: then it is the file without a fence.
fn is_like(answer: &str, old: &str) -> bool {
    let known: std::collections::HashSet<&str> = old.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let lines: Vec<&str> = answer.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    !lines.is_empty() && lines.iter().filter(|l| known.contains(**l)).count() * 2 >= lines.len()
}

/// A comment that stands for code left out, such as `// ... rest of the code unchanged`.
fn placeholder<'a>(new: &'a str, old: &str) -> Option<&'a str> {
    let is_new = |line: &&str| !old.lines().any(|l| l.trim() == line.trim());
    let loses_lines = old.lines().count() > new.lines().count();
    new.lines().filter(|l| loses_lines && says_left_out(l)).find(is_new)
}

fn says_left_out(line: &str) -> bool {
    let line = line.trim();
    let openers = ["//", "#", "--", "/*", "<!--", ";", "%", "{/*", "\"\"\""];
    let Some(comment) = openers.iter().find_map(|o| line.strip_prefix(o)) else { return false };
    let words = comment.trim_end_matches(['*', '/', '-', '>', '}', '"', ' ']).trim().to_lowercase();
    let has_dots = words.contains("...") || words.contains('…');
    let subjects =
        ["rest", "remain", "existing", "unchanged", "same", "other", "previous", "omitted", "original", "code", "here"];
    let starts = ["rest of ", "the rest", "existing code", "remaining ", "unchanged", "same as before", "no changes"];
    let is_bare = matches!(words.as_str(), "..." | "…");
    is_bare || (has_dots && subjects.iter().any(|s| words.contains(s))) || starts.iter().any(|s| words.starts_with(s))
}

/// Why a person should look first, if the instruction did not ask to remove anything: the file lost its end, or much of it.
pub fn doubt(old: &str, new: &str) -> Option<String> {
    if let Some(n) = lost_tail(old, new) {
        return Some(format!("its last {n} lines are gone, and nobody asked for that"));
    }
    let count = |text: &str| text.lines().filter(|l| !l.trim().is_empty()).count();
    let (before, after) = (count(old), count(new));
    let lost = before.saturating_sub(after);
    (lost >= FEW_LINES.max(before.div_ceil(3)))
        .then(|| format!("{lost} of its {before} lines are gone, and nobody asked for that"))
}

/// How many lines at the file's end the new one lacks without anything in their place, if that is much of it.
pub fn lost_tail(old: &str, new: &str) -> Option<usize> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.trim_end().lines().collect(), new.trim_end().lines().collect());
    let parts = parts(&old, &new, false);
    let last = parts.last().filter(|p| p.old.end == old.len() && p.new.is_empty())?;
    let lost = last.old.len();
    (lost > TAIL_LINES.max(old.len() / 4)).then_some(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "a\nb\nc\nd\ne\n";

    #[test]
    fn the_file_is_found_among_what_models_write_around_it() {
        let ok = |answer: &str| file(answer, OLD, false).unwrap();
        assert_eq!(ok("```\na\nB\n```"), "a\nB\n");
        assert_eq!(ok("Sure! Here it is:\n```rust\na\nB\n```\nI changed b. Use it so:\n```\nrun\n```\n"), "a\nB\n");
        assert_eq!(ok("````md\n```\na\n```\n````"), "```\na\n```\n");
        assert_eq!(ok("a\nB\nc\nd\ne\n"), "a\nB\nc\nd\ne\n", "no fence, but the file");
        assert_eq!(ok("```\na\nB\nc\nd\ne"), "a\nB\nc\nd\ne", "the last fence forgotten at the end of the file");
        let readme = "# x\n```\nsh\n```\nend\n";
        assert_eq!(file("```\n# x\n```\nSH\n```\nend\n```", readme, false).unwrap(), "# x\n```\nSH\n```\nend\n");
        assert_eq!(so_far("text ```", OLD), "");
        assert_eq!(so_far("```py\na\nb", OLD), "a\n");
        assert_eq!(so_far("```py\na\nb\n```\nmore", OLD), "a\nb\n");
    }

    #[test]
    fn half_answers_are_refused() {
        let why = |answer: &str, is_cut| file(answer, OLD, is_cut).unwrap_err();
        assert!(why("```\na\n```", true).contains("cut off"));
        assert!(why("I cannot do that.", false).contains("not the file"));
        assert!(why("```\na\nb\n", false).contains("no end"));
        assert!(why("```\n\n```", false).contains("empty"));
        for line in [
            "// ... rest of the code",
            "# rest of the file stays",
            "/* unchanged */",
            "<!-- ... -->",
            "  // …",
            "# existing code...",
        ] {
            assert!(why(&format!("```\na\n{line}\n```"), false).contains("leaves code out"), "{line}");
        }
        // Not placeholders: Python's ellipsis, ordinary comments, a line that was there, a file that only grew.
        for line in ["...", "# the other case", "// see here", "# code"] {
            assert!(file(&format!("```\na\n{line}\n```"), OLD, false).is_ok(), "{line}");
        }
        assert!(file("```\n# ...\nb\n```", "# ...\nb\nc\n", false).is_ok());
        assert!(file("```\na\nb\nc\nd\ne\n# ...\n```", OLD, false).is_ok());
    }

    #[test]
    fn a_lost_tail_is_noticed_and_a_replaced_one_is_not() {
        let old: String = (0..40).map(|i| format!("{i}\n")).collect();
        let head = |n| -> String { old.lines().take(n).map(|l| format!("{l}\n")).collect() };
        assert_eq!(lost_tail(&old, &head(20)), Some(20));
        assert_eq!(lost_tail(&old, &head(35)), None);
        assert_eq!(lost_tail(&old, &(head(20) + "other\n")), None);
        assert_eq!(lost_tail("", "x"), None);
        assert!(doubt(&old, &head(20)).unwrap().contains("last 20 lines"));
        // A small file of which a small model kept one function.
        let file = "def add(a):\n    return a\n\ndef sub(a):\n    return -a\n";
        assert_eq!(doubt(file, "def neg(a):\n    return -a\n"), None, "two lines are few");
        assert!(doubt(&file.repeat(2), "def neg(a):\n    return -a\n").unwrap().contains("6 of its 8 lines"));
        assert_eq!(doubt(&file.repeat(2), &file.replace("sub", "neg").repeat(2)), None);
    }
}
