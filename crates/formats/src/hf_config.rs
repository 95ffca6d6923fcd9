//! config.json and generation_config.json of a Hugging Face model folder.

use base::limits::CONFIG_BYTES_MAX;
use serde::Deserialize;

use crate::desc::{HParams, RopePairing, RopeScaling, Suggested};
use crate::error::{FormatError, Kind, shown};
use crate::sizes::{Field, Sizes, Source, check};

pub(crate) const FILE: &str = "config.json";
const ROPE_BASE_DEFAULT: f64 = 10_000.0;

/// The fields that are used; all others are skipped.
#[derive(Deserialize, Debug, Default)]
pub(crate) struct Config {
    model_type: Option<String>,
    #[serde(rename = "_name_or_path")]
    pub name: Option<String>,
    num_hidden_layers: Option<u64>,
    num_attention_heads: Option<u64>,
    num_key_value_heads: Option<u64>,
    hidden_size: Option<u64>,
    head_dim: Option<u64>,
    intermediate_size: Option<u64>,
    vocab_size: Option<u64>,
    max_position_embeddings: Option<u64>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    rope_scaling: Option<RopeConfig>,
    rope_parameters: Option<RopeConfig>,
    hidden_act: Option<String>,
    pub tie_word_embeddings: Option<bool>,
    use_sliding_window: Option<bool>,
    pub bos_token_id: Option<IdList>,
    pub eos_token_id: Option<IdList>,
    pub pad_token_id: Option<IdList>,
    torch_dtype: Option<String>,
    dtype: Option<String>,
}

/// `rope_scaling`, and its successor `rope_parameters`, which also holds `rope_theta`.
#[derive(Deserialize, Debug, Default)]
struct RopeConfig {
    rope_type: Option<String>,
    /// The older name of `rope_type`; some files have both.
    r#type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<u64>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

/// A token id, or a list of them.
#[derive(Deserialize, Debug, Clone)]
#[serde(untagged)]
pub(crate) enum IdList {
    One(i64),
    Many(Vec<i64>),
}

impl IdList {
    /// The ids, without those that mean "none".
    pub fn ids(list: Option<&IdList>) -> Vec<u32> {
        let ids = match list {
            None => &[][..],
            Some(IdList::One(id)) => std::slice::from_ref(id),
            Some(IdList::Many(ids)) => ids,
        };
        ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect()
    }
}

#[derive(Deserialize, Debug, Default)]
pub(crate) struct GenerationConfig {
    pub bos_token_id: Option<IdList>,
    pub eos_token_id: Option<IdList>,
    pub pad_token_id: Option<IdList>,
    pub do_sample: Option<serde_json::Value>,
    pub temperature: Option<serde_json::Value>,
    pub top_k: Option<serde_json::Value>,
    pub top_p: Option<serde_json::Value>,
    pub min_p: Option<serde_json::Value>,
}

impl GenerationConfig {
    /// How the makers sample. What is not a number is as if it were not there: the model runs without.
    pub(crate) fn suggested(&self) -> Suggested {
        if self.do_sample.as_ref().is_some_and(|v| v.as_bool() == Some(false)) {
            return Suggested::default();
        }
        let number = |v: &Option<serde_json::Value>| v.as_ref()?.as_number()?.to_string().parse::<f32>().ok();
        let top_k = self.top_k.as_ref().and_then(serde_json::Value::as_u64).and_then(|k| u32::try_from(k).ok());
        let (temperature, top_p, min_p) = (number(&self.temperature), number(&self.top_p), number(&self.min_p));
        Suggested { temperature, top_k, top_p, min_p }.within_range()
    }
}

/// Parses JSON of at most `max` bytes.
pub(crate) fn json<'a, T: Deserialize<'a>>(file: &'static str, text: &'a [u8], max: u64) -> Result<T, FormatError> {
    let count = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if count > max {
        return Err(FormatError::new(file, 0, Kind::TooMany { what: "the file's size", count, max }));
    }
    serde_json::from_slice(text).map_err(|e| FormatError::json(file, text, 0, &e))
}

/// Parses config.json.
pub(crate) fn config(text: &[u8]) -> Result<Config, FormatError> {
    json(FILE, text, CONFIG_BYTES_MAX)
}

struct Keys<'a> {
    text: &'a [u8],
}

impl Source for Keys<'_> {
    fn key(&self, field: Field) -> String {
        let key = match field {
            Field::Layers => "num_hidden_layers",
            Field::Heads => "num_attention_heads",
            Field::KvHeads => "num_key_value_heads",
            Field::Model => "hidden_size",
            Field::Head => "head_dim",
            Field::Ff => "intermediate_size",
            Field::Vocab => "vocab_size",
            Field::Ctx => "max_position_embeddings",
            Field::RmsEps => "rms_norm_eps",
            Field::RopeBase => "rope_theta",
            Field::RopeDims => "partial_rotary_factor",
            Field::RopeScaling => "rope_scaling",
        };
        key.to_owned()
    }

    fn wrong(&self, key: &str, kind: Kind) -> FormatError {
        FormatError::new(FILE, FormatError::at_key(self.text, 0, key), kind)
    }
}

impl Config {
    /// `dtype`, by its newer or older name.
    pub fn dtype(&self) -> Option<String> {
        self.dtype.clone().or_else(|| self.torch_dtype.clone())
    }

    /// The family, one of those whose checkpoints `hf::canonical_name` knows.
    pub fn arch(&self, text: &[u8]) -> Result<String, FormatError> {
        let keys = Keys { text };
        match self.model_type.as_deref() {
            Some("llama") => Ok("llama".to_owned()),
            Some("qwen2") => Ok("qwen2".to_owned()),
            None => Err(keys.wrong("model_type", Kind::Missing { key: "model_type".to_owned() })),
            Some(other) => {
                let what = format!("the model family \"{}\"", shown(other));
                Err(keys.wrong("model_type", Kind::Unsupported { what }))
            }
        }
    }

    /// Sizes, checked.
    pub fn hparams(&self, text: &[u8]) -> Result<HParams, FormatError> {
        let keys = Keys { text };
        let need = |value: Option<u64>, field| {
            let key = keys.key(field);
            value.ok_or_else(|| keys.wrong(&key, Kind::Missing { key: key.clone() }))
        };
        if !matches!(self.hidden_act.as_deref(), None | Some("silu" | "swish")) {
            let what = format!("hidden_act \"{}\"", shown(self.hidden_act.as_deref().unwrap_or("")));
            return Err(keys.wrong("hidden_act", Kind::Unsupported { what }));
        }
        if self.use_sliding_window == Some(true) {
            return Err(keys.wrong("use_sliding_window", Kind::Unsupported { what: "a sliding window".to_owned() }));
        }
        let n_heads = need(self.num_attention_heads, Field::Heads)?;
        let d_model = need(self.hidden_size, Field::Model)?;
        let rope_theta = self.rope(|r| r.rope_theta).or(self.rope_theta).unwrap_or(ROPE_BASE_DEFAULT);
        let eps = self
            .rms_norm_eps
            .ok_or_else(|| keys.wrong("rms_norm_eps", Kind::Missing { key: "rms_norm_eps".to_owned() }))?;
        let sizes = Sizes {
            n_layers: need(self.num_hidden_layers, Field::Layers)?,
            n_heads,
            n_kv_heads: self.num_key_value_heads.unwrap_or(n_heads),
            d_model,
            d_head: self.head_dim,
            d_ff: need(self.intermediate_size, Field::Ff)?,
            n_vocab: need(self.vocab_size, Field::Vocab)?,
            n_ctx: need(self.max_position_embeddings, Field::Ctx)?,
            rms_eps: narrow(eps),
            rope_base: narrow(rope_theta),
            d_rot: self.d_rot(&keys, d_model, n_heads)?,
            pairing: RopePairing::Halves,
            scaling: self.scaling(&keys)?,
        };
        check(&keys, sizes)
    }

    /// A rope value from the newer place, else the older.
    fn rope<T>(&self, get: impl Fn(&RopeConfig) -> Option<T>) -> Option<T> {
        self.rope_parameters.as_ref().and_then(&get).or_else(|| self.rope_scaling.as_ref().and_then(&get))
    }

    fn d_rot(&self, keys: &Keys<'_>, d_model: u64, n_heads: u64) -> Result<Option<u64>, FormatError> {
        let Some(part) = self.rope(|r| r.partial_rotary_factor).or(self.partial_rotary_factor) else {
            return Ok(None);
        };
        let d_head = self.head_dim.or(d_model.checked_div(n_heads)).and_then(|d| u32::try_from(d).ok());
        match d_head {
            // Both factors are checked: the product is between 0 and 2^32.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Some(d_head) if part > 0.0 && part <= 1.0 => Ok(Some((f64::from(d_head) * part) as u64)),
            _ => Err(keys.out_of_range(Field::RopeDims, &part, "above 0 and at most 1")),
        }
    }

    fn scaling(&self, keys: &Keys<'_>) -> Result<RopeScaling, FormatError> {
        let Some(kind) = self.rope(|r| r.rope_type.clone().or_else(|| r.r#type.clone())) else {
            return Ok(RopeScaling::None);
        };
        let need = |name: &str, value: Option<f64>| {
            value.map(narrow).ok_or_else(|| keys.wrong("rope_scaling", Kind::Missing { key: name.to_owned() }))
        };
        match kind.as_str() {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: need("factor", self.rope(|r| r.factor))? }),
            "llama3" => {
                let key = "original_max_position_embeddings";
                let original = self.rope(|r| r.original_max_position_embeddings);
                let original = original.ok_or_else(|| keys.wrong(key, Kind::Missing { key: key.to_owned() }))?;
                Ok(RopeScaling::Llama3 {
                    factor: need("factor", self.rope(|r| r.factor))?,
                    low_freq_factor: need("low_freq_factor", self.rope(|r| r.low_freq_factor))?,
                    high_freq_factor: need("high_freq_factor", self.rope(|r| r.high_freq_factor))?,
                    original_ctx: usize::try_from(original).unwrap_or(usize::MAX),
                })
            }
            other => {
                let what = format!("rope scaling \"{}\"", shown(other));
                Err(keys.wrong("rope_type", Kind::Unsupported { what }))
            }
        }
    }
}

/// Rounding is wanted: the engine computes in f32. Range is checked afterwards.
#[allow(clippy::cast_possible_truncation)]
fn narrow(x: f64) -> f32 {
    x as f32
}
