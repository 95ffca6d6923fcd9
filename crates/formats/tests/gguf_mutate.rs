//! Damaged GGUF files: cut at every byte, every bit flipped, mutated with their structure in mind (RELIABILITY R02-R04).
//! Whatever is accepted has every extent inside the file and can be described without a panic.

mod support;

use base::rng::bits;
use formats::{Gguf, ModelDesc, vocab_from_gguf};
use support::alloc::{Counting, peak_bytes};
use support::gguf_writer::{Val, Writer, Written, every_type, str, tiny_model};

#[global_allocator]
static ALLOC: Counting = Counting;

const BYTES_MAX: usize = 16 * 1024 * 1024;

fn samples() -> Vec<Written> {
    let mut aligned = tiny_model("llama").pair("general.alignment", Val::U32(64));
    (aligned.alignment, aligned.version) = (64, 2);
    let mut vocab_only = tiny_model("qwen2");
    vocab_only.tensors.clear();
    [tiny_model("llama"), tiny_model("qwen2"), aligned, vocab_only, every_type()].iter().map(Writer::write).collect()
}

/// Everything that a caller does with bytes; true when they were accepted.
fn exercise(bytes: &[u8]) -> bool {
    let Ok(gguf) = Gguf::parse(bytes) else { return false };
    let mut extents: Vec<_> = gguf.tensors().iter().map(|t| t.extent).collect();
    extents.sort();
    for (i, e) in extents.iter().enumerate() {
        assert!(e.of(bytes).is_some_and(|run| run.len() as u64 == e.len()), "outside");
        assert!(i == 0 || extents[i - 1].end() <= e.offset(), "overlap");
    }
    for t in gguf.tensors() {
        assert_eq!(gguf.tensor(&t.name), Some(t));
        assert!(!t.dims().is_empty() && t.dims().iter().all(|d| *d >= 1));
    }
    for (key, value) in gguf.pairs() {
        assert!(gguf.get(key).is_some());
        let _ = (gguf.get_u32(key), gguf.get_f32(key), gguf.get_bool(key), gguf.opt_str(key), value.type_name());
    }
    if let Ok(v) = vocab_from_gguf(&gguf) {
        let f = v.fim;
        let ids = [v.bos, v.eos, v.eot, v.unk, v.pad, f.prefix, f.suffix, f.middle, f.pad, f.repo, f.file_sep];
        assert!(ids.iter().flatten().all(|id| (*id as usize) < v.tokens.len()));
        assert_eq!(v.kinds.len(), v.tokens.len());
    }
    if let Ok(desc) = ModelDesc::from_gguf(bytes) {
        let hp = &desc.hp;
        assert!(hp.n_heads % hp.n_kv_heads == 0 && hp.d_head % 2 == 0 && hp.rope.d_rot <= hp.d_head);
        assert!(desc.vocab.is_err() || desc.vocab.is_ok_and(|v| v.tokens.len() == hp.n_vocab));
    }
    true
}

#[test]
fn whole_files_are_accepted() {
    for s in samples() {
        assert!(exercise(&s.bytes), "{:?}", Gguf::parse(&s.bytes).err());
    }
    for arch in ["llama", "qwen2"] {
        ModelDesc::from_gguf(&tiny_model(arch).write().bytes).unwrap();
    }
}

#[test]
fn a_cut_file_is_refused_or_the_same() {
    for s in samples() {
        let whole = Gguf::parse(&s.bytes).unwrap();
        let same = |cut: &Gguf| cut.tensors() == whole.tensors() && cut.pairs().eq(whole.pairs());
        for len in 0..s.bytes.len() {
            match Gguf::parse(&s.bytes[..len]) {
                Ok(cut) => assert!(len >= s.header_len && same(&cut), "cut at {len} of {}", s.bytes.len()),
                Err(e) => assert!(e.offset() <= len as u64, "cut at {len}: {e}"),
            }
        }
    }
}

#[test]
fn any_flipped_bit_is_refused_or_harmless() {
    let mut accepted = 0;
    let mut total = 0;
    for s in samples() {
        let mut bytes = s.bytes.clone();
        for i in 0..s.header_len * 8 {
            bytes[i / 8] ^= 1 << (i % 8);
            accepted += usize::from(exercise(&bytes));
            total += 1;
            bytes[i / 8] ^= 1 << (i % 8);
        }
    }
    println!("{accepted} of {total} accepted");
    assert!(accepted > 0 && accepted < total);
}

/// A counter-based source of choices.
struct Choice(u64, u64);

impl Choice {
    fn below(&mut self, n: usize) -> usize {
        self.1 += 1;
        (bits(self.0, self.1, 0) % n.max(1) as u64) as usize
    }
    fn number(&mut self, old: u64) -> u64 {
        const TELLING: [u64; 14] =
            [0, 1, 2, 4, 9, 31, 255, 65_536, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX];
        match self.below(4) {
            0 => old.wrapping_add(self.below(16) as u64).wrapping_sub(8),
            1 => old ^ (1 << self.below(64)),
            2 => u64::MAX - self.below(64) as u64,
            _ => TELLING[self.below(TELLING.len())],
        }
    }
}

fn mutate(s: &Written, c: &mut Choice) -> Vec<u8> {
    let mut b = s.bytes.clone();
    for _ in 0..=c.below(3) {
        let header = s.header_len.min(b.len());
        match c.below(8) {
            0..=4 => {
                let (at, width) = s.fields[c.below(s.fields.len())];
                if let Some(field) = b.get_mut(at..at + width) {
                    let mut old = [0; 8];
                    old[..width].copy_from_slice(field);
                    field.copy_from_slice(&c.number(u64::from_le_bytes(old)).to_le_bytes()[..width]);
                }
            }
            5 if header > 0 => b[c.below(header)] = c.below(256) as u8,
            6 if header > 0 => {
                let (at, len) = (c.below(header), c.below(40));
                let end = (at + len).min(b.len());
                if c.below(2) == 0 {
                    b.drain(at..end);
                } else {
                    let copy = b[at..end].to_vec();
                    let to = c.below(header);
                    b.splice(to..to, copy);
                }
            }
            _ => b.truncate(c.below(b.len() + 1)),
        }
    }
    b
}

#[test]
fn mutated_files_are_refused_or_harmless() {
    const N: u64 = if cfg!(debug_assertions) { 5_000 } else { 20_000 };
    let samples = samples();
    let mut accepted = 0;
    let mut slowest = std::time::Duration::ZERO;
    for seed in 0..N {
        let bytes = mutate(&samples[seed as usize % samples.len()], &mut Choice(seed, 0));
        let start = std::time::Instant::now();
        let (ok, peak) = peak_bytes(|| exercise(&bytes));
        slowest = slowest.max(start.elapsed());
        assert!(peak <= BYTES_MAX, "seed {seed}: {peak} bytes");
        accepted += usize::from(ok);
    }
    println!("{accepted} of {N} accepted, slowest {slowest:?}");
    assert!(accepted > 0 && slowest.as_millis() < 1000);
}

#[test]
fn values_of_every_type_are_read() {
    let s = every_type().write();
    let g = Gguf::parse(&s.bytes).unwrap();
    assert_eq!((g.get_u32("u8"), g.get_u32("u16"), g.get_u32("u32")), (Ok(7), Ok(513), Ok(70_000)));
    assert_eq!((g.get_u64("u64"), g.get_f32("f64"), g.get_bool("bool")), (Ok(1 << 40), Ok(2.5), Ok(true)));
    assert_eq!(g.get_strings("strings").unwrap().iter().collect::<Vec<_>>(), ["", "x", "é▁😀"]);
    for (key, says) in [("i32", "-5"), ("u64", "1099511627776"), ("f32", "an f32"), ("nothing", "missing")] {
        let e = g.get_u32(key).unwrap_err();
        let text = e.to_string();
        assert!(text.contains(key) && text.contains(says), "{text}");
        assert!(e.offset() >= 24);
    }
    assert_eq!(g.tensor("q6_k").unwrap().dims(), [512, 2]);
    assert_eq!(g.tensor("q6_k").unwrap().extent.len(), 840);
}

#[test]
fn impossible_models_are_refused_by_key() {
    let refused = |change: &dyn Fn(&mut Writer)| {
        let mut w = tiny_model("llama");
        change(&mut w);
        ModelDesc::from_gguf(&w.write().bytes).unwrap_err().to_string()
    };
    let cases: &[(&str, Val, &str)] = &[
        ("llama.attention.head_count", Val::U32(0), "head_count"),
        ("llama.attention.head_count_kv", Val::U32(3), "divisor"),
        ("llama.attention.head_count", Val::U32(5), "head_count_kv"),
        ("llama.attention.key_length", Val::U32(7), "even"),
        ("llama.attention.value_length", Val::U32(4), "value_length"),
        ("llama.embedding_length", Val::U32(64), "row length"),
        ("llama.block_count", Val::U32(5000), "block_count"),
        ("llama.block_count", str("one"), "a string"),
        ("llama.context_length", Val::U32(0), "context_length"),
        ("llama.feed_forward_length", Val::I32(-1), "feed_forward_length"),
        ("llama.attention.layer_norm_rms_epsilon", Val::F32(f32::NAN), "epsilon"),
        ("llama.rope.freq_base", Val::F32(f32::INFINITY), "freq_base"),
        ("llama.rope.dimension_count", Val::U32(10), "dimension_count"),
        ("llama.rope.scaling.type", str("yarn"), "yarn"),
        ("llama.rope.scaling.factor", Val::F32(-2.0), "factor"),
        ("split.count", Val::U32(3), "merge"),
        ("general.architecture", str("mamba\x1b[2J"), "mamba\\u{1b}"),
    ];
    for (key, val, says) in cases {
        let text = refused(&|w| w.set(key, val.clone()));
        assert!(text.contains(says), "{key}: {text}");
    }
    assert!(refused(&|w| w.remove("llama.block_count")).contains("\"llama.block_count\" is missing"));
    assert!(refused(&|w| w.tensors.retain(|t| t.name != "token_embd.weight")).contains("token_embd"));
}

#[test]
fn impossible_vocabularies_are_refused_by_key() {
    let cases: &[(&str, Val, &str)] = &[
        ("tokenizer.ggml.model", str("rwkv"), "rwkv"),
        ("tokenizer.ggml.token_type", Val::I32s(vec![1; 11]), "11 long"),
        ("tokenizer.ggml.token_type", Val::I32s(vec![9; 12]), "0 to 6"),
        ("tokenizer.ggml.merges", support::gguf_writer::strs(&["ab"]), "two pieces"),
        ("tokenizer.ggml.eos_token_id", Val::U32(12), "below the vocabulary"),
        ("tokenizer.ggml.tokens", support::gguf_writer::strs(&[]), "empty"),
        ("tokenizer.ggml.add_bos_token", Val::U32(1), "a boolean"),
    ];
    for (key, val, says) in cases {
        let mut w = tiny_model("llama");
        w.set(key, val.clone());
        let bytes = w.write().bytes;
        let text = vocab_from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap_err().to_string();
        assert!(text.contains(says), "{key}: {text}");
        // The weights are still good.
        assert!(ModelDesc::from_gguf(&bytes).unwrap().vocab.is_err(), "{key}");
    }
}

#[test]
fn rope_scaling_and_specials_are_read() {
    let desc = |w: &Writer| ModelDesc::from_gguf(&w.write().bytes).unwrap();
    let plain = desc(&tiny_model("llama"));
    assert_eq!(plain.hp.rope.scaling, formats::RopeScaling::None);
    assert_eq!(plain.hp.rope.pairing, formats::RopePairing::Interleaved);
    assert_eq!(desc(&tiny_model("qwen2")).hp.rope.pairing, formats::RopePairing::Halves);
    let linear = desc(&tiny_model("llama").pair("llama.rope.scaling.factor", Val::F32(4.0)));
    assert_eq!(linear.hp.rope.scaling, formats::RopeScaling::Linear { factor: 4.0 });
    let factors = desc(&tiny_model("llama").f32_tensor("rope_freqs.weight", &[4]));
    assert!(matches!(factors.hp.rope.scaling, formats::RopeScaling::Factors { .. }));
    let wrong = tiny_model("llama").f32_tensor("rope_freqs.weight", &[5]).write();
    assert!(ModelDesc::from_gguf(&wrong.bytes).unwrap_err().to_string().contains("rope_freqs"));
    let v = plain.vocab.unwrap();
    assert_eq!((v.bos, v.eos, v.eot), (None, Some(6), Some(7)));
    assert_eq!((v.fim.prefix, v.fim.suffix, v.fim.middle, v.fim.pad), (Some(8), Some(9), Some(10), None));
    let q = plain.tensors.iter().find(|t| t.name == "blk.0.attn_k.weight").unwrap();
    assert_eq!((q.shape.as_slice(), q.extent.len()), (&[16, 32][..], 16 * 32 * 4));
}
