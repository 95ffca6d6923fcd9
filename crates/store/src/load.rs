//! From a name or a path to mapped bytes and a checked description.

use std::path::{Path, PathBuf};

use base::limits::{CONFIG_BYTES_MAX, MODEL_DIR_FILES_MAX, TOKENIZER_JSON_BYTES_MAX};
use formats::{FormatError, ModelDesc};

use crate::digest::Digest;
use crate::error::StoreError;
use crate::map::ModelFile;
use crate::record;
use crate::store::Store;

/// Where a model lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The catalogue's name, the pulled name, or the path as it was given.
    pub name: String,
    /// A file, or a folder of safetensors files.
    pub path: PathBuf,
    /// The digest, for files of the store.
    pub sha256: Option<Digest>,
}

/// A model's description and the bytes that it points into.
pub struct LoadedModel {
    /// What the files say, checked against their lengths.
    pub desc: ModelDesc,
    /// The mapped files in the order that the description counts them in: one GGUF, or the safetensors files by name.
    pub files: Vec<ModelFile>,
}

impl LoadedModel {
    /// The bytes of every file, in the description's order.
    pub fn bytes(&self) -> Vec<&[u8]> {
        self.files.iter().map(ModelFile::bytes).collect()
    }

    /// Lets go of the pages of some bytes of a tensor that were copied elsewhere, so that loading needs memory for the weights
    /// only once.
    pub fn release(&self, tensor: &formats::TensorDesc, range: std::ops::Range<usize>) {
        if let (Some(file), Some(at)) =
            (self.files.get(tensor.file), tensor.extent.offset().checked_add(range.start as u64))
        {
            file.release(at, range.len() as u64);
        }
    }

    /// Opens and describes a GGUF file or a folder of safetensors files. Weights are mapped, not read.
    ///
    /// # Errors
    /// The file cannot be opened, or is no model that can be run (`Format`, with the byte or the field).
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if path.is_dir() { Self::open_folder(path) } else { Self::open_gguf(path) }
    }

    fn open_gguf(path: &Path) -> Result<Self, StoreError> {
        let file = ModelFile::open(path)?;
        let desc = ModelDesc::from_gguf(file.bytes()).map_err(format_error(path))?;
        Ok(Self { desc, files: vec![file] })
    }

    fn open_folder(folder: &Path) -> Result<Self, StoreError> {
        let files = open_weights(folder)?;
        let config = small_file(folder, "config.json", CONFIG_BYTES_MAX)?;
        let tokenizer = small_file(folder, "tokenizer.json", TOKENIZER_JSON_BYTES_MAX)?;
        let tokenizer_config = optional(folder, "tokenizer_config.json", CONFIG_BYTES_MAX)?;
        let generation_config = optional(folder, "generation_config.json", CONFIG_BYTES_MAX)?;
        let weights: Vec<&[u8]> = files.iter().map(ModelFile::bytes).collect();
        let desc = ModelDesc::from_safetensors(
            &weights,
            config.bytes(),
            tokenizer.bytes(),
            tokenizer_config.as_ref().map(ModelFile::bytes),
            generation_config.as_ref().map(ModelFile::bytes),
        )
        .map_err(format_error(folder))?;
        Ok(Self { desc, files })
    }
}

impl Store {
    /// Finds a model: a catalogue name or alias, the name of a model pulled before, or the path of a file or folder.
    /// A name wins over a file of the same name in the working folder; write `./NAME` for that.
    ///
    /// # Errors
    /// `NotPulled` says how to fetch it; `Unknown` says which names are spelt alike.
    pub fn resolve(&self, name_or_path: &str) -> Result<Found, StoreError> {
        let found = |name: &str, digest: Digest| Found {
            name: name.to_string(),
            path: self.layout.blob(&digest),
            sha256: Some(digest),
        };
        let entry = self.catalogue.find(name_or_path);
        if let Some(e) = entry.filter(|e| self.has_blob(&e.sha256, e.bytes)) {
            return Ok(found(&e.name, e.sha256));
        }
        let record = record::read(&self.layout, name_or_path);
        let digest = record.as_ref().and_then(|r| Digest::parse(&r.sha256).filter(|d| self.has_blob(d, r.bytes)));
        if let (Some(r), Some(digest)) = (&record, digest) {
            return Ok(found(&r.name, digest));
        }
        let path = Path::new(name_or_path);
        if path.exists() {
            return Ok(Found { name: name_or_path.to_string(), path: path.to_path_buf(), sha256: None });
        }
        if let Some(name) = entry.map(|e| e.name.clone()).or(record.map(|r| r.name)) {
            return Err(StoreError::NotPulled { name });
        }
        if matches!(crate::spec::Spec::parse(name_or_path), Ok(crate::spec::Spec::Hub(_))) {
            return Err(StoreError::NotPulled { name: name_or_path.to_string() });
        }
        let name = crate::error::printable(name_or_path, 200);
        Err(StoreError::Unknown { near: self.near(&name), name })
    }

    /// Finds, opens and describes a model.
    ///
    /// # Errors
    /// As `resolve` and [`LoadedModel::open`].
    pub fn load(&self, name_or_path: &str) -> Result<(Found, LoadedModel), StoreError> {
        let found = self.resolve(name_or_path)?;
        let mut model = LoadedModel::open(&found.path)?;
        if let Some(entry) = found.sha256.as_ref().and_then(|d| self.catalogue().find_digest(d)) {
            model.desc.suggested = entry.sampling.or(model.desc.suggested);
        }
        Ok((found, model))
    }
}

fn format_error(path: &Path) -> impl FnOnce(FormatError) -> StoreError + '_ {
    move |source| StoreError::Format { path: path.to_path_buf(), source }
}

/// The folder's safetensors files in name order, mapped.
fn open_weights(folder: &Path) -> Result<Vec<ModelFile>, StoreError> {
    let entries = std::fs::read_dir(folder).map_err(StoreError::io("cannot list", folder))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(StoreError::io("cannot list", folder))?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            paths.push(path);
        }
        if paths.len() > MODEL_DIR_FILES_MAX {
            let why = format!("it has more than {MODEL_DIR_FILES_MAX} .safetensors files");
            return Err(StoreError::NotAModel { path: folder.to_path_buf(), why });
        }
    }
    if paths.is_empty() {
        let why = "the folder has no .safetensors files; give the path of a .gguf file, or a folder with \
                   .safetensors files, config.json and tokenizer.json";
        return Err(StoreError::NotAModel { path: folder.to_path_buf(), why: why.into() });
    }
    paths.sort();
    paths.iter().map(|path| ModelFile::open(path)).collect()
}

fn small_file(folder: &Path, name: &str, bytes_max: u64) -> Result<ModelFile, StoreError> {
    let path = folder.join(name);
    if !path.exists() {
        let why = format!("the folder has no {name}");
        return Err(StoreError::NotAModel { path: folder.to_path_buf(), why });
    }
    let file = ModelFile::open(&path)?;
    if file.bytes().len() as u64 > bytes_max {
        return Err(StoreError::NotAModel { path, why: format!("it is longer than {bytes_max} bytes") });
    }
    Ok(file)
}

fn optional(folder: &Path, name: &str, bytes_max: u64) -> Result<Option<ModelFile>, StoreError> {
    if folder.join(name).exists() { small_file(folder, name, bytes_max).map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
    }

    #[test]
    fn a_gguf_and_a_folder_of_the_same_model_are_described_alike() {
        let gguf = LoadedModel::open(&golden("tiny-llama.gguf")).unwrap();
        let folder = LoadedModel::open(&golden("tiny-llama")).unwrap();
        assert_eq!(gguf.desc.hp.n_layers, folder.desc.hp.n_layers);
        assert_eq!(gguf.desc.n_params(), folder.desc.n_params());
        for model in [&gguf, &folder] {
            for tensor in &model.desc.tensors {
                let bytes = tensor.extent.of(model.bytes()[tensor.file]).unwrap();
                assert_eq!(bytes.len() as u64, tensor.extent.len());
            }
        }
    }

    #[test]
    fn what_is_no_model_says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let say = || LoadedModel::open(dir.path()).err().unwrap().to_string();
        assert!(say().contains("no .safetensors files"), "{}", say());
        std::fs::write(dir.path().join("model.safetensors"), b"").unwrap();
        assert!(say().contains("no config.json"), "{}", say());
        std::fs::write(dir.path().join("config.json"), b"{}").unwrap();
        std::fs::write(dir.path().join("tokenizer.json"), b"{}").unwrap();
        assert!(LoadedModel::open(dir.path()).err().unwrap().is_bad_input());
        std::fs::write(dir.path().join("config.json"), vec![b' '; CONFIG_BYTES_MAX as usize + 1]).unwrap();
        assert!(say().contains("longer than"), "{}", say());
        assert!(LoadedModel::open(&dir.path().join("none")).is_err());
        let file = dir.path().join("x.gguf");
        std::fs::write(&file, b"GGUF").unwrap();
        assert!(matches!(LoadedModel::open(&file).err().unwrap(), StoreError::Format { .. }));
    }
}
