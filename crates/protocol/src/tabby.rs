//! Tabby's form of `POST /v1/completions`: the code around the cursor in `segments`, with snippets that its plug-ins found.

use base::limits;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::generate::{Generate, generate_names, read_model_or_default};
use crate::infill::{Extra, InfillRequest};
use crate::json::{self, Field};

/// Is this a request of Tabby's kind?
pub fn is_tabby(body: &[u8]) -> bool {
    let segments = json::document(body).and_then(|d| Ok(d.object(&["segments"])?.get("segments").is_some()));
    segments.unwrap_or(false)
}

/// Reads and checks the body. Unknown fields are ignored; `language` and `user` have no use here.
///
/// # Errors
/// 400 that names the field by its path and says what to send instead.
pub fn parse_tabby(body: &[u8]) -> Result<InfillRequest, ApiError> {
    let o = json::document(body)?.object(generate_names!["language", "segments"])?;
    let sent = Generate::read_for(read_model_or_default(&o)?, &o)?;
    o.get("language").map(|f| f.string()).transpose()?;
    let segments = o.need("segments", "Send {\"prefix\",\"suffix\"}.")?.object(&[
        "prefix",
        "suffix",
        "declarations",
        "relevant_snippets_from_changed_files",
        "relevant_snippets_from_recently_opened_files",
        "clipboard",
    ])?;
    let prefix = segments.need("prefix", "Send the code before the cursor; \"\" if there is none.")?.string()?;
    let suffix = segments.get("suffix").map(|f| f.string()).transpose()?.unwrap_or_default();
    segments.get("clipboard").map(|f| f.string()).transpose()?; // may hold anything, also secrets: not used
    let mut extra = Vec::new();
    // What matters most comes last, nearest to the cursor: what the code names.
    for name in ["relevant_snippets_from_recently_opened_files", "relevant_snippets_from_changed_files", "declarations"]
    {
        if let Some(f) = segments.get(name) {
            for snippet in f.array(limits::INFILL_EXTRAS_MAX)? {
                extra.push(read_snippet(&snippet)?);
            }
        }
    }
    let max_tokens = sent.max_tokens.or(Some(limits::TABBY_ANSWER_TOKENS));
    let generate = Generate { max_tokens, n: 1, stream: false, include_usage: false, ..sent };
    Ok(InfillRequest { extra, ..InfillRequest::gap(generate, prefix, suffix) })
}

fn read_snippet(field: &Field<'_>) -> Result<Extra, ApiError> {
    let o = field.object(&["filepath", "body"])?;
    Ok(Extra {
        filename: o.get("filepath").map(|f| f.string()).transpose()?.unwrap_or_else(|| "snippet".to_owned()),
        text: o.need("body", "Send {\"filepath\":...,\"body\":...}.")?.string()?,
    })
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TabbyCompletion {
    /// `cmpl-...`
    pub id: String,
    /// One.
    pub choices: Vec<TabbyChoice>,
}

/// What to put at the cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TabbyChoice {
    /// 0
    pub index: u32,
    /// The text.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_become_a_gap() {
        let body = br#"{"language":"rust","segments":{"prefix":"a","suffix":"b","filepath":"x.rs","clipboard":"secret",
            "declarations":[{"filepath":"d.rs","body":"D"}],"relevant_snippets_from_changed_files":[{"body":"C","score":1.5}]}}"#;
        assert!(is_tabby(body) && !is_tabby(b"{}") && !is_tabby(b"nonsense") && !is_tabby(br#"{"segments":null}"#));
        let r = parse_tabby(body).unwrap();
        assert_eq!((r.prefix.as_str(), r.suffix.as_str(), r.generate.model.as_str()), ("a", "b", "default"));
        let texts: Vec<&str> = r.extra.iter().map(|e| e.text.as_str()).collect();
        assert_eq!((texts, r.generate.max_tokens), (vec!["C", "D"], Some(limits::TABBY_ANSWER_TOKENS)));
        for (body, param) in [
            (r#"{"segments":1}"#, "segments"),
            (r#"{"segments":{}}"#, "segments.prefix"),
            (r#"{"segments":{"prefix":1}}"#, "segments.prefix"),
            (r#"{"segments":{"prefix":"","declarations":[{}]}}"#, "segments.declarations[0].body"),
            (r#"{"segments":{"prefix":""},"language":1}"#, "language"),
        ] {
            assert_eq!(parse_tabby(body.as_bytes()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }
}
