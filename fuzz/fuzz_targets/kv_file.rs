//! libFuzzer's entry to `targets::kv_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::kv_file::run(data));
