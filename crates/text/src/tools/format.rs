//! In what form a model writes calls, as its chat template shows.

use serde_json::Value;

use super::named::{ARGS, CALL_ID};
use super::parser::Wrap;
use super::xml::FUNCTION;

/// The form in which a model was taught to write calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>`: Qwen, Hermes, and models that know of no form, which are
    /// told of this one by `instructions`.
    Hermes,
    /// `{"name": ..., "parameters": {...}}` as the whole answer, perhaps after `<|python_tag|>`: Llama 3.
    Llama3,
    /// `[TOOL_CALLS][{"name": ..., "arguments": {...}}]`: Mistral.
    Mistral,
    /// `[TOOL_CALLS]NAME[ARGS]{...}`: Mistral since Small 3.2.
    MistralNamed,
    /// `<tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>`: Qwen3-Coder.
    Xml,
    /// Any of these: the template has tools, in a form that is not known here.
    Generic,
    /// The whole answer is what this tool takes.
    Raw {
        /// The tool.
        name: String,
    },
}

/// Tags between which models write calls: the first pair is the one they are taught, the others are what they make of it.
const TAGS: [(&str, &str); 4] = [
    ("<tool_call>", "</tool_call>"),
    ("<tools>", "</tools>"),
    ("<tool>", "</tool>"),
    ("<function_call>", "</function_call>"),
];
/// What ends calls between tags; models mix the pairs up.
pub(super) const CLOSES: [&str; 4] = [TAGS[0].1, TAGS[1].1, TAGS[2].1, TAGS[3].1];
const MISTRAL: &str = "[TOOL_CALLS]";
const PYTHON: &str = "<|python_tag|>";
/// Names of a fenced block that may hold a call.
const FENCES: [&str; 6] = ["", "json", "JSON", "xml", "tool_call", "tool"];
/// Bytes from a fence to the object in it.
const FENCE_BYTES_MAX: usize = 64;

/// Which forms are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forms {
    n_tags: usize,
    has_mistral: bool,
    has_python: bool,
    /// Calls as XML, between tags or without.
    pub(super) has_xml: bool,
    /// A name and its arguments after Mistral's mark.
    pub(super) has_named: bool,
    /// A fenced block at the beginning of a line.
    pub(super) has_fences: bool,
    /// An object, or a list of them, at the beginning of the answer.
    pub(super) has_bare: bool,
}

/// What text is, that may begin a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// Nothing.
    None,
    /// Perhaps the beginning of a marker.
    Partial,
    /// A marker.
    Whole(Wrap),
    /// A fence, and the first character of the object in it.
    Object,
    /// The beginning of a call as XML.
    Function,
}

impl Forms {
    pub(super) fn opens_with(&self, c: char) -> bool {
        match c {
            '<' => self.n_tags > 0 || self.has_python || self.has_xml,
            _ => self.has_mistral,
        }
    }

    /// A grammar that holds these forms has seen calls that stand so. Marks other than tags are tokens that it never lets come; as
    /// text they are spelt where it is free.
    pub(super) fn hold(&self, wrap: Wrap) -> bool {
        match wrap {
            Wrap::Tag(close) => TAGS[..self.n_tags].iter().any(|(_, c)| *c == close),
            Wrap::List { is_marked: false } | Wrap::Bare { is_marked: false } => self.has_bare,
            _ => false,
        }
    }

    pub(super) fn marker(&self, held: &str) -> Marker {
        if held.starts_with('`') {
            return fence(held);
        }
        let tags = TAGS[..self.n_tags].iter().map(|(open, close)| (*open, Wrap::Tag(close)));
        let mistral = self.has_mistral.then_some((MISTRAL, Wrap::List { is_marked: true }));
        let python = self.has_python.then_some((PYTHON, Wrap::Bare { is_marked: true }));
        let mut found = Marker::None;
        if self.has_xml && FUNCTION.starts_with(held) {
            if held == FUNCTION {
                return Marker::Function;
            }
            found = Marker::Partial;
        }
        for (open, wrap) in tags.chain(mistral).chain(python) {
            if open == held {
                return Marker::Whole(wrap);
            }
            if open.starts_with(held) {
                found = Marker::Partial;
            }
        }
        found
    }
}

fn fence(held: &str) -> Marker {
    let rest = held.trim_start_matches('`');
    match held.len() - rest.len() {
        1 | 2 if rest.is_empty() => return Marker::Partial,
        3 => {}
        _ => return Marker::None,
    }
    let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '{');
    let Some(end) = end else {
        let is_partial = FENCES.iter().any(|f| f.starts_with(rest));
        return if is_partial { Marker::Partial } else { Marker::None };
    };
    let (name, inside) = rest.split_at(end);
    match inside.trim_start() {
        _ if !FENCES.contains(&name) || held.len() > FENCE_BYTES_MAX => Marker::None,
        "" => Marker::Partial,
        "{" => Marker::Object,
        _ => Marker::None,
    }
}

impl ToolFormat {
    /// The form that a chat template shows; a model without one, or whose template has no tools, is told of Hermes'.
    pub fn of(template: Option<&str>) -> Self {
        let Some(source) = template.filter(|s| Self::knows_tools(s)) else { return Self::Hermes };
        let has = |part: &str| source.contains(part);
        match () {
            () if has(MISTRAL) && has(ARGS) => Self::MistralNamed,
            () if has(MISTRAL) => Self::Mistral,
            () if has("<tool_call>") && has(FUNCTION) && has("<parameter=") => Self::Xml,
            // Others put XML between the same tags.
            () if has("<tool_call>") && !has("<function=") && !has("<arg_key>") => Self::Hermes,
            () if has("<|start_header_id|>") && has("\"parameters\": ") => Self::Llama3,
            () => Self::Generic,
        }
    }

    /// Does this chat template show tools to the model?
    pub fn knows_tools(template: &str) -> bool {
        // A word of its own: some templates speak of `tool_calls` in what they keep from the model.
        template.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == "tools")
    }

    /// What a system message must say to a model whose template knows nothing of tools.
    pub fn instructions(tools: &[Value]) -> String {
        let mut text = "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
                        You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
            .to_owned();
        for tool in tools {
            text.push('\n');
            text.push_str(&tool.to_string());
        }
        text.push_str(
            "\n</tools>\n\nFor each function call, return a json object with function name and arguments within \
             <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": \
             <args-json-object>}\n</tool_call>",
        );
        text
    }

    /// What begins a call wherever it stands in an answer.
    pub(super) fn opening(&self) -> Option<&'static str> {
        matches!(self, Self::Hermes | Self::Xml).then_some(TAGS[0].0)
    }

    /// Its calls under a grammar are a list.
    pub(super) fn is_mistral(&self) -> bool {
        matches!(self, Self::Mistral | Self::MistralNamed)
    }

    /// Texts that mark calls, and that a vocabulary may have as tokens which answers do not show otherwise.
    pub fn markers(&self) -> &'static [&'static str] {
        match self {
            Self::Hermes | Self::Xml => &["<tool_call>", "</tool_call>"],
            Self::Llama3 => &[PYTHON],
            Self::Mistral => &[MISTRAL],
            Self::MistralNamed => &[MISTRAL, ARGS, CALL_ID],
            Self::Generic => &["<tool_call>", "</tool_call>", PYTHON, MISTRAL, ARGS, CALL_ID],
            Self::Raw { .. } => &[],
        }
    }

    /// All forms that are read in answers of such a model.
    pub(super) fn forms(&self) -> Forms {
        Forms {
            n_tags: TAGS.len(),
            has_mistral: matches!(self, Self::Mistral | Self::MistralNamed | Self::Generic),
            has_python: matches!(self, Self::Llama3 | Self::Generic),
            has_xml: matches!(self, Self::Xml | Self::Generic),
            has_named: matches!(self, Self::MistralNamed | Self::Generic),
            has_fences: true,
            has_bare: true,
        }
    }

    /// The model's own form, as far as a grammar holds it.
    pub(super) fn own_forms(&self) -> Forms {
        Forms {
            n_tags: usize::from(matches!(self, Self::Hermes | Self::Xml)),
            has_bare: self.is_mistral() || matches!(self, Self::Llama3 | Self::Generic),
            has_mistral: false,
            has_python: false,
            has_xml: false,
            has_named: false,
            has_fences: false,
        }
    }
}
