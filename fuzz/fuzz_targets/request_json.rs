//! libFuzzer's entry to `targets::request_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::request_json::run(data));
