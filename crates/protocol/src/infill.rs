//! llama.cpp's own endpoints, as its editor plug-ins use them: `POST /infill`, `/tokenize`, `/detokenize`.
//! Fields and answers have llama.cpp's names.

use base::{TokenId, limits};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::generate::{Generate, generate_names, read_model_or_default};
use crate::json::{self, Field};
use crate::num;
use crate::usage::{Split, Timings};

/// A file beside the one that is edited, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Its name; `tmp` if none was sent.
    pub filename: String,
    /// Its text.
    pub text: String,
}

/// A request to fill a gap that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct InfillRequest {
    /// Parameters of generation; `n` is `n_cmpl`.
    pub generate: Generate,
    /// Code before the gap.
    pub prefix: String,
    /// Code after it.
    pub suffix: String,
    /// What the gap holds already (`prompt`): the answer goes on after it.
    pub middle: String,
    /// Oldest first; at most `INFILL_EXTRAS_MAX`.
    pub extra: Vec<Extra>,
    /// The answer ends at a line that is indented less than this many characters; 0 is off.
    pub n_indent: u32,
    /// The answer ends this long after its first token, once it has a whole line.
    pub t_max_predict_ms: Option<u32>,
    /// Only these fields of the answer are wanted, by their paths; empty is all.
    pub response_fields: Vec<String>,
}

impl InfillRequest {
    /// A gap between two texts and nothing else.
    pub fn gap(generate: Generate, prefix: String, suffix: String) -> Self {
        let (middle, extra, response_fields) = (String::new(), Vec::new(), Vec::new());
        Self { generate, prefix, suffix, middle, extra, n_indent: 0, t_max_predict_ms: None, response_fields }
    }
}

/// Reads and checks the body of an infill request. Unknown fields are ignored.
///
/// # Errors
/// 400 that names the field by its path and says what to send instead.
pub fn parse_infill(body: &[u8]) -> Result<InfillRequest, ApiError> {
    let o = json::document(body)?.object(generate_names![
        "prompt",
        "input_prefix",
        "input_suffix",
        "input_extra",
        "n_indent",
        "n_cmpl",
        "t_max_prompt_ms",
        "t_max_predict_ms",
        "response_fields",
        "samplers",
        "cache_prompt",
        "id_slot",
    ])?;
    let mut generate = Generate::read_for(read_model_or_default(&o)?, &o)?;
    if let Some(f) = o.get("n_cmpl") {
        generate.n = num::read_u32(&f, 1, limits::CHOICES_MAX as u32)?;
    }
    let prefix = o.need("input_prefix", "Send the code before the cursor; \"\" if there is none.")?.string()?;
    let suffix = o.need("input_suffix", "Send the code after the cursor; \"\" if there is none.")?.string()?;
    let middle = o.get("prompt").map(|f| f.string()).transpose()?.unwrap_or_default();
    // What has no use here is checked all the same: a wrong type is a mistake that its sender wants to know of.
    o.get("cache_prompt").map(|f| f.boolean()).transpose()?;
    o.get("id_slot").map(|f| f.integer(-1, i32::MAX.into())).transpose()?;
    o.get("t_max_prompt_ms").map(|f| f.integer(-1, i32::MAX.into())).transpose()?;
    if let Some(f) = o.get("samplers").filter(|f| f.kind() != "a string") {
        strings(&f)?;
    }
    let t_max = o.get("t_max_predict_ms").map(|f| f.integer(-1, limits::DEADLINE_MS_MAX.into())).transpose()?;
    Ok(InfillRequest {
        generate,
        prefix,
        suffix,
        middle,
        extra: match o.get("input_extra") {
            Some(f) => f.array(limits::INFILL_EXTRAS_MAX)?.iter().map(read_extra).collect::<Result<_, _>>()?,
            None => Vec::new(),
        },
        n_indent: o.get("n_indent").map(|f| num::read_u32(&f, 0, i32::MAX as u32)).transpose()?.unwrap_or(0),
        t_max_predict_ms: t_max.and_then(|ms| u32::try_from(ms).ok()).filter(|ms| *ms > 0),
        response_fields: o.get("response_fields").map(|f| strings(&f)).transpose()?.unwrap_or_default(),
    })
}

fn read_extra(field: &Field<'_>) -> Result<Extra, ApiError> {
    let o = field.object(&["filename", "text"])?;
    Ok(Extra {
        filename: o.get("filename").map(|f| f.string()).transpose()?.unwrap_or_else(|| "tmp".to_owned()),
        text: o.need("text", "Send {\"filename\":...,\"text\":...}.")?.string()?,
    })
}

/// A list of short names; may hold empty ones, as llama.vim's does when it wants no field at all.
fn strings(field: &Field<'_>) -> Result<Vec<String>, ApiError> {
    let one = |f: &Field<'_>| -> Result<String, ApiError> {
        let (name, max) = (f.string()?, limits::RESPONSE_FIELD_BYTES_MAX);
        if name.len() > max {
            return Err(f.error("too_long", format!("`{}` is longer than {max} bytes. Shorten it.", f.path)));
        }
        Ok(name)
    };
    field.array(limits::RESPONSE_FIELDS_MAX)?.iter().map(one).collect()
}

/// A whole answer; also the last event of a stream, without text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Infilled {
    /// Which of `n_cmpl`.
    pub index: u32,
    /// The text for the gap.
    pub content: String,
    /// The model that answered.
    pub model: String,
    /// Always true: it is the last word.
    pub stop: bool,
    /// `eos`, `limit` or `word`.
    pub stop_type: String,
    /// The stop string that ended it, or empty.
    pub stopping_word: String,
    /// Generated tokens.
    pub tokens_predicted: u64,
    /// Tokens of the prompt.
    pub tokens_evaluated: u64,
    /// Tokens of prompt and answer.
    pub tokens_cached: u64,
    /// Some of what was sent did not fit into the context and was left out.
    pub truncated: bool,
    /// What applied.
    pub generation_settings: Settings,
    /// Where the time went.
    pub timings: InfillTimings,
}

/// The parameters that applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Settings {
    /// -1 is what the context leaves.
    pub n_predict: i64,
    /// 0 is greedy.
    pub temperature: f32,
    /// 0 is off.
    pub top_k: u32,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub min_p: f32,
    /// As sent.
    pub stop: Vec<String>,
}

/// `Timings` in llama.cpp's names; of the first choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InfillTimings {
    /// Prompt tokens that were not computed again.
    pub cache_n: u64,
    /// Prompt tokens that were computed.
    pub prompt_n: u64,
    /// Time for them.
    pub prompt_ms: f64,
    /// Each.
    pub prompt_per_token_ms: f64,
    /// Their rate.
    pub prompt_per_second: f64,
    /// Generated tokens.
    pub predicted_n: u64,
    /// From the first to the last.
    pub predicted_ms: f64,
    /// Each.
    pub predicted_per_token_ms: f64,
    /// Their rate.
    pub predicted_per_second: f64,
    /// Ours: what the rest went into.
    #[serde(flatten)]
    pub split: Split,
}

impl From<Timings> for InfillTimings {
    fn from(t: Timings) -> Self {
        let each = |ms: f64, n: u64| if n == 0 { 0.0 } else { ms / n as f64 };
        Self {
            cache_n: t.cached_n,
            prompt_n: t.prompt_n,
            prompt_ms: t.prompt_ms,
            prompt_per_token_ms: each(t.prompt_ms, t.prompt_n),
            prompt_per_second: t.prompt_per_second,
            predicted_n: t.predicted_n,
            predicted_ms: t.predicted_ms,
            predicted_per_token_ms: each(t.predicted_ms, t.predicted_n),
            predicted_per_second: t.predicted_per_second,
            split: t.split,
        }
    }
}

/// The fields at these paths (`timings/prompt_n`, or with dots), each under its path as it was sent; a path that leads
/// nowhere is left out. All fields if there are no paths.
pub fn select(answer: Value, paths: &[String]) -> Value {
    if paths.is_empty() {
        return answer;
    }
    let at = |path: &String| {
        let found = path.split(['/', '.']).try_fold(&answer, |v, key| v.as_object()?.get(key))?;
        Some((path.clone(), found.clone()))
    };
    Value::Object(paths.iter().filter_map(at).collect::<Map<_, _>>())
}

/// Text to tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizeRequest {
    /// Name, or `default`.
    pub model: String,
    /// The text.
    pub content: String,
    /// Put `bos` before it where the model wants that.
    pub add_special: bool,
    /// Read special tokens.
    pub parse_special: bool,
    /// Tell the text of each token.
    pub with_pieces: bool,
}

/// Reads and checks the body of `POST /tokenize`.
///
/// # Errors
/// 400 that names the field.
pub fn parse_tokenize(body: &[u8]) -> Result<TokenizeRequest, ApiError> {
    let o = json::document(body)?.object(&["model", "content", "add_special", "parse_special", "with_pieces"])?;
    let flag = |name: &'static str, unsent: bool| -> Result<bool, ApiError> {
        o.get(name).map_or(Ok(unsent), |f| f.boolean())
    };
    Ok(TokenizeRequest {
        model: read_model_or_default(&o)?,
        content: o.need("content", "Send the text.")?.string()?,
        add_special: flag("add_special", false)?,
        parse_special: flag("parse_special", true)?,
        with_pieces: flag("with_pieces", false)?,
    })
}

/// Tokens to text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetokenizeRequest {
    /// Name, or `default`.
    pub model: String,
    /// Not checked against a vocabulary here.
    pub tokens: Vec<TokenId>,
}

/// Reads and checks the body of `POST /detokenize`.
///
/// # Errors
/// 400 that names the field.
pub fn parse_detokenize(body: &[u8]) -> Result<DetokenizeRequest, ApiError> {
    let o = json::document(body)?.object(&["model", "tokens"])?;
    let tokens = o.need("tokens", "Send an array of token ids.")?.u32s(limits::CTX_MAX, limits::VOCAB_MAX as u32)?;
    Ok(DetokenizeRequest { model: read_model_or_default(&o)?, tokens })
}
