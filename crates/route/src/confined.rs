//! Settings of residency where nothing is routed: this machine's models, and what it keeps.

use std::sync::{Arc, PoisonError, RwLock};

use base::Kind;
use chat::{
    Caller, Embed, EmbedRequest, Embeddings, Error, EventStream, Generate, GenerateRequest, ModelCard, Relevance,
    RerankRequest, Result,
};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

use crate::{Bound, Place, Residency};

/// The settings in force, and where this machine stands. Clones share them.
#[derive(Clone)]
pub struct Border {
    place: Arc<Place>,
    residency: Arc<RwLock<Arc<Residency>>>,
}

impl Border {
    /// Of a machine that stands here. Nothing is limited until somebody says so.
    #[must_use]
    pub fn around(place: Place) -> Self {
        Self { place: Arc::new(place), residency: Arc::default() }
    }

    /// The same settings for what stands or is kept elsewhere.
    #[must_use]
    pub fn at(&self, place: Place) -> Self {
        Self { place: Arc::new(place), residency: Arc::clone(&self.residency) }
    }

    /// Replaces the settings, from now on for everything new.
    pub fn set(&self, residency: Residency) {
        *self.residency.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(residency);
    }

    /// Whether a request may be computed, and its data kept, on this machine.
    ///
    /// # Errors
    /// A sentence for every setting that says no.
    pub fn admits(
        &self,
        caller: Option<&Caller>,
        bucket: Option<&str>,
        model: &str,
    ) -> std::result::Result<(), String> {
        let bounds = self.bounds(caller, bucket, model);
        all_inside(bounds.iter().map(|bound| bound.admits(&self.place)))
    }

    /// Whether what a caller leaves here, and what a model made of it, may be kept on this machine, wherever it is
    /// computed. `model` is empty where there is none.
    ///
    /// # Errors
    /// A sentence for every setting that says no.
    pub fn admits_kept(&self, caller: Option<&Caller>, model: &str) -> std::result::Result<(), String> {
        let bounds = self.bounds(caller, None, model);
        all_inside(bounds.iter().map(|bound| bound.admits_kept(&self.place.keeps)))
    }

    fn bounds(&self, caller: Option<&Caller>, bucket: Option<&str>, model: &str) -> Vec<Arc<Bound>> {
        let residency = Arc::clone(&self.residency.read().unwrap_or_else(PoisonError::into_inner));
        residency.of(caller, bucket, model)
    }

    fn check(&self, caller: Option<&Caller>, model: &str) -> Result<()> {
        let refused = |reason| Error::NoRoute { model: model.to_owned(), kind: Kind::Forbidden, reason };
        self.admits(caller, None, model).map_err(refused)
    }
}

fn all_inside(checks: impl Iterator<Item = std::result::Result<(), String>>) -> std::result::Result<(), String> {
    let outside: Vec<String> = checks.filter_map(std::result::Result::err).collect();
    if outside.is_empty() { Ok(()) } else { Err(outside.join("; ")) }
}

/// This machine's models, for whom the settings let in.
pub struct Confined<G: ?Sized> {
    border: Border,
    inner: Arc<G>,
}

impl<G: ?Sized> Confined<G> {
    /// Stands around `inner`.
    #[must_use]
    pub fn new(border: Border, inner: Arc<G>) -> Self {
        Self { border, inner }
    }
}

impl<G: Generate + ?Sized> Generate for Confined<G> {
    fn models(&self) -> Vec<ModelCard> {
        self.inner.models()
    }

    fn context_tokens(&self, model: &str) -> Option<u32> {
        self.inner.context_tokens(model)
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, Result<EventStream>> {
        match self.border.check(request.caller.as_ref(), &request.model) {
            Ok(()) => self.inner.generate(request),
            Err(refused) => ready(Err(refused)).boxed(),
        }
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, Result<u32>> {
        match self.border.check(request.caller.as_ref(), &request.model) {
            Ok(()) => self.inner.count_tokens(request),
            Err(refused) => ready(Err(refused)).boxed(),
        }
    }
}

impl<E: Embed + ?Sized> Embed for Confined<E> {
    fn embedding_models(&self) -> Vec<ModelCard> {
        self.inner.embedding_models()
    }

    fn reranking_models(&self) -> Vec<ModelCard> {
        self.inner.reranking_models()
    }

    fn embeds(&self, model: &str) -> Result<()> {
        self.inner.embeds(model)
    }

    fn ranks(&self, model: &str) -> Result<()> {
        self.inner.ranks(model)
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'_, Result<Embeddings>> {
        match self.border.check(request.caller.as_ref(), &request.model) {
            Ok(()) => self.inner.embed(request),
            Err(refused) => ready(Err(refused)).boxed(),
        }
    }

    fn rerank(&self, request: RerankRequest) -> BoxFuture<'_, Result<Relevance>> {
        match self.border.check(request.caller.as_ref(), &request.model) {
            Ok(()) => self.inner.rerank(request),
            Err(refused) => ready(Err(refused)).boxed(),
        }
    }
}
