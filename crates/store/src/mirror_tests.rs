//! Wheels that are right, and wheels that are not. A shell script stands in for Python.
#![cfg(unix)]

use super::*;
use crate::progress::Silent;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use zip::write::SimpleFileOptions;

fn wheel(path: &Path, members: &[(&str, &[u8])]) {
    let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
    for (name, data) in members {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.start_file(*name, options).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap();
}

/// A program that takes pip's place: it copies wheels from `from`, and writes down which.
pub(crate) fn fake_python(from: &Path) -> String {
    let path = from.join("python");
    let script = format!(
        "#!/bin/sh\nfrom='{}'\nif [ \"$3\" = --version ]; then exit 0; fi\n\
         while [ $# -gt 1 ]; do if [ \"$1\" = -d ]; then out=\"$2\"; fi; shift; done\n\
         name=\"${{1%%==*}}\"\necho \"$1\" >> \"$from/asked\"\n\
         if [ ! -e \"$from/$name.whl\" ]; then echo 'ERROR: No matching distribution found for '\"$1\" >&2; exit 1; fi\n\
         cp \"$from/$name.whl\" \"$out/any-name-1.0-py3-none-any.whl\"\n",
        from.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn spec(package: &str, member: &str, data: &[u8]) -> MirrorPart {
    MirrorPart {
        package: package.into(),
        version: "1.0".into(),
        member: member.into(),
        bytes: data.len() as u64,
        sha256: Digest::of(data).to_string(),
    }
}

struct Bench {
    dir: tempfile::TempDir,
    mirror: Mirror,
}

impl Bench {
    fn new(parts: Vec<MirrorPart>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scratch = dir.path().join("partial");
        fs::create_dir(&scratch).unwrap();
        let pythons = vec!["no-such-python".into(), fake_python(dir.path())];
        Self { mirror: Mirror { parts, scratch, pythons }, dir }
    }

    fn part(&self) -> Part {
        let bytes = self.mirror.parts.iter().map(|p| p.bytes).sum();
        Part::open(self.dir.path().join("x.part"), bytes).unwrap()
    }

    fn fetch(&self) -> (Part, Result<(), String>) {
        let mut part = self.part();
        let mut silent = Silent;
        let mut meter = Meter::new(&mut silent, part.bytes(), part.len());
        let got = self.mirror.fetch(&mut part, &mut meter).map_err(|e| match e {
            SourceError::Failed(why) => why,
            SourceError::Local(e) => format!("local: {e}"),
        });
        let left: Vec<_> = fs::read_dir(&self.mirror.scratch).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["scratch.lock"], "scratch folders go away");
        (part, got)
    }

    fn whl(&self, name: &str, members: &[(&str, &[u8])]) {
        wheel(&self.dir.path().join(format!("{name}.whl")), members);
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.dir.path().join("asked")).unwrap_or_default()
    }
}

#[test]
fn parts_are_put_together_and_finished_ones_not_fetched_again() {
    let (a, b) = (vec![7u8; 300_000], vec![9u8; 1000]);
    let bench = Bench::new(vec![spec("pa", "d/a.bin", &a), spec("pb", "d/b.bin", &b)]);
    bench.whl("pa", &[("pa/__init__.py", b"raise SystemExit"), ("d/a.bin", &a)]);
    let (part, got) = bench.fetch();
    let why = got.unwrap_err();
    assert!(why.contains("pb==1.0") && why.contains("No matching distribution"), "{why}");
    assert_eq!(part.len(), 300_000, "the first part is kept");
    drop(part);
    bench.whl("pb", &[("d/b.bin", &b)]);
    let (part, got) = bench.fetch();
    got.unwrap();
    assert_eq!(part.digest(), Digest::of(&[a, b].concat()));
    assert_eq!(bench.asked(), "pa==1.0\npb==1.0\npb==1.0\n");
}

#[test]
fn a_part_that_ends_inside_a_member_is_continued() {
    let data: Vec<u8> = (0..700_000u32).map(|i| (i / 7) as u8).collect();
    for have in [1usize, 262_144, 262_145, 699_999] {
        let bench = Bench::new(vec![spec("p", "m", &data)]);
        bench.whl("p", &[("m", &data)]);
        let mut part = bench.part();
        assert!(part.append(&data[..have]).is_ok());
        drop(part);
        let (part, got) = bench.fetch();
        got.unwrap();
        assert_eq!(part.digest(), Digest::of(&data), "{have}");
    }
}

#[test]
fn a_wheel_with_anything_wrong_is_refused_and_leaves_nothing() {
    let data = vec![5u8; 100_000];
    let other = vec![6u8; 100_000];
    let bomb = vec![0u8; 40_000_000];
    type Case<'a> = (&'a str, &'a [(&'a str, &'a [u8])], &'a str);
    let cases: &[Case<'_>] = &[
        ("missing member", &[("x", &data)], "not found"),
        ("too short", &[("m", &data[1..])], "99999 bytes"),
        ("too long", &[("m", &[&data[..], &[1]].concat())], "100001 bytes"),
        ("other content", &[("m", &other)], "another sha256"),
        ("bomb", &[("m", &bomb)], "40000000 bytes"),
        ("up", &[("../m", &data)], "not found"),
    ];
    for (name, members, want) in cases {
        let bench = Bench::new(vec![spec("p", "m", &data)]);
        bench.whl("p", members);
        let (part, got) = bench.fetch();
        let why = got.unwrap_err();
        assert!(why.contains(want), "{name}: {why}");
        assert_eq!(part.len(), 0, "{name}");
    }
}

#[test]
fn a_member_that_lies_about_its_size_is_cut_at_its_size() {
    let data = vec![5u8; 100_000];
    let bench = Bench::new(vec![spec("p", "m", &data)]);
    bench.whl("p", &[("m", &vec![5u8; 30_000_000])]);
    // Both headers claim the declared size; the compressed data is a bomb.
    let path = bench.dir.path().join("p.whl");
    let mut bytes = fs::read(&path).unwrap();
    let real = 30_000_000u32.to_le_bytes();
    let at: Vec<usize> = (0..bytes.len() - 4).filter(|&i| bytes[i..i + 4] == real).collect();
    assert!(!at.is_empty());
    for i in at {
        bytes[i..i + 4].copy_from_slice(&100_000u32.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    let (part, got) = bench.fetch();
    assert!(got.is_err());
    assert_eq!(part.len(), 0);
    assert!(fs::metadata(bench.dir.path().join("x.part")).unwrap().len() <= 100_000);
}

#[test]
fn links_folders_and_broken_archives_are_refused() {
    let data = b"/etc/passwd".to_vec();
    let bench = Bench::new(vec![spec("p", "m", &data)]);
    let path = bench.dir.path().join("p.whl");
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    zip.add_symlink("m", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap();
    let (_, got) = bench.fetch();
    assert!(got.unwrap_err().contains("not a plain file"));

    bench.whl("p", &[("m", &data)]);
    let sound = fs::read(&path).unwrap();
    for cut in 0..sound.len() {
        fs::write(&path, &sound[..cut]).unwrap();
        let mut part = bench.part();
        let mut silent = Silent;
        let meter = &mut Meter::new(&mut silent, part.bytes(), 0);
        assert!(unpack(&path, &bench.mirror.parts[0], 0, &mut part, meter).is_err(), "cut at {cut}");
        part.restart().unwrap();
    }
}

#[test]
fn without_pip_the_error_says_what_to_install() {
    let mut bench = Bench::new(vec![spec("p", "m", b"x")]);
    bench.mirror.pythons = vec!["no-such-python".into()];
    fs::write(bench.mirror.scratch.join("scratch.lock"), "").unwrap();
    let (_, got) = bench.fetch();
    assert!(got.unwrap_err().contains("apt install python3-pip"));
}
