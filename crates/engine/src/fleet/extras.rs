//! What belongs to the fleet's models: adapters, and smaller models that guess for them.

use std::path::PathBuf;

use models::{AdapterFiles, Checkpoint};

use super::{Machine, Model};
use crate::drafter;
use crate::source::Role;
use crate::{Engine, Error, Result};

/// What belongs to models.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Adapters.
    pub adapters: Vec<AdapterEntry>,
    /// Names of models, and the files of those that guess for them.
    pub drafts: Vec<(String, PathBuf)>,
}

/// An adapter that requests may name as they name a model.
#[derive(Debug, Clone)]
pub struct AdapterEntry {
    /// Its name.
    pub name: String,
    /// The folder that PEFT wrote.
    pub folder: PathBuf,
    /// The model that it belongs to; `None`: the one that the adapter names.
    pub base: Option<String>,
}

/// An adapter of a model.
pub(super) struct Named {
    pub(super) name: String,
    folder: PathBuf,
}

/// Gives each to its model, whose memory grows by it.
pub(super) fn assign(extras: Extras, models: &mut [Model], needs: &mut [u64], machine: &Machine) -> Result<()> {
    for AdapterEntry { name, folder, base } in extras.adapters {
        if models.iter().any(|model| model.is_called(&name)) {
            return Err(Error::SameName { name });
        }
        let files = AdapterFiles::open(&folder).map_err(|error| Error::from(error).of(&name))?;
        let base = base.unwrap_or_else(|| files.base.clone());
        let Some(index) = found(&base, models) else { return Err(Error::NoBase { adapter: name, base }) };
        models[index].adapters.push(Named { name, folder });
    }
    for (model, path) in extras.drafts {
        let Some(index) = found(&model, models) else { return Err(Error::NoDrafted { model }) };
        models[index].draft = Some(path);
    }
    for (model, needs) in models.iter().zip(needs) {
        *needs += beside(model, machine)?;
    }
    Ok(())
}

/// The bytes of a model's adapters and of the model that guesses for it.
pub(super) fn beside(model: &Model, machine: &Machine) -> Result<u64> {
    let mut bytes = 0;
    for Named { name, folder } in &model.adapters {
        bytes += AdapterFiles::open(folder).map_err(|error| Error::from(error).of(name))?.size_bytes();
    }
    if let Some(path) = &model.draft {
        let draft = Checkpoint::open(path).map_err(|error| Error::from(error).of(&path.display().to_string()))?;
        bytes += draft.packed_bytes(machine.options.precision) + drafter::cache_bytes(&draft.config, &machine.options)?;
    }
    Ok(bytes)
}

/// The model of this name; what makers call it begins with an owner or a folder.
fn found(base: &str, models: &[Model]) -> Option<usize> {
    let last = base.trim_end_matches('/').rsplit('/').next().unwrap_or(base);
    let called = |name: &str| {
        let is_meant = |model: &Model| model.role == Role::Generates && model.is_called(name);
        models.iter().position(is_meant)
    };
    called(base).or_else(|| called(last))
}

/// Packs the adapters of a model that has just been loaded.
pub(super) fn adapt(engine: &Engine, adapters: &[Named]) -> Result<()> {
    for Named { name, folder } in adapters {
        // The files may have changed since the program started.
        let files = AdapterFiles::open(folder).map_err(|error| Error::from(error).of(name))?;
        engine.adapt(name, &files).map_err(|error| error.of(name))?;
    }
    Ok(())
}
