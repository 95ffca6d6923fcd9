//! Chat templates: a conversation becomes the text that the model was trained on.
//!
//! The template is Jinja out of the model file, run by the interpreter in `jinja` with Hugging Face's settings. It gets
//! `messages`, `tools`, `add_generation_prompt`, `bos_token`, `eos_token`, the caller's extra names, and no clock but the one
//! that the caller passes.
use crate::error::TextError;
use crate::jinja::{self, Fail, FailKind, Inputs, Node};
use base::limits::{
    JSON_DEPTH_MAX, TEMPLATE_BYTES_MAX, TEMPLATE_BYTES_PER_STEP, TEMPLATE_FUEL, TEMPLATE_OUTPUT_BYTES_EXTRA,
    TEMPLATE_OUTPUT_FACTOR_MAX,
};
use serde_json::{Map, Value};

/// A parsed chat template. Shared between threads as it is: rendering changes nothing.
#[derive(Debug)]
pub struct ChatTemplate {
    body: Vec<Node>,
    source: String,
    bos: Value,
    eos: Value,
}

impl ChatTemplate {
    /// Parses a template. `bos_text` and `eos_text` are what `bos_token` and `eos_token` mean in it.
    ///
    /// # Errors
    /// `TemplateSyntax` with the line, or `Limit` for a source above `TEMPLATE_BYTES_MAX`.
    pub fn new(source: &str, bos_text: &str, eos_text: &str) -> Result<ChatTemplate, TextError> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(TextError::Limit {
                what: "the chat template, in bytes,",
                limit: "TEMPLATE_BYTES_MAX",
                max: TEMPLATE_BYTES_MAX,
                got: source.len(),
            });
        }
        let body =
            jinja::parse(source).map_err(|(line, reason)| TextError::TemplateSyntax { line: line as usize, reason })?;
        Ok(ChatTemplate {
            body,
            source: source.to_string(),
            bos: Value::String(bos_text.to_string()),
            eos: Value::String(eos_text.to_string()),
        })
    }

    /// The source it was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a conversation. `messages` is a list in OpenAI's form; `tools` likewise, absent or null for none. Names in
    /// `extra` (such as `enable_thinking`) are visible to the template but never replace its own.
    ///
    /// # Errors
    /// `TemplateRaised` where the template refuses the messages, `TemplateRender` for a mistake in it, `TemplateLimit` where
    /// it needs more steps, depth or output than it may have, `Limit` for messages nested too deep.
    pub fn render(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        add_generation_prompt: bool,
        extra: &Map<String, Value>,
    ) -> Result<String, TextError> {
        self.render_at(None, messages, tools, add_generation_prompt, extra)
    }

    /// Renders a conversation for a template that may ask for today's date: `now_s` is in seconds since 1970, UTC.
    ///
    /// # Errors
    /// As `render`.
    pub fn render_at(
        &self,
        now_s: Option<i64>,
        messages: &Value,
        tools: Option<&Value>,
        add_generation_prompt: bool,
        extra: &Map<String, Value>,
    ) -> Result<String, TextError> {
        let mut bytes = 0usize;
        for value in extra.values().chain([messages]).chain(tools) {
            bytes = bytes.saturating_add(measure(value)?);
        }
        let prompt = Value::Bool(add_generation_prompt);
        let mut names: Vec<(&str, &Value)> = extra.iter().map(|(name, value)| (name.as_str(), value)).collect();
        names.extend([
            ("messages", messages),
            ("tools", tools.unwrap_or(&Value::Null)),
            ("add_generation_prompt", &prompt),
            ("bos_token", &self.bos),
            ("eos_token", &self.eos),
        ]);
        let inputs = Inputs {
            names,
            now_s,
            steps: TEMPLATE_FUEL + (bytes / TEMPLATE_BYTES_PER_STEP) as u64,
            output_bytes_max: bytes
                .saturating_mul(TEMPLATE_OUTPUT_FACTOR_MAX)
                .saturating_add(TEMPLATE_OUTPUT_BYTES_EXTRA),
        };
        jinja::render(&self.body, &inputs).map_err(describe)
    }
}

fn describe(fail: Fail) -> TextError {
    match fail.kind {
        FailKind::Limit(limit, max) => TextError::TemplateLimit { limit, max },
        FailKind::Raised(message) => TextError::TemplateRaised { message },
        FailKind::Wrong(reason) => TextError::TemplateRender { line: fail.line as usize, reason },
    }
}

/// About how many bytes a value is as JSON; an error where it nests too deep for what follows, which recurses.
fn measure(value: &Value) -> Result<usize, TextError> {
    let mut bytes = 0usize;
    let mut todo = vec![(value, 1usize)];
    while let Some((value, depth)) = todo.pop() {
        if depth > JSON_DEPTH_MAX {
            return Err(TextError::Limit {
                what: "the nesting of messages or tools",
                limit: "JSON_DEPTH_MAX",
                max: JSON_DEPTH_MAX,
                got: depth,
            });
        }
        bytes = bytes.saturating_add(match value {
            Value::String(s) => s.len().saturating_add(2),
            _ => 4,
        });
        match value {
            Value::Array(items) => todo.extend(items.iter().map(|v| (v, depth + 1))),
            Value::Object(entries) => {
                bytes = entries.keys().fold(bytes, |sum, key| sum.saturating_add(key.len() + 4));
                todo.extend(entries.values().map(|v| (v, depth + 1)));
            }
            _ => {}
        }
    }
    Ok(bytes)
}
