//! Writes tiny safetensors models: one file, config.json, tokenizer.json.

use serde_json::{Value, json};

/// A file with this header text and this much data.
pub fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Name, type name, bytes per element, shape.
pub type Spec<'a> = (&'a str, &'a str, u64, &'a [u64]);

/// Tensors one after another.
pub fn file(tensors: &[Spec<'_>]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for (name, dtype, width, shape) in tensors {
        let begin = end;
        end += width * shape.iter().product::<u64>();
        header.insert((*name).to_owned(), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}));
    }
    let mut text = Value::Object(header).to_string();
    // The usual padding.
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    raw(&text, &vec![0; end as usize])
}

/// One layer, four heads of eight, twelve tokens: the twin of `gguf_writer::tiny_model`.
pub fn tiny_tensors() -> Vec<Spec<'static>> {
    vec![
        ("model.embed_tokens.weight", "BF16", 2, &[12, 32]),
        ("model.norm.weight", "F32", 4, &[32]),
        ("model.layers.0.input_layernorm.weight", "F32", 4, &[32]),
        ("model.layers.0.post_attention_layernorm.weight", "F32", 4, &[32]),
        ("model.layers.0.self_attn.q_proj.weight", "BF16", 2, &[32, 32]),
        ("model.layers.0.self_attn.q_proj.bias", "F16", 2, &[32]),
        ("model.layers.0.self_attn.k_proj.weight", "BF16", 2, &[16, 32]),
        ("model.layers.0.self_attn.v_proj.weight", "BF16", 2, &[16, 32]),
        ("model.layers.0.self_attn.o_proj.weight", "BF16", 2, &[32, 32]),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 4, &[4]),
        ("model.layers.0.mlp.gate_proj.weight", "BF16", 2, &[64, 32]),
        ("model.layers.0.mlp.up_proj.weight", "BF16", 2, &[64, 32]),
        ("model.layers.0.mlp.down_proj.weight", "BF16", 2, &[32, 64]),
    ]
}

pub fn config() -> Value {
    json!({
        "model_type": "qwen2", "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 32, "intermediate_size": 64, "vocab_size": 12, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6, "rope_theta": 1_000_000, "tie_word_embeddings": true, "hidden_act": "silu",
        "eos_token_id": 7, "bos_token_id": 6, "dtype": "bfloat16",
    })
}

pub const QWEN2_PATTERN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);

pub fn tokenizer() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [
            {"id": 6, "content": "<|endoftext|>", "special": true, "lstrip": false},
            {"id": 7, "content": "<|im_end|>", "special": true},
            {"id": 8, "content": "<tool>", "special": false},
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null,
            "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "\u{120}": 5},
            "merges": ["a b", "ab c"],
        },
    })
}
