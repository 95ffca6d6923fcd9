//! Real vocabularies without weights, and any real model named in `VONK_GGUF` or folder named in `VONK_HF_DIR`.

mod support;

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use base::vocab::VocabModel;
use formats::{Gguf, ModelDesc, vocab_from_gguf};

/// Unpacks with the system's gzip; `None` where there is none.
fn gunzip(path: &std::path::Path) -> Option<Vec<u8>> {
    let mut child = Command::new("gzip").arg("-dc").arg(path).stdout(Stdio::piped()).spawn().ok()?;
    let mut bytes = Vec::new();
    child.stdout.take()?.read_to_end(&mut bytes).ok()?;
    child.wait().ok()?.success().then_some(bytes)
}

#[test]
fn vocabularies_without_weights_are_read() {
    let Some(dir) = support::data("llamacpp-tokenizer-vectors") else { return };
    // name, model, pre, tokens, bos, eos, eot, add_bos, fim prefix, suffix, middle
    type Row = (&'static str, VocabModel, &'static str, usize, [Option<u32>; 3], bool, [Option<u32>; 3]);
    use VocabModel::{Bpe, Spm};
    let no = [None; 3];
    let rows: &[Row] = &[
        ("qwen2", Bpe, "qwen2", 151_936, [Some(151_643), Some(151_643), Some(151_645)], false, no),
        ("llama-bpe", Bpe, "llama-bpe", 128_256, [Some(128_000), Some(128_001), Some(128_009)], true, no),
        ("llama-spm", Spm, "default", 32_000, [Some(1), Some(2), None], true, no),
        ("phi-3", Spm, "default", 32_064, [Some(1), Some(32_000), Some(32_007)], true, no),
        ("gpt-2", Bpe, "gpt-2", 50_257, [Some(50_256), Some(50_256), None], false, no),
        ("starcoder", Bpe, "starcoder", 49_152, [Some(0), Some(0), None], false, [Some(1), Some(3), Some(2)]),
        ("refact", Bpe, "refact", 49_216, [Some(0), Some(0), None], false, [Some(1), Some(3), Some(2)]),
        (
            "deepseek-coder",
            Bpe,
            "deepseek-coder",
            32_256,
            [Some(32_013), Some(32_014), Some(32_021)],
            true,
            [Some(32_016), Some(32_015), Some(32_017)],
        ),
        ("deepseek-llm", Bpe, "deepseek-llm", 102_400, [Some(100_000), Some(100_001), None], true, no),
        ("falcon", Bpe, "falcon", 65_024, [Some(11), Some(11), None], false, no),
        ("mpt", Bpe, "mpt", 50_432, [Some(0), Some(0), None], false, no),
    ];
    for (name, model, pre, n, [bos, eos, eot], add_bos, fim) in rows {
        let Some(bytes) = gunzip(&dir.join(format!("ggml-vocab-{name}.gguf.gz"))) else { continue };
        let v = vocab_from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap();
        assert_eq!((v.model, v.pre.as_str(), v.tokens.len(), v.kinds.len()), (*model, *pre, *n, *n), "{name}");
        assert_eq!((v.bos, v.eos, v.eot, v.add_bos), (*bos, *eos, *eot, *add_bos), "{name}");
        assert_eq!([v.fim.prefix, v.fim.suffix, v.fim.middle], *fim, "{name}");
        assert_eq!(v.scores.len(), if *model == Spm { *n } else { 0 }, "{name}");
        assert_eq!(v.merges.is_empty(), *model == Spm, "{name}");
    }
}

#[test]
fn a_real_model_is_described_quickly() {
    let Some(path) = std::env::var_os("VONK_GGUF") else {
        println!("left out: VONK_GGUF names no model");
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    let start = Instant::now();
    let gguf = Gguf::parse(&bytes).unwrap();
    let parsed = start.elapsed();
    let desc = ModelDesc::from_gguf(&bytes).unwrap();
    println!("parse {parsed:?}, parse and describe {:?}", start.elapsed() - parsed);
    println!("{} pairs, {:?} {:?} {:?}", gguf.pairs().len(), desc.arch, desc.name, desc.file_type);
    println!("{:#?}\n{:?}\n{:?}", desc.hp, desc.mix(), desc.info);
    let v = desc.vocab.as_ref().unwrap();
    println!(
        "{:?} {} bos {:?} eos {:?} eot {:?} pad {:?} unk {:?} {:?}",
        v.model, v.pre, v.bos, v.eos, v.eot, v.pad, v.unk, v.fim
    );
    assert_eq!(v.tokens.len(), desc.hp.n_vocab);
    assert!(parsed.as_millis() < 200 || cfg!(debug_assertions));
    for t in &desc.tensors {
        assert_eq!(desc.tensor(&t.name), Some(t));
        assert!(t.extent.of(&bytes).is_some());
    }
}

#[test]
fn a_real_folder_is_described() {
    let Some(dir) = std::env::var_os("VONK_HF_DIR").map(std::path::PathBuf::from) else {
        println!("left out: VONK_HF_DIR names no folder");
        return;
    };
    let read = |name: &str| std::fs::read(dir.join(name)).ok();
    let mut names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|p| p.extension().is_some_and(|e| e == "safetensors"));
    names.sort();
    let files: Vec<Vec<u8>> = names.iter().map(|p| std::fs::read(p).unwrap()).collect();
    let slices: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let (config, tokenizer) = (read("config.json").unwrap(), read("tokenizer.json").unwrap());
    let (tc, gc) = (read("tokenizer_config.json"), read("generation_config.json"));
    let start = Instant::now();
    let mut desc = ModelDesc::from_safetensors(&slices, &config, &tokenizer, tc.as_deref(), gc.as_deref()).unwrap();
    println!("described in {:?}", start.elapsed());
    if let Some(template) = read("chat_template.jinja") {
        desc.set_chat_template(&template).unwrap();
    }
    println!("{:#?}\n{:?} {:?}", desc.hp, desc.mix(), desc.file_type);
    for t in &desc.tensors {
        println!("{} {:?} {:?} file {}", t.name, t.dtype, t.shape, t.file);
    }
    let v = desc.vocab.unwrap();
    println!("{:?} {} bos {:?} eos {:?} eot {:?} pad {:?}", v.model, v.pre, v.bos, v.eos, v.eot, v.pad);
    println!("{:?} add_bos {} template {:?} merges {}", v.fim, v.add_bos, v.chat_template, v.merges.len());
}
