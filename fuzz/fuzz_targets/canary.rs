//! libFuzzer's entry to `targets::canary`: a bug planted on purpose. A fuzzer that does not find it is not working.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::canary::run(data));
