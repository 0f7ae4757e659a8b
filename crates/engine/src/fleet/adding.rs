//! A model that comes while others are served.

use super::{Entry, Fleet, Model, extras};
use crate::source::Source;
use crate::{Error, Result};

impl Fleet {
    /// Adds a model, not loaded. One of the same name and place is looked at again, as its files may be others; if it
    /// is loaded, it goes on as it is until it is loaded again.
    ///
    /// Cost: its headers, its configuration and its tokenizer are read.
    ///
    /// # Errors
    /// If its files cannot be opened, or another model has the name.
    pub fn add(&self, entry: Entry) -> Result<()> {
        let Entry { name, source, .. } = entry;
        let shared = &self.shared;
        let looked = Model::look_at(&name, source, &shared.machine);
        let (model, card, needed_bytes) = looked.map_err(|error| error.of(&name))?;
        let known = shared.models.iter().find(|(_, known)| known.is_called(&name));
        let beside_bytes = known.map_or(Ok(0), |(_, known)| extras::beside(known, &shared.machine))?;
        let mut state = shared.lock();
        match shared.models.iter().find(|(_, known)| known.is_called(&name)) {
            Some((index, known)) if is_there(&known.source, &model.source) && known.role == model.role => {
                state.seats.set_needed(index, needed_bytes + beside_bytes);
                state.cards[index] = card;
            }
            Some(_) => return Err(Error::SameName { name }),
            None => {
                // In this order: whoever finds the model without the lock finds its seat with it.
                state.seats.add(needed_bytes, shared.machine.keep_alive);
                state.loaded.push(None);
                state.cards.push(card);
                shared.models.push(model);
            }
        }
        Ok(())
    }
}

fn is_there(one: &Source, other: &Source) -> bool {
    matches!((one, other), (Source::Path(one), Source::Path(other)) if one == other)
}
