//! What can go wrong with model files, each error with what happened, where, and what to do next.

use std::path::{Path, PathBuf};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A model was named in a way that no rule understands.
    #[error("`{spec}` names no model: {why}. Write NAME, hf:OWNER/REPO[/FILE][@REVISION], or the PATH of a .gguf file")]
    BadSpec {
        /// What was asked for.
        spec: String,
        /// The rule that it breaks.
        why: String,
    },
    /// No catalogue entry, no record and no file goes by this name.
    #[error("no model and no file is called `{name}`{}. `vonk models` lists the models; `vonk pull NAME` fetches one", did_you_mean(.near))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Names that are spelt alike, best first.
        near: Vec<String>,
    },
    /// The catalogue knows the model, but its file is not here.
    #[error("model `{name}` is not on this machine yet. Fetch it with: vonk pull {name}")]
    NotPulled {
        /// The model's name.
        name: String,
    },
    /// The operating system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb: `cannot write`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not enough room for the file.
    #[error(
        "not enough disk space in {}: {need} bytes are needed and {spare} more are kept free, but only {free} are free. \
         Free some space, or choose another disk with VONK_HOME",
        path.display()
    )]
    DiskShort {
        /// The folder that would hold the file.
        path: PathBuf,
        /// Bytes still to be written.
        need: u64,
        /// Bytes free now.
        free: u64,
        /// Bytes that a pull leaves free (`DISK_SPARE_BYTES`).
        spare: u64,
    },
    /// A file's content is not what its digest promises.
    #[error("{what} is damaged: its sha256 is {got}, not {want}. Fetch it again: vonk rm it, then vonk pull it")]
    Digest {
        /// The file.
        what: String,
        /// The pinned digest.
        want: String,
        /// The digest of the bytes that are there.
        got: String,
    },
    /// Every source was tried, and none gave the file.
    #[error("could not fetch `{name}`:{}\n{advice}", each_tried(.tried))]
    AllSourcesFailed {
        /// The model's name.
        name: String,
        /// Each source and why it failed, in order.
        tried: Vec<Tried>,
        /// What to do next.
        advice: String,
    },
    /// The file is no model file.
    #[error("{} is not a model file: {why}", path.display())]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A catalogue or mirror file cannot be used.
    #[error("{file}: {why}")]
    Catalogue {
        /// The file.
        file: String,
        /// What is wrong, with the entry's name or the line.
        why: String,
    },
    /// Another process writes the same snapshot of KV pages.
    #[error("{} is being written by another process; nothing was saved", path.display())]
    KvBusy {
        /// The snapshot.
        path: PathBuf,
    },
    /// A page was offered that a snapshot of KV pages cannot hold: a mistake of the program, not of the disk.
    #[error("a KV page cannot be saved: {why}")]
    KvMisuse {
        /// The rule that it breaks.
        why: &'static str,
    },
    /// There is no folder to keep models in.
    #[error("no folder for models: neither VONK_HOME nor HOME is set. Set VONK_HOME to a folder with room for them")]
    NoHome,
    /// The file was read, but does not describe a model that can be run.
    #[error("{}: {source}", path.display())]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// What the parser said, with the byte offset or the field.
        source: formats::FormatError,
    },
}

impl StoreError {
    /// The fault is in what was asked for (exit code 2), not in this machine or the network (exit code 1).
    pub fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::BadSpec { .. }
                | Self::Unknown { .. }
                | Self::NotAModel { .. }
                | Self::Catalogue { .. }
                | Self::Format { .. }
        )
    }

    /// Wraps an operating-system error; for `map_err`.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { doing, path: path.to_path_buf(), source }
    }
}

/// One source that did not give the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The source, as a person would name it.
    pub source: String,
    /// Why it failed.
    pub why: String,
}

fn did_you_mean(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

fn each_tried(list: &[Tried]) -> String {
    list.iter().map(|t| format!("\n  - {}: {}", t.source, t.why)).collect()
}

/// Text from outside, safe for a terminal: no control characters, no direction marks, at most `max` characters.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let is_shown = |c: &char| {
        let c = *c;
        c == ' '
            || (!c.is_control() && !c.is_whitespace() && !('\u{200b}'..='\u{206f}').contains(&c) && c != '\u{feff}')
    };
    let mut out: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(is_shown).collect();
    if let Some((cut, _)) = out.char_indices().nth(max) {
        out.truncate(cut);
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b]52;c;x\x07b\r\nc\u{202e}d", 100), "a]52;c;xb  cd");
        assert_eq!(printable("abcdef", 3), "abc…");
    }

    #[test]
    fn the_error_for_all_sources_lists_each_and_says_what_to_do() {
        let e = StoreError::AllSourcesFailed {
            name: "m".into(),
            tried: vec![
                Tried { source: "hub".into(), why: "no route".into() },
                Tried { source: "mirror".into(), why: "no pip".into() },
            ],
            advice: "put it here".into(),
        };
        assert_eq!(e.to_string(), "could not fetch `m`:\n  - hub: no route\n  - mirror: no pip\nput it here");
        assert!(!e.is_bad_input());
    }
}
