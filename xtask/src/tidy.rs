//! `cargo xtask tidy`: rules of the house that the compiler does not know.

use std::path::Path;

use crate::run::{Outcome, command, output, root};
use crate::{doors, limits, source};

/// Files that may use `unsafe`; a folder ends with `/`.
const UNSAFE_FILES: &[&str] = &[
    "crates/cpu/src/x86_64/",
    "crates/cpu/src/aarch64/",
    "crates/cpu/src/pool.rs",
    // Asks for huge pages.
    "crates/cpu/src/mem.rs",
    // Kernels written once over `Lanes`, and what calls them; the reference writes disjoint outputs from several threads.
    "crates/cpu/src/simd/",
    "crates/cpu/src/ceiling.rs",
    "crates/cpu/src/portable/mod.rs",
    "crates/store/src/map.rs",
    // A counting allocator: proves that a parser's memory stays small.
    "crates/formats/tests/support/alloc.rs",
    // Another: proves that steps do not allocate.
    "crates/engine/tests/draft_no_alloc.rs",
    "crates/engine/tests/no_alloc.rs",
    "crates/engine/tests/pages_no_alloc.rs",
    "crates/engine/tests/draft.rs",
];

/// Words that the code of a room never has: what the table of doors says under "must never".
const FORBIDDEN_WORDS: &[(&str, &[&str])] = &[
    ("crates/base/src/", &["Instant", "SystemTime", "thread", "File"]),
    ("crates/quant/src/", &["Instant", "File", "thread"]),
    ("crates/ops/src/", &["dyn", "target_arch", "target_feature", "target_os"]),
    ("crates/formats/src/", &["File", "fs", "Instant", "SystemTime"]),
    ("crates/text/src/", &["File", "fs", "Instant", "SystemTime"]),
    ("crates/model/src/", &["dyn", "target_arch", "target_feature", "target_os", "avx2", "avx512", "neon"]),
    ("crates/lsp/src/brain/", &["Instant", "SystemTime", "thread", "File", "fs", "TcpStream"]),
    ("crates/engine/src/", &["async", "await", "Instant", "SystemTime", "File", "fs"]),
];

/// Lines of one source file.
const RS_LINES_MAX: usize = 800;

/// Hosts that no file names: packages are named, and the clients know where they are. Written in two parts, so that this
/// file does not name them either.
const HOSTS: &[(&str, &str)] = &[
    ("crates", ".io"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("npmjs", ".org"),
    ("npmjs", ".com"),
    ("yarnpkg", ".com"),
    ("huggingface", ".co"),
    ("hf", ".co"),
    ("debian", ".org"),
    ("rust-lang", ".org/dist"),
];

/// Folders of one machine that no file names.
const MACHINE_FOLDERS: &[(&str, &str)] =
    &[("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("/tm", "p/"), ("/Us", "ers/")];

/// Written by tools, with hosts in them.
const LOCK_FILES: &[&str] = &["Cargo.lock", "fuzz/Cargo.lock"];

/// Names that say nothing about what is in a file.
const EMPTY_NAMES: &[&str] = &["manager", "handler", "helper", "helpers", "util", "utils", "common", "misc"];

/// Runs every check and prints each broken rule.
pub fn main(args: &[&str]) -> Outcome {
    let bless = match args {
        [] => false,
        ["--bless"] => true,
        _ => return Outcome::Failed("tidy takes only --bless".into()),
    };
    match all(bless) {
        Ok(broken) if broken.is_empty() => Outcome::Passed,
        Ok(broken) => {
            broken.iter().for_each(|line| println!("tidy: {line}"));
            Outcome::Failed(format!("{} rules broken", broken.len()))
        }
        Err(why) => Outcome::Failed(why),
    }
}

fn all(bless: bool) -> Result<Vec<String>, String> {
    let mut broken = doors::check()?;
    broken.extend(limits::check(bless)?);
    let files = files()?;
    println!("tidy: {} files", files.len());
    for name in &files {
        // A file that git lists but that is gone was deleted and not committed yet.
        let Ok(bytes) = std::fs::read(root().join(name)) else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        broken.extend(check_text(name, &text));
        if name.ends_with(".rs") {
            broken.extend(check_rust(name, &text));
        }
    }
    for room in doors::ROOMS.iter().filter(|r| r.forbids_unsafe) {
        broken.extend(check_forbids(room.name));
    }
    Ok(broken)
}

/// What git tracks, and what it would track.
fn files() -> Result<Vec<String>, String> {
    let args = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let listed = output(&mut command("git", &args))?;
    let mut files: Vec<String> = listed.split('\0').filter(|f| !f.is_empty()).map(str::to_string).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

fn check_text(name: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if LOCK_FILES.contains(&name) {
        return broken;
    }
    for (i, line) in text.lines().enumerate() {
        let place = || format!("{name}:{}", i + 1);
        for host in HOSTS.iter().map(|(a, b)| format!("{a}{b}")) {
            if line.match_indices(&host).any(|(at, _)| is_host(line, at, host.len())) {
                broken.push(format!("{} names the host {host}", place()));
            }
        }
        for folder in MACHINE_FOLDERS.iter().map(|(a, b)| format!("{a}{b}")) {
            if line.match_indices(&folder).any(|(at, _)| is_path_start(line, at)) {
                broken.push(format!("{} names a folder of one machine ({folder})", place()));
            }
        }
    }
    broken
}

/// What stands at `at` is a whole host name or its end, not the middle of a longer word.
fn is_host(line: &str, at: usize, len: usize) -> bool {
    let before = line[..at].chars().next_back();
    let after = line[at + len..].chars().next();
    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-') && !after.is_some_and(|c| c.is_alphanumeric())
}

/// An absolute path begins here: before it is nothing that would make it part of a longer path.
fn is_path_start(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}' | '~' | '*' | ')'))
}

fn check_rust(name: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if !text.starts_with("//!") {
        broken.push(format!("{name} does not open with `//!`: what is it for?"));
    }
    let lines = text.lines().count();
    if lines > RS_LINES_MAX {
        broken.push(format!("{name} has {lines} lines; {RS_LINES_MAX} is the most"));
    }
    let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if stem.split('_').any(|part| EMPTY_NAMES.contains(&part)) {
        broken.push(format!("{name} has a name that says nothing"));
    }
    let may_be_unsafe = UNSAFE_FILES.iter().any(|f| name == *f || (f.ends_with('/') && name.starts_with(f)));
    let code = source::code_only(text);
    let shipped = shipped(&code);
    if let Some(line) = source::line_with_word(&code, "unsafe").filter(|_| !may_be_unsafe) {
        broken.push(format!("{name}:{line} uses unsafe, which the table of doors does not allow there"));
    }
    let rules = FORBIDDEN_WORDS.iter().filter(|(folder, _)| name.starts_with(folder) && !stem.contains("test"));
    for word in rules.flat_map(|(_, words)| *words) {
        if let Some(line) = source::line_with_word(shipped, word) {
            broken.push(format!("{name}:{line} uses `{word}`, which this room never does (table of doors)"));
        }
    }
    broken
}

/// The code before the file's own tests.
fn shipped(code: &str) -> &str {
    code.find("#[cfg(test)]").map_or(code, |at| &code[..at])
}

/// The crate's root forbids unsafe code.
fn check_forbids(name: &str) -> Option<String> {
    let folder = if name == "xtask" { root().join(name) } else { root().join("crates").join(name) };
    let roots = ["src/lib.rs", "src/main.rs"].map(|f| folder.join(f));
    let texts: Vec<String> = roots.iter().filter_map(|p| std::fs::read_to_string(p).ok()).collect();
    let forbids = |text: &String| source::code_only(text).contains("#![forbid(unsafe_code)]");
    (!texts.is_empty() && !texts.iter().all(forbids))
        .then(|| format!("{name} lacks #![forbid(unsafe_code)] at its root"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_machine_folders_are_found_and_their_like_are_not() {
        let host = ["https://", "crates", ".io/x"].concat();
        let folder = ["see ", "/ro", "ot/x"].concat();
        for line in [&host, &folder, &["'", "/tm", "p/x'"].concat()] {
            assert_eq!(check_text("f", line).len(), 1, "{line}");
        }
        let like = [["target/tm", "p/x"].concat(), ["a/ro", "ot/b"].concat()];
        for line in [&like[0], &like[1], "docs/wo\u{200b}rk", "mycrates.iota", "~/.cargo"] {
            assert!(check_text("f", line).is_empty(), "{line}");
        }
    }

    #[test]
    fn each_rule_for_rust_files_can_fail() {
        let rules = |name: &str, text: &str| check_rust(name, text).join("\n");
        assert_eq!(rules("crates/x/src/a.rs", "//! x\nfn f() {}\n"), "");
        assert!(rules("crates/x/src/a.rs", "fn f() {}\n").contains("does not open"));
        assert!(rules("crates/x/src/a.rs", "//! x\nunsafe {}\n").contains("a.rs:2 uses unsafe"));
        assert_eq!(rules("crates/cpu/src/x86_64/a.rs", "//! x\nunsafe {}\n"), "");
        assert!(rules("crates/x/src/file_utils.rs", "//! x\n").contains("says nothing"));
        assert!(rules("crates/ops/src/a.rs", "//! x\nfn f(_: &dyn X) {}\n").contains("a.rs:2 uses `dyn`"));
        assert_eq!(rules("crates/ops/src/a.rs", "//! dyn\n#[cfg(test)]\nfn f(_: &dyn X) {}\n"), "");
        assert!(rules("crates/x/src/a.rs", &"//! x\n".repeat(RS_LINES_MAX + 1)).contains("lines"));
    }
}
