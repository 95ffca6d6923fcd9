//! llama.cpp's tokenizer vectors: equal ids for every row, and the text back from the ids.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;
use std::collections::BTreeMap;
use std::time::Instant;
use text::{Encode, Tokenizer};

#[test]
fn every_row_has_llama_cpps_ids_and_comes_back() {
    let Some(folder) = common::data("llamacpp-tokenizer-vectors") else { return };
    let mut by_vocab: BTreeMap<String, Vec<(String, Vec<u32>)>> = BTreeMap::new();
    for row in common::rows(&folder.join("vectors.jsonl")) {
        let ids = row["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let name = row["vocab"].as_str().unwrap().trim_start_matches("ggml-vocab-").trim_end_matches(".gguf");
        by_vocab.entry(name.to_string()).or_default().push((row["text"].as_str().unwrap().to_string(), ids));
    }
    let (mut n, mut failures) = (0, Vec::new());
    for (name, rows) in &by_vocab {
        let spec = common::vocab(name).unwrap();
        let start = Instant::now();
        let tokenizer = Tokenizer::new(&spec).unwrap();
        println!("{name}: {} tokens, {} merges, built in {:?}", spec.tokens.len(), spec.merges.len(), start.elapsed());
        for (text, want) in rows {
            n += 1;
            let got = tokenizer.encode(text, Encode::TEXT);
            if &got != want {
                failures.push(format!("{name} {text:?}\n  want {want:?}\n  got  {got:?}"));
            }
            let back = String::from_utf8(tokenizer.decode(&got, true)).unwrap();
            let prefix = if spec.add_space_prefix && !text.is_empty() { " " } else { "" };
            if back != format!("{prefix}{text}") {
                failures.push(format!("{name} {text:?} came back as {back:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures in {n} rows:\n{}", failures.len(), failures.join("\n"));
    assert!(by_vocab.len() >= 12 && n >= 556, "{} vocabularies, {n} rows", by_vocab.len());
}
