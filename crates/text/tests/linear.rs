//! Encoding time grows with the text, not with its square, whatever the text; and comes back as it was.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;
use std::time::{Duration, Instant};
use text::{Encode, Tokenizer};

const MIB: usize = 1 << 20;

/// One character that holds this byte, where UTF-8 has one.
fn character_with(byte: u8) -> Option<char> {
    let b = u32::from(byte);
    match b {
        0..=0xbf => char::from_u32(b),
        0xc2..=0xdf => char::from_u32((b & 0x1f) << 6),
        0xe0..=0xef => char::from_u32((b & 0xf) << 12 | 0x0fc0),
        0xf0..=0xf4 => char::from_u32((b & 0x7) << 18 | 0x1_0000),
        _ => None,
    }
}

fn repeated(unit: &str, bytes: usize) -> String {
    unit.repeat(bytes / unit.len())
}

fn time(tokenizer: &Tokenizer, text: &str) -> Duration {
    let start = Instant::now();
    let ids = tokenizer.encode(text, Encode::TEMPLATE);
    let elapsed = start.elapsed();
    let decoded = tokenizer.decode(&ids, true);
    assert!(decoded.ends_with(text.as_bytes()) && decoded.len() <= text.len() + 1, "the text comes back");
    elapsed
}

/// Four times the text takes at most 7 times as long (2.6 for twice), at the best of many tries, because a busy machine stops any of
/// them; quadratic would be 16. What is fast anyway is not compared.
fn assert_linear(name: &str, tokenizer: &Tokenizer, unit: &str, bytes: usize) {
    let (part, whole) = (repeated(unit, bytes / 4), repeated(unit, bytes));
    let mut best = f64::INFINITY;
    for _ in 0..30 {
        let (short, long) = (time(tokenizer, &part), time(tokenizer, &whole));
        if long < Duration::from_millis(20) {
            return;
        }
        best = best.min(long.as_secs_f64() / short.as_secs_f64());
        if best <= 7.0 {
            return;
        }
    }
    panic!("{name}: {best:.1} times as long for four times {unit:?}");
}

/// Encodes 1 MiB of each byte; the longest time and its byte.
fn slowest_of(tokenizer: &Tokenizer, bytes: std::ops::RangeInclusive<u8>) -> (Duration, u8) {
    let mut slowest = (Duration::ZERO, 0);
    for byte in bytes {
        let Some(c) = character_with(byte) else { continue };
        let elapsed = time(tokenizer, &repeated(&c.to_string(), MIB));
        // Quadratic would be hours; this bound is for the slowest of machines.
        assert!(elapsed < Duration::from_secs(20), "1 MiB of {byte:#x} took {elapsed:?}");
        slowest = slowest.max((elapsed, byte));
    }
    slowest
}

#[test]
fn a_mebibyte_of_each_byte_value_is_linear() {
    let Some(spec) = common::vocab("qwen2") else { return };
    let tokenizer = Tokenizer::new(&spec).unwrap();
    let start = Instant::now();
    let slowest = std::thread::scope(|scope| {
        let halves = [0..=127u8, 128..=255].map(|bytes| scope.spawn(|| slowest_of(&tokenizer, bytes)));
        halves.map(|half| half.join().unwrap()).into_iter().max().unwrap()
    });
    println!("all bytes in {:?}, slowest {:?} for {:#x}", start.elapsed(), slowest.0, slowest.1);
    for byte in [b'^', b'a', b' ', b'\n', b'0', 0, 0x80, 0xe4] {
        assert_linear("qwen2", &tokenizer, &character_with(byte).unwrap().to_string(), MIB);
    }
}

#[test]
fn long_words_zalgo_and_whitespace_are_linear() {
    let zalgo = format!("z{}", "\u{301}\u{336}\u{35c}".repeat(40));
    let units =
        ["^", "supercalifragilistic", &zalgo, "aA", "É", "\n ", "\t", "1", "'s", "<|", "a\u{301}", "、", "🚀", "_-"];
    for name in ["llama-bpe", "starcoder", "deepseek-coder", "deepseek-llm", "falcon", "llama-spm"] {
        let Some(spec) = common::vocab(name) else { return };
        let tokenizer = Tokenizer::new(&spec).unwrap();
        for unit in units {
            assert_linear(name, &tokenizer, unit, MIB / 4);
        }
    }
}

#[test]
fn building_is_fast() {
    let Some(spec) = common::vocab("qwen2") else { return };
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let tokenizer = Tokenizer::new(&spec).unwrap();
        best = best.min(start.elapsed());
        assert_eq!(tokenizer.n_vocab(), 151_936);
    }
    println!("qwen2 built in {best:?}");
    // The promise is 150 ms in a release build; other builds and busy machines get more.
    assert!(best < Duration::from_secs(3), "{best:?}");
}
