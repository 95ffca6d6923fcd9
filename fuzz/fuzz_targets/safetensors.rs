//! libFuzzer's entry to `targets::safetensors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::safetensors::run(data));
