//! Hand-made bad files: each refused with a byte offset, in time, in little memory (RELIABILITY R01).

mod support;

use std::time::Instant;

use formats::{Gguf, ModelDesc};
use support::alloc::{Counting, peak_bytes};

#[global_allocator]
static ALLOC: Counting = Counting;

const BYTES_MAX: usize = 16 * 1024 * 1024;

#[test]
fn every_malformed_file_is_answered_as_its_manifest_says() {
    let Some(dir) = support::data("gguf-malformed") else { return };
    let manifest = std::fs::read(dir.join("manifest.json")).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&manifest).unwrap();
    assert!(rows.len() >= 62);
    for row in &rows {
        let (file, expect) = (row["file"].as_str().unwrap(), row["expect"].as_str().unwrap());
        let bytes = std::fs::read(dir.join(file)).unwrap();
        let start = Instant::now();
        let (result, peak) = peak_bytes(|| Gguf::parse(&bytes));
        let ms = start.elapsed().as_millis();
        println!("{file}: {}", result.as_ref().map_or_else(ToString::to_string, |_| "accepted".to_owned()));
        match (&result, expect) {
            (Ok(_), "reject") => panic!("{file} was accepted"),
            (Err(e), "accept") => panic!("{file} was refused: {e}"),
            _ => {}
        }
        if let Err(e) = result {
            assert!(e.offset() <= bytes.len() as u64, "{file}: offset {} of {}", e.offset(), bytes.len());
            assert!(e.to_string().contains(&format!("at byte {}", e.offset())), "{file}: {e}");
        }
        assert!(ms < 50, "{file}: {ms} ms");
        assert!(peak <= BYTES_MAX, "{file}: {peak} bytes");
        assert!(ModelDesc::from_gguf(&bytes).is_err(), "{file} is no model");
    }
}

#[test]
fn counts_of_a_large_hostile_file_do_not_choose_the_memory() {
    // 64 MiB of zeros behind a header that promises the most strings that the size allows: each is empty, each counts.
    let mut bytes = Vec::new();
    bytes.extend_from_slice(b"GGUF\x03\0\0\0");
    bytes.extend_from_slice(&0u64.to_le_bytes());
    bytes.extend_from_slice(&1u64.to_le_bytes());
    bytes.extend_from_slice(&1u64.to_le_bytes());
    bytes.extend_from_slice(b"k");
    bytes.extend_from_slice(&9u32.to_le_bytes());
    bytes.extend_from_slice(&8u32.to_le_bytes());
    let n = 64 * 1024 * 1024 / 8u64;
    bytes.extend_from_slice(&n.to_le_bytes());
    bytes.resize(bytes.len() + 64 * 1024 * 1024, 0);
    let (result, peak) = peak_bytes(|| Gguf::parse(&bytes));
    assert_eq!(result.unwrap().get_strings("k").unwrap().len() as u64, n);
    assert!(peak <= 2 * bytes.len(), "{peak}");
}

#[test]
fn a_header_longer_than_the_limit_says_so() {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(b"GGUF\x03\0\0\0");
    bytes.extend_from_slice(&0u64.to_le_bytes());
    bytes.extend_from_slice(&20u64.to_le_bytes());
    for i in 0..20u8 {
        bytes.extend_from_slice(&1u64.to_le_bytes());
        bytes.push(b'a' + i);
        bytes.extend_from_slice(&8u32.to_le_bytes());
        bytes.extend_from_slice(&(15u64 << 20).to_le_bytes());
        bytes.resize(bytes.len() + (15 << 20), b' ');
    }
    let (result, peak) = peak_bytes(|| Gguf::parse(&bytes));
    let text = result.unwrap_err().to_string();
    assert!(text.contains("header's size") && text.contains("limit"), "{text}");
    assert!(peak <= 192 << 20, "{peak}");
}
