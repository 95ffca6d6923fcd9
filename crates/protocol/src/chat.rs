//! `POST /v1/chat/completions`: the request as checked types, the response as it is written and read back.

use base::limits;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::ApiError;
use crate::generate::{FinishReason, Generate, generate_names, read_model, read_model_or_default};
use crate::hints::ServiceTier;
use crate::json::{self, Field};
use crate::num;
use crate::tools::{self, DeltaCall, ReplyCall, Tools};
use crate::usage::{Timings, Usage};

/// A chat request that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// Parameters of generation.
    pub generate: Generate,
    /// At least one.
    pub messages: Vec<Message>,
    /// What the model may or must call.
    pub tools: Tools,
    /// Report log-probabilities, with this many alternatives.
    pub logprobs: Option<u8>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// Instructions, by their newer name.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The answer of a tool.
    Tool,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// Text; several text parts are joined by newlines. `None` for an assistant that only calls tools.
    pub content: Option<String>,
    /// Name of the speaker or tool.
    pub name: Option<String>,
    /// What the assistant thought, where a client sends it back.
    pub reasoning_content: Option<String>,
    /// Calls made by the assistant.
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool message answers.
    pub tool_call_id: Option<String>,
}

/// A call of a function by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The call's id.
    pub id: String,
    /// The function.
    pub name: String,
    /// JSON as the model wrote it: not checked.
    pub arguments: String,
}

impl ChatRequest {
    /// Bytes of text in all messages and tools, to refuse what cannot fit before it is tokenised.
    pub fn text_bytes(&self) -> usize {
        let of = |s: &Option<String>| s.as_ref().map_or(0, String::len);
        self.messages
            .iter()
            .map(|m| {
                let calls: usize = m.tool_calls.iter().map(|c| c.name.len() + c.arguments.len()).sum();
                of(&m.content) + of(&m.name) + of(&m.reasoning_content) + calls
            })
            .sum::<usize>()
            .saturating_add(self.tools.text_bytes())
    }
}

/// Reads and checks the body of a chat request. Unknown fields are ignored, as OpenAI's servers do.
///
/// # Errors
/// 400 that names the field by its path and says what to send instead.
pub fn parse_chat(body: &[u8]) -> Result<ChatRequest, ApiError> {
    parse(body, true).map(|(request, _)| request)
}

/// The same, with the default model where none is named, and whether what begins an answer is wanted: llama.cpp's
/// `POST /apply-template`.
///
/// # Errors
/// As `parse_chat`.
pub fn parse_template(body: &[u8]) -> Result<(ChatRequest, bool), ApiError> {
    parse(body, false)
}

fn parse(body: &[u8], needs_model: bool) -> Result<(ChatRequest, bool), ApiError> {
    let o = json::document(body)?.object(generate_names![
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "logprobs",
        "top_logprobs",
        "add_generation_prompt",
    ])?;
    let model = if needs_model { read_model(&o)? } else { read_model_or_default(&o)? };
    let generate = Generate::read_for(model, &o)?;
    let messages = o.need("messages", "Send an array of {\"role\",\"content\"}.")?;
    let messages_read =
        messages.array(limits::MESSAGES_MAX)?.iter().map(read_message).collect::<Result<Vec<_>, _>>()?;
    if messages_read.is_empty() {
        return Err(messages.error("invalid_value", "`messages` is empty. Send at least one message."));
    }
    if let Some(field) = o.get("functions") {
        return Err(field.error("unsupported_field", "`functions` is the old name. Send `tools` instead."));
    }
    let tools = tools::read(o.get("tools"), o.get("tool_choice"), o.get("parallel_tool_calls"))?;
    let logprobs = o.get("logprobs").map(|f| f.boolean()).transpose()?.unwrap_or(false);
    let top = match o.get("top_logprobs") {
        None => 0,
        Some(f) => {
            let top = num::read_u32(&f, 0, limits::TOP_LOGPROBS_MAX as u32)?;
            if !logprobs && top > 0 {
                return Err(f.error("invalid_value", "`top_logprobs` needs `logprobs`: true."));
            }
            top as u8
        }
    };
    let opens = o.get("add_generation_prompt").map(|f| f.boolean()).transpose()?.unwrap_or(true);
    Ok((ChatRequest { generate, messages: messages_read, tools, logprobs: logprobs.then_some(top) }, opens))
}

fn read_message(field: &Field<'_>) -> Result<Message, ApiError> {
    let o = field.object(&[
        "role",
        "content",
        "name",
        "reasoning_content",
        "tool_calls",
        "tool_call_id",
        "function_call",
    ])?;
    let role_field = o.need("role", "Send \"system\", \"user\", \"assistant\" or \"tool\".")?;
    let role = match role_field.string()?.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(role_field.wrong_value("\"system\", \"developer\", \"user\", \"assistant\" or \"tool\"")),
    };
    if let Some(f) = o.get("function_call") {
        return Err(f.error("unsupported_field", format!("`{}` is the old form. Send `tool_calls`.", f.path)));
    }
    let tool_calls = match o.get("tool_calls") {
        None => Vec::new(),
        Some(f) if role != Role::Assistant => {
            return Err(f.error("invalid_value", format!("`{}` belongs to assistant messages only.", f.path)));
        }
        Some(f) => f.array(limits::TOOL_CALLS_MAX)?.iter().map(read_tool_call).collect::<Result<_, _>>()?,
    };
    let content = o.get("content").map(|f| read_content(&f, &["text"])).transpose()?;
    if content.is_none() && role != Role::Assistant {
        o.need("content", "Send a string or an array of {\"type\":\"text\",\"text\"}.")?;
    }
    Ok(Message {
        role,
        content,
        name: o.get("name").map(|f| f.string()).transpose()?,
        reasoning_content: o.get("reasoning_content").map(|f| f.string()).transpose()?,
        tool_calls,
        tool_call_id: o.get("tool_call_id").map(|f| f.string()).transpose()?,
    })
}

/// A text, or text parts of these kinds (named by the first one in errors) and refusals, joined by newlines.
pub(crate) fn read_content(field: &Field<'_>, kinds: &[&str]) -> Result<String, ApiError> {
    match field.kind() {
        "a string" => field.string(),
        "an array" => {
            let parts = field.array(limits::CONTENT_PARTS_MAX)?;
            Ok(parts.iter().map(|part| read_part(part, kinds)).collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        _ => Err(field.wrong_type("a string or an array of parts")),
    }
}

fn read_part(field: &Field<'_>, kinds: &[&str]) -> Result<String, ApiError> {
    let (o, usual) = (field.object(&["type", "text", "refusal"])?, kinds.first().copied().unwrap_or("text"));
    let kind = o.need("type", &format!("Send \"{usual}\"."))?;
    match kind.string()?.as_str() {
        "refusal" => o.need("refusal", "A refusal part needs its text.")?.string(),
        kind if kinds.contains(&kind) => o.need("text", "A text part needs its text.")?.string(),
        _ => {
            let what = format!("`{}` is not text, and these models read text only.", field.path);
            Err(field.error("unsupported_value", format!("{what} Send {{\"type\":\"{usual}\"}} parts.")))
        }
    }
}

fn read_tool_call(field: &Field<'_>) -> Result<ToolCall, ApiError> {
    let o = field.object(&["id", "function", "custom"])?;
    let id = o.get("id").map(|f| f.string()).transpose()?.unwrap_or_default();
    if let Some(custom) = o.get("custom") {
        let custom = custom.object(&["name", "input"])?;
        let name = custom.need("name", "Name the tool.")?.string()?;
        let input = custom.get("input").map(|f| f.string()).transpose()?.unwrap_or_default();
        return Ok(ToolCall { id, name, arguments: json!({ "input": input }).to_string() });
    }
    let function = o.need("function", "A tool call needs {\"name\",\"arguments\"}.")?.object(&["name", "arguments"])?;
    Ok(ToolCall {
        id,
        name: function.need("name", "Name the function.")?.string()?,
        arguments: function.get("arguments").map(|f| f.string()).transpose()?.unwrap_or_default(),
    })
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChatCompletion {
    /// `chatcmpl-...`
    pub id: String,
    /// `chat.completion`
    pub object: String,
    /// Unix seconds.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// Equal fingerprints promise equal answers for equal seeds.
    #[serde(default)]
    pub system_fingerprint: Option<String>,
    /// As asked for, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,
    /// In the order of their index.
    pub choices: Vec<ChatChoice>,
    /// Token counts.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Our extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

/// One choice of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChatChoice {
    /// 0 to n - 1.
    pub index: u32,
    /// What the model said.
    pub message: ReplyMessage,
    /// If asked for.
    #[serde(default)]
    pub logprobs: Option<ChatLogprobs>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
}

/// What the model said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplyMessage {
    /// `assistant`
    pub role: String,
    /// The text; null if there are calls only.
    pub content: Option<String>,
    /// Always null here; the SDKs know the field.
    #[serde(default)]
    pub refusal: Option<String>,
    /// What the model calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ReplyCall>,
}

/// Log-probabilities of a chat answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChatLogprobs {
    /// One per generated token.
    pub content: Vec<TokenLogprob>,
}

/// A token, how likely it was, and the likeliest at its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenLogprob {
    /// Its text; bytes that are not whole characters become U+FFFD.
    pub token: String,
    /// Natural logarithm, at least -9999.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest, in falling order; absent within `top_logprobs` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    pub top_logprobs: Option<Vec<TokenLogprob>>,
}

/// A chunk of a streamed answer, as clients read it (`Chunks` writes it).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChatChunk {
    /// Equal in all chunks.
    pub id: String,
    /// `chat.completion.chunk`
    pub object: String,
    /// Unix seconds.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// See `ChatCompletion`.
    #[serde(default)]
    pub system_fingerprint: Option<String>,
    /// As asked for, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,
    /// Empty in the usage chunk.
    pub choices: Vec<ChunkChoice>,
    /// In the last chunk, if asked for.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// In the last chunk.
    #[serde(default)]
    pub timings: Option<Timings>,
}

/// What one chunk adds to one choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChunkChoice {
    /// 0 to n - 1.
    pub index: u32,
    /// What is new.
    pub delta: Delta,
    /// Of the tokens that are new.
    #[serde(default)]
    pub logprobs: Option<ChatLogprobs>,
    /// In the choice's last chunk.
    #[serde(default)]
    pub finish_reason: Option<FinishReason>,
}

/// What is new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Delta {
    /// In the first chunk.
    #[serde(default)]
    pub role: Option<String>,
    /// More text.
    #[serde(default)]
    pub content: Option<String>,
    /// More of calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<DeltaCall>,
}
