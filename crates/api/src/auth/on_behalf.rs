//! Models as whoever asks may use them.

use std::sync::Arc;

use chat::{
    Caller, Embed, EmbedRequest, Embeddings, Error, EventStream, Generate, GenerateRequest, KeepAlive, Manage,
    ModelCard, ModelStatus, Priority, Relevance, RerankRequest, Result,
};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use meta::Principal;

use super::principal;

/// Puts whoever came through the gate on every request, and shows and grants them only the models of their key.
pub(crate) struct OnBehalf<G: ?Sized>(pub(crate) Arc<G>);

/// Whoever came through the gate, as models see them.
pub(super) fn caller(principal: &Principal) -> Caller {
    let (project, key) = (Arc::clone(&principal.project), Arc::clone(&principal.key));
    Caller { project, key, priority: Priority::Normal }
}

/// The caller of a request, unless the key is not good for this model. A handler may have set the caller itself, with
/// a priority of its own, or because it works for somebody who has gone: that one is kept.
fn granted(model: &str, set: Option<Caller>) -> Result<Option<Caller>> {
    match principal() {
        None => Ok(set),
        Some(principal) if principal.scopes.allows_model(model) => Ok(set.or_else(|| Some(caller(&principal)))),
        Some(_) => Err(Error::ModelNotAllowed { model: model.to_owned() }),
    }
}

fn shown(mut cards: Vec<ModelCard>) -> Vec<ModelCard> {
    if let Some(principal) = principal() {
        cards.retain(|card| principal.scopes.allows_model(&card.id));
    }
    cards
}

impl<G: Generate + ?Sized> Generate for OnBehalf<G> {
    fn models(&self) -> Vec<ModelCard> {
        shown(self.0.models())
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, Result<EventStream>> {
        match granted(&request.model, request.caller.clone()) {
            Ok(caller) => self.0.generate(GenerateRequest { caller, ..request }),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, Result<u32>> {
        match granted(&request.model, request.caller.clone()) {
            Ok(caller) => self.0.count_tokens(GenerateRequest { caller, ..request }),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}

impl<E: Embed + ?Sized> Embed for OnBehalf<E> {
    fn embedding_models(&self) -> Vec<ModelCard> {
        shown(self.0.embedding_models())
    }

    fn reranking_models(&self) -> Vec<ModelCard> {
        shown(self.0.reranking_models())
    }

    fn embeds(&self, model: &str) -> Result<()> {
        self.0.embeds(model)
    }

    fn ranks(&self, model: &str) -> Result<()> {
        self.0.ranks(model)
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'_, Result<Embeddings>> {
        match granted(&request.model, request.caller.clone()) {
            Ok(caller) => self.0.embed(EmbedRequest { caller, ..request }),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn rerank(&self, request: RerankRequest) -> BoxFuture<'_, Result<Relevance>> {
        match granted(&request.model, request.caller.clone()) {
            Ok(caller) => self.0.rerank(RerankRequest { caller, ..request }),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}

impl<M: Manage + ?Sized> Manage for OnBehalf<M> {
    fn statuses(&self) -> Vec<ModelStatus> {
        let mut statuses = self.0.statuses();
        if let Some(principal) = principal() {
            statuses.retain(|status| principal.scopes.allows_model(&status.card.id));
        }
        statuses
    }

    fn load<'a>(&'a self, model: &'a str, keep_alive: Option<KeepAlive>) -> BoxFuture<'a, Result<()>> {
        match granted(model, None) {
            Ok(_) => self.0.load(model, keep_alive),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn unload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<()>> {
        match granted(model, None) {
            Ok(_) => self.0.unload(model),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}
