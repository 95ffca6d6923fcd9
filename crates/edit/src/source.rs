//! A file as it is before a change: checked, and split into its text and its form (byte-order mark, line ends, the newline at
//! its end, tabs), which no answer of a model may change.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::EditError;
use crate::files;

/// What begins some files of UTF-8.
const BOM: &str = "\u{feff}";

/// A file that may be edited.
#[derive(Clone, Debug)]
pub struct Source {
    /// As it was named.
    pub shown: PathBuf,
    /// Links resolved: what is replaced. The folder exists; the file may not.
    pub path: PathBuf,
    /// `None`: it is to be made.
    pub bytes: Option<Vec<u8>>,
    /// Lines end with `\n`; no byte-order mark.
    pub text: String,
    /// How the text becomes bytes.
    pub form: Form,
}

/// What stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// It begins with a byte-order mark.
    pub has_bom: bool,
    /// Most of its lines end with `\r\n`.
    pub is_crlf: bool,
    /// Its last line has an end.
    pub ends_with_newline: bool,
    /// Lines are indented with tabs, and none with spaces.
    pub is_tabbed: bool,
}

impl Source {
    /// Reads a file, or finds that it can be made. `force` takes files that look like secrets and links that lead elsewhere.
    ///
    /// # Errors
    /// Files that are too long, binary, not UTF-8 or not regular; without `force` also guarded ones.
    pub fn read(shown: &Path, force: bool) -> Result<Self, EditError> {
        let no = |why: &str| EditError::File { path: shown.to_owned(), why: why.to_owned() };
        let guarded = |why: &str| EditError::Guarded { path: shown.to_owned(), why: why.to_owned() };
        let path = resolve(shown)?;
        if !force && leads_out(shown, &path) {
            return Err(guarded(&format!("a link in it leads out of this folder, to {}", path.display())));
        }
        if !force && let Some(why) = secret(shown).or_else(|| secret(&path)) {
            return Err(guarded(why));
        }
        match fs::metadata(&path) {
            Ok(m) if !m.is_file() => return Err(no("it is no regular file")),
            // A rename into its folder would replace it all the same.
            Ok(m) if m.permissions().readonly() && !force => return Err(guarded("it is read-only")),
            _ => {}
        }
        let bytes = files::read(&path)?;
        let raw = bytes.as_deref().unwrap_or_default();
        if raw.contains(&0) {
            return Err(no("it is a binary file"));
        }
        let whole = std::str::from_utf8(raw)
            .map_err(|e| no(&format!("it is not UTF-8 text (byte {}); convert it first", e.valid_up_to())))?;
        if !force && is_private_key(whole) {
            return Err(guarded("it holds a private key"));
        }
        let form = Form::of(whole);
        let text = whole.strip_prefix(BOM).unwrap_or(whole).replace("\r\n", "\n");
        Ok(Self { shown: shown.to_owned(), path, bytes, text, form })
    }

    /// A file as an editor has it, saved or not.
    pub fn open(shown: &Path, text: &str) -> Self {
        let (form, bytes) = (Form::of(text), Some(text.as_bytes().to_owned()));
        let text = text.strip_prefix(BOM).unwrap_or(text).replace("\r\n", "\n");
        Self { shown: shown.to_owned(), path: shown.to_owned(), bytes, text, form }
    }

    /// SHA-256 of its bytes; `None` if there is no file.
    pub fn digest(&self) -> Option<String> {
        self.bytes.as_deref().map(files::digest)
    }

    /// The bytes before the change, as text.
    pub(crate) fn raw(&self) -> &str {
        let whole = self.bytes.as_deref().and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default();
        whole.strip_prefix(BOM).unwrap_or(whole)
    }
}

impl Form {
    fn of(whole: &str) -> Self {
        let text = whole.strip_prefix(BOM).unwrap_or(whole);
        let (crlf, lines) = (text.matches("\r\n").count(), text.matches('\n').count());
        let begins = |c: char| text.lines().filter(|l| l.starts_with(c) && !l.trim().is_empty()).count();
        Self {
            has_bom: whole.starts_with(BOM),
            is_crlf: crlf * 2 > lines,
            ends_with_newline: text.is_empty() || text.ends_with('\n'),
            is_tabbed: begins('\t') > 0 && begins(' ') == 0,
        }
    }

    /// What ends a line.
    pub(crate) fn newline(&self) -> &'static str {
        if self.is_crlf { "\r\n" } else { "\n" }
    }

    pub(crate) fn bom(&self) -> &'static str {
        if self.has_bom { BOM } else { "" }
    }
}

/// The path behind every link; of a file that is to be made, its folder's.
fn resolve(shown: &Path) -> Result<PathBuf, EditError> {
    let real = |path: &Path| fs::canonicalize(path).map_err(EditError::io("cannot find", path));
    let is_link = fs::symlink_metadata(shown).is_ok();
    match (is_link, shown.file_name()) {
        (false, Some(name)) => {
            let folder = shown.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Ok(real(folder)?.join(name))
        }
        _ => real(shown), // a link to nothing is an error
    }
}

/// Whether links took us out of the working folder although the name did not say so.
fn leads_out(shown: &Path, real: &Path) -> bool {
    let Ok(here) = std::env::current_dir() else { return false };
    let Ok(real_here) = fs::canonicalize(&here) else { return false };
    let (named, mut depth) = (here.join(shown), 0usize);
    // `a/../../b` leaves by name; only links may not.
    let leaves_by_name = match named.strip_prefix(&here) {
        Err(_) => true,
        Ok(below) => below.components().any(|c| match c {
            Component::ParentDir if depth == 0 => true,
            Component::ParentDir => {
                depth -= 1;
                false
            }
            Component::Normal(_) => {
                depth += 1;
                false
            }
            _ => false,
        }),
    };
    !leaves_by_name && !real.starts_with(real_here)
}

/// Why a file of this name should not reach a model.
pub fn secret(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let is_sample = [".example", ".sample", ".template", ".dist"].iter().any(|e| name.ends_with(e));
    let is_env = (name == ".env" || name.starts_with(".env.") || name.ends_with(".env")) && !is_sample;
    let ends = [".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".ppk"];
    let begins = ["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"];
    let whole = [".netrc", "_netrc", ".pypirc", ".npmrc", ".git-credentials", ".htpasswd", "credentials", ".pgpass"];
    let is_key = (ends.iter().any(|e| name.ends_with(e)) || begins.iter().any(|b| name.starts_with(b)))
        && !name.ends_with(".pub");
    if is_env || is_key || whole.contains(&name.as_str()) {
        return Some("its name is that of a file with secrets");
    }
    let is_git = path.components().any(|c| c.as_os_str() == ".git");
    is_git.then_some("it belongs to git itself, which runs what stands in some of its files")
}

fn is_private_key(text: &str) -> bool {
    text.lines().any(|l| l.starts_with("-----BEGIN ") && l.trim_end().ends_with("PRIVATE KEY-----"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name_and_their_like_are_not() {
        for name in [".env", ".env.local", "prod.env", "a/id_rsa", "x.PEM", "tls.key", ".netrc", "a/.git/config"] {
            assert!(secret(Path::new(name)).is_some(), "{name}");
        }
        for name in [".env.example", "env.py", "keys.rs", "id_rsa.pub", "monkey.c", ".gitignore", "environment.ts"] {
            assert!(secret(Path::new(name)).is_none(), "{name}");
        }
        assert!(is_private_key("x\n-----BEGIN RSA PRIVATE KEY-----\n") && !is_private_key("// PRIVATE KEY-----"));
    }

    #[test]
    fn a_read_only_file_is_guarded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.rs");
        fs::write(&path, "x\n").unwrap();
        let mut rights = fs::metadata(&path).unwrap().permissions();
        rights.set_readonly(true);
        fs::set_permissions(&path, rights).unwrap();
        let why = Source::read(&path, false).unwrap_err();
        assert!(matches!(&why, EditError::Guarded { .. }) && why.to_string().contains("read-only"), "{why}");
        assert!(Source::read(&path, true).is_ok());
    }

    #[test]
    fn the_form_is_seen() {
        let form = |text: &str| Form::of(text);
        assert!(form("a\r\nb\r\nc\n").is_crlf);
        assert_eq!(
            (form("\u{feff}a").has_bom, form("a").ends_with_newline, form("").ends_with_newline),
            (true, false, true)
        );
        assert!(form("a\n\tb\n").is_tabbed && !form("a\n\tb\n  c\n").is_tabbed && !form("a\n").is_tabbed);
    }
}
