//! Any bytes as a GGUF file: refused with a place, or described with everything inside the file; a vocabulary that is
//! accepted makes a tokenizer that encodes and decodes.

use formats::{Gguf, ModelDesc, vocab_from_gguf};
use text::{Encode, Tokenizer};

use crate::gguf_writer::{Val, every_type, tiny_model};

/// Checks extents, ids and the tokenizer.
pub fn run(data: &[u8]) {
    let gguf = match Gguf::parse(data) {
        Ok(gguf) => gguf,
        Err(e) => {
            assert!(e.offset() <= data.len() as u64 && !e.to_string().is_empty());
            return;
        }
    };
    let mut extents: Vec<_> = gguf.tensors().iter().map(|t| t.extent).collect();
    extents.sort();
    for (i, e) in extents.iter().enumerate() {
        assert!(e.of(data).is_some_and(|run| run.len() as u64 == e.len()));
        assert!(i == 0 || extents[i - 1].end() <= e.offset());
    }
    for (key, _) in gguf.pairs() {
        let _ = (gguf.get_u32(key), gguf.get_f32(key), gguf.get_bool(key), gguf.get_str(key), gguf.opt_integers(key));
    }
    if let Ok(spec) = vocab_from_gguf(&gguf)
        && let Ok(tokenizer) = Tokenizer::new(&spec)
    {
        let ids = tokenizer.encode("if a <|im_end|> abc\n\tb", Encode { add_special: true, parse_special: true });
        assert!(ids.iter().all(|id| (*id as usize) < spec.tokens.len()));
        tokenizer.decode(&ids, true);
    }
    if let Ok(desc) = ModelDesc::from_gguf(data) {
        assert!(desc.vocab.is_err() || desc.vocab.is_ok_and(|v| v.tokens.len() == desc.hp.n_vocab));
    }
}

/// Whole tiny models, a vocabulary alone, metadata of every type.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut vocab_only = tiny_model("qwen2");
    vocab_only.tensors.clear();
    let mut aligned = vocab_only.clone().pair("general.alignment", Val::U32(64));
    (aligned.version, aligned.alignment) = (2, 64);
    let mut spm = vocab_only.clone().pair("tokenizer.ggml.scores", Val::F32s((0..12).map(|i| -(i as f32)).collect()));
    spm.set("tokenizer.ggml.model", Val::Str("llama".to_owned()));
    let all = [tiny_model("llama"), tiny_model("qwen2"), vocab_only, aligned, spm, every_type()];
    all.iter().map(|w| w.write().bytes).collect()
}
