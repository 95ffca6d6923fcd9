//! Which pre-tokenizer a tokenizer.json describes: known patterns get the name that GGUF uses for them.
// Indexing a `serde_json::Value` by a key or a place that it lacks gives `Null`, never a panic.
#![allow(clippy::indexing_slicing)]

use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::shown;

/// Bytes of one pre-tokenizer, normalizer or post-processor; real ones stay below 4 KiB.
const BYTES_MAX: usize = 64 * 1024;

/// Split patterns (facts of the models' tokenizers) and the names of their pre-tokenizers.
const SPLITS: &[(&[&str], &str)] = &[
    (
        &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        "qwen2",
    ),
    (
        &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        "qwen35",
    ),
    (
        &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        "llama-bpe",
    ),
    (&["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", "<digits>"], "deepseek-coder"),
];

/// The GGUF name of a pre-tokenizer; `Err` describes one that is not known.
pub(crate) fn pre_tokenizer(normalizer: Option<&RawValue>, pre: Option<&RawValue>) -> Result<&'static str, String> {
    if let Some(n) = normalizer {
        // NFC leaves source code as it is, and no GGUF engine applies it either.
        let n = parse(n)?;
        let is_empty = n["type"] == "Sequence" && n["normalizers"].as_array().is_some_and(Vec::is_empty);
        if !n.is_null() && n["type"] != "NFC" && !is_empty {
            return Err(format!("the normalizer {}", shown(&n.to_string())));
        }
    }
    let pre = pre.map(parse).transpose()?.unwrap_or(Value::Null);
    let unknown = || format!("the pre-tokenizer {}", shown(&pre.to_string()));
    let steps = match &pre["pretokenizers"] {
        Value::Array(steps) => steps.as_slice(),
        _ => std::slice::from_ref(&pre),
    };
    let Some((byte_level, splits)) = steps.split_last() else { return Err(unknown()) };
    if byte_level["type"] != "ByteLevel" || byte_level["add_prefix_space"] == true {
        return Err(unknown());
    }
    let uses_gpt2_pattern = byte_level["use_regex"] != false;
    let splits: Vec<&str> = splits.iter().map(split).collect::<Option<_>>().ok_or_else(unknown)?;
    match (splits.as_slice(), uses_gpt2_pattern) {
        ([], true) => Ok("gpt-2"),
        // StarCoder's, and the same for Refact and SmolLM.
        (["<digits>"], true) => Ok("starcoder"),
        (splits, false) => SPLITS.iter().find(|(known, _)| *known == splits).map(|(_, name)| *name).ok_or_else(unknown),
        _ => Err(unknown()),
    }
}

/// A step's pattern, where the step isolates what it matches.
fn split(step: &Value) -> Option<&str> {
    match step["type"].as_str()? {
        "Digits" if step["individual_digits"] == true => Some("<digits>"),
        "Split" if step["behavior"] == "Isolated" && step["invert"] != true => step["pattern"]["Regex"].as_str(),
        _ => None,
    }
}

/// Does the post-processor put this special token in front of a single text?
pub(crate) fn begins_with(post: Option<&RawValue>, token: &str) -> bool {
    let Some(post) = post.and_then(|p| parse(p).ok()) else { return false };
    let steps = match &post["processors"] {
        Value::Array(steps) => steps.as_slice(),
        _ => std::slice::from_ref(&post),
    };
    let is_template = |p: &&Value| p["type"] == "TemplateProcessing";
    steps.iter().find(is_template).is_some_and(|p| p["single"][0]["SpecialToken"]["id"] == token)
}

fn parse(raw: &RawValue) -> Result<Value, String> {
    let text = raw.get();
    if text.len() > BYTES_MAX {
        return Err(format!("a tokenizer step of {} bytes", text.len()));
    }
    serde_json::from_str(text).map_err(|e| shown(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pre(json: &str) -> Result<&'static str, String> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        pre_tokenizer(None, Some(&raw))
    }

    fn sequence(splits: &[&str], use_regex: bool) -> String {
        let mut steps: Vec<Value> = splits
            .iter()
            .map(|s| match *s {
                "<digits>" => serde_json::json!({"type": "Digits", "individual_digits": true}),
                s => serde_json::json!({"type": "Split", "pattern": {"Regex": s}, "behavior": "Isolated", "invert": false}),
            })
            .collect();
        steps.push(serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": use_regex}));
        serde_json::json!({"type": "Sequence", "pretokenizers": steps}).to_string()
    }

    #[test]
    fn every_known_pattern_gets_its_name_and_no_other() {
        for (splits, name) in SPLITS {
            assert_eq!(pre(&sequence(splits, false)), Ok(*name));
            assert!(pre(&sequence(splits, true)).is_err());
            let mut changed = splits.to_vec();
            changed[0] = "x+";
            assert!(pre(&sequence(&changed, false)).unwrap_err().contains("x+"));
        }
        assert_eq!(pre(&sequence(&["<digits>"], true)), Ok("starcoder"));
        assert_eq!(pre(r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true}"#), Ok("gpt-2"));
        assert!(pre(r#"{"type":"ByteLevel","add_prefix_space":true}"#).is_err());
        assert!(pre(r#"{"type":"Metaspace","replacement":"_"}"#).is_err());
        assert!(pre("null").is_err());
    }
}
