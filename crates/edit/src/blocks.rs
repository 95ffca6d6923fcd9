//! Search-and-replace blocks: read as they arrive, and applied where their search part stands exactly once, first to the byte,
//! then without blanks at line ends, then with the whole block indented differently. Linear in the file for each block
//! (Knuth, Morris, Pratt on lines).

use base::limits;

use crate::prompt::run;

/// One block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Lines to find.
    pub search: Vec<String>,
    /// Lines that replace them.
    pub replace: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Outside,
    Search,
    Replace,
}

/// Reads blocks from text in pieces.
#[derive(Debug, Default)]
pub struct Parser {
    line: String,
    part: Part,
    /// Length of the present block's marks.
    marks: usize,
    block: Block,
    n_blocks: usize,
}

impl Parser {
    /// At the start of an answer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more text and returns the blocks that it completes.
    ///
    /// # Errors
    /// Too many blocks, or a block within a block: words for the model and for the person.
    pub fn push(&mut self, text: &str) -> Result<Vec<Block>, String> {
        let mut done = Vec::new();
        for piece in text.split_inclusive('\n') {
            self.line.push_str(piece);
            if piece.ends_with('\n') {
                let line = std::mem::take(&mut self.line);
                done.extend(self.end_line(line.trim_end_matches(['\n', '\r']))?);
            }
        }
        Ok(done)
    }

    /// The end of the answer.
    ///
    /// # Errors
    /// A block that is not finished.
    pub fn end(mut self) -> Result<Vec<Block>, String> {
        let line = std::mem::take(&mut self.line);
        let done = if line.is_empty() { None } else { self.end_line(&line)? };
        match self.part {
            Part::Outside => Ok(done.into_iter().collect()),
            _ => Err("its last block has no end".to_owned()),
        }
    }

    fn end_line(&mut self, line: &str) -> Result<Option<Block>, String> {
        let is_mark = |c: char, n: usize, word: &str| run(line, c) == n && line[n..].trim() == word;
        let opens = run(line, '<') >= 5 && line.trim_start_matches('<').trim() == "SEARCH";
        match self.part {
            _ if opens => {
                if self.part != Part::Outside {
                    return Err("a block begins inside another".to_owned());
                }
                (self.part, self.marks) = (Part::Search, run(line, '<'));
            }
            Part::Outside => {}
            Part::Search if is_mark('=', self.marks, "") => self.part = Part::Replace,
            Part::Search => self.block.search.push(line.to_owned()),
            Part::Replace if is_mark('>', self.marks, "REPLACE") => {
                self.part = Part::Outside;
                self.n_blocks += 1;
                if self.n_blocks > limits::EDIT_BLOCKS_MAX {
                    return Err(format!("it has more than {} blocks", limits::EDIT_BLOCKS_MAX));
                }
                return Ok(Some(std::mem::take(&mut self.block)));
            }
            Part::Replace => self.block.replace.push(line.to_owned()),
        }
        Ok(None)
    }
}

/// The text after a block.
///
/// # Errors
/// A search part that stands nowhere, or at several places: words for the model and for the person.
pub fn apply(text: &str, block: &Block) -> Result<String, String> {
    let lines: Vec<&str> = text.lines().collect();
    let Some(first) = block.search.iter().find(|l| !l.trim().is_empty()) else {
        return match lines.is_empty() {
            true => Ok(joined(block.replace.iter().map(String::as_str))),
            false => Err("a block has nothing to search for".to_owned()),
        };
    };
    let shown = client::printable(first.trim(), 80);
    let (search, replace) = (inner(&block.search), inner_like(&block.search, &block.replace));
    let wanted: Vec<&str> = search.iter().map(String::as_str).collect();
    let keys: [fn(&str) -> &str; 3] = [|l| l, |l| l.trim_end(), |l| l.trim()];
    for key in keys {
        let found = find(&lines, &wanted, key);
        match found.as_slice() {
            [] => {}
            [at] => {
                let shift = Shift::between(&wanted, &lines[*at..*at + wanted.len()]);
                let Some(new) = shift.apply(replace) else { continue };
                let new = new.iter().map(String::as_str);
                let rest = &lines[*at + wanted.len()..];
                return Ok(joined(lines[..*at].iter().copied().chain(new).chain(rest.iter().copied())));
            }
            several => {
                let n = several.len();
                return Err(format!("the block that begins with {shown:?} fits at {n} places; it needs more lines"));
            }
        }
    }
    Err(format!("the block that begins with {shown:?} is not in the file"))
}

fn joined<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.flat_map(|l| [l, "\n"]).collect()
}

/// Empty lines before the search part are a model's decoration.
fn blanks_before(lines: &[String]) -> usize {
    lines.iter().take_while(|l| l.trim().is_empty()).count()
}

fn blanks_after(lines: &[String]) -> usize {
    lines.iter().rev().take_while(|l| l.trim().is_empty()).count()
}

fn inner(lines: &[String]) -> &[String] {
    lines.get(blanks_before(lines)..lines.len() - blanks_after(lines)).unwrap_or_default()
}

/// The replacement without the empty lines that were dropped from the search part, where it has them too.
fn inner_like<'a>(search: &[String], replace: &'a [String]) -> &'a [String] {
    let start = blanks_before(search).min(blanks_before(replace));
    let end = replace.len() - blanks_after(search).min(blanks_after(replace));
    replace.get(start..end.max(start)).unwrap_or_default()
}

/// Where `wanted` stands in `lines`, each seen through `key`.
fn find(lines: &[&str], wanted: &[&str], key: fn(&str) -> &str) -> Vec<usize> {
    let wanted: Vec<&str> = wanted.iter().map(|l| key(l)).collect();
    let mut fail = vec![0usize; wanted.len()];
    let mut k = 0;
    for i in 1..wanted.len() {
        while k > 0 && wanted[i] != wanted[k] {
            k = fail[k - 1];
        }
        k += usize::from(wanted[i] == wanted[k]);
        fail[i] = k;
    }
    let (mut found, mut k) = (Vec::new(), 0);
    for (i, line) in lines.iter().map(|l| key(l)).enumerate() {
        while k > 0 && (k == wanted.len() || line != wanted[k]) {
            k = fail[k - 1];
        }
        k += usize::from(line == wanted[k]);
        if k == wanted.len() {
            found.push(i + 1 - k);
        }
    }
    found
}

/// By what a block's indentation differs from the file's.
enum Shift<'a> {
    None,
    Add(&'a str),
    Remove(&'a str),
    /// Not by one and the same prefix.
    Mixed,
}

impl<'a> Shift<'a> {
    fn between(block: &[&'a str], file: &[&'a str]) -> Self {
        let indent = |l: &'a str| &l[..l.len() - l.trim_start().len()];
        let mut pairs =
            block.iter().zip(file).filter(|(b, _)| !b.trim().is_empty()).map(|(b, f)| (indent(b), indent(f)));
        let Some((b, f)) = pairs.next() else { return Self::None };
        let (is_add, prefix) = match (f.strip_suffix(b), b.strip_suffix(f)) {
            (Some(prefix), _) => (true, prefix),
            (_, Some(prefix)) => (false, prefix),
            _ => return Self::Mixed,
        };
        let same =
            |(b, f): (&str, &str)| if is_add { f == format!("{prefix}{b}") } else { b == format!("{prefix}{f}") };
        match (pairs.all(same), prefix.is_empty(), is_add) {
            (false, ..) => Self::Mixed,
            (_, true, _) => Self::None,
            (_, _, true) => Self::Add(prefix),
            (_, _, false) => Self::Remove(prefix),
        }
    }

    fn apply(&self, lines: &[String]) -> Option<Vec<String>> {
        let each = |l: &String| -> Option<String> {
            match self {
                _ if l.trim().is_empty() => Some(l.clone()),
                Self::None => Some(l.clone()),
                Self::Add(prefix) => Some(format!("{prefix}{l}")),
                Self::Remove(prefix) => l.strip_prefix(prefix).map(str::to_owned),
                Self::Mixed => None,
            }
        };
        lines.iter().map(each).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<Block>, String> {
        let mut parser = Parser::new();
        let mut blocks = parser.push(text)?;
        blocks.extend(parser.end()?);
        Ok(blocks)
    }

    fn block(search: &str, replace: &str) -> Block {
        let lines = |t: &str| t.lines().map(str::to_owned).collect();
        Block { search: lines(search), replace: lines(replace) }
    }

    #[test]
    fn any_cut_gives_the_same_blocks() {
        let text = "Here:\n```\n<<<<<<< SEARCH\na\n=====\nb\n=======\nc\n>>>>>>> REPLACE\n```\n<<<<<<<< SEARCH\r\nx\r\n=======\r\n========\r\n>>>>>>>> REPLACE";
        let whole = read(text).unwrap();
        assert_eq!(whole, [block("a\n=====\nb", "c"), block("x\n=======", "")]);
        for cut in (0..=text.len()).filter(|c| text.is_char_boundary(*c)) {
            let mut parser = Parser::new();
            let mut blocks = parser.push(&text[..cut]).unwrap();
            blocks.extend(parser.push(&text[cut..]).unwrap());
            blocks.extend(parser.end().unwrap());
            assert_eq!(blocks, whole, "cut at {cut}");
        }
        assert!(read("<<<<<<< SEARCH\na\n=======\n").unwrap_err().contains("no end"));
        assert!(read("<<<<<<< SEARCH\n<<<<<<< SEARCH\n").unwrap_err().contains("inside"));
        let many = "<<<<<<< SEARCH\na\n=======\n>>>>>>> REPLACE\n".repeat(limits::EDIT_BLOCKS_MAX + 1);
        assert!(read(&many).unwrap_err().contains("more than"));
        assert_eq!(read("no block").unwrap(), []);
    }

    #[test]
    fn a_block_is_applied_at_its_one_place_or_not_at_all() {
        let file = "fn a() {\n    one();\n    two();\n}\nfn b() {\n    one();\n}\n";
        let ok = |search, replace| apply(file, &block(search, replace)).unwrap();
        assert_eq!(ok("    two();", "    drei();"), file.replace("two", "drei"));
        assert_eq!(ok("    one();\n    two();", ""), file.replacen("    one();\n    two();\n", "", 1));
        assert_eq!(ok("    two();  ", "    x();"), file.replace("two", "x"), "blanks at the line's end");
        assert_eq!(ok("two();", "x();\n  y();"), file.replace("    two();", "    x();\n      y();"), "indented less");
        assert_eq!(ok("        two();\n    }", "        x();\n    }"), file.replace("two", "x"), "indented more");
        assert_eq!(ok("\n    two();\n\n", "\n    x();\n"), file.replace("two", "x"), "empty lines around it");
        let why = |search| apply(file, &block(search, "x")).unwrap_err();
        assert!(why("    one();").contains("2 places"));
        assert!(why("three();").contains("not in the file"));
        assert!(why("").contains("nothing to search"));
        assert_eq!(apply("", &block("", "new")).unwrap(), "new\n");
    }

    proptest! {
        /// Against the naive search.
        #[test]
        fn places_are_those_of_the_naive_search(
            file in prop::collection::vec("[ab]", 0..24), wanted in prop::collection::vec("[ab]", 1..5)
        ) {
            let file: Vec<&str> = file.iter().map(String::as_str).collect();
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            let naive: Vec<usize> = file.windows(wanted.len()).enumerate().filter(|(_, w)| *w == wanted).map(|(i, _)| i).collect();
            prop_assert_eq!(find(&file, &wanted, |l| l), naive);
        }
    }
}
