//! Ollama's wire: `POST /api/generate` and `/api/chat`. A request becomes what OpenAI's endpoints and `/infill` become
//! (chat, text or gap), so everything below is shared; answers have Ollama's names, times in nanoseconds.

use base::limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chat::{ChatRequest, Message, Role, ToolCall};
use crate::completion::{CompletionRequest, Prompt};
use crate::error::ApiError;
use crate::generate::{Generate, ResponseFormat, generate_names, read_model};
use crate::infill::InfillRequest;
use crate::json::{self, Field, Object};
use crate::tools::{self, CallKind, Tools};
use crate::usage::Timings;

/// A request of Ollama's kind that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub enum OllamaRequest {
    /// Nothing is said: Ollama's clients load a model this way, or unload it with `keep_alive` 0.
    Load {
        /// As sent.
        model: String,
        /// The client wants it out of memory.
        unload: bool,
    },
    /// A conversation; or a prompt for the model's chat template.
    Chat(ChatRequest),
    /// A raw prompt.
    Text(CompletionRequest),
    /// `suffix` was sent.
    Gap(InfillRequest),
}

impl OllamaRequest {
    /// The model's name as sent, to be replaced by the name that is served.
    pub fn model_mut(&mut self) -> &mut String {
        match self {
            Self::Load { model, .. } => model,
            Self::Chat(r) => &mut r.generate.model,
            Self::Text(r) => &mut r.generate.model,
            Self::Gap(r) => &mut r.generate.model,
        }
    }
}

/// Reads and checks the body of `POST /api/generate`. Unknown fields are ignored; so are `template` and `keep_alive`.
///
/// # Errors
/// 400 that names the field by its path and says what to send instead.
pub fn parse_generate(body: &[u8]) -> Result<OllamaRequest, ApiError> {
    let o = json::document(body)?.object(&[
        "model",
        "prompt",
        "suffix",
        "system",
        "template",
        "raw",
        "format",
        "stream",
        "options",
        "images",
        "context",
        "keep_alive",
        "think",
    ])?;
    let (generate, keep_alive) = read_common(&o)?;
    let text = |name: &'static str| o.get(name).map(|f| f.string()).transpose().map(Option::unwrap_or_default);
    let (prompt, suffix, system) = (text("prompt")?, text("suffix")?, text("system")?);
    text("template")?;
    refuse_images(o.get("images"))?;
    if let Some(f) = o.get("context").filter(|f| f.first_kind().is_some()) {
        return Err(f.error(
            "unsupported_field",
            "`context` is not supported. Send the conversation to POST /api/chat; the prefix cache knows what was computed.",
        ));
    }
    let is_raw = o.get("raw").map(|f| f.boolean()).transpose()?.unwrap_or(false);
    if !suffix.is_empty() {
        return Ok(OllamaRequest::Gap(InfillRequest::gap(generate, prompt, suffix)));
    }
    if prompt.is_empty() {
        return Ok(OllamaRequest::Load { model: generate.model, unload: keep_alive == Some(0.0) });
    }
    if is_raw {
        let prompts = vec![Prompt::Text(prompt)];
        return Ok(OllamaRequest::Text(CompletionRequest { generate, prompts, suffix: None, logprobs: None }));
    }
    let system = (!system.is_empty()).then(|| message(Role::System, system));
    let messages = system.into_iter().chain([message(Role::User, prompt)]).collect();
    Ok(OllamaRequest::Chat(ChatRequest { generate, messages, tools: Tools::default(), logprobs: None }))
}

/// Reads and checks the body of `POST /api/chat`.
///
/// # Errors
/// As `parse_generate`.
pub fn parse_chat(body: &[u8]) -> Result<OllamaRequest, ApiError> {
    let o = json::document(body)?.object(&[
        "model",
        "messages",
        "tools",
        "format",
        "stream",
        "options",
        "keep_alive",
        "think",
    ])?;
    let (generate, keep_alive) = read_common(&o)?;
    let messages = match o.get("messages") {
        Some(f) => f.array(limits::MESSAGES_MAX)?.iter().map(read_message).collect::<Result<Vec<_>, _>>()?,
        None => Vec::new(),
    };
    let tools = tools::read(o.get("tools"), None, None)?;
    if let Some(tool) = tools.list.iter().find(|t| t.call_kind() != CallKind::Function) {
        let message = format!("`tools`: {:?} is no function, and Ollama's calls know no other kind.", tool.name);
        return Err(ApiError::field("tools", "unsupported_value", message));
    }
    if messages.is_empty() {
        return Ok(OllamaRequest::Load { model: generate.model, unload: keep_alive == Some(0.0) });
    }
    Ok(OllamaRequest::Chat(ChatRequest { generate, messages, tools, logprobs: None }))
}

/// What both have: the parameters of generation, and `keep_alive` where it is a number.
fn read_common<const N: usize>(o: &Object<'_, N>) -> Result<(Generate, Option<f64>), ApiError> {
    let none = json::document(b"{}")?;
    let options = o.get("options").unwrap_or(none).object(generate_names!["num_predict", "num_ctx"])?;
    let sent = Generate::read_for(read_model(o)?, &options)?;
    options.get("num_ctx").map(|f| f.integer(0, i64::MAX.into())).transpose()?; // the server's context is what it is
    let max_tokens = match options.get("num_predict") {
        // -1: no bound; -2: what the context leaves. Both are what happens without one.
        Some(f) => u32::try_from(f.integer(-2, i32::MAX.into())?).ok(),
        None => sent.max_tokens,
    };
    let keep_alive = match o.get("keep_alive") {
        Some(f) if f.kind() == "a string" => f.string()?.trim_end_matches(['s', 'm', 'h']).parse().ok(),
        Some(f) => Some(f.number(f64::MIN, f64::MAX)?),
        None => None,
    };
    refuse_thinking(o.get("think"))?;
    let generate = Generate {
        max_tokens,
        n: 1,
        stream: o.get("stream").map(|f| f.boolean()).transpose()?.unwrap_or(true),
        include_usage: false,
        response_format: o.get("format").map(|f| read_format(&f)).transpose()?.unwrap_or_default(),
        ..sent
    };
    Ok((generate, keep_alive))
}

fn read_format(field: &Field<'_>) -> Result<ResponseFormat, ApiError> {
    match field.kind() {
        "an object" => Ok(ResponseFormat::JsonSchema(field.text().to_owned())),
        "a string" => match field.string()?.as_str() {
            "" => Ok(ResponseFormat::Text),
            "json" => Ok(ResponseFormat::JsonObject),
            _ => Err(field.wrong_value("\"json\" or a JSON schema")),
        },
        _ => Err(field.wrong_type("\"json\" or a JSON schema")),
    }
}

fn refuse_images(field: Option<Field<'_>>) -> Result<(), ApiError> {
    match field {
        Some(f) if f.kind() != "an array" => Err(f.wrong_type("an array")),
        Some(f) if f.first_kind().is_some() => {
            let message = format!("`{}`: these models read text only. Leave it out.", f.path);
            Err(f.error("unsupported_field", message))
        }
        _ => Ok(()),
    }
}

fn refuse_thinking(field: Option<Field<'_>>) -> Result<(), ApiError> {
    match field {
        Some(f) if f.kind() == "a string" || f.boolean()? => {
            Err(f.error("unsupported_value", "`think`: these models have no thinking to turn on. Leave it out."))
        }
        _ => Ok(()),
    }
}

fn message(role: Role, text: String) -> Message {
    Message {
        role,
        content: Some(text),
        name: None,
        reasoning_content: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    }
}

fn read_message(field: &Field<'_>) -> Result<Message, ApiError> {
    let o = field.object(&["role", "content", "images", "tool_calls", "tool_name", "thinking"])?;
    let role_field = o.need("role", "Send \"system\", \"user\", \"assistant\" or \"tool\".")?;
    let role = match role_field.string()?.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(role_field.wrong_value("\"system\", \"user\", \"assistant\" or \"tool\"")),
    };
    refuse_images(o.get("images"))?;
    let text = |name: &'static str| o.get(name).map(|f| f.string()).transpose();
    Ok(Message {
        name: text("tool_name")?,
        reasoning_content: text("thinking")?,
        tool_calls: match o.get("tool_calls") {
            Some(f) => f.array(limits::TOOL_CALLS_MAX)?.iter().map(read_tool_call).collect::<Result<_, _>>()?,
            None => Vec::new(),
        },
        ..message(role, text("content")?.unwrap_or_default())
    })
}

/// Arguments are an object here, where OpenAI has text.
fn read_tool_call(field: &Field<'_>) -> Result<ToolCall, ApiError> {
    let o = field.object(&["id", "function"])?;
    let function = o.need("function", "A tool call needs {\"name\",\"arguments\"}.")?.object(&["name", "arguments"])?;
    let arguments = match function.get("arguments") {
        Some(f) if f.kind() == "an object" => f.text().to_owned(),
        Some(f) => return Err(f.wrong_type("an object")),
        None => "{}".to_owned(),
    };
    Ok(ToolCall {
        id: o.get("id").map(|f| f.string()).transpose()?.unwrap_or_default(),
        name: function.need("name", "Name the function.")?.string()?,
        arguments,
    })
}

/// A whole answer, or a line of a streamed one. `/api/generate` has `response`, `/api/chat` has `message`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OllamaReply {
    /// The model that answers.
    pub model: String,
    /// RFC 3339.
    pub created_at: String,
    /// What is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// What is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<OllamaMessage>,
    /// It is the last word.
    pub done: bool,
    /// `stop`, `length`, `load` or `unload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<String>,
    /// With the last word.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub figures: Option<OllamaFigures>,
}

/// What the model says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OllamaMessage {
    /// `assistant`
    pub role: String,
    /// The text.
    pub content: String,
    /// Calls of tools, arguments as objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
}

/// Counts, and times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct OllamaFigures {
    /// From the arrival of the request to its last token.
    pub total_duration: u64,
    /// Always 0: models are loaded before the server is ready.
    pub load_duration: u64,
    /// Tokens of the prompt, cached ones too.
    pub prompt_eval_count: u64,
    /// From admission until the prompt was in the cache.
    pub prompt_eval_duration: u64,
    /// Generated tokens.
    pub eval_count: u64,
    /// From then to the last token; at least 1, as clients divide by it.
    pub eval_duration: u64,
}

impl OllamaFigures {
    /// From our own.
    pub fn new(n_prompt: u64, n_tokens: u64, t: &Timings) -> Self {
        let ns = |ms: f64| (ms.max(0.0) * 1e6) as u64;
        let before = t.split.read_ms + t.split.tokenize_ms + t.split.queue_ms + t.prompt_ms;
        let total_ms = (t.ttft_ms + t.predicted_ms).max(before);
        Self {
            total_duration: ns(total_ms),
            load_duration: 0,
            prompt_eval_count: n_prompt,
            prompt_eval_duration: ns(t.prompt_ms),
            eval_count: n_tokens,
            eval_duration: ns(total_ms - before).max(1),
        }
    }
}

/// The body of `POST /api/show`.
///
/// # Errors
/// 400 that names the field.
pub fn parse_show(body: &[u8]) -> Result<String, ApiError> {
    read_shown(&json::document(body)?.object(&["model", "name"])?)
}

fn read_shown<const N: usize>(o: &json::Object<'_, N>) -> Result<String, ApiError> {
    match o.get("name") {
        Some(f) if o.get("model").is_none() => f.string(), // its older name
        _ => read_model(o),
    }
}

/// The body of `POST /api/pull`: the name, and whether progress is wanted line by line.
///
/// # Errors
/// 400 that names the field.
pub fn parse_pull(body: &[u8]) -> Result<(String, bool), ApiError> {
    let o = json::document(body)?.object(&["model", "name", "stream"])?;
    let stream = o.get("stream").map(|f| f.boolean()).transpose()?.unwrap_or(true);
    Ok((read_shown(&o)?, stream))
}

/// A point in time as Ollama writes it, in UTC.
pub fn rfc3339(unix_s: u64, micros: u32) -> String {
    let (days, s) = (unix_s / 86_400, unix_s % 86_400);
    // Civil from days, after H. Hinnant: years begin in March, eras have 400 years.
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{micros:06}Z")
}

/// `embeddings` in every dialect.
pub fn no_embeddings() -> ApiError {
    ApiError::of(
        404,
        "unsupported_endpoint",
        "This server makes no embeddings. Point your client's embeddings at another server, or turn them off.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Split;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (s, want) in [
            (0, "1970-01-01T00:00:00.000007Z"),
            (951_782_399, "2000-02-28T23:59:59.000007Z"),
            (951_868_800, "2000-03-01T00:00:00.000007Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000007Z"),
        ] {
            assert_eq!(rfc3339(s, 7), want);
        }
    }

    #[test]
    fn what_is_asked_decides_what_it_becomes() {
        let ask = |body: &str| parse_generate(body.as_bytes()).unwrap();
        let kind = |body: &str| match ask(body) {
            OllamaRequest::Load { unload, .. } => format!("load {unload}"),
            OllamaRequest::Chat(r) => format!("chat {}", r.messages.len()),
            OllamaRequest::Text(r) => format!("text {:?}", r.prompts),
            OllamaRequest::Gap(r) => format!("gap {}|{}", r.prefix, r.suffix),
        };
        assert_eq!(kind(r#"{"model":"m"}"#), "load false");
        assert_eq!(kind(r#"{"model":"m","keep_alive":0}"#), "load true");
        assert_eq!(kind(r#"{"model":"m","keep_alive":"0s"}"#), "load true");
        assert_eq!(kind(r#"{"model":"m","keep_alive":"5m"}"#), "load false");
        assert_eq!(kind(r#"{"model":"m","prompt":"p"}"#), "chat 1");
        assert_eq!(kind(r#"{"model":"m","prompt":"p","system":"s"}"#), "chat 2");
        assert_eq!(kind(r#"{"model":"m","prompt":"p","raw":true}"#), r#"text [Text("p")]"#);
        assert_eq!(kind(r#"{"model":"m","prompt":"p","suffix":"s"}"#), "gap p|s");
        assert_eq!(kind(r#"{"model":"m","prompt":"","suffix":"s"}"#), "gap |s");
    }

    #[test]
    fn options_are_generations_parameters_and_nothing_else() {
        let body = r#"{"model":"m","prompt":"p","raw":true,"format":"json","options":{"temperature":0.5,"top_k":3,"top_p":0.5,
            "min_p":0.1,"seed":-1,"num_predict":9,"stop":["a"],"repeat_penalty":1.5,"num_ctx":4096,"n":3,"stream":false,"mirostat":1}}"#;
        let OllamaRequest::Text(r) = parse_generate(body.as_bytes()).unwrap() else { panic!("{body}") };
        let g = r.generate;
        assert_eq!((g.max_tokens, g.top_k, g.seed, g.n, g.stream), (Some(9), Some(3), Some(u64::MAX), 1, true));
        assert_eq!((g.temperature.unwrap().get(), g.response_format), (0.5, ResponseFormat::JsonObject));
        assert!(g.hints.speculate);
        for (n, want) in [("-1", None), ("-2", None), ("0", Some(0))] {
            let body = format!(r#"{{"model":"m","prompt":"p","raw":true,"options":{{"num_predict":{n}}}}}"#);
            let OllamaRequest::Text(r) = parse_generate(body.as_bytes()).unwrap() else { panic!("{body}") };
            assert_eq!(r.generate.max_tokens, want);
        }
        let e = parse_generate(br#"{"model":"m","prompt":"p","options":{"top_p":2}}"#).unwrap_err();
        assert_eq!(e.param.as_deref(), Some("options.top_p"));
    }

    #[test]
    fn times_are_never_a_zero_to_divide_by() {
        let f = OllamaFigures::new(5, 0, &Timings::default());
        assert_eq!((f.eval_duration, f.total_duration, f.prompt_eval_count), (1, 0, 5));
        let split = Split { read_ms: 0.25, tokenize_ms: 0.25, queue_ms: 0.5, ..Split::default() };
        let t = Timings { split, prompt_ms: 2.0, ttft_ms: 3.5, predicted_ms: 4.0, ..Timings::default() };
        let f = OllamaFigures::new(5, 6, &t);
        assert_eq!((f.total_duration, f.prompt_eval_duration, f.eval_duration), (7_500_000, 2_000_000, 4_500_000));
    }
}
