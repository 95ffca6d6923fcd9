//! Installs a configuration file: read, joined, backed up, and replaced whole or not at all.

use super::{ConfigFile, Content, merge};
use crate::fault::Fault;
use base::limits;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Installed {
    /// It said this already.
    Unchanged,
    /// It was not there.
    Created,
    /// Its former self is here.
    Changed(PathBuf),
}

/// A file that can be written.
#[derive(Debug)]
pub struct Plan {
    /// Behind all links: a link stays a link.
    path: PathBuf,
    before: Option<String>,
    after: String,
}

/// Joins what a file shall hold with what it holds.
///
/// # Errors
/// It cannot be read, or joined; then it says what to add by hand.
pub fn plan(file: &ConfigFile) -> Result<Plan, Fault> {
    let path = fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone());
    let before = read(&path)?;
    let joined = match (&before, &file.content) {
        (None, content) => content.shown(),
        (Some(_), Content::Own(text)) => Ok(text.clone()),
        (Some(old), _) if old.trim().is_empty() => file.content.shown(),
        (Some(old), Content::Toml(doc)) => merge::toml(old, doc).map_err(Fault::input),
        (Some(old), Content::Json(value)) => merge::json(old, value).map_err(Fault::input),
        (Some(old), Content::Text(text)) if old == text => Ok(text.clone()),
        (Some(_), Content::Text(_)) => Err(Fault::input("it exists, and vonk does not change files of this kind")),
    };
    let after = joined.map_err(|why| {
        let shown = file.content.shown().unwrap_or_default();
        let path = path.display();
        Fault::input(format!("{path} was left alone: {}.\nAdd this to it:\n\n{shown}", why.message))
    })?;
    Ok(Plan { path, before, after })
}

fn read(path: &Path) -> Result<Option<String>, Fault> {
    let cannot = |why: &dyn std::fmt::Display| Fault::input(format!("cannot read {}: {why}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(cannot(&e)),
    };
    let mut text = String::new();
    file.take(limits::CLIENT_CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| cannot(&e))?;
    if text.len() as u64 > limits::CLIENT_CONFIG_BYTES_MAX {
        return Err(cannot(&format!("it has more than {} bytes", limits::CLIENT_CONFIG_BYTES_MAX)));
    }
    Ok(Some(text))
}

/// Writes the file; what was there is kept beside it.
///
/// # Errors
/// The system's, with the file's name. Then the file is as it was.
pub fn apply(plan: Plan) -> Result<Installed, Fault> {
    let Plan { path, before, after } = plan;
    let cannot = |e: io::Error| Fault::failed(format!("cannot write {}: {e}", path.display()));
    if before.as_ref() == Some(&after) {
        return Ok(Installed::Unchanged);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(cannot)?;
    }
    let backup = before.map(|text| back_up(&path, &text)).transpose().map_err(cannot)?;
    replace(&path, after.as_bytes()).map_err(cannot)?;
    Ok(backup.map_or(Installed::Created, Installed::Changed))
}

/// `FILE.vonk-backup-N` with the first number that is free.
fn back_up(path: &Path, text: &str) -> io::Result<PathBuf> {
    for n in 1..=limits::CLIENT_BACKUPS_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".vonk-backup-{n}"));
        match create(Path::new(&name), path, text.as_bytes()) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| name.into()),
        }
    }
    Err(io::Error::other(format!("there are {} backups already; remove some", limits::CLIENT_BACKUPS_MAX)))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".vonk-{}.tmp", std::process::id()));
    let temp = Path::new(&name);
    let written = create(temp, path, bytes).and_then(|()| fs::rename(temp, path));
    if written.is_err() {
        let _ = fs::remove_file(temp);
    }
    written
}

/// A new file with these bytes, on the disk, that whoever could read `like` can read; only this user if there is none.
fn create(path: &Path, like: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    if let Ok(metadata) = fs::metadata(like) {
        file.set_permissions(metadata.permissions())?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn install(file: &ConfigFile) -> Result<Installed, Fault> {
        apply(plan(file)?)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut all: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }

    #[test]
    fn what_was_there_is_kept_and_the_second_time_nothing_happens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("settings.json");
        let file = |value| ConfigFile { path: path.clone(), content: Content::Json(value) };
        assert_eq!(install(&file(json!({"a": 1}))).unwrap(), Installed::Created);
        assert_eq!(install(&file(json!({"a": 1}))).unwrap(), Installed::Unchanged);
        let Installed::Changed(first) = install(&file(json!({"b": 2}))).unwrap() else { panic!() };
        let Installed::Changed(second) = install(&file(json!({"a": 3}))).unwrap() else { panic!() };
        assert!(first.ends_with("settings.json.vonk-backup-1") && second.ends_with("settings.json.vonk-backup-2"));
        let read = |p: &Path| serde_json::from_str::<serde_json::Value>(&fs::read_to_string(p).unwrap()).unwrap();
        assert_eq!((read(&first), read(&second)), (json!({"a": 1}), json!({"a": 1, "b": 2})));
        assert_eq!(read(&path), json!({"a": 3, "b": 2}));
        assert_eq!(names(path.parent().unwrap()).len(), 3, "nothing else is left");
    }

    #[test]
    fn what_cannot_be_joined_is_left_alone_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, "mine: 1\n").unwrap();
        let text = |text: &str| ConfigFile { path: path.clone(), content: Content::Text(text.into()) };
        let fault = install(&text("theirs: 2\n")).unwrap_err();
        assert!(fault.message.contains("left alone") && fault.message.ends_with("theirs: 2\n"), "{}", fault.message);
        assert_eq!(install(&text("mine: 1\n")).unwrap(), Installed::Unchanged);
        let commented = ConfigFile { path: path.clone(), content: Content::Json(json!({"a": 1})) };
        fs::write(&path, "// mine\n{}\n").unwrap();
        assert!(install(&commented).unwrap_err().message.contains("\"a\": 1"));
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), ("// mine\n{}\n", 1));
        let own = ConfigFile { path: path.clone(), content: Content::Own("ours\n".into()) };
        assert!(matches!(install(&own).unwrap(), Installed::Changed(_)));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
        fs::write(&real, "{}").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let file = ConfigFile { path: link.clone(), content: Content::Json(json!({"a": 1})) };
        let Installed::Changed(backup) = install(&file).unwrap() else { panic!() };
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        for path in [&real, &backup] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640, "{}", path.display());
        }
        assert!(fs::read_to_string(&real).unwrap().contains("\"a\": 1"));
    }
}
