//! Where things lie: the store's folders, the user's configuration, and writing a small file so that it is there whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::Digest;
use crate::error::StoreError;

/// The folders of one store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub root: PathBuf,
    /// Complete, checked files: `sha256-<64 hex>`, read-only.
    pub blobs: PathBuf,
    /// Unfinished files, locks and the package client's scratch folders.
    pub partial: PathBuf,
    /// One record for each name.
    pub names: PathBuf,
}

impl Layout {
    /// Makes the folders where they are missing.
    pub fn create(root: PathBuf) -> Result<Self, StoreError> {
        // Absolute, because records and mapped files must not depend on the working directory.
        let root = std::path::absolute(&root).map_err(StoreError::io("cannot use", &root))?;
        let layout = Self { blobs: root.join("blobs"), partial: root.join("partial"), names: root.join("names"), root };
        for folder in [&layout.blobs, &layout.partial, &layout.names] {
            fs::create_dir_all(folder).map_err(StoreError::io("cannot make the folder", folder))?;
        }
        Ok(layout)
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(format!("sha256-{digest}"))
    }

    pub fn part(&self, digest: &Digest) -> PathBuf {
        self.partial.join(format!("sha256-{digest}.part"))
    }

    pub fn lock(&self, digest: &Digest) -> PathBuf {
        self.partial.join(format!("sha256-{digest}.lock"))
    }
}

/// The store's folder when none is given: `VONK_HOME`, else `vonk` in the user's cache folder.
pub(crate) fn default_root(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(home) = set("VONK_HOME") {
        return Some(home);
    }
    // The XDG rules: a relative path in these variables is to be ignored.
    if let Some(cache) = set("XDG_CACHE_HOME").filter(|p| p.is_absolute()) {
        return Some(cache.join("vonk"));
    }
    if cfg!(windows) {
        return set("LOCALAPPDATA").map(|p| p.join("vonk").join("cache"));
    }
    let below_home = if cfg!(target_os = "macos") { "Library/Caches/vonk" } else { ".cache/vonk" };
    set("HOME").map(|p| p.join(below_home))
}

/// The folder of the user's own `models.toml` and `mirrors.toml`; it need not exist.
pub(crate) fn config_dir(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(home) = set("VONK_HOME") {
        return Some(home.join("config"));
    }
    if let Some(config) = set("XDG_CONFIG_HOME").filter(|p| p.is_absolute()) {
        return Some(config.join("vonk"));
    }
    if cfg!(windows) {
        return set("APPDATA").map(|p| p.join("vonk"));
    }
    let below_home = if cfg!(target_os = "macos") { "Library/Application Support/vonk" } else { ".config/vonk" };
    set("HOME").map(|p| p.join(below_home))
}

/// Where settings, keys and usage lie, which must not go with a cache: `VONK_HOME`, else the configuration folder.
pub(crate) fn settings_dir(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    env("VONK_HOME").filter(|v| !v.is_empty()).map(PathBuf::from).or_else(|| config_dir(env))
}

/// Makes a folder's entries (new, renamed, removed) survive a power cut.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    if cfg!(windows) {
        return Ok(()); // Folders cannot be opened for this there; the file system's journal does it.
    }
    File::open(path).and_then(|dir| dir.sync_all()).map_err(StoreError::io("cannot flush the folder", path))
}

/// A file name that no other process or thread uses now.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Writes `bytes` as `folder/name`: whole or not at all, also over a crash.
pub(crate) fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let temp = folder.join(unique(".tmp"));
    let path = folder.join(name);
    let written = File::create(&temp)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temp, &path));
    if let Err(e) = written {
        let _ = fs::remove_file(&temp);
        return Err(StoreError::io("cannot write", &path)(e));
    }
    sync_dir(folder)
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_if_there(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(StoreError::io("cannot remove", path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| v.to_string())
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_folder_follows_the_xdg_rules() {
        let root = |pairs: &[(&str, &str)]| default_root(&env(pairs));
        assert_eq!(root(&[("VONK_HOME", "/v"), ("HOME", "/h")]), Some("/v".into()));
        assert_eq!(root(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Some("/x/vonk".into()));
        assert_eq!(root(&[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")]), Some("/h/.cache/vonk".into()));
        assert_eq!(root(&[("VONK_HOME", ""), ("HOME", "/h")]), Some("/h/.cache/vonk".into()));
        assert_eq!(root(&[]), None);
        assert_eq!(config_dir(&env(&[("HOME", "/h")])), Some("/h/.config/vonk".into()));
        assert_eq!(settings_dir(&env(&[("VONK_HOME", "/v"), ("HOME", "/h")])), Some("/v".into()));
        assert_eq!(settings_dir(&env(&[("HOME", "/h")])), Some("/h/.config/vonk".into()));
        assert_eq!(config_dir(&env(&[("XDG_CONFIG_HOME", "/c")])), Some("/c/vonk".into()));
    }
}
