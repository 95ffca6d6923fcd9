//! GGUF metadata -> `ModelDesc`.

use quant::DType;

use crate::desc::{Container, HParams, ModelDesc, RopePairing, RopeScaling, Suggested, TensorDesc};
use crate::error::{FormatError, Kind, shown};
use crate::gguf::{Gguf, Value};
use crate::sizes::{Field, Sizes, Source, check};
use crate::vocab::{pad_to, vocab_from_gguf};

const EMBEDDING: &str = "token_embd.weight";
const ROPE_FACTORS: &str = "rope_freqs.weight";
const ROPE_BASE_DEFAULT: f32 = 10_000.0;

struct Keys<'a> {
    gguf: &'a Gguf,
    arch: &'a str,
}

impl Keys<'_> {
    fn of(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }
}

impl Source for Keys<'_> {
    fn key(&self, field: Field) -> String {
        self.of(match field {
            Field::Layers => "block_count",
            Field::Heads => "attention.head_count",
            Field::KvHeads => "attention.head_count_kv",
            Field::Model => "embedding_length",
            Field::Head => "attention.key_length",
            Field::Ff => "feed_forward_length",
            Field::Vocab => "vocab_size",
            Field::Ctx => "context_length",
            Field::RmsEps => "attention.layer_norm_rms_epsilon",
            Field::RopeBase => "rope.freq_base",
            Field::RopeDims => "rope.dimension_count",
            Field::RopeScaling => "rope.scaling.factor",
        })
    }

    fn wrong(&self, key: &str, kind: Kind) -> FormatError {
        self.gguf.wrong(key, kind)
    }
}

/// How the family's GGUF files pair rope elements (llama.cpp `llama_model_rope_type`).
fn pairing(arch: &str) -> Option<RopePairing> {
    match arch {
        "llama" | "granite" | "internlm2" | "olmo" | "smollm3" => Some(RopePairing::Interleaved),
        "qwen2" | "qwen3" | "phi3" | "gemma" | "gemma2" | "gemma3" | "olmo2" => Some(RopePairing::Halves),
        _ => None,
    }
}

/// Of another type than it should be, it is as if it were not there: the model runs without.
fn suggested(gguf: &Gguf) -> Suggested {
    let number = |key: &str| gguf.opt_f32(&format!("general.sampling.{key}")).ok().flatten();
    let top_k = gguf.opt_u32("general.sampling.top_k").ok().flatten();
    let (temperature, top_p, min_p) = (number("temp"), number("top_p"), number("min_p"));
    Suggested { temperature, top_k, top_p, min_p }.within_range()
}

pub(crate) fn describe(gguf: &Gguf) -> Result<ModelDesc, FormatError> {
    refuse_split(gguf)?;
    let arch = gguf.architecture()?;
    let Some(pairing) = pairing(arch) else {
        let what = format!("the model family \"{}\"", shown(arch));
        return Err(gguf.wrong("general.architecture", Kind::Unsupported { what }));
    };
    let keys = Keys { gguf, arch };
    let hp = sizes(&keys, pairing)?;
    let mut vocab = vocab_from_gguf(gguf);
    if let Ok(spec) = &mut vocab {
        let n_tokens = spec.tokens.len();
        if pad_to(spec, hp.n_vocab).is_none() {
            let (key, value) = ("tokenizer.ggml.tokens".to_owned(), format!("{n_tokens} long"));
            let want = format!("no longer than the embedding's {} rows", hp.n_vocab);
            return Err(gguf.wrong("tokenizer.ggml.tokens", Kind::OutOfRange { key, value, want }));
        }
    }
    check_rope_factors(gguf, &hp)?;
    Ok(ModelDesc {
        arch: arch.to_owned(),
        name: gguf.name().map(str::to_owned),
        hp,
        tensors: tensors(gguf),
        vocab,
        container: Container::Gguf {
            version: gguf.version(),
            alignment: gguf.alignment(),
            pairs: gguf.pairs().len(),
            header_bytes: gguf.data_start(),
        },
        file_type: gguf.opt_u32("general.file_type").ok().flatten().map(file_type),
        info: info(gguf),
        suggested: suggested(gguf),
    })
}

fn refuse_split(gguf: &Gguf) -> Result<(), FormatError> {
    match gguf.opt_u64("split.count")? {
        Some(count) if count > 1 => Err(gguf.wrong("split.count", Kind::Split { count })),
        _ => Ok(()),
    }
}

fn sizes(keys: &Keys<'_>, pairing: RopePairing) -> Result<HParams, FormatError> {
    let g = keys.gguf;
    let get = |field| g.get_u64(&keys.key(field));
    let opt = |field| g.opt_u64(&keys.key(field));
    let n_heads = get(Field::Heads)?;
    let d_head = opt(Field::Head)?;
    let value_length = keys.of("attention.value_length");
    if let Some(v) = g.opt_u64(&value_length)? {
        let k = d_head.or(get(Field::Model)?.checked_div(n_heads));
        if k != Some(v) {
            let want = "the same as attention.key_length".to_owned();
            let kind = Kind::OutOfRange { key: value_length.clone(), value: v.to_string(), want };
            return Err(g.wrong(&value_length, kind));
        }
    }
    let embedding = g.tensor(EMBEDDING).ok_or_else(|| {
        FormatError::gguf(crate::gguf_read::METADATA_START, Kind::MissingTensor(EMBEDDING.to_owned()))
    })?;
    let d_model = get(Field::Model)?;
    let &[cols, n_vocab] = embedding.dims() else {
        let (tensor, dims) = (EMBEDDING.to_owned(), embedding.dims().len().try_into().unwrap_or(u64::MAX));
        return Err(FormatError::gguf(embedding.entry_offset, Kind::Dimensions { tensor, dims, max: 2 }));
    };
    if cols != d_model {
        let want = format!("{cols}, the row length of {EMBEDDING}");
        return Err(keys.out_of_range(Field::Model, &d_model, &want));
    }
    let sizes = Sizes {
        n_layers: get(Field::Layers)?,
        n_heads,
        n_kv_heads: opt(Field::KvHeads)?.unwrap_or(n_heads),
        d_model,
        d_head,
        d_ff: get(Field::Ff)?,
        n_vocab,
        n_ctx: get(Field::Ctx)?,
        rms_eps: g.get_f32(&keys.key(Field::RmsEps))?,
        rope_base: g.opt_f32(&keys.key(Field::RopeBase))?.unwrap_or(ROPE_BASE_DEFAULT),
        d_rot: opt(Field::RopeDims)?,
        pairing,
        scaling: scaling(keys)?,
    };
    check(keys, sizes)
}

fn scaling(keys: &Keys<'_>) -> Result<RopeScaling, FormatError> {
    let g = keys.gguf;
    let type_key = keys.of("rope.scaling.type");
    let kind = g.opt_str(&type_key)?;
    let mut factor = g.opt_f32(&keys.key(Field::RopeScaling))?;
    if factor.is_none() {
        // The key's older name.
        factor = g.opt_f32(&keys.of("rope.scale_linear"))?;
    }
    let linear = match kind {
        None | Some("linear") => match factor {
            None | Some(0.0 | 1.0) => RopeScaling::None,
            Some(factor) => RopeScaling::Linear { factor },
        },
        Some("none") => RopeScaling::None,
        Some(other) => {
            let what = format!("rope scaling \"{}\"", shown(other));
            return Err(g.wrong(&type_key, Kind::Unsupported { what }));
        }
    };
    if let Some(long) = ["rope_factors_long.weight", "rope_factors_short.weight"].into_iter().find_map(|n| g.tensor(n))
    {
        let what = format!("rope scaling by \"{}\"", long.name);
        return Err(FormatError::gguf(long.entry_offset, Kind::Unsupported { what }));
    }
    match (g.tensor(ROPE_FACTORS), &linear) {
        (None, _) => Ok(linear),
        (Some(_), RopeScaling::None) => Ok(RopeScaling::Factors { tensor: ROPE_FACTORS.to_owned() }),
        (Some(t), _) => {
            let what = format!("linear rope scaling together with \"{ROPE_FACTORS}\"");
            Err(FormatError::gguf(t.entry_offset, Kind::Unsupported { what }))
        }
    }
}

fn check_rope_factors(gguf: &Gguf, hp: &HParams) -> Result<(), FormatError> {
    let Some(t) = gguf.tensor(ROPE_FACTORS) else { return Ok(()) };
    let want = u64::try_from(hp.rope.d_rot / 2).unwrap_or(0);
    if t.dtype == DType::F32 && t.dims() == [want] {
        return Ok(());
    }
    let (key, value) = (ROPE_FACTORS.to_owned(), format!("{} {:?}", t.dtype.name(), t.dims()));
    let want = format!("F32 [{want}]");
    Err(FormatError::gguf(t.entry_offset, Kind::OutOfRange { key, value, want }))
}

fn tensors(gguf: &Gguf) -> Vec<TensorDesc> {
    let desc = |t: &crate::gguf::Tensor| TensorDesc {
        name: t.name.clone(),
        dtype: t.dtype,
        shape: t.dims().iter().rev().copied().collect(),
        file: 0,
        extent: t.extent,
    };
    let mut tensors: Vec<TensorDesc> = gguf.tensors().iter().map(desc).collect();
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    tensors
}

fn info(gguf: &Gguf) -> Vec<(String, String)> {
    const BYTES_MAX: usize = 4096;
    let general = gguf.pairs().filter_map(|(key, value)| Some((key.strip_prefix("general.")?, value)));
    let text = general.filter_map(|(key, value)| match value {
        Value::Str(s) if s.len() <= BYTES_MAX => Some((key.to_owned(), s.clone())),
        _ => None,
    });
    text.collect()
}

/// `general.file_type` (llama.cpp `llama_ftype`).
fn file_type(number: u32) -> String {
    // Bit 1024 means "guessed by the loader".
    let name = match number & !1024 {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        21 => "Q2_K_S",
        32 => "BF16",
        other => return format!("type {other}"),
    };
    name.to_owned()
}
