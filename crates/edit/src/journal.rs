//! Edits on disk. Before a file is touched, its old and its new bytes and the plan lie in the journal, flushed; then each file is
//! replaced whole by a rename. Whatever kills us in between, the next command finishes the edit or takes it back, and `undo`
//! restores every byte. One program at a time: the journal is locked while it is used.
//!
//! An edit's folder `NNNNNNNN` has `plan.json`, `I.before` and `I.after` of the I-th file, `I.kept` where an undo by force
//! overwrote something else, and `state`. A folder `new-*` was never begun.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base::limits;
use client::place;
use serde::{Deserialize, Serialize};

use crate::error::EditError;
use crate::files;

/// One file's change.
#[derive(Clone, Debug)]
pub struct Change {
    /// Links resolved.
    pub path: PathBuf,
    /// What was read; `None`: there was no file.
    pub before: Option<Vec<u8>>,
    /// What is to be written.
    pub after: Vec<u8>,
}

/// Where an edit is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In the journal, perhaps partly in the files.
    Prepared,
    /// In the files, until a check says otherwise.
    Checking,
    /// In the files.
    Applied,
    /// On its way back.
    Undoing,
    /// Back.
    Undone,
    /// It never took place.
    Aborted,
    /// Interrupted, and then somebody else wrote to the files: left alone.
    Conflict,
}

impl State {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Checking => "checking",
            Self::Applied => "applied",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::Aborted => "aborted",
            Self::Conflict => "conflict",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    unix_s: u64,
    note: String,
    is_checked: bool,
    files: Vec<Planned>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Planned {
    path: PathBuf,
    /// The new file beside it, before the rename.
    temp: PathBuf,
    /// SHA-256; `None`: there was no file.
    before: Option<String>,
    after: String,
    mode: Option<u32>,
}

/// An edit, for lists.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its number.
    pub id: u64,
    /// When.
    pub unix_s: u64,
    /// The instruction.
    pub note: String,
    /// See there.
    pub state: State,
    /// Its files.
    pub files: Vec<PathBuf>,
}

/// The journal, locked.
pub struct Journal {
    dir: PathBuf,
    /// Called after each step that a crash could come after; tests crash there.
    step: Box<dyn Fn() + Send>,
    _lock: File,
}

/// Side of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

impl Journal {
    /// Opens it and brings interrupted edits to an end; returns a line for each.
    ///
    /// # Errors
    /// A folder that cannot be used; another program that holds it for too long.
    pub fn open(state_dir: &Path) -> Result<(Self, Vec<String>), EditError> {
        Self::open_with(state_dir, Box::new(|| {}))
    }

    fn open_with(state_dir: &Path, step: Box<dyn Fn() + Send>) -> Result<(Self, Vec<String>), EditError> {
        let dir = state_dir.join("edits");
        place::make_private_dir(&dir).map_err(EditError::io("cannot make the folder", &dir))?;
        let journal = Self { _lock: lock(&dir.join("lock"))?, dir, step };
        let lines = journal.recover()?;
        Ok((journal, lines))
    }

    /// Every edit, the newest first.
    pub fn list(&self) -> Vec<Entry> {
        let entry = |id| {
            let Plan { unix_s, note, files, .. } = self.plan(id)?;
            Some(Entry { id, unix_s, note, state: self.state(id), files: files.into_iter().map(|f| f.path).collect() })
        };
        self.ids().into_iter().rev().filter_map(entry).collect()
    }

    /// Writes the changes: all of them or none. With `is_checked` it lasts only if `keep` is called; the next one who opens the
    /// journal takes it back otherwise.
    ///
    /// # Errors
    /// A file that was changed since it was read; the system's. Then no file is changed.
    pub fn apply(&self, changes: &[Change], note: &str, is_checked: bool) -> Result<u64, EditError> {
        if changes.len() > limits::EDIT_FILES_MAX {
            return Err(EditError::Journal(format!("one edit takes at most {} files", limits::EDIT_FILES_MAX)));
        }
        let id = self.ids().last().map_or(1, |last| last + 1);
        let plan = self.prepare(id, changes, note, is_checked)?;
        match self.forward(id, &plan) {
            Ok(()) => {
                self.set_state(id, if is_checked { State::Checking } else { State::Applied })?;
                self.prune(id);
                Ok(id)
            }
            Err(e) => {
                self.backward(id, &plan)?;
                self.set_state(id, State::Aborted)?;
                Err(e)
            }
        }
    }

    /// A checked edit passed.
    ///
    /// # Errors
    /// The system's.
    pub fn keep(&self, id: u64) -> Result<(), EditError> {
        self.set_state(id, State::Applied)
    }

    /// Restores the files of an edit, the last applied one by default. With `force` also files that were changed since; what was
    /// in them stays in the journal, and these paths are returned.
    ///
    /// # Errors
    /// No such edit; without `force` a file that was changed since; the system's.
    pub fn undo(&self, id: Option<u64>, force: bool) -> Result<(Entry, Vec<PathBuf>), EditError> {
        let list = self.list();
        let is_open = |e: &&Entry| matches!(e.state, State::Applied | State::Checking | State::Conflict);
        let entry = match id {
            Some(id) => list.iter().find(|e| e.id == id),
            None => list.iter().find(is_open),
        };
        let none =
            || EditError::Journal("there is no edit to undo; `vonk undo --list` shows all that are known".to_owned());
        let entry = entry.ok_or_else(none)?;
        if !is_open(&entry) {
            return Err(EditError::Journal(format!("edit {} is {} already", entry.id, entry.state.as_str())));
        }
        let plan = self.plan(entry.id).ok_or_else(none)?;
        let mut kept = Vec::new();
        for (i, file) in plan.files.iter().enumerate() {
            if self.side(file)?.is_some() {
                continue;
            }
            if !force {
                return Err(EditError::Changed { path: file.path.clone(), since: "edited" });
            }
            if let Some(bytes) = files::read(&file.path)? {
                let path = self.blob(entry.id, i, "kept");
                place::write_private(&path, &bytes).map_err(EditError::io("cannot write", &path))?;
                kept.push(path);
            }
        }
        self.set_state(entry.id, State::Undoing)?;
        for (i, file) in plan.files.iter().enumerate() {
            self.put(entry.id, i, file, Side::Before)?;
        }
        self.set_state(entry.id, State::Undone)?;
        Ok((Entry { state: State::Undone, ..entry.clone() }, kept))
    }

    /// Puts plan and bytes into the journal.
    fn prepare(&self, id: u64, changes: &[Change], note: &str, is_checked: bool) -> Result<Plan, EditError> {
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let files = changes.iter().map(planned).collect();
        let plan = Plan { unix_s, note: note.to_owned(), is_checked, files };
        for file in &plan.files {
            if self.side(file)? != Some(Side::Before) {
                return Err(EditError::Changed { path: file.path.clone(), since: "read" });
            }
        }
        let new = self.dir.join(format!("new-{id:08}"));
        let written = || -> std::io::Result<()> {
            place::make_private_dir(&new)?;
            for (i, change) in changes.iter().enumerate() {
                let sides = [("before", change.before.as_deref()), ("after", Some(change.after.as_slice()))];
                for (side, bytes) in sides.into_iter().filter_map(|(side, bytes)| Some((side, bytes?))) {
                    let mut file = place::private().open(new.join(format!("{i}.{side}")))?;
                    file.write_all(bytes)?;
                    file.sync_all()?;
                    (self.step)();
                }
            }
            place::write_private(&new.join("plan.json"), &serde_json::to_vec(&plan)?)?;
            (self.step)();
            fs::rename(&new, self.folder(id))?;
            place::sync_dir(&self.dir)
        };
        written().map_err(EditError::io("cannot write the journal in", &self.dir))?;
        (self.step)();
        Ok(plan)
    }

    /// Replaces the files, after all the new ones lie beside them.
    fn forward(&self, id: u64, plan: &Plan) -> Result<(), EditError> {
        for (i, file) in plan.files.iter().enumerate() {
            files::stage(&file.temp, &file.path, &self.bytes(id, i, Side::After)?, file.mode)?;
            (self.step)();
        }
        for file in &plan.files {
            if self.side(file)? != Some(Side::Before) {
                return Err(EditError::Changed { path: file.path.clone(), since: "read" });
            }
            files::replace(&file.temp, &file.path)?;
            (self.step)();
        }
        Ok(())
    }

    /// Takes back what was replaced, and removes what lies beside.
    fn backward(&self, id: u64, plan: &Plan) -> Result<(), EditError> {
        for (i, file) in plan.files.iter().enumerate() {
            files::remove(&file.temp)?;
            if self.side(file)? == Some(Side::After) {
                self.put(id, i, file, Side::Before)?;
            }
        }
        Ok(())
    }

    /// Gives a file the bytes of one side, whatever it has.
    fn put(&self, id: u64, i: usize, file: &Planned, side: Side) -> Result<(), EditError> {
        if self.side(file)? == Some(side) {
            return Ok(());
        }
        files::remove(&file.temp)?;
        if side == Side::Before && file.before.is_none() {
            files::remove(&file.path)?;
        } else {
            files::stage(&file.temp, &file.path, &self.bytes(id, i, side)?, file.mode)?;
            (self.step)();
            files::replace(&file.temp, &file.path)?;
        }
        (self.step)();
        Ok(())
    }

    /// Which side of the change a file has now; `None`: neither.
    fn side(&self, file: &Planned) -> Result<Option<Side>, EditError> {
        let now = files::read(&file.path)?.as_deref().map(files::digest);
        // An edit that changes nothing is on both sides: before.
        let is_before = now == file.before;
        Ok(if is_before { Some(Side::Before) } else { (now.as_ref() == Some(&file.after)).then_some(Side::After) })
    }

    /// Ends what a crash interrupted.
    fn recover(&self) -> Result<Vec<String>, EditError> {
        let mut lines = Vec::new();
        for name in self.names() {
            if name.starts_with("new-") {
                let path = self.dir.join(name);
                fs::remove_dir_all(&path).map_err(EditError::io("cannot remove", &path))?;
            }
        }
        for id in self.ids() {
            let state = self.state(id);
            if let (State::Prepared | State::Checking | State::Undoing, Some(plan)) = (state, self.plan(id)) {
                let end = self.resolve(id, &plan, state)?;
                self.set_state(id, end)?;
                let what = match end {
                    State::Applied => "it is finished now",
                    State::Conflict => {
                        "its files were changed since and are left alone; `vonk undo --force` restores them"
                    }
                    State::Aborted => "nothing of it had been written",
                    _ => "its files are restored",
                };
                lines.push(format!("edit {id} ({}) was interrupted: {what}", client::printable(&plan.note, 60)));
            }
        }
        Ok(lines)
    }

    fn resolve(&self, id: u64, plan: &Plan, state: State) -> Result<State, EditError> {
        let mut sides = Vec::new();
        for (i, file) in plan.files.iter().enumerate() {
            files::remove(&file.temp)?;
            let kept = fs::read(self.blob(id, i, "kept")).ok();
            let is_kept = state == State::Undoing && kept.is_some() && files::read(&file.path)? == kept;
            sides.push(if is_kept { Some(Side::After) } else { self.side(file)? });
        }
        let has_begun = sides.contains(&Some(Side::After));
        let end = match state {
            _ if sides.contains(&None) => return Ok(State::Conflict),
            State::Prepared if !has_begun => State::Aborted,
            State::Prepared if !plan.is_checked => State::Applied,
            _ => State::Undone,
        };
        let side = if end == State::Applied { Side::After } else { Side::Before };
        for (i, file) in plan.files.iter().enumerate() {
            self.put(id, i, file, side)?;
        }
        Ok(end)
    }

    /// Removes the oldest edits that are over, beyond the bounds.
    fn prune(&self, newest: u64) {
        let bytes = |id: u64| -> u64 {
            let entries = fs::read_dir(self.folder(id)).into_iter().flatten();
            entries.filter_map(|e| e.ok()?.metadata().ok()).map(|m| m.len()).sum()
        };
        let (mut n, mut total) = (0, 0);
        for id in self.ids().into_iter().rev() {
            n += 1;
            total += bytes(id);
            if id != newest && (n > limits::EDIT_JOURNAL_LEN_MAX || total > limits::EDIT_JOURNAL_BYTES_MAX) {
                let _ = fs::remove_dir_all(self.folder(id)); // it is tried again next time
            }
        }
    }

    fn folder(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:08}"))
    }

    fn blob(&self, id: u64, i: usize, side: &str) -> PathBuf {
        self.folder(id).join(format!("{i}.{side}"))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten();
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()
    }

    /// In order.
    fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.names().iter().filter(|n| n.len() >= 8).filter_map(|n| n.parse().ok()).collect();
        ids.sort_unstable();
        ids
    }

    fn plan(&self, id: u64) -> Option<Plan> {
        let mut bytes = Vec::new();
        let file = File::open(self.folder(id).join("plan.json")).ok()?;
        file.take(limits::EDIT_PLAN_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn state(&self, id: u64) -> State {
        let text = fs::read(self.folder(id).join("state")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or(State::Prepared)
    }

    fn set_state(&self, id: u64, state: State) -> Result<(), EditError> {
        let path = self.folder(id).join("state");
        let bytes = serde_json::to_vec(&state).unwrap_or_default();
        place::write_private(&path, &bytes).map_err(EditError::io("cannot write", &path))?;
        (self.step)();
        Ok(())
    }

    /// The bytes of a side, if they are those of the plan.
    fn bytes(&self, id: u64, i: usize, side: Side) -> Result<Vec<u8>, EditError> {
        let path = self.blob(id, i, if side == Side::Before { "before" } else { "after" });
        let bytes = fs::read(&path).map_err(EditError::io("cannot read", &path))?;
        let plan = self.plan(id);
        let file = plan.as_ref().and_then(|p| p.files.get(i));
        let want = file.and_then(|f| if side == Side::Before { f.before.as_ref() } else { Some(&f.after) });
        match want == Some(&files::digest(&bytes)) {
            true => Ok(bytes),
            false => Err(EditError::Journal(format!("{} is damaged; nothing was written", path.display()))),
        }
    }
}

fn planned(change: &Change) -> Planned {
    let name = change.path.file_name().unwrap_or_default().to_string_lossy();
    let salt = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    Planned {
        path: change.path.clone(),
        temp: change.path.with_file_name(format!(".{name}.vonk-{}-{salt:x}", std::process::id())),
        before: change.before.as_deref().map(files::digest),
        after: files::digest(&change.after),
        mode: files::mode(&change.path),
    }
}

fn lock(path: &Path) -> Result<File, EditError> {
    let file = place::private().open(path).map_err(EditError::io("cannot open", path))?;
    let end = Instant::now() + Duration::from_secs(limits::EDIT_LOCK_S_MAX);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < end => sleep(Duration::from_millis(10)),
            Err(fs::TryLockError::WouldBlock) => {
                return Err(EditError::Journal(
                    "another `vonk edit` is writing or checking; try again after it".to_owned(),
                ));
            }
            Err(fs::TryLockError::Error(e)) => return Err(EditError::io("cannot lock", path)(e)),
        }
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
