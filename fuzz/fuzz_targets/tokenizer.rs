//! libFuzzer's entry to `targets::tokenizer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::tokenizer::run(data));
