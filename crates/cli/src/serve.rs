//! `vonk serve` and `vonk up`.

use crate::accounts;
use crate::args;
use crate::fault::Fault;
use crate::files::pull_shown;
use crate::generate::{Outcome, generate, to_stdout};
use crate::keep::Disk;
use crate::open::{Opened, open};
use crate::traces::Otlp;
use client::place;
use client::server::Notice;
use engine::Sampling;
use server::{Collector, Config, Keeper, Running, Served, TextKit};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use store::{DEFAULT_MODEL, Store};

/// Code that `vonk up` completes, to show that everything works.
const SNIPPET: &str = "def is_prime(n: int) -> bool:\n    \"\"\"Return True if n is a prime number.\"\"\"\n";
/// Tokens of that completion.
const SNIPPET_TOKENS: u32 = 96;

fn server_fault(e: server::ServeError) -> Fault {
    use server::ServeError::{Bind, Models, OpenBind};
    if matches!(e, OpenBind(_) | Bind { .. } | Models(_)) { Fault::input(e) } else { Fault::failed(e) }
}

/// Lets this user's other programs find the server. Without it everything works, so a failure is only a note.
fn notice(running: &Running, models: Vec<String>) -> Option<Notice> {
    let addr = running.addr();
    let dir = place::run_dir(&place::env)?;
    if !addr.ip().is_loopback() {
        return None;
    }
    let (pid, started) = (std::process::id(), unix_s());
    let posted = Notice::post(&dir, &client::server::Running { pid, url: format!("http://{addr}"), models, started });
    posted.inspect_err(|e| eprintln!("note: other programs will not find this server: {}: {e}", dir.display())).ok()
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The configuration of both commands, and the keys that there are.
fn config(bind: SocketAddr, file: Option<&Path>, require_key: bool) -> Result<Config, Fault> {
    let is_needed = require_key || !bind.ip().to_canonical().is_loopback();
    let meter = accounts::meter(file, is_needed)?;
    Ok(Config { bind, meter, require_key, catch_signals: true, ..Config::default() })
}

/// What each model is called on the wire: a file by its name without the folders, which are nobody's business.
fn wire_names(opened: &[Opened]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for o in opened {
        let name = match o.found.sha256 {
            Some(_) => o.found.name.clone(),
            None => short_name(&o.found.path).unwrap_or_else(|| o.found.name.clone()),
        };
        let others = (2..).map(|n| format!("{name}-{n}"));
        let free = std::iter::once(name.clone()).chain(others).find(|name| !names.contains(name));
        names.push(free.unwrap_or(name));
    }
    names
}

/// A file's name without `.gguf`, or a folder's.
fn short_name(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    let is_fit = !stem.is_empty() && stem.len() <= base::limits::MODEL_NAME_BYTES_MAX;
    (is_fit && !stem.chars().any(char::is_control)).then(|| stem.to_owned())
}

/// The names by which this user's other programs may ask for models: those on the wire, and as they were given.
fn told_names(opened: &[Opened], names: &[String]) -> Vec<String> {
    let given = opened.iter().map(|o| &o.found.name).filter(|given| !names.contains(given));
    names.iter().chain(given).cloned().collect()
}

fn served(opened: &Opened, name: &str, text: Arc<TextKit>, mut engine: Box<dyn engine::Stepper>, kept: bool) -> Served {
    let created = unix_s();
    let (d, s) = (Served::openai_defaults(), opened.loaded.desc.suggested);
    let defaults = Sampling {
        temperature: s.temperature.unwrap_or(d.temperature),
        top_k: s.top_k.unwrap_or(d.top_k),
        top_p: s.top_p.unwrap_or(d.top_p),
        min_p: s.min_p.unwrap_or(d.min_p),
        ..d
    };
    let keeper = if kept { keeper(&opened.found.name, &mut *engine) } else { None };
    let unlisted = Some(opened.found.name.clone()).filter(|given| given != name).into_iter().collect();
    let (name, aliases, about) = (name.to_owned(), vec![], opened.about());
    Served { name, aliases, unlisted, stepper: engine, text, created, defaults, keeper, about }
}

/// The disk for a model's prefix cache, after what is there was taken in. Without it everything works, so it is only a note.
fn keeper(name: &str, engine: &mut dyn engine::Stepper) -> Option<Box<dyn Keeper>> {
    let restored = Store::open(None).and_then(|store| {
        let Some(disk) = Disk::open(&store, name, engine)? else { return Ok(None) };
        let pages = disk.restore(engine)?;
        Ok(Some((disk, pages)))
    });
    match restored {
        Ok(None) => None,
        Ok(Some((disk, pages))) => {
            if pages > 0 {
                eprintln!("{pages} pages of the prefix cache were restored");
            }
            Some(Box::new(disk))
        }
        Err(e) => {
            eprintln!("note: the prefix cache of {name} is not kept over restarts: {e}");
            None
        }
    }
}

/// `vonk serve`.
pub fn serve(args: args::Serve) -> Result<(), Fault> {
    let collector = args.otlp.as_deref().map(Otlp::at).transpose()?;
    collector.iter().for_each(Otlp::check);
    let config = Config {
        collector: collector.map(|c| -> Arc<dyn Collector> { Arc::new(c) }),
        hosts: args.host,
        origins: args.origin,
        insecure_open: args.insecure_open,
        share_prefixes: args.share_prefixes,
        ..config(args.bind, args.config.as_deref(), args.require_key)?
    };
    config.check().map_err(server_fault)?;
    let names = if args.model.is_empty() { vec![DEFAULT_MODEL.to_string()] } else { args.model };
    let opened: Vec<Opened> = names.iter().map(|name| open(Some(name))).collect::<Result<_, _>>()?;
    let running = server::start(Config { stop_when_idle: args.stop_when_idle, ..config }).map_err(server_fault)?;
    let names = wire_names(&opened);
    let _notice = if args.no_runtime_file { None } else { notice(&running, told_names(&opened, &names)) };
    let begin = Instant::now();
    let mut models = Vec::new();
    let draft = args.draft_model.as_deref().map(|name| open(Some(name))).transpose()?;
    for (i, (o, name)) in opened.iter().zip(&names).enumerate() {
        let draft = draft.as_ref().filter(|_| i == 0);
        let (text, engine) = both(o, &args.engine, usize::from(args.slots), draft)?;
        models.push(served(o, name, text, engine, !args.no_kept_cache));
        eprintln!("{name} is ready ({:.1} s)", begin.elapsed().as_secs_f64());
    }
    running.add_models(models).map_err(server_fault)?;
    println!("listening on http://{}/v1", running.addr());
    wait(running)
}

fn wait(running: Running) -> Result<(), Fault> {
    match running.join().map_err(server_fault)? {
        true => Ok(()),
        false => Err(Fault::failed("stopped before every answer was finished")),
    }
}

/// `vonk up`.
pub fn up(args: args::Up) -> Result<(), Fault> {
    let name = args.model.as_deref().unwrap_or(DEFAULT_MODEL);
    let store = Store::open(None)?;
    if matches!(store.resolve(name), Err(store::StoreError::NotPulled { .. })) {
        pull_shown(&store, name)?;
    }
    let begin = Instant::now();
    let opened = [open(Some(name))?];
    let names = wire_names(&opened);
    let config = config(args.bind, None, false)?;
    let has_keys = config.meter.as_ref().is_some_and(|m| m.is_locked());
    let running = server::start(config).map_err(server_fault)?;
    let _notice = notice(&running, told_names(&opened, &names));
    let ([opened], [name]) = (&opened, &names[..]) else { return Err(Fault::failed("a model has no name")) };
    let (text, mut engine) = both(opened, &args.engine, 4, None)?;
    let ready = begin.elapsed();
    let outcome = demonstrate(&text, &mut *engine)?;
    let first_token_s = ready.as_secs_f64() + outcome.ttft_ms / 1e3;
    running.add_models(vec![served(opened, name, text, engine, !args.once)]).map_err(server_fault)?;
    let addr = running.addr();
    println!("\n\n{}: {}; {first_token_s:.2} s from start to first token", name, outcome.figures());
    if args.once {
        running.drain();
        return wait(running);
    }
    println!("\nAPI: http://{addr}/v1 (OpenAI-compatible). Try:\n");
    let key = if has_keys { "-H \"Authorization: Bearer $VONK_API_KEY\" " } else { "" };
    println!("curl http://{addr}/v1/chat/completions {key}-H 'Content-Type: application/json' -d '{}'", curl_body());
    println!("\nCtrl-C stops it.");
    wait(running)
}

fn curl_body() -> serde_json::Value {
    let message = serde_json::json!({"role": "user", "content": "Write a haiku about compilers."});
    serde_json::json!({"model": "default", "messages": [message]})
}

/// Text side and engine, made side by side: the tokenizer of a large vocabulary takes a while, too.
fn both(
    opened: &Opened,
    args: &args::Engine,
    slots: usize,
    draft: Option<&Opened>,
) -> Result<(Arc<TextKit>, Box<dyn engine::Stepper>), Fault> {
    std::thread::scope(|scope| {
        let text = scope.spawn(|| opened.text());
        let engine = opened.engine(args, slots, draft)?;
        let text =
            text.join().map_err(|_| Fault::failed("the tokenizer could not be built (a bug; please report it)"))??;
        Ok((Arc::new(text), engine))
    })
}

fn demonstrate(text: &TextKit, engine: &mut dyn engine::Stepper) -> Result<Outcome, Fault> {
    let ids = text.tokenizer.encode(SNIPPET, text::Encode::PROMPT);
    let ends = ["\n\n\n", "\ndef ", "\nclass ", "\nif __name__", "\n#", "\nprint"];
    let stop = ends.map(str::to_string).to_vec();
    let sampling = args::Sampling { stop, ..args::Sampling::greedy(SNIPPET_TOKENS) };
    to_stdout(SNIPPET)?;
    generate(engine, text, ids, &sampling, &mut to_stdout)
}

#[cfg(test)]
mod tests {
    use super::short_name;
    use std::path::Path;

    #[test]
    fn a_file_is_called_by_its_name_without_folders() {
        let short = |path: &str| short_name(Path::new(path));
        assert_eq!(short("/srv/ann/models/Coder-0.5B.Q4_K_M.gguf").as_deref(), Some("Coder-0.5B.Q4_K_M"));
        assert_eq!(short("coder.gguf").as_deref(), Some("coder"));
        assert_eq!(short("../models/qwen2.5-coder/").as_deref(), Some("qwen2.5-coder"));
        let here = std::env::current_dir().ok().and_then(|d| Some(d.file_name()?.to_str()?.to_owned()));
        assert_eq!(short("."), here);
        assert_eq!(short("/models/.gguf"), None);
        assert_eq!(short("/"), None);
    }
}
