//! Recorded editing, keystroke by keystroke, in the form of the editing-traces collection: runs of single typed characters
//! are what is replayed, everything between them just happens.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base::limits;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;

use crate::error::BenchError;
use crate::python_random::Twister;

/// Keys typed one after the other, at least, that make a run.
const RUN_KEYS_MIN: usize = 12;
/// Gaps between keys that count, in milliseconds: shorter ones are pasted, longer ones are pauses for thought.
const GAPS_MS: std::ops::RangeInclusive<f64> = 20.0..=3_000.0;

#[derive(Deserialize)]
struct Trace {
    #[serde(rename = "startContent")]
    start: String,
    txns: Vec<Transaction>,
}

#[derive(Deserialize)]
struct Transaction {
    patches: Vec<(usize, usize, String)>,
}

/// Typing at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The file before, by characters.
    pub before: Vec<char>,
    /// Where each key goes, and what it is.
    pub keys: Vec<(usize, char)>,
}

/// What a seed chooses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Typing {
    /// In the order in which they were typed; together at least as many keys as wanted, if the trace has them.
    pub runs: Vec<Run>,
    /// Milliseconds after each key.
    pub gaps_ms: Vec<f64>,
}

pub(crate) fn wrong(path: &Path, why: impl ToString) -> BenchError {
    BenchError::Data { path: path.display().to_string(), line: None, why: why.to_string() }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, BenchError> {
    let most = limits::TRACE_BYTES_MAX;
    let file = File::open(path).map_err(|e| wrong(path, e))?;
    let mut bytes = Vec::new();
    let is_packed = path.extension().is_some_and(|e| e == "gz");
    let unpacked: Box<dyn Read> = if is_packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    unpacked.take(most + 1).read_to_end(&mut bytes).map_err(|e| wrong(path, e))?;
    if bytes.len() as u64 > most {
        return Err(wrong(path, format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

/// Reads a trace and gaps (a list, or an object that has one) and chooses as the script `keystrokes.py` does: with
/// Python's generator, a run among the first half to begin with, then a gap for each key.
///
/// # Errors
/// A file that cannot be read, is too long or is something else; no runs; no gaps; a patch outside of the text.
pub(crate) fn typing(trace: &Path, gaps: &Path, n_keys: usize, seed: u64) -> Result<Typing, BenchError> {
    let read_trace: Trace = serde_json::from_slice(&read(trace)?).map_err(|e| wrong(trace, e))?;
    let all = runs(&read_trace).map_err(|why| wrong(trace, why))?;
    let value: Value = serde_json::from_slice(&read(gaps)?).map_err(|e| wrong(gaps, e))?;
    let list = value.as_array().or_else(|| value.as_object()?.values().find_map(Value::as_array));
    let list = list.ok_or_else(|| wrong(gaps, "it has no list of milliseconds"))?;
    let known: Vec<f64> = list.iter().filter_map(Value::as_f64).filter(|g| GAPS_MS.contains(g)).collect();
    if known.is_empty() || all.is_empty() {
        return Err(wrong(gaps, "no gaps within 20 to 3000 ms, or no runs of typing in the trace"));
    }
    let mut random = Twister::new(seed);
    let first = random.below((all.len() / 2).max(1) as u32) as usize;
    let (mut runs, mut left) = (Vec::new(), n_keys);
    for mut run in all.into_iter().skip(first) {
        run.keys.truncate(left);
        left -= run.keys.len();
        runs.push(run);
        if left == 0 {
            break;
        }
    }
    let gaps_ms = (0..n_keys - left).map(|_| known[random.below(known.len() as u32) as usize]).collect();
    Ok(Typing { runs, gaps_ms })
}

fn runs(trace: &Trace) -> Result<Vec<Run>, &'static str> {
    let mut doc: Vec<char> = trace.start.chars().collect();
    let (mut all, mut run) = (Vec::new(), Run { before: Vec::new(), keys: Vec::new() });
    for txn in &trace.txns {
        let (at, n_deleted, text) = txn.patches.first().ok_or("a transaction has no patches")?;
        let mut chars = text.chars();
        let key = match (chars.next(), chars.next()) {
            (Some(key), None) if txn.patches.len() == 1 && *n_deleted == 0 => Some(key),
            _ => None,
        };
        let goes_on = run.keys.last().is_none_or(|(last, _)| *at == last + 1);
        if key.is_none() || !goes_on {
            let done = std::mem::replace(&mut run, Run { before: Vec::new(), keys: Vec::new() });
            if done.keys.len() >= RUN_KEYS_MIN {
                all.push(done);
            }
        }
        if let Some(key) = key {
            run.keys.push((*at, key));
            if run.keys.len() == 1 {
                run.before.clone_from(&doc);
            }
        }
        for (at, n_deleted, text) in &txn.patches {
            let end =
                at.checked_add(*n_deleted).filter(|end| *end <= doc.len()).ok_or("a patch lies outside of the text")?;
            if doc.len() + text.len() > limits::TRACE_BYTES_MAX as usize {
                return Err("its text grows beyond all bounds");
            }
            doc.splice(*at..end, text.chars());
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn trace(patches: &[(usize, usize, &str)]) -> Trace {
        let txns = patches.iter().map(|(a, n, t)| Transaction { patches: vec![(*a, *n, (*t).to_owned())] }).collect();
        Trace { start: "αβ\n".into(), txns }
    }

    #[test]
    fn runs_are_typed_at_one_place_without_a_break() {
        let mut patches: Vec<(usize, usize, &str)> = (0..12).map(|i| (2 + i, 0, "x")).collect();
        patches.push((0, 1, ""));
        patches.extend((0..11).map(|i| (i, 0, "y")));
        patches.push((5, 0, "pasted"));
        patches.extend((0..13).map(|i| (1 + i, 0, "z")));
        patches.push((0, 0, "q"));
        let runs = runs(&trace(&patches)).unwrap();
        assert_eq!(runs.len(), 2, "eleven keys are no run");
        assert_eq!(runs[0].before.iter().collect::<String>(), "αβ\n");
        assert_eq!(runs[0].keys[0], (2, 'x'));
        assert_eq!(runs[1].keys.len(), 13);
        assert!(runs[1].before.iter().collect::<String>().contains("pasted"));
    }

    #[test]
    fn patches_outside_of_the_text_are_refused() {
        assert!(runs(&trace(&[(4, 0, "x")])).is_err());
        assert!(runs(&trace(&[(0, usize::MAX, "x")])).is_err());
    }

    #[test]
    fn a_seed_chooses_runs_and_gaps() {
        let dir = std::env::temp_dir().join(format!("vonk-trace-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (file, gaps) = (dir.join("t.json"), dir.join("g.json"));
        let txns: Vec<Value> = (0..40).map(|i| serde_json::json!({"patches": [[i % 20, 0, "k"]]})).collect();
        std::fs::write(&file, serde_json::json!({"startContent": "", "txns": txns}).to_string()).unwrap();
        std::fs::write(&gaps, "{\"about\": 1, \"gaps\": [5, 50, 100, 5000]}").unwrap();
        let chosen = typing(&file, &gaps, 25, 1).unwrap();
        assert_eq!(chosen.gaps_ms.len(), chosen.runs.iter().map(|r| r.keys.len()).sum::<usize>());
        assert!(chosen.gaps_ms.iter().all(|g| [50.0, 100.0].contains(g)));
        assert_eq!(typing(&file, &gaps, 25, 1).unwrap(), chosen);
        assert!(typing(&gaps, &file, 25, 1).unwrap_err().is_bad_input());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
