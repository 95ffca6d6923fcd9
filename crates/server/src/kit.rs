//! The text side of a model as requests use it: prompts to tokens, conversations through the model's chat template,
//! gaps through its fill-in-the-middle template.

use std::sync::Arc;

use base::TokenId;
use protocol::{ApiError, ChatRequest, InfillRequest, Message, ResponseFormat, Role, Tool};
use serde_json::{Map, Value, json};
use text::{ChatTemplate, Encode, FimFile, FimInput, FimTemplate, Fitted, Grammar, TextError, Tokenizer, ToolFormat};

use crate::grammar::Grammars;

/// Tokenizer and templates of one model.
pub struct TextKit {
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// How the model wants conversations, if it was trained on them.
    pub chat: Option<ChatTemplate>,
    /// How the model wants gaps, if it was trained on them.
    pub fim: Option<FimTemplate>,
    /// How the model writes calls of tools.
    pub(crate) tool_format: ToolFormat,
    /// Special tokens that mark calls.
    pub(crate) tool_marks: Arc<[TokenId]>,
    pub(crate) grammars: Grammars,
}

impl TextKit {
    /// From a tokenizer and the source of a chat template; the fill-in-the-middle template follows from the tokens.
    ///
    /// # Errors
    /// The template cannot be parsed.
    pub fn new(tokenizer: Tokenizer, chat_template: Option<&str>) -> Result<Self, TextError> {
        let text = |id: Option<TokenId>| id.map_or("", |id| tokenizer.token_text(id));
        let chat = chat_template
            .map(|source| ChatTemplate::new(source, text(tokenizer.bos()), text(tokenizer.eos())))
            .transpose()?;
        let fim = FimTemplate::of(&tokenizer);
        let tool_format = ToolFormat::of(chat_template);
        let marks = tool_format.markers().iter().filter_map(|m| tokenizer.token_of(m));
        let tool_marks = marks.filter(|id| tokenizer.is_special(*id)).collect();
        Ok(Self { tokenizer: Arc::new(tokenizer), chat, fim, tool_format, tool_marks, grammars: Grammars::default() })
    }

    /// A raw prompt. Special tokens are read, because editors send prompts that they templated themselves.
    pub(crate) fn encode_text(&self, text: &str) -> Vec<TokenId> {
        self.tokenizer.encode(text, Encode { add_special: true, parse_special: true })
    }

    /// What an answer may look like: ordinary text, nothing added.
    pub(crate) fn encode_answer(&self, text: &str) -> Vec<TokenId> {
        self.tokenizer.encode(text, Encode::TEXT)
    }

    /// The prompt for a gap.
    pub(crate) fn encode_fim(&self, prefix: &str, suffix: &str) -> Result<Vec<TokenId>, ApiError> {
        let fim = self.fim.as_ref().ok_or_else(|| {
            let message = "This model cannot fill in the middle (it has no tokens for it). Leave `suffix` out.";
            ApiError::field("suffix", "unsupported_field", message)
        })?;
        Ok(fim.prompt(&self.tokenizer, prefix, suffix))
    }

    /// The prompt for an infill request; whether it had to be cut to fit into `max` tokens.
    pub(crate) fn encode_infill(&self, request: &InfillRequest, max: usize) -> Result<Fitted, ApiError> {
        let fim = self.fim.as_ref().ok_or_else(|| {
            let message = "This model cannot fill in the middle (it has no tokens for it). Serve one that can.";
            ApiError::field("model", "unsupported_field", message)
        })?;
        let files: Vec<FimFile<'_>> =
            request.extra.iter().map(|e| FimFile { path: &e.filename, text: &e.text }).collect();
        let input = FimInput {
            prefix: &request.prefix,
            suffix: &request.suffix,
            repo: Some("myproject"), // these two are llama.cpp's: its clients do not tell them
            path: Some("filename"),
            files: &files,
        };
        Ok(fim.fitted(&self.tokenizer, &input, &request.middle, max))
    }

    /// The prompt for a conversation; `check_bytes` may refuse the rendered text before it is tokenised.
    pub(crate) fn encode_chat(
        &self,
        request: &ChatRequest,
        check_bytes: &dyn Fn(usize) -> Result<(), ApiError>,
    ) -> Result<Vec<TokenId>, ApiError> {
        let text = self.render_chat(request, true)?;
        check_bytes(text.len())?;
        Ok(self.tokenizer.encode(&text, Encode::TEMPLATE))
    }

    /// A conversation as its template writes it; with `opens` also what begins an answer.
    pub(crate) fn render_chat(&self, request: &ChatRequest, opens: bool) -> Result<String, ApiError> {
        let template = self.chat.as_ref().ok_or_else(|| {
            let message = "This model has no chat template. Use POST /v1/completions, or an instruct model.";
            ApiError::field("model", "no_chat_template", message)
        })?;
        let tools = &request.tools.list;
        let knows_tools = ToolFormat::knows_tools(template.source());
        let shown =
            (knows_tools && !tools.is_empty()).then(|| tools.iter().map(|t| t.template.clone()).collect::<Value>());
        let render = |arguments: Arguments| {
            let messages = match knows_tools {
                true => request.messages.iter().map(|m| template_message(m, arguments)).collect(),
                false => told_messages(&request.messages, tools),
            };
            template.render(&Value::Array(messages), shown.as_ref(), opens, &Map::new())
        };
        let has_calls = request.messages.iter().any(|m| !m.tool_calls.is_empty());
        let text = match render(Arguments::Object) {
            Err(TextError::TemplateRender { .. }) if has_calls => render(Arguments::Text),
            rendered => rendered,
        };
        text.map_err(|e| ApiError::field("messages", "template_error", format!("{e}.")))
    }

    /// The grammar that an answer must follow.
    pub(crate) fn grammar(&self, format: &ResponseFormat) -> Result<Option<Arc<Grammar>>, ApiError> {
        self.grammars.of_format(&self.tokenizer, format)
    }

    /// Tokens that end an answer.
    pub(crate) fn stop_tokens(&self) -> &[TokenId] {
        self.tokenizer.eog_ids()
    }

    /// What a token stands for.
    pub(crate) fn token_bytes(&self, id: TokenId) -> &[u8] {
        self.tokenizer.token_bytes(id)
    }

    /// Bytes that a token adds to an answer.
    pub(crate) fn shown_bytes(&self, id: TokenId) -> usize {
        if self.tokenizer.is_special(id) { 0 } else { self.tokenizer.token_bytes(id).len() }
    }
}

/// OpenAI sends the arguments of tool calls as text; most templates want the object, a few the text.
#[derive(Clone, Copy)]
enum Arguments {
    Object,
    Text,
}

/// A message as templates know it.
fn template_message(m: &Message, arguments: Arguments) -> Value {
    let role = match m.role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut message = Map::new();
    message.insert("role".to_owned(), role.into());
    message.insert("content".to_owned(), m.content.as_deref().unwrap_or("").into());
    for (key, value) in
        [("name", &m.name), ("reasoning_content", &m.reasoning_content), ("tool_call_id", &m.tool_call_id)]
    {
        if let Some(value) = value {
            message.insert(key.to_owned(), value.as_str().into());
        }
    }
    if !m.tool_calls.is_empty() {
        let call = |c: &protocol::ToolCall| {
            let function = json!({ "name": c.name, "arguments": argument_value(&c.arguments, arguments) });
            json!({ "id": c.id, "type": "function", "function": function })
        };
        message.insert("tool_calls".to_owned(), m.tool_calls.iter().map(call).collect());
    }
    Value::Object(message)
}

/// Messages for a template that knows nothing of tools: the tools stand in the system message, calls and results in the text,
/// all in Hermes' form, of which most models have read.
fn told_messages(messages: &[Message], tools: &[Tool]) -> Vec<Value> {
    let mut out: Vec<(&str, String)> = Vec::new();
    for m in messages {
        let content = m.content.clone().unwrap_or_default();
        match m.role {
            Role::System | Role::Developer => out.push(("system", content)),
            Role::User => out.push(("user", content)),
            Role::Assistant => {
                let mut text = content;
                for call in &m.tool_calls {
                    let arguments = argument_value(&call.arguments, Arguments::Object);
                    let call = json!({ "name": call.name, "arguments": arguments });
                    text.push_str(if text.is_empty() { "" } else { "\n" });
                    text.push_str(&format!("<tool_call>\n{call}\n</tool_call>"));
                }
                out.push(("assistant", text));
            }
            Role::Tool => {
                let text = format!("<tool_response>\n{content}\n</tool_response>");
                match out.last_mut() {
                    // Templates want users and assistants to take turns.
                    Some(("user", before)) if before.ends_with("</tool_response>") => {
                        before.push('\n');
                        before.push_str(&text);
                    }
                    _ => out.push(("user", text)),
                }
            }
        }
    }
    if !tools.is_empty() {
        let shown: Vec<Value> = tools.iter().map(|t| t.template.clone()).collect();
        let told = ToolFormat::instructions(&shown);
        match out.first_mut() {
            Some(("system", text)) => *text = format!("{text}\n\n{told}"),
            _ => out.insert(0, ("system", told)),
        }
    }
    out.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

/// What the model wrote may be no JSON, or nested like a bomb: then it stays text.
fn argument_value(text: &str, arguments: Arguments) -> Value {
    let parsed = match arguments {
        Arguments::Object if protocol::json::check_depth(text.as_bytes()).is_ok() => serde_json::from_str(text).ok(),
        _ => None,
    };
    parsed.filter(Value::is_object).unwrap_or_else(|| text.into())
}
