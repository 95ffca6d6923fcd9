//! Pages of keys and values on disk, so that a restart keeps what was computed: whole snapshots, each written beside the
//! last one and put into its place when it is complete. What a snapshot means (which model, which layout) is the caller's
//! fingerprint; nothing here knows a model. docs/kv-cache-on-disk.md draws the format and says what survives what.
//!
//! A cache may always be lost and never be wrong: every record is checked before it is shown. SHA-256, because the store has
//! it already and no accident passes it; with the processor's own instructions it is faster than most disks. It keeps out
//! accidents, not people: whoever can write this folder as this user can do worse.

mod format;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use base::limits::{DISK_SPARE_BYTES, KV_FILE_BYTES_MAX, KV_FILES_MAX, KV_LOCK_MS_MAX};

use crate::error::StoreError;
use crate::map::free_bytes;
use crate::paths::{remove_if_there, sync_dir, unique};
use format::{Encoder, Form};
pub use format::{KvRead, KvRecord};

/// Bounds of one file of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLimits {
    /// Bytes of a snapshot. While it is written, the last one is there too.
    pub file_bytes_max: u64,
    /// Bytes that stay free on the disk.
    pub spare_bytes: u64,
}

impl Default for KvLimits {
    fn default() -> Self {
        Self { file_bytes_max: KV_FILE_BYTES_MAX, spare_bytes: DISK_SPARE_BYTES }
    }
}

/// What the writer is about to do; a test may look, or refuse in the disk's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Write,
    Sync,
    Rename,
    SyncDir,
}

type Watch = Box<dyn Fn(Step, &Path) -> io::Result<()> + Send + Sync>;

/// The snapshot of one fingerprint. Several processes may use one folder: they read at any time, and write one at a time.
pub struct KvFile {
    dir: PathBuf,
    /// Of the snapshot, its lock and its unfinished successors; they differ in their endings.
    name: String,
    form: Form,
    limits: KvLimits,
    watch: Option<Watch>,
}

impl KvFile {
    /// The snapshot in `dir` for `fingerprint`, which names all that a page's bytes depend on: model, numeric mode, layout.
    /// It need not exist. Makes the folder (for this user only), and removes what killed writers left.
    ///
    /// # Errors
    /// `KvMisuse` for a size out of bounds; the folder cannot be made.
    pub fn open(
        dir: &Path,
        fingerprint: &str,
        page_len: usize,
        page_bytes: usize,
        limits: KvLimits,
    ) -> Result<Self, StoreError> {
        let form = Form::new(fingerprint, page_len, page_bytes)
            .ok_or(StoreError::KvMisuse { why: "a page's size is out of bounds" })?;
        make_private(dir).map_err(StoreError::io("cannot make the folder", dir))?;
        let hex: String = form.fingerprint()[..16].iter().map(|b| format!("{b:02x}")).collect();
        let file = Self { dir: dir.to_path_buf(), name: format!("kv-{hex}"), form, limits, watch: None };
        if let Some(_lock) = file.try_lock()? {
            file.clear_abandoned()?;
        }
        Ok(file)
    }

    /// Where the snapshot is, or will be.
    pub fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.pages", self.name))
    }

    /// Shows each sound record with its number: parents before children, as they were pushed. `Break` ends it. Takes the
    /// memory of one record. No snapshot is an empty one.
    ///
    /// # Errors
    /// The file cannot be opened or read on; what was shown before is sound.
    pub fn read(&self, mut each: impl FnMut(u32, KvRecord<'_>) -> ControlFlow<()>) -> Result<KvRead, StoreError> {
        let path = self.path();
        let mut options = OpenOptions::new();
        // A link is not followed, and a named pipe not waited for.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = match options.read(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(KvRead::default()),
            opened => opened.map_err(StoreError::io("cannot open", &path))?,
        };
        let meta = file.metadata().map_err(StoreError::io("cannot look at", &path))?;
        if !meta.is_file() {
            return Ok(KvRead { refused: Some("it is not a regular file"), ..KvRead::default() });
        }
        format::read(&self.form, file.take(meta.len()), &mut each).map_err(StoreError::io("cannot read", &path))
    }

    /// Begins a new snapshot beside the last one, which stays until `commit`.
    ///
    /// # Errors
    /// `KvBusy` while somebody else writes it; the disk is full or refuses.
    pub fn begin(&self) -> Result<KvWriter<'_>, StoreError> {
        let Some(lock) = self.try_lock()? else { return Err(StoreError::KvBusy { path: self.path() }) };
        self.clear_abandoned()?;
        let (header, encoder) = Encoder::new(&self.form, new_id());
        let temp = self.dir.join(unique(&format!("{}.tmp", self.name)));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let created = self.watch(Step::Create, &temp).and_then(|()| options.open(&temp));
        let file = created.map_err(StoreError::io("cannot make", &temp))?;
        let buffer = Vec::with_capacity(self.form.record_bytes());
        let (bytes, is_whole) = (0, true);
        let mut writer = KvWriter { of: self, _lock: lock, temp, file, encoder, buffer, bytes, is_whole };
        writer.write(&header)?;
        Ok(writer)
    }

    fn watch(&self, step: Step, path: &Path) -> io::Result<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch(step, path))
    }

    /// The right to write; `None` while somebody else has it.
    fn try_lock(&self) -> Result<Option<File>, StoreError> {
        let path = self.dir.join(format!("{}.lock", self.name));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(StoreError::io("cannot open the lock", &path))?;
        let until = Instant::now() + Duration::from_millis(KV_LOCK_MS_MAX);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                // A process that this one is starting just now has a copy of every open file, for a moment: of locks too.
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(StoreError::io("cannot lock", &path)(e)),
            }
        }
    }

    /// Removes unfinished snapshots. The lock is held, so nobody works on one.
    fn clear_abandoned(&self) -> Result<(), StoreError> {
        let begins = format!("{}.tmp-", self.name);
        for entry in fs::read_dir(&self.dir).map_err(StoreError::io("cannot list", &self.dir))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&begins) {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Keeps the newest snapshots: a changed model or setting leaves the old fingerprint's file behind. Best effort.
    fn prune(&self) {
        let mut others: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_other = name.starts_with("kv-") && name.ends_with(".pages") && entry.path() != self.path();
            if let Some(at) = entry.metadata().and_then(|m| m.modified()).ok().filter(|_| is_other) {
                others.push((at, entry.path()));
            }
        }
        others.sort();
        let n_old = (others.len() + 1).saturating_sub(KV_FILES_MAX);
        others[..n_old].iter().for_each(|(_, path)| drop(fs::remove_file(path)));
    }
}

/// A snapshot being written. Dropped without `commit`, it leaves nothing behind.
pub struct KvWriter<'a> {
    of: &'a KvFile,
    _lock: File,
    temp: PathBuf,
    file: File,
    encoder: Encoder,
    /// One record's bytes.
    buffer: Vec<u8>,
    /// Written so far.
    bytes: u64,
    /// Nothing failed.
    is_whole: bool,
}

impl KvWriter<'_> {
    /// Appends a page and returns its number, for the `parent` of its children. `None` when the file has reached its bound:
    /// whoever pushes the best pages first has them in it.
    ///
    /// # Errors
    /// `KvMisuse` for a page that has no place here: nothing was written, and others may follow. A full disk: the new
    /// snapshot is gone, its room is given back, and the last one is as it was.
    pub fn push(&mut self, record: &KvRecord<'_>) -> Result<Option<u32>, StoreError> {
        let need = self.of.form.record_bytes() as u64;
        if self.bytes.saturating_add(need) > self.of.limits.file_bytes_max || self.encoder.is_full() {
            return Ok(None);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let encoded = self.encoder.encode(record, &mut buffer).map_err(|why| StoreError::KvMisuse { why });
        let written = encoded.and_then(|number| self.write(&buffer).map(|()| Some(number)));
        self.buffer = buffer;
        written
    }

    /// Puts the snapshot into its place: on the disk first, then under its name.
    ///
    /// # Errors
    /// As `push`. If only the last step fails, to flush the folder, the new snapshot is in its place and whole, but a power
    /// cut may bring back the last one.
    pub fn commit(mut self) -> Result<KvWritten, StoreError> {
        self.check_whole()?;
        let (of, to) = (self.of, self.of.path());
        let moved = of
            .watch(Step::Sync, &self.temp)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| of.watch(Step::Rename, &self.temp))
            .and_then(|()| fs::rename(&self.temp, &to));
        self.keep(moved, "cannot finish")?;
        self.is_whole = false; // Nothing is left to remove.
        of.watch(Step::SyncDir, &to).map_err(StoreError::io("cannot flush the folder", &of.dir))?;
        sync_dir(&of.dir)?;
        of.prune();
        Ok(KvWritten { records: self.encoder.count(), bytes: self.bytes })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.check_whole()?;
        let need = bytes.len() as u64;
        let limits = &self.of.limits;
        if let Some(free) = free_bytes(&self.of.dir).filter(|free| *free < need.saturating_add(limits.spare_bytes)) {
            self.undo();
            return Err(StoreError::DiskShort { path: self.of.dir.clone(), need, free, spare: limits.spare_bytes });
        }
        let written = self.of.watch(Step::Write, &self.temp).and_then(|()| self.file.write_all(bytes));
        self.keep(written, "cannot write")?;
        self.bytes = self.bytes.saturating_add(need);
        Ok(())
    }

    fn check_whole(&self) -> Result<(), StoreError> {
        let why = "an earlier error ended this snapshot";
        if self.is_whole { Ok(()) } else { Err(StoreError::KvMisuse { why }) }
    }

    /// After an error nothing is left of the snapshot.
    fn keep(&mut self, done: io::Result<()>, doing: &'static str) -> Result<(), StoreError> {
        done.map_err(|e| {
            self.undo();
            StoreError::io(doing, &self.temp)(e)
        })
    }

    fn undo(&mut self) {
        self.is_whole = false;
        // The file stays open for a while: without this its room would stay taken.
        let _ = self.file.set_len(0);
        let _ = fs::remove_file(&self.temp);
    }
}

impl Drop for KvWriter<'_> {
    fn drop(&mut self) {
        if self.is_whole {
            self.undo();
        }
    }
}

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvWritten {
    /// Pages.
    pub records: usize,
    /// Length of the file.
    pub bytes: u64,
}

/// Makes a folder that only this user can look into, and closes one that others could.
fn make_private(dir: &Path) -> io::Result<()> {
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above)?;
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => return made,
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if fs::metadata(dir)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        }
    }
    Ok(())
}

/// Different for every file: the hash keys are the system's randomness.
fn new_id() -> [u8; 16] {
    let half = |n: u8| RandomState::new().hash_one((n, SystemTime::now(), std::process::id())).to_le_bytes();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&half(0));
    id[8..].copy_from_slice(&half(1));
    id
}
