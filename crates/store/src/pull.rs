//! Getting a file into the store: one lock for each digest, sources in order, the pinned digest decides, and the name is
//! recorded only when the file is complete, checked and flushed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base::limits::{DISK_SPARE_BYTES, PULL_BYTES_MAX};

use crate::catalogue::{Entry, SourceSpec};
use crate::digest::Digest;
use crate::error::{StoreError, Tried};
use crate::http::{Client, UrlSource};
use crate::hub::Hub;
use crate::mirror::Mirror;
use crate::part::Part;
use crate::paths::{remove_if_there, unique};
use crate::progress::{Event, Meter, Progress};
use crate::record::{self, Record};
use crate::source::{Source, SourceError};
use crate::spec::{HubSpec, Spec};
use crate::store::{Store, scratch_guard};

/// A model that is now in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The name to run it by.
    pub name: String,
    /// The file, read-only.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
    /// Nothing had to be fetched.
    pub was_there: bool,
}

/// The file that is wanted.
struct Want {
    name: String,
    sha256: Digest,
    bytes: u64,
}

impl Store {
    /// Gets a model into the store and tells `progress` about it. A model that is there already costs nothing.
    ///
    /// # Errors
    /// Every source that was tried and why it failed; a full disk; a spec that names nothing.
    pub fn pull(&self, spec: &str, progress: &mut dyn Progress) -> Result<Pulled, StoreError> {
        let spec = Spec::parse(spec)?;
        self.clear_scratch()?;
        let pulled = match spec {
            Spec::Name(name) => self.pull_name(&name, progress),
            Spec::Hub(hub) => self.pull_hub(&hub, progress),
            Spec::Path(path) => self.import(&path, progress),
        }?;
        progress.event(Event::Done { name: &pulled.name, bytes: pulled.bytes });
        Ok(pulled)
    }

    fn pull_name(&self, name: &str, progress: &mut dyn Progress) -> Result<Pulled, StoreError> {
        if let Some(entry) = self.catalogue.find(name) {
            return self.pull_entry(entry, progress);
        }
        if let Some(pulled) = self.pulled_before(name) {
            return Ok(pulled);
        }
        if Path::new(name).is_file() {
            return self.import(Path::new(name), progress);
        }
        Err(StoreError::Unknown { name: name.to_string(), near: self.catalogue.near(name) })
    }

    fn pull_entry(&self, entry: &Entry, progress: &mut dyn Progress) -> Result<Pulled, StoreError> {
        let want = Want { name: entry.name.clone(), sha256: entry.sha256, bytes: entry.bytes };
        let mut hub_fault = None;
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        for source in &entry.sources {
            match source {
                SourceSpec::Hub(spec) => match self.hub() {
                    Ok(hub) => sources.push(Box::new(hub_source(&hub, spec, Some(entry.sha256)))),
                    Err(why) => hub_fault = Some(why),
                },
                SourceSpec::Url(url) => sources.push(Box::new(UrlSource {
                    client: Client::new(None),
                    url: url.clone(),
                    label: crate::error::printable(url, 100),
                    pinned: None,
                })),
                SourceSpec::Mirror(parts) => sources.push(Box::new(Mirror {
                    parts: parts.clone(),
                    scratch: self.layout.partial.clone(),
                    pythons: self.pythons.clone(),
                })),
            }
        }
        if let Some(why) = hub_fault {
            progress.event(Event::SourceFailed { source: "the model hub", why: &why });
        }
        let (source, was_there) = self.fetch(&want, &sources, progress)?;
        self.finish(&want, source, true, was_there)
    }

    fn pull_hub(&self, spec: &HubSpec, progress: &mut dyn Progress) -> Result<Pulled, StoreError> {
        if let Some(pulled) = self.pulled_before(&spec.to_string()) {
            return Ok(pulled);
        }
        let failed = |why: String| StoreError::AllSourcesFailed {
            name: spec.to_string(),
            tried: vec![Tried { source: "the model hub".into(), why }],
            advice: "Check the network and the name. A file fetched in another way is taken with: vonk pull PATH"
                .into(),
        };
        let hub = self.hub().map_err(failed)?;
        let file = match &spec.file {
            Some(file) => file.clone(),
            None => hub.choose_file(spec)?,
        };
        let spec = HubSpec { file: Some(file.clone()), ..spec.clone() };
        progress.event(Event::Step { what: &format!("asking the model hub about {spec}") });
        let probe = hub.client.probe(&hub.url(&spec, &file)).map_err(failed)?;
        let bytes = probe.bytes.ok_or_else(|| failed("it does not say how long the file is".into()))?;
        if bytes == 0 || bytes > PULL_BYTES_MAX {
            return Err(failed(format!("it says that the file has {bytes} bytes; 1 to {PULL_BYTES_MAX} are accepted")));
        }
        let Some(sha256) = probe.digest else {
            return self.pull_unpinned(&hub, &spec, bytes, progress);
        };
        // A file of the catalogue gets the catalogue's name.
        let name = self.catalogue.find_digest(&sha256).map_or_else(|| spec.to_string(), |e| e.name.clone());
        let want = Want { name, sha256, bytes };
        let sources: [Box<dyn Source>; 1] = [Box::new(hub_source(&hub, &spec, None))];
        let (source, was_there) = self.fetch(&want, &sources, progress)?;
        self.check_is_gguf(&want)?;
        self.finish(&want, source, true, was_there)
    }

    /// A file whose digest the hub does not tell: fetched in one go, and its digest is recorded.
    fn pull_unpinned(
        &self,
        hub: &Hub,
        spec: &HubSpec,
        bytes: u64,
        progress: &mut dyn Progress,
    ) -> Result<Pulled, StoreError> {
        progress
            .event(Event::Note { what: "the hub gives no sha256 for this file: the one computed here is recorded" });
        let source = hub_source(hub, spec, None);
        let label = source.label();
        let mut part = self.scratch_part("unpinned", bytes)?;
        let got = self.check_disk(bytes).map_err(SourceError::Local).and_then(|()| {
            progress.event(Event::Source { source: &label, resumed_at: 0 });
            source.fetch(&mut part, &mut Meter::new(progress, bytes, 0))
        });
        if let Err(e) = got {
            part.discard()?;
            return Err(match e {
                SourceError::Local(e) => e,
                SourceError::Failed(why) => {
                    self.all_failed(&spec.to_string(), None, vec![Tried { source: label, why }])
                }
            });
        }
        let want = Want { name: spec.to_string(), sha256: part.digest(), bytes };
        let _lock = self.lock(&want, progress)?;
        let was_there = self.has_blob(&want.sha256, bytes);
        if was_there {
            part.discard()?
        } else {
            part.install(&self.layout.blob(&want.sha256))?
        }
        self.check_is_gguf(&want)?;
        self.finish(&want, label, false, was_there)
    }

    /// Copies a file into the store. A copy and not a link: what others can still write must not change a checked file.
    fn import(&self, from: &Path, progress: &mut dyn Progress) -> Result<Pulled, StoreError> {
        let not_a_model = |why: &str| StoreError::NotAModel { path: from.to_path_buf(), why: why.to_string() };
        let meta = std::fs::metadata(from).map_err(StoreError::io("cannot open", from))?;
        if meta.is_dir() {
            return Err(not_a_model(
                "it is a folder. Folders with safetensors files are used where they are: give the path",
            ));
        }
        if !meta.is_file() || meta.len() == 0 || meta.len() > PULL_BYTES_MAX {
            return Err(not_a_model("it is not a regular file with content"));
        }
        let mut file = File::open(from).map_err(StoreError::io("cannot open", from))?;
        let bytes = meta.len();
        self.check_disk(bytes)?;
        let label = from.display().to_string();
        progress.event(Event::Source { source: &label, resumed_at: 0 });
        let mut part = self.scratch_part("import", bytes)?;
        let copied = copy(&mut file, from, &mut part, &mut Meter::new(progress, bytes, 0));
        let want = copied.map(|()| Want { name: self.import_name(from, &part.digest()), sha256: part.digest(), bytes });
        let want = match want {
            Ok(want) => want,
            Err(e) => {
                part.discard()?;
                return Err(e);
            }
        };
        let _lock = self.lock(&want, progress)?;
        let was_there = self.has_blob(&want.sha256, bytes);
        if was_there {
            part.discard()?
        } else {
            part.install(&self.layout.blob(&want.sha256))?
        }
        self.finish(&want, label, self.catalogue.find_digest(&want.sha256).is_some(), was_there)
    }

    /// The catalogue's name for this content, or one made from the file's name.
    fn import_name(&self, from: &Path, sha256: &Digest) -> String {
        if let Some(entry) = self.catalogue.find_digest(sha256) {
            return entry.name.clone();
        }
        let stem = from.file_stem().unwrap_or_default().to_string_lossy();
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
        let name: String = stem.chars().map(plain).take(80).collect();
        let name = name.trim_matches(['.', '-']).to_string();
        let name = if name.is_empty() { "model".to_string() } else { name };
        let is_other = |r: Record| r.sha256 != sha256.to_string();
        if self.catalogue.find(&name).is_some() || record::read(&self.layout, &name).is_some_and(is_other) {
            return format!("{name}-{}", &sha256.to_string()[..8]);
        }
        name
    }

    /// Tries the sources in order. Returns the one that worked, and whether the file was there already.
    fn fetch(
        &self,
        want: &Want,
        sources: &[Box<dyn Source>],
        progress: &mut dyn Progress,
    ) -> Result<(String, bool), StoreError> {
        if self.has_blob(&want.sha256, want.bytes) {
            return Ok((String::new(), true));
        }
        let _lock = self.lock(want, progress)?;
        if self.has_blob(&want.sha256, want.bytes) {
            return Ok((String::new(), true));
        }
        // Whatever lies under the blob's name with another length is not the file.
        remove_if_there(&self.layout.blob(&want.sha256))?;
        let mut part = self.open_part(self.layout.part(&want.sha256), want.bytes)?;
        let mut tried = Vec::new();
        for source in sources {
            let label = source.label();
            self.check_disk(part.remaining().saturating_add(source.scratch_bytes()))?;
            match self.fetch_from(source.as_ref(), &label, want, &mut part, progress) {
                Ok(()) => {
                    part.install(&self.layout.blob(&want.sha256))?;
                    return Ok((label, false));
                }
                Err(SourceError::Local(e)) => return Err(e),
                Err(SourceError::Failed(why)) => {
                    progress.event(Event::SourceFailed { source: &label, why: &why });
                    tried.push(Tried { source: label, why });
                }
            }
        }
        if part.len() == 0 {
            part.discard()?;
        }
        Err(self.all_failed(&want.name, Some(want), tried))
    }

    /// One source, twice if its bytes continued an older part and the whole does not fit the digest.
    fn fetch_from(
        &self,
        source: &dyn Source,
        label: &str,
        want: &Want,
        part: &mut Part,
        progress: &mut dyn Progress,
    ) -> Result<(), SourceError> {
        loop {
            let resumed_at = part.len();
            progress.event(Event::Source { source: label, resumed_at });
            source.fetch(part, &mut Meter::new(progress, want.bytes, resumed_at))?;
            let got = part.digest();
            if got == want.sha256 && part.remaining() == 0 {
                return Ok(());
            }
            part.restart()?;
            if resumed_at == 0 {
                return Err(SourceError::Failed(format!(
                    "its bytes are wrong: their sha256 is {got}, not {}",
                    want.sha256
                )));
            }
            progress.event(Event::Note { what: "what an earlier pull left does not fit: starting again" });
        }
    }

    fn all_failed(&self, name: &str, want: Option<&Want>, tried: Vec<Tried>) -> StoreError {
        let file = want.and_then(|w| self.catalogue.find_digest(&w.sha256));
        let what =
            file.map_or("the file".to_string(), |e| format!("{} ({} bytes, sha256 {})", e.file, e.bytes, e.sha256));
        let advice = format!(
            "Pull again to continue where it stopped. Without a network: bring {what} to this machine in any way, then: vonk pull PATH"
        );
        StoreError::AllSourcesFailed { name: name.to_string(), tried, advice }
    }

    fn hub(&self) -> Result<Hub, String> {
        Hub::new(self.hub_endpoint.as_deref(), self.token.clone())
    }

    fn open_part(&self, path: PathBuf, bytes: u64) -> Result<Part, StoreError> {
        let mut part = Part::open(path, bytes)?;
        part.set_fault(self.write_fault.as_ref().map(|make| make()));
        Ok(part)
    }

    /// A part whose digest is not known yet: it cannot be continued, and is cleared when its owner is gone.
    fn scratch_part(&self, prefix: &str, bytes: u64) -> Result<Part, StoreError> {
        let _guard = scratch_guard(&self.layout.partial)?;
        let part = self.open_part(self.layout.partial.join(format!("{}.part", unique(prefix))), bytes)?;
        part.hold().map(|()| part)
    }

    /// Refuses when `need` bytes and the spare do not fit.
    fn check_disk(&self, need: u64) -> Result<(), StoreError> {
        match (self.free_bytes)(&self.layout.root) {
            Some(free) if free < need.saturating_add(DISK_SPARE_BYTES) => {
                Err(StoreError::DiskShort { path: self.layout.root.clone(), need, free, spare: DISK_SPARE_BYTES })
            }
            _ => Ok(()),
        }
    }

    /// The complete file is there. Only complete, checked files get this name, so its length is check enough.
    pub(crate) fn has_blob(&self, sha256: &Digest, bytes: u64) -> bool {
        std::fs::symlink_metadata(self.layout.blob(sha256)).is_ok_and(|m| m.is_file() && m.len() == bytes)
    }

    fn pulled_before(&self, name: &str) -> Option<Pulled> {
        let record = record::read(&self.layout, name)?;
        let sha256 = Digest::parse(&record.sha256)?;
        let path = self.layout.blob(&sha256);
        let has_blob = self.has_blob(&sha256, record.bytes);
        has_blob.then_some(Pulled { name: record.name, path, sha256, bytes: record.bytes, was_there: true })
    }

    /// Waits until no other pull, here or in another process, works on this file. Shows the other's progress meanwhile.
    fn lock(&self, want: &Want, progress: &mut dyn Progress) -> Result<File, StoreError> {
        let path = self.layout.lock(&want.sha256);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(StoreError::io("cannot open the lock", &path))?;
        let mut is_told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(StoreError::io("cannot lock", &path)(e)),
            }
            if !is_told {
                progress.event(Event::Waiting { name: &want.name });
                is_told = true;
            }
            if let Ok(meta) = std::fs::metadata(self.layout.part(&want.sha256)) {
                progress.event(Event::Bytes { done: meta.len(), total: want.bytes, bytes_per_s: 0.0 });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Locks a digest without telling anybody; for removal.
    pub(crate) fn lock_digest(&self, name: &str, sha256: Digest, bytes: u64) -> Result<File, StoreError> {
        self.lock(&Want { name: name.to_string(), sha256, bytes }, &mut crate::progress::Silent)
    }

    fn check_is_gguf(&self, want: &Want) -> Result<(), StoreError> {
        let path = self.layout.blob(&want.sha256);
        let mut magic = [0u8; 4];
        let read = File::open(&path).and_then(|mut f| f.read_exact(&mut magic));
        if read.is_ok() && magic == *b"GGUF" {
            return Ok(());
        }
        remove_if_there(&path)?;
        Err(StoreError::NotAModel { path: PathBuf::from(&want.name), why: "it does not begin with `GGUF`".into() })
    }

    fn finish(&self, want: &Want, source: String, is_pinned: bool, was_there: bool) -> Result<Pulled, StoreError> {
        let pulled = Pulled {
            name: want.name.clone(),
            path: self.layout.blob(&want.sha256),
            sha256: want.sha256,
            bytes: want.bytes,
            was_there,
        };
        if was_there && record::read(&self.layout, &want.name).is_some_and(|r| r.sha256 == want.sha256.to_string()) {
            return Ok(pulled);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let source = if source.is_empty() { "found in the store".to_string() } else { source };
        record::write(
            &self.layout,
            &Record {
                name: want.name.clone(),
                sha256: want.sha256.to_string(),
                bytes: want.bytes,
                source,
                is_pinned,
                pulled_at_s: now,
            },
        )?;
        Ok(pulled)
    }
}

fn hub_source(hub: &Hub, spec: &HubSpec, pinned: Option<Digest>) -> UrlSource {
    let file = spec.file.as_deref().unwrap_or("");
    UrlSource {
        client: hub.client.clone(),
        url: hub.url(spec, file),
        label: format!("the model hub ({}/{file})", spec.repo),
        pinned,
    }
}

/// Copies a whole file into the part; the first bytes must be a GGUF's.
fn copy(file: &mut File, from: &Path, part: &mut Part, meter: &mut Meter<'_>) -> Result<(), StoreError> {
    let not_a_model = |why: &str| StoreError::NotAModel { path: from.to_path_buf(), why: why.to_string() };
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) if part.remaining() == 0 => return Ok(()),
            Ok(0) => return Err(not_a_model("it became shorter while it was read")),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(StoreError::io("cannot read", from)(e)),
        };
        if part.len() == 0 && !buffer[..n].starts_with(b"GGUF") {
            return Err(not_a_model("it does not begin with `GGUF`"));
        }
        match part.append(&buffer[..n]) {
            Ok(()) => meter.at(part.len()),
            Err(crate::part::AppendError::TooMany) => return Err(not_a_model("it became longer while it was read")),
            Err(crate::part::AppendError::Disk(e)) => return Err(e),
        }
    }
}
