//! The store itself: its folders, what is in it, and removal. Pulling is in `pull`, finding and opening in `load`.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::catalogue::Catalogue;
use crate::digest::Digest;
use crate::error::StoreError;
use crate::part::WriteFault;
use crate::paths::{Layout, config_dir, default_root, remove_if_there, sync_dir};
use crate::record::{self, Record};

type FreeBytes = Box<dyn Fn(&Path) -> Option<u64> + Send + Sync>;
type MakeWriteFault = Box<dyn Fn() -> WriteFault + Send + Sync>;

/// Model files on this machine, and the catalogue of those that can be fetched.
///
/// Several processes may use the same folder at once.
pub struct Store {
    pub(crate) layout: Layout,
    pub(crate) catalogue: Catalogue,
    pub(crate) hub_endpoint: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) pythons: Vec<String>,
    /// Bytes free on a path's disk; a test puts its own here.
    pub(crate) free_bytes: FreeBytes,
    /// For tests: what each part's writes meet.
    pub(crate) write_fault: Option<MakeWriteFault>,
}

/// One line of `vonk models`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    /// The name to run or pull it by.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// What the catalogue says about it.
    pub description: String,
    /// 64 hex digits.
    pub sha256: String,
    /// Length of the file.
    pub bytes: u64,
    /// SPDX name; empty for models outside the catalogue.
    pub licence: String,
    /// Context length in tokens; 0 for models outside the catalogue (`vonk inspect` tells).
    pub context: u32,
    /// The file, when it is on this machine.
    pub path: Option<PathBuf>,
    /// Where it was pulled from; empty when it is not here.
    pub source: String,
    /// It is the model that is used when none is named.
    pub is_default: bool,
}

/// What is there, and what had to be dropped on the way.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Catalogue entries first, in their order; then other pulled models by name.
    pub models: Vec<Listed>,
    /// One line for each damaged record that was dropped.
    pub notes: Vec<String>,
}

/// What `rm` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The model's name.
    pub name: String,
    /// Bytes given back; 0 when another name still uses the file.
    pub bytes_freed: u64,
}

impl Store {
    /// Opens the store in `root`, or in `$VONK_HOME`, or in `vonk` in the user's cache folder. Makes its folders.
    ///
    /// The user's own `models.toml` and `mirrors.toml` are read from the configuration folder (`$VONK_HOME/config`,
    /// or `vonk` in the user's configuration folder). `HF_ENDPOINT` names another hub; `HF_TOKEN` is a login for it.
    ///
    /// # Errors
    /// No folder can be found or made; a catalogue file is wrong.
    pub fn open(root: Option<PathBuf>) -> Result<Self, StoreError> {
        let env = |name: &str| std::env::var(name).ok();
        let given = |name: &str| env(name).filter(|v| !v.is_empty());
        let layout = Layout::create(root.or_else(|| default_root(&env)).ok_or(StoreError::NoHome)?)?;
        Ok(Self {
            layout,
            catalogue: Catalogue::load(config_dir(&env).as_deref())?,
            hub_endpoint: given("HF_ENDPOINT"),
            token: given("HF_TOKEN"),
            pythons: crate::mirror::pythons(),
            free_bytes: Box::new(crate::map::free_bytes),
            write_fault: None,
        })
    }

    /// The folder of this store.
    pub fn root(&self) -> &Path {
        &self.layout.root
    }

    /// The folder for KV pages (`KvFile`); made when it is first used.
    pub fn kv_dir(&self) -> PathBuf {
        self.layout.root.join("kv")
    }

    /// The models that can be pulled by name.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// All models: those of the catalogue, here or not, and those pulled from elsewhere.
    ///
    /// # Errors
    /// The folder of names cannot be read.
    pub fn list(&self) -> Result<Listing, StoreError> {
        let (records, notes) = record::read_all(&self.layout)?;
        let source_of = |name: &str| records.iter().find(|r| r.name == name).map_or("", |r| r.source.as_str());
        let mut models: Vec<Listed> = Vec::new();
        for e in self.catalogue.entries() {
            let path = self.has_blob(&e.sha256, e.bytes).then(|| self.layout.blob(&e.sha256));
            models.push(Listed {
                name: e.name.clone(),
                aliases: e.aliases.clone(),
                description: e.description.clone(),
                sha256: e.sha256.to_string(),
                bytes: e.bytes,
                licence: e.licence.clone(),
                context: e.context,
                source: if path.is_some() { source_of(&e.name).to_string() } else { String::new() },
                path,
                is_default: e.name == self.catalogue.default_name(),
            });
        }
        let others = records.iter().filter(|r| self.catalogue.find(&r.name).is_none());
        models.extend(others.map(|r| self.listed(r)));
        Ok(Listing { models, notes })
    }

    fn listed(&self, r: &Record) -> Listed {
        let digest = Digest::parse(&r.sha256);
        Listed {
            name: r.name.clone(),
            aliases: Vec::new(),
            description: String::new(),
            sha256: r.sha256.clone(),
            bytes: r.bytes,
            licence: String::new(),
            context: 0,
            path: digest.filter(|d| self.has_blob(d, r.bytes)).map(|d| self.layout.blob(&d)),
            source: r.source.clone(),
            is_default: false,
        }
    }

    /// Forgets a model. Its file goes too, finished or not, unless another name uses it. Waits for a pull of the same file.
    ///
    /// # Errors
    /// Nothing goes by this name; the files cannot be removed.
    pub fn remove(&self, name: &str) -> Result<Removed, StoreError> {
        let entry = self.catalogue.find(name);
        let name = entry.map_or(name, |e| e.name.as_str());
        let record = record::read(&self.layout, name);
        let known = record.as_ref().and_then(|r| Digest::parse(&r.sha256).map(|d| (d, r.bytes)));
        let Some((digest, bytes)) = known.or_else(|| entry.map(|e| (e.sha256, e.bytes))) else {
            return Err(StoreError::Unknown { name: name.to_string(), near: self.near(name) });
        };
        let _lock = self.lock_digest(name, digest, bytes)?;
        let had_record = record::remove(&self.layout, name)?;
        let (others, _) = record::read_all(&self.layout)?;
        if others.iter().any(|r| Digest::parse(&r.sha256) == Some(digest)) {
            return Ok(Removed { name: name.to_string(), bytes_freed: 0 });
        }
        let mut bytes_freed = 0u64;
        for path in [self.layout.blob(&digest), self.layout.part(&digest)] {
            let len = fs::symlink_metadata(&path).map_or(0, |m| m.len());
            if remove_if_there(&path)? {
                bytes_freed = bytes_freed.saturating_add(len);
            }
        }
        sync_dir(&self.layout.blobs)?;
        if !had_record && bytes_freed == 0 {
            return Err(StoreError::NotPulled { name: name.to_string() });
        }
        Ok(Removed { name: name.to_string(), bytes_freed })
    }

    /// Reads a pulled model's whole file and compares its digest.
    ///
    /// # Errors
    /// `Digest` when the file was damaged on disk; `NotPulled`, `Unknown`.
    pub fn verify(&self, name: &str) -> Result<Digest, StoreError> {
        let found = self.resolve(name)?;
        let got = Digest::of_file(&found.path)?;
        match found.sha256 {
            Some(want) if want != got => {
                Err(StoreError::Digest { what: found.name, want: want.to_string(), got: got.to_string() })
            }
            _ => Ok(got),
        }
    }

    /// Names spelt like `name`, of the catalogue and of pulled models.
    pub(crate) fn near(&self, name: &str) -> Vec<String> {
        let records = record::read_all(&self.layout).map(|(records, _)| records).unwrap_or_default();
        let pulled = records.iter().map(|r| r.name.as_str());
        crate::spec::near(name, self.catalogue.entries().iter().map(|e| e.name.as_str()).chain(pulled))
    }

    /// Removes scratch files and folders whose owners are gone (killed pulls). An owner holds a lock on its own.
    pub(crate) fn clear_scratch(&self) -> Result<(), StoreError> {
        let _guard = scratch_guard(&self.layout.partial)?;
        let entries =
            fs::read_dir(&self.layout.partial).map_err(StoreError::io("cannot list", &self.layout.partial))?;
        for entry in entries.take(10_000).flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !["pip-", "import-", "unpinned-"].iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            let owner = if is_dir { path.join("owner") } else { path.clone() };
            let is_free = File::open(&owner).map_or(true, |file| file.try_lock().is_ok());
            if is_free {
                let _ = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
        Ok(())
    }
}

/// Held while a scratch file is made and locked, and while abandoned ones are looked for, so that neither meets the other
/// half way.
pub(crate) fn scratch_guard(partial: &Path) -> Result<File, StoreError> {
    let path = partial.join("scratch.lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let locked = file.and_then(|file| file.lock().map(|()| file));
    locked.map_err(StoreError::io("cannot lock", &path))
}
