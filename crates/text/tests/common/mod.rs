//! Where the evaluation data lies, and the vocabularies in it. Without the data a test says so and passes.
#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(dead_code)]
use base::vocab::VocabSpec;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A folder of the evaluation data: below `VONK_DATA`, else below `shared/data` beside the repository.
pub fn data(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("VONK_DATA")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let path = root.join(folder);
    if path.is_dir() {
        Some(path)
    } else {
        println!("left out: no {folder} below {} (set VONK_DATA)", root.display());
        None
    }
}

/// Lines of JSON.
pub fn rows(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|l| !l.is_empty()).map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// A vocabulary of the tokenizer vectors, by name (`qwen2`).
pub fn vocab(name: &str) -> Option<VocabSpec> {
    let path = data("llamacpp-tokenizer-vectors")?.join(format!("ggml-vocab-{name}.gguf.gz"));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    let gguf = formats::Gguf::parse(&bytes).unwrap();
    Some(formats::vocab_from_gguf(&gguf).unwrap())
}
