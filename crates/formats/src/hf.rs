//! A Hugging Face model folder -> `ModelDesc`: names become GGUF's, tied weights are resolved, files are joined.

use base::limits::{CONFIG_BYTES_MAX, MODEL_DIR_FILES_MAX, TEMPLATE_BYTES_MAX, TENSORS_MAX, VOCAB_MAX};
use base::vocab::VocabSpec;

use crate::desc::{Container, ModelDesc, TensorDesc};
use crate::error::{FormatError, Kind, shown};
use crate::hf_config::{self, Config, GenerationConfig, IdList};
use crate::hf_tokenizer::{self, GivenIds};
use crate::safetensors::Safetensors;
use crate::vocab::pad_to;

const EMBEDDING: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";

impl ModelDesc {
    /// From the bytes of a folder in Hugging Face's layout.
    ///
    /// `files` are all its .safetensors files, in any order; `TensorDesc::file` counts in this order. An index
    /// (`model.safetensors.index.json`) is not needed: every file lists its own tensors.
    ///
    /// # Errors
    /// Whatever [`Safetensors::parse`] refuses; a tensor that two files have; missing or impossible sizes; a family
    /// or a rope scaling that is not supported. A tokenizer that is not supported is not an error here: it is in
    /// [`ModelDesc::vocab`].
    pub fn from_safetensors(
        files: &[&[u8]],
        config: &[u8],
        tokenizer: &[u8],
        tokenizer_config: Option<&[u8]>,
        generation_config: Option<&[u8]>,
    ) -> Result<ModelDesc, FormatError> {
        let parsed = hf_config::config(config)?;
        let arch = parsed.arch(config)?;
        let hp = parsed.hparams(config)?;
        let generation: GenerationConfig = match generation_config {
            Some(text) => hf_config::json("generation_config.json", text, CONFIG_BYTES_MAX)?,
            None => GenerationConfig::default(),
        };
        let mut tensors = join(files)?;
        settle_output(&mut tensors, &parsed)?;
        tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        refuse_twins(&tensors)?;
        check_embedding(&tensors, hp.n_vocab, hp.d_model)?;
        let vocab = hf_tokenizer::vocab(tokenizer, tokenizer_config, &given(&parsed, &generation))
            .and_then(|spec| fill(spec, hp.n_vocab));
        Ok(ModelDesc {
            arch,
            name: parsed.name.clone().filter(|n| !n.is_empty()),
            hp,
            tensors,
            vocab,
            container: Container::Safetensors { files: files.len() },
            file_type: parsed.dtype(),
            info: Vec::new(),
            suggested: generation.suggested(),
        })
    }

    /// Takes the chat template from `chat_template.jinja`, where newer folders keep it; it goes before one from
    /// tokenizer_config.json.
    ///
    /// # Errors
    /// Longer than `base::limits::TEMPLATE_BYTES_MAX`, or not UTF-8.
    pub fn set_chat_template(&mut self, source: &[u8]) -> Result<(), FormatError> {
        const FILE: &str = "chat_template.jinja";
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        if source.len() > TEMPLATE_BYTES_MAX {
            let (count, max) = (number(source.len()), number(TEMPLATE_BYTES_MAX));
            return Err(FormatError::new(FILE, 0, Kind::TooMany { what: "the chat template's size", count, max }));
        }
        let text = std::str::from_utf8(source)
            .map_err(|e| FormatError::new(FILE, number(e.valid_up_to()), Kind::Utf8 { what: "the chat template" }))?;
        if let Ok(spec) = &mut self.vocab {
            spec.chat_template = Some(text.to_owned());
        }
        Ok(())
    }
}

/// GGUF's name for a checkpoint's tensor (llama and qwen2 families); `None` for one that has none.
fn canonical_name(name: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some(EMBEDDING.to_owned()),
        "model.norm.weight" => return Some("output_norm.weight".to_owned()),
        "lm_head.weight" => return Some(OUTPUT.to_owned()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    // Written as GGUF writes it: no sign, no leading zero.
    let layer: u32 = layer.parse().ok().filter(|n: &u32| n.to_string() == layer)?;
    let (part, end) = rest.rsplit_once('.')?;
    let part = match part {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    matches!(end, "weight" | "bias").then(|| format!("blk.{layer}.{part}.{end}"))
}

/// The tensors of all files under canonical names. Rope frequencies that old checkpoints stored are left out.
fn join(files: &[&[u8]]) -> Result<Vec<TensorDesc>, FormatError> {
    let fail = |kind| Err(FormatError::new("safetensors", 0, kind));
    if files.len() > MODEL_DIR_FILES_MAX {
        let (count, max) =
            (files.len().try_into().unwrap_or(u64::MAX), MODEL_DIR_FILES_MAX.try_into().unwrap_or(u64::MAX));
        return fail(Kind::TooMany { what: "the number of files", count, max });
    }
    let mut tensors = Vec::new();
    for (file, bytes) in files.iter().enumerate() {
        for t in Safetensors::parse(bytes)?.into_tensors() {
            if t.name.ends_with(".rotary_emb.inv_freq") {
                continue;
            }
            let name = canonical_name(&t.name).unwrap_or(t.name);
            tensors.push(TensorDesc { name, dtype: t.dtype, shape: t.shape, file, extent: t.extent });
        }
        let count = u64::try_from(tensors.len()).unwrap_or(u64::MAX);
        if count > TENSORS_MAX {
            return fail(Kind::TooMany { what: "the number of tensors", count, max: TENSORS_MAX });
        }
    }
    Ok(tensors)
}

/// GGUF's way of tying: no `output.weight` means that the embedding is the output.
fn settle_output(tensors: &mut Vec<TensorDesc>, config: &Config) -> Result<(), FormatError> {
    if config.tie_word_embeddings == Some(true) {
        tensors.retain(|t| t.name != OUTPUT);
        return Ok(());
    }
    if tensors.iter().any(|t| t.name == OUTPUT) {
        return Ok(());
    }
    Err(FormatError::new("safetensors", 0, Kind::MissingTensor("lm_head.weight".to_owned())))
}

fn refuse_twins(sorted: &[TensorDesc]) -> Result<(), FormatError> {
    match sorted.iter().zip(sorted.iter().skip(1)).find(|(a, b)| a.name == b.name) {
        None => Ok(()),
        Some((_, b)) => {
            let kind = Kind::Duplicate { what: "tensor name", name: shown(&b.name) };
            Err(FormatError::new("safetensors", b.extent.offset(), kind))
        }
    }
}

fn check_embedding(tensors: &[TensorDesc], n_vocab: usize, d_model: usize) -> Result<(), FormatError> {
    let Some(t) = tensors.iter().find(|t| t.name == EMBEDDING) else {
        let kind = Kind::MissingTensor("model.embed_tokens.weight".to_owned());
        return Err(FormatError::new("safetensors", 0, kind));
    };
    let want = [n_vocab, d_model].map(|n| u64::try_from(n).unwrap_or(u64::MAX));
    if t.shape == want {
        return Ok(());
    }
    let (key, value) = ("model.embed_tokens.weight".to_owned(), format!("{:?}", t.shape));
    let want = format!("{want:?}, vocab_size by hidden_size of config.json");
    Err(FormatError::new("safetensors", t.extent.offset(), Kind::OutOfRange { key, value, want }))
}

/// Ids by number. generation_config.json comes first: it is what the makers generate with.
fn given(config: &Config, generation: &GenerationConfig) -> GivenIds {
    let both = |a: &Option<IdList>, b: &Option<IdList>| {
        let mut ids = IdList::ids(a.as_ref());
        ids.extend(IdList::ids(b.as_ref()));
        ids.truncate(VOCAB_MAX);
        ids
    };
    GivenIds {
        bos: both(&generation.bos_token_id, &config.bos_token_id),
        eos: both(&generation.eos_token_id, &config.eos_token_id),
        pad: both(&generation.pad_token_id, &config.pad_token_id),
    }
}

fn fill(mut spec: VocabSpec, n_vocab: usize) -> Result<VocabSpec, FormatError> {
    let n_tokens = spec.tokens.len();
    match pad_to(&mut spec, n_vocab) {
        Some(()) => Ok(spec),
        None => {
            let want = format!("no more than vocab_size of config.json, {n_vocab}");
            let kind = Kind::OutOfRange { key: "the number of tokens".to_owned(), value: n_tokens.to_string(), want };
            Err(FormatError::new("tokenizer.json", 0, kind))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_canonical_or_stay() {
        assert_eq!(canonical_name("model.layers.7.self_attn.q_proj.bias").as_deref(), Some("blk.7.attn_q.bias"));
        assert_eq!(canonical_name("model.layers.31.mlp.down_proj.weight").as_deref(), Some("blk.31.ffn_down.weight"));
        assert_eq!(canonical_name("lm_head.weight").as_deref(), Some("output.weight"));
        for odd in [
            "model.layers.07.mlp.up_proj.weight",
            "model.layers.+7.mlp.up_proj.weight",
            "model.layers.x.a.weight",
            "model.layers.1.mlp.up_proj.scale",
            "x",
        ] {
            assert_eq!(canonical_name(odd), None, "{odd}");
        }
    }
}
