//! Items of a conversation: what clients send, what models answer, and how both become messages of a chat.

use base::limits;
use serde_json::{Value, json};

use crate::chat::{Message, Role, ToolCall};
use crate::error::ApiError;
use crate::json::Field;
use crate::responses::tools::flat_name;

/// One item that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Somebody said something.
    Message {
        /// As it was sent, or as it was given out.
        id: Option<String>,
        /// Who.
        role: Role,
        /// Several parts are joined by newlines, as in chat.
        text: String,
    },
    /// The model called a tool.
    Call(Call),
    /// What a tool has answered.
    Output {
        /// As it was sent.
        id: Option<String>,
        /// Which call.
        call_id: String,
        /// The answer.
        text: String,
        /// Of a custom tool.
        is_custom: bool,
    },
    /// An item that this server has given out before.
    Reference {
        /// Its id.
        id: String,
    },
    /// What says nothing to these models: reasoning, and traces of tools that others ran.
    Silent {
        /// Its type.
        kind: &'static str,
    },
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// As it was sent, or as it was given out.
    pub id: Option<String>,
    /// Which its answer names.
    pub call_id: String,
    /// Where the tool is, if it is one of many.
    pub namespace: Option<String>,
    /// The tool.
    pub name: String,
    /// JSON of a function's arguments, or a custom tool's text.
    pub input: String,
    /// Of a custom tool.
    pub is_custom: bool,
}

/// Item types that are taken and not shown to the model. Those that a server must be able to read (`compaction`) are not
/// among them: leaving them out would lose the conversation without a word.
const SILENT: [&str; 7] = [
    "reasoning",
    "web_search_call",
    "tool_search_call",
    "tool_search_output",
    "image_generation_call",
    "ghost_snapshot",
    "mcp_list_tools",
];

/// A string, or an array of items.
pub(crate) fn read_input(field: &Field<'_>) -> Result<Vec<Item>, ApiError> {
    match field.kind() {
        "a string" => Ok(vec![Item::Message { id: None, role: Role::User, text: field.string()? }]),
        "an array" => field.array(limits::MESSAGES_MAX)?.iter().map(read_item).collect(),
        _ => Err(field.wrong_type("a string or an array of items")),
    }
}

fn read_item(field: &Field<'_>) -> Result<Item, ApiError> {
    let o = field.object(&[
        "type",
        "role",
        "content",
        "id",
        "call_id",
        "name",
        "namespace",
        "arguments",
        "input",
        "output",
        "action",
    ])?;
    let kind = o.get("type").map(|f| f.string()).transpose()?;
    let kind = kind.as_deref().unwrap_or("message");
    let text = |name| o.need(name, "Send the item whole, as it came.")?.string();
    let id = o.get("id").map(|f| read_id(&f)).transpose()?;
    let call = |name: String, input: String, is_custom| -> Result<Item, ApiError> {
        let namespace = o.get("namespace").map(|f| f.string()).transpose()?.filter(|n| !n.is_empty());
        let call_id = o.get("call_id").map(|f| read_id(&f)).transpose()?.or_else(|| id.clone()).unwrap_or_default();
        Ok(Item::Call(Call { id: id.clone(), call_id, namespace, name, input, is_custom }))
    };
    match kind {
        "message" => {
            let role = o.need("role", "Send \"user\", \"assistant\", \"system\" or \"developer\".")?;
            let role = match role.string()?.as_str() {
                "user" => Role::User,
                "assistant" => Role::Assistant,
                "system" => Role::System,
                "developer" => Role::Developer,
                _ => return Err(role.wrong_value("\"user\", \"assistant\", \"system\" or \"developer\"")),
            };
            let content = o.need("content", "Send a string or an array of parts.")?;
            Ok(Item::Message { id, role, text: read_content(&content)? })
        }
        "function_call" => call(text("name")?, text("arguments")?, false),
        "custom_tool_call" => call(text("name")?, text("input")?, true),
        "local_shell_call" => {
            let action = o.need("action", "Send the item whole, as it came.")?.value(limits::TOOLS_BYTES_MAX)?;
            call("local_shell".to_owned(), action.to_string(), false)
        }
        "function_call_output" | "custom_tool_call_output" | "local_shell_call_output" => {
            let output = o.need("output", "Send what the tool has answered.")?;
            let call_id = o.get("call_id").or_else(|| o.get("id"));
            let call_id = call_id.ok_or_else(|| {
                let path = o.path_of("call_id");
                ApiError::field(path.clone(), "missing_field", format!("`{path}` is missing. Name the call."))
            })?;
            let is_custom = kind == "custom_tool_call_output";
            Ok(Item::Output { id, call_id: read_id(&call_id)?, text: read_content(&output)?, is_custom })
        }
        "item_reference" => {
            Ok(Item::Reference { id: read_id(&o.need("id", "Name the item.")?)? })
        }
        _ => match SILENT.iter().find(|s| **s == kind) {
            Some(kind) => Ok(Item::Silent { kind }),
            None => Err(field.error(
                "unsupported_value",
                format!(
                    "`{}` is of a type that this server cannot read. Send messages, function and custom tool calls and their outputs.",
                    field.path
                ),
            )),
        },
    }
}

/// Ids are shown again, so they have a bound.
pub(crate) fn read_id(field: &Field<'_>) -> Result<String, ApiError> {
    let (id, max) = (field.string()?, limits::RESPONSE_ID_BYTES_MAX);
    if id.len() > max {
        return Err(field.error("too_long", format!("`{}` is longer than {max} bytes. Send an id.", field.path)));
    }
    Ok(id)
}

fn read_content(field: &Field<'_>) -> Result<String, ApiError> {
    crate::chat::read_content(field, &["input_text", "output_text", "text", "summary_text"])
}

impl Item {
    /// Its id, if it has one.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Message { id, .. } | Self::Output { id, .. } => id.as_deref(),
            Self::Call(call) => call.id.as_deref(),
            Self::Reference { id } => Some(id),
            Self::Silent { .. } => None,
        }
    }

    /// Memory that it takes, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Message { text, .. } => text.len(),
                Self::Output { text, call_id, .. } => text.len() + call_id.len(),
                Self::Call(c) => c.input.len() + c.name.len() + c.call_id.len(),
                Self::Reference { id } => id.len(),
                Self::Silent { .. } => 0,
            }
    }

    /// As clients read it.
    pub fn to_json(&self) -> Value {
        let mut value = match self {
            Self::Message { role, text, .. } => {
                let kind = if *role == Role::Assistant { "output_text" } else { "input_text" };
                let content = if *role == Role::Assistant {
                    json!([{ "type": kind, "annotations": [], "logprobs": [], "text": text }])
                } else {
                    json!([{ "type": kind, "text": text }])
                };
                json!({ "id": null, "type": "message", "status": "completed", "role": role, "content": content })
            }
            Self::Call(c) => c.to_json("completed"),
            Self::Output { call_id, text, is_custom, .. } => {
                let kind = if *is_custom { "custom_tool_call_output" } else { "function_call_output" };
                json!({ "id": null, "type": kind, "status": "completed", "call_id": call_id, "output": text })
            }
            Self::Reference { id } => json!({ "id": id, "type": "item_reference" }),
            Self::Silent { kind } => json!({ "id": null, "type": kind }),
        };
        if let (Some(id), Some(o)) = (self.id(), value.as_object_mut()) {
            o.insert("id".to_owned(), id.into());
        }
        value
    }
}

impl Call {
    /// As clients read it.
    pub fn to_json(&self, status: &str) -> Value {
        let mut value = if self.is_custom {
            json!({ "id": self.id, "type": "custom_tool_call", "status": status, "call_id": self.call_id,
                "name": self.name, "input": self.input })
        } else {
            json!({ "id": self.id, "type": "function_call", "status": status, "call_id": self.call_id,
                "name": self.name, "arguments": self.input })
        };
        if let (Some(namespace), Some(o)) = (&self.namespace, value.as_object_mut()) {
            o.insert("namespace".to_owned(), namespace.as_str().into());
        }
        value
    }

    /// As templates know calls. A custom tool's text is the one argument of the function that it is shown as.
    fn lowered(&self) -> ToolCall {
        let arguments = if self.is_custom { json!({ "input": self.input }).to_string() } else { self.input.clone() };
        ToolCall { id: self.call_id.clone(), name: flat_name(self.namespace.as_deref(), &self.name), arguments }
    }
}

/// What becomes of several system and developer messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Systems {
    /// Each stays where it is.
    Apart,
    /// Those that open the conversation are put together, for templates that take only one. If another follows in the next
    /// turn, the text changes near its beginning.
    Joined,
}

/// Items as messages. Each item is lowered by itself and by what stands before it, never by what comes after, so that a
/// conversation that has grown renders to a text that begins like the one before: the prefix cache lives from that.
pub(crate) fn lower<'a>(
    instructions: Option<&str>,
    items: impl Iterator<Item = &'a Item>,
    systems: Systems,
) -> Vec<Message> {
    let message = |role, content: Option<String>| Message {
        role,
        content,
        name: None,
        reasoning_content: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let mut out: Vec<Message> = Vec::new();
    out.extend(instructions.map(|text| message(Role::System, Some(text.to_owned()))));
    for item in items {
        match item {
            Item::Message { role: Role::System | Role::Developer, text, .. } => match out.as_mut_slice() {
                [Message { role: Role::System, content: Some(content), .. }] if systems == Systems::Joined => {
                    content.push_str("\n\n");
                    content.push_str(text);
                }
                _ => out.push(message(Role::System, Some(text.clone()))),
            },
            Item::Message { role, text, .. } => out.push(message(*role, Some(text.clone()))),
            // Calls belong to what the model said before them.
            Item::Call(call) => {
                if out.last().is_none_or(|m| m.role != Role::Assistant) {
                    out.push(message(Role::Assistant, None));
                }
                out.last_mut().into_iter().for_each(|m| m.tool_calls.push(call.lowered()));
            }
            Item::Output { call_id, text, .. } => {
                out.push(Message { tool_call_id: Some(call_id.clone()), ..message(Role::Tool, Some(text.clone())) });
            }
            Item::Reference { .. } | Item::Silent { .. } => {}
        }
    }
    out
}
