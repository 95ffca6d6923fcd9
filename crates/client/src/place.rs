//! Where this user's small files are: runtime files of running servers, and state that has to survive a restart.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Reads an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// This process' environment.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn set(env: Env<'_>, name: &str) -> Option<PathBuf> {
    env(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// The XDG rules: a relative path in these variables is to be ignored.
fn xdg(env: Env<'_>, name: &str) -> Option<PathBuf> {
    set(env, name).filter(|p| p.is_absolute())
}

/// The folder of running servers: `VONK_HOME/run`, else `vonk` in the user's runtime folder, else below the cache folder.
pub fn run_dir(env: Env<'_>) -> Option<PathBuf> {
    if let Some(home) = set(env, "VONK_HOME") {
        return Some(home.join("run"));
    }
    if let Some(run) = xdg(env, "XDG_RUNTIME_DIR") {
        return Some(run.join("vonk"));
    }
    if let Some(cache) = xdg(env, "XDG_CACHE_HOME") {
        return Some(cache.join("vonk").join("run"));
    }
    if cfg!(windows) {
        return set(env, "LOCALAPPDATA").map(|p| p.join("vonk").join("run"));
    }
    let below_home = if cfg!(target_os = "macos") { "Library/Caches/vonk/run" } else { ".cache/vonk/run" };
    set(env, "HOME").map(|p| p.join(below_home))
}

/// The folder of what must not be lost: `VONK_HOME/state`, else `vonk` in the user's state folder.
pub fn state_dir(env: Env<'_>) -> Option<PathBuf> {
    if let Some(home) = set(env, "VONK_HOME") {
        return Some(home.join("state"));
    }
    if let Some(state) = xdg(env, "XDG_STATE_HOME") {
        return Some(state.join("vonk"));
    }
    if cfg!(windows) {
        return set(env, "LOCALAPPDATA").map(|p| p.join("vonk").join("state"));
    }
    let below_home =
        if cfg!(target_os = "macos") { "Library/Application Support/vonk/state" } else { ".local/state/vonk" };
    set(env, "HOME").map(|p| p.join(below_home))
}

/// Makes a folder that only this user can look into.
///
/// # Errors
/// The system's.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Options that make a file which only this user can read.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a private file whole or not at all, also over a crash.
///
/// # Errors
/// The system's.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let temp = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = private()
        .truncate(true)
        .open(&temp)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temp, path));
    if written.is_err() {
        let _ = fs::remove_file(&temp);
        return written;
    }
    sync_dir(folder)
}

/// Makes a folder's entries (new, renamed, removed) survive a power cut.
///
/// # Errors
/// The system's.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(()); // Folders cannot be opened for this there; the file system's journal does it.
    }
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_folders_follow_the_xdg_rules() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| v.to_string())
        };
        let all = env(&[("VONK_HOME", "/v"), ("XDG_RUNTIME_DIR", "/r"), ("HOME", "/h")]);
        assert_eq!((run_dir(&all), state_dir(&all)), (Some("/v/run".into()), Some("/v/state".into())));
        let xdg = env(&[("XDG_RUNTIME_DIR", "/r"), ("XDG_STATE_HOME", "s"), ("HOME", "/h")]);
        assert_eq!((run_dir(&xdg), state_dir(&xdg)), (Some("/r/vonk".into()), Some("/h/.local/state/vonk".into())));
        let home = env(&[("HOME", "/h")]);
        assert_eq!(run_dir(&home), Some("/h/.cache/vonk/run".into()));
        assert_eq!((run_dir(&env(&[])), state_dir(&env(&[]))), (None, None));
    }
}
