//! Hugging Face's hub, and whoever speaks its protocol: mirrors, and other Sampans.
//!
//! `GET /api/models/ID/revision/REVISION?blobs=true` lists the files with their sizes and digests, `GET
//! /ID/resolve/COMMIT/PATH` answers a file, or where it is. Source: huggingface_hub 2.4, `hf_api.py` and
//! `file_download.py`. A Sampan also knows `POST /api/models/ID/send/COMMIT`, which sends by the mover and answers one
//! JSON object a line meanwhile, the last one with `done` or `error`.

use std::ops::Range;

use serde_json::{Value, json};

use crate::choose::FILES_MAX;
use crate::digest::{Digest, unhex};
use crate::error::{Error, Result, at_most};
use crate::http::{Http, HttpOptions};
use crate::name::Repository;
use crate::source::{Landing, Listing, Remote, Sink, Source};

/// The branch if none is named.
const MAIN: &str = "main";

/// A hub that speaks Hugging Face's protocol.
pub struct HuggingFace {
    http: Http,
    endpoint: String,
}

impl HuggingFace {
    /// Its public address.
    pub const ENDPOINT: &'static str = "https://huggingface.co";

    /// A client of the hub at this address.
    ///
    /// # Errors
    /// If the address is none or no client can be made.
    pub fn new(options: &HttpOptions) -> Result<Self> {
        let secrets = options.token.iter().map(|token| ("authorization", format!("Bearer {token}"))).collect();
        Ok(Self { http: Http::new(options, secrets)?, endpoint: options.endpoint.trim_end_matches('/').to_owned() })
    }
}

impl Source for HuggingFace {
    fn name(&self) -> String {
        self.endpoint.clone()
    }

    fn list(&self, repository: &Repository) -> Result<Listing> {
        let revision = repository.revision.as_deref().unwrap_or(MAIN);
        let parts = [&["api", "models"], owner_and_name(repository).as_slice(), &["revision", revision]].concat();
        let url = self.http.url(&parts, &[("blobs", "true")]);
        let json = self.http.json(&url)?;
        let wrong = |why: &str| Error::Answer { url: url.to_string(), why: why.to_owned() };
        let commit = json["sha"].as_str().ok_or_else(|| wrong("it names no commit"))?;
        if commit.is_empty() || commit.len() > 64 || !commit.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong("its commit is none"));
        }
        let siblings = json["siblings"].as_array().ok_or_else(|| wrong("it lists no files"))?;
        at_most("files of a model", siblings.len() as u64, FILES_MAX)?;
        let files: Option<Vec<Remote>> = siblings.iter().map(remote).collect();
        let files = files.ok_or_else(|| wrong("a file has no name or no size"))?;
        Ok(Listing { repository: repository.clone(), revision: commit.to_owned(), files })
    }

    fn read(&self, listing: &Listing, file: &Remote, range: Range<u64>, sink: &mut Sink<'_>) -> Result<()> {
        let mut parts = owner_and_name(&listing.repository);
        parts.extend(["resolve", &listing.revision]);
        parts.extend(file.path.split('/'));
        self.http.read(&self.http.url(&parts, &[]), file.size_bytes, range, sink)
    }

    fn send_to(
        &self,
        listing: &Listing,
        files: &[&Remote],
        landing: &Landing,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let id = owner_and_name(&listing.repository);
        let url = self.http.url(&[&["api", "models"], id.as_slice(), &["send", &listing.revision]].concat(), &[]);
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let body = json!({"files": paths, "addresses": landing.addresses, "token": landing.token});
        let mut is_done = false;
        let mut line = |said: Value| {
            if let Some(message) = said["error"].as_str() {
                return Err(Error::NotSent { place: self.name(), message: message.to_owned() });
            }
            is_done |= said["done"].as_bool().unwrap_or(false);
            tick()
        };
        let sent = self.http.lines(&url, &body, &mut line);
        match sent {
            // A hub has no such address, and a server without models of its own does not answer it.
            Err(Error::Status { status: 404 | 405, message, .. }) if message.is_empty() => {
                Err(Error::NoMover { place: self.name() })
            }
            Ok(()) if !is_done => {
                Err(Error::NotSent { place: self.name(), message: "its answer ended too early".to_owned() })
            }
            other => other,
        }
    }
}

pub(crate) fn owner_and_name(repository: &Repository) -> Vec<&str> {
    repository.id.split('/').collect()
}

fn remote(sibling: &Value) -> Option<Remote> {
    let lfs = &sibling["lfs"];
    // A file in large-file storage is named by its SHA-256; its `blobId` is that of the pointer to it.
    let digest = if lfs.is_object() {
        lfs["sha256"].as_str().and_then(unhex).map(Digest::Sha256)
    } else {
        sibling["blobId"].as_str().and_then(unhex).map(Digest::GitBlob)
    };
    let blake3 = sibling["blake3"].as_str().and_then(unhex).map(Digest::Blake3);
    let size_bytes = sibling["size"].as_u64().or_else(|| lfs["size"].as_u64())?;
    Some(Remote { path: sibling["rfilename"].as_str()?.to_owned(), size_bytes, digest: blake3.or(digest) })
}
