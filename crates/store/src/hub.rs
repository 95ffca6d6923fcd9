//! The model hub: which address a file has, and which files a repository has.
//!
//! The crate `hf-hub` knows the hub's host and its address forms; the bytes are fetched by `http`, because the crate
//! checks no digest, sets no time limits and would read the user's stored login by itself.

use std::path::PathBuf;

use base::limits::HUB_LIST_BYTES_MAX;
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

use crate::error::{StoreError, printable};
use crate::http::Client;
use crate::spec::{HubSpec, is_plain_part};

/// The hub's addresses.
pub(crate) struct Hub {
    api: Api,
    pub client: Client,
}

#[derive(Deserialize)]
struct RepoList {
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Hub {
    /// `endpoint` replaces the hub's own address (a company's proxy, a test); `token` is sent there and nowhere else.
    pub fn new(endpoint: Option<&str>, token: Option<String>) -> Result<Self, String> {
        // An own, unused cache folder: the crate's default looks for a home folder, and panics without one.
        let mut builder = ApiBuilder::from_cache(Cache::new(PathBuf::new())).with_token(None).with_progress(false);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_string());
        }
        let api = builder.build().map_err(|e| printable(&e.to_string(), 200))?;
        Ok(Self { api, client: Client::new(token) })
    }

    fn repo(&self, spec: &HubSpec) -> ApiRepo {
        self.api.repo(Repo::with_revision(spec.repo.clone(), RepoType::Model, spec.revision.clone()))
    }

    /// The address of one file.
    pub fn url(&self, spec: &HubSpec, file: &str) -> String {
        self.repo(spec).url(file)
    }

    /// The file meant when none is named: the only GGUF, or the only one that says Q4_K_M.
    pub fn choose_file(&self, spec: &HubSpec) -> Result<String, StoreError> {
        let failed = |why: String| StoreError::AllSourcesFailed {
            name: spec.to_string(),
            tried: vec![crate::error::Tried { source: "the model hub".into(), why }],
            advice: "Name the file: hf:OWNER/REPO/FILE.gguf. Without a network: vonk pull PATH.".into(),
        };
        let request = self.repo(spec).info_request();
        let url = request.uri_ref().map(ToString::to_string).unwrap_or_default();
        let body = self.client.get_small(&url, HUB_LIST_BYTES_MAX).map_err(failed)?;
        let list: RepoList = serde_json::from_slice(&body).map_err(|e| failed(format!("unreadable file list: {e}")))?;
        // Names come from the network: only plain ones are considered, and they are used in the address, never as a path.
        let is_plain = |f: &String| f.split('/').all(is_plain_part) && f.to_ascii_lowercase().ends_with(".gguf");
        let files: Vec<String> = list.siblings.into_iter().map(|s| s.rfilename).filter(is_plain).collect();
        let usual: Vec<&String> = files.iter().filter(|f| f.to_ascii_lowercase().contains("q4_k_m")).collect();
        match (files.as_slice(), usual.as_slice()) {
            ([only], _) => Ok(only.clone()),
            (_, [usual]) => Ok((*usual).clone()),
            ([], _) => {
                Err(StoreError::BadSpec { spec: spec.to_string(), why: "the repository has no .gguf file".into() })
            }
            _ => {
                let shown: Vec<String> = files.iter().take(20).map(|f| printable(f, 100)).collect();
                let why = format!("the repository has several .gguf files, choose one: {}", shown.join(", "));
                Err(StoreError::BadSpec { spec: spec.to_string(), why })
            }
        }
    }
}
