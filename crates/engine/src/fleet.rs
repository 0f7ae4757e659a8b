//! Several engines behind one door, chosen by the name of the model.

use chat::{EventStream, Generate, GenerateRequest, ModelCard};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::{Engine, Error, Result};

/// Engines by name. They share the processor: one step at a time has all of it.
pub struct Fleet {
    engines: Vec<Engine>,
}

impl Fleet {
    /// A fleet of these engines; the order is that of the list of models.
    ///
    /// # Errors
    /// [`Error::SameName`] if two have one name.
    pub fn new(engines: Vec<Engine>) -> Result<Self> {
        for (index, engine) in engines.iter().enumerate() {
            let name = &engine.card().id;
            if engines[..index].iter().any(|other| other.card().id == *name) {
                return Err(Error::SameName { name: name.clone() });
            }
        }
        Ok(Self { engines })
    }
}

impl Generate for Fleet {
    fn models(&self) -> Vec<ModelCard> {
        self.engines.iter().map(|engine| engine.card().clone()).collect()
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<EventStream>> {
        async move {
            match self.engines.iter().find(|engine| engine.card().id == request.model) {
                Some(engine) => engine.start_generation(request).await,
                None => Err(chat::Error::UnknownModel { model: request.model }),
            }
        }
        .boxed()
    }
}
