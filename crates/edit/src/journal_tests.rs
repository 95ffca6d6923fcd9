//! The journal: conflicts, undo, rights, and a crash after every single step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.write("a", "old a");
        place.write("b", "old b");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    fn all(&self) -> [Option<String>; 3] {
        ["a", "b", "c"].map(|n| self.read(n))
    }

    fn change(&self, name: &str, after: &str) -> Change {
        Change { path: self.path(name), before: fs::read(self.path(name)).ok(), after: after.into() }
    }

    /// Changes of `a` and `b`, and a new `c`.
    fn changes(&self) -> [Change; 3] {
        [self.change("a", "new a"), self.change("b", "new b"), self.change("c", "new c")]
    }

    fn journal(&self) -> (Journal, Vec<String>) {
        Journal::open(&self.path("state")).unwrap()
    }

    /// Files that are none of ours.
    fn strays(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.starts_with('.')).collect()
    }
}

fn texts(texts: [&str; 2], c: Option<&str>) -> [Option<String>; 3] {
    [Some(texts[0].to_owned()), Some(texts[1].to_owned()), c.map(str::to_owned)]
}

const OLD: [&str; 2] = ["old a", "old b"];
const NEW: [&str; 2] = ["new a", "new b"];

#[test]
fn an_edit_is_written_listed_and_undone() {
    let place = Place::new();
    let (journal, lines) = place.journal();
    assert!(lines.is_empty());
    let id = journal.apply(&place.changes(), "say new", false).unwrap();
    assert_eq!(place.all(), texts(NEW, Some("new c")));
    let second = journal.apply(&[place.change("a", "newer")], "again", false).unwrap();
    let list = journal.list();
    assert_eq!(
        list.iter().map(|e| (e.id, e.state)).collect::<Vec<_>>(),
        [(second, State::Applied), (id, State::Applied)]
    );
    assert_eq!((list[1].note.as_str(), list[1].files.len()), ("say new", 3));
    assert!(matches!(journal.undo(Some(id), false), Err(EditError::Changed { since: "edited", .. })), "not in order");
    journal.undo(None, false).unwrap();
    assert_eq!(place.all(), texts(NEW, Some("new c")));
    journal.undo(None, false).unwrap();
    assert_eq!(place.all(), texts(OLD, None));
    assert!(
        journal.undo(None, false).is_err()
            && journal.undo(Some(id), false).is_err()
            && journal.undo(Some(99), true).is_err()
    );
    assert!(place.strays().is_empty());
}

#[test]
fn files_that_somebody_changed_are_left_alone() {
    let place = Place::new();
    let (journal, _) = place.journal();
    let changes = place.changes();
    place.write("b", "theirs");
    assert!(matches!(journal.apply(&changes, "", false), Err(EditError::Changed { since: "read", .. })));
    assert_eq!(place.all(), texts(["old a", "theirs"], None));
    let changes = place.changes();
    journal.apply(&changes, "", false).unwrap();
    place.write("b", "theirs again");
    assert!(journal.undo(None, false).is_err());
    assert_eq!(place.read("a").unwrap(), "new a", "all or nothing");
    let (_, kept) = journal.undo(None, true).unwrap();
    assert_eq!(place.all(), texts(["old a", "theirs"], None));
    assert_eq!(fs::read_to_string(&kept[0]).unwrap(), "theirs again");
}

#[test]
fn an_edit_that_cannot_be_written_leaves_everything() {
    let place = Place::new();
    let (journal, _) = place.journal();
    let mut changes = place.changes().to_vec();
    changes.push(Change { path: place.path("nowhere/d"), before: None, after: vec![] });
    assert!(journal.apply(&changes, "", false).is_err());
    assert_eq!((place.all(), place.strays()), (texts(OLD, None), vec![]));
    assert!(journal.list().iter().all(|e| e.state != State::Applied));
}

#[test]
fn a_checked_edit_stays_only_if_it_is_kept() {
    let place = Place::new();
    let (journal, _) = place.journal();
    let id = journal.apply(&place.changes(), "", true).unwrap();
    journal.keep(id).unwrap();
    drop(journal);
    let (journal, lines) = place.journal();
    assert_eq!((place.all(), lines.len()), (texts(NEW, Some("new c")), 0));
    journal.apply(&[place.change("a", "unchecked")], "", true).unwrap();
    drop(journal);
    let (_, lines) = place.journal();
    assert!(lines.len() == 1 && lines[0].contains("restored"), "{lines:?}");
    assert_eq!(place.read("a").unwrap(), "new a");
}

#[test]
#[cfg(unix)]
fn rights_stay_and_come_back() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o7777;
    fs::set_permissions(place.path("a"), fs::Permissions::from_mode(0o751)).unwrap();
    let (journal, _) = place.journal();
    journal.apply(&[place.change("a", "new")], "", false).unwrap();
    assert_eq!(mode("a"), 0o751);
    fs::remove_file(place.path("a")).unwrap();
    assert!(journal.undo(None, false).is_err(), "it is gone: changed");
    journal.undo(None, true).unwrap();
    assert_eq!((place.read("a").unwrap().as_str(), mode("a")), ("old a", 0o751));
    assert_eq!(mode("state/edits") & 0o077, 0, "nobody else reads the journal");
}

/// Runs `work` and dies at the n-th step; false if it ends before.
fn dies(place: &Place, n: usize, work: &dyn Fn(&Journal)) -> bool {
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&steps);
    let step = Box::new(move || assert!(counted.fetch_add(1, Relaxed) != n, "dies here"));
    catch_unwind(AssertUnwindSafe(|| {
        let (journal, _) = Journal::open_with(&place.path("state"), step).unwrap();
        work(&journal);
    }))
    .is_err()
}

#[test]
fn a_crash_after_any_step_leaves_all_or_nothing_and_undo_works() {
    let mut ends = std::collections::BTreeSet::new();
    for is_checked in [false, true] {
        for n in 0.. {
            let place = Place::new();
            let changes = place.changes();
            let is_dead = dies(&place, n, &|j| assert!(j.apply(&changes, "x", is_checked).is_ok()));
            let now = place.all();
            let is_whole =
                |i: usize, text: &str| ["old", "new"].iter().any(|v| text == format!("{v} {}", ["a", "b", "c"][i]));
            assert!(now.iter().enumerate().all(|(i, t)| t.as_ref().is_none_or(|t| is_whole(i, t))), "{now:?}");
            let (journal, _) = place.journal();
            let (now, strays) = (place.all(), place.strays());
            assert!(now == texts(OLD, None) || now == texts(NEW, Some("new c")), "after step {n}: {now:?}");
            assert!(strays.is_empty(), "{strays:?}");
            assert!(!is_checked || now == texts(OLD, None), "what was not checked does not stay");
            ends.insert(now.clone());
            if now == texts(NEW, Some("new c")) {
                journal.undo(None, false).unwrap();
                assert_eq!(place.all(), texts(OLD, None));
            }
            if !is_dead {
                break;
            }
            assert!(n < 100);
        }
    }
    assert_eq!(ends.len(), 2, "both ends were seen");
    // Undo, too; with a file that was changed since.
    for n in 0.. {
        let place = Place::new();
        place.journal().0.apply(&place.changes(), "x", false).unwrap();
        place.write("b", "theirs");
        let is_dead = dies(&place, n, &|j| drop(j.undo(None, true).unwrap()));
        let (journal, _) = place.journal();
        let now = place.all();
        assert!(now == texts(OLD, None) || now == texts(["new a", "theirs"], Some("new c")), "after step {n}: {now:?}");
        if !is_dead {
            assert_eq!(now, texts(OLD, None));
            break;
        }
        drop(journal);
        assert!(n < 100);
    }
}

#[test]
fn somebody_who_writes_after_a_crash_keeps_it() {
    let place = Place::new();
    let changes = place.changes();
    // 5 blobs, the plan, its folder, 3 staged files, then the first rename.
    assert!(dies(&place, 10, &|j| assert!(j.apply(&changes, "x", false).is_ok())));
    assert_eq!(place.all(), texts(["new a", "old b"], None));
    place.write("b", "theirs");
    let (journal, lines) = place.journal();
    assert!(lines[0].contains("left alone"), "{lines:?}");
    assert_eq!(place.all(), texts(["new a", "theirs"], None));
    journal.undo(None, true).unwrap();
    assert_eq!(place.all(), texts(OLD, None));
}

#[test]
fn a_damaged_journal_is_never_written_into_a_file() {
    let place = Place::new();
    let (journal, _) = place.journal();
    let id = journal.apply(&[place.change("a", "new a")], "", false).unwrap();
    fs::write(journal.blob(id, 0, "before"), "old").unwrap();
    assert!(journal.undo(None, true).unwrap_err().to_string().contains("damaged"));
    assert_eq!(place.read("a").unwrap(), "new a");
}

#[test]
fn the_journal_does_not_grow_without_end() {
    let place = Place::new();
    let (journal, _) = place.journal();
    let first = journal.apply(&[place.change("a", "new a")], "", false).unwrap();
    let files = ["plan.json", "state", "0.before", "0.after"];
    for id in first + 1..first + limits::EDIT_JOURNAL_LEN_MAX as u64 + 3 {
        fs::create_dir(journal.folder(id)).unwrap();
        for file in files {
            fs::copy(journal.folder(first).join(file), journal.folder(id).join(file)).unwrap();
        }
    }
    let last = journal.apply(&[place.change("b", "new b")], "", false).unwrap();
    assert_eq!((journal.list().len(), journal.list()[0].id), (limits::EDIT_JOURNAL_LEN_MAX, last));
    journal.undo(None, false).unwrap();
    assert_eq!(place.read("b").unwrap(), "old b");
}
