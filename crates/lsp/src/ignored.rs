//! Which files may be read for prompts: none that hold secrets, none that .gitignore or .vonkignore name.

use std::path::{Path, PathBuf};

use base::limits::IGNORE_FOLDERS_MAX;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::collections::HashMap;

use crate::brain::secret::is_secret_file;

/// The rules of the folders that were met.
#[derive(Debug, Default)]
pub struct Ignored {
    rules: HashMap<PathBuf, Gitignore>,
}

impl Ignored {
    /// Whether a file's text must not go into a prompt, by its own folder's rules and those above it.
    pub fn is_ignored(&mut self, path: &Path) -> bool {
        if is_secret_file(&path.to_string_lossy()) || path.components().any(|c| c.as_os_str() == ".git") {
            return true;
        }
        for folder in path.ancestors().skip(1).filter(|f| !f.as_os_str().is_empty()) {
            if self.rules.len() >= IGNORE_FOLDERS_MAX {
                self.rules.clear();
            }
            let rules = self.rules.entry(folder.to_owned()).or_insert_with(|| read(folder));
            let matched = rules.matched_path_or_any_parents(path, false);
            if !matched.is_none() {
                return matched.is_ignore(); // the nearest folder that says something
            }
            if folder.join(".git").exists() {
                break; // a repository's rules end with it
            }
        }
        false
    }

    /// Reads the rules anew when they are asked for again.
    pub fn forget(&mut self) {
        self.rules.clear();
    }
}

fn read(folder: &Path) -> Gitignore {
    let mut builder = GitignoreBuilder::new(folder);
    for name in [".gitignore", ".vonkignore"] {
        let path = folder.join(name);
        if path.is_file() {
            let _ = builder.add(path); // rules that cannot be read are no rules, as for git
        }
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

/// The path of a `file:` URI, as far as prompts and ignore rules need it.
pub fn path_of(uri: &str) -> PathBuf {
    let rest = uri.strip_prefix("file://").unwrap_or(uri);
    let rest = rest.find('/').map_or(rest, |at| if uri.starts_with("file://") { &rest[at..] } else { rest });
    let (mut out, bytes, mut at) = (Vec::new(), rest.as_bytes(), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    PathBuf::from(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn ignore_files_of_the_folder_and_above_count() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        std::fs::create_dir_all(at("src/deep")).unwrap();
        std::fs::create_dir_all(at(".git")).unwrap();
        std::fs::write(at(".gitignore"), "target/\n*.log\n").unwrap();
        std::fs::write(at(".vonkignore"), "private.rs\n").unwrap();
        std::fs::write(at("src/.gitignore"), "!keep.log\n").unwrap();
        let mut ignored = Ignored::default();
        for path in ["a.log", "src/deep/x.log", "src/private.rs", "target/a.rs", ".env", "src/id_rsa", ".git/config"] {
            assert!(ignored.is_ignored(&at(path)), "{path}");
        }
        for path in ["src/a.rs", "src/keep.log", "targets.rs"] {
            assert!(!ignored.is_ignored(&at(path)), "{path}");
        }
        std::fs::write(at(".vonkignore"), "").unwrap();
        ignored.forget();
        assert!(!ignored.is_ignored(&at("src/private.rs")));
    }

    #[test]
    fn uris_are_paths() {
        assert_eq!(path_of("file:///a/b%20c%C3%A9.rs"), PathBuf::from("/a/b cé.rs"));
        assert_eq!(path_of("file://host/a%zz"), PathBuf::from("/a%zz"));
        assert_eq!(path_of("untitled:Untitled-1"), PathBuf::from("untitled:Untitled-1"));
    }
}
