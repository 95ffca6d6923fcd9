//! `vonk connect` and `vonk catalog`: what a client needs to be told to use this server, printed or installed.

mod codex;
mod install;
mod merge;
mod setups;

use crate::args;
use crate::fault::Fault;
use client::{Client, Deadline, Target};
use install::Installed;
use protocol::{Model, ModelList};
use std::path::PathBuf;

/// Reads an environment variable.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A server as its clients are told about it.
pub struct Server {
    /// `http://HOST:PORT`, without `/v1`.
    pub root: String,
    /// For `Authorization`.
    pub key: Option<String>,
    /// At least one; the first is recommended.
    pub models: Vec<Model>,
}

impl Server {
    /// Asks what is served there.
    fn ask(url: &str, key: Option<String>) -> Result<Self, Fault> {
        let target = Target::parse(url)?;
        let root = target.shown().trim_end_matches("/v1").to_owned();
        let deadline = Deadline::after_s(base::limits::CLIENT_CONNECT_S_MAX);
        let answer = Client::once(target, key.as_deref())?.get("/v1/models", deadline, None)?;
        if answer.status >= 400 {
            return Err(answer.refusal().into());
        }
        let list = answer.json(base::limits::CLIENT_CONFIG_BYTES_MAX as usize)?;
        let list: ModelList = serde_json::from_value(list)
            .map_err(|e| Fault::failed(format!("{root}/v1/models is no list of models: {e}")))?;
        if list.data.is_empty() {
            return Err(Fault::failed(format!("{root} serves no model")));
        }
        Ok(Self { root, key, models: list.data })
    }

    fn model(&self) -> &Model {
        &self.models[0]
    }

    /// Where OpenAI's paths are.
    fn v1(&self) -> String {
        format!("{}/v1", self.root)
    }

    /// For clients that insist on a key where none is needed.
    fn key_or_none(&self) -> &str {
        self.key.as_deref().unwrap_or("none")
    }

    /// Tokens that an answer may have, for clients that want to know: a quarter of the context.
    fn output_limit(&self) -> Option<u64> {
        self.model().max_model_len.map(|n| n / 4)
    }

    fn can_call_tools(&self) -> bool {
        self.model().capabilities.is_some_and(|c| c.tools)
    }
}

/// A file of a client's configuration.
#[derive(Debug)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it shall hold.
    pub content: Content,
}

/// What a file shall hold; decides how it is joined with what is there.
#[derive(Debug)]
pub enum Content {
    /// Joined key by key; comments stay.
    Toml(toml_edit::DocumentMut),
    /// Joined key by key; a file with comments is left alone.
    Json(serde_json::Value),
    /// A file of our own: replaced.
    Own(String),
    /// Not joined: a file that is there is left alone.
    Text(String),
}

impl Content {
    fn shown(&self) -> Result<String, Fault> {
        Ok(match self {
            Self::Toml(doc) => doc.to_string(),
            Self::Json(value) => pretty(value)?,
            Self::Own(text) | Self::Text(text) => text.clone(),
        })
    }
}

fn pretty(value: &serde_json::Value) -> Result<String, Fault> {
    Ok(serde_json::to_string_pretty(value).map_err(Fault::failed)? + "\n")
}

/// `vonk catalog codex`.
pub fn catalog(args: args::Catalog) -> Result<(), Fault> {
    let args::CatalogOf::Codex = args.client;
    let server = Server::ask(&args.server.url, args.server.key())?;
    print!("{}", pretty(&codex::catalog(&server))?);
    Ok(())
}

/// `vonk openapi`.
pub fn openapi() -> Result<(), Fault> {
    print!("{}", pretty(&protocol::openapi::document())?);
    Ok(())
}

/// `vonk connect`.
pub fn connect(args: args::Connect) -> Result<(), Fault> {
    let known = || setups::SETUPS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
    let Some(name) = args.client.filter(|_| !args.list) else {
        setups::SETUPS.iter().for_each(|s| println!("{:14} {}", s.name, s.what));
        return Ok(());
    };
    let setup = setups::SETUPS
        .iter()
        .find(|s| s.name == name)
        .ok_or_else(|| Fault::input(format!("no client is known as {name:?}; known are: {}", known())))?;
    let mut server = Server::ask(&args.server.url, args.server.key())?;
    if let Some(wanted) = &args.model {
        let at = server.models.iter().position(|m| m.id == *wanted || m.aliases.contains(wanted));
        let at = at.ok_or_else(|| {
            let served: Vec<&str> = server.models.iter().map(|m| m.id.as_str()).collect();
            Fault::input(format!("{} does not serve {wanted:?}, but: {}", server.root, served.join(", ")))
        })?;
        server.models.swap(0, at);
    }
    let (files, notes) = (setup.make)(&server, &client::place::env)?;
    if args.write {
        write(&files)?
    } else {
        show(&files)?
    }
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(())
}

fn show(files: &[ConfigFile]) -> Result<(), Fault> {
    for file in files {
        println!("# {}\n{}", file.path.display(), file.content.shown()?);
    }
    eprintln!("Nothing was written; --write installs it and keeps a backup.");
    Ok(())
}

fn write(files: &[ConfigFile]) -> Result<(), Fault> {
    // What cannot be done is known before anything is.
    let planned: Vec<_> = files.iter().map(install::plan).collect::<Result<_, _>>()?;
    for (file, plan) in files.iter().zip(planned) {
        let path = file.path.display();
        match install::apply(plan)? {
            Installed::Unchanged => println!("{path} is as it should be"),
            Installed::Created => println!("{path} was written"),
            Installed::Changed(backup) => println!("{path} was changed; as it was: {}", backup.display()),
        }
    }
    Ok(())
}
