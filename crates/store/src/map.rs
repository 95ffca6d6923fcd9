//! Model files as memory. The only file of this crate with `unsafe`: the memory map, and the question how full the disk is.
//!
//! A map is `&[u8]` that another process may change. In the store that is ruled out as far as a file system allows it:
//! blobs are complete, checked and read-only, and are replaced only by renaming. For other paths the file's identity is
//! remembered, and `changed` tells when it is no longer the file that was opened.

use std::fs::{File, Metadata, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;

use crate::error::StoreError;

/// When a page is read Linux maps those around it too: a window of this size, or a whole large folio of the page cache.
const FAULT_AROUND: usize = 64 << 10;
/// Bytes of the largest folio.
const FOLIO: usize = 2 << 20;

/// A model file, mapped for reading.
pub struct ModelFile {
    path: PathBuf,
    file: File,
    identity: Identity,
    /// None for an empty file, which cannot be mapped.
    map: Option<Mmap>,
}

/// What happened to a file since it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing is under its path any more. The opened file itself is still whole.
    Gone,
    /// Another file is under its path. The opened file itself is still whole.
    Replaced,
    /// It has another length than when it was opened: reading it may end the process.
    Resized {
        /// Bytes when it was opened.
        from: u64,
        /// Bytes now.
        to: u64,
    },
    /// It was written to: answers may be wrong.
    Written,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    /// Device and inode, where the system has them.
    place: Option<(u64, u64)>,
    len: u64,
    modified: Option<SystemTime>,
}

impl Identity {
    fn of(meta: &Metadata) -> Self {
        #[cfg(unix)]
        let place = {
            use std::os::unix::fs::MetadataExt;
            Some((meta.dev(), meta.ino()))
        };
        #[cfg(not(unix))]
        let place = None;
        Self { place, len: meta.len(), modified: meta.modified().ok() }
    }
}

impl ModelFile {
    /// Maps a regular file for reading. Its pages are read from disk when they are first used.
    ///
    /// # Errors
    /// The file is missing, is a folder or a device, or cannot be mapped.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true);
        // A named pipe would make the open itself wait for ever.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
        let file = options.open(path).map_err(StoreError::io("cannot open", path))?;
        let meta = file.metadata().map_err(StoreError::io("cannot look at", path))?;
        if !meta.is_file() {
            let why = if meta.is_dir() { "it is a folder" } else { "it is not a regular file" };
            return Err(StoreError::NotAModel { path: path.to_path_buf(), why: why.into() });
        }
        let map = if meta.len() == 0 {
            None
        } else {
            // SAFETY: `is_file` above; the map is read-only and lives as long as this value. Blobs of the store are complete
            // and read-only before they have a name; for other files `changed` reports truncation and writes, and the
            // parsers check every extent against the length of this very map.
            Some(unsafe { Mmap::map(&file) }.map_err(StoreError::io("cannot map", path))?)
        };
        Ok(Self { path: path.to_path_buf(), file, identity: Identity::of(&meta), map })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// Lets go of the memory behind `at..at + len` bytes, which were read and are not needed soon, and of the neighbours that
    /// came in with them: more of those before, as those behind are mostly still to be read. Reading them again is allowed and
    /// costs the disk; ranges outside of the file are ignored.
    pub fn release(&self, at: u64, len: u64) {
        let (Some(map), Ok(at), Ok(len)) = (&self.map, usize::try_from(at), usize::try_from(len)) else { return };
        let Some(end) = at.checked_add(len).filter(|end| *end <= map.len()) else { return };
        // In addresses: a map may begin anywhere in a folio.
        let base = map.as_ptr().addr();
        let start = ((base + at) / FOLIO * FOLIO).max(base) - base;
        let end = ((base + end).next_multiple_of(FAULT_AROUND) - base).min(map.len());
        #[cfg(target_os = "linux")]
        // SAFETY: the map is read-only and backed by the file, so dropped pages come back with the same bytes; both ends are
        // within the map's length.
        let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
        #[cfg(not(target_os = "linux"))]
        let _ = (start, end);
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is still the one that was opened. Two system calls; meant to be asked now and then while serving.
    pub fn changed(&self) -> Option<Change> {
        if let Ok(meta) = self.file.metadata() {
            let now = Identity::of(&meta);
            if now.len != self.identity.len {
                return Some(Change::Resized { from: self.identity.len, to: now.len });
            }
            if now.modified != self.identity.modified {
                return Some(Change::Written);
            }
        }
        match std::fs::metadata(&self.path) {
            Err(_) => Some(Change::Gone),
            Ok(meta) => (Identity::of(&meta) != self.identity).then_some(Change::Replaced),
        }
    }
}

/// Bytes that this user may still write on the disk of `path`; none where the system does not tell.
#[cfg(unix)]
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` ends with a zero byte (CString), and `stat` has room for the structure that the call writes.
    let rc = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
    if rc != 0 {
        return None;
    }
    // SAFETY: all bytes were zeroed, a valid value of this structure of integers, before the call filled it.
    let stat = unsafe { stat.assume_init() };
    // The fields are 32 bits wide on some systems.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    let bytes = (stat.f_bavail as u64).checked_mul(stat.f_frsize as u64);
    bytes
}

/// Bytes that this user may still write on the disk of `path`; none where the system does not tell.
#[cfg(not(unix))]
pub(crate) fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    #[test]
    fn a_file_is_its_bytes_and_an_empty_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"GGUF").unwrap();
        let file = ModelFile::open(&path).unwrap();
        assert_eq!((file.bytes(), file.changed()), (&b"GGUF"[..], None));
        std::fs::write(dir.path().join("e"), b"").unwrap();
        assert_eq!(ModelFile::open(&dir.path().join("e")).unwrap().bytes(), b"");
    }

    #[test]
    fn released_bytes_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes: Vec<u8> = (0..300_001u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = ModelFile::open(&path).unwrap();
        for (at, len) in [(0, 0), (0, 1), (5, 70_000), (200_000, 100_001), (300_001, 0), (300_001, 1), (u64::MAX, 2)] {
            file.release(at, len);
            assert_eq!(file.bytes(), bytes);
        }
    }

    #[test]
    fn folders_missing_files_and_pipes_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ModelFile::open(dir.path()).is_err());
        assert!(ModelFile::open(&dir.path().join("none")).is_err());
        #[cfg(unix)]
        {
            let pipe = dir.path().join("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            assert!(matches!(ModelFile::open(&pipe), Err(StoreError::NotAModel { .. })));
        }
    }

    #[test]
    fn each_change_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let open = || {
            std::fs::write(&path, b"0123").unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
            (ModelFile::open(&path).unwrap(), file)
        };
        let (file, writer) = open();
        writer.set_len(2).unwrap();
        assert_eq!(file.changed(), Some(Change::Resized { from: 4, to: 2 }));
        let (file, mut writer) = open();
        writer.write_all(b"x").unwrap();
        assert_eq!(file.changed(), Some(Change::Written));
        let (file, _) = open();
        std::fs::write(dir.path().join("g"), b"0123").unwrap();
        std::fs::rename(dir.path().join("g"), &path).unwrap();
        assert_eq!((file.changed(), file.bytes()), (Some(Change::Replaced), &b"0123"[..]));
        let (file, _) = open();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((file.changed(), file.bytes()), (Some(Change::Gone), &b"0123"[..]));
    }

    #[test]
    #[cfg(unix)]
    fn the_disk_has_some_room() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).is_some_and(|n| n > 0));
        assert_eq!(free_bytes(&dir.path().join("none")), None);
    }
}
