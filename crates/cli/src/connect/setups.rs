//! What each client is told, in its own format, and where it looks for it.

use super::{ConfigFile, Content, Env, Server, codex};
use crate::fault::Fault;
use serde_json::{Value, json};
use std::path::PathBuf;
use toml_edit::{DocumentMut, Item, Table, value};

/// Files, and what is left for the person to do.
type Made = (Vec<ConfigFile>, Vec<String>);

/// A client that can be told.
pub struct Setup {
    /// As people write it.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Its configuration.
    pub make: fn(&Server, Env<'_>) -> Result<Made, Fault>,
}

/// All of them.
pub const SETUPS: &[Setup] = &[
    Setup { name: "aider", what: "pair programming in the terminal", make: aider },
    Setup { name: "codex", what: "Codex CLI, with a model catalogue", make: codex_cli },
    Setup {
        name: "continue",
        what: "Continue: chat, edit and completion in VS Code and JetBrains, and its CLI",
        make: continue_,
    },
    Setup { name: "goose", what: "goose", make: goose },
    Setup { name: "llama.vim", what: "completion in Vim and Neovim", make: llama_vim },
    Setup { name: "llama.vscode", what: "completion and chat in VS Code", make: llama_vscode },
    Setup { name: "opencode", what: "opencode", make: opencode },
    Setup { name: "qwen-code", what: "Qwen Code", make: qwen_code },
    Setup { name: "tabby", what: "Tabby's editor plug-ins: completion", make: tabby },
    Setup { name: "zed", what: "the agent panel of Zed", make: zed },
];

fn home(env: Env<'_>) -> Result<PathBuf, Fault> {
    let set = |name| env(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("HOME")
        .or_else(|| set("USERPROFILE"))
        .ok_or_else(|| Fault::input("HOME is not set: where are the clients' files?"))
}

/// The folder that a variable names, or one below the home folder.
fn folder(env: Env<'_>, variable: &str, below_home: &str) -> Result<PathBuf, Fault> {
    match env(variable).filter(|v| !v.is_empty()) {
        Some(folder) => Ok(folder.into()),
        None => Ok(home(env)?.join(below_home)),
    }
}

fn config_home(env: Env<'_>) -> Result<PathBuf, Fault> {
    folder(env, "XDG_CONFIG_HOME", ".config")
}

fn one(path: PathBuf, content: Content) -> Vec<ConfigFile> {
    vec![ConfigFile { path, content }]
}

/// A string in YAML: JSON's double quotes are YAML's, too.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn codex_cli(s: &Server, env: Env<'_>) -> Result<Made, Fault> {
    let folder = folder(env, "CODEX_HOME", ".codex")?;
    let catalog_path = folder.join("vonk-catalog.json");
    let mut doc = DocumentMut::new();
    doc["model"] = value(&s.model().id);
    doc["model_provider"] = value("vonk");
    doc["model_catalog_json"] = value(catalog_path.display().to_string());
    let mut vonk = Table::new();
    vonk["name"] = value("vonk");
    vonk["base_url"] = value(s.v1());
    vonk["wire_api"] = value("responses");
    vonk["supports_websockets"] = value(true);
    if s.key.is_some() {
        vonk["env_key"] = value("VONK_API_KEY");
    }
    let mut providers = Table::new();
    providers.set_implicit(true);
    providers["vonk"] = Item::Table(vonk);
    doc["model_providers"] = Item::Table(providers);
    let config = ConfigFile { path: folder.join("config.toml"), content: Content::Toml(doc) };
    let catalog = ConfigFile { path: catalog_path, content: Content::Own(super::pretty(&codex::catalog(s))?) };
    let mut notes = needs_tools(s);
    if s.model().capabilities.is_some_and(|c| !c.responses) {
        notes.push(format!("{} does not serve POST /v1/responses, which Codex needs", s.root));
    }
    notes.extend(exported_key(s));
    Ok((vec![config, catalog], notes))
}

fn needs_tools(s: &Server) -> Vec<String> {
    let cannot = format!("{} was not made to call tools; an agent will do little with it", s.model().id);
    if s.can_call_tools() { Vec::new() } else { vec![cannot] }
}

fn exported_key(s: &Server) -> Option<String> {
    s.key.as_ref().map(|_| "export VONK_API_KEY with the server's key where you start it".to_owned())
}

fn opencode(s: &Server, env: Env<'_>) -> Result<Made, Fault> {
    let folder = config_home(env)?.join("opencode");
    let jsonc = folder.join("opencode.jsonc");
    let path = if jsonc.exists() { jsonc } else { folder.join("opencode.json") };
    let mut model = json!({ "name": s.model().id, "tool_call": s.can_call_tools() });
    if let (Some(context), Some(output)) = (s.model().max_model_len, s.output_limit()) {
        model["limit"] = json!({ "context": context, "output": output });
    }
    let config = json!({
        "$schema": "https://opencode.ai/config.json",
        "provider": { "vonk": {
            "npm": "@ai-sdk/openai-compatible",
            "name": "vonk",
            "options": { "baseURL": s.v1(), "apiKey": s.key_or_none() },
            "models": { &s.model().id: model },
        } },
        "model": format!("vonk/{}", s.model().id),
    });
    Ok((one(path, Content::Json(config)), needs_tools(s)))
}

/// Continue makes the prompt of a completion itself, from the model's name, and sends it as text.
fn continue_(s: &Server, env: Env<'_>) -> Result<Made, Fault> {
    let m = s.model();
    let (name, base, key) = (quoted(&m.id), quoted(&s.v1()), quoted(s.key_or_none()));
    let limits = match (m.max_model_len, s.output_limit()) {
        (Some(context), Some(output)) => {
            format!("    defaultCompletionOptions:\n      contextLength: {context}\n      maxTokens: {output}\n")
        }
        _ => String::new(),
    };
    let tools = if s.can_call_tools() { "    capabilities: [tool_use]\n" } else { "" };
    let mut text = format!(
        "name: vonk\nversion: 1.0.0\nschema: v1\nmodels:\n  - name: vonk\n    provider: openai\n    model: {name}\n    apiBase: {base}\n    apiKey: {key}\n    roles: [chat, edit, apply]\n{tools}{limits}"
    );
    if m.capabilities.is_none_or(|c| c.fim) {
        text += &format!(
            "  - name: vonk completion\n    provider: openai\n    model: {name}\n    apiBase: {base}\n    apiKey: {key}\n    useLegacyCompletionsEndpoint: true\n    roles: [autocomplete]\n"
        );
    }
    let path = folder(env, "CONTINUE_GLOBAL_DIR", ".continue")?.join("config.yaml");
    Ok((one(path, Content::Text(text)), Vec::new()))
}

fn aider(s: &Server, env: Env<'_>) -> Result<Made, Fault> {
    let (home, model) = (home(env)?, format!("openai/{}", s.model().id));
    let text = format!(
        "model: {}\nopenai-api-base: {}\nopenai-api-key: {}\nedit-format: diff\nshow-model-warnings: false\n",
        quoted(&model),
        quoted(&s.v1()),
        quoted(s.key_or_none())
    );
    let mut files = one(home.join(".aider.conf.yml"), Content::Text(text));
    if let (Some(input), Some(output)) = (s.model().max_model_len, s.output_limit()) {
        let facts = json!({ model: {
            "max_input_tokens": input, "max_output_tokens": output, "input_cost_per_token": 0.0,
            "output_cost_per_token": 0.0, "litellm_provider": "openai", "mode": "chat",
        } });
        files.push(ConfigFile { path: home.join(".aider.model.metadata.json"), content: Content::Json(facts) });
    }
    Ok((files, Vec::new()))
}

fn qwen_code(s: &Server, env: Env<'_>) -> Result<Made, Fault> {
    let id = &s.model().id;
    let config = json!({
        "modelProviders": { "openai": [
            { "id": id, "name": format!("vonk {id}"), "baseUrl": s.v1(), "envKey": "VONK_API_KEY" },
        ] },
        "env": { "VONK_API_KEY": s.key_or_none() },
        "security": { "auth": { "selectedType": "openai" } },
        "model": { "name": id },
    });
    Ok((one(home(env)?.join(".qwen").join("settings.json"), Content::Json(config)), needs_tools(s)))
}

fn goose(s: &Server, env: Env<'_>) -> Result<Made, Fault> {
    let text = format!(
        "GOOSE_PROVIDER: openai\nGOOSE_MODEL: {}\nOPENAI_HOST: {}\nOPENAI_BASE_PATH: v1/chat/completions\n",
        quoted(&s.model().id),
        quoted(&s.root)
    );
    let mut notes = needs_tools(s);
    notes.push(format!("goose reads the key from OPENAI_API_KEY or its keyring: export OPENAI_API_KEY={}", shell(s)));
    Ok((one(config_home(env)?.join("goose").join("config.yaml"), Content::Text(text)), notes))
}

/// A key is not shown again.
fn shell(s: &Server) -> &'static str {
    if s.key.is_some() { "\"$VONK_API_KEY\"" } else { "none" }
}

/// A file of its own, which is read before plug-ins start.
fn llama_vim(s: &Server, env: Env<'_>) -> Result<Made, Fault> {
    let nvim = config_home(env)?.join("nvim");
    let folder = if nvim.is_dir() { nvim } else { home(env)?.join(".vim") };
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut entries = vec![
        ("endpoint_fim", quoted(&format!("{}/infill", s.root))),
        ("model_fim", quoted(&s.model().id)),
        ("endpoint_inst", quoted(&format!("{}/v1/chat/completions", s.root))),
        ("model_inst", quoted(&s.model().id)),
    ];
    entries.extend(s.key.as_ref().map(|_| ("api_key", "$VONK_API_KEY".to_owned())));
    let entries: String = entries.into_iter().map(|(k, v)| format!("    \\ '{k}': {v},\n")).collect();
    let text = format!(
        "\" Written by `vonk connect llama.vim`.\nlet g:llama_config = extend(get(g:, 'llama_config', {{}}), {{\n{entries}    \\ }})\n"
    );
    let mut notes = needs_fim(s);
    notes.push("llama.vim itself comes from your plug-in manager: ggml-org/llama.vim".to_owned());
    notes.extend(exported_key(s));
    Ok((one(folder.join("plugin").join("a_vonk.vim"), Content::Own(text)), notes))
}

fn needs_fim(s: &Server) -> Vec<String> {
    let cannot = format!("{} cannot fill in the middle, which completion needs; serve one that can", s.model().id);
    if s.model().capabilities.is_none_or(|c| c.fim) { Vec::new() } else { vec![cannot] }
}

fn llama_vscode(s: &Server, env: Env<'_>) -> Result<Made, Fault> {
    let user = match std::env::consts::OS {
        "macos" => home(env)?.join("Library/Application Support/Code/User"),
        "windows" => folder(env, "APPDATA", "AppData/Roaming")?.join("Code/User"),
        _ => config_home(env)?.join("Code/User"),
    };
    let mut config = json!({
        "llama-vscode.endpoint": s.root,
        "llama-vscode.endpoint_chat": s.root,
        "llama-vscode.endpoint_tools": s.root,
        "llama-vscode.ask_install_llamacpp": false,
        "llama-vscode.rag_enabled": false,
    });
    if let Some(key) = &s.key {
        config["llama-vscode.api_key"] = key.as_str().into();
    }
    Ok((one(user.join("settings.json"), Content::Json(config)), needs_fim(s)))
}

fn zed(s: &Server, env: Env<'_>) -> Result<Made, Fault> {
    let mut model = json!({
        "name": s.model().id, "display_name": format!("vonk {}", s.model().id),
        "max_tokens": s.model().max_model_len.unwrap_or(4096),
        "capabilities": { "tools": s.can_call_tools(), "images": false, "parallel_tool_calls": false, "prompt_cache_key": true },
    });
    if let Some(output) = s.output_limit() {
        model["max_output_tokens"] = output.into();
    }
    let provider = json!({ "vonk": { "api_url": s.v1(), "available_models": [model] } });
    let config = json!({ "language_models": { "openai_compatible": provider } });
    let note = format!(
        "Zed wants a key for it: export VONK_API_KEY={} before it starts",
        if s.key.is_some() { "..." } else { "none" }
    );
    let path = match std::env::consts::OS {
        "macos" => home(env)?.join(".config"),
        _ => config_home(env)?,
    };
    Ok((one(path.join("zed").join("settings.json"), Content::Json(config)), vec![note]))
}

fn tabby(s: &Server, env: Env<'_>) -> Result<Made, Fault> {
    let mut doc = DocumentMut::new();
    let mut server = Table::new();
    server["endpoint"] = value(&s.root);
    server["token"] = value(s.key.as_deref().unwrap_or(""));
    doc["server"] = Item::Table(server);
    let path = home(env)?.join(".tabby-client").join("agent").join("config.toml");
    Ok((one(path, Content::Toml(doc)), needs_fim(s)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use protocol::{Abilities, Model};

    fn server(key: Option<&str>) -> Server {
        let can = Abilities { chat: true, tools: true, fim: true, json_schema: true, responses: true };
        let model =
            Model { id: "qwen'\"x".into(), max_model_len: Some(32_768), capabilities: Some(can), ..Model::default() };
        Server { root: "http://127.0.0.1:8080".into(), key: key.map(str::to_owned), models: vec![model] }
    }

    fn made(name: &str, key: Option<&str>) -> Made {
        let env = |name: &str| (name == "HOME").then(|| "/h".to_owned());
        let setup = SETUPS.iter().find(|s| s.name == name).unwrap();
        (setup.make)(&server(key), &env).unwrap()
    }

    #[test]
    fn every_setup_names_the_server_and_the_model_or_needs_none() {
        for setup in SETUPS {
            let (files, _) = made(setup.name, None);
            let text: String = files.iter().map(|f| f.content.shown().unwrap()).collect();
            assert!(text.contains("http://127.0.0.1:8080"), "{}: {text}", setup.name);
            assert!(files.iter().all(|f| f.path.starts_with("/h")), "{}", setup.name);
            let needs_model = !matches!(setup.name, "llama.vscode" | "tabby");
            assert!(!needs_model || text.contains("qwen"), "{}: {text}", setup.name);
        }
    }

    #[test]
    fn codex_gets_what_its_documentation_asks_for() {
        let (files, notes) = made("codex", Some("sk-1"));
        let config = files[0].content.shown().unwrap();
        let read: DocumentMut = config.parse().unwrap();
        assert_eq!(read["model"].as_str(), Some("qwen'\"x"));
        assert_eq!(read["model_catalog_json"].as_str(), Some("/h/.codex/vonk-catalog.json"));
        let provider = &read["model_providers"]["vonk"];
        assert_eq!(provider["wire_api"].as_str(), Some("responses"));
        assert_eq!(provider["env_key"].as_str(), Some("VONK_API_KEY"));
        assert!(
            !config.contains("sk-1") && notes.iter().any(|n| n.contains("VONK_API_KEY")),
            "the key stays in the environment"
        );
        assert!(config.find("[model_providers.vonk]").unwrap() > config.find("model_catalog_json").unwrap());
    }

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        let (files, _) = made("llama.vim", None);
        assert!(files[0].content.shown().unwrap().contains(r#"'qwen''"x'"#));
        let (files, _) = made("goose", None);
        assert!(files[0].content.shown().unwrap().contains(r#"GOOSE_MODEL: "qwen'\"x""#));
    }
}
