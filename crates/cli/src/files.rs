//! `vonk pull`, `models`, `rm`, `inspect`, `tokenize`: models as files.

use crate::args;
use crate::fault::{Fault, print_json, text_or_stdin};
use crate::open::{open, progress_bar};
use formats::Container;
use indicatif::{HumanBytes, ProgressBar};
use serde_json::{Value, json};
use store::{Event, Pulled, Store};
use text::Encode;

/// `vonk pull`.
pub fn pull(args: args::Pull) -> Result<(), Fault> {
    let store = Store::open(None)?;
    let pulled = if args.progress { pull_told(&store, &args.spec)? } else { pull_shown(&store, &args.spec)? };
    if args.json {
        let Pulled { name, path, bytes, was_there, sha256 } = &pulled;
        return print_json(
            &json!({"name": name, "path": path, "sha256": sha256.to_string(), "bytes": bytes, "was_there": was_there}),
        );
    }
    let how = if pulled.was_there { "was here already" } else { "is here" };
    println!("{} {how}: {} in {}", pulled.name, HumanBytes(pulled.bytes), pulled.path.display());
    Ok(())
}

/// Pulls with a progress bar.
pub fn pull_shown(store: &Store, spec: &str) -> Result<Pulled, Fault> {
    let mut bar: Option<ProgressBar> = None;
    let mut show = |event: Event<'_>| match event {
        Event::Bytes { done, total, .. } => {
            bar.get_or_insert_with(|| progress_bar(total, "fetching")).set_position(done);
        }
        Event::Done { .. } => {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        }
        other => match (sentence(other), &bar) {
            (Some(line), Some(bar)) if !bar.is_hidden() => bar.println(line),
            (Some(line), _) => eprintln!("{line}"),
            (None, _) => {}
        },
    };
    Ok(store.pull(spec, &mut show)?)
}

/// Pulls and tells each whole percent as a line of JSON, and all else as text.
fn pull_told(store: &Store, spec: &str) -> Result<Pulled, Fault> {
    let mut told = None;
    let mut show = |event: Event<'_>| match event {
        Event::Bytes { done, total, .. } => {
            let percent = done.saturating_mul(100).checked_div(total);
            if told != percent {
                told = percent;
                eprintln!("{}", json!({"done": done, "total": total}));
            }
        }
        other => {
            if let Some(line) = sentence(other) {
                eprintln!("{line}");
            }
        }
    };
    Ok(store.pull(spec, &mut show)?)
}

/// What an event says to a person.
fn sentence(event: Event<'_>) -> Option<String> {
    Some(match event {
        Event::Waiting { name } => format!("another process is fetching {name}; waiting for it"),
        Event::Source { source, resumed_at: 0 } => format!("trying {source}"),
        Event::Source { source, resumed_at } => format!("trying {source}, going on at {}", HumanBytes(resumed_at)),
        Event::Step { what } | Event::Note { what } => what.to_string(),
        Event::SourceFailed { source, why } => format!("{source} did not work: {why}"),
        _ => return None,
    })
}

/// `vonk models`.
pub fn models(args: args::Json) -> Result<(), Fault> {
    let listing = Store::open(None)?.list()?;
    for note in &listing.notes {
        eprintln!("note: {note}");
    }
    if args.json {
        return print_json(&listing.models);
    }
    let width = listing.models.iter().map(|m| m.name.len()).max().unwrap_or(0);
    for m in &listing.models {
        let here = if m.path.is_some() { "here" } else { "    " };
        let default = if m.is_default { " (default)" } else { "" };
        let size = HumanBytes(m.bytes).to_string();
        println!("{here}  {:width$}  {size:>11}  {}{default}", m.name, m.description);
    }
    Ok(())
}

/// `vonk rm`.
pub fn rm(args: args::Rm) -> Result<(), Fault> {
    let removed = Store::open(None)?.remove(&args.name)?;
    println!("removed {}, {} freed", removed.name, HumanBytes(removed.bytes_freed));
    Ok(())
}

/// `vonk inspect`.
pub fn inspect(args: args::Inspect) -> Result<(), Fault> {
    let opened = open(Some(&args.model))?;
    let (desc, hp) = (&opened.loaded.desc, &opened.loaded.desc.hp);
    let traffic = model::traffic(desc, ops::KvType::F16);
    let container = match &desc.container {
        Container::Gguf { version, .. } => format!("GGUF v{version}"),
        Container::Safetensors { files } => format!("safetensors, {files} files"),
    };
    let mix: Vec<Value> = desc
        .mix()
        .iter()
        .map(|(t, s)| json!({"type": t.name(), "tensors": s.tensors, "elements": s.elements, "bytes": s.bytes}))
        .collect();
    let mut facts = json!({
        "name": opened.found.name, "path": opened.found.path, "container": container, "architecture": desc.arch,
        "title": desc.name, "file_type": desc.file_type, "parameters": desc.n_params(), "weight_bytes": desc.weight_bytes(),
        "n_layers": hp.n_layers, "d_model": hp.d_model, "n_heads": hp.n_heads, "n_kv_heads": hp.n_kv_heads,
        "d_head": hp.d_head, "d_ff": hp.d_ff, "n_vocab": hp.n_vocab, "n_ctx": hp.n_ctx, "rms_eps": hp.rms_eps,
        "rope": format!("{:?}", hp.rope), "tensor_types": mix,
        "weight_bytes_per_token": traffic.weight_bytes, "kv_bytes_per_token": traffic.kv_bytes_per_position,
        "macs_per_token": traffic.weight_macs,
    });
    if let (Ok(vocab), Some(object)) = (&desc.vocab, facts.as_object_mut()) {
        let named = |id: Option<u32>| id.map(|id| json!({"id": id, "text": vocab.tokens.get(id as usize)}));
        let (f, fims) = (&vocab.fim, ["prefix", "suffix", "middle", "pad", "repo", "file_sep"]);
        let ids = [f.prefix, f.suffix, f.middle, f.pad, f.repo, f.file_sep];
        let fim: serde_json::Map<String, Value> =
            fims.iter().zip(ids).filter_map(|(n, id)| Some((n.to_string(), named(id)?))).collect();
        object.insert(
            "tokenizer".into(),
            json!({"model": format!("{:?}", vocab.model), "pre": vocab.pre, "add_bos": vocab.add_bos,
            "bos": named(vocab.bos), "eos": named(vocab.eos), "eot": named(vocab.eot), "pad": named(vocab.pad)}),
        );
        object.insert("fim".into(), fim.into());
        object.insert("chat_template".into(), json!(vocab.chat_template));
    } else if let (Err(e), Some(object)) = (&desc.vocab, facts.as_object_mut()) {
        object.insert("tokenizer_error".into(), e.to_string().into());
    }
    if args.tensors {
        let tensors: Vec<Value> = desc.tensors.iter().map(|t| json!({"name": t.name, "type": t.dtype.name(), "shape": t.shape, "offset": t.extent.offset(), "bytes": t.extent.len()})).collect();
        facts["tensors"] = tensors.into();
    }
    if args.json {
        return print_json(&facts);
    }
    print_facts(&facts);
    Ok(())
}

/// One fact a line; lists of facts one item a line; the template last, as it is.
fn print_facts(facts: &Value) {
    let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
    let line = |v: &Value| match v.as_object() {
        Some(o) => o.iter().map(|(k, v)| format!("{k} {}", plain(v))).collect::<Vec<_>>().join(", "),
        None => plain(v),
    };
    for (key, value) in facts.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Array(items) => items.iter().for_each(|v| println!("{key:24} {}", line(v))),
            Value::Number(n) if key.contains("bytes") => {
                println!("{key:24} {n} ({})", HumanBytes(n.as_u64().unwrap_or(0)));
            }
            _ if key == "chat_template" => println!("{key}:\n{}", plain(value)),
            _ => println!("{key:24} {}", line(value)),
        }
    }
}

/// `vonk tokenize`.
pub fn tokenize(args: args::Tokenize) -> Result<(), Fault> {
    let text = text_or_stdin(args.text)?;
    let opened = open(args.model.as_deref())?;
    let kit = opened.text()?;
    let ids = kit.tokenizer.encode(&text, Encode { add_special: false, parse_special: args.special });
    if args.json {
        let piece = |id: &u32| String::from_utf8_lossy(kit.tokenizer.token_bytes(*id)).into_owned();
        let tokens: Vec<Value> = ids.iter().map(|id| json!({"id": id, "text": piece(id)})).collect();
        return print_json(&json!({"n": ids.len(), "ids": ids, "tokens": tokens}));
    }
    for id in &ids {
        println!("{id:>7}  {:?}", String::from_utf8_lossy(kit.tokenizer.token_bytes(*id)));
    }
    eprintln!("{} tokens", ids.len());
    Ok(())
}
