//! ModelScope's hub.
//!
//! `GET /api/v1/models/ID/repo/files?Recursive=true&Revision=…` lists the files, `GET
//! /api/v1/models/ID/repo?Revision=…&FilePath=…` answers one. Source: modelscope 1.30, `hub/api.py` and
//! `hub/file_download.py`. A revision is a branch there, so a file that changes under way is noticed by its digest.

use std::ops::Range;

use serde_json::Value;

use crate::choose::FILES_MAX;
use crate::digest::{Digest, unhex};
use crate::error::{Error, Result, at_most};
use crate::http::{Http, HttpOptions};
use crate::huggingface::owner_and_name;
use crate::name::Repository;
use crate::source::{Listing, Remote, Sink, Source};

/// The branch if none is named.
const MASTER: &str = "master";

/// ModelScope's hub.
pub struct ModelScope {
    http: Http,
    endpoint: String,
}

impl ModelScope {
    /// Its public address.
    pub const ENDPOINT: &'static str = "https://modelscope.cn";

    /// A client of the hub at this address.
    ///
    /// # Errors
    /// If the address is none or no client can be made.
    pub fn new(options: &HttpOptions) -> Result<Self> {
        let secrets = options.token.iter().map(|token| ("cookie", format!("m_session_id={token}"))).collect();
        Ok(Self { http: Http::new(options, secrets)?, endpoint: options.endpoint.trim_end_matches('/').to_owned() })
    }
}

impl Source for ModelScope {
    fn name(&self) -> String {
        self.endpoint.clone()
    }

    fn list(&self, repository: &Repository) -> Result<Listing> {
        let revision = repository.revision.as_deref().unwrap_or(MASTER);
        let parts = [&["api", "v1", "models"], owner_and_name(repository).as_slice(), &["repo", "files"]].concat();
        let url = self.http.url(&parts, &[("Revision", revision), ("Recursive", "true")]);
        let json = self.http.json(&url)?;
        let wrong = |why: &str| Error::Answer { url: url.to_string(), why: why.to_owned() };
        let files = json["Data"]["Files"].as_array().ok_or_else(|| wrong("it lists no files"))?;
        at_most("files of a model", files.len() as u64, FILES_MAX)?;
        let is_file = |file: &&Value| file["Type"].as_str() != Some("tree");
        let files: Option<Vec<Remote>> = files.iter().filter(is_file).map(remote).collect();
        let files = files.ok_or_else(|| wrong("a file has no name or no size"))?;
        Ok(Listing { repository: repository.clone(), revision: revision.to_owned(), files })
    }

    fn read(&self, listing: &Listing, file: &Remote, range: Range<u64>, sink: &mut Sink<'_>) -> Result<()> {
        let parts = [&["api", "v1", "models"], owner_and_name(&listing.repository).as_slice(), &["repo"]].concat();
        let query = [("Revision", listing.revision.as_str()), ("FilePath", file.path.as_str())];
        self.http.read(&self.http.url(&parts, &query), file.size_bytes, range, sink)
    }
}

fn remote(file: &Value) -> Option<Remote> {
    let digest = file["Sha256"].as_str().and_then(unhex).map(Digest::Sha256);
    Some(Remote { path: file["Path"].as_str()?.to_owned(), size_bytes: file["Size"].as_u64()?, digest })
}
