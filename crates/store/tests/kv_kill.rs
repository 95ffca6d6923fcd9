//! A process that saves KV pages without end is killed, again and again: what it leaves is one whole snapshot. And a full
//! disk, a real one. The writers are this very program, started again with a folder in its environment.
//! `VONK_KILLS=2000` kills as often as you like; without it 30 times.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base::rng;
use store::{KvFile, KvLimits, KvRead, KvRecord, KvWriter, StoreError};

const DIR: &str = "VONK_KV_WRITER_DIR";
const PAGE_LEN: usize = 64;
const PAGE_BYTES: usize = 20_000;
const PAGES: u64 = 40;

fn open(dir: &Path) -> KvFile {
    let limits = KvLimits { spare_bytes: 0, ..KvLimits::default() };
    KvFile::open(dir, "killed", PAGE_LEN, PAGE_BYTES, limits).unwrap()
}

/// Page `i` of the writer's `round`: its tokens say which, its bytes follow from them.
fn page(round: u64, i: u64) -> (Option<u32>, Vec<u32>, Vec<u8>) {
    let parent = (i > 0).then(|| (rng::bits(round, i, 1) % i) as u32);
    let mut tokens = vec![7; PAGE_LEN];
    (tokens[0], tokens[1]) = (round as u32, i as u32);
    let bytes = (0..PAGE_BYTES as u64 / 8).flat_map(|k| rng::bits(round, i, 2 + k).to_le_bytes()).collect();
    (parent, tokens, bytes)
}

fn push(writer: &mut KvWriter<'_>, round: u64, i: u64) -> Result<(), StoreError> {
    let (parent, tokens, bytes) = page(round, i);
    assert_eq!(writer.push(&KvRecord { parent, salt: 0, tokens: &tokens, bytes: &bytes })?, Some(i as u32));
    Ok(())
}

fn save(kv: &KvFile, round: u64) -> Result<(), StoreError> {
    let mut writer = kv.begin()?;
    (0..PAGES).try_for_each(|i| push(&mut writer, round, i))?;
    writer.commit().map(|_| ())
}

/// The round of the snapshot, if there is one; panics unless it is whole and every page equal.
fn check(kv: &KvFile) -> Option<u64> {
    let mut round = None;
    let report = kv.read(|number, r| {
        let this = *round.get_or_insert(u64::from(r.tokens[0]));
        let (parent, tokens, bytes) = page(this, u64::from(number));
        assert_eq!((r.parent, r.salt, r.tokens, r.bytes), (parent, 0, &tokens[..], &bytes[..]));
        ControlFlow::Continue(())
    });
    let want = KvRead { accepted: if round.is_some() { PAGES as usize } else { 0 }, ..KvRead::default() };
    assert_eq!(report.unwrap(), want);
    round
}

/// Not a test of its own: what the others start.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let kv = open(&dir);
    let first = check(&kv).map_or(0, |round| round + 1);
    for round in first.. {
        match save(&kv, round) {
            Ok(()) => println!("saved {round}"),
            Err(e) => {
                println!("failed {e}; left {:?} and {} unfinished", check(&kv), temps(&dir));
                break;
            }
        }
    }
}

/// This program as `writer`, by a shell line that ends with it.
fn start(shell: &str, dir: &Path) -> Child {
    let me = std::env::current_exe().unwrap();
    let mut sh = Command::new("sh");
    sh.args(["-c", &format!("{shell} exec \"$0\" --exact writer --nocapture")]).arg(me).env(DIR, dir);
    sh.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// The writer's next line that says `saved` or `failed`; harness lines are skipped.
fn next(out: &mut impl BufRead) -> Option<String> {
    let lines = out.lines().map_while(Result::ok);
    // The first line of a test may stand behind the harness's own words.
    let mut said =
        lines.filter_map(|l| ["saved ", "failed "].iter().find_map(|w| l.find(w)).map(|at| l[at..].to_string()));
    said.next()
}

fn temps(dir: &Path) -> usize {
    let is_temp = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().contains(".tmp-");
    std::fs::read_dir(dir).unwrap().flatten().filter(is_temp).count()
}

#[test]
fn a_killed_writer_leaves_a_whole_snapshot() {
    let kills = std::env::var("VONK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let dir = tempfile::tempdir().unwrap();
    let (mut last, mut n_unfinished) = (None, 0);
    for kill in 0..kills {
        let mut child = start("", dir.path());
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let said = next(&mut out).unwrap();
        assert!(said.starts_with("saved "), "{said}");
        // Anywhere in the rounds that follow.
        std::thread::sleep(Duration::from_micros(rng::bits(kill, 0, 1) % 15_000));
        child.kill().unwrap();
        child.wait().unwrap();
        n_unfinished += temps(dir.path());
        let kv = open(dir.path());
        assert_eq!(temps(dir.path()), 0);
        let round = check(&kv);
        assert!(round > last, "kill {kill}: {round:?} after {last:?}");
        last = round;
    }
    println!("{kills} kills, {n_unfinished} of them left an unfinished file; last round {last:?}");
}

#[test]
fn a_full_disk_costs_the_new_snapshot_only() {
    let dir = tempfile::tempdir().unwrap();
    // A snapshot has about 800,000 bytes. 1 MiB holds one, but not two; a file of 512 KiB does not hold one.
    let tmpfs = "mount -t tmpfs -o size=1m tmpfs \"$VONK_KV_WRITER_DIR\" 2>&1 || { echo failed to mount; exit 0; };";
    let mut child =
        start(&format!("exec unshare -rm sh -c '{tmpfs} exec \"$0\" --exact writer --nocapture' \"$0\";"), dir.path());
    let mut out = BufReader::new(child.stdout.take().unwrap());
    match next(&mut out) {
        Some(said) if said == "saved 0" => {
            let said = next(&mut out).unwrap();
            // Seen coming; a write that fails half way is below.
            assert!(said.starts_with("failed not enough disk space"), "{said}");
            assert!(said.ends_with("left Some(0) and 0 unfinished"), "{said}");
            println!("on a tmpfs: {said}");
        }
        said => println!("left out: this machine mounts no tmpfs for us ({said:?})"),
    }
    child.wait().unwrap();

    save(&open(dir.path()), 0).unwrap();
    // The shell counts in 512 bytes; some count in 1024, so the bound is between a half and all of a snapshot's size.
    let mut child = start("trap '' XFSZ; ulimit -f 700;", dir.path());
    let said = next(&mut BufReader::new(child.stdout.take().unwrap())).unwrap();
    assert!(said.starts_with("failed cannot write"), "{said}");
    assert!(said.ends_with("left Some(0) and 0 unfinished"), "{said}");
    child.wait().unwrap();
    let kv = open(dir.path());
    assert_eq!(check(&kv), Some(0));
    save(&kv, 1).unwrap();
    assert_eq!(check(&kv), Some(1));
}
