//! JSONL files, read with bounds: every fault names the file and the line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base::limits;
use serde::de::DeserializeOwned;

use crate::error::BenchError;

/// The first `wanted` rows of a JSONL file (at most `EVAL_PROBLEMS_MAX`), each passed to `check`. `hint` says where such a file
/// comes from.
///
/// # Errors
/// No such file, a file beyond its limit, no UTF-8, a line that is no such row (with its number), no rows at all.
pub(crate) fn jsonl<T: DeserializeOwned>(
    path: &Path,
    hint: &str,
    wanted: usize,
    check: impl Fn(&T) -> Result<(), &'static str>,
) -> Result<Vec<T>, BenchError> {
    let wrong = |line, why: String| BenchError::Data { path: path.display().to_string(), line, why };
    let file = File::open(path).map_err(|e| wrong(None, format!("{e}. {hint}")))?;
    let mut bytes = Vec::new();
    file.take(limits::EVAL_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| wrong(None, e.to_string()))?;
    if bytes.len() as u64 > limits::EVAL_FILE_BYTES_MAX {
        return Err(wrong(None, format!("it is longer than {} bytes", limits::EVAL_FILE_BYTES_MAX)));
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(wrong(None, "it is gzipped; unpack it first".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|e| wrong(None, format!("it is no UTF-8: {e}")))?;
    let wanted = wanted.min(limits::EVAL_PROBLEMS_MAX);
    let mut rows = Vec::new();
    for (at, line) in text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty()).take(wanted) {
        let row: T = serde_json::from_str(line).map_err(|e| wrong(Some(at + 1), e.to_string()))?;
        check(&row).map_err(|why| wrong(Some(at + 1), why.to_owned()))?;
        rows.push(row);
    }
    match rows.is_empty() {
        true => Err(wrong(None, "it holds no rows, or none were asked for".to_owned())),
        false => Ok(rows),
    }
}
