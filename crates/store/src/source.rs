//! What the sources have in common: they continue a part, and say whether they or this machine failed.

use crate::error::StoreError;
use crate::part::{AppendError, Part};
use crate::progress::Meter;

/// Why a source did not bring the rest of the file.
pub(crate) enum SourceError {
    /// The source's fault, as one line: the next one is tried.
    Failed(String),
    /// This machine's fault (disk full, say): no source can help.
    Local(StoreError),
}

impl From<StoreError> for SourceError {
    fn from(e: StoreError) -> Self {
        Self::Local(e)
    }
}

impl From<AppendError> for SourceError {
    fn from(e: AppendError) -> Self {
        match e {
            AppendError::TooMany => Self::Failed("it sends more bytes than the file has".into()),
            AppendError::Disk(e) => Self::Local(e),
        }
    }
}

/// One place where a file may come from.
pub(crate) trait Source {
    /// As a person would name it.
    fn label(&self) -> String;
    /// Disk space it needs beside the file itself.
    fn scratch_bytes(&self) -> u64;
    /// Appends to `part` until it is complete.
    fn fetch(&self, part: &mut Part, meter: &mut Meter<'_>) -> Result<(), SourceError>;
}
