//! Keys and usage through the file, as a server and a person at the command line see them at once. Time is an argument.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use keys::{Clock, Db, Estimate, KeysError, Meter, NewKey, Refusal, Settings, Tokens, Unknown, UsageFilter};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Noon of some day, in seconds.
const NOON: u64 = 20_000 * 86_400 + 43_200;

struct Fake(Arc<AtomicU64>);

impl Fake {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(NOON * 1000)))
    }
    fn clock(&self) -> Clock {
        let ms = Arc::clone(&self.0);
        Arc::new(move || ms.load(SeqCst))
    }
    fn pass_s(&self, s: u64) {
        self.0.fetch_add(s * 1000, SeqCst);
    }
}

fn file(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join("deep").join("keys.db")
}

fn meter(path: &Path, settings: &str, fake: &Fake) -> Meter {
    Meter::start(Db::open(path).unwrap(), Settings::parse(settings).unwrap(), fake.clock()).unwrap()
}

fn new(name: &'static str) -> NewKey<'static> {
    NewKey { name, tier: "pro", expires_s: None }
}

fn opens(meter: &Meter, key: &str) -> bool {
    meter.authenticate(key.as_bytes()).is_ok()
}

#[test]
fn keys_are_made_rotated_and_revoked_beside_a_running_meter() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, path) = (Fake::new(), file(&dir));
    let mut db = Db::open(&path).unwrap();
    let m = meter(&path, "", &fake);
    assert!(!m.is_locked());
    let a = db.create(&new("a"), NOON).unwrap();
    m.flush();
    assert!(m.is_locked() && opens(&m, &a.key));
    assert_eq!(m.authenticate(a.key.as_bytes()).unwrap().id(), a.id);
    for bad in ["", "vonk-", &a.key[..a.key.len() - 1], &format!("{}0", a.key), &a.key.to_uppercase(), &a.id] {
        assert_eq!(m.authenticate(bad.as_bytes()).unwrap_err(), Unknown::Key, "{bad}");
    }
    assert!(!opens(&m, &"x".repeat(100_000)));

    let b = db.rotate(&a.id, 60, NOON).unwrap();
    m.flush();
    assert!(b.id == a.id && b.key != a.key && opens(&m, &a.key) && opens(&m, &b.key));
    fake.pass_s(59);
    assert!(opens(&m, &a.key));
    fake.pass_s(1);
    assert!(!opens(&m, &a.key) && opens(&m, &b.key), "the time of grace has ended, and nobody had to do anything");
    let c = db.rotate(&a.id, 0, NOON + 60).unwrap();
    m.flush();
    assert!(!opens(&m, &b.key) && opens(&m, &c.key));

    db.revoke(&a.id, NOON + 60).unwrap();
    m.flush();
    assert!(!opens(&m, &c.key) && m.is_locked(), "revoking the last key does not open the door");
    assert!(matches!(db.rotate(&a.id, 0, NOON), Err(KeysError::Revoked(_))));
    assert!(matches!(db.rotate("key_no", 0, NOON), Err(KeysError::NoKey(_))));
    assert!(matches!(db.revoke("key_no", NOON), Err(KeysError::NoKey(_))));
    let rows = db.list().unwrap();
    assert_eq!((rows.len(), rows[0].state(NOON), rows[0].last_used), (1, "revoked", Some(NOON)), "to the hour");

    let short = NewKey { expires_s: Some(10), ..new("short") };
    let d = db.create(&short, NOON + 60).unwrap();
    let e = db.create(&NewKey { tier: "gone", ..new("e") }, NOON).unwrap();
    m.flush();
    assert!(opens(&m, &d.key));
    fake.pass_s(10);
    assert!(!opens(&m, &d.key), "expired");
    assert_eq!(m.authenticate(e.key.as_bytes()).unwrap_err(), Unknown::Tier("gone".into()));
    for name in ["", "a\nb", &"x".repeat(200)] {
        assert!(matches!(db.create(&NewKey { name, ..new("") }, NOON), Err(KeysError::Invalid(_))));
    }
    assert!(matches!(db.create(&NewKey { expires_s: Some(0), ..new("over") }, NOON), Err(KeysError::Invalid(_))));
}

/// Nothing asks for a flush here: the thread does it.
#[test]
fn the_thread_sees_changes_and_writes_usage_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, path) = (Fake::new(), file(&dir));
    let m = meter(&path, "", &fake);
    let mut db = Db::open(&path).unwrap();
    let key = db.create(&new("a"), NOON).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while !opens(&m, &key.key) {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    let grant = m.authenticate(key.key.as_bytes()).unwrap();
    let used = Tokens { input: 3, output: 4, ..Tokens::default() };
    m.admit(&grant, &["m"], 9, Estimate::default()).unwrap().settle(used);
    while db.usage(&UsageFilter::default()).unwrap().is_empty() {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(db.usage(&UsageFilter::default()).unwrap()[0].tokens, used);
}

#[test]
fn neither_the_file_nor_what_is_printed_has_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, path) = (Fake::new(), file(&dir));
    let mut db = Db::open(&path).unwrap();
    let a = db.create(&new("a"), NOON).unwrap();
    let m = meter(&path, "", &fake);
    let grant = m.authenticate(a.key.as_bytes()).unwrap();
    let permit = m.admit(&grant, &["m"], 9, Estimate::default()).unwrap();
    let said = format!("{a:?} {db:?} {m:?} {grant:?} {permit:?} {:?}", db.list().unwrap());
    let secret = &a.key["vonk-".len()..];
    assert!(!said.contains(&secret[..8]) && said.contains(&a.id));
    drop((m, db));
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(16).any(|w| w == &secret.as_bytes()[..16]));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn the_ledger_adds_up_by_key_model_and_day_with_its_cost() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, path) = (Fake::new(), file(&dir));
    let mut db = Db::open(&path).unwrap();
    let (a, b) = (db.create(&new("a"), NOON).unwrap(), db.create(&new("b"), NOON + 1).unwrap());
    let prices = "[prices.m]\ninput_per_mtok = 2\ncached_input_per_mtok = 0.5\noutput_per_mtok = 8\n";
    let m = meter(&path, prices, &fake);
    let use_it = |key: &str, model: &str, used: Tokens| {
        let grant = m.authenticate(key.as_bytes()).unwrap();
        m.admit(&grant, &[model, "alias"], 9, Estimate::default()).unwrap().settle(used);
    };
    let used = Tokens { input: 100, cached_input: 40, output: 10, accepted_prediction: 3 };
    use_it(&a.key, "m", used);
    use_it(&a.key, "m", used);
    use_it(&a.key, "free model", used);
    m.flush();
    use_it(&a.key, "m", used);
    use_it(&b.key, "m", used);
    fake.pass_s(86_400);
    use_it(&a.key, "m", used);
    use_it(&a.key, "m", Tokens::default()); // nothing came of it
    drop(m);
    let rows = db.usage(&UsageFilter::default()).unwrap();
    assert_eq!(rows.len(), 4);
    let row = rows.iter().find(|r| r.key == a.id && r.model == "m" && r.day == 20_000).unwrap();
    let three = Tokens { input: 300, cached_input: 120, output: 30, accepted_prediction: 9 };
    assert_eq!((row.requests, row.tokens, row.name.as_str()), (3, three, "a"));
    assert_eq!(row.cost_pico, 3 * (60 * 2_000_000 + 40 * 500_000 + 10 * 8_000_000));
    assert_eq!(row.date(), "2024-10-04");
    assert_eq!(rows.iter().find(|r| r.model == "free model").unwrap().cost_pico, 0);
    let of = |key: Option<&String>, since| db.usage(&UsageFilter { key: key.cloned(), since }).unwrap().len();
    assert_eq!((of(Some(&b.id), None), of(None, Some(20_001)), of(Some(&b.id), Some(20_001))), (1, 1, 0));
}

#[test]
fn the_tokens_of_a_day_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, path) = (Fake::new(), file(&dir));
    let a = Db::open(&path).unwrap().create(&new("a"), NOON).unwrap();
    let settings = "[tiers.pro]\ntokens_per_day = 1000\n";
    let ask = |m: &Meter, prompt| {
        let grant = m.authenticate(a.key.as_bytes()).unwrap();
        m.admit(&grant, &["m"], 9, Estimate { prompt, answer: 0, sequences: 1 })
    };
    let m = meter(&path, settings, &fake);
    ask(&m, 700).unwrap().settle(Tokens { input: 600, output: 100, ..Tokens::default() });
    drop(ask(&m, 300).unwrap()); // given back
    drop(m);
    let m = meter(&path, settings, &fake);
    let left = Refusal::Day { limit: 1000, asked: 301, left: 300, wait_ms: 43_200_000 };
    assert_eq!(ask(&m, 301).unwrap_err(), left);
    ask(&m, 300).unwrap();
    fake.pass_s(43_200);
    ask(&m, 1000).unwrap();
}

#[test]
fn reading_the_file_again_forgets_no_counter() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, path) = (Fake::new(), file(&dir));
    let mut db = Db::open(&path).unwrap();
    let a = db.create(&new("a"), NOON).unwrap();
    let m = meter(&path, "[tiers.pro]\nstreams = 1\nmodels = [\"m\"]\n", &fake);
    let grant = m.authenticate(a.key.as_bytes()).unwrap();
    let permit = m.admit(&grant, &["m"], 9, Estimate::default()).unwrap();
    db.create(&new("b"), NOON).unwrap();
    m.flush();
    let again = m.authenticate(a.key.as_bytes()).unwrap();
    assert_eq!(m.admit(&again, &["m"], 9, Estimate::default()).unwrap_err(), Refusal::Streams { limit: 1 });
    drop(permit);
    assert_eq!(m.admit(&again, &["n"], 9, Estimate::default()).unwrap_err(), Refusal::Model);
    m.admit(&again, &["n", "m"], 9, Estimate::default()).unwrap();
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    std::fs::write(
        &text,
        "no database, but longer than a header of SQLite is, which has one hundred bytes; so here is more",
    )
    .unwrap();
    let before = std::fs::read(&text).unwrap();
    assert!(Db::open(&text).unwrap_err().to_string().contains("not a database"));
    assert_eq!(std::fs::read(&text).unwrap(), before);

    let other = dir.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
    assert!(Db::open(&other).unwrap_err().to_string().contains("other program"));
    let newer = dir.path().join("newer.db");
    drop(Db::open(&newer).unwrap());
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(Db::open(&newer).unwrap_err().to_string().contains("newer version"));
    assert!(Db::open(dir.path()).is_err());
}

/// A disk that fails costs no usage, and stops nobody.
#[test]
fn what_cannot_be_written_is_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, path) = (Fake::new(), file(&dir));
    let a = Db::open(&path).unwrap().create(&new("a"), NOON).unwrap();
    let m = meter(&path, "", &fake);
    let other = rusqlite::Connection::open(&path).unwrap();
    // A table that takes no rows, as on a full disk.
    other.execute_batch("CREATE TRIGGER full BEFORE INSERT ON usage BEGIN SELECT raise(FAIL, 'full'); END").unwrap();
    let grant = m.authenticate(a.key.as_bytes()).unwrap();
    let used = Tokens { input: 1, ..Tokens::default() };
    for _ in 0..3 {
        m.admit(&grant, &["m"], 9, Estimate::default()).unwrap().settle(used);
        m.flush();
    }
    other.execute_batch("DROP TRIGGER full").unwrap();
    m.flush();
    let rows = Db::open(&path).unwrap().usage(&UsageFilter::default()).unwrap();
    assert_eq!((rows.len(), rows[0].requests, rows[0].tokens.input), (1, 3, 3));
}
