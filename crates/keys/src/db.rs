//! The file: keys as SHA-256 and usage, in SQLite with a write-ahead log. A process that is killed loses what it had not
//! committed and breaks nothing; several processes may use the file at once.

use crate::Tokens;
use crate::error::KeysError;
use crate::secret::{KeyHash, mint, mint_id};
use crate::time::date_text;
use base::limits;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, named_params, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// SQLite's mark for whose file it is: "vonk".
const APPLICATION_ID: i64 = 0x766f_6e6b;
/// Of the tables below.
const VERSION: i64 = 1;
const TABLES: &str = "
CREATE TABLE keys(
    id TEXT PRIMARY KEY, name TEXT NOT NULL, tier TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER,
    revoked INTEGER, last_used INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE secrets(
    hash BLOB PRIMARY KEY, key TEXT NOT NULL REFERENCES keys(id), created INTEGER NOT NULL, until INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE usage(
    day INTEGER NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, requests INTEGER NOT NULL, input INTEGER NOT NULL,
    cached_input INTEGER NOT NULL, output INTEGER NOT NULL, accepted_prediction INTEGER NOT NULL, cost_pico INTEGER NOT NULL,
    PRIMARY KEY(day, key, model)
) STRICT, WITHOUT ROWID;
";

/// An open file of keys and usage.
pub struct Db {
    connection: Connection,
    path: PathBuf,
}

/// What a key shall be.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// For people.
    pub name: &'a str,
    /// Its tier.
    pub tier: &'a str,
    /// Seconds after which it is no longer good.
    pub expires_s: Option<u64>,
}

/// A key, this once.
#[derive(Clone, PartialEq, Eq)]
pub struct Created {
    /// Its id, no secret.
    pub id: String,
    /// The key itself. Nobody can tell it again.
    pub key: String,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// Its tier.
    pub tier: String,
    /// Unix seconds.
    pub created: u64,
    /// Unix seconds.
    pub expires: Option<u64>,
    /// Unix seconds.
    pub revoked: Option<u64>,
    /// Unix seconds, to the hour.
    pub last_used: Option<u64>,
}

impl KeyRow {
    /// `active`, `expired` or `revoked`.
    pub fn state(&self, now_s: u64) -> &'static str {
        match (self.revoked, self.expires) {
            (Some(_), _) => "revoked",
            (_, Some(end)) if end <= now_s => "expired",
            _ => "active",
        }
    }
}

/// One key as a server needs it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) row: KeyRow,
    /// Good until then.
    pub(crate) secrets: Vec<(KeyHash, Option<u64>)>,
    /// Of this day.
    pub(crate) day_tokens: u64,
}

/// Which usage to tell.
#[derive(Clone, Debug, Default)]
pub struct UsageFilter {
    /// Of this key only.
    pub key: Option<String>,
    /// From this day on.
    pub since: Option<i64>,
}

/// Usage of one key and model on one day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// Days since 1970-01-01, UTC.
    pub day: i64,
    /// The key's id.
    pub key: String,
    /// The key's name.
    pub name: String,
    /// The model.
    pub model: String,
    /// Requests that took tokens.
    pub requests: u64,
    /// Tokens.
    pub tokens: Tokens,
    /// At the prices of the time, in millionths of a millionth.
    pub cost_pico: u64,
}

impl UsageRow {
    /// `2026-01-31`.
    pub fn date(&self) -> String {
        date_text(self.day)
    }
}

/// What is added to the ledger.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) tokens: Tokens,
    pub(crate) cost_pico: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, other: &Self) {
        let sum = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        sum(&mut self.requests, other.requests);
        sum(&mut self.tokens.input, other.tokens.input);
        sum(&mut self.tokens.cached_input, other.tokens.cached_input);
        sum(&mut self.tokens.output, other.tokens.output);
        sum(&mut self.tokens.accepted_prediction, other.tokens.accepted_prediction);
        sum(&mut self.cost_pico, other.cost_pico);
    }
}

impl Db {
    /// Opens the file, or makes it: readable by this user only.
    ///
    /// # Errors
    /// It cannot be opened or made, or it is something else.
    pub fn open(path: &Path) -> Result<Self, KeysError> {
        make_private(path)?;
        let at = |source| KeysError::Db { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(at)?;
        let mut db = Self { connection, path: path.to_owned() };
        db.set_up().map_err(at)?.map_err(|why| KeysError::Unusable { path: path.to_owned(), why })?;
        Ok(db)
    }

    fn set_up(&mut self) -> rusqlite::Result<Result<(), String>> {
        let c = &mut self.connection;
        c.busy_timeout(Duration::from_millis(limits::LEDGER_BUSY_MS_MAX))?;
        let number = |c: &Connection, of: &str| c.pragma_query_value(None, of, |r| r.get::<_, i64>(0));
        let mode: String = c.pragma_update_and_check(None, "journal_mode", "wal", |r| r.get(0))?;
        if mode != "wal" {
            return Ok(Err(format!("a write-ahead log cannot be used here ({mode}); use a folder on a local disk")));
        }
        c.pragma_update(None, "synchronous", "normal")?;
        c.pragma_update(None, "foreign_keys", true)?;
        c.pragma_update(None, "trusted_schema", false)?;
        let tx = c.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match (number(&tx, "application_id")?, number(&tx, "user_version")?) {
            (APPLICATION_ID, VERSION) => {}
            (APPLICATION_ID, newer) => {
                return Ok(Err(format!("it was made by a newer version of this program ({newer}); use that one")));
            }
            (0, 0) if tx.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get::<_, i64>(0))? == 0 => {
                tx.execute_batch(TABLES)?;
                tx.pragma_update(None, "application_id", APPLICATION_ID)?;
                tx.pragma_update(None, "user_version", VERSION)?;
            }
            _ => return Ok(Err("it is some other program's database; move it away".to_owned())),
        }
        tx.commit()?;
        Ok(Ok(()))
    }

    fn at(&self) -> impl Fn(rusqlite::Error) -> KeysError + use<> {
        let path = self.path.clone();
        move |source| KeysError::Db { path: path.clone(), source }
    }

    /// Makes a key.
    ///
    /// # Errors
    /// A bad name, too many keys, no random bytes, the database.
    pub fn create(&mut self, new: &NewKey<'_>, now_s: u64) -> Result<Created, KeysError> {
        let most = limits::KEY_NAME_BYTES_MAX;
        if new.name.is_empty() || new.name.len() > most || new.name.chars().any(char::is_control) {
            return Err(KeysError::Invalid(format!("a key's name has 1 to {most} bytes, and no control characters")));
        }
        if new.expires_s == Some(0) {
            return Err(KeysError::Invalid(
                "a key that has expired is good for nothing; leave --expires out".to_owned(),
            ));
        }
        let (id, (key, hash)) = (mint_id()?, mint()?);
        let at = self.at();
        let created = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|tx| {
            let n: u64 = tx.query_row("SELECT count(*) FROM keys", [], |r| r.get(0))?;
            if n >= limits::KEYS_MAX as u64 {
                return Ok(false);
            }
            let expires = new.expires_s.map(|s| now_s.saturating_add(s));
            tx.execute(
                "INSERT INTO keys(id, name, tier, created, expires) VALUES(?1, ?2, ?3, ?4, ?5)",
                params![id, new.name, new.tier, now_s, expires],
            )?;
            insert_secret(&tx, &id, hash, now_s)?;
            tx.commit()?;
            Ok(true)
        });
        match created.map_err(at)? {
            true => Ok(Created { id, key }),
            false => Err(KeysError::Invalid(format!("there are {} keys, and no more can be made", limits::KEYS_MAX))),
        }
    }

    /// All keys, by the time they were made.
    ///
    /// # Errors
    /// The database.
    pub fn list(&self) -> Result<Vec<KeyRow>, KeysError> {
        let sql = "SELECT id, name, tier, created, expires, revoked, last_used FROM keys ORDER BY created, id";
        let rows = self.connection.prepare(sql).and_then(|mut s| s.query_map([], key_row)?.collect());
        rows.map_err(self.at())
    }

    /// The key is good for nothing from now on. It stays in the list, and its usage in the ledger.
    ///
    /// # Errors
    /// No such key, the database.
    pub fn revoke(&mut self, id: &str, now_s: u64) -> Result<(), KeysError> {
        let at = self.at();
        let found = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|tx| {
            let sql = "UPDATE keys SET revoked = coalesce(revoked, ?2) WHERE id = ?1";
            let n = tx.execute(sql, params![id, now_s])?;
            tx.execute("DELETE FROM secrets WHERE key = ?1", [id])?;
            tx.commit()?;
            Ok(n == 1)
        });
        if found.map_err(at)? { Ok(()) } else { Err(KeysError::NoKey(id.to_owned())) }
    }

    /// Gives the key a new secret; older ones are good for `grace_s` more.
    ///
    /// # Errors
    /// No such key, a revoked one, too many secrets in their time of grace, no random bytes, the database.
    pub fn rotate(&mut self, id: &str, grace_s: u64, now_s: u64) -> Result<Created, KeysError> {
        let (key, hash) = mint()?;
        let at = self.at();
        let done = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|tx| {
            let sql = "SELECT revoked IS NOT NULL FROM keys WHERE id = ?1";
            match tx.query_row(sql, [id], |r| r.get(0)).optional()? {
                None => return Ok(Err(KeysError::NoKey(id.to_owned()))),
                Some(true) => return Ok(Err(KeysError::Revoked(id.to_owned()))),
                Some(false) => {}
            }
            let until = now_s.saturating_add(grace_s);
            tx.execute("UPDATE secrets SET until = min(coalesce(until, ?2), ?2) WHERE key = ?1", params![id, until])?;
            tx.execute("DELETE FROM secrets WHERE key = ?1 AND until <= ?2", params![id, now_s])?;
            let n: usize = tx.query_row("SELECT count(*) FROM secrets WHERE key = ?1", [id], |r| r.get(0))?;
            if n >= limits::KEY_SECRETS_MAX {
                let message = format!("{n} secrets of {id} are still good; rotate with --grace 0, or wait");
                return Ok(Err(KeysError::Invalid(message)));
            }
            insert_secret(&tx, id, hash, now_s)?;
            tx.commit()?;
            Ok(Ok(()))
        });
        done.map_err(at)??;
        Ok(Created { id: id.to_owned(), key })
    }

    /// Usage by day, key and model, in this order.
    ///
    /// # Errors
    /// The database.
    pub fn usage(&self, filter: &UsageFilter) -> Result<Vec<UsageRow>, KeysError> {
        let sql = "SELECT day, key, coalesce(name, ''), model, requests, input, cached_input, output, accepted_prediction, \
                   cost_pico FROM usage LEFT JOIN keys ON keys.id = usage.key \
                   WHERE (:key IS NULL OR key = :key) AND day >= :since ORDER BY day, key, model";
        let read = |r: &rusqlite::Row<'_>| {
            Ok(UsageRow {
                day: r.get(0)?,
                key: r.get(1)?,
                name: r.get(2)?,
                model: r.get(3)?,
                requests: r.get(4)?,
                tokens: Tokens {
                    input: r.get(5)?,
                    cached_input: r.get(6)?,
                    output: r.get(7)?,
                    accepted_prediction: r.get(8)?,
                },
                cost_pico: r.get(9)?,
            })
        };
        let named = named_params! { ":key": filter.key, ":since": filter.since.unwrap_or(i64::MIN) };
        let rows = self.connection.prepare(sql).and_then(|mut s| s.query_map(named, read)?.collect());
        rows.map_err(self.at())
    }

    /// Changes whenever another connection has changed the file.
    pub(crate) fn version(&self) -> Result<i64, KeysError> {
        self.connection.pragma_query_value(None, "data_version", |r| r.get(0)).map_err(self.at())
    }

    /// Every key that was ever made, with what opens it and what it used on this day.
    pub(crate) fn load(&self, day: i64) -> Result<Vec<Loaded>, KeysError> {
        let rows = self.list()?;
        self.load_rows(rows, day).map_err(self.at())
    }

    fn load_rows(&self, rows: Vec<KeyRow>, day: i64) -> rusqlite::Result<Vec<Loaded>> {
        let mut secrets = self.connection.prepare("SELECT hash, until FROM secrets WHERE key = ?1")?;
        let sql = "SELECT coalesce(sum(input + output), 0) FROM usage WHERE day = ?1 AND key = ?2";
        let mut day_tokens = self.connection.prepare(sql)?;
        let mut load = |row: KeyRow| {
            let found = secrets.query_map([&row.id], |r| Ok((KeyHash(r.get(0)?), r.get(1)?)))?;
            let found = found.collect::<rusqlite::Result<_>>()?;
            let day_tokens = day_tokens.query_row(params![day, row.id], |r| r.get(0))?;
            Ok(Loaded { row, secrets: found, day_tokens })
        };
        rows.into_iter().map(&mut load).collect()
    }

    /// Adds to the ledger, all of it or nothing. A key's last use is `touched`.
    pub(crate) fn add<'a>(
        &mut self,
        usage: impl Iterator<Item = (&'a UsageKey, &'a Sums)>,
        touched: impl Iterator<Item = (&'a str, u64)>,
    ) -> Result<(), KeysError> {
        let at = self.at();
        let write = || -> rusqlite::Result<()> {
            let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut add = tx.prepare(ADD_USAGE)?;
                for (k, s) in usage {
                    let (t, most) = (&s.tokens, i64::MAX.unsigned_abs());
                    let cost = s.cost_pico.min(most); // tokens never come near it
                    let (input, cached, output) = (t.input, t.cached_input, t.output);
                    add.execute(params![
                        k.day,
                        k.key,
                        k.model,
                        s.requests,
                        input,
                        cached,
                        output,
                        t.accepted_prediction,
                        cost
                    ])?;
                }
                let mut touch =
                    tx.prepare("UPDATE keys SET last_used = max(coalesce(last_used, 0), ?2) WHERE id = ?1")?;
                for (id, at_s) in touched {
                    touch.execute(params![id, at_s])?;
                }
            }
            tx.commit()
        };
        write().map_err(at)
    }
}

const ADD_USAGE: &str = "INSERT INTO usage VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO UPDATE SET \
    requests = requests + excluded.requests, input = input + excluded.input, \
    cached_input = cached_input + excluded.cached_input, output = output + excluded.output, \
    accepted_prediction = accepted_prediction + excluded.accepted_prediction, \
    cost_pico = cost_pico + min(excluded.cost_pico, 9223372036854775807 - cost_pico)";

/// Key, model and day.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UsageKey {
    pub(crate) key: String,
    pub(crate) model: String,
    pub(crate) day: i64,
}

fn insert_secret(tx: &Transaction<'_>, id: &str, hash: KeyHash, now_s: u64) -> rusqlite::Result<usize> {
    tx.execute("INSERT INTO secrets(hash, key, created) VALUES(?1, ?2, ?3)", params![hash.0, id, now_s])
}

fn key_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: r.get(0)?,
        name: r.get(1)?,
        tier: r.get(2)?,
        created: r.get(3)?,
        expires: r.get(4)?,
        revoked: r.get(5)?,
        last_used: r.get(6)?,
    })
}

/// SQLite gives its log the rights of the file, so the file is there with the right ones first.
fn make_private(path: &Path) -> Result<(), KeysError> {
    let io = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| KeysError::Io { doing, path, source }
    };
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(io("make the folder", folder))?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(io("open", path))
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Db({})", self.path.display())
    }
}

/// The key is never shown by accident.
impl std::fmt::Debug for Created {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Created({}, ..)", self.id)
    }
}
