//! What a pulled model consists of, beside its files.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::choose::FILES_MAX;
use crate::digest::{Digest, unhex};
use crate::error::{Error, Result, at_most};
use crate::name::check_path;

/// The record's name in a model's folder.
pub const RECORD_FILE: &str = ".sampan.json";
/// The version of its form.
pub(crate) const FORMAT: u32 = 1;
/// The longest record: 20,000 files with room.
const RECORD_BYTES_MAX: u64 = 32 << 20;

/// What was pulled, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this form: 1.
    pub format: u32,
    /// Where it came from: a hub's address or a folder.
    pub source: String,
    /// `OWNER/NAME` there.
    pub repository: String,
    /// The commit, or the branch where there are no commits.
    pub revision: String,
    /// When it was whole, in milliseconds since 1970.
    pub pulled_ms: u64,
    /// The GGUF file that is the model; `None` if the folder is.
    pub main: Option<String>,
    /// The files.
    pub files: Vec<RecordedFile>,
}

/// A file of a pulled model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// Relative to the model's folder.
    pub path: String,
    /// How long it is.
    pub size_bytes: u64,
    /// The BLAKE3 hash of its bytes, in hexadecimal digits: its name among the blobs.
    pub blake3: String,
    /// What the hub says its bytes hash to, such as `sha256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Record {
    /// The record in a model's folder; `None` if the model was not pulled.
    ///
    /// # Errors
    /// If it cannot be read, or is no record.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(RECORD_FILE);
        match std::fs::metadata(&path) {
            Ok(metadata) => at_most("bytes of a record", metadata.len(), RECORD_BYTES_MAX)?,
            Err(why) if matches!(why.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(why) => return Err(Error::file("look at", &path)(why)),
        }
        let text = std::fs::read(&path).map_err(Error::file("read", &path))?;
        let wrong = |why: String| Error::Record { path: path.clone(), why };
        let record: Self = serde_json::from_slice(&text).map_err(|why| wrong(why.to_string()))?;
        if record.format != FORMAT {
            return Err(wrong(format!("its form is {}, this program knows {FORMAT}", record.format)));
        }
        at_most("files of a model", record.files.len() as u64, FILES_MAX)?;
        for file in &record.files {
            check_path(&file.path)?;
            unhex::<32>(&file.blake3).ok_or_else(|| wrong(format!("{} has no BLAKE3 hash", file.path)))?;
        }
        match &record.main {
            Some(main) if !record.files.iter().any(|file| file.path == *main) => {
                Err(wrong(format!("{main} is not among its files")))
            }
            Some(_) | None => Ok(Some(record)),
        }
    }

    /// What a file hashes to.
    #[must_use]
    pub fn digest_of(&self, path: &str) -> Option<Digest> {
        let file = self.files.iter().find(|file| file.path == path)?;
        unhex(&file.blake3).map(Digest::Blake3)
    }

    /// A hash over the names and contents of all files: the same for the same model, wherever it came from.
    #[must_use]
    pub fn contents(&self) -> [u8; 32] {
        let mut files: Vec<(&str, &str)> =
            self.files.iter().map(|file| (file.path.as_str(), file.blake3.as_str())).collect();
        files.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for (path, blake3) in files {
            // A path holds no NUL, and a hash has one length.
            hasher.update(path.as_bytes()).update(b"\0").update(blake3.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// All bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}
