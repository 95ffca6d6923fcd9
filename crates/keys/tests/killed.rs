//! A process that uses keys without end is killed, again and again: the file stays whole, and what was written stays. The
//! process is this very program, started again with a folder in its environment. `VONK_KILLS=500` kills as often as you like.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use keys::{Db, Estimate, Meter, NewKey, Settings, Tokens, UsageFilter, system_clock};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const DIR: &str = "VONK_LEDGER_WRITER_DIR";
/// Requests between two flushes.
const BATCH: u64 = 7;

fn open(dir: &Path) -> Db {
    Db::open(&dir.join("keys.db")).unwrap()
}

/// Requests that the ledger knows; panics unless every sum fits to their number.
fn counted(db: &Db) -> u64 {
    let rows = db.usage(&UsageFilter::default()).unwrap();
    for r in &rows {
        assert_eq!((r.tokens.input, r.tokens.output), (5 * r.requests, 3 * r.requests));
    }
    rows.iter().map(|r| r.requests).sum()
}

/// Not a test of its own: what the other starts.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let mut db = open(&dir);
    let key = db.create(&NewKey { name: "w", tier: "partner", expires_s: None }, 1).unwrap();
    let settings =
        Settings::parse("[tiers.partner]\nrequests_per_minute = 1000000000000\ntokens_per_minute = 1000000000000");
    let meter = Meter::start(db, settings.unwrap(), system_clock()).unwrap();
    let grant = meter.authenticate(key.key.as_bytes()).unwrap();
    let before = counted(&open(&dir));
    for n in 1u64.. {
        let permit = meter.admit(&grant, &["m"], 9, Estimate::default()).unwrap();
        permit.settle(Tokens { input: 5, output: 3, ..Tokens::default() });
        if n % BATCH == 0 {
            meter.flush();
            println!("written {}", before + n);
        }
    }
}

#[test]
fn a_kill_costs_nothing_that_was_written_and_breaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let kills: u64 = std::env::var("VONK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let mut last = 0;
    for round in 0..kills {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "writer", "--nocapture"]).env(DIR, dir.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // The first line may stand behind the harness's own words.
        let said = |line: String| line.split_once("written ").and_then(|(_, n)| n.trim().parse::<u64>().ok());
        let mut written = lines.by_ref().find_map(said).unwrap();
        std::thread::sleep(Duration::from_micros(base::rng::bits(1, round, 0) % 20_000));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        written = lines.filter_map(said).last().unwrap_or(written);

        let connection = rusqlite::Connection::open(dir.path().join("keys.db")).unwrap();
        let check: String = connection.pragma_query_value(None, "integrity_check", |r| r.get(0)).unwrap();
        assert_eq!(check, "ok");
        let now = counted(&open(dir.path()));
        assert!(now >= written && written > last, "{now} are in the ledger, {written} were written");
        assert!(now <= written + 2 * BATCH, "nothing is counted twice");
        last = now;
    }
    let keys = open(dir.path()).list().unwrap();
    assert_eq!(keys.len() as u64, kills);
}
