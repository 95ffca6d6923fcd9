//! libFuzzer's entry to `targets::template`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::template::run(data));
