//! Embeddings and rankings with a bill: they are answered as a whole, so they are charged as a whole or not at all.

use std::sync::Arc;

use base::RequestId;
use chat::{Caller, Embed, EmbedInput, EmbedRequest, Embeddings, ModelCard, Relevance, RerankRequest};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::open::Open;
use super::{Metered, Order, refused};
use crate::price::{Direction, Quantities};
use crate::usage::{Activity, Outcome};

/// Special tokens around an input, at most.
const INPUT_TOKENS: u64 = 16;
/// What a reranker's template puts around a pair.
const PAIR_TOKENS: u64 = 512;

/// A request without its contents.
struct Asked<'a> {
    caller: &'a Caller,
    model: &'a str,
    activity: Activity,
    trace: RequestId,
    tokens_most: u64,
}

impl<E: Embed + ?Sized> Metered<E> {
    /// Reserves, does the work, and charges the tokens that it says it read.
    async fn charged<T>(
        &self,
        asked: Asked<'_>,
        work: BoxFuture<'_, chat::Result<T>>,
        read: impl Fn(&T) -> u32,
    ) -> chat::Result<T> {
        let order = Order::new(&self.meter, asked.caller, asked.model, asked.activity, asked.trace)?;
        let mut open = Open::new(Arc::clone(&self.meter), order);
        let most = open.order.spent(Quantities::of(Direction::Embedding, asked.tokens_most)).map_err(refused)?;
        // Nothing leaves before the end, so what is noted is all or, for whoever is interrupted, nothing.
        let wanted = open.order.wanted(&open.id, most, crate::usage::Spent::default());
        match self.meter.ledger.reserve(wanted).await {
            Ok(_) => open.is_made(),
            Err(error) if error.is_unknown() => return Err(refused(error)),
            Err(error) => return open.never_made(refused(error)),
        }
        match work.await {
            Ok(answer) => {
                let used = Quantities::of(Direction::Embedding, u64::from(read(&answer)));
                open.settle(used, Outcome::Finished).await;
                Ok(answer)
            }
            Err(error) => {
                open.release().await;
                Err(error)
            }
        }
    }
}

impl<E: Embed + ?Sized> Embed for Metered<E> {
    fn embedding_models(&self) -> Vec<ModelCard> {
        self.inner.embedding_models()
    }

    fn reranking_models(&self) -> Vec<ModelCard> {
        self.inner.reranking_models()
    }

    fn embeds(&self, model: &str) -> chat::Result<()> {
        self.inner.embeds(model)
    }

    fn ranks(&self, model: &str) -> chat::Result<()> {
        self.inner.ranks(model)
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'_, chat::Result<Embeddings>> {
        let Some(caller) = self.meter.payer(request.caller.as_ref()) else { return self.inner.embed(request) };
        async move {
            request.validate()?;
            // What is no such model has no price for it, which is not what the caller has to know.
            self.inner.embeds(&request.model)?;
            let instruction = request.instruction.as_ref().map_or(0, String::len) as u64;
            let input = |input: &EmbedInput| match input {
                EmbedInput::Text(text) => text.len() as u64,
                EmbedInput::Tokens(tokens) => tokens.len() as u64,
            };
            let tokens_most = request.inputs.iter().map(|one| input(one) + instruction + INPUT_TOKENS).sum();
            let (model, trace) = (request.model.clone(), request.id);
            let asked = Asked { caller: &caller, model: &model, activity: Activity::Embed, trace, tokens_most };
            self.charged(asked, self.inner.embed(request), |answer| answer.prompt_tokens).await
        }
        .boxed()
    }

    fn rerank(&self, request: RerankRequest) -> BoxFuture<'_, chat::Result<Relevance>> {
        let Some(caller) = self.meter.payer(request.caller.as_ref()) else { return self.inner.rerank(request) };
        async move {
            request.validate()?;
            self.inner.ranks(&request.model)?;
            let pair = (request.query.len() + request.instruction.as_ref().map_or(0, String::len)) as u64;
            let document = |document: &String| document.len() as u64 + pair + PAIR_TOKENS;
            let tokens_most = request.documents.iter().map(document).sum();
            let (model, trace) = (request.model.clone(), request.id);
            let asked = Asked { caller: &caller, model: &model, activity: Activity::Rerank, trace, tokens_most };
            self.charged(asked, self.inner.rerank(request), |answer| answer.prompt_tokens).await
        }
        .boxed()
    }
}
