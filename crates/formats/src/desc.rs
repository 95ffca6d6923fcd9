//! One checked description of a model, whatever container it came in. Tensors carry GGUF's canonical names
//! (`token_embd.weight`, `blk.7.attn_q.weight`, ...), so that everything above knows one naming only.

use std::collections::BTreeMap;

use base::vocab::VocabSpec;
use quant::DType;

use crate::error::FormatError;
use crate::extent::Extent;

/// A model as its files describe it. Sizes are within `base::limits` and consistent with each other; whether each
/// tensor has the shape that its family needs is for `model` to say.
#[derive(Clone, Debug)]
pub struct ModelDesc {
    /// `general.architecture` | `model_type`: "llama", "qwen2", ...
    pub arch: String,
    /// `general.name` | `_name_or_path`.
    pub name: Option<String>,
    /// Sizes.
    pub hp: HParams,
    /// Every tensor, sorted by name.
    pub tensors: Vec<TensorDesc>,
    /// The vocabulary, filled up to `hp.n_vocab`; or why there is none (the weights can still be run on token ids).
    pub vocab: Result<VocabSpec, FormatError>,
    /// What the bytes were.
    pub container: Container,
    /// `general.file_type` by its usual name ("Q4_K_M"), or the `dtype` of config.json.
    pub file_type: Option<String>,
    /// The file's own account of itself, for people: GGUF's `general.*` strings.
    pub info: Vec<(String, String)>,
    /// How its makers sample.
    pub suggested: Suggested,
}

/// How the makers of a model suggest to sample, as far as they say: `general.sampling.*` of GGUF, generation_config.json.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Suggested {
    /// Divides the logits.
    pub temperature: Option<f32>,
    /// Tokens that are kept; 0 keeps all.
    pub top_k: Option<u32>,
    /// Probability that is kept.
    pub top_p: Option<f32>,
    /// Least probability, as a share of the highest.
    pub min_p: Option<f32>,
}

impl Suggested {
    /// Without what no sampler takes: a file's word is not to be trusted.
    pub fn within_range(self) -> Self {
        Self {
            temperature: self.temperature.filter(|t| (0.0..=2.0).contains(t)),
            top_k: self.top_k,
            top_p: self.top_p.filter(|p| *p > 0.0 && *p <= 1.0),
            min_p: self.min_p.filter(|p| (0.0..=1.0).contains(p)),
        }
    }

    /// What this one says, and where it says nothing, the other.
    pub fn or(self, other: Self) -> Self {
        Self {
            temperature: self.temperature.or(other.temperature),
            top_k: self.top_k.or(other.top_k),
            top_p: self.top_p.or(other.top_p),
            min_p: self.min_p.or(other.min_p),
        }
    }
}

/// The kind of file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Container {
    /// One GGUF file.
    Gguf {
        /// 2 or 3.
        version: u32,
        /// Alignment of tensor data, bytes.
        alignment: u64,
        /// Metadata pairs.
        pairs: usize,
        /// Bytes before the first tensor.
        header_bytes: u64,
    },
    /// A folder in Hugging Face's layout.
    Safetensors {
        /// Number of .safetensors files.
        files: usize,
    },
}

/// Sizes of a decoder. Each line cites the GGUF key (`{arch}.` in front) and the config.json key.
#[derive(Clone, Debug, PartialEq)]
pub struct HParams {
    /// `block_count` | `num_hidden_layers`.
    pub n_layers: usize,
    /// `attention.head_count` | `num_attention_heads`.
    pub n_heads: usize,
    /// `attention.head_count_kv` | `num_key_value_heads`; divides `n_heads`. Absent: `n_heads`.
    pub n_kv_heads: usize,
    /// `embedding_length` | `hidden_size`.
    pub d_model: usize,
    /// `attention.key_length` | `head_dim`; even. Absent: `d_model / n_heads`.
    pub d_head: usize,
    /// `feed_forward_length` | `intermediate_size`.
    pub d_ff: usize,
    /// Rows of `token_embd.weight` | `vocab_size`.
    pub n_vocab: usize,
    /// `context_length` | `max_position_embeddings`, cut to `base::limits::CTX_MAX`.
    pub n_ctx: usize,
    /// `attention.layer_norm_rms_epsilon` | `rms_norm_eps`.
    pub rms_eps: f32,
    /// Rotary position embedding.
    pub rope: Rope,
}

/// Rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// `rope.freq_base` | `rope_theta`, here or in `rope_parameters`. Absent: 10000.
    pub base: f32,
    /// Dimensions of a head that turn: `rope.dimension_count` | `partial_rotary_factor * head_dim`; even.
    pub d_rot: usize,
    /// Which elements turn together.
    pub pairing: RopePairing,
    /// How frequencies are stretched for long contexts.
    pub scaling: RopeScaling,
}

/// Which two elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairing {
    /// `(x[2i], x[2i + 1])`: GGUF files of the llama family, whose q and k rows were permuted for it.
    Interleaved,
    /// `(x[i], x[i + d_rot / 2])`: GGUF files of the qwen2 family, and every Hugging Face checkpoint.
    Halves,
}

/// Frequency scaling.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// Every frequency divided by `factor`: `rope.scaling.type = linear` | `rope_type: linear`.
    Linear {
        /// `rope.scaling.factor` | `factor`.
        factor: f32,
    },
    /// Llama 3's: low frequencies divided by `factor`, high ones kept, between them a smooth passage.
    Llama3 {
        /// `factor`.
        factor: f32,
        /// `low_freq_factor`.
        low_freq_factor: f32,
        /// `high_freq_factor`.
        high_freq_factor: f32,
        /// `original_max_position_embeddings`.
        original_ctx: usize,
    },
    /// Every frequency divided by its own factor, read from a tensor: f32, `[d_rot / 2]`.
    Factors {
        /// The tensor's name, `rope_freqs.weight`.
        tensor: String,
    },
}

/// A tensor: where it lies and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorDesc {
    /// GGUF's canonical name; a tensor that has none keeps its own.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Outermost first: a weight matrix is `[rows (out), cols (in)]`. Every dimension is at least 1.
    pub shape: Vec<u64>,
    /// Index of the file in the list given to `from_safetensors`; 0 for GGUF.
    pub file: usize,
    /// Its bytes in that file; the length is exactly what shape and type make.
    pub extent: Extent,
}

impl TensorDesc {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |n, d| n.saturating_mul(*d))
    }
}

/// What one element type contributes to a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Tensors of this type.
    pub tensors: usize,
    /// Their elements.
    pub elements: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl ModelDesc {
    /// A tensor by canonical name: binary search.
    pub fn tensor(&self, name: &str) -> Option<&TensorDesc> {
        let at = self.tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok()?;
        self.tensors.get(at)
    }

    /// Parameters in all tensors.
    pub fn n_params(&self) -> u64 {
        self.tensors.iter().fold(0, |n, t| n.saturating_add(t.elements()))
    }

    /// Bytes of all tensors.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.iter().fold(0, |n, t| n.saturating_add(t.extent.len()))
    }

    /// What each element type contributes.
    pub fn mix(&self) -> BTreeMap<DType, Share> {
        let mut mix: BTreeMap<DType, Share> = BTreeMap::new();
        for t in &self.tensors {
            let share = mix.entry(t.dtype).or_default();
            share.tensors = share.tensors.saturating_add(1);
            share.elements = share.elements.saturating_add(t.elements());
            share.bytes = share.bytes.saturating_add(t.extent.len());
        }
        mix
    }

    /// From the bytes of one GGUF file.
    ///
    /// # Errors
    /// Whatever [`crate::Gguf::parse`] refuses; missing or impossible sizes; a family or a rope scaling that is not
    /// supported; one part of a split model.
    pub fn from_gguf(bytes: &[u8]) -> Result<ModelDesc, FormatError> {
        crate::desc_gguf::describe(&crate::gguf::Gguf::parse(bytes)?)
    }
}
