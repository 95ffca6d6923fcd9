//! Replayed typing: how long after a key a suggestion is on screen, with the pauses that people make. Side A is what
//! `vonk lsp` does; side B is llama.vim's way of asking a llama.cpp server, as a yardstick (and as `keystrokes.py` has it).

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::server::Wanted;
use lsp::backend::Server;
use lsp::brain::{Source, View};
use lsp::driver::Driver;
use serde::Serialize;

use crate::error::BenchError;
use crate::processor::Processor;
use crate::stats::quantile;
use crate::trace::{Run, Typing, typing};
use crate::typist::Plain;

/// What to replay against whom.
#[derive(Clone, Debug)]
pub struct KeystrokesArgs {
    /// Side A.
    pub url: String,
    /// Side B.
    pub against: Option<String>,
    /// Recorded editing.
    pub trace: PathBuf,
    /// Recorded gaps between keys.
    pub gaps: PathBuf,
    /// Keys, 1..=`TRACE_KEYS_MAX`.
    pub n_keys: usize,
    /// Chooses where to begin, and the gaps.
    pub seed: u64,
    /// Sent to side A.
    pub key: Option<String>,
}

/// Where a suggestion came from, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was there before the key, or is remembered.
    Through,
    /// It was asked for because of the key.
    New,
}

/// What was shown for one key, before the next one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub kind: Kind,
    /// Key to first text.
    pub ms: f64,
    /// Key to a text that does not grow any more, if that came in time.
    pub whole_ms: Option<f64>,
    /// As it was when the next key came.
    pub text: String,
}

/// Somebody who suggests something while one types.
pub(crate) trait Helper {
    /// A key was typed; the next one comes after `gap`. Returns then.
    fn key(&mut self, view: View, gap: Duration) -> Option<Seen>;
    /// Questions to the server for keys, in idle time, and those that were stopped.
    fn asked(&self) -> [u64; 3];
}

/// One side's figures. Shares are of all keys, milliseconds of the keys at which something was shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Side {
    /// The server.
    pub url: String,
    /// Keys that were typed.
    pub keys: usize,
    /// Keys at which a suggestion for exactly that text was on screen before the next key.
    pub shown_share: f64,
    /// Of these, those that cost no waiting: typed through, or remembered.
    pub through_share: f64,
    /// Those that were asked for because of the key.
    pub new_share: f64,
    /// Key to suggestion.
    pub ghost_ms_p50: Option<f64>,
    /// See above.
    pub ghost_ms_p95: Option<f64>,
    /// Typed through alone.
    pub through_ms_p50: Option<f64>,
    /// See above.
    pub through_ms_p95: Option<f64>,
    /// New answers alone.
    pub new_ms_p50: Option<f64>,
    /// See above.
    pub new_ms_p95: Option<f64>,
    /// New answers, until they did not grow any more.
    pub whole_ms_p50: Option<f64>,
    /// See above.
    pub whole_ms_p95: Option<f64>,
    /// Of the shown suggestions, those that begin with the character that was typed next.
    pub right_share: f64,
    /// Questions to the server for a key.
    pub asked: u64,
    /// Questions while nobody typed: for what comes after a suggestion, and to fill the server's cache.
    pub asked_idle: u64,
    /// Those that the next key stopped.
    pub cancelled: u64,
    /// Processor seconds of the server and of this process; `None` if the server is not on this machine.
    pub cpu_s: Option<f64>,
    /// Per key at which something was shown.
    pub cpu_s_per_shown: Option<f64>,
    /// Milliseconds of every shown key, for the picture.
    #[serde(skip)]
    pub all_ms: Vec<f64>,
    /// Milliseconds of the new answers.
    #[serde(skip)]
    pub new_ms: Vec<f64>,
}

/// Both sides. The fields of A stand at the top.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What it was asked with.
    pub trace: String,
    /// See `KeystrokesArgs`.
    pub seed: u64,
    /// Side A.
    #[serde(flatten)]
    pub ours: Side,
    /// Side B.
    pub against: Option<Side>,
    /// A over B.
    pub ratio: Option<Ratio>,
}

/// A over B; below 1 is better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// New answers.
    pub new_ms_p50: Option<f64>,
    /// New answers.
    pub new_ms_p95: Option<f64>,
    /// Processor time.
    pub cpu_s_per_shown: Option<f64>,
}

/// Replays the typing to A, and then to B.
///
/// # Errors
/// Settings out of range, files that are no trace, a server that cannot be had.
pub fn run(args: &KeystrokesArgs, progress: &mut dyn FnMut(&str)) -> Result<Report, BenchError> {
    let most = base::limits::TRACE_KEYS_MAX;
    if !(1..=most).contains(&args.n_keys) {
        return Err(BenchError::Argument { name: "keys", why: format!("it must be within 1..={most}") });
    }
    let typing = typing(&args.trace, &args.gaps, args.n_keys, args.seed)?;
    let name = args.trace.file_stem().unwrap_or_default().to_string_lossy().replace(".json", "");
    progress(&format!("A {}: typing {} keys", args.url, typing.gaps_ms.len()));
    let ours = side(&args.url, &typing, &name, &mut Brain::start(&args.url, args.key.clone()))?;
    let against = match &args.against {
        Some(url) => {
            progress(&format!("B {url}: typing the same keys"));
            Some(side(url, &typing, &name, &mut Plain::start(url)?)?)
        }
        None => None,
    };
    let ratio = against.as_ref().map(|b| Ratio::of(&ours, b));
    Ok(Report { trace: name, seed: args.seed, ours, against, ratio })
}

fn side(url: &str, typing: &Typing, name: &str, helper: &mut dyn Helper) -> Result<Side, BenchError> {
    let processor = Processor::of(url)?;
    let mut seen = Vec::new();
    let mut gaps = typing.gaps_ms.iter();
    for run in &typing.runs {
        replay(run, name, &mut gaps, helper, &mut seen);
    }
    let cpu_s = processor.and_then(|p| p.seconds());
    let [asked, asked_idle, cancelled] = helper.asked();
    Ok(Side { url: url.to_owned(), asked, asked_idle, cancelled, ..figures(&seen, cpu_s) })
}

/// What was shown, and the character typed next.
type Key = (Option<Seen>, Option<char>);

fn replay(run: &Run, name: &str, gaps: &mut std::slice::Iter<'_, f64>, helper: &mut dyn Helper, seen: &mut Vec<Key>) {
    let mut doc = run.before.clone();
    for (i, (at, key)) in run.keys.iter().enumerate() {
        doc.insert((*at).min(doc.len()), *key);
        let gap = Duration::from_secs_f64(gaps.next().copied().unwrap_or(100.0) / 1e3);
        let next = run.keys.get(i + 1).map(|(_, c)| *c);
        seen.push((helper.key(view(&doc, at + 1, name), gap), next));
    }
}

/// The place before the `at`th character.
fn view(doc: &[char], at: usize, name: &str) -> View {
    let at = at.min(doc.len());
    let around = base::limits::VIEW_BYTES_MAX / 2;
    let first = at.saturating_sub(around);
    let first =
        doc[first..at].iter().position(|c| first == 0 || *c == '\n').map_or(at, |n| first + n + usize::from(first > 0));
    View {
        path: format!("{name}.rs"),
        before: doc[first..at].iter().collect(),
        after: doc[at..].iter().take(around).collect(),
        offset: doc[..at].iter().map(|c| c.len_utf8()).sum(),
    }
}

fn figures(keys: &[Key], cpu_s: Option<f64>) -> Side {
    let shown: Vec<&Seen> = keys.iter().filter_map(|(s, _)| s.as_ref()).collect();
    let of = |kind: Kind| -> Vec<f64> { shown.iter().filter(|s| s.kind == kind).map(|s| s.ms).collect() };
    let (all, through, new) = (shown.iter().map(|s| s.ms).collect::<Vec<_>>(), of(Kind::Through), of(Kind::New));
    let whole: Vec<f64> = shown.iter().filter(|s| s.kind == Kind::New).filter_map(|s| s.whole_ms).collect();
    let share = |n: usize, of: usize| n as f64 / of.max(1) as f64;
    let is_right =
        |(seen, next): &&Key| seen.as_ref().is_some_and(|s| next.is_some() && s.text.chars().next() == *next);
    let n_judged = keys.iter().filter(|(s, next)| s.is_some() && next.is_some()).count();
    Side {
        keys: keys.len(),
        shown_share: share(shown.len(), keys.len()),
        through_share: share(through.len(), keys.len()),
        new_share: share(new.len(), keys.len()),
        ghost_ms_p50: quantile(&all, 0.5),
        ghost_ms_p95: quantile(&all, 0.95),
        through_ms_p50: quantile(&through, 0.5),
        through_ms_p95: quantile(&through, 0.95),
        new_ms_p50: quantile(&new, 0.5),
        new_ms_p95: quantile(&new, 0.95),
        whole_ms_p50: quantile(&whole, 0.5),
        whole_ms_p95: quantile(&whole, 0.95),
        right_share: share(keys.iter().filter(is_right).count(), n_judged),
        cpu_s,
        cpu_s_per_shown: cpu_s.map(|s| s / shown.len().max(1) as f64),
        all_ms: all,
        new_ms: new,
        ..Side::default()
    }
}

impl Ratio {
    fn of(a: &Side, b: &Side) -> Self {
        let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?).filter(|r| r.is_finite());
        Self {
            new_ms_p50: ratio(a.new_ms_p50, b.new_ms_p50),
            new_ms_p95: ratio(a.new_ms_p95, b.new_ms_p95),
            cpu_s_per_shown: ratio(a.cpu_s_per_shown, b.cpu_s_per_shown),
        }
    }
}

/// Side A: the completion brain, as `vonk lsp` runs it.
struct Brain {
    driver: Driver,
    shown: Arc<Mutex<Vec<(Instant, lsp::driver::Shown)>>>,
    n_keys: u64,
}

impl Brain {
    fn start(url: &str, key: Option<String>) -> Self {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let wanted = Wanted { url: Some(url.to_owned()), key, ..Wanted::default() };
        let heard = Arc::clone(&shown);
        let on_shown =
            Box::new(move |s| heard.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), s)));
        Self { driver: Driver::start(Arc::new(Server::new(wanted)), on_shown), shown, n_keys: 0 }
    }
}

impl Helper for Brain {
    fn key(&mut self, view: View, gap: Duration) -> Option<Seen> {
        let asked_at = Instant::now();
        self.n_keys += 1;
        self.driver.key(self.n_keys, view);
        std::thread::sleep(gap.saturating_sub(asked_at.elapsed()));
        let all = std::mem::take(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        let mine = all.into_iter().filter(|(_, s)| s.request == self.n_keys);
        let mine: Vec<_> = mine.filter_map(|(at, s)| Some((at, s.suggestion?))).collect();
        let (first_at, first) = mine.first()?;
        let ms = |at: &Instant| at.duration_since(asked_at).as_secs_f64() * 1e3;
        Some(Seen {
            kind: if first.source == Source::Asked { Kind::New } else { Kind::Through },
            ms: ms(first_at),
            whole_ms: mine.iter().find(|(_, s)| s.is_whole).map(|(at, _)| ms(at)),
            text: mine.last().map(|(_, s)| s.text.clone()).unwrap_or_default(),
        })
    }

    fn asked(&self) -> [u64; 3] {
        let counts = self.driver.told().counts;
        [counts.asked, counts.ahead + counts.warmed, counts.cancelled]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, side) in std::iter::once(("A", &self.ours)).chain(self.against.iter().map(|s| ("B", s))) {
            let ms = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.1}"));
            writeln!(f, "{label}  {}  {} keys", side.url, side.keys)?;
            writeln!(
                f,
                "   shown at {:.0} % of keys ({:.0} % without waiting, {:.0} % new); {:.0} % go on with the key typed next",
                side.shown_share * 100.0,
                side.through_share * 100.0,
                side.new_share * 100.0,
                side.right_share * 100.0
            )?;
            writeln!(f, "   key to suggestion, ms: p50 {} p95 {}", ms(side.ghost_ms_p50), ms(side.ghost_ms_p95))?;
            writeln!(
                f,
                "   new answers: p50 {} p95 {}; until whole: p50 {} p95 {}",
                ms(side.new_ms_p50),
                ms(side.new_ms_p95),
                ms(side.whole_ms_p50),
                ms(side.whole_ms_p95)
            )?;
            let cpu = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.2}"));
            let (all, each) = (cpu(side.cpu_s), cpu(side.cpu_s_per_shown));
            writeln!(
                f,
                "   {} questions, {} stopped, {} in idle time; processor seconds {all}, {each} per suggestion",
                side.asked, side.cancelled, side.asked_idle
            )?;
        }
        if let Some(r) = self.ratio {
            let x = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.3}"));
            let (p50, p95, cpu) = (x(r.new_ms_p50), x(r.new_ms_p95), x(r.cpu_s_per_shown));
            writeln!(f, "A/B: new answers p50 {p50} p95 {p95}; processor time per suggestion {cpu}")?;
        }
        Ok(())
    }
}
