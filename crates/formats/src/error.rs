//! What can be wrong with a model file: which rule, at which byte or field, and what to do about it.

use std::fmt;

/// One refusal. `Display` gives the whole sentence: file kind, place, reason, advice.
#[derive(Clone, PartialEq, Eq)]
pub struct FormatError(Box<Detail>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Detail {
    file: &'static str,
    offset: u64,
    kind: Kind,
}

/// The rule that was broken.
///
/// `what` names the thing in the file ("metadata key", "tensor count"); names from the file are escaped and cut, so
/// that an error can be printed on a terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Kind {
    #[error("the file ends inside {what}: {need} bytes needed, {have} left")]
    Truncated { what: &'static str, need: u64, have: u64 },
    #[error("not a {format} file: it begins with {found}")]
    Magic { format: &'static str, found: String },
    #[error("big-endian GGUF is not supported")]
    BigEndian,
    #[error("GGUF version {0} is not supported (2 and 3 are)")]
    Version(u32),
    #[error("{what} is {count}, and the limit is {max}")]
    TooMany { what: &'static str, count: u64, max: u64 },
    #[error("{what} is {count}, but only {have} bytes follow")]
    PastEnd { what: &'static str, count: u64, have: u64 },
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} is not UTF-8")]
    Utf8 { what: &'static str },
    #[error("{what} \"{name}\" occurs twice")]
    Duplicate { what: &'static str, name: String },
    #[error("\"{key}\" has value type {number}, which GGUF does not define")]
    ValueType { key: String, number: u32 },
    #[error("\"{key}\" is an array of arrays")]
    NestedArray { key: String },
    #[error("\"{key}\" holds {value} where a boolean is 0 or 1")]
    Boolean { key: String, value: u8 },
    #[error("alignment {0} is not a power of two of at least 8")]
    Alignment(u64),
    #[error("tensor \"{tensor}\" has {dims} dimensions; 1 to {max} are possible")]
    Dimensions { tensor: String, dims: u64, max: u64 },
    #[error("tensor \"{tensor}\" has a dimension of {dim}")]
    Dimension { tensor: String, dim: u64 },
    #[error("tensor \"{tensor}\" is larger than any file")]
    TensorOverflow { tensor: String },
    #[error("tensor \"{tensor}\" has element type {number} ({name})")]
    TensorType { tensor: String, number: String, name: String },
    #[error("tensor \"{tensor}\" has rows of {row} elements, not whole blocks of {block}")]
    RowBlock { tensor: String, row: u64, block: u64 },
    #[error("tensor \"{tensor}\" starts at offset {offset}, not a multiple of {alignment}")]
    Unaligned { tensor: String, offset: u64, alignment: u64 },
    #[error("tensor \"{tensor}\" needs {len} bytes from byte {start}, and the file has {file_len}")]
    TensorPastEnd { tensor: String, start: u64, len: u64, file_len: u64 },
    #[error("tensors \"{first}\" and \"{second}\" overlap")]
    Overlap { first: String, second: String },
    #[error("{bytes} bytes of tensor data belong to no tensor, from byte {start}")]
    Hole { start: u64, bytes: u64 },
    #[error("tensor \"{tensor}\" declares {declared} bytes, and its shape and type make {computed}")]
    TensorSize { tensor: String, declared: u64, computed: u64 },
    #[error("\"{key}\" is missing")]
    Missing { key: String },
    #[error("\"{key}\" is {found}, and {want} is needed")]
    WrongType { key: String, want: &'static str, found: &'static str },
    #[error("\"{key}\" is {value}, and must be {want}")]
    OutOfRange { key: String, value: String, want: String },
    #[error("{what} is not supported")]
    Unsupported { what: String },
    #[error("this is part of a model split into {count} files")]
    Split { count: u64 },
    #[error("malformed JSON: {message}")]
    Json { message: String },
    #[error("tensor \"{0}\" is missing")]
    MissingTensor(String),
}

impl Kind {
    /// What the reader of the message can do next.
    pub fn advice(&self) -> &'static str {
        match self {
            Kind::Truncated { .. } | Kind::PastEnd { .. } | Kind::TensorPastEnd { .. } => {
                "The file is cut short or damaged: fetch it again and compare its size and digest."
            }
            Kind::Magic { .. } => "Give a .gguf file, or a folder with .safetensors, config.json and tokenizer.json.",
            Kind::BigEndian => "Fetch the little-endian version of this model.",
            Kind::Version(_) => "Convert the model again with a current converter.",
            Kind::TooMany { .. } => "Real models stay far below the limit (LIMITS.md): the file is damaged or hostile.",
            Kind::Unsupported { .. } | Kind::TensorType { .. } => {
                "Take another version of this model: GGUF in Q4_K_M, Q8_0 or F16, or safetensors in F32, F16 or BF16."
            }
            Kind::Split { .. } => "Merge the parts into one file first (llama-gguf-split --merge FIRST-PART OUT.gguf).",
            Kind::Missing { .. } | Kind::MissingTensor(_) => {
                "The file describes no complete model: convert it again, or fetch another version."
            }
            Kind::WrongType { .. } | Kind::OutOfRange { .. } | Kind::Json { .. } => {
                "Correct this value, or fetch the file again."
            }
            _ => "The file is damaged or was written by a broken tool: fetch it again, or convert the model again.",
        }
    }
}

impl FormatError {
    /// `file` is "GGUF", "safetensors", "config.json" ...; `offset` counts bytes from that file's start.
    pub fn new(file: &'static str, offset: u64, kind: Kind) -> FormatError {
        FormatError(Box::new(Detail { file, offset, kind }))
    }

    /// A GGUF error at a byte.
    pub(crate) fn gguf(offset: u64, kind: Kind) -> FormatError {
        Self::new("GGUF", offset, kind)
    }

    /// A JSON syntax error or a refusal from a visitor: serde_json's line and column become a byte offset.
    pub(crate) fn json(file: &'static str, text: &[u8], base: u64, e: &serde_json::Error) -> FormatError {
        let lines = e.line().saturating_sub(1);
        let starts = || text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i.saturating_add(1));
        let start = if lines == 0 { 0 } else { starts().nth(lines.saturating_sub(1)).unwrap_or(0) };
        let in_text = start.saturating_add(e.column().saturating_sub(1));
        let offset = base.saturating_add(u64::try_from(in_text).unwrap_or(u64::MAX));
        Self::new(file, offset, Kind::Json { message: shown(&e.to_string()) })
    }

    /// Where a key stands in JSON text that was parsed before: the first time that it occurs in quotes, else the start.
    pub(crate) fn at_key(text: &[u8], base: u64, key: &str) -> u64 {
        let quoted = format!("\"{key}\"");
        let at = text.windows(quoted.len()).position(|w| w == quoted.as_bytes()).unwrap_or(0);
        base.saturating_add(u64::try_from(at).unwrap_or(0))
    }

    /// The rule that was broken.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// Where, in bytes from the start of [`FormatError::file`]. For a missing key: where the keys begin.
    pub fn offset(&self) -> u64 {
        self.0.offset
    }

    /// Which kind of file.
    pub fn file(&self) -> &'static str {
        self.0.file
    }

    /// What to do next.
    pub fn advice(&self) -> &'static str {
        self.0.kind.advice()
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: at byte {}: {}. {}", self.0.file, self.0.offset, self.0.kind, self.0.kind.advice())
    }
}

impl fmt::Debug for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for FormatError {}

/// Text from a file, made safe to print: control characters escaped, cut after 96 characters.
pub(crate) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 96;
    let mut out: String = text.chars().take(CHARS_MAX).flat_map(|c| c.escape_debug()).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_files_cannot_drive_a_terminal() {
        assert_eq!(shown("a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(shown(&"x".repeat(1000)).len(), 99);
    }

    #[test]
    fn an_error_is_one_pointer_wide_and_says_place_and_advice() {
        assert_eq!(size_of::<FormatError>(), size_of::<usize>());
        let text = FormatError::gguf(24, Kind::Truncated { what: "a key", need: 8, have: 3 }).to_string();
        assert!(text.contains("at byte 24") && text.contains("fetch it again"), "{text}");
    }

    #[test]
    fn json_errors_point_at_the_byte() {
        let text = b"{\n \"a\": 1,\n \"b\" 2}";
        let e = serde_json::from_slice::<serde_json::Value>(text).unwrap_err();
        let at = FormatError::json("config.json", text, 0, &e).offset() as usize;
        assert_eq!(text[at], b'2');
    }
}
