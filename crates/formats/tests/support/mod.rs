//! Shared by the integration tests: writers of tiny files, a counting allocator, the evaluation data's place.
#![allow(dead_code)]

pub mod alloc;
pub mod gguf_writer;
pub mod safetensors_writer;

use std::path::PathBuf;

/// The evaluation data, where it is: `VONK_DATA`, else beside the repository.
pub fn data(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("VONK_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    println!("left out: {name} is not under VONK_DATA or ../shared/data");
    None
}
