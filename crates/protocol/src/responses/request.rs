//! The body of `POST /v1/responses`, and of a `response.create` frame, as checked types.

use base::limits;
use serde_json::{Map, Value, json};

use crate::chat::ChatRequest;
use crate::error::ApiError;
use crate::generate::{Generate, ResponseFormat, generate_names, read_model};
use crate::hints::ServiceTier;
use crate::json::{self, Field, Object};
use crate::num;
use crate::responses::items::{Item, Systems, lower, read_input};
use crate::responses::tools::{self, ToolNames};
use crate::tools::Tools;

/// A request that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseRequest {
    /// Parameters of generation; `max_tokens` is 0 where only the prompt shall be computed (`generate: false`).
    pub generate: Generate,
    /// Goes before everything else, in this request only.
    pub instructions: Option<String>,
    /// What is new.
    pub input: Vec<Item>,
    /// What the model may or must call.
    pub tools: Tools,
    /// What clients call the tools.
    pub names: ToolNames,
    /// Report log-probabilities, with this many alternatives.
    pub logprobs: Option<u8>,
    /// What is new follows this answer.
    pub previous_response_id: Option<String>,
    /// Keep the answer for `GET /v1/responses/ID` and `previous_response_id`.
    pub store: bool,
    /// Fields of the answer that repeat the request, as JSON without the braces.
    pub echo: String,
}

/// Reads and checks. Unknown fields are ignored, as OpenAI's servers do.
///
/// # Errors
/// 400 that names the field by its path and says what to send instead.
pub fn parse_response(body: &[u8]) -> Result<ResponseRequest, ApiError> {
    let o = json::document(body)?.object(generate_names![
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "text",
        "reasoning",
        "store",
        "include",
        "previous_response_id",
        "max_output_tokens",
        "max_tool_calls",
        "top_logprobs",
        "truncation",
        "metadata",
        "safety_identifier",
        "background",
        "conversation",
        "prompt",
        "generate",
    ])?;
    for (name, instead) in [
        ("background", "Stream the answer instead."),
        ("conversation", "Use `previous_response_id` instead."),
        ("prompt", "Send the prompt's text as `input`."),
    ] {
        if let Some(f) = o.get(name).filter(|f| f.text() != "false") {
            return Err(f.error("unsupported_field", format!("`{name}` is not supported. {instead}")));
        }
    }
    let mut generate = Generate::read_for(read_model(&o)?, &o)?;
    if generate.n != 1 {
        return Err(ApiError::field("n", "unsupported_value", "A response is one answer. Leave `n` out."));
    }
    if let Some(f) = o.get("max_output_tokens") {
        generate.max_tokens = Some(num::read_u32(&f, 0, i32::MAX as u32)?);
    }
    if !flag(&o, "generate", true)? {
        generate.max_tokens = Some(0);
    }
    let text = o.get("text").map(|f| read_text(&f)).transpose()?.unwrap_or_default();
    if let Some(format) = text.format {
        generate.response_format = format;
    }
    if let Some(f) = o.get("truncation")
        && f.string()? != "disabled"
    {
        let message = "`truncation` may be \"disabled\" only: nothing is left out of a conversation unasked.";
        return Err(f.error("unsupported_value", message));
    }
    let parallel = flag(&o, "parallel_tool_calls", true)?;
    let (tools, names) = tools::read(o.get("tools"), o.get("tool_choice"), parallel)?;
    let input = o.get("input").map(|f| read_input(&f)).transpose()?.unwrap_or_default();
    let previous_response_id = o.get("previous_response_id").map(|f| f.string()).transpose()?;
    let request = ResponseRequest {
        logprobs: read_logprobs(&o)?,
        instructions: o.get("instructions").map(|f| f.string()).transpose()?,
        input,
        tools,
        names,
        previous_response_id: previous_response_id.filter(|id| !id.is_empty()),
        store: flag(&o, "store", true)?,
        echo: String::new(),
        generate,
    };
    let echo = echo(&o, &request, text.echo)?;
    Ok(ResponseRequest { echo, ..request })
}

impl ResponseRequest {
    /// The chat that it stands for: what was said before, then what is new.
    ///
    /// # Errors
    /// 400: nothing to answer, or more items than may be.
    pub fn chat(&self, before: &[&Item], systems: Systems) -> Result<ChatRequest, ApiError> {
        let n = before.len() + self.input.len();
        if n > limits::MESSAGES_MAX {
            let message = format!("The conversation has {n} items; {} may be. Begin a new one.", limits::MESSAGES_MAX);
            return Err(ApiError::field("input", "too_many", message));
        }
        let messages = lower(self.instructions.as_deref(), before.iter().copied().chain(&self.input), systems);
        if messages.is_empty() {
            return Err(ApiError::field("input", "missing_field", "`input` is missing. Send a string or items."));
        }
        Ok(ChatRequest {
            generate: self.generate.clone(),
            messages,
            tools: self.tools.clone(),
            logprobs: self.logprobs,
        })
    }

    /// The same request, without what it asks.
    pub fn settings(&self) -> Self {
        let Self { generate, instructions, tools, names, echo, .. } = self;
        Self {
            generate: generate.clone(),
            instructions: instructions.clone(),
            input: Vec::new(),
            tools: tools.clone(),
            names: names.clone(),
            logprobs: self.logprobs,
            previous_response_id: None,
            store: self.store,
            echo: echo.clone(),
        }
    }

    /// The same request for what comes next.
    pub fn follow(self, id: String, input: Vec<Item>) -> Self {
        Self { previous_response_id: Some(id), input, ..self }
    }

    /// Only the prompt is computed.
    pub fn is_warm_up(&self) -> bool {
        self.generate.max_tokens == Some(0)
    }
}

fn flag<const N: usize>(o: &Object<'_, N>, name: &'static str, default: bool) -> Result<bool, ApiError> {
    Ok(o.get(name).map(|f| f.boolean()).transpose()?.unwrap_or(default))
}

/// `top_logprobs`, which `include` must ask for; many clients send only one of the two.
fn read_logprobs<const N: usize>(o: &Object<'_, N>) -> Result<Option<u8>, ApiError> {
    let top = o.get("top_logprobs").map(|f| num::read_u32(&f, 0, limits::TOP_LOGPROBS_MAX as u32)).transpose()?;
    let mut is_included = false;
    for field in o.get("include").map(|f| f.array(limits::RESPONSE_FIELDS_MAX)).transpose()?.unwrap_or_default() {
        is_included |= field.string()? == "message.output_text.logprobs";
    }
    let top = top.map(|n| n as u8);
    Ok(if is_included { Some(top.unwrap_or(0)) } else { top.filter(|n| *n > 0) })
}

#[derive(Default)]
struct Text {
    format: Option<ResponseFormat>,
    echo: Option<Value>,
}

fn read_text(field: &Field<'_>) -> Result<Text, ApiError> {
    let o = field.object(&["format", "verbosity"])?;
    let verbosity = o.get("verbosity").map(|f| f.string()).transpose()?;
    let Some(format) = o.get("format") else {
        let echo = json!({ "format": { "type": "text" }, "verbosity": verbosity });
        return Ok(Text { format: None, echo: Some(echo) });
    };
    let f = format.object(&["type", "name", "schema", "strict", "description"])?;
    let kind = f.need("type", "Send \"text\", \"json_schema\" or \"json_object\".")?;
    let read = match kind.string()?.as_str() {
        "text" => ResponseFormat::Text,
        "json_object" => ResponseFormat::JsonObject,
        "json_schema" => {
            for name in ["name", "description"] {
                f.get(name).map(|f| f.string()).transpose()?;
            }
            f.get("strict").map(|f| f.boolean()).transpose()?;
            let schema = f.need("schema", "Send a JSON schema, or use {\"type\":\"json_object\"}.")?;
            match schema.kind() {
                "an object" => ResponseFormat::JsonSchema(schema.text().to_owned()),
                _ => return Err(schema.wrong_type("an object")),
            }
        }
        _ => return Err(kind.wrong_value("\"text\", \"json_schema\" or \"json_object\"")),
    };
    let echo = json!({ "format": format.value(limits::TOOLS_BYTES_MAX)?, "verbosity": verbosity });
    Ok(Text { format: Some(read), echo: Some(echo) })
}

/// What an answer repeats of its request. Read into values and written anew: no line breaks of the client's survive.
fn echo<const N: usize>(o: &Object<'_, N>, request: &ResponseRequest, text: Option<Value>) -> Result<String, ApiError> {
    let small = |name: &'static str| -> Result<Value, ApiError> {
        o.get(name).map_or(Ok(Value::Null), |f| f.value(limits::RESPONSE_ECHO_BYTES_MAX))
    };
    let or = |value: Value, default: Value| if value.is_null() { default } else { value };
    let tools = o.get("tools").map_or(Ok(json!([])), |f| f.value(limits::TOOLS_BYTES_MAX))?;
    let metadata = small("metadata")?;
    let are_texts = || metadata.as_object().is_some_and(|o| o.values().all(Value::is_string));
    if !metadata.is_null() && !are_texts() {
        return Err(ApiError::field("metadata", "invalid_type", "`metadata` must be an object of strings."));
    }
    let reasoning = small("reasoning")?;
    if !reasoning.is_null() && !reasoning.is_object() {
        return Err(ApiError::field("reasoning", "invalid_type", "`reasoning` must be an object."));
    }
    let tier = match request.generate.hints.service_tier {
        None | Some(ServiceTier::Auto) => ServiceTier::Default,
        Some(tier) => tier,
    };
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| _ = map.insert(name.to_owned(), value);
    put("background", false.into());
    put("instructions", request.instructions.clone().into());
    put("max_output_tokens", small("max_output_tokens")?);
    put("max_tool_calls", small("max_tool_calls")?);
    put("metadata", or(metadata, json!({})));
    put("parallel_tool_calls", request.tools.parallel.into());
    put("prompt_cache_key", request.generate.hints.prompt_cache_key.clone().into());
    put("reasoning", or(reasoning, json!({ "effort": null, "summary": null })));
    put("safety_identifier", small("safety_identifier")?);
    put("service_tier", tier.as_str().into());
    put("store", request.store.into());
    put("temperature", small("temperature")?);
    put("text", text.unwrap_or_else(|| json!({ "format": { "type": "text" } })));
    put("tool_choice", or(small("tool_choice")?, "auto".into()));
    put("tools", tools);
    put("top_logprobs", request.logprobs.unwrap_or(0).into());
    put("top_p", small("top_p")?);
    put("truncation", "disabled".into());
    put("user", request.generate.user.clone().into());
    let text = Value::Object(map).to_string();
    Ok(text.get(1..text.len().saturating_sub(1)).unwrap_or_default().to_owned())
}
