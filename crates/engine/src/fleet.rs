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

    fn find(&self, request: &GenerateRequest) -> chat::Result<&Engine> {
        let unknown = || chat::Error::UnknownModel { model: request.model.clone() };
        self.engines.iter().find(|engine| engine.card().id == request.model).ok_or_else(unknown)
    }
}

impl Generate for Fleet {
    fn models(&self) -> Vec<ModelCard> {
        self.engines.iter().map(|engine| engine.card().clone()).collect()
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<EventStream>> {
        async move { self.find(&request)?.start_generation(request).await }.boxed()
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<u32>> {
        async move { self.find(&request)?.count_prompt(request).await }.boxed()
    }
}
