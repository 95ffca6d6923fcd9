//! The model catalogue that Codex CLI reads (`model_catalog_json`), in the shape of `codex debug models`, version 0.169.
//! Without an entry Codex takes a model for one that it knows: no apply_patch, a wrong context window, 20 kB of instructions.

use super::Server;
use protocol::Model;
use serde_json::{Value, json};

/// Short, because a CPU reads them first: about 150 tokens instead of 5,000.
const INSTRUCTIONS: &str = "\
You are a coding agent in the user's terminal. You and the user share one workspace. Work on the task until it is done, \
then say briefly what you did.
- Look before you change: read the files that matter. Search with `rg` where it is installed.
- Use the tools that you are given. Run commands to check what you did; say so when something failed.
- Change only what the task needs, in the style of the code around it.
- Never undo changes that you did not make, and never delete files that you were not asked to delete.
- Answer in plain text. Name files by their paths.";

/// Tokens of a command's output that are kept, at most.
const OUTPUT_TOKENS_MAX: u64 = 10_000;

/// One entry for each model that is served.
pub fn catalog(server: &Server) -> Value {
    json!({ "models": server.models.iter().enumerate().map(|(i, m)| entry(i, m)).collect::<Vec<_>>() })
}

fn entry(priority: usize, m: &Model) -> Value {
    let can = m.capabilities.unwrap_or_default();
    let n_ctx = m.max_model_len.or(m.context_length).unwrap_or(4096);
    json!({
        "slug": m.id,
        "display_name": m.id,
        "description": description(m),
        "visibility": "list",
        "supported_in_api": true,
        "priority": priority,
        "context_window": n_ctx,
        "max_context_window": n_ctx,
        "effective_context_window_percent": 90,
        "truncation_policy": { "mode": "tokens", "limit": (n_ctx / 8).clamp(256, OUTPUT_TOKENS_MAX) },
        "base_instructions": INSTRUCTIONS,
        "shell_type": if can.tools { "unified_exec" } else { "disabled" },
        "apply_patch_tool_type": can.tools.then_some("freeform"),
        "web_search_tool_type": "text",
        "supports_search_tool": false,
        "input_modalities": ["text"],
        "supports_image_detail_original": false,
        "supported_reasoning_levels": [],
        "default_reasoning_level": null,
        "default_reasoning_summary": "none",
        "supports_reasoning_effort_updates": false,
        "support_verbosity": false,
        "default_verbosity": null,
        "service_tiers": [{ "id": "priority", "name": "Fast", "description": "Before all other requests of this server" }],
        "additional_speed_tiers": ["fast"],
        "experimental_supported_tools": [],
        // Half of all that Codex says about its tools, 2,000 tokens, for agents that would wait for the same CPU.
        "multi_agent_version": "disabled",
        "supports_experimental_context": false,
        "include_skills_usage_instructions": false,
        "include_plugin_usage_instructions": false,
        "include_apps_usage_instructions": false,
        "use_responses_lite": false,
        "node_repl_disabled": true,
        "node_repl_auto_review_required": false,
        "availability_nux": null,
        "upgrade": null,
        "model_messages": null,
    })
}

/// What is known about it, in a line. Codex tells it to the model: nothing that another measurement would change, or the
/// prompt begins otherwise after each `vonk connect`, and what is cached of it is lost.
fn description(m: &Model) -> String {
    let mut parts = vec!["On this machine".to_owned()];
    parts.extend(m.quantization.clone());
    parts.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use protocol::Abilities;

    #[test]
    fn entries_say_what_the_server_said() {
        let can = Abilities { chat: true, tools: true, ..Abilities::default() };
        let one = Model {
            id: "a".into(),
            max_model_len: Some(8192),
            capabilities: Some(can),
            quantization: Some("Q4_K_M".into()),
            decode_tps: Some(41.0),
            ..Model::default()
        };
        let two = Model { id: "b".into(), ..Model::default() };
        let catalog = catalog(&Server { root: "http://h".into(), key: None, models: vec![one, two] });
        let (a, b) = (&catalog["models"][0], &catalog["models"][1]);
        assert_eq!(
            (&a["slug"], &a["context_window"], &a["truncation_policy"]["limit"]),
            (&json!("a"), &json!(8192), &json!(1024))
        );
        assert_eq!(
            (&a["apply_patch_tool_type"], &a["description"]),
            (&json!("freeform"), &json!("On this machine, Q4_K_M"))
        );
        assert_eq!(
            (&b["apply_patch_tool_type"], &b["shell_type"], &b["priority"]),
            (&Value::Null, &json!("disabled"), &json!(1))
        );
    }
}
