//! What is fuzzed: one function from bytes per border, and tiny seeds made by code. A target panics when a promise is
//! broken; libFuzzer (`fuzz_targets/`) and `replay` (no compiler flags needed) drive the same functions.
#![forbid(unsafe_code)]

pub mod canary;
pub mod gguf;
pub mod kv_file;
pub mod request_json;
pub mod safetensors;
pub mod template;
pub mod tokenizer;
pub mod websocket;

#[path = "../../crates/formats/tests/support/gguf_writer.rs"]
#[allow(dead_code)]
mod gguf_writer;
#[path = "../../crates/formats/tests/support/safetensors_writer.rs"]
#[allow(dead_code)]
mod safetensors_writer;

/// A target: its name, what it does with one input, its seeds.
pub struct Target {
    /// Also the name of its binary and of its corpus folder.
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them. The canary comes last and must fail.
pub const TARGETS: [Target; 8] = [
    Target { name: "gguf", run: gguf::run, seeds: gguf::seeds },
    Target { name: "safetensors", run: safetensors::run, seeds: safetensors::seeds },
    Target { name: "tokenizer", run: tokenizer::run, seeds: tokenizer::seeds },
    Target { name: "template", run: template::run, seeds: template::seeds },
    Target { name: "request_json", run: request_json::run, seeds: request_json::seeds },
    Target { name: "kv_file", run: kv_file::run, seeds: kv_file::seeds },
    Target { name: "websocket", run: websocket::run, seeds: websocket::seeds },
    Target { name: "canary", run: canary::run, seeds: canary::seeds },
];

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn seeds_pass_and_the_canary_can_sing() {
        for t in TARGETS {
            for seed in (t.seeds)() {
                (t.run)(&seed);
            }
            (t.run)(b"");
        }
        assert!(std::panic::catch_unwind(|| super::canary::run(super::canary::WORD)).is_err());
    }
}
