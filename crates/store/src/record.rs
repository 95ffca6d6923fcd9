//! Which name stands for which digest: one small file for each name, with its own length and checksum, so that a damaged
//! one is noticed and dropped instead of believed.

use std::io::Read;
use std::path::Path;

use base::limits::{RECORD_BYTES_MAX, RECORDS_MAX};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{StoreError, printable};
use crate::paths::{Layout, remove_if_there, sync_dir, write_whole};

/// What the store remembers about a pulled model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The name people use: a catalogue name, an `hf:` spec, or one made from an imported file's name.
    pub name: String,
    /// The content's digest, 64 hex digits.
    pub sha256: String,
    /// The content's length.
    pub bytes: u64,
    /// Where it came from, as a person would name it.
    pub source: String,
    /// The digest was known before the download (catalogue or hub), not only computed from what came.
    pub is_pinned: bool,
    /// Seconds since 1970 when the pull was complete.
    pub pulled_at_s: u64,
}

/// The record's file name: readable, and different for names that differ in anything but look alike in the readable part.
fn file_name(name: &str) -> String {
    let readable: String = name
        .chars()
        .take(60)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c.to_ascii_lowercase() } else { '_' })
        .collect();
    let hash = Digest::of(name.as_bytes()).to_string();
    format!("{}-{}.json", readable.trim_start_matches('.'), &hash[..16])
}

/// Writes or replaces the record of `record.name`.
pub(crate) fn write(layout: &Layout, record: &Record) -> Result<(), StoreError> {
    let path = layout.names.join(file_name(&record.name));
    let body = serde_json::to_string(record).map_err(|e| StoreError::io("cannot write", &path)(e.into()))?;
    let text = format!("vonk-record 1 {} {}\n{body}", body.len(), Digest::of(body.as_bytes()));
    write_whole(&layout.names, &file_name(&record.name), text.as_bytes())
}

/// Removes the record of `name`; false when there is none.
pub(crate) fn remove(layout: &Layout, name: &str) -> Result<bool, StoreError> {
    let was_there = remove_if_there(&layout.names.join(file_name(name)))?;
    sync_dir(&layout.names)?;
    Ok(was_there)
}

/// The record of `name`, if there is a sound one.
pub(crate) fn read(layout: &Layout, name: &str) -> Option<Record> {
    read_file(&layout.names.join(file_name(name))).ok().filter(|r| r.name == name)
}

/// All sound records by name, and a line for each damaged one; those are removed.
pub(crate) fn read_all(layout: &Layout) -> Result<(Vec<Record>, Vec<String>), StoreError> {
    let mut records = Vec::new();
    let mut notes = Vec::new();
    let folder = std::fs::read_dir(&layout.names).map_err(StoreError::io("cannot list", &layout.names))?;
    for file in folder.take(RECORDS_MAX).flatten() {
        let path = file.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue; // Another process's temporary file.
        }
        match read_file(&path) {
            Ok(record) if file.file_name().to_str() == Some(&file_name(&record.name)) => records.push(record),
            Ok(_) => drop_damaged(&path, "it stands under another model's name", &mut notes)?,
            Err(why) => drop_damaged(&path, &why, &mut notes)?,
        }
    }
    records.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((records, notes))
}

fn drop_damaged(path: &Path, why: &str, notes: &mut Vec<String>) -> Result<(), StoreError> {
    if remove_if_there(path)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = printable(&name, 100);
        notes.push(format!("the record {name} was damaged ({why}) and is dropped; pull the model again to restore it"));
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Record, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(RECORD_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > RECORD_BYTES_MAX {
        return Err("too long".into());
    }
    let (head, body) = text.split_once('\n').ok_or("no header")?;
    let mut fields = head.split(' ');
    if fields.next() != Some("vonk-record") || fields.next() != Some("1") {
        return Err("unknown header".into());
    }
    if fields.next().and_then(|n| n.parse().ok()) != Some(body.len()) {
        return Err("wrong length".into());
    }
    if fields.next().and_then(Digest::parse) != Some(Digest::of(body.as_bytes())) {
        return Err("wrong checksum".into());
    }
    let record: Record = serde_json::from_str(body).map_err(|e| e.to_string())?;
    if Digest::parse(&record.sha256).is_none() {
        return Err("no digest".into());
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> Record {
        Record {
            name: name.into(),
            sha256: Digest::of(name.as_bytes()).to_string(),
            bytes: 5,
            source: "here".into(),
            is_pinned: true,
            pulled_at_s: 7,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path().to_path_buf()).unwrap();
        for name in ["m", "hf:A/b/c.gguf", "hf:a/b/c.gguf", "hf:a/b/../../c", ".."] {
            write(&layout, &record(name)).unwrap();
            assert_eq!(read(&layout, name), Some(record(name)));
        }
        assert_eq!(read_all(&layout).unwrap().0.len(), 5);
        assert!(remove(&layout, "..").unwrap());
        assert!(!remove(&layout, "..").unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "nothing was written beside the store's folders");
    }

    #[test]
    fn every_damage_is_noticed_and_the_record_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path().to_path_buf()).unwrap();
        let path = layout.names.join(file_name("m"));
        write(&layout, &record("m")).unwrap();
        let sound = std::fs::read(&path).unwrap();
        for i in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[i] ^= 1;
            for bytes in [&damaged[..], &sound[..i]] {
                std::fs::write(&path, bytes).unwrap();
                let (records, notes) = read_all(&layout).unwrap();
                assert!(records.is_empty() && notes.len() == 1 && !path.exists(), "byte {i}: {notes:?}");
            }
        }
        std::fs::write(layout.names.join("other.json"), &sound).unwrap();
        let (records, notes) = read_all(&layout).unwrap();
        assert!(records.is_empty() && notes[0].contains("another model's name"), "{notes:?}");
    }
}
