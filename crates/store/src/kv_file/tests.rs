//! What a reader may show: nothing but what was pushed, whatever happened to the file. Crashes and bad disks are played on
//! copies of what the real writer had written at each of its steps.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use base::rng;

const PAGE_LEN: usize = 4;
const PAGE_BYTES: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    parent: Option<u32>,
    salt: u64,
    tokens: Vec<u32>,
    bytes: Vec<u8>,
}

impl Page {
    fn of(r: KvRecord<'_>) -> Self {
        Self { parent: r.parent, salt: r.salt, tokens: r.tokens.to_vec(), bytes: r.bytes.to_vec() }
    }
    fn record(&self) -> KvRecord<'_> {
        KvRecord { parent: self.parent, salt: self.salt, tokens: &self.tokens, bytes: &self.bytes }
    }
}

/// A forest of `n` pages: some hang below a whole page before them.
fn forest(seed: u64, n: usize) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    for i in 0..n {
        let draw = |lane| rng::bits(seed, i as u64, lane);
        let above = (draw(1) % (i as u64 + 1)) as usize;
        let parent = pages.get(above).filter(|p| p.tokens.len() == PAGE_LEN);
        let salt = parent.map_or(draw(2) % 3, |p| p.salt);
        let parent = parent.map(|_| above as u32);
        let len = if draw(3).is_multiple_of(4) { 1 + draw(4) as usize % PAGE_LEN } else { PAGE_LEN };
        let tokens = (0..len as u64).map(|t| draw(10 + t) as u32).collect();
        let bytes = (0..PAGE_BYTES as u64).map(|b| draw(20 + b) as u8).collect();
        pages.push(Page { parent, salt, tokens, bytes });
    }
    pages
}

fn unbounded() -> KvLimits {
    KvLimits { file_bytes_max: u64::MAX, spare_bytes: 0 }
}

fn file(dir: &Path) -> KvFile {
    KvFile::open(dir, "m", PAGE_LEN, PAGE_BYTES, unbounded()).unwrap()
}

fn save(file: &KvFile, pages: &[Page]) -> Result<KvWritten, StoreError> {
    let mut writer = file.begin()?;
    for (i, page) in pages.iter().enumerate() {
        assert_eq!(writer.push(&page.record())?, Some(i as u32));
    }
    writer.commit()
}

fn load(file: &KvFile) -> (Vec<Page>, KvRead) {
    let mut pages = Vec::new();
    let report = file.read(|number, r| {
        assert_eq!(number as usize, pages.len(), "only for files without damage");
        pages.push(Page::of(r));
        ControlFlow::Continue(())
    });
    (pages, report.unwrap())
}

fn form() -> Form {
    Form::new("m", PAGE_LEN, PAGE_BYTES).unwrap()
}

fn image(pages: &[Page], id: u8) -> Vec<u8> {
    let (mut all, mut encoder) = Encoder::new(&form(), [id; 16]);
    let mut buffer = Vec::new();
    for page in pages {
        encoder.encode(&page.record(), &mut buffer).unwrap();
        all.extend(&buffer);
    }
    all
}

fn read_image(bytes: &[u8]) -> (BTreeMap<u32, Page>, KvRead) {
    let mut pages = BTreeMap::new();
    let report = format::read(&form(), bytes, &mut |number, r| {
        assert!(pages.insert(number, Page::of(r)).is_none());
        ControlFlow::Continue(())
    });
    (pages, report.unwrap())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn temps(dir: &Path) -> usize {
    names(dir).iter().filter(|n| n.contains(".tmp-")).count()
}

#[test]
fn a_snapshot_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let kv = file(dir.path());
    assert_eq!(load(&kv), (Vec::new(), KvRead::default()));
    for seed in 0..5 {
        let pages = forest(seed, 30 * seed as usize);
        let written = save(&kv, &pages).unwrap();
        assert_eq!(written.records, pages.len());
        assert_eq!(written.bytes, fs::metadata(kv.path()).unwrap().len());
        let report = KvRead { accepted: pages.len(), ..KvRead::default() };
        assert_eq!(load(&file(dir.path())), (pages, report));
    }
    let mut n = 0;
    let two = |_: u32, _: KvRecord<'_>| {
        n += 1;
        if n == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert_eq!(kv.read(two).unwrap().accepted, 2);
}

/// Whose pages are lost with page `i`: its own and all below.
fn lost_with(pages: &[Page], i: usize) -> Vec<bool> {
    let mut lost = vec![false; pages.len()];
    for (j, p) in pages.iter().enumerate() {
        lost[j] = j == i || p.parent.is_some_and(|p| lost[p as usize]);
    }
    lost
}

#[test]
fn every_flipped_bit_loses_a_record_and_its_children_and_nothing_else() {
    let pages = forest(7, 8);
    let sound = image(&pages, 1);
    for bit in 0..8 * sound.len() {
        let mut damaged = sound.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let (got, report) = read_image(&damaged);
        let Some(at) = (bit / 8).checked_sub(format::HEADER_BYTES) else {
            assert!(got.is_empty() && report.refused.is_some(), "bit {bit} of the header: {report:?}");
            continue;
        };
        let lost = lost_with(&pages, at / form().record_bytes());
        let want: BTreeMap<u32, Page> = (0..).zip(pages.clone()).filter(|(i, _)| !lost[*i as usize]).collect();
        assert_eq!(got, want, "bit {bit}");
        assert_eq!((report.accepted, report.rejected), (want.len(), pages.len() - want.len()));
    }
}

#[test]
fn every_truncation_keeps_the_whole_records() {
    let pages = forest(8, 8);
    let sound = image(&pages, 1);
    for len in 0..sound.len() {
        let (got, report) = read_image(&sound[..len]);
        let after = len.checked_sub(format::HEADER_BYTES);
        assert_eq!(report.refused.is_some(), after.is_none());
        let whole = after.unwrap_or(0) / form().record_bytes();
        assert_eq!(report.is_cut, after.unwrap_or(0) % form().record_bytes() != 0);
        assert!(got.values().eq(&pages[..whole]), "{len} bytes");
    }
}

#[test]
fn a_record_of_another_file_or_place_is_not_accepted() {
    let (a, b) = (forest(1, 9), forest(2, 9));
    let (x, y) = (image(&a, 1), image(&b, 2));
    // The same pages under another number: what an older snapshot left in a recycled block.
    let again = image(&a, 3);
    let at = |i: usize| {
        let start = format::HEADER_BYTES + i * form().record_bytes();
        start..start + form().record_bytes()
    };
    for i in 0..9 {
        for (from, source) in (0..9).flat_map(|j| [(j, &x), (j, &y), (j, &again)]) {
            let mut mixed = x.clone();
            mixed[at(i)].copy_from_slice(&source[at(from)]);
            let (got, report) = read_image(&mixed);
            let n_lost = if from == i && source == &x { 0 } else { lost_with(&a, i).iter().filter(|l| **l).count() };
            assert_eq!(report.rejected, n_lost);
            assert!(got.iter().all(|(n, p)| a[*n as usize] == *p));
        }
    }
}

#[test]
fn a_page_without_a_place_is_refused_and_the_next_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let kv = file(dir.path());
    let mut writer = kv.begin().unwrap();
    let page =
        |parent, salt, n_tokens, n_bytes| Page { parent, salt, tokens: vec![5; n_tokens], bytes: vec![6; n_bytes] };
    let good = [page(None, 3, PAGE_LEN, PAGE_BYTES), page(Some(0), 3, 1, PAGE_BYTES)];
    let bad = [
        page(Some(2), 3, 1, PAGE_BYTES),
        page(Some(u32::MAX), 3, 1, PAGE_BYTES),
        page(Some(0), 4, 1, PAGE_BYTES),
        page(Some(1), 3, 1, PAGE_BYTES),
        page(None, 0, 0, PAGE_BYTES),
        page(None, 0, PAGE_LEN + 1, PAGE_BYTES),
        page(None, 0, 1, PAGE_BYTES - 1),
        page(None, 0, 1, PAGE_BYTES + 1),
    ];
    for g in &good {
        writer.push(&g.record()).unwrap().unwrap();
        for b in bad.iter().filter(|b| b.parent.is_none() || b.parent == Some(2)) {
            assert!(matches!(writer.push(&b.record()), Err(StoreError::KvMisuse { .. })), "{b:?}");
        }
    }
    for b in &bad {
        assert!(matches!(writer.push(&b.record()), Err(StoreError::KvMisuse { .. })), "{b:?}");
    }
    writer.commit().unwrap();
    assert_eq!(load(&kv).0, good);
    for (len, bytes) in [(0, 1), (1, 0), (usize::MAX, 1), (1, usize::MAX)] {
        assert!(matches!(KvFile::open(dir.path(), "m", len, bytes, unbounded()), Err(StoreError::KvMisuse { .. })));
    }
}

#[test]
fn a_snapshot_ends_at_its_bound_with_the_first_pages() {
    let dir = tempfile::tempdir().unwrap();
    let pages = forest(3, 10);
    let limits = KvLimits { file_bytes_max: 1000, spare_bytes: 0 };
    let kv = KvFile::open(dir.path(), "m", PAGE_LEN, PAGE_BYTES, limits).unwrap();
    let mut writer = kv.begin().unwrap();
    let n = pages.iter().map_while(|p| writer.push(&p.record()).unwrap()).count();
    assert_eq!(n, (1000 - format::HEADER_BYTES) / form().record_bytes());
    assert!(writer.commit().unwrap().bytes <= 1000);
    assert_eq!(load(&kv).0, pages[..n]);
}

#[test]
fn one_writes_at_a_time_and_readers_see_the_last_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (kv, old) = (file(dir.path()), forest(1, 5));
    save(&kv, &old).unwrap();
    let mut writer = kv.begin().unwrap();
    writer.push(&forest(2, 1)[0].record()).unwrap();
    let other = file(dir.path());
    assert_eq!(temps(dir.path()), 1, "opening removed a living writer's file");
    assert!(matches!(other.begin(), Err(StoreError::KvBusy { .. })));
    assert_eq!(load(&other).0, old);
    drop(writer);
    assert_eq!((temps(dir.path()), load(&other).0), (0, old));
    save(&other, &forest(3, 5)).unwrap();
    assert_eq!(load(&kv).0, forest(3, 5));
}

#[test]
fn what_is_another_models_is_neither_read_nor_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let kv = file(dir.path());
    save(&kv, &forest(1, 5)).unwrap();
    for (fingerprint, len, bytes) in
        [("n", PAGE_LEN, PAGE_BYTES), ("m", PAGE_LEN + 1, PAGE_BYTES), ("m", PAGE_LEN, PAGE_BYTES + 1)]
    {
        let other = KvFile::open(dir.path(), fingerprint, len, bytes, unbounded()).unwrap();
        if other.path() != kv.path() {
            assert_eq!(other.read(|_, _| ControlFlow::Continue(())).unwrap(), KvRead::default());
            fs::copy(kv.path(), other.path()).unwrap();
        }
        let report = other.read(|_, _| unreachable!()).unwrap();
        assert!(report.refused.is_some() && report.accepted == 0, "{fingerprint} {len} {bytes}: {report:?}");
    }
    fs::write(kv.path(), "something else altogether, and longer than a header is: ".repeat(4)).unwrap();
    assert!(kv.read(|_, _| unreachable!()).unwrap().refused.is_some());
    assert_eq!(save(&kv, &forest(2, 3)).unwrap().records, 3);
    assert_eq!(load(&kv).0, forest(2, 3));
}

#[test]
#[cfg(unix)]
fn only_this_user_can_look_and_links_and_pipes_are_not_followed() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("kv");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let kv = file(&dir);
    save(&kv, &forest(1, 3)).unwrap();
    assert_eq!((mode(&dir), mode(&kv.path())), (0o700, 0o600));
    assert_eq!(mode(&{ file(&above.path().join("a/b")).dir }), 0o700);
    fs::rename(kv.path(), above.path().join("elsewhere")).unwrap();
    symlink(above.path().join("elsewhere"), kv.path()).unwrap();
    assert!(kv.read(|_, _| unreachable!()).is_err());
    save(&kv, &forest(2, 3)).unwrap();
    assert_eq!(load(&kv).0, forest(2, 3));
    fs::remove_file(kv.path()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(kv.path()).status().unwrap().success());
    assert!(kv.read(|_, _| unreachable!()).unwrap().refused.is_some());
}

#[test]
fn the_oldest_files_of_other_models_go() {
    let dir = tempfile::tempdir().unwrap();
    let kv = |i: usize| KvFile::open(dir.path(), &format!("m{i}"), PAGE_LEN, PAGE_BYTES, unbounded()).unwrap();
    for i in 0..KV_FILES_MAX + 2 {
        save(&kv(i), &forest(i as u64, 2)).unwrap();
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(i as u64);
        File::options().write(true).open(kv(i).path()).unwrap().set_modified(at).unwrap();
    }
    for i in 0..KV_FILES_MAX + 2 {
        assert_eq!(load(&kv(i)).0.len(), if i < 2 { 0 } else { 2 }, "{i}");
    }
}

#[test]
fn a_disk_that_fails_at_any_step_costs_the_new_snapshot_only() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (forest(1, 6), forest(2, 9));
    save(&file(dir.path()), &old).unwrap();
    for n in 1.. {
        let steps = AtomicUsize::new(0);
        let mut kv = file(dir.path());
        kv.watch = Some(Box::new(move |step, _| {
            let is_now = steps.fetch_add(1, Ordering::Relaxed) + 1 == n && step != Step::SyncDir;
            if is_now { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }));
        let saved = save(&kv, &new);
        assert_eq!(temps(dir.path()), 0);
        if let Ok(written) = saved {
            assert_eq!((written.records, n), (9, 14), "create, header, 9 pages, sync, rename each failed once");
            break;
        }
        assert!(matches!(&saved, Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull));
        assert_eq!(load(&file(dir.path())).0, old, "step {n}");
    }
    assert_eq!(load(&file(dir.path())).0, new);
}

#[test]
fn a_failed_writer_gives_its_room_back_at_once_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut kv = file(dir.path());
    let writes = AtomicUsize::new(0);
    kv.watch = Some(Box::new(move |step, _| {
        let is_third = step == Step::Write && writes.fetch_add(1, Ordering::Relaxed) == 2;
        if is_third { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }));
    let pages = forest(1, 4);
    let mut writer = kv.begin().unwrap();
    writer.push(&pages[0].record()).unwrap();
    assert!(writer.push(&pages[1].record()).is_err());
    assert_eq!((writer.file.metadata().unwrap().len(), temps(dir.path())), (0, 0));
    assert!(writer.push(&pages[1].record()).is_err());
    assert!(writer.commit().is_err());
    assert_eq!(load(&kv).0, []);
}

#[test]
#[cfg(unix)]
fn room_is_left_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let limits = KvLimits { spare_bytes: u64::MAX / 2, ..unbounded() };
    let kv = KvFile::open(dir.path(), "m", PAGE_LEN, PAGE_BYTES, limits).unwrap();
    assert!(matches!(kv.begin(), Err(StoreError::DiskShort { .. })));
    assert_eq!(temps(dir.path()), 0);
}

/// What one step found: the unfinished file's content as the system sees it.
type Trace = Arc<Mutex<Vec<(Step, Vec<u8>)>>>;

/// Saves `pages` and remembers each step.
fn traced(dir: &Path, pages: &[Page]) -> Vec<(Step, Vec<u8>)> {
    let trace = Trace::default();
    let mut kv = file(dir);
    let into = trace.clone();
    kv.watch = Some(Box::new(move |step, path| {
        into.lock().unwrap().push((step, fs::read(path).unwrap_or_default()));
        Ok(())
    }));
    save(&kv, pages).unwrap();
    trace.lock().unwrap().clone()
}

const SECTOR: usize = 64;

/// `cached` as a disk may have it that lost power: sectors are there, or are not, or are half there, or hold what another
/// file left in them; the end may be missing.
fn torn(seed: u64, cached: &[u8], left: &[u8]) -> Vec<u8> {
    let mut out = cached.to_vec();
    let draw = |at: usize, lane| rng::bits(seed, at as u64, lane);
    let evil = draw(0, 1) % 16;
    for (i, sector) in out.chunks_mut(SECTOR).enumerate() {
        let from = match draw(i, 2) % 16 {
            n if n >= evil => continue,
            n if n % 3 == 0 => sector.len() / 2,
            _ => 0,
        };
        let stale = left.get(i * SECTOR..).unwrap_or_default();
        let is_stale = draw(i, 3) % 2 == 0;
        for (k, b) in sector.iter_mut().enumerate().skip(from) {
            *b = if is_stale { stale.get(k).copied().unwrap_or(0) } else { 0 };
        }
    }
    if draw(0, 4).is_multiple_of(3) {
        out.truncate(draw(0, 5) as usize % (cached.len() + 1));
    }
    out
}

fn seeds(or: u64) -> u64 {
    std::env::var("VONK_KV_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(or)
}

/// A power cut before each step, on a disk that keeps its word: what was synced stays, all else may be torn, a rename may
/// or may not have happened until the folder is synced.
#[test]
fn a_power_cut_leaves_the_last_snapshot_or_the_whole_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (forest(1, 12), forest(2, 20));
    save(&file(dir.path()), &old).unwrap();
    let kv_path = file(dir.path()).path();
    let before = fs::read(&kv_path).unwrap();
    let steps = traced(dir.path(), &new);
    let at = |step| steps.iter().position(|(s, _)| *s == step).unwrap();
    assert!(at(Step::Sync) < at(Step::Rename) && at(Step::Rename) < at(Step::SyncDir));
    let whole = fs::read(&kv_path).unwrap();
    let mut n_new = 0;
    for seed in 0..seeds(1_000) {
        let cut = rng::bits(seed, 0, 1) as usize % steps.len();
        // `cut` is about to happen: all before it has.
        let cached = if cut > at(Step::Rename) { &whole } else { &steps[cut].1 };
        let disk = if cut > at(Step::Sync) { cached.clone() } else { torn(seed, cached, &before) };
        let is_renamed = cut > at(Step::Rename) && rng::bits(seed, 0, 2).is_multiple_of(2);
        fs::write(&kv_path, &before).unwrap();
        let temp = dir.path().join(format!("{}.tmp-1-1", file(dir.path()).name));
        fs::write(if is_renamed { &kv_path } else { &temp }, &disk).unwrap();
        let restarted = file(dir.path());
        assert_eq!(temps(dir.path()), 0);
        assert_eq!(load(&restarted).0, *if is_renamed { &new } else { &old }, "seed {seed}");
        n_new += usize::from(is_renamed);
    }
    assert!(n_new > 0);
}

/// A disk that does not keep its word: the name is there, and of the file anything may be missing.
#[test]
fn a_lying_disk_shows_records_of_one_snapshot_or_none() {
    let (old, new) = (forest(1, 25), forest(2, 20));
    let (before, after) = (image(&old, 1), image(&new, 2));
    let (mut n_accepted, mut n_rejected, mut n_refused) = (0, 0, 0);
    for seed in 0..seeds(10_000) {
        let (got, report) = read_image(&torn(seed, &after, &before));
        let is_from = |pages: &[Page]| got.iter().all(|(n, p)| pages.get(*n as usize) == Some(p));
        assert!(is_from(&new) || is_from(&old), "seed {seed}");
        n_accepted += report.accepted;
        n_rejected += report.rejected;
        n_refused += usize::from(report.refused.is_some());
    }
    // The damage is neither nothing nor everything.
    assert!(n_accepted > 0 && n_rejected > 0 && n_refused > 0, "{n_accepted} {n_rejected} {n_refused}");
}

#[test]
fn speed_is_printed() {
    // A page of qwen2.5-coder-0.5b: 64 positions of 12,288 bytes.
    let (n, page_bytes) = (32, 64 * 12_288);
    let dir = tempfile::tempdir().unwrap();
    let kv = KvFile::open(dir.path(), "m", 64, page_bytes, unbounded()).unwrap();
    let bytes: Vec<u8> = (0..page_bytes).map(|i| (i * 7 % 251) as u8).collect();
    let mb = (n * page_bytes) as f64 / 1e6;
    let start = std::time::Instant::now();
    let mut writer = kv.begin().unwrap();
    for i in 0..n as u32 {
        let parent = i.checked_sub(1);
        writer.push(&KvRecord { parent, salt: 0, tokens: &[i; 64], bytes: &bytes }).unwrap();
    }
    writer.commit().unwrap();
    println!("write {:.0} MB/s, fsync and all", mb / start.elapsed().as_secs_f64());
    let start = std::time::Instant::now();
    let report = kv.read(|_, r| if r.bytes == bytes { ControlFlow::Continue(()) } else { ControlFlow::Break(()) });
    println!("read {:.0} MB/s, from the page cache", mb / start.elapsed().as_secs_f64());
    assert_eq!(report.unwrap().accepted, n);
}
