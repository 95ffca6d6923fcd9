//! Any bytes as one of the files of a Hugging Face folder, the others being right. The first byte chooses: 0 the whole
//! .safetensors file, 1 its header only, 2 config.json, 3 tokenizer.json, 4 tokenizer_config.json, 5 generation_config.json.

use formats::ModelDesc;

use crate::safetensors_writer::{config, file, raw, tiny_tensors, tokenizer};

const TOKENIZER_CONFIG: &str = r#"{"bos_token":null,"eos_token":{"content":"<|im_end|>"},"add_bos_token":false,
"chat_template":[{"name":"default","template":"{{ messages }}"}]}"#;
const GENERATION_CONFIG: &str = r#"{"eos_token_id":[7,6],"pad_token_id":6}"#;

/// Checks that every tensor of an accepted folder lies inside its file.
pub fn run(data: &[u8]) {
    let (which, data) = data.split_first().map_or((0, data), |(b, rest)| (b % 6, rest));
    let bytes = match which {
        0 => data.to_vec(),
        1 => raw(&String::from_utf8_lossy(data), &[0; 64]),
        _ => file(&tiny_tensors()),
    };
    let parts = [config().to_string(), tokenizer().to_string(), TOKENIZER_CONFIG.into(), GENERATION_CONFIG.into()];
    let part = |i: u8| if which == i + 2 { data } else { parts[i as usize].as_bytes() };
    match ModelDesc::from_safetensors(&[&bytes], part(0), part(1), Some(part(2)), Some(part(3))) {
        Ok(desc) => {
            assert!(desc.tensors.iter().all(|t| t.extent.of(&bytes).is_some()));
            if let Ok(v) = &desc.vocab {
                assert_eq!((v.tokens.len(), v.kinds.len()), (desc.hp.n_vocab, desc.hp.n_vocab));
                let _ = text::Tokenizer::new(v);
            }
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

/// Each file once, right.
pub fn seeds() -> Vec<Vec<u8>> {
    let whole = file(&[("a", "F32", 4, &[2, 3]), ("b", "BF16", 2, &[5])]);
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[4,4],"data_offsets":[0,64]}}"#;
    let parts = [config().to_string(), tokenizer().to_string(), TOKENIZER_CONFIG.into(), GENERATION_CONFIG.into()];
    let texts = [whole, header.into()].into_iter().chain(parts.into_iter().map(String::into_bytes));
    (0u8..).zip(texts).map(|(i, text)| [vec![i], text].concat()).collect()
}
