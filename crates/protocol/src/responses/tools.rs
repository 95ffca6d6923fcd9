//! Tools as the Responses API describes them: functions, namespaces of functions, custom tools with a grammar, and tools
//! that a host would run. The model sees one flat list; clients get names back as they sent them.

use base::limits;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::json::Field;

/// Tools that the host runs: taken, since clients list them whether they are there or not, and not offered to the model.
const HOSTED: [&str; 9] = [
    "web_search",
    "web_search_preview",
    "web_search_2025_08_26",
    "web_search_preview_2025_03_11",
    "tool_search",
    "image_generation",
    "local_shell",
    "shell",
    "apply_patch",
];

/// The name by which the model knows a tool.
pub fn flat_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}.{name}"),
        None => name.to_owned(),
    }
}

/// A tool by both of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolName {
    /// The model's.
    pub flat: String,
    /// The client's, with `name`.
    pub namespace: Option<String>,
    /// The client's.
    pub name: String,
    /// Takes text instead of JSON.
    pub is_custom: bool,
}

/// From the model's names to the client's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolNames(pub(crate) Vec<ToolName>);

impl ToolNames {
    /// The tool that the model has called; a name that nobody gave is left as it is.
    pub fn find(&self, flat: &str) -> ToolName {
        let as_it_is = || ToolName { flat: flat.to_owned(), namespace: None, name: flat.to_owned(), is_custom: false };
        self.0.iter().find(|t| t.flat == flat).cloned().unwrap_or_else(as_it_is)
    }

    /// A client's name for a tool, as the model knows it.
    pub(crate) fn flat(&self, namespace: Option<&str>, name: &str) -> Option<&str> {
        let fits = |t: &&ToolName| t.name == name && (namespace.is_none() || t.namespace.as_deref() == namespace);
        self.0.iter().find(fits).map(|t| t.flat.as_str())
    }
}

/// `tools`, in the shape of chat completions, and their names.
pub(crate) fn read_tools(field: &Field<'_>) -> Result<(Vec<Value>, ToolNames), ApiError> {
    if field.text().len() > limits::TOOLS_BYTES_MAX {
        return Err(field.value(limits::TOOLS_BYTES_MAX).err().unwrap_or_else(|| field.wrong_value("shorter")));
    }
    let (mut tools, mut names) = (Vec::new(), ToolNames::default());
    for tool in field.array(limits::TOOLS_MAX)? {
        read_tool(&tool, None, &mut tools, &mut names)?;
    }
    Ok((tools, names))
}

fn read_tool(
    field: &Field<'_>,
    namespace: Option<&str>,
    tools: &mut Vec<Value>,
    names: &mut ToolNames,
) -> Result<(), ApiError> {
    let o = field.object(&["type", "name", "description", "parameters", "strict", "format", "tools"])?;
    let kind = o.need("type", "Send \"function\" or \"custom\".")?;
    let name = || -> Result<String, ApiError> { o.need("name", "Name the tool.")?.string() };
    let copy = |name: &'static str, to: &mut Map<String, Value>| -> Result<(), ApiError> {
        if let Some(f) = o.get(name) {
            to.insert(name.to_owned(), f.value(limits::TOOLS_BYTES_MAX)?);
        }
        Ok(())
    };
    let kind_text = kind.string()?;
    match kind_text.as_str() {
        "function" | "custom" => {
            let is_custom = kind_text == "custom";
            let name = name()?;
            let flat = flat_name(namespace, &name);
            let mut body = Map::new();
            body.insert("name".to_owned(), flat.as_str().into());
            copy("description", &mut body)?;
            if is_custom {
                o.get("format").map(|f| read_format(&f)).transpose()?.flatten().into_iter().for_each(|format| {
                    body.insert("format".to_owned(), format);
                });
            } else {
                copy("parameters", &mut body)?;
                copy("strict", &mut body)?;
            }
            if tools.len() == limits::TOOLS_MAX {
                let max = limits::TOOLS_MAX;
                return Err(field.error("too_many", format!("`tools` has more than {max} tools, nested ones counted.")));
            }
            tools.push(json!({ "type": kind_text, kind_text.as_str(): body }));
            names.0.push(ToolName { flat, namespace: namespace.map(str::to_owned), name, is_custom });
            Ok(())
        }
        "namespace" if namespace.is_none() => {
            let (name, nested) = (name()?, o.need("tools", "A namespace needs its tools.")?);
            for tool in nested.array(limits::TOOLS_MAX)? {
                read_tool(&tool, Some(&name), tools, names)?;
            }
            Ok(())
        }
        other if HOSTED.contains(&other) => Ok(()),
        _ => Err(kind.error(
            "unsupported_value",
            format!(
                "`{}` is a kind of tool that this server does not have. Send functions or custom tools.",
                kind.path
            ),
        )),
    }
}

/// A custom tool's `format` in chat's shape: one level deeper there.
fn read_format(field: &Field<'_>) -> Result<Option<Value>, ApiError> {
    let o = field.object(&["type", "syntax", "definition"])?;
    let kind = o.need("type", "Send \"text\" or \"grammar\".")?;
    match kind.string()?.as_str() {
        "text" => Ok(None),
        "grammar" => {
            let syntax = o.need("syntax", "Send \"lark\" or \"regex\".")?;
            let definition = o.need("definition", "Send the grammar.")?.string()?;
            let syntax = match syntax.string()?.as_str() {
                "lark" => "lark",
                "regex" => "regex",
                _ => return Err(syntax.wrong_value("\"lark\" or \"regex\"")),
            };
            Ok(Some(json!({ "type": "grammar", "grammar": { "syntax": syntax, "definition": definition } })))
        }
        _ => Err(kind.wrong_value("\"text\" or \"grammar\"")),
    }
}

/// `tool_choice` in chat's shape, under the model's names.
pub(crate) fn read_choice(field: &Field<'_>, names: &ToolNames) -> Result<Value, ApiError> {
    if field.kind() == "a string" {
        return match field.string()?.as_str() {
            choice @ ("auto" | "none" | "required") => Ok(choice.into()),
            _ => Err(field.wrong_value("\"auto\", \"none\", \"required\" or an object that names a tool")),
        };
    }
    let named = |field: &Field<'_>| -> Result<Value, ApiError> {
        let o = field.object(&["type", "name", "namespace"])?;
        let kind = o.need("type", "Send \"function\" or \"custom\".")?;
        let kind = match kind.string()?.as_str() {
            "function" => "function",
            "custom" => "custom",
            _ => return Err(kind.wrong_value("\"function\" or \"custom\"")),
        };
        let name = o.need("name", "Name the tool.")?;
        let namespace = o.get("namespace").map(|f| f.string()).transpose()?;
        let text = name.string()?;
        let flat = names.flat(namespace.as_deref(), &text).ok_or_else(|| {
            name.error("invalid_value", format!("`{}` names a tool that is not among `tools`.", name.path))
        })?;
        Ok(json!({ "type": kind, kind: { "name": flat } }))
    };
    let o = field.object(&["type", "mode", "tools"])?;
    if o.get("type").map(|f| f.string()).transpose()?.as_deref() != Some("allowed_tools") {
        return named(field);
    }
    let mode = o.need("mode", "Send \"auto\" or \"required\".")?.string()?;
    let tools = o.need("tools", "List the tools that may be called.")?;
    let tools = tools.array(limits::TOOLS_MAX)?.iter().map(named).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "type": "allowed_tools", "allowed_tools": { "mode": mode, "tools": tools } }))
}
