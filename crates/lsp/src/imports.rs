//! The files that a file imports, read from its lines: where `mod`, `use`, `import`, `require` and `#include` lead in the folders
//! around it. A thread of its own looks them up and gives what they define to the brain, so that a name can be explained before its
//! file was ever opened. Files that are ignored, secret, too long or outside of the repository are never read.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use base::limits::{IMPORT_FILES_MAX, IMPORT_FOLDERS_MAX, IMPORT_LINES_MAX, NOTE_BYTES_MAX};

use crate::brain::outline::Language;
use crate::ignored::Ignored;

/// Gets path and text of a file that is imported.
pub type OnFile = Box<dyn FnMut(&str, &str) + Send>;

/// The thread that looks; it ends when this is dropped.
#[derive(Debug)]
pub struct Imports(Sender<(PathBuf, String)>);

impl Imports {
    /// Starts it. Without a thread nothing is looked up.
    pub fn start(on_file: OnFile) -> Self {
        let (sender, asked) = channel();
        let _ = std::thread::Builder::new().name("imports".to_owned()).spawn(move || work(&asked, on_file));
        Self(sender)
    }

    /// A file was opened or saved.
    pub fn of(&self, path: &Path, text: String) {
        if path.is_absolute() {
            let _ = self.0.send((path.to_owned(), text)); // nobody looks: see `start`
        }
    }
}

fn work(asked: &Receiver<(PathBuf, String)>, mut on_file: OnFile) {
    while let Ok(first) = asked.recv() {
        let (mut ignored, mut seen) = (Ignored::default(), HashSet::new());
        for (path, text) in std::iter::once(first).chain(asked.try_iter()) {
            for file in files(&path, &text) {
                if !seen.insert(file.clone()) || file == path || ignored.is_ignored(&file) {
                    continue;
                }
                let is_short = file.metadata().is_ok_and(|m| m.len() <= NOTE_BYTES_MAX as u64);
                if let Some(text) = is_short.then(|| std::fs::read_to_string(&file).ok()).flatten() {
                    on_file(&file.to_string_lossy(), &text);
                }
            }
        }
    }
}

/// The files that exist among those that a text may import, in its order, within a bound.
pub fn files(path: &Path, text: &str) -> Vec<PathBuf> {
    let Some(language) = Language::of(&path.to_string_lossy()) else { return Vec::new() };
    let Some(root) = repository_of(path) else { return Vec::new() };
    let mut out: Vec<PathBuf> = Vec::new();
    for line in text.lines().take(IMPORT_LINES_MAX).map(str::trim_start) {
        if out.len() >= IMPORT_FILES_MAX {
            break;
        }
        let found = match language {
            Language::Rust => rust(path, line),
            Language::Python => python(path, line, root),
            Language::JavaScript | Language::TypeScript => script(path, line),
            Language::C | Language::Cpp => included(path, line, root),
            Language::Lua => lua(path, line, root),
            Language::Go => None,
        };
        // Links may lead out of the repository.
        let real = found.and_then(|f| f.canonicalize().ok()).filter(|f| f.starts_with(root));
        out.extend(real.filter(|f| !out.contains(f)));
    }
    if language == Language::Go {
        out = beside(path);
        out.retain(|f| f.canonicalize().is_ok_and(|f| f.starts_with(root)));
    }
    out
}

/// The folder with `.git`; else the file's own.
fn repository_of(path: &Path) -> Option<&Path> {
    let mut folders = path.ancestors().skip(1).take(IMPORT_FOLDERS_MAX);
    folders.find(|f| f.join(".git").exists()).or_else(|| path.parent())
}

/// The first of these that is a file.
fn first(all: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    all.into_iter().find(|p| p.is_file())
}

fn rust(path: &Path, line: &str) -> Option<PathBuf> {
    let folder = path.parent()?;
    let stem = path.file_stem()?.to_str()?;
    // Where the modules below this file lie.
    let below = if ["mod", "lib", "main"].contains(&stem) { folder.to_owned() } else { folder.join(stem) };
    let module =
        |folder: &Path, name: &str| first([folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")]);
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
    if let Some(name) = line.strip_prefix("mod ") {
        return module(&below, name.strip_suffix(';')?.trim());
    }
    let end = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
    let used = line.strip_prefix("use ")?.split(end).next()?;
    let mut names: Vec<&str> = used.split("::").filter(|n| !n.is_empty()).collect();
    let mut at = match *names.first()? {
        "crate" => path
            .ancestors()
            .skip(1)
            .take(IMPORT_FOLDERS_MAX)
            .find(|f| f.join("lib.rs").is_file() || f.join("main.rs").is_file())?
            .to_owned(),
        "self" => below,
        // The parent of `a/b.rs` is `a`, whose modules lie beside `b.rs`; that of `a/b/mod.rs` lies one higher.
        "super" if stem == "mod" => folder.parent()?.to_owned(),
        "super" => folder.to_owned(),
        _ => return None,
    };
    names.remove(0);
    while names.first() == Some(&"super") {
        at = at.parent()?.to_owned();
        names.remove(0);
    }
    // The last names are not modules, mostly.
    let mut found = None;
    for name in names {
        match module(&at, name) {
            Some(file) => found = Some(file),
            None if at.join(name).is_dir() => {}
            None => break,
        }
        at = at.join(name);
    }
    found
}

fn python(path: &Path, line: &str, root: &Path) -> Option<PathBuf> {
    let said = line.strip_prefix("from ").or_else(|| line.strip_prefix("import "))?;
    let module = said.split([' ', ',', ';']).next()?;
    let dots = module.len() - module.trim_start_matches('.').len();
    let names: PathBuf = module.trim_start_matches('.').split('.').collect();
    let at = |folder: &Path| first([folder.join(&names).with_extension("py"), folder.join(&names).join("__init__.py")]);
    if dots > 0 {
        return at(path.ancestors().nth(dots)?);
    }
    let folders = path.ancestors().skip(1).take(IMPORT_FOLDERS_MAX).take_while(|f| f.starts_with(root));
    folders.flat_map(|f| [f.to_owned(), f.join("src")]).find_map(|f| at(&f))
}

/// What stands in the last quotes of an import.
fn quoted(line: &str) -> Option<&str> {
    let end = line.rfind(['"', '\''])?;
    let start = line[..end].rfind(['"', '\''])?;
    line.get(start + 1..end)
}

fn script(path: &Path, line: &str) -> Option<PathBuf> {
    let is_import = line.starts_with("import ")
        || line.starts_with("export ")
        || line.contains("require(")
        || line.contains("} from ");
    let name = quoted(line).filter(|n| is_import && n.starts_with('.'))?;
    let file = plain(&path.parent()?.join(name));
    // `./a.js` may be written as `a.ts`.
    let bare = file.with_extension("");
    let ends = ["ts", "tsx", "js", "jsx", "mjs", "d.ts"];
    let with = |stem: &Path| ends.map(|e| PathBuf::from(format!("{}.{e}", stem.display())));
    let is_named = file.extension().is_some();
    first([file.clone()])
        .or_else(|| first(with(&file)))
        .or_else(|| if is_named { first(with(&bare)) } else { None })
        .or_else(|| first(with(&file.join("index"))))
}

fn included(path: &Path, line: &str, root: &Path) -> Option<PathBuf> {
    let name = line.strip_prefix('#')?.trim_start().strip_prefix("include")?.trim();
    let name = name
        .strip_prefix('"')
        .and_then(|n| n.split('"').next())
        .or_else(|| name.strip_prefix('<')?.split('>').next())?;
    let folders = path.ancestors().skip(1).take(IMPORT_FOLDERS_MAX).take_while(|f| f.starts_with(root));
    first(folders.flat_map(|f| [plain(&f.join(name)), plain(&f.join("include").join(name))]))
}

fn lua(path: &Path, line: &str, root: &Path) -> Option<PathBuf> {
    let at = line.find("require")?;
    let name = quoted(&line[at..])?.replace('.', "/");
    let folders = path.ancestors().skip(1).take(IMPORT_FOLDERS_MAX).take_while(|f| f.starts_with(root));
    first(folders.flat_map(|f| {
        let all = [f.join(&name), f.join("lua").join(&name)];
        all.into_iter().flat_map(|p| [p.with_extension("lua"), p.join("init.lua")])
    }))
}

/// The other files of a Go package, which need no import.
fn beside(path: &Path) -> Vec<PathBuf> {
    let files = path.parent().and_then(|f| std::fs::read_dir(f).ok()).into_iter().flatten();
    let files = files.take(16 * IMPORT_FILES_MAX).filter_map(|e| Some(e.ok()?.path()));
    let is_go = |p: &PathBuf| p.extension().is_some_and(|e| e == "go") && !p.to_string_lossy().ends_with("_test.go");
    let mut files: Vec<PathBuf> = files.filter(|p| is_go(p) && p.is_file() && p != path).collect();
    files.sort();
    files.truncate(IMPORT_FILES_MAX);
    files
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    /// A repository with these files, each empty.
    fn repository(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join(".git")).unwrap();
        for file in files {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), "").unwrap();
        }
        (dir, root)
    }

    fn imported(files: &[&str], path: &str, text: &str) -> String {
        let (_dir, root) = repository(files);
        let found = super::files(&root.join(path), text);
        found.iter().map(|f| f.strip_prefix(&root).unwrap().display().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn imports_lead_to_files() {
        let rust = ["src/lib.rs", "src/a.rs", "src/a/b.rs", "src/c/mod.rs", "src/c/d.rs", "src/e.rs"];
        let text = "mod b;\nuse crate::c::d::{X, Y};\npub use super::e::Z;\nuse std::fmt;\nuse self::b::Q;\n";
        assert_eq!(imported(&rust, "src/a.rs", text), "src/a/b.rs src/c/d.rs src/e.rs");
        assert_eq!(imported(&rust, "src/c/d.rs", "use super::super::a::b;\nuse crate::a::T;\n"), "src/a/b.rs src/a.rs");
        let python = ["pkg/__init__.py", "pkg/a.py", "pkg/sub/b.py", "src/c.py"];
        let text = "from ..a import x\nfrom pkg import y\nimport c, os\nfrom .none import z\n";
        assert_eq!(imported(&python, "pkg/sub/b.py", text), "pkg/a.py pkg/__init__.py src/c.py");
        let script = ["a.ts", "lib/index.js", "lib/b.tsx", "x.css"];
        let text = "import { a } from './a.js';\nexport * from \"./lib\";\nconst b = require('./lib/b');\nimport r from 'react';\n";
        assert_eq!(imported(&script, "main.ts", text), "a.ts lib/index.js lib/b.tsx");
        let c = ["src/a.h", "include/lib/b.h"];
        assert_eq!(
            imported(&c, "src/a.c", "#include \"a.h\"\n# include <lib/b.h>\n#include <stdio.h>\n"),
            "src/a.h include/lib/b.h"
        );
        let lua = ["lua/m/a.lua", "lua/m/b/init.lua"];
        assert_eq!(
            imported(&lua, "lua/m/c.lua", "local a = require('m.a')\nrequire \"m.b\"\n"),
            "lua/m/a.lua lua/m/b/init.lua"
        );
        let go = ["p/a.go", "p/b.go", "p/b_test.go", "q/c.go"];
        assert_eq!(imported(&go, "p/a.go", "package p\n"), "p/b.go");
    }

    #[test]
    fn nothing_outside_of_the_repository_and_nothing_ignored_is_read() {
        let (dir, root) = repository(&["src/main.rs", "src/open.rs", "src/hidden.rs"]);
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.h"), "int key;").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(outside.path().join("secret.h"), root.join("src/link.h")).unwrap();
        let far = format!("#include \"{}/secret.h\"\n#include \"link.h\"\n", outside.path().display());
        assert_eq!(super::files(&root.join("src/a.c"), &far), [] as [PathBuf; 0]);
        std::fs::write(root.join(".vonkignore"), "hidden.rs\n").unwrap();
        std::fs::write(root.join("src/open.rs"), "pub fn open() {}\n").unwrap();
        let (sender, told) = channel();
        let on_file: OnFile = Box::new(move |path, text| sender.send((path.to_owned(), text.to_owned())).unwrap());
        let imports = Imports::start(on_file);
        imports.of(&root.join("src/main.rs"), "mod hidden;\nmod open;\n".to_owned());
        drop(imports);
        let all: Vec<_> = told.iter().collect();
        assert_eq!(all.len(), 1);
        assert!(all[0].0.ends_with("open.rs") && all[0].1.contains("fn open"));
        drop(dir);
    }
}
