//! How a person names a model: `NAME`, `hf:OWNER/REPO[/FILE][@REVISION]`, or a path.

use std::path::PathBuf;

use base::limits::MODEL_NAME_BYTES_MAX;

use crate::error::{StoreError, printable};

/// A model as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// A name from the catalogue or of a model pulled before.
    Name(String),
    /// A file on the model hub.
    Hub(HubSpec),
    /// A file on this machine.
    Path(PathBuf),
}

/// A file on the model hub, each part checked to be harmless in a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSpec {
    /// `OWNER/REPO`.
    pub repo: String,
    /// The file's path in the repository; none means the repository's only (or only Q4_K_M) GGUF file.
    pub file: Option<String>,
    /// Branch, tag or commit; `main` when none is given.
    pub revision: String,
}

impl std::fmt::Display for HubSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "hf:{}", self.repo)?;
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// One part between slashes: letters, digits, `.`, `_`, `-`, and not only dots.
pub(crate) fn is_plain_part(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 128
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !part.bytes().all(|b| b == b'.')
}

/// A model's name as the catalogue and the records may have it.
pub(crate) fn is_plain_name(name: &str) -> bool {
    is_plain_part(name) && !name.starts_with(['.', '-'])
}

impl Spec {
    /// Reads a spec. A word that is neither a path nor a hub file is taken as a name.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let bad = |why: &str| StoreError::BadSpec { spec: printable(text, 100), why: why.to_string() };
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if let Some(rest) = text.strip_prefix("hf:") {
            return HubSpec::parse(rest).map(Self::Hub).map_err(bad);
        }
        if text.contains("://") {
            return Err(bad("web addresses are not taken"));
        }
        let is_path =
            text.contains(['/', '\\']) || text.starts_with(['.', '~']) || text.to_ascii_lowercase().ends_with(".gguf");
        if is_path {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        if !is_plain_name(text) {
            return Err(bad("a name has letters, digits, `.`, `_` and `-` only"));
        }
        Ok(Self::Name(text.to_string()))
    }
}

impl HubSpec {
    /// Reads what follows `hf:`.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MODEL_NAME_BYTES_MAX {
            return Err("it is too long");
        }
        let (path, revision) = match text.split_once('@') {
            Some((path, revision)) => (path, revision),
            None => (text, "main"),
        };
        if !revision.split('/').all(is_plain_part) {
            return Err("the revision after `@` has letters, digits, `.`, `_`, `-` and `/` only");
        }
        let parts: Vec<&str> = path.split('/').collect();
        if parts.len() < 2 {
            return Err("`hf:` needs an owner and a repository");
        }
        if !parts.iter().all(|p| is_plain_part(p)) {
            return Err("owner, repository and file have letters, digits, `.`, `_` and `-` only");
        }
        let file = (parts.len() > 2).then(|| parts[2..].join("/"));
        if file.as_ref().is_some_and(|f| !f.to_ascii_lowercase().ends_with(".gguf")) {
            return Err("only .gguf files are pulled; a folder with safetensors files is used by its path");
        }
        Ok(Self { repo: format!("{}/{}", parts[0], parts[1]), file, revision: revision.to_string() })
    }
}

/// Names spelt like `wanted`, best first, at most three.
pub(crate) fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted: Vec<char> = wanted.to_lowercase().chars().take(64).collect();
    let mut scored: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let chars: Vec<char> = name.to_lowercase().chars().take(64).collect();
            let contains = wanted.len() >= 3 && name.to_lowercase().contains(&wanted.iter().collect::<String>());
            let distance = if contains { 1 } else { edits(&wanted, &chars) };
            (distance <= wanted.len().max(chars.len()) / 3).then_some((distance, name))
        })
        .collect();
    scored.sort();
    scored.dedup_by_key(|(_, name)| *name);
    scored.into_iter().take(3).map(|(_, name)| name.to_string()).collect()
}

/// Levenshtein distance; both sides are at most 64 long.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(repo: &str, file: Option<&str>, revision: &str) -> Spec {
        Spec::Hub(HubSpec { repo: repo.into(), file: file.map(Into::into), revision: revision.into() })
    }

    #[test]
    fn the_three_forms_are_told_apart() {
        let good = [
            ("qwen2.5-coder-0.5b", Spec::Name("qwen2.5-coder-0.5b".into())),
            ("hf:a/b", hub("a/b", None, "main")),
            ("hf:a/b/c.gguf", hub("a/b", Some("c.gguf"), "main")),
            ("hf:a/b/d/c.GGUF@refs/pr/1", hub("a/b", Some("d/c.GGUF"), "refs/pr/1")),
            ("hf:a/b@v1.0", hub("a/b", None, "v1.0")),
            ("./x", Spec::Path("./x".into())),
            ("x.gguf", Spec::Path("x.gguf".into())),
            ("dir/x", Spec::Path("dir/x".into())),
        ];
        for (text, want) in good {
            assert_eq!(Spec::parse(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn a_hub_file_prints_as_it_was_written() {
        for text in ["hf:a/b", "hf:a/b/c.gguf", "hf:a/b/c.gguf@v1"] {
            let Spec::Hub(spec) = Spec::parse(text).unwrap() else { panic!("{text}") };
            assert_eq!(spec.to_string(), text);
        }
    }

    #[test]
    fn nothing_that_could_leave_the_repository_is_a_hub_file() {
        let long = format!("hf:a/{}", "b".repeat(300));
        let bad = [
            "",
            "hf:",
            "hf:a",
            "hf:/b",
            "hf:a/",
            "hf:a/../c.gguf",
            "hf:a/b/../../x.gguf",
            "hf:../b/x.gguf",
            "hf:a/b/c.gguf@..",
            "hf:a/b/c.gguf@",
            "hf:a/b/c d.gguf",
            "hf:a/b/%2e%2e/x.gguf",
            "hf:a/b?x/c.gguf",
            "hf:a/b#x",
            "hf:a/b/x.safetensors",
            "hf:a/b\n/x.gguf",
            "hf:a@b/c",
            "https://example/x.gguf",
            "name with space",
            "-flag",
            "näme",
            &long,
        ];
        for text in bad {
            assert!(matches!(Spec::parse(text), Err(StoreError::BadSpec { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbours() {
        let names = ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "smollm2-135m"];
        assert_eq!(near("qwen2.5-coder-0.5", names.into_iter())[0], "qwen2.5-coder-0.5b");
        assert_eq!(near("smollm", names.into_iter()), ["smollm2-135m"]);
        assert!(near("llama", names.into_iter()).is_empty());
    }
}
