//! From one form of a model to another: Hugging Face folders and GGUF files, both ways, and quantising on the way.
//!
//! What is written appears at once: under a temporary name until every byte is on the disk. A tensor is read, encoded
//! and written in pieces, and its pages are given back: memory stays below one tensor and some buffers, whatever the
//! size of the model. Matrices of GPTQ, AWQ and FP8 checkpoints are whole in memory, one at a time.
//!
//! | module | what |
//! |---|---|
//! | [`layout`] | which tensors a model has in either form |
//! | [`pieces`] | reading them, whichever way they are stored |
//! | [`recipe`] | in which format each is written |
//! | [`numbers`] | one tensor, from file to file |
//! | [`gguf_file`], [`hybrid_keys`] | one form: a file, and one for the vision tower |
//! | [`folder`], [`texts`] | the other |

mod folder;
mod gguf_file;
mod hybrid_keys;
mod layout;
mod numbers;
mod pieces;
mod recipe;
mod texts;

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::observe::Importance;
use crate::{Checkpoint, Error, Result, tower_path};
pub use recipe::Recipe;

/// The form that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// One GGUF file.
    Gguf,
    /// A Hugging Face folder.
    Folder,
}

/// What is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The model's name, for people.
    pub name: &'a str,
    /// The file or folder; nothing may be there.
    pub out: &'a Path,
    /// Its form.
    pub container: Container,
    /// In which formats.
    pub recipe: Recipe,
    /// How much errors count, where it was observed.
    pub importance: Option<&'a Importance>,
    /// Threads that encode.
    pub threads: NonZeroUsize,
    /// Bytes of a file of safetensors at most, if no tensor is larger.
    pub shard_bytes_max: u64,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of all numbers.
    pub size_bytes: u64,
    /// How many numbers.
    pub numbers: u64,
    /// Bytes of numbers by the name of their format.
    pub bytes_by_format: std::collections::BTreeMap<String, u64>,
}

/// Writes a model in another form; as GGUF, a vision tower is a file beside it ([`tower_path`]). `progress` is called
/// with the numbers that are written, and all.
///
/// The tokenizer of `checkpoint.text` has to be in the container's form already: lists for GGUF, `tokenizer.json` for
/// a folder.
/// Cost: every number is read once (twice if the checkpoint is quantised in four bits, which decides what is exact)
/// and written once.
///
/// # Errors
/// [`Error::UnsupportedConfig`] for what the form cannot say, [`Error::Exists`] if something is at the path,
/// [`Error::Write`], and everything that reading tensors can say. Nothing is left at the path then.
pub fn convert(checkpoint: &Checkpoint, order: &Order<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<Written> {
    let temporary = Temporary::new(order.out)?;
    let written = match order.container {
        Container::Gguf if checkpoint.config.vision.is_some() => {
            let tower = tower_path(order.out);
            let beside = Temporary::new(&tower)?;
            let paths = [temporary.path.as_path(), beside.path.as_path()];
            let written = gguf_file::write_both(checkpoint, order, paths, progress)?;
            beside.keep(&tower)?;
            written
        }
        Container::Gguf => gguf_file::write(checkpoint, order, &temporary.path, progress)?,
        Container::Folder => folder::write(checkpoint, order, &temporary.path, progress)?,
    };
    temporary.keep(order.out)?;
    Ok(written)
}

/// The `config.json` of a folder that holds the model in BF16, whatever it is stored as now.
#[must_use]
pub fn config_json(checkpoint: &Checkpoint) -> serde_json::Value {
    texts::config_json(checkpoint, "bfloat16")
}

/// A name beside the final one; what is there goes away unless it is kept.
struct Temporary {
    path: PathBuf,
    is_kept: bool,
}

impl Temporary {
    fn new(out: &Path) -> Result<Self> {
        let Some(name) = out.file_name() else {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it has no name");
            return Err(Error::Write { path: out.to_owned(), source });
        };
        let mut partial = name.to_owned();
        partial.push(".partial");
        let path = out.with_file_name(partial);
        for taken in [out, &path] {
            if std::fs::symlink_metadata(taken).is_ok() {
                return Err(Error::Exists { path: taken.to_owned() });
            }
        }
        Ok(Self { path, is_kept: false })
    }

    /// Gives it its name, on the disk.
    fn keep(mut self, out: &Path) -> Result<()> {
        std::fs::rename(&self.path, out).map_err(at(out))?;
        self.is_kept = true;
        sync(out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_kept {
            // Best effort: who cannot write cannot remove either.
            let _ = std::fs::remove_file(&self.path).or_else(|_| std::fs::remove_dir_all(&self.path));
        }
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(at(folder))
}
