//! Tools as the Responses API describes them: functions, namespaces of functions, custom tools with a grammar, and tools
//! that a host would run. The model sees one flat list; clients get names back as they sent them.

use base::limits;

use crate::error::ApiError;
use crate::json::Field;
use crate::tools::{self, CustomGrammar, Tool, ToolChoice, Tools, read_name};

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

/// `tools`, `tool_choice` and `parallel_tool_calls`, and the names of the tools.
pub(crate) fn read(
    tools: Option<Field<'_>>,
    choice: Option<Field<'_>>,
    parallel: bool,
) -> Result<(Tools, ToolNames), ApiError> {
    let (mut read, mut names) = (Tools { parallel, ..Tools::default() }, ToolNames::default());
    if let Some(field) = tools {
        if field.text().len() > limits::TOOLS_BYTES_MAX {
            return Err(field.value(limits::TOOLS_BYTES_MAX).err().unwrap_or_else(|| field.wrong_value("shorter")));
        }
        for tool in field.array(limits::TOOLS_MAX)? {
            read_tool(&tool, None, &mut read.list, &mut names)?;
        }
    }
    if let Some(field) = &choice {
        read_choice(field, &mut read, &names)?;
    }
    Ok((read.checked(choice.as_ref())?, names))
}

fn read_tool(
    field: &Field<'_>,
    namespace: Option<&str>,
    tools: &mut Vec<Tool>,
    names: &mut ToolNames,
) -> Result<(), ApiError> {
    let o = field.object(&["type", "name", "description", "parameters", "strict", "format", "tools"])?;
    let kind = o.need("type", "Send \"function\" or \"custom\".")?;
    let name = || read_name(&o.need("name", "Name the tool.")?);
    let kind_text = kind.string()?;
    match kind_text.as_str() {
        "function" | "custom" => {
            let (name, is_custom) = (name()?, kind_text == "custom");
            let flat = flat_name(namespace, &name);
            let description = o.get("description").map(|f| f.string()).transpose()?;
            if tools.len() == limits::TOOLS_MAX {
                let max = limits::TOOLS_MAX;
                return Err(field.error("too_many", format!("`tools` has more than {max} tools, nested ones counted.")));
            }
            tools.push(if is_custom {
                let grammar = o.get("format").map(|f| read_format(&f)).transpose()?.flatten();
                Tool::custom(flat.clone(), description.as_deref(), grammar)
            } else {
                let parameters = o.get("parameters").map(|f| tools::read_parameters(&f)).transpose()?;
                let strict = o.get("strict").map(|f| f.boolean()).transpose()?.unwrap_or(false);
                Tool::function(flat.clone(), description.as_deref(), parameters, strict)
            });
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

/// A custom tool's `format`.
fn read_format(field: &Field<'_>) -> Result<Option<CustomGrammar>, ApiError> {
    let kind = field.object(&["type"])?.need("type", "Send \"text\" or \"grammar\".")?;
    match kind.string()?.as_str() {
        "text" => Ok(None),
        "grammar" => tools::read_grammar(&field.object(tools::GRAMMAR_NAMES)?).map(Some),
        _ => Err(kind.wrong_value("\"text\" or \"grammar\"")),
    }
}

fn read_choice(field: &Field<'_>, tools: &mut Tools, names: &ToolNames) -> Result<(), ApiError> {
    if field.kind() == "a string" {
        tools.choice = match field.string()?.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => return Err(field.wrong_value("\"auto\", \"none\", \"required\" or an object that names a tool")),
        };
        return Ok(());
    }
    let o = field.object(&["type", "mode", "tools"])?;
    if o.get("type").map(|f| f.string()).transpose()?.as_deref() != Some("allowed_tools") {
        tools.choice = ToolChoice::Named(named(field, names)?);
        return Ok(());
    }
    let mode = o.need("mode", "Send \"auto\" or \"required\".")?;
    tools.choice = match mode.string()?.as_str() {
        "auto" => ToolChoice::Auto,
        "required" => ToolChoice::Required,
        _ => return Err(mode.wrong_value("\"auto\" or \"required\"")),
    };
    let field = o.need("tools", "Name the tools that may be called.")?;
    let allowed = field.array(limits::TOOLS_MAX)?.iter().map(|f| named(f, names)).collect::<Result<Vec<_>, _>>()?;
    tools.allow(&allowed, &field)
}

/// The tool that a choice names, as the model knows it.
fn named(field: &Field<'_>, names: &ToolNames) -> Result<String, ApiError> {
    let o = field.object(&["type", "name", "namespace"])?;
    let kind = o.need("type", "Send \"function\" or \"custom\".")?;
    if !matches!(kind.string()?.as_str(), "function" | "custom") {
        return Err(kind.wrong_value("\"function\" or \"custom\""));
    }
    let name = o.need("name", "Name the tool.")?;
    let namespace = o.get("namespace").map(|f| f.string()).transpose()?;
    let found = names.flat(namespace.as_deref(), &name.string()?).map(str::to_owned);
    found.ok_or_else(|| name.error("invalid_value", format!("`{}` names a tool that is not among `tools`.", name.path)))
}
