//! Recorded dialogues of an agent: the history of SWE-agent runs (a list of messages, may be gzipped), as turns of the
//! Responses API.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::BenchError;
use crate::trace::{read, wrong};

/// What one turn says, and what the model had answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turn {
    /// Messages of the system and the user, or what a tool gave out.
    pub says: Vec<Said>,
    /// As a model writes it: text, then calls in Hermes' form.
    pub answer: String,
}

/// A message before an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// The role, and the text.
    Message(&'static str, String),
    /// What a tool gave out.
    Output(String),
}

impl Said {
    /// The item; the answer to `call` if there is one, else something that the user says.
    pub fn item(&self, call: Option<&str>) -> Value {
        match (self, call) {
            (Self::Output(text), Some(call)) => {
                json!({"type": "function_call_output", "call_id": call, "output": text})
            }
            (Self::Output(text), None) => json!({"type": "message", "role": "user", "content": text}),
            (Self::Message(role, text), _) => json!({"type": "message", "role": role, "content": text}),
        }
    }
}

/// Tools such as those runs had.
pub(crate) fn tools() -> Value {
    let text = json!({"type": "string"});
    let tool = |name: &str, description: &str, properties: Value, required: Value| {
        let parameters = json!({"type": "object", "properties": properties, "required": required});
        json!({"type": "function", "name": name, "description": description, "parameters": parameters, "strict": false})
    };
    json!([
        tool(
            "bash",
            "Runs a command in a shell and gives out what it prints.",
            json!({"command": text}),
            json!(["command"])
        ),
        tool(
            "str_replace_editor",
            "Views, creates and edits files.",
            json!({"command": text, "path": text, "old_str": text, "new_str": text, "file_text": text}),
            json!(["command", "path"])
        ),
        tool("submit", "Submits the work.", json!({}), json!([])),
    ])
}

/// The first turns of a recorded dialogue.
///
/// # Errors
/// A file that cannot be read or is something else.
pub(crate) fn turns(path: &Path, most: usize) -> Result<Vec<Turn>, BenchError> {
    let messages: Vec<Value> = serde_json::from_slice(&read(path)?).map_err(|e| wrong(path, e))?;
    let (mut turns, mut says) = (Vec::new(), Vec::new());
    for m in messages.iter() {
        let text = text(&m["content"]);
        match m["role"].as_str() {
            Some("system") => says.push(Said::Message("system", text)),
            Some("user") => says.push(Said::Message("user", text)),
            Some("tool") => says.push(Said::Output(text)),
            Some("assistant") if !says.is_empty() => {
                let calls = m["tool_calls"].as_array().map_or(&[][..], Vec::as_slice);
                turns.push(Turn { says: std::mem::take(&mut says), answer: answer(text, calls) });
            }
            _ => return Err(wrong(path, "a message has no known role, or an answer stands before a question")),
        }
        if turns.len() == most {
            break;
        }
    }
    if turns.len() < 2 {
        return Err(wrong(path, "it has fewer than two answers"));
    }
    Ok(turns)
}

fn text(content: &Value) -> String {
    match content {
        Value::Array(parts) => parts.iter().filter_map(|p| p["text"].as_str()).collect::<Vec<_>>().join("\n"),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

fn answer(mut text: String, calls: &[Value]) -> String {
    for call in calls {
        let f = &call["function"];
        let arguments: Value = f["arguments"].as_str().and_then(|a| serde_json::from_str(a).ok()).unwrap_or_default();
        // With the blanks of Python's json.dumps, which is how templates show calls: so the prompt of the next turn begins with
        // the tokens of this answer.
        let fields = arguments.as_object().into_iter().flatten();
        let fields: Vec<String> = fields.map(|(name, value)| format!("{}: {value}", json!(name))).collect();
        let (name, fields) = (&f["name"], fields.join(", "));
        text.push_str(&format!("\n<tool_call>\n{{\"name\": {name}, \"arguments\": {{{fields}}}}}\n</tool_call>"));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_history_becomes_turns() {
        let call = json!({"function": {"name": "bash", "arguments": "{\"command\":\"ls\"}"}, "id": "t1"});
        let history = json!([
            {"role": "system", "content": "Be."},
            {"role": "user", "content": [{"type": "text", "text": "Fix"}, {"type": "text", "text": "it."}]},
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "content": [{"type": "text", "text": "a.py"}]},
            {"role": "assistant", "content": "Done.", "tool_calls": null},
            {"role": "tool", "content": "never answered"},
        ]);
        let dir = std::env::temp_dir().join(format!("vonk-dialogue-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("d.json");
        std::fs::write(&path, history.to_string()).unwrap();
        let found = turns(&path, 20).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].says, [Said::Message("system", "Be.".into()), Said::Message("user", "Fix\nit.".into())]);
        let call = "I look.\n<tool_call>\n{\"name\": \"bash\", \"arguments\": {\"command\": \"ls\"}}\n</tool_call>";
        assert_eq!(found[0].answer, call);
        assert_eq!((&found[1].says[..], &*found[1].answer), (&[Said::Output("a.py".into())][..], "Done."));
        assert_eq!(found[1].says[0].item(Some("c"))["call_id"], "c");
        assert!(turns(&path, 1).unwrap_err().to_string().contains("fewer than two"));
        std::fs::write(&path, r#"[{"role":"nobody"}]"#).unwrap();
        assert!(turns(&path, 20).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
