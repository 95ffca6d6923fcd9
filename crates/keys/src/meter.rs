//! What a server asks: whose key is this, may this request begin, and here is what it used. All from memory.

use crate::Tokens;
use crate::account::{Account, Estimate, Refusal, Standing};
use crate::db::{Db, Loaded, Sums, UsageKey};
use crate::error::KeysError;
use crate::ledger::Ledger;
use crate::secret::KeyHash;
use crate::settings::{Settings, Tier};
use crate::time::day_of;
use base::limits;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The machine's.
pub fn system_clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64))
}

/// Seconds of an hour: last uses are kept no finer.
const HOUR_S: u64 = 3600;

/// Keys, quotas and usage of a server that runs.
pub struct Meter {
    shared: Arc<Shared>,
    ledger: Mutex<Option<Ledger>>,
}

/// What requests and the ledger's thread share.
pub(crate) struct Shared {
    settings: Settings,
    pub(crate) clock: Clock,
    book: RwLock<Arc<Book>>,
    pending: Mutex<Pending>,
    /// Only the ledger's thread, and whoever asks for a flush, wait for this.
    db: Mutex<File>,
}

struct File {
    db: Db,
    version: i64,
    is_failing: bool,
}

/// Usage that is not written yet.
#[derive(Default)]
struct Pending {
    usage: HashMap<UsageKey, Sums>,
    touched: HashMap<String, u64>,
}

/// All keys, as they were when the file was last read.
#[derive(Default)]
struct Book {
    by_hash: HashMap<KeyHash, Secret>,
    grants: HashMap<String, Arc<Grant>>,
}

struct Secret {
    grant: Arc<Grant>,
    until: Option<u64>,
}

/// A key that was shown, and what it may.
pub struct Grant {
    id: String,
    tier_name: String,
    tier: Arc<Tier>,
    has_tier: bool,
    expires: Option<u64>,
    live: Arc<Live>,
}

/// What stays when the file is read again.
struct Live {
    account: Mutex<Account>,
    used_hour: AtomicU64,
    turns: AtomicU64,
}

/// Why a key opens nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is none of ours, or no longer good. Which, is not told.
    Key,
    /// It is good, but its tier is not in the settings.
    Tier(String),
}

impl Grant {
    /// The key's id: no secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it may.
    pub fn tier(&self) -> &Tier {
        &self.tier
    }

    /// Of its weight's turns, the next: 0, 1, ...
    pub fn next_turn(&self) -> u64 {
        self.live.turns.fetch_add(1, Relaxed) % u64::from(self.tier.weight.max(1))
    }

    /// It may use this model, by one of its names.
    pub fn may_use<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> bool {
        self.tier().models.as_ref().is_none_or(|models| names.any(|n| models.iter().any(|m| m == n)))
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        lock(&self.live.account)
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant({}, {})", self.id, self.tier_name)
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meter({} keys)", self.shared.book().grants.len())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    /// Reads the keys, and starts the thread that follows the file and writes usage.
    ///
    /// # Errors
    /// The database; no thread.
    pub fn start(db: Db, settings: Settings, clock: Clock) -> Result<Self, KeysError> {
        // Whatever changes between the two is read again at the next look.
        let version = db.version()?;
        let shared = Arc::new(Shared {
            settings,
            clock,
            book: RwLock::default(),
            pending: Mutex::default(),
            db: Mutex::new(File { db, version, is_failing: false }),
        });
        let loaded = lock(&shared.db).db.load(shared.today())?;
        shared.take(loaded);
        let tick = Duration::from_millis(limits::LEDGER_TICK_MS);
        let ledger = Ledger::start(Arc::clone(&shared), tick).map_err(KeysError::Thread)?;
        Ok(Self { shared, ledger: Mutex::new(Some(ledger)) })
    }

    /// A key was made once: from then on nobody is served without one, also when all of them are revoked.
    pub fn is_locked(&self) -> bool {
        !self.shared.book().grants.is_empty()
    }

    /// Whose key this is.
    ///
    /// # Errors
    /// It is none, or no longer good; its tier is not in the settings.
    pub fn authenticate(&self, key: &[u8]) -> Result<Arc<Grant>, Unknown> {
        if key.len() > limits::KEY_BYTES_MAX {
            return Err(Unknown::Key);
        }
        let hash = KeyHash::of(key);
        let now_s = self.shared.now_ms() / 1000;
        let book = self.shared.book();
        let is_past = |end: Option<u64>| end.is_some_and(|end| end <= now_s);
        let secret = book.by_hash.get(&hash).filter(|s| !is_past(s.until) && !is_past(s.grant.expires));
        let grant = &secret.ok_or(Unknown::Key)?.grant;
        if !grant.has_tier {
            return Err(Unknown::Tier(grant.tier_name.clone()));
        }
        self.shared.touch(grant, now_s);
        Ok(Arc::clone(grant))
    }

    /// Takes what a request needs from the key's quotas, until the permit is settled or dropped. `names` are the model's, its
    /// own first; `queue` is the length of the server's queue.
    ///
    /// # Errors
    /// Why not; then nothing was taken.
    pub fn admit(
        &self,
        grant: &Arc<Grant>,
        names: &[&str],
        queue: usize,
        estimate: Estimate,
    ) -> Result<Permit, Refusal> {
        if !grant.may_use(names.iter().copied()) {
            return Err(Refusal::Model);
        }
        grant.account().admit(grant.tier(), queue as u64, &estimate, self.shared.now_ms())?;
        Ok(Permit {
            shared: Arc::clone(&self.shared),
            grant: Arc::clone(grant),
            model: names.first().copied().unwrap_or_default().to_owned(),
            estimate,
            used: None,
        })
    }

    /// Would the least request be admitted now? Asked before work is done for one.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, grant: &Grant, queue: usize) -> Result<(), Refusal> {
        let least = Estimate { prompt: 1, answer: 0, sequences: 1 };
        grant.account().check(grant.tier(), queue as u64, &least, self.shared.now_ms())
    }

    /// How much of its limits per minute a key has left.
    pub fn standing(&self, grant: &Grant) -> Standing {
        grant.account().standing(grant.tier(), self.shared.now_ms())
    }

    /// Writes usage and reads changes now, instead of within a moment.
    pub fn flush(&self) {
        self.shared.tick();
    }

    /// Writes what there is and ends the thread. Usage that comes later is lost.
    pub fn close(&self) {
        let ledger = lock(&self.ledger).take();
        if let Some(ledger) = ledger {
            ledger.end();
            self.shared.tick();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    fn today(&self) -> i64 {
        day_of(self.now_ms() / 1000)
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn touch(&self, grant: &Grant, now_s: u64) {
        let hour = now_s / HOUR_S;
        if grant.live.used_hour.swap(hour, Relaxed) != hour {
            lock(&self.pending).touched.insert(grant.id.clone(), hour * HOUR_S);
        }
    }

    /// Replaces the book. Counters of keys that were there go on.
    fn take(&self, loaded: Vec<Loaded>) {
        let (old, now_ms) = (self.book(), self.now_ms());
        let mut book = Book::default();
        for Loaded { row, secrets, day_tokens } in loaded {
            let known = self.settings.tier(&row.tier).cloned();
            let has_tier = known.is_some();
            let tier = known.unwrap_or_else(|| Arc::new(Tier::nothing()));
            let live = old.grants.get(&row.id).map_or_else(
                || {
                    let account = Mutex::new(Account::new(&tier, day_tokens, now_ms));
                    Arc::new(Live { account, used_hour: AtomicU64::new(0), turns: AtomicU64::new(0) })
                },
                |known| Arc::clone(&known.live),
            );
            let (id, tier_name, expires) = (row.id, row.tier, row.expires);
            let grant = Arc::new(Grant { id, tier_name, tier, has_tier, expires, live });
            let good = secrets.into_iter().filter(|_| row.revoked.is_none());
            book.by_hash.extend(good.map(|(hash, until)| (hash, Secret { grant: Arc::clone(&grant), until })));
            book.grants.insert(grant.id.clone(), grant);
        }
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
    }

    /// Adds a request's usage to what will be written.
    fn count(&self, grant: &Grant, model: &str, tokens: Tokens) {
        let cost_pico = self.settings.price(model).cost_pico(&tokens);
        let key = UsageKey { key: grant.id.clone(), model: model.to_owned(), day: self.today() };
        self.hold(key, &Sums { requests: 1, tokens, cost_pico });
    }

    fn hold(&self, key: UsageKey, sums: &Sums) {
        let mut pending = lock(&self.pending);
        if pending.usage.len() < limits::LEDGER_ROWS_MAX || pending.usage.contains_key(&key) {
            pending.usage.entry(key).or_default().add(sums);
        }
    }

    /// Writes usage, and reads the keys if another process has changed them. What cannot be written stays.
    pub(crate) fn tick(&self) {
        let mut file = lock(&self.db);
        let pending = std::mem::take(&mut *lock(&self.pending));
        let done = file.exchange(self, &pending);
        if let Err(Unwritten { why, is_usage_lost }) = &done
            && !file.is_failing
        {
            let what = if *is_usage_lost { "usage is not written" } else { "changes of keys are not seen" };
            eprintln!("note: {why}; {what} until this works again");
        }
        file.is_failing = done.is_err();
        if matches!(done, Err(Unwritten { is_usage_lost: true, .. })) {
            pending.usage.into_iter().for_each(|(key, sums)| self.hold(key, &sums));
            let mut now = lock(&self.pending);
            pending.touched.into_iter().for_each(|(id, at)| _ = now.touched.entry(id).or_insert(at));
        }
    }
}

struct Unwritten {
    why: KeysError,
    is_usage_lost: bool,
}

impl File {
    fn exchange(&mut self, shared: &Shared, pending: &Pending) -> Result<(), Unwritten> {
        let lost = |why| Unwritten { why, is_usage_lost: true };
        let unseen = |why| Unwritten { why, is_usage_lost: false };
        if !(pending.usage.is_empty() && pending.touched.is_empty()) {
            let touched = pending.touched.iter().map(|(id, at)| (id.as_str(), *at));
            self.db.add(pending.usage.iter(), touched).map_err(lost)?;
        }
        let version = self.db.version().map_err(unseen)?;
        if version != self.version {
            shared.take(self.db.load(shared.today()).map_err(unseen)?);
            self.version = version;
        }
        Ok(())
    }
}

/// A request's part of its key's quotas. Dropping it gives back what was not used.
pub struct Permit {
    shared: Arc<Shared>,
    grant: Arc<Grant>,
    model: String,
    estimate: Estimate,
    used: Option<Tokens>,
}

impl Permit {
    /// What was reckoned.
    pub fn estimate(&self) -> Estimate {
        self.estimate
    }

    /// The request has ended: this goes to the ledger.
    pub fn settle(mut self, used: Tokens) {
        self.used = Some(used);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let used = self.used.unwrap_or_default();
        self.grant.account().settle(&self.estimate, &used, self.shared.now_ms());
        if used != Tokens::default() {
            self.shared.count(&self.grant, &self.model, used);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({:?}, {:?})", self.grant, self.estimate)
    }
}
