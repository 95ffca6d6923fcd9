//! `vonk chat`: a thread asks, the main thread draws and takes keys. `talk` is what was said and what a key does to it, without
//! a terminal; `view` draws it.

mod talk;
mod view;

use crate::args;
use crate::edit::harmless;
use crate::fault::Fault;
use crate::near;
use client::server::Found;
use client::{Cancel, Deadline, stream};
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
/// Pieces of text that may wait to be drawn.
const PIECES: usize = 1024;

/// From the thread that asks.
enum Heard {
    Text(String),
    /// The answer is over: figures, or what went wrong; `None` if it was stopped.
    End(Option<Result<Figures, String>>),
}

/// `vonk chat`.
pub fn chat(args: args::Chat) -> Result<(), Fault> {
    let mut talk = Talk::new(args.system.clone());
    for path in &args.files {
        talk.add_file(path).map_err(Fault::input)?;
    }
    let found = near::server(&args.near)?;
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return once(&args, &found, talk);
    }
    let mut terminal = ratatui::try_init()?;
    let _ = execute!(stdout(), EnableBracketedPaste); // without it pasting is typing
    let ended = run(&args, &found, talk, &mut terminal);
    let _ = execute!(stdout(), DisableBracketedPaste);
    ratatui::restore();
    ended
}

/// Not at a terminal: standard input is the one message, the answer goes to standard output.
fn once(args: &args::Chat, found: &Found, mut talk: Talk) -> Result<(), Fault> {
    talk.say(&std::io::read_to_string(stdin())?);
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

fn run(args: &args::Chat, found: &Found, mut talk: Talk, terminal: &mut ratatui::DefaultTerminal) -> Result<(), Fault> {
    let about = format!("{} at {}", found.model, found.client.target().shown());
    let (sender, heard) = sync_channel(PIECES);
    let mut cancel = Cancel::new();
    loop {
        listen(&heard, &mut talk);
        if talk.is_due() {
            cancel = Cancel::new();
            start(found, body(args, found, &talk), cancel.clone(), sender.clone())?;
            talk.begin();
        }
        terminal.draw(|frame| view::draw(frame, &mut talk, &about))?;
        if !event::poll(if talk.is_answering() { FRAME } else { REST })? {
            continue;
        }
        let wish = match event::read()? {
            Event::Key(key) => talk.key(key),
            Event::Paste(text) => {
                talk.paste(&text);
                Wish::Nothing
            }
            _ => Wish::Nothing, // a new size is seen at the next picture
        };
        match wish {
            Wish::Nothing => {}
            Wish::Stop => cancel.cancel(),
            Wish::Quit => {
                cancel.cancel();
                return Ok(());
            }
        }
    }
}

fn listen(heard: &Receiver<Heard>, talk: &mut Talk) {
    for heard in heard.try_iter().take(PIECES) {
        match heard {
            Heard::Text(text) => talk.hear(&text),
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

fn start(found: &Found, body: Value, cancel: Cancel, sender: SyncSender<Heard>) -> Result<(), Fault> {
    let found = found.clone();
    thread::Builder::new().name("ask".to_owned()).spawn(move || {
        let texts = sender.clone();
        let mut on_text = |text: &str| drop(texts.send(Heard::Text(text.to_owned()))); // nobody listens: we are ending
        let end = match ask(&found, &body, &cancel, &mut on_text) {
            _ if cancel.is_cancelled() => None,
            end => Some(end.map_err(|fault| fault.message)),
        };
        let _ = sender.send(Heard::End(end));
    })?;
    Ok(())
}

fn ask(found: &Found, body: &Value, cancel: &Cancel, on_text: &mut dyn FnMut(&str)) -> Result<Figures, Fault> {
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
