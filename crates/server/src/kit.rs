//! The text side of a model as requests use it: prompts to tokens, conversations through the model's chat template,
//! gaps through its fill-in-the-middle template.

use std::sync::Arc;

use base::TokenId;
use protocol::{ApiError, ChatRequest, InfillRequest, Message, ResponseFormat, Role};
use serde_json::{Map, Value, json};
use text::{ChatTemplate, Encode, FimFile, FimInput, FimTemplate, Fitted, Grammar, TextError, Tokenizer};

use crate::grammar::Grammars;

/// Tokenizer and templates of one model.
pub struct TextKit {
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// How the model wants conversations, if it was trained on them.
    pub chat: Option<ChatTemplate>,
    /// How the model wants gaps, if it was trained on them.
    pub fim: Option<FimTemplate>,
    grammars: Grammars,
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
        Ok(Self { tokenizer: Arc::new(tokenizer), chat, fim, grammars: Grammars::default() })
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
        let text = self.render_chat(request)?;
        check_bytes(text.len())?;
        Ok(self.tokenizer.encode(&text, Encode::TEMPLATE))
    }

    /// A conversation as its template writes it.
    pub(crate) fn render_chat(&self, request: &ChatRequest) -> Result<String, ApiError> {
        let template = self.chat.as_ref().ok_or_else(|| {
            let message = "This model has no chat template. Use POST /v1/completions, or an instruct model.";
            ApiError::field("model", "no_chat_template", message)
        })?;
        let tools = &request.tools.list;
        let tools = (!tools.is_empty()).then(|| tools.iter().map(|t| t.template.clone()).collect::<Value>());
        let render = |arguments: Arguments| {
            let messages = request.messages.iter().map(|m| template_message(m, arguments)).collect();
            template.render(&Value::Array(messages), tools.as_ref(), true, &Map::new())
        };
        let has_calls = request.messages.iter().any(|m| !m.tool_calls.is_empty());
        let text = match render(Arguments::Object) {
            Err(TextError::TemplateRender { .. }) if has_calls => render(Arguments::Text),
            rendered => rendered,
        };
        text.map_err(|e| ApiError::field("messages", "template_error", format!("{e}.")))
    }

    /// The grammar that an answer must follow.
    pub(crate) fn grammar(&self, format: &ResponseFormat) -> Result<Option<Grammar>, ApiError> {
        self.grammars.compile(&self.tokenizer, format)
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

/// What the model wrote may be no JSON, or nested like a bomb: then it stays text.
fn argument_value(text: &str, arguments: Arguments) -> Value {
    let parsed = match arguments {
        Arguments::Object if protocol::json::check_depth(text.as_bytes()).is_ok() => serde_json::from_str(text).ok(),
        _ => None,
    };
    parsed.filter(Value::is_object).unwrap_or_else(|| text.into())
}
