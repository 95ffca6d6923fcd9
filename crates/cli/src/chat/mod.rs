//! `vonk chat`: a thread asks, the main thread draws and takes keys. `talk` is what was said and what a key does to it, without
//! a terminal; `view` draws it.

mod talk;
mod view;

use crate::args;
use crate::edit::harmless;
use crate::fault::Fault;
use crate::near;
use client::server::Found;
use client::{Cancel, ClientError, Deadline, stream};
use ratatui::crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, Event};
use ratatui::crossterm::execute;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write, stdin, stdout};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;
use talk::{Figures, Talk, Wish};

/// Between two pictures while an answer comes.
const FRAME: Duration = Duration::from_millis(33);
/// How long to wait for a key when nothing else happens.
const REST: Duration = Duration::from_millis(200);
/// How long to wait for a key that comes with others: they share one picture.
const BURST: Duration = Duration::from_millis(1);
/// Keys between two pictures, at most.
const KEYS: usize = 4096;
/// Pieces of text that may wait to be drawn.
const PIECES: usize = 1024;

/// From the thread that asks.
enum Heard {
    Text(String),
    /// The server was gone, and this one is asked from now on.
    Server(Found),
    /// About the server.
    Note(String),
    /// The answer is over: figures, or what went wrong; `None` if it was stopped.
    End(Option<Result<Figures, String>>),
}

/// `vonk chat`.
pub fn chat(args: args::Chat) -> Result<(), Fault> {
    let mut talk = Talk::new(args.system.clone());
    for path in &args.files {
        talk.add_file(path).map_err(Fault::input)?;
    }
    let mut found = near::server(&args.near)?;
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return once(&args, &found, talk);
    }
    let mut terminal = ratatui::try_init()?;
    let _ = execute!(stdout(), EnableBracketedPaste); // without it pasting is typing
    let ended = run(&args, &mut found, talk, &mut terminal);
    let _ = execute!(stdout(), DisableBracketedPaste);
    ratatui::restore();
    ended
}

/// Not at a terminal: standard input is the one message, the answer goes to standard output.
fn once(args: &args::Chat, found: &Found, mut talk: Talk) -> Result<(), Fault> {
    let said = std::io::read_to_string(stdin())?;
    if said.trim().is_empty() {
        return Err(Fault::input("standard input is empty: it is the message when it is no terminal"));
    }
    talk.say(&said);
    let mut show = |text: &str| {
        let shown: String =
            text.split_inclusive('\n').map(|l| harmless(l.trim_end_matches('\n')) + end_of(l)).collect();
        let _ = stdout().write_all(shown.as_bytes()).and_then(|()| stdout().flush());
    };
    let figures = ask(found, &body(args, found, &talk), &Cancel::new(), &mut show)?;
    println!();
    eprintln!("{}", figures.line());
    Ok(())
}

fn end_of(line: &str) -> &'static str {
    if line.ends_with('\n') { "\n" } else { "" }
}

fn run(
    args: &args::Chat,
    found: &mut Found,
    mut talk: Talk,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), Fault> {
    let (sender, heard) = sync_channel(PIECES);
    let mut cancel = Cancel::new();
    loop {
        listen(&heard, &mut talk, found);
        if talk.is_due() {
            cancel = Cancel::new();
            start(&args.near, found, body(args, found, &talk), cancel.clone(), sender.clone())?;
            talk.begin();
        }
        let about = format!("{} at {}", found.model, found.client.target().shown());
        terminal.draw(|frame| view::draw(frame, &mut talk, &about))?;
        let mut wait = if talk.is_answering() { FRAME } else { REST };
        for _ in 0..KEYS {
            if !event::poll(wait)? {
                break;
            }
            wait = BURST;
            match happened(&mut talk, event::read()?) {
                Wish::Nothing => {}
                Wish::Stop => cancel.cancel(),
                Wish::Quit => {
                    cancel.cancel();
                    return Ok(());
                }
            }
            if talk.is_due() {
                break; // to be asked now
            }
        }
    }
}

fn happened(talk: &mut Talk, event: Event) -> Wish {
    match event {
        Event::Key(key) => talk.key(key),
        Event::Paste(text) => {
            talk.paste(&text);
            Wish::Nothing
        }
        _ => Wish::Nothing, // a new size is seen at the next picture
    }
}

fn listen(heard: &Receiver<Heard>, talk: &mut Talk, found: &mut Found) {
    for heard in heard.try_iter().take(PIECES) {
        match heard {
            Heard::Text(text) => talk.hear(&text),
            Heard::Server(new) => *found = new,
            Heard::Note(line) => talk.note(line),
            Heard::End(end) => talk.end(end),
        }
    }
}

fn body(args: &args::Chat, found: &Found, talk: &Talk) -> Value {
    json!({
        "model": found.model, "messages": talk.messages(), "stream": true, "stream_options": {"include_usage": true},
        "temperature": args.temperature, "max_tokens": args.max_tokens,
    })
}

fn start(
    near: &args::Near,
    found: &Found,
    body: Value,
    cancel: Cancel,
    sender: SyncSender<Heard>,
) -> Result<(), Fault> {
    let (near, found) = (near.clone(), found.clone());
    thread::Builder::new().name("ask".to_owned()).spawn(move || {
        let tell = |heard| drop(sender.send(heard)); // nobody listens: we are ending
        let mut on_text = |text: &str| tell(Heard::Text(text.to_owned()));
        let mut done = ask(&found, &body, &cancel, &mut on_text);
        if matches!(&done, Err(e) if e.is_connect()) && !cancel.is_cancelled() {
            // A server that nobody asked for a while has stopped; another one is found or started.
            done = match near::server_telling(&near, &mut |line| tell(Heard::Note(line.to_owned()))) {
                Ok(new) => {
                    tell(Heard::Server(new.clone()));
                    ask(&new, &body, &cancel, &mut on_text)
                }
                Err(fault) => Err(ClientError::Server(fault.message)),
            };
        }
        let end = if cancel.is_cancelled() { None } else { Some(done.map_err(|e| e.to_string())) };
        tell(Heard::End(end));
    })?;
    Ok(())
}

fn ask(found: &Found, body: &Value, cancel: &Cancel, on_text: &mut dyn FnMut(&str)) -> Result<Figures, ClientError> {
    let deadline = Deadline::after_s(base::limits::CLIENT_ANSWER_S_MAX);
    let timed = stream::ask(&found.client, "/v1/chat/completions", body, deadline, Some(cancel), on_text)?;
    let first = timed.said.texts_at.first().copied().unwrap_or(timed.ended_at);
    Ok(Figures {
        tokens: timed.said.tokens_or_events(),
        ttft_s: first.duration_since(timed.asked_at).as_secs_f64(),
        decode_s: timed.ended_at.duration_since(first).as_secs_f64(),
        is_cut: timed.said.finish_reason.as_deref() == Some("length"),
    })
}
