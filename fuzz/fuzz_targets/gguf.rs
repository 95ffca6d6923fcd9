//! libFuzzer's entry to `targets::gguf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::gguf::run(data));
