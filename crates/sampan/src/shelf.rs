//! Which models there are, and how a name on the command line becomes one.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use engine::Source;
use hub::{Cache, Cached, Record};
use indicatif::{ProgressBar, ProgressStyle};
use kernels::{Cpu, Precision};
use models::{Checkpoint, Qwen3};

use crate::built_in;
use crate::depot;

/// Where a model lies.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Place {
    /// In the program.
    BuiltIn,
    /// The one that embeds, in the program.
    BuiltInEmbedder,
    /// In a folder or a file.
    Path(PathBuf),
}

/// A model that can be opened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// If it cannot be opened, the others are served without it.
    pub(crate) is_optional: bool,
}

impl Entry {
    /// As the fleet takes it.
    pub(crate) fn served(self) -> engine::Entry {
        let source = match self.place {
            Place::BuiltIn => Source::Embedded(built_in::FILES),
            Place::BuiltInEmbedder => Source::EmbeddedBert(built_in::EMBEDDER_FILES),
            Place::Path(path) => Source::Path(path),
        };
        engine::Entry { name: self.name, source, is_optional: self.is_optional }
    }
}

/// The built-in models and everything in `DATA/models`, by name.
pub(crate) fn entries(data: &Path) -> anyhow::Result<Vec<Entry>> {
    let built_in = |name: &str, place| Entry { name: name.to_owned(), place, is_optional: false };
    let mut found =
        vec![built_in(built_in::NAME, Place::BuiltIn), built_in(built_in::EMBEDDER_NAME, Place::BuiltInEmbedder)];
    let folder = data.join("models");
    if folder.is_dir() {
        found.extend(entries_of(&folder)?);
    }
    Ok(found)
}

/// Every model in a folder, by name.
pub(crate) fn entries_of(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut found = Vec::new();
    let listing = std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    for entry in listing {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        // What was pulled says itself what it is; a folder of one GGUF file is that file.
        let main = Record::read(&path).ok().flatten().and_then(|record| record.main);
        let is_gguf = path.extension().is_some_and(|ending| ending == "gguf") && !models::is_tower(&path);
        let is_model = path.join("config.json").is_file() || is_gguf;
        if main.is_some() || is_model {
            let name = name_of(&path);
            let place = Place::Path(main.map_or_else(|| path.clone(), |main| path.join(main)));
            found.push(Entry { name, place, is_optional: true });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The models in the cache of Hugging Face's own tools, by their names there.
pub(crate) fn cached(cache: &Cache) -> Vec<Entry> {
    let entry = |cached: Cached| {
        let name = cached.main.as_deref().map_or(cached.id, name_of);
        Entry { name, place: Place::Path(cached.main.unwrap_or(cached.folder)), is_optional: true }
    };
    cache.models().into_iter().map(entry).collect()
}

/// The model that is meant: a path if there is one of that name, else a name on the shelf, else what was pulled from
/// there, else a name in Hugging Face's cache.
pub(crate) fn find(data: &Path, wanted: &str) -> anyhow::Result<Entry> {
    let (name, path) = match wanted.split_once('=') {
        Some((name, path)) if !name.is_empty() && !name.contains('/') => (Some(name), path),
        Some(_) | None => (None, wanted),
    };
    let path = PathBuf::from(path);
    if path.exists() {
        let name = name.map_or_else(|| name_of(&path), str::to_owned);
        return Ok(Entry { name, place: Place::Path(path), is_optional: false });
    }
    let shelf = entries(data)?;
    let pulled = || {
        let models = depot::depot(data).models().ok()?;
        models.into_iter().find(|(_, record)| record.repository == wanted).map(|(name, _)| name)
    };
    let on_shelf = |name: &str| shelf.iter().find(|entry| entry.name == name).cloned();
    let found = on_shelf(wanted).or_else(|| on_shelf(&pulled()?));
    let found = found.or_else(|| cached(&depot::cache()?).into_iter().find(|entry| entry.name == wanted));
    match found {
        Some(entry) => Ok(entry),
        None => {
            bail!("{wanted:?} is neither a path nor a model here\nhint: `sampan ls` lists them, `sampan pull` fetches")
        }
    }
}

/// `Qwen3-0.6B` for the folder `…/Qwen3-0.6B/`, `x.Q8_0` for the file `x.Q8_0.gguf`.
fn name_of(path: &Path) -> String {
    // A link keeps the name that somebody gave it; only `.` and `..` have to be looked up.
    let whole = match path.file_name() {
        Some(_) => path.to_owned(),
        None => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
    };
    let name = if whole.is_dir() { whole.file_name() } else { whole.file_stem() };
    name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Opens the files of a decoder; the numbers are not read yet.
pub(crate) fn open(entry: &Entry) -> anyhow::Result<Checkpoint> {
    let opened = match &entry.place {
        Place::BuiltIn => Checkpoint::embedded(built_in::FILES),
        Place::BuiltInEmbedder => bail!("{} embeds texts; it is no decoder", entry.name),
        Place::Path(path) => Checkpoint::open(path),
    };
    opened.with_context(|| format!("open the model {}", entry.name))
}

/// Refuses memory for the experts of a model that has none.
fn expect_experts(entry: &Entry, checkpoint: &Checkpoint, expert_mib: Option<usize>) -> anyhow::Result<()> {
    match expert_mib {
        Some(mib) if checkpoint.config.experts.is_none() => {
            bail!("--expert-memory {mib}: {} has no experts, all of its weights are needed for every token", entry.name)
        }
        Some(_) | None => Ok(()),
    }
}

/// Loads a decoder, with a bar, and with `expert_mib` for its experts if they are to be read when they are chosen.
pub(crate) fn load(
    entry: &Entry,
    checkpoint: &Checkpoint,
    cpu: &Cpu,
    precision: Precision,
    expert_mib: Option<usize>,
) -> anyhow::Result<Qwen3> {
    expect_experts(entry, checkpoint, expert_mib)?;
    let bar = loading_bar(&entry.name);
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let model = match expert_mib {
        Some(mib) => Qwen3::load_streaming(cpu, checkpoint, precision, mib << 20, progress),
        None => Qwen3::load(cpu, checkpoint, precision, progress),
    };
    bar.finish_and_clear();
    model.with_context(|| format!("load the model {}", entry.name))
}

/// Whether it is a mixture of experts that can be opened.
pub(crate) fn has_experts(entry: &Entry) -> bool {
    open(entry).is_ok_and(|found| found.config.experts.is_some())
}

/// A progress bar for loading; silent where stderr is no terminal.
pub(crate) fn loading_bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} layers").expect("the template is ours");
    ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_message(format!("loading {name}"))
}

#[cfg(test)]
mod tests {
    use super::{Place, entries, find};

    #[test]
    fn the_shelf_holds_the_built_in_model_and_what_lies_in_the_folder() {
        let data = tempfile::tempdir().unwrap();
        let models = data.path().join("models");
        std::fs::create_dir_all(models.join("Qwen3-0.6B")).unwrap();
        std::fs::write(models.join("Qwen3-0.6B/config.json"), "{}").unwrap();
        std::fs::write(models.join("a.Q8_0.gguf"), "").unwrap();
        std::fs::write(models.join("notes.txt"), "").unwrap();
        let names: Vec<String> = entries(data.path()).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["sampan-nano", "sampan-nano-embed", "Qwen3-0.6B", "a.Q8_0"]);
        assert_eq!(find(data.path(), "sampan-nano").unwrap().place, Place::BuiltIn);
        let path = models.join("a.Q8_0.gguf");
        assert_eq!(find(data.path(), path.to_str().unwrap()).unwrap().name, "a.Q8_0");
        assert_eq!(find(data.path(), &format!("mine={}", path.display())).unwrap().name, "mine");
        let error = find(data.path(), "missing").unwrap_err().to_string();
        assert!(error.contains("missing") && error.contains("hint"), "{error}");
    }
}
