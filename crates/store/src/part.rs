//! An unfinished file: bytes are appended and hashed as they come, never more than were declared, and what an interrupted
//! pull left is read again and continued. It becomes a blob by being flushed, made read-only and renamed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::error::StoreError;
use crate::paths::{remove_if_there, sync_dir};

/// Called before each write with the number of the write, counted from 1; an error stands for the disk's.
pub(crate) type WriteFault = Box<dyn FnMut(u64) -> std::io::Result<()>>;

/// Why bytes could not be appended.
pub(crate) enum AppendError {
    /// They are more than the file may have.
    TooMany,
    /// The disk refused.
    Disk(StoreError),
}

/// An open `.part` file.
pub(crate) struct Part {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    len: u64,
    bytes: u64,
    writes: u64,
    fault: Option<WriteFault>,
}

/// A place to come back to.
pub(crate) struct Mark {
    hasher: Sha256,
    len: u64,
}

impl Part {
    /// Opens or makes the part of a file of `bytes` bytes, and reads what is already there. A longer one starts again.
    pub fn open(path: PathBuf, bytes: u64) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(StoreError::io("cannot open", &path))?;
        let mut part = Self { path, file, hasher: Sha256::new(), len: 0, bytes, writes: 0, fault: None };
        let found = part.file.metadata().map_err(StoreError::io("cannot look at", &part.path))?.len();
        if found > bytes {
            part.restart()?;
        } else {
            part.read_again()?;
        }
        Ok(part)
    }

    /// Tells other processes that somebody works on this file.
    pub fn hold(&self) -> Result<(), StoreError> {
        self.file.lock().map_err(StoreError::io("cannot lock", &self.path))
    }

    /// For tests: makes the n-th write fail.
    pub fn set_fault(&mut self, fault: Option<WriteFault>) {
        self.fault = fault;
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that the whole file has.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes still missing.
    pub fn remaining(&self) -> u64 {
        self.bytes.saturating_sub(self.len)
    }

    /// The digest of the bytes so far.
    pub fn digest(&self) -> Digest {
        Digest::finish(self.hasher.clone())
    }

    /// Appends; the length never passes the declared one.
    pub fn append(&mut self, data: &[u8]) -> Result<(), AppendError> {
        if data.len() as u64 > self.remaining() {
            return Err(AppendError::TooMany);
        }
        self.writes = self.writes.saturating_add(1);
        let writes = self.writes;
        let allowed = self.fault.as_mut().map_or(Ok(()), |fault| fault(writes));
        if let Err(e) = allowed.and_then(|()| self.file.write_all(data)) {
            // Part of `data` may be in the file: only what was hashed counts.
            let _ = self.file.set_len(self.len);
            return Err(AppendError::Disk(StoreError::io("cannot write", &self.path)(e)));
        }
        self.hasher.update(data);
        self.len = self.len.saturating_add(data.len() as u64);
        Ok(())
    }

    /// The state now, to come back to.
    pub fn mark(&self) -> Mark {
        Mark { hasher: self.hasher.clone(), len: self.len }
    }

    /// Forgets what was appended since `mark`.
    pub fn back_to(&mut self, mark: Mark) -> Result<(), StoreError> {
        self.cut(mark.len)?;
        self.hasher = mark.hasher;
        Ok(())
    }

    /// Forgets everything.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.cut(0)?;
        self.hasher = Sha256::new();
        Ok(())
    }

    fn cut(&mut self, len: u64) -> Result<(), StoreError> {
        let cut = self.file.set_len(len).and_then(|()| self.file.seek(SeekFrom::Start(len)));
        cut.map_err(StoreError::io("cannot shorten", &self.path))?;
        self.len = len;
        Ok(())
    }

    /// Hashes the file from its start; leaves the cursor at its end.
    fn read_again(&mut self) -> Result<(), StoreError> {
        let mut buffer = vec![0u8; 1 << 20];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    self.hasher.update(&buffer[..n]);
                    self.len = self.len.saturating_add(n as u64);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(StoreError::io("cannot read", &self.path)(e)),
            }
        }
    }

    /// Makes the part the file `blob`: on the disk, read-only, under its name, in this order.
    pub fn install(self, blob: &Path) -> Result<(), StoreError> {
        let doing = StoreError::io("cannot finish", &self.path);
        let mut permissions = match self.file.metadata() {
            Ok(m) => m.permissions(),
            Err(e) => return Err(doing(e)),
        };
        #[cfg(unix)]
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o444);
        #[cfg(not(unix))]
        permissions.set_readonly(true);
        let finished = self
            .file
            .set_permissions(permissions)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| std::fs::rename(&self.path, blob));
        finished.map_err(doing)?;
        blob.parent().map_or(Ok(()), sync_dir)
    }

    /// Removes the part.
    pub fn discard(self) -> Result<(), StoreError> {
        remove_if_there(&self.path).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("x.part")
    }

    #[test]
    fn never_longer_than_declared() {
        let dir = tempfile::tempdir().unwrap();
        let mut part = Part::open(at(&dir), 5).unwrap();
        assert!(part.append(b"abc").is_ok());
        assert!(matches!(part.append(b"def"), Err(AppendError::TooMany)));
        assert_eq!(std::fs::read(at(&dir)).unwrap(), b"abc");
        drop(part);
        assert_eq!(Part::open(at(&dir), 2).unwrap().len(), 0, "a part that is too long starts again");
    }

    #[test]
    fn continues_and_goes_back_with_the_right_digest() {
        let dir = tempfile::tempdir().unwrap();
        let mut part = Part::open(at(&dir), 6).unwrap();
        assert!(part.append(b"abc").is_ok());
        drop(part);
        let mut part = Part::open(at(&dir), 6).unwrap();
        assert_eq!((part.len(), part.digest()), (3, Digest::of(b"abc")));
        let mark = part.mark();
        assert!(part.append(b"xx").is_ok());
        part.back_to(mark).unwrap();
        assert!(part.append(b"def").is_ok());
        assert_eq!((part.remaining(), part.digest()), (0, Digest::of(b"abcdef")));
        let blob = dir.path().join("blob");
        part.install(&blob).unwrap();
        assert_eq!(std::fs::read(&blob).unwrap(), b"abcdef");
        assert!(blob.metadata().unwrap().permissions().readonly());
        assert!(!at(&dir).exists());
    }

    #[test]
    #[cfg(unix)]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, at(&dir)).unwrap();
        assert!(Part::open(at(&dir), 1).is_err());
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    }
}
