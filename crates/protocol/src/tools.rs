//! Tools: what a model may call, what it must call, and its calls as they are written. The types are shared by all
//! endpoints; the readers here are those of chat completions.

use base::limits;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::json::{Field, Object};

/// A tool, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// See `read_name`.
    pub name: String,
    /// What it takes.
    pub kind: ToolKind,
    /// Its arguments must always be valid.
    pub strict: bool,
    /// False where `tool_choice` allows other tools only; the model still reads of it, so that its prompt stays the same.
    pub is_allowed: bool,
    /// What the chat template gets: `{"type":"function","function":{...}}`.
    pub template: Value,
}

/// What a tool takes.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolKind {
    /// A JSON object.
    Function {
        /// Its schema, an object; `None` for any object.
        parameters: Option<Value>,
    },
    /// Text.
    Custom {
        /// What the text must look like; `None` for any text.
        grammar: Option<CustomGrammar>,
    },
}

/// The grammar of a custom tool's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomGrammar {
    /// Lark, in llguidance's dialect, which is OpenAI's.
    Lark(String),
    /// A regular expression for the whole text, in the syntax of the `regex` crate.
    Regex(String),
}

/// What the model may or must do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// It may call tools.
    #[default]
    Auto,
    /// It may not.
    None,
    /// It must call one.
    Required,
    /// It must call this one, once.
    Named(String),
}

/// All tools of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Tools {
    /// Of different names, at most `TOOLS_MAX`; empty where none may be called.
    pub list: Vec<Tool>,
    /// See the type.
    pub choice: ToolChoice,
    /// Several calls in one answer are allowed.
    pub parallel: bool,
}

impl Default for Tools {
    fn default() -> Self {
        Self { list: Vec::new(), choice: ToolChoice::Auto, parallel: true }
    }
}

impl Tool {
    /// A function from its parts.
    pub fn function(name: String, description: Option<&str>, parameters: Option<Value>, strict: bool) -> Self {
        let mut function = serde_json::Map::new();
        function.insert("name".to_owned(), name.as_str().into());
        if let Some(text) = description {
            function.insert("description".to_owned(), text.into());
        }
        if let Some(schema) = &parameters {
            function.insert("parameters".to_owned(), schema.clone());
        }
        let template = json!({ "type": "function", "function": function });
        Self { name, kind: ToolKind::Function { parameters }, strict, is_allowed: true, template }
    }

    /// A custom tool from its parts. Templates know functions only, so the model is told of a function with one text, `input`.
    pub fn custom(name: String, description: Option<&str>, grammar: Option<CustomGrammar>) -> Self {
        let described = match &grammar {
            None => "The tool's whole input, as text.".to_owned(),
            Some(CustomGrammar::Lark(text)) => format!("The tool's whole input. It follows this Lark grammar:\n{text}"),
            Some(CustomGrammar::Regex(text)) => {
                format!("The tool's whole input. It matches this regular expression:\n{text}")
            }
        };
        let input = json!({ "type": "string", "description": described });
        let parameters = json!({ "type": "object", "properties": { "input": input }, "required": ["input"] });
        let template = Self::function(name.clone(), description, Some(parameters), false).template;
        Self { name, kind: ToolKind::Custom { grammar }, strict: false, is_allowed: true, template }
    }

    /// Which kind of call this tool is called by.
    pub fn call_kind(&self) -> CallKind {
        match self.kind {
            ToolKind::Function { .. } => CallKind::Function,
            ToolKind::Custom { .. } => CallKind::Custom,
        }
    }
}

impl Tools {
    /// Bytes that they take in a prompt, about.
    pub fn text_bytes(&self) -> usize {
        self.list.iter().map(|t| t.template.to_string().len()).sum()
    }

    /// Checks what holds for tools however they were read, and leaves none where none may be called.
    ///
    /// # Errors
    /// 400: a name twice, a choice that names no tool, a choice without tools.
    pub fn checked(mut self, choice: Option<&Field<'_>>) -> Result<Self, ApiError> {
        let mut names: Vec<&str> = self.list.iter().map(|t| t.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            let message = format!("Two of the `tools` are called {:?}. Give each a name of its own.", twice[0]);
            return Err(ApiError::field("tools", "duplicate_tool", message));
        }
        let wrong = |message: String| match choice {
            Some(field) => Err(field.error("invalid_value", message)),
            None => Err(ApiError::field("tool_choice", "invalid_value", message)),
        };
        match &self.choice {
            ToolChoice::Auto => {}
            // A small model that has read of tools writes calls whatever it may, and does not end: better a prompt that is not cached.
            ToolChoice::None => self.list.clear(),
            ToolChoice::Required if self.list.is_empty() => {
                return wrong("`tool_choice` asks for a call, and there are no `tools`. Send some.".to_owned());
            }
            ToolChoice::Required => {}
            ToolChoice::Named(name) => {
                if !self.list.iter().any(|t| t.name == *name) {
                    return wrong(format!("`tool_choice` names {name:?}, which is not among the `tools`."));
                }
            }
        }
        Ok(self)
    }

    /// Allows these alone.
    ///
    /// # Errors
    /// 400 for a name that no tool has, or none at all.
    pub fn allow(&mut self, names: &[String], field: &Field<'_>) -> Result<(), ApiError> {
        if let Some(name) = names.iter().find(|n| !self.list.iter().any(|t| t.name == **n)) {
            return Err(field
                .error("invalid_value", format!("`{}` names {name:?}, which is not among the `tools`.", field.path)));
        }
        if names.is_empty() {
            return Err(
                field.error("invalid_value", format!("`{}` allows no tool. Send \"none\" instead.", field.path))
            );
        }
        self.list.iter_mut().for_each(|t| t.is_allowed = names.contains(&t.name));
        Ok(())
    }
}

/// A tool's name: 1 to `TOOL_NAME_BYTES_MAX` of A-Z, a-z, 0-9, `_`, `-` and `.`.
///
/// # Errors
/// 400.
pub fn read_name(field: &Field<'_>) -> Result<String, ApiError> {
    let name = field.string()?;
    let is_fine = (1..=limits::TOOL_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if is_fine {
        return Ok(name);
    }
    let max = limits::TOOL_NAME_BYTES_MAX;
    let message = format!("`{}` must be 1 to {max} letters, digits, `_`, `-` or `.`.", field.path);
    Err(field.error("invalid_value", message))
}

/// The schema of a function's arguments, from a field `parameters`.
///
/// # Errors
/// 400 for what is no object.
pub fn read_parameters(field: &Field<'_>) -> Result<Value, ApiError> {
    match field.kind() {
        "an object" => field.value(limits::TOOLS_BYTES_MAX),
        _ => Err(field.wrong_type("an object")),
    }
}

/// The grammar of a custom tool, from the object that holds `syntax` and `definition`.
///
/// # Errors
/// 400.
pub fn read_grammar(o: &Object<'_, 2>) -> Result<CustomGrammar, ApiError> {
    let definition = o.need("definition", "Send the text of the grammar.")?.string()?;
    let syntax = o.need("syntax", "Send \"lark\" or \"regex\".")?;
    match syntax.string()?.as_str() {
        "lark" => Ok(CustomGrammar::Lark(definition)),
        "regex" => Ok(CustomGrammar::Regex(definition)),
        _ => Err(syntax.wrong_value("\"lark\" or \"regex\"")),
    }
}

/// The names under which `read_grammar` reads.
pub const GRAMMAR_NAMES: &[&str; 2] = &["syntax", "definition"];

/// `tools`, `tool_choice` and `parallel_tool_calls` of a chat request.
pub(crate) fn read(
    tools: Option<Field<'_>>,
    choice: Option<Field<'_>>,
    parallel: Option<Field<'_>>,
) -> Result<Tools, ApiError> {
    let mut read = Tools {
        list: tools.map(|f| read_tools(&f)).transpose()?.unwrap_or_default(),
        parallel: parallel.map(|f| f.boolean()).transpose()?.unwrap_or(true),
        ..Tools::default()
    };
    if let Some(field) = &choice {
        read_choice(field, &mut read)?;
    }
    read.checked(choice.as_ref())
}

fn read_tools(field: &Field<'_>) -> Result<Vec<Tool>, ApiError> {
    if field.text().len() > limits::TOOLS_BYTES_MAX {
        return Err(field.value(limits::TOOLS_BYTES_MAX).err().unwrap_or_else(|| field.wrong_value("shorter")));
    }
    field.array(limits::TOOLS_MAX)?.iter().map(read_tool).collect()
}

fn read_tool(tool: &Field<'_>) -> Result<Tool, ApiError> {
    let o = tool.object(&["type", "function", "custom"])?;
    let kind = o.get("type").map(|f| Ok::<_, ApiError>((f.string()?, f))).transpose()?;
    match kind {
        None => read_function(tool, &o),
        Some((kind, _)) if kind == "function" => read_function(tool, &o),
        Some((kind, _)) if kind == "custom" => read_custom(&o),
        Some((_, field)) => Err(field.wrong_value("\"function\" or \"custom\"")),
    }
}

fn read_function(tool: &Field<'_>, o: &Object<'_, 3>) -> Result<Tool, ApiError> {
    let function = o.need("function", "Describe the function: {\"name\",\"description\",\"parameters\"}.")?;
    let f = function.object(&["name", "description", "parameters", "strict"])?;
    f.get("description").map(|d| d.string()).transpose()?;
    Ok(Tool {
        name: read_name(&f.need("name", "Name the function.")?)?,
        kind: ToolKind::Function { parameters: f.get("parameters").map(|p| read_parameters(&p)).transpose()? },
        strict: f.get("strict").map(|s| s.boolean()).transpose()?.unwrap_or(false),
        is_allowed: true,
        template: tool.value(limits::TOOLS_BYTES_MAX)?, // as sent: templates differ in what they show of it
    })
}

fn read_custom(o: &Object<'_, 3>) -> Result<Tool, ApiError> {
    let custom = o.need("custom", "Describe the tool: {\"name\",\"description\",\"format\"}.")?;
    let c = custom.object(&["name", "description", "format"])?;
    let description = c.get("description").map(|d| d.string()).transpose()?;
    let grammar = match c.get("format") {
        None => None,
        Some(format) => {
            let f = format.object(&["type", "grammar"])?;
            let kind = f.need("type", "Send \"text\" or \"grammar\".")?;
            match kind.string()?.as_str() {
                "text" => None,
                "grammar" => {
                    let grammar = f.need("grammar", "Send {\"syntax\",\"definition\"}.")?;
                    Some(read_grammar(&grammar.object(GRAMMAR_NAMES)?)?)
                }
                _ => return Err(kind.wrong_value("\"text\" or \"grammar\"")),
            }
        }
    };
    Ok(Tool::custom(read_name(&c.need("name", "Name the tool.")?)?, description.as_deref(), grammar))
}

const CHOICES: &str = "\"auto\", \"none\", \"required\", {\"type\":\"function\",\"function\":{\"name\"}}, \
                       {\"type\":\"custom\",\"custom\":{\"name\"}} or {\"type\":\"allowed_tools\",...}";

fn read_choice(field: &Field<'_>, tools: &mut Tools) -> Result<(), ApiError> {
    if field.kind() == "a string" {
        tools.choice = match field.string()?.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => return Err(field.wrong_value(CHOICES)),
        };
        return Ok(());
    }
    let o = match field.kind() {
        "an object" => field.object(&["type", "function", "custom", "allowed_tools"])?,
        _ => return Err(field.wrong_type(CHOICES)),
    };
    let kind = o.need("type", "Send \"function\", \"custom\" or \"allowed_tools\".")?;
    match kind.string()?.as_str() {
        "function" | "custom" => tools.choice = ToolChoice::Named(named(&o, &kind)?),
        "allowed_tools" => {
            let allowed = o.need("allowed_tools", "Send {\"mode\",\"tools\"}.")?.object(&["mode", "tools"])?;
            let mode = allowed.need("mode", "Send \"auto\" or \"required\".")?;
            tools.choice = match mode.string()?.as_str() {
                "auto" => ToolChoice::Auto,
                "required" => ToolChoice::Required,
                _ => return Err(mode.wrong_value("\"auto\" or \"required\"")),
            };
            let field = allowed.need("tools", "Name the tools that are allowed.")?;
            let name = |f: &Field<'_>| {
                let o = f.object(&["type", "function", "custom", "allowed_tools"])?;
                named(&o, &o.need("type", "Send \"function\" or \"custom\".")?)
            };
            let names = field.array(limits::TOOLS_MAX)?.iter().map(name).collect::<Result<Vec<_>, ApiError>>()?;
            tools.allow(&names, &field)?;
        }
        _ => return Err(kind.wrong_value("\"function\", \"custom\" or \"allowed_tools\"")),
    }
    Ok(())
}

/// The name in `{"type":"function","function":{"name"}}`.
fn named(o: &Object<'_, 4>, kind: &Field<'_>) -> Result<String, ApiError> {
    let of = match kind.string()?.as_str() {
        "function" => "function",
        "custom" => "custom",
        _ => return Err(kind.wrong_value("\"function\" or \"custom\"")),
    };
    o.need(of, "Send {\"name\"}.")?.object(&["name"])?.need("name", "Name the tool.")?.string()
}

/// How a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallKind {
    /// With arguments, JSON.
    Function,
    /// With an input, text.
    Custom,
}

impl CallKind {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Custom => "custom",
        }
    }
}

/// A call within a whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplyCall {
    /// `call_` and 24 digits.
    pub id: String,
    /// Which of the two it is.
    #[serde(rename = "type")]
    pub kind: CallKind,
    /// For a function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionCall>,
    /// For a custom tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomCall>,
}

/// A call of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FunctionCall {
    /// The function; in streams in the call's first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// JSON, or in streams its next piece.
    #[serde(default)]
    pub arguments: String,
}

/// A call of a custom tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CustomCall {
    /// The tool; in streams in the call's first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Text, or in streams its next piece.
    #[serde(default)]
    pub input: String,
}

impl ReplyCall {
    /// A call whose arguments, or input, have yet to come.
    pub fn new(id: String, kind: CallKind, name: String) -> Self {
        let (mut function, mut custom) = (None, None);
        match kind {
            CallKind::Function => function = Some(FunctionCall { name: Some(name), arguments: String::new() }),
            CallKind::Custom => custom = Some(CustomCall { name: Some(name), input: String::new() }),
        }
        Self { id, kind, function, custom }
    }

    /// More of its arguments or input.
    pub fn push(&mut self, piece: &str) {
        if let Some(call) = &mut self.function {
            call.arguments.push_str(piece);
        }
        if let Some(call) = &mut self.custom {
            call.input.push_str(piece);
        }
    }
}

/// A call within a chunk, as clients read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeltaCall {
    /// Which call of the choice.
    pub index: u32,
    /// In the call's first chunk.
    #[serde(default)]
    pub id: Option<String>,
    /// In the call's first chunk.
    #[serde(default, rename = "type")]
    pub kind: Option<CallKind>,
    /// For a function.
    #[serde(default)]
    pub function: Option<FunctionCall>,
    /// For a custom tool.
    #[serde(default)]
    pub custom: Option<CustomCall>,
}
