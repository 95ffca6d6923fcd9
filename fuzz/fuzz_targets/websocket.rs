//! libFuzzer's entry to `targets::websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::websocket::run(data));
