//! `vonk edit` and `vonk undo`: files to proposals, shown while they are written, then into the files or not.

use crate::args::{self, HowKind};
use crate::fault::{Fault, print_json};
use crate::interrupt::{EXIT_CODE, Interrupt};
use crate::near;
use base::limits;
use client::server::Found;
use client::{ClientError, place};
use edit::check::{self, Verdict};
use edit::diff::{self, Line};
use edit::{Change, EditError, How, Job, Journal, Proposal, Source, propose};
use serde_json::json;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two pictures of a diff that grows.
const FRAME: Duration = Duration::from_millis(50);

/// Opens the journal, and says what a crash had left and how it ended.
fn journal() -> Result<Journal, Fault> {
    let none = || Fault::failed("there is no place for the journal; set HOME or VONK_HOME");
    let dir = place::state_dir(&place::env).ok_or_else(none)?;
    let (journal, lines) = Journal::open(&dir)?;
    lines.iter().for_each(|line| eprintln!("{line}"));
    Ok(journal)
}

/// What a person decides.
enum Choice {
    Apply,
    Reject,
    Again(String),
}

/// `vonk edit`.
pub fn edit(args: args::Edit) -> Result<(), Fault> {
    let begin = Instant::now();
    let (mut instruction, files) = match args.what.split_last() {
        Some((instruction, files)) if !files.is_empty() && !instruction.trim().is_empty() => {
            (instruction.clone(), files)
        }
        _ => return Err(Fault::input("say what to change: vonk edit FILE... \"instruction\"")),
    };
    if Path::new(&instruction).exists() {
        let why = format!("the last argument is what to change, but {instruction:?} is a file");
        return Err(Fault::input(why + ": vonk edit FILE... \"instruction\""));
    }
    if files.len() > limits::EDIT_FILES_MAX {
        return Err(Fault::input(format!("one edit takes at most {} files", limits::EDIT_FILES_MAX)));
    }
    drop(journal()?); // what a crash left must be settled before the files are read
    let sources: Vec<Source> =
        files.iter().map(|f| Source::read(Path::new(f), args.force)).collect::<Result<_, _>>()?;
    let paths: std::collections::BTreeSet<&PathBuf> = sources.iter().map(|s| &s.path).collect();
    if paths.len() < sources.len() {
        return Err(Fault::input("the same file is named twice"));
    }
    let found = near::server(&args.near)?;
    let interrupt = Interrupt::watch();
    let mut screen = Screen::new(!args.json);
    let is_asked = !args.yes && !args.json && stdin().is_terminal() && stdout().is_terminal();
    loop {
        let proposals = proposals(&args, &found, &sources, &instruction, &interrupt, &mut screen)?;
        let is_change = sources.iter().zip(&proposals).any(|(s, p)| s.bytes.as_ref() != Some(&p.bytes));
        let choice = match (is_change, args.yes) {
            (true, true) => Choice::Apply,
            (_, false) if is_asked => interrupt.while_free(|| choice(&proposals, is_change))?,
            _ => Choice::Reject,
        };
        let mut report =
            Report { begin, args: &args, found: &found, sources: &sources, proposals: &proposals, is_change };
        match choice {
            Choice::Again(hint) => instruction = format!("{instruction}\n{hint}"),
            Choice::Reject => return report.end(None, None),
            Choice::Apply => return apply(&mut report, &instruction, &interrupt),
        }
    }
}

fn proposals(
    args: &args::Edit,
    found: &Found,
    sources: &[Source],
    instruction: &str,
    interrupt: &Interrupt,
    screen: &mut Screen,
) -> Result<Vec<Proposal>, Fault> {
    let how = match args.how {
        HowKind::Auto => How::Auto,
        HowKind::Whole => How::Whole,
        HowKind::Blocks => How::Blocks,
    };
    let one = |source: &Source| -> Result<Proposal, Fault> {
        let beside: Vec<&Source> = sources.iter().filter(|s| s.path != source.path).collect();
        let (client, model) = (&found.client, found.model.as_str());
        let (timeout_s, cancel) = (args.timeout, Some(&interrupt.cancel));
        let job = Job { client, model, source, beside: &beside, instruction, how, timeout_s, cancel };
        let proposal = propose(&job, &mut |text| screen.draw(source, text, true)).map_err(stopped)?;
        screen.draw(source, &proposal.text, false);
        Ok(proposal)
    };
    sources.iter().map(one).collect()
}

fn stopped(e: EditError) -> Fault {
    match e {
        EditError::Client(ClientError::Cancelled) => {
            Fault { code: EXIT_CODE, message: "stopped; nothing was written".to_owned() }
        }
        e => e.into(),
    }
}

fn choice(proposals: &[Proposal], is_change: bool) -> Result<Choice, Fault> {
    proposals.iter().filter_map(|p| p.doubt.as_ref()).for_each(|doubt| eprintln!("careful: {doubt}"));
    match is_change {
        true => print!("Apply? [y]es, [n]o, or say what to do differently: "),
        false => print!("The model changed nothing. [n]o more, or say what to do differently: "),
    }
    stdout().flush()?;
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    Ok(match line.trim() {
        "y" | "yes" | "Y" if is_change => Choice::Apply,
        "y" | "yes" | "Y" => Choice::Reject,
        "" | "n" | "no" | "N" => Choice::Reject,
        hint => Choice::Again(hint.to_owned()),
    })
}

fn apply(report: &mut Report<'_>, note: &str, interrupt: &Interrupt) -> Result<(), Fault> {
    let (args, all) = (report.args, report.sources.iter().zip(report.proposals));
    if let Some(doubt) = report.proposals.iter().find_map(|p| p.doubt.as_ref()).filter(|_| args.yes && !args.force) {
        report.end(None, None)?;
        return Err(Fault::failed(format!("not applied: {doubt}. --force applies it")));
    }
    let changes: Vec<Change> = all
        .filter(|(s, p)| s.bytes.as_ref() != Some(&p.bytes))
        .map(|(s, p)| Change { path: s.path.clone(), before: s.bytes.clone(), after: p.bytes.clone() })
        .collect();
    let journal = journal()?;
    let id = journal.apply(&changes, note, args.check.is_some())?;
    let Some(command) = &args.check else { return report.end(Some(id), None) };
    let verdict = check::run(command, args.check_time, &|| interrupt.cancel.is_cancelled());
    let why = match verdict {
        Ok(Verdict::Passed) => {
            journal.keep(id)?;
            return report.end(Some(id), Some(true));
        }
        Ok(Verdict::Failed(Some(code))) => format!("`{command}` exited with {code}"),
        Ok(Verdict::Failed(None)) => format!("`{command}` was ended by a signal"),
        Ok(Verdict::Late) => format!("`{command}` took longer than {} s", args.check_time.as_secs()),
        Ok(Verdict::Stopped) => "stopped".to_owned(),
        Err(e) => format!("`{command}` cannot be run: {e}"),
    };
    journal.undo(Some(id), false)?;
    report.end(None, Some(false))?;
    Err(Fault::failed(format!("{why}; the change was taken back")))
}

/// What is said at the end.
struct Report<'a> {
    begin: Instant,
    args: &'a args::Edit,
    found: &'a Found,
    sources: &'a [Source],
    proposals: &'a [Proposal],
    is_change: bool,
}

impl Report<'_> {
    fn end(&self, id: Option<u64>, is_passed: Option<bool>) -> Result<(), Fault> {
        let whole_s = self.begin.elapsed().as_secs_f64();
        let sum = |f: fn(&Proposal) -> f64| self.proposals.iter().map(f).sum::<f64>();
        let (tokens, ask_s) = (sum(|p| p.cost.tokens as f64), sum(|p| p.cost.time.as_secs_f64()));
        let tps = tokens / ask_s.max(1e-9);
        if self.args.json {
            return print_json(&self.json(id, is_passed, whole_s, tokens, tps));
        }
        let cost = format!("{tokens:.0} tokens in {ask_s:.2} s, {tps:.0} tok/s");
        match (id, self.is_change, is_passed) {
            (_, false, _) => println!("The model changed nothing ({cost})."),
            (Some(id), ..) => println!("Applied as edit {id} ({cost}). `vonk undo` restores."),
            (None, _, Some(false)) => {}
            (None, ..) if stdin().is_terminal() && stdout().is_terminal() => println!("Not applied ({cost})."),
            (None, ..) => eprintln!("Not applied ({cost}): say --yes to apply without being asked."),
        }
        Ok(())
    }

    fn json(&self, id: Option<u64>, is_passed: Option<bool>, whole_s: f64, tokens: f64, tps: f64) -> serde_json::Value {
        let sum = |f: fn(&Proposal) -> u64| self.proposals.iter().map(f).sum::<u64>();
        let file = |(s, p): (&Source, &Proposal)| {
            let (added, removed) = diff::counts(&diff::unified(&s.text, &p.text, false));
            json!({"path": s.shown, "added": added, "removed": removed, "doubt": p.doubt})
        };
        let files: Vec<_> = self.sources.iter().zip(self.proposals).map(file).collect();
        let ttft = self.proposals.first().map_or(0.0, |p| p.cost.ttft.as_secs_f64() * 1e3);
        json!({
            "applied": id.is_some(), "ms": whole_s * 1e3, "tokens": tokens as u64, "tps": tps, "ttft_ms": ttft,
            "ask_ms": self.proposals.iter().map(|p| p.cost.time.as_secs_f64() * 1e3).sum::<f64>(),
            "changed": self.is_change, "id": id, "check": is_passed, "files": files,
            "answers": sum(|p| p.cost.answers.into()), "prompt_tokens": sum(|p| p.cost.prompt_tokens),
            "cached_tokens": sum(|p| p.cost.cached_tokens),
            "accepted_prediction_tokens": sum(|p| p.cost.accepted_prediction_tokens),
            "model": self.found.model, "url": self.found.client.target().shown(), "server_started": self.found.is_new,
        })
    }
}

/// The diff on the terminal: its end is drawn again and again while it grows, and once as a whole in the end. Elsewhere only
/// the whole is printed.
struct Screen {
    is_on: bool,
    is_live: bool,
    drawn: usize,
    next: Instant,
}

impl Screen {
    fn new(is_on: bool) -> Self {
        Self { is_on, is_live: is_on && stdout().is_terminal(), drawn: 0, next: Instant::now() }
    }

    fn draw(&mut self, source: &Source, text: &str, is_open: bool) {
        if !self.is_on || (is_open && (!self.is_live || Instant::now() < self.next)) {
            return;
        }
        let lines = diff::unified(&source.text, text, is_open);
        let (width, height) = match ratatui::crossterm::terminal::size() {
            Ok((width, height)) if self.is_live => (usize::from(width.max(20)), usize::from(height.max(5))),
            _ => (usize::MAX, usize::MAX),
        };
        let mut out = String::new();
        if self.drawn > 0 {
            out.push_str(&format!("\x1b[{}A\r\x1b[J", self.drawn));
        }
        let from = if is_open { lines.len().saturating_sub(height.saturating_sub(3)) } else { 0 };
        let width = if is_open { width } else { usize::MAX };
        if !lines.is_empty() {
            out.push_str(&self.painted(&Line::Head(format!("--- {}", source.shown.display())), width));
        }
        lines.iter().skip(from).for_each(|line| out.push_str(&self.painted(line, width)));
        self.drawn = if is_open { out.matches('\n').count() } else { 0 };
        let mut stdout = stdout().lock();
        let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()); // who does not look does not miss it
        self.next = Instant::now() + FRAME;
    }

    fn painted(&self, line: &Line, width: usize) -> String {
        let text: String = harmless(&line.to_string()).chars().take(width.saturating_sub(1)).collect();
        let colour = match line {
            Line::Head(_) => "36",
            Line::Same(_) => "0",
            Line::Removed(_) => "31",
            Line::Added(_) => "32",
        };
        if self.is_live { format!("\x1b[{colour}m{text}\x1b[0m\n") } else { format!("{text}\n") }
    }
}

/// Without what could drive the terminal: a file or a model may hold escape codes.
pub fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => '\t',
        c if c.is_control() => {
            char::from_u32(0x2400 + u32::from(c)).filter(|_| u32::from(c) < 0x20).unwrap_or('\u{fffd}')
        }
        // Bidirectional overrides show code in another order than it is run.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// `vonk undo`.
pub fn undo(args: args::Undo) -> Result<(), Fault> {
    let journal = journal()?;
    if args.list {
        let list = journal.list();
        if args.json {
            return print_json(&list);
        }
        for e in &list {
            let files: Vec<String> = e.files.iter().map(|f| f.display().to_string()).collect();
            println!("{:>6}  {:<8}  {}  {}", e.id, e.state.as_str(), client::printable(&e.note, 60), files.join(" "));
        }
        return Ok(());
    }
    let (entry, kept) = journal.undo(args.id, args.force)?;
    if args.json {
        return print_json(&json!({"undone": entry.id, "files": entry.files, "kept": kept}));
    }
    println!("Edit {} is undone: {}", entry.id, client::printable(&entry.note, 60));
    kept.iter().for_each(|path| println!("What had been changed since is kept in {}", path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_file_drives_the_terminal() {
        assert_eq!(harmless("a\tb\x1b[2J\r\u{202e}\u{9b}\x7f é"), "a\tb␛[2J␍\u{fffd}\u{fffd}\u{fffd} é");
    }
}
