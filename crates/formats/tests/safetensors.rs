//! safetensors folders: a right one, and every kind of wrong one.

mod support;

use base::rng::bits;
use base::vocab::TokenKind;
use formats::{FormatError, ModelDesc, RopePairing, RopeScaling, Safetensors, Suggested};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::alloc::{Counting, peak_bytes};
use support::gguf_writer::Val;
use support::safetensors_writer::{Spec, config, file, raw, tiny_tensors, tokenizer};

#[global_allocator]
static ALLOC: Counting = Counting;

fn describe(files: &[&[u8]], config: &Value, tokenizer: &Value) -> Result<ModelDesc, FormatError> {
    ModelDesc::from_safetensors(files, config.to_string().as_bytes(), tokenizer.to_string().as_bytes(), None, None)
}

#[test]
fn a_folder_is_described_as_its_gguf_twin_would_be() {
    let bytes = file(&tiny_tensors());
    let desc = describe(&[&bytes], &config(), &tokenizer()).unwrap();
    assert_eq!((desc.arch.as_str(), desc.hp.rope.pairing, desc.hp.rope.base), ("qwen2", RopePairing::Halves, 1e6));
    let twin = ModelDesc::from_gguf(&support::gguf_writer::tiny_model("qwen2").write().bytes).unwrap();
    let shapes = |d: &ModelDesc| -> Vec<_> {
        d.tensors.iter().filter(|t| !t.name.ends_with("bias")).map(|t| (t.name.clone(), t.shape.clone())).collect()
    };
    assert_eq!(shapes(&desc), shapes(&twin));
    for t in &desc.tensors {
        assert_eq!(desc.tensor(&t.name), Some(t));
        assert!(t.extent.of(&bytes).is_some());
    }
    let v = desc.vocab.unwrap();
    assert_eq!((v.pre.as_str(), v.bos, v.eos, v.eot, v.add_bos), ("qwen2", Some(6), Some(7), Some(6), false));
    assert_eq!((v.tokens.len(), v.tokens.get(8), v.tokens.get(11)), (12, Some("<tool>"), Some("[PAD11]")));
    assert_eq!((v.kinds[6], v.kinds[8], v.kinds[11]), (TokenKind::Control, TokenKind::UserDefined, TokenKind::Unused));
    assert_eq!(v.merges.iter().collect::<Vec<_>>(), ["a b", "ab c"]);
}

#[test]
fn how_the_makers_sample_is_read_and_never_trusted() {
    let folder = |generation: Value| {
        let (bytes, c, t) = (file(&tiny_tensors()), config().to_string(), tokenizer().to_string());
        let g = generation.to_string();
        ModelDesc::from_safetensors(&[&bytes], c.as_bytes(), t.as_bytes(), None, Some(g.as_bytes())).unwrap().suggested
    };
    let qwen = Suggested { temperature: Some(0.7), top_k: Some(20), top_p: Some(0.8), min_p: None };
    let said = json!({"do_sample": true, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1});
    assert_eq!(folder(said), qwen);
    assert_eq!(folder(json!({"do_sample": false, "temperature": 0.7})), Suggested::default());
    let nonsense = json!({"temperature": "hot", "top_p": 0, "top_k": -1, "min_p": 1e300});
    assert_eq!(folder(nonsense), Suggested::default());
    let file = |pairs: &[(&str, Val)]| {
        let mut writer = support::gguf_writer::tiny_model("qwen2");
        pairs.iter().for_each(|(key, val)| writer.set(&format!("general.sampling.{key}"), val.clone()));
        ModelDesc::from_gguf(&writer.write().bytes).unwrap().suggested
    };
    assert_eq!(file(&[("temp", Val::F32(0.7)), ("top_p", Val::F32(0.8)), ("top_k", Val::I32(20))]), qwen);
    let odd = [("temp", Val::F32(f32::NAN)), ("top_p", Val::F32(7.0)), ("top_k", support::gguf_writer::str("x"))];
    assert_eq!(file(&odd), Suggested::default());
}

#[test]
fn several_files_make_one_model() {
    let all = tiny_tensors();
    let (a, b) = (file(&all[..5]), file(&all[5..]));
    let desc = describe(&[&a, &b], &config(), &tokenizer()).unwrap();
    assert_eq!(desc.tensor("token_embd.weight").unwrap().file, 0);
    assert_eq!(desc.tensor("blk.0.ffn_up.weight").unwrap().file, 1);
    let twice = describe(&[&a, &b, &a], &config(), &tokenizer()).unwrap_err().to_string();
    assert!(twice.contains("occurs twice"), "{twice}");
}

#[test]
fn tied_weights_follow_the_config() {
    let mut tensors = tiny_tensors();
    let mut untied = config();
    untied["tie_word_embeddings"] = json!(false);
    let without = file(&tensors);
    assert!(describe(&[&without], &untied, &tokenizer()).unwrap_err().to_string().contains("lm_head.weight"));
    tensors.push(("lm_head.weight", "BF16", 2, &[12, 32]));
    let with = file(&tensors);
    assert!(describe(&[&with], &untied, &tokenizer()).unwrap().tensor("output.weight").is_some());
    assert!(describe(&[&with], &config(), &tokenizer()).unwrap().tensor("output.weight").is_none());
}

#[test]
fn rope_is_read_from_both_places() {
    let bytes = file(&tiny_tensors());
    let rope = |change: Value| {
        let mut c = config();
        c.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        describe(&[&bytes], &c, &tokenizer()).map(|d| d.hp.rope)
    };
    let llama3 = json!({"rope_type": "llama3", "type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    let want = RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_ctx: 8192 };
    let old = rope(json!({"rope_scaling": llama3})).unwrap();
    assert_eq!((old.base, &old.scaling), (1e6, &want));
    let mut newer = llama3.clone();
    newer["rope_theta"] = json!(5e5);
    let newer = rope(json!({"rope_parameters": newer, "rope_theta": null})).unwrap();
    assert_eq!((newer.base, &newer.scaling), (5e5, &want));
    assert_eq!(rope(json!({"rope_parameters": {"rope_type": "default"}})).unwrap().scaling, RopeScaling::None);
    assert_eq!(rope(json!({"partial_rotary_factor": 0.5})).unwrap().d_rot, 4);
    for (bad, says) in [
        (json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}), "yarn"),
        (json!({"rope_scaling": {"type": "linear"}}), "factor"),
        (json!({"rope_scaling": {"type": "linear", "factor": 0}}), "factor"),
        (json!({"partial_rotary_factor": 1e300}), "partial_rotary_factor"),
        (json!({"rope_theta": 0}), "rope_theta"),
    ] {
        let text = rope(bad).unwrap_err().to_string();
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn impossible_configs_are_refused_by_field() {
    let bytes = file(&tiny_tensors());
    for (field, value, says) in [
        ("num_hidden_layers", json!(null), "missing"),
        ("num_hidden_layers", json!(0), "1 to"),
        ("num_hidden_layers", json!(-1), "invalid value"),
        ("num_attention_heads", json!(u64::MAX), "num_attention_heads"),
        ("num_key_value_heads", json!(3), "divisor"),
        ("head_dim", json!(3), "even"),
        ("vocab_size", json!(13), "embed_tokens"),
        ("rms_norm_eps", json!(0), "rms_norm_eps"),
        ("model_type", json!("mamba"), "mamba"),
        ("hidden_act", json!("gelu"), "gelu"),
        ("use_sliding_window", json!(true), "sliding window"),
    ] {
        let mut c = config();
        c[field] = value;
        let text = describe(&[&bytes], &c, &tokenizer()).unwrap_err().to_string();
        assert!(text.contains(says), "{field}: {text}");
    }
}

#[test]
fn tokenizers_that_are_not_byte_level_bpe_are_named() {
    let bytes = file(&tiny_tensors());
    for (path, value, says) in [
        ("/model/type", json!("Unigram"), "Unigram"),
        ("/model/byte_fallback", json!(true), "SentencePiece"),
        ("/pre_tokenizer", json!({"type": "Metaspace"}), "Metaspace"),
        ("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("(a+)+$"), "(a+)+$"),
        ("/normalizer", json!({"type": "Lowercase"}), "Lowercase"),
        ("/model/vocab/a", json!(1), "occurs twice"),
        ("/model/vocab/a", json!(u32::MAX), "limit"),
        ("/model/vocab/a", json!(500), "vocab_size"),
        ("/model/merges/0", json!("ab"), "no pair"),
        ("/model/merges/0", json!(["a", "b", "c"]), "two sides"),
        ("/model/merges", json!(null), "model.merges"),
    ] {
        let mut t = tokenizer();
        if path == "/model/byte_fallback" {
            t["model"]["byte_fallback"] = value;
        } else {
            *t.pointer_mut(path).unwrap() = value;
        }
        let desc = describe(&[&bytes], &config(), &t).unwrap();
        let text = desc.vocab.unwrap_err().to_string();
        assert!(text.contains(says) && text.contains("at byte"), "{path}: {text}");
    }
    let mut pairs = tokenizer();
    pairs["model"]["merges"] = json!([["a", "b"], ["ab", "c"]]);
    assert_eq!(describe(&[&bytes], &config(), &pairs).unwrap().vocab.unwrap().merges.get(1), Some("ab c"));
}

#[test]
fn tokenizer_config_names_tokens_and_template() {
    let bytes = file(&tiny_tensors());
    let with = |tokenizer_config: Value, generation: Value| {
        let (c, t) = (config().to_string(), tokenizer().to_string());
        let (tc, g) = (tokenizer_config.to_string(), generation.to_string());
        ModelDesc::from_safetensors(&[&bytes], c.as_bytes(), t.as_bytes(), Some(tc.as_bytes()), Some(g.as_bytes()))
            .unwrap()
            .vocab
    };
    let v = with(
        json!({"bos_token": null, "eos_token": {"content": "<|endoftext|>", "lstrip": false}, "pad_token": "<tool>",
            "add_bos_token": true, "chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}),
        json!({"eos_token_id": [7, 6]}),
    )
    .unwrap();
    assert_eq!((v.eos, v.eot, v.pad, v.add_bos), (Some(6), Some(7), Some(8), true));
    assert_eq!(v.chat_template.as_deref(), Some("D"));
    let v = with(json!({"chat_template": "X"}), json!({"eos_token_id": [7, 6]})).unwrap();
    assert_eq!((v.eos, v.eot, v.chat_template.as_deref()), (Some(7), Some(6), Some("X")));
    assert!(with(json!({}), json!({"eos_token_id": 12})).unwrap_err().to_string().contains("below the vocabulary"));
}

#[test]
fn a_template_file_replaces_the_one_in_the_config() {
    let bytes = file(&tiny_tensors());
    let mut desc = describe(&[&bytes], &config(), &tokenizer()).unwrap();
    desc.set_chat_template(b"from the file").unwrap();
    assert_eq!(desc.vocab.as_ref().unwrap().chat_template.as_deref(), Some("from the file"));
    assert_eq!(desc.set_chat_template(b"ab\xff").unwrap_err().offset(), 2);
    assert!(desc.set_chat_template(&vec![b'x'; 1 << 21]).unwrap_err().to_string().contains("limit"));
}

#[test]
fn hostile_headers_are_refused_with_a_byte() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let two = |a: &str, b: &str| {
        let t = |o: &str| format!(r#"{{"dtype":"F32","shape":[1],"data_offsets":{o}}}"#);
        format!(r#"{{"a":{},"b":{}}}"#, t(a), t(b))
    };
    let cases: Vec<(String, usize, &str)> = vec![
        ("".into(), 0, "begins with"),
        ("[]".into(), 0, "begins with"),
        (" {}".into(), 0, "begins with"),
        ("{".into(), 0, "JSON"),
        ("{}x".into(), 0, "JSON"),
        ("{\"t\":[]}".into(), 0, "JSON"),
        (one("F32", "[2]", "[0,8]"), 7, "needs 8 bytes"),
        (one("F32", "[2]", "[0,4]"), 8, "declares 4"),
        (one("F32", "[2]", "[8,0]"), 8, "declares 0"),
        (one("F32", "[2]", "[-1,8]"), 8, "invalid value"),
        (one("F32", "[0]", "[0,0]"), 0, "dimension of 0"),
        (one("F32", "[4611686018427387904,4]", "[0,0]"), 0, "larger than any file"),
        (one("F32", "[1,1,1,1,1]", "[0,4]"), 4, "dimensions"),
        (one("F32", "[18446744073709551616]", "[0,4]"), 4, "invalid"),
        (one("Q9", "[1]", "[0,4]"), 4, "Q9"),
        (one("F8_E4M3", "[4]", "[0,4]"), 4, "F8_E4M3"),
        (one("F32", "[1]", "[18446744073709551612,18446744073709551615]"), 4, "declares 3"),
        (one("F32", "[1]", "[18446744073709551608,18446744073709551612]"), 4, "from byte"),
        (one("F32", "[1]", "[0,4],\"x\":1"), 4, "unknown field"),
        (one("F32", "[1]", "[0,4]"), 8, "belong to no tensor"),
        (two("[0,4]", "[0,4]"), 8, "overlap"),
        (two("[0,4]", "[8,12]"), 12, "belong to no tensor"),
        (two("[4,8]", "[2,6]"), 8, "belong to no tensor"),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#.into(), 8, "twice"),
        (format!("{{\"{}\":1}}", "x".repeat(600)), 0, "name of more than"),
        (format!("{{\"__metadata__\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000)), 0, ""),
        (format!("{{\"t\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000)), 0, "JSON"),
    ];
    for (header, data, says) in cases {
        let bytes = raw(&header, &vec![0; data]);
        let short: String = header.chars().take(100).collect();
        let (result, peak) = peak_bytes(|| Safetensors::parse(&bytes));
        assert!(peak <= 16 << 20, "{short}: {peak}");
        match result {
            Err(e) => {
                let text = e.to_string();
                assert!(text.contains(says) && text.contains("at byte"), "{short}: {text}");
                assert!(e.offset() <= bytes.len() as u64, "{short}: {text}");
            }
            Ok(_) => assert!(says.is_empty(), "{short} was accepted"),
        }
    }
    for (len, says) in [(100_000_001, "limit"), (u64::MAX, "limit"), (17, "follow")] {
        let bytes = [&u64::to_le_bytes(len)[..], b"{}"].concat();
        assert!(Safetensors::parse(&bytes).unwrap_err().to_string().contains(says));
    }
}

#[test]
fn cut_and_flipped_files_are_refused_or_harmless() {
    let specs: &[Spec<'_>] = &[("a", "F32", 4, &[2, 3]), ("b\u{e9}\"", "BF16", 2, &[5]), ("c", "F16", 2, &[])];
    let bytes = file(specs);
    let whole = Safetensors::parse(&bytes).unwrap();
    assert_eq!(whole.tensors().len(), 3);
    for len in 0..bytes.len() {
        assert!(Safetensors::parse(&bytes[..len]).is_err(), "cut at {len}");
    }
    let mut accepted = 0;
    let mut damaged = bytes.clone();
    for i in 0..bytes.len() * 8 {
        damaged[i / 8] ^= 1 << (i % 8);
        if let Ok(s) = Safetensors::parse(&damaged) {
            accepted += 1;
            assert!(s.tensors().iter().all(|t| t.extent.of(&damaged).is_some()));
        }
        damaged[i / 8] ^= 1 << (i % 8);
    }
    println!("{accepted} of {} accepted", bytes.len() * 8);
}

/// Cuts, repeats and overwrites in JSON text, with pieces that parsers trip over.
fn mutate(text: &str, seed: u64) -> Vec<u8> {
    const PIECES: [&str; 14] =
        ["null", "[", "]", "{", "}", "\"", "-1", "1e999", "18446744073709551615", "0", "\\u0000", "\\ud800", ",", ":"];
    let mut b = text.as_bytes().to_vec();
    for step in 0..1 + bits(seed, 0, 1) % 4 {
        let r = |lane, n: usize| (bits(seed, step, lane) % n.max(1) as u64) as usize;
        let at = r(2, b.len());
        let end = (at + r(3, 30)).min(b.len());
        match r(4, 4) {
            0 => drop(b.drain(at..end)),
            1 => {
                let copy = b[at..end].to_vec();
                b.splice(at..at, copy);
            }
            2 => drop(b.splice(at..end, PIECES[r(5, PIECES.len())].bytes())),
            _ => b[at] = r(5, 256) as u8,
        }
        if b.is_empty() {
            break;
        }
    }
    b
}

#[test]
fn mutated_json_is_refused_or_harmless() {
    const N: u64 = if cfg!(debug_assertions) { 2_000 } else { 10_000 };
    let bytes = file(&tiny_tensors());
    let header = String::from_utf8_lossy(&bytes[8..8 + bytes[0] as usize + 256 * bytes[1] as usize]).into_owned();
    let data = vec![0; bytes.len() - 8 - header.len()];
    let (c, t) = (config().to_string(), tokenizer().to_string());
    let tc = json!({"bos_token": "a", "eos_token": {"content": "b"}, "chat_template": [{"name": "default", "template": "x"}]}).to_string();
    let mut accepted = [0; 4];
    for seed in 0..N {
        let which = (seed % 4) as usize;
        let pick = |i: usize, text: &str| if i == which { mutate(text, seed) } else { text.as_bytes().to_vec() };
        let h = pick(0, &header);
        let file = [&(h.len() as u64).to_le_bytes()[..], &h, &data].concat();
        let (result, peak) =
            peak_bytes(|| ModelDesc::from_safetensors(&[&file], &pick(1, &c), &pick(2, &t), Some(&pick(3, &tc)), None));
        assert!(peak <= 32 << 20, "seed {seed}: {peak}");
        if let Ok(desc) = result {
            accepted[which] += 1;
            assert!(desc.tensors.iter().all(|t| t.extent.of(&file).is_some()));
            if let Ok(v) = desc.vocab {
                assert_eq!((v.tokens.len(), v.kinds.len()), (desc.hp.n_vocab, desc.hp.n_vocab));
            }
        }
    }
    println!("accepted {accepted:?} of {} each", N / 4);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(shapes in prop::collection::vec(prop::collection::vec(1u64..5, 0..4), 1..8)) {
        let names: Vec<String> = (0..shapes.len()).map(|i| format!("t{i}")).collect();
        let specs: Vec<Spec<'_>> = names.iter().zip(&shapes).map(|(n, s)| (n.as_str(), "F32", 4, s.as_slice())).collect();
        let bytes = file(&specs);
        let read = Safetensors::parse(&bytes).unwrap();
        let got: Vec<_> = read.tensors().iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
        let want: Vec<_> = names.iter().cloned().zip(shapes).collect();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Safetensors::parse(&bytes).is_err());
        prop_assert!(formats::Gguf::parse(&bytes).is_err());
    }
}
