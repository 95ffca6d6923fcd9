//! Finds this user's running vonk server, or starts one that stops again when nobody asks. Each server that listens on
//! loopback leaves a small file in the runtime folder; whether it still lives is found out by asking it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use base::limits;
use serde::{Deserialize, Serialize};

use crate::error::{ClientError, printable};
use crate::http::{Client, Deadline, Target};
use crate::place;

/// Between two looks at a server that starts.
const LOOK: Duration = Duration::from_millis(20);

/// A server, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// `http://127.0.0.1:port`.
    pub url: String,
    /// Names of its models, the first also answers to `default`.
    pub models: Vec<String>,
    /// Unix seconds.
    pub started: u64,
}

/// The file of a server that runs; dropping it removes the file.
#[derive(Debug)]
pub struct Notice {
    path: PathBuf,
}

impl Notice {
    /// Writes it, for this user's eyes only.
    ///
    /// # Errors
    /// The system's.
    pub fn post(dir: &Path, running: &Running) -> io::Result<Self> {
        place::make_private_dir(dir)?;
        let path = dir.join(format!("server-{}.json", running.pid));
        place::write_private(&path, &serde_json::to_vec(running)?)?;
        Ok(Self { path })
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // if it stays, the next client sees that nobody answers
    }
}

/// What a client needs.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// This server and no other; without it one is looked for.
    pub url: Option<String>,
    /// A model; without it whatever the server has.
    pub model: Option<String>,
    /// Sent to the server.
    pub key: Option<String>,
    /// Where servers leave their files.
    pub run_dir: Option<PathBuf>,
    /// How to start one.
    pub start: Option<Start>,
}

/// A command that starts a server on a free port of loopback.
#[derive(Clone, Debug)]
pub struct Start {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Seconds it may take to be ready.
    pub ready_s_max: u64,
}

impl Start {
    /// This very program as `serve`, with its own way to stop.
    ///
    /// # Errors
    /// The system does not say what this program is.
    pub fn own(model: Option<&str>) -> io::Result<Self> {
        let idle = format!("{}s", limits::SERVER_IDLE_STOP_S);
        let mut args: Vec<OsString> =
            ["serve", "--bind", "127.0.0.1:0", "--stop-when-idle", &idle].map(OsString::from).to_vec();
        if let Some(model) = model {
            args.extend(["--model", model].map(OsString::from));
        }
        Ok(Self { program: std::env::current_exe()?, args, ready_s_max: limits::SERVER_START_S_MAX })
    }
}

/// A server that answers.
#[derive(Clone, Debug)]
pub struct Found {
    /// Asks it.
    pub client: Client,
    /// What to put into `model`.
    pub model: String,
    /// It was started for this.
    pub is_new: bool,
}

/// Finds a server, or starts one. `progress` gets a line when that takes a while.
///
/// # Errors
/// An address that is none; no server and no way to start one; one that does not get ready, with the end of its log.
pub fn find_or_start(wanted: &Wanted, progress: &mut dyn FnMut(&str)) -> Result<Found, ClientError> {
    let model = wanted.model.clone().unwrap_or_else(|| "default".to_owned());
    let found = |url: &str, is_new| {
        let client = Client::new(Target::parse(url)?, wanted.key.as_deref())?;
        Ok(Found { client, model: model.clone(), is_new })
    };
    if let Some(url) = &wanted.url {
        return found(url, false);
    }
    let none = |why: &str| ClientError::Server(format!("no vonk server is running {why}. Start one: vonk serve"));
    let dir = wanted.run_dir.as_ref().ok_or_else(|| none("that could be found (HOME is not set)"))?;
    let is_wanted = |r: &Running| wanted.model.as_ref().is_none_or(|m| r.models.contains(m));
    if let Some(running) = ready(dir, &is_wanted, progress)? {
        return found(&running.url, false);
    }
    let start = wanted.start.as_ref().ok_or_else(|| none("with this model"))?;
    let failed = |what: &str, e: io::Error| ClientError::Server(format!("cannot start a server: {what}: {e}"));
    place::make_private_dir(dir).map_err(|e| failed(&dir.display().to_string(), e))?;
    // Whoever has the lock starts; the others then find what was started.
    let _lock = lock(&dir.join("start.lock"), start.ready_s_max)?;
    if let Some(running) = ready(dir, &is_wanted, progress)? {
        return found(&running.url, false);
    }
    let log = dir.join("server.log");
    let mut child = spawn(start, &log).map_err(|e| failed(&start.program.display().to_string(), e))?;
    progress(&format!("starting a server for {model} (it stops by itself when nobody asks; log: {})", log.display()));
    let running = wait_for(&mut child, dir, start, &log)?;
    found(&running.url, true)
}

/// Servers that have a file, the newest first. Files of dead processes are removed.
pub fn list(dir: &Path) -> Vec<Running> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let names = names.filter(|n| n.starts_with("server-") && n.ends_with(".json"));
    let mut all: Vec<Running> = names
        .take(limits::RUNNING_SERVERS_MAX)
        .filter_map(|name| {
            let path = dir.join(name);
            let running = read(&path)?;
            if !may_live(running.pid) {
                let _ = fs::remove_file(path);
                return None;
            }
            Some(running)
        })
        .collect();
    all.sort_by_key(|r| std::cmp::Reverse((r.started, r.pid)));
    all
}

fn read(path: &Path) -> Option<Running> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limits::RUNNING_FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let running: Running = serde_json::from_slice(&bytes).ok()?;
    Some(running).filter(|r| r.url.starts_with("http://127.") || r.url.starts_with("http://[::1]"))
}

/// False if the process is certainly gone.
fn may_live(pid: u32) -> bool {
    let processes = Path::new("/proc");
    !processes.join("self").exists() || processes.join(pid.to_string()).exists()
}

/// What a server says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Loading,
    /// It hangs, or it is about to end.
    Unusable,
    /// Nobody listens there.
    Gone,
}

fn state(running: &Running) -> State {
    let deadline = Deadline::after(Duration::from_millis(limits::SERVER_PROBE_MS_MAX));
    let Ok(client) = Target::parse(&running.url).and_then(|t| Client::once(t, None)) else { return State::Gone };
    match client.get("/ready", deadline, None) {
        Ok(answer) if answer.status == 200 => State::Ready,
        Ok(mut answer) => {
            let body = answer.whole(limits::CLIENT_REFUSAL_BYTES_MAX).unwrap_or_default();
            let is_loading = String::from_utf8_lossy(&body).contains("loading");
            if is_loading { State::Loading } else { State::Unusable }
        }
        Err(e) if e.is_connect() => State::Gone,
        Err(_) => State::Unusable,
    }
}

/// The newest server that is wanted and ready; waits for one that is loading.
fn ready(
    dir: &Path,
    is_wanted: &dyn Fn(&Running) -> bool,
    progress: &mut dyn FnMut(&str),
) -> Result<Option<Running>, ClientError> {
    let end = Instant::now() + Duration::from_secs(limits::SERVER_START_S_MAX);
    let mut is_told = false;
    loop {
        let mut is_any_loading = false;
        for running in list(dir).into_iter().filter(is_wanted) {
            match state(&running) {
                State::Ready => return Ok(Some(running)),
                State::Loading => is_any_loading = true,
                State::Unusable => {}
                State::Gone => {
                    let _ = fs::remove_file(dir.join(format!("server-{}.json", running.pid)));
                }
            }
        }
        if !is_any_loading {
            return Ok(None);
        }
        if Instant::now() > end {
            return Err(ClientError::Server("a server is loading its model and does not get ready".to_owned()));
        }
        if !std::mem::replace(&mut is_told, true) {
            progress("waiting for a server that is loading its model");
        }
        sleep(LOOK);
    }
}

fn lock(path: &Path, wait_s_max: u64) -> Result<File, ClientError> {
    let failed = |e: io::Error| ClientError::Server(format!("cannot lock {}: {e}", path.display()));
    let file = place::private().open(path).map_err(failed)?;
    let end = Instant::now() + Duration::from_secs(wait_s_max);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < end => sleep(LOOK),
            Err(fs::TryLockError::WouldBlock) => {
                return Err(ClientError::Server(format!("another program is starting a server since {wait_s_max} s")));
            }
            Err(fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
}

/// Starts it apart from our terminal: Ctrl-C here does not end it, for others may be using it.
fn spawn(start: &Start, log: &Path) -> io::Result<Child> {
    place::private().truncate(true).open(log)?;
    let to_log = || place::private().append(true).open(log);
    let mut command = Command::new(&start.program);
    command.args(&start.args).stdin(Stdio::null()).stdout(to_log()?).stderr(to_log()?);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    #[cfg(windows)]
    std::os::windows::process::CommandExt::creation_flags(&mut command, 0x0000_0208); // detached, own group
    command.spawn()
}

fn wait_for(child: &mut Child, dir: &Path, start: &Start, log: &Path) -> Result<Running, ClientError> {
    let end = Instant::now() + Duration::from_secs(start.ready_s_max);
    let path = dir.join(format!("server-{}.json", child.id()));
    loop {
        if let Some(running) = read(&path).filter(|r| state(r) == State::Ready) {
            return Ok(running);
        }
        let ended = child.try_wait().ok().flatten();
        let is_late = Instant::now() > end;
        if is_late {
            let _ = child.kill();
            let _ = child.wait();
        }
        let why = match ended {
            Some(status) => format!("it ended ({status})"),
            None if is_late => format!("it was not ready after {} s", start.ready_s_max),
            None => {
                sleep(LOOK);
                continue;
            }
        };
        return Err(ClientError::Server(format!("the server that was started cannot be used: {why}.{}", tail(log))));
    }
}

/// The last lines of a log, to be shown.
fn tail(log: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(limits::LOG_TAIL_BYTES_MAX)))?;
        file.take(limits::LOG_TAIL_BYTES_MAX).read_to_end(&mut bytes)
    });
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.lines().rev().take(10).map(|l| printable(l, 300)).collect();
    match read {
        Ok(_) if !lines.is_empty() => {
            let lines: Vec<String> = lines.into_iter().rev().collect();
            format!(" The end of its log ({}):\n  {}", log.display(), lines.join("\n  "))
        }
        _ => format!(" Its log is empty ({})", log.display()),
    }
}
