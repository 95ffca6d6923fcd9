//! Reading and replacing one file: whole or not at all, also over a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use base::limits;
use client::place::sync_dir;
use sha2::{Digest, Sha256};

use crate::error::EditError;

/// SHA-256 in hex.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A file's bytes; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, EditError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(EditError::io("cannot read", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(limits::EDIT_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(EditError::io("cannot read", path))?;
    if bytes.len() as u64 > limits::EDIT_FILE_BYTES_MAX {
        let why = format!("it has more than {} bytes, the most that is edited", limits::EDIT_FILE_BYTES_MAX);
        return Err(EditError::File { path: path.to_owned(), why });
    }
    Ok(Some(bytes))
}

/// Writes `bytes` into the new file `temp` beside `path`, with the rights and the owner of what is at `path`, to the disk.
/// `mode` are the rights where nothing is there.
pub(crate) fn stage(temp: &Path, path: &Path, bytes: &[u8], mode: Option<u32>) -> Result<(), EditError> {
    let staged = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(temp)?;
        file.write_all(bytes)?;
        match fs::metadata(path) {
            Ok(old) => {
                same_owner(&file, &old)?;
                file.set_permissions(old.permissions())?;
            }
            Err(e) if e.kind() == ErrorKind::NotFound => set_mode(&file, mode)?,
            Err(e) => return Err(e),
        }
        file.sync_all()
    };
    staged().map_err(|e| {
        let _ = fs::remove_file(temp);
        EditError::io("cannot write beside", path)(e)
    })
}

/// The rights of a file, where there are such.
#[cfg(unix)]
pub(crate) fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()))
}

#[cfg(not(unix))]
pub(crate) fn mode(_path: &Path) -> Option<u32> {
    None
}

#[cfg(unix)]
fn set_mode(file: &File, mode: Option<u32>) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    mode.map_or(Ok(()), |mode| file.set_permissions(fs::Permissions::from_mode(mode)))
}

#[cfg(not(unix))]
fn set_mode(_file: &File, _mode: Option<u32>) -> std::io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn same_owner(file: &File, old: &fs::Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let new = file.metadata()?;
    match (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        true => Ok(()),
        false => fchown(file, Some(old.uid()), Some(old.gid())),
    }
}

#[cfg(not(unix))]
fn same_owner(_file: &File, _old: &fs::Metadata) -> std::io::Result<()> {
    Ok(())
}

/// Puts a staged file in its place.
pub(crate) fn replace(temp: &Path, path: &Path) -> Result<(), EditError> {
    fs::rename(temp, path).map_err(EditError::io("cannot replace", path))?;
    sync_parent(path)
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), EditError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(EditError::io("cannot remove", path)(e)),
    }
}

fn sync_parent(path: &Path) -> Result<(), EditError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    sync_dir(folder).map_err(EditError::io("cannot flush the folder", folder))
}
