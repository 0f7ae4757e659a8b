//! The cache that Hugging Face's own tools keep, read as it is and never written.
//!
//! ```text
//! models--OWNER--NAME/refs/main                 the commit of the branch
//! models--OWNER--NAME/snapshots/COMMIT/PATH     a link to
//! models--OWNER--NAME/blobs/DIGEST              the file's bytes; SHA-256 or git's hash
//! ```
//! Source: huggingface_hub 2.4, "Understand caching".

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::choose::is_tower;
use crate::digest::Digest;
use crate::name::Repository;

/// The longest list of shards, and the longest name of a commit.
const INDEX_BYTES_MAX: u64 = 64 << 20;
const REVISION_BYTES_MAX: u64 = 200;

/// A folder such as `~/.cache/huggingface/hub`; it need not exist.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

/// A model that is there whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// `OWNER/NAME`.
    pub id: String,
    /// The commit.
    pub revision: String,
    /// The folder with its files.
    pub folder: PathBuf,
    /// The GGUF file that is the model; `None` if the folder is.
    pub main: Option<PathBuf>,
}

impl Cache {
    /// The cache in a folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Every model whose main branch is there whole, by name. A folder with several GGUF files counts once for each.
    #[must_use]
    pub fn models(&self) -> Vec<Cached> {
        let Ok(listing) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let names = listing.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let ids = names.filter_map(|name| Some(name.strip_prefix("models--")?.replace("--", "/")));
        let snapshots = ids.filter_map(|id| self.find(&Repository { id, revision: None }));
        let mut found: Vec<Cached> = snapshots.flat_map(whole).collect();
        found.sort_by(|left, right| (&left.id, &left.main).cmp(&(&right.id, &right.main)));
        found
    }

    /// The snapshot of a model, whole or not.
    #[must_use]
    pub fn find(&self, repository: &Repository) -> Option<Cached> {
        let folder = self.folder_of(repository);
        let wanted = repository.revision.as_deref().unwrap_or("main");
        let reference = folder.join("refs").join(wanted);
        let named = std::fs::metadata(&reference).ok().filter(|named| named.len() <= REVISION_BYTES_MAX);
        let revision = named.and_then(|_| std::fs::read_to_string(&reference).ok());
        let revision = revision.map_or_else(|| wanted.to_owned(), |text| text.trim().to_owned());
        let plain = !revision.is_empty() && !revision.contains(['/', '\\']) && revision != "..";
        let snapshot = folder.join("snapshots").join(&revision);
        let is_there = plain && snapshot.is_dir();
        is_there.then(|| Cached { id: repository.id.clone(), revision, folder: snapshot, main: None })
    }

    /// The file with these bytes, as its name says.
    pub(crate) fn blob(&self, repository: &Repository, digest: &Digest) -> Option<PathBuf> {
        let path = self.folder_of(repository).join("blobs").join(digest.hex());
        path.is_file().then_some(path)
    }

    fn folder_of(&self, repository: &Repository) -> PathBuf {
        self.folder.join(format!("models--{}", repository.id.replace('/', "--")))
    }
}

/// The models in a snapshot, none that lacks a file.
fn whole(snapshot: Cached) -> Vec<Cached> {
    if has_weights(&snapshot.folder) {
        return vec![snapshot];
    }
    let Ok(listing) = std::fs::read_dir(&snapshot.folder) else { return Vec::new() };
    let paths = listing.filter_map(|entry| Some(entry.ok()?.path()));
    let is_gguf = |path: &PathBuf| {
        let is_model = path.extension().is_some_and(|ending| ending == "gguf");
        is_model && !is_tower(&path.to_string_lossy()) && path.is_file()
    };
    paths.filter(is_gguf).map(|path| Cached { main: Some(path), ..snapshot.clone() }).collect()
}

fn has_weights(folder: &Path) -> bool {
    if !folder.join("config.json").is_file() {
        return false;
    }
    let index = folder.join("model.safetensors.index.json");
    let Ok(size_bytes) = std::fs::metadata(&index).map(|metadata| metadata.len()) else {
        return folder.join("model.safetensors").is_file();
    };
    let text = if size_bytes <= INDEX_BYTES_MAX { std::fs::read(&index).unwrap_or_default() } else { Vec::new() };
    let json = serde_json::from_slice::<Value>(&text).unwrap_or_default();
    let shards = json["weight_map"].as_object();
    let is_there = |shard: &Value| shard.as_str().is_some_and(|shard| folder.join(shard).is_file());
    shards.is_some_and(|shards| !shards.is_empty() && shards.values().all(is_there))
}
