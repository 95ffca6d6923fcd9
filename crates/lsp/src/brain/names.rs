//! Which files say what a name is: an index of what `outline` finds in them, with the first lines of each definition.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::outline::{Definition, definitions};
use base::limits::{INDEX_DEFINITIONS_MAX, INDEX_FILES_MAX, INDEX_SNIPPET_BYTES_MAX};

/// Lines of a definition that are shown.
const SNIPPET_LINES: usize = 6;

/// Where names are defined.
#[derive(Debug, Default)]
pub struct Index {
    files: BTreeMap<String, HashMap<String, String>>,
    /// Those that nobody has opened.
    imported: HashSet<String>,
}

/// The names in a text: identifiers of at least three characters.
pub fn names(text: &str) -> HashSet<&str> {
    let is_name = |w: &&str| w.len() >= 3 && !w.starts_with(|c: char| c.is_ascii_digit());
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(is_name).collect()
}

impl Index {
    /// Reads a file anew that was opened.
    pub fn read(&mut self, path: &str, text: &str) {
        self.imported.remove(path);
        if !self.files.contains_key(path) && self.files.len() >= INDEX_FILES_MAX {
            // One that nobody has opened makes room.
            let Some(other) = self.imported.iter().next().cloned() else { return };
            self.forget(&other);
        }
        self.index(path, text);
    }

    /// Reads a file that another one imports; what is known of an open one is newer.
    pub fn read_imported(&mut self, path: &str, text: &str) {
        let is_open = self.files.contains_key(path) && !self.imported.contains(path);
        let is_full = !self.files.contains_key(path) && self.files.len() >= INDEX_FILES_MAX;
        if !is_open && !is_full {
            self.imported.insert(path.to_owned());
            self.index(path, text);
        }
    }

    fn index(&mut self, path: &str, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        let mut found = HashMap::new();
        for Definition { name, line } in definitions(path, text).into_iter().filter(|d| d.name.len() >= 3) {
            found.entry(name.to_owned()).or_insert_with(|| snippet(lines.get(line..).unwrap_or_default()));
            if found.len() >= INDEX_DEFINITIONS_MAX {
                break;
            }
        }
        self.files.insert(path.to_owned(), found);
    }

    /// Forgets a file.
    pub fn forget(&mut self, path: &str) {
        self.files.remove(path);
        self.imported.remove(path);
    }

    /// What is known about the names in `window`, by file, in at most `bytes_max` bytes; names that are mentioned last come
    /// first. What the window shows already is left out.
    pub fn about(&self, window: &str, bytes_max: usize) -> Vec<(String, String)> {
        let mut wanted: Vec<&str> = Vec::new();
        let mut seen = HashSet::new();
        for word in window.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| w.len() >= 3) {
            if seen.insert(word) {
                wanted.push(word);
            }
        }
        let (mut left, mut out) = (bytes_max, BTreeMap::<&str, String>::new());
        for name in wanted {
            let hit = self.files.iter().find_map(|(path, known)| known.get(name).map(|s| (path, s)));
            let Some((path, text)) = hit else { continue };
            let is_shown = text.lines().next().is_some_and(|first| window.contains(first));
            if is_shown || text.len() > left {
                continue;
            }
            left -= text.len();
            out.entry(path).or_default().push_str(text);
        }
        out.into_iter().map(|(p, t)| (p.to_owned(), t)).collect()
    }
}

/// A definition's first lines: up to the end of its head, or as many as show its fields.
fn snippet(lines: &[&str]) -> String {
    let (mut out, indent) = (String::new(), lines.first().map_or(0, |l| l.len() - l.trim_start().len()));
    for (i, line) in lines.iter().take(SNIPPET_LINES).enumerate() {
        let is_back = i > 0 && line.len() - line.trim_start().len() <= indent;
        if out.len() + line.len() >= INDEX_SNIPPET_BYTES_MAX || (is_back && line.trim().is_empty()) {
            break;
        }
        out.push_str(line);
        out.push('\n');
        let is_function = lines[0].contains("fn ") || lines[0].contains("def ") || lines[0].contains("func");
        if is_back || (is_function && line.trim_end().ends_with(['{', ':'])) {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_window_bring_their_definitions_within_a_budget() {
        let mut index = Index::default();
        index.read(
            "a.rs",
            "pub struct Cursor {\n    at: usize,\n    end: usize,\n}\n\npub fn unrelated() {\n    body();\n}\n",
        );
        index.read("b.rs", "pub fn advance(c: &mut Cursor, by: usize) {\n    c.at += by;\n}\n");
        let found = index.about("let c: Cursor = x;\nadvance(", 1000);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1, "pub struct Cursor {\n    at: usize,\n    end: usize,\n}\n");
        assert_eq!(found[1], ("b.rs".into(), "pub fn advance(c: &mut Cursor, by: usize) {\n".into()));
        assert_eq!(index.about("let c: Cursor = x;\nadvance(", 50).len(), 1, "the name nearest to the cursor first");
        assert!(index.about("pub struct Cursor {\n", 1000).is_empty(), "it is in the window");
        index.forget("a.rs");
        assert!(index.about("Cursor", 1000).is_empty());
    }

    #[test]
    fn imported_files_explain_names_and_make_way_for_open_ones() {
        let mut index = Index::default();
        index.read_imported("lib.rs", "pub struct Cursor {\n    at: usize,\n}\n");
        assert_eq!(index.about("x: Cursor", 1000).len(), 1);
        index.read("lib.rs", "pub struct Cursor(u8);\n");
        index.read_imported("lib.rs", "pub struct Other;\n");
        assert!(index.about("x: Cursor", 1000)[0].1.contains("(u8)"), "what is open is newer than what is on disk");
        (0..2 * INDEX_FILES_MAX).for_each(|i| index.read_imported(&format!("f{i}.rs"), "fn far() {}\n"));
        assert_eq!(index.files.len(), INDEX_FILES_MAX);
        index.read("open.rs", "fn near() {}\n");
        assert!(index.files.contains_key("open.rs") && index.files.len() == INDEX_FILES_MAX);
    }
}
