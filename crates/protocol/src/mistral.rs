//! Mistral's `POST /v1/fim/completions`: a prompt and what follows the gap; the answer has the shape of a chat's.

use crate::error::ApiError;
use crate::generate::{Generate, generate_names, read_model};
use crate::infill::InfillRequest;
use crate::json;
use crate::num;

/// Reads and checks the body. Unknown fields are ignored.
///
/// # Errors
/// 400 that names the field by its path and says what to send instead.
pub fn parse_fim(body: &[u8]) -> Result<InfillRequest, ApiError> {
    let o = json::document(body)?.object(generate_names!["prompt", "suffix", "random_seed", "min_tokens"])?;
    let mut generate = Generate::read_for(read_model(&o)?, &o)?;
    if let Some(f) = o.get("random_seed") {
        generate.seed = Some(num::read_seed(&f)?);
    }
    if let Some(f) = o.get("min_tokens")
        && f.integer(0, i32::MAX.into())? > 0
    {
        return Err(f.error("unsupported_value", "`min_tokens` above 0 is not supported. Leave it out."));
    }
    if generate.n != 1 {
        return Err(ApiError::field("n", "unsupported_value", "`n` must be 1 here. Leave it out."));
    }
    let prompt = o.need("prompt", "Send the code before the cursor.")?.string()?;
    let suffix = o.get("suffix").map(|f| f.string()).transpose()?.unwrap_or_default();
    Ok(InfillRequest::gap(generate, prompt, suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_mistrals_names() {
        let r = parse_fim(br#"{"model":"m","prompt":"a","suffix":null,"random_seed":7,"max_tokens":3,"min_tokens":0}"#);
        let r = r.unwrap();
        assert_eq!(
            (r.prefix.as_str(), r.suffix.as_str(), r.generate.seed, r.generate.max_tokens),
            ("a", "", Some(7), Some(3))
        );
        for (body, param) in [
            (r#"{"prompt":"a"}"#, "model"),
            (r#"{"model":"m"}"#, "prompt"),
            (r#"{"model":"m","prompt":["a"]}"#, "prompt"),
            (r#"{"model":"m","prompt":"a","suffix":1}"#, "suffix"),
            (r#"{"model":"m","prompt":"a","random_seed":"x"}"#, "random_seed"),
            (r#"{"model":"m","prompt":"a","min_tokens":4}"#, "min_tokens"),
            (r#"{"model":"m","prompt":"a","n":2}"#, "n"),
        ] {
            assert_eq!(parse_fim(body.as_bytes()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }
}
