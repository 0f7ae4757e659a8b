//! The second face of the seam: texts become vectors, and documents are ranked for a query.

use base::RequestId;
use futures::future::BoxFuture;

use crate::{Caller, Error, ModelCard, Result};

/// What is turned into a vector.
#[derive(Debug, Clone, PartialEq)]
pub enum EmbedInput {
    /// Text; control tokens in it are text too.
    Text(String),
    /// Token ids as they are.
    Tokens(Vec<u32>),
}

/// A request for embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedRequest {
    /// Its name in logs and errors.
    pub id: RequestId,
    /// On whose behalf; `None` where there are no accounts.
    pub caller: Option<Caller>,
    /// Which model is asked for.
    pub model: String,
    /// What is embedded, each for itself. 1 to [`EMBED_INPUTS_MAX`].
    pub inputs: Vec<EmbedInput>,
    /// What the texts are to be used for, where the model was trained with instructions (queries; never documents).
    pub instruction: Option<String>,
    /// Only so many leading dimensions, made a unit vector again (Matryoshka); `None`: all.
    pub dimensions: Option<u32>,
    /// Inputs that are longer than the context lose their end; otherwise they are refused.
    pub truncate: bool,
}

impl EmbedRequest {
    /// Refuses what no implementation takes. Every implementation of [`Embed`] calls it first.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] or [`Error::TooMany`].
    pub fn validate(&self) -> Result<()> {
        between("inputs", self.inputs.len(), EMBED_INPUTS_MAX)?;
        if self.dimensions == Some(0) {
            return Err(out_of_range("dimensions", 0, "1 to the model's".to_owned()));
        }
        Ok(())
    }
}

/// Inputs of one request.
pub const EMBED_INPUTS_MAX: usize = 2048;
/// Documents of one request.
pub const RERANK_DOCUMENTS_MAX: usize = 1000;

/// Unit vectors, in the order of the inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One for each input; all have the same length.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens that were read, special ones too.
    pub prompt_tokens: u32,
}

/// A request to rank documents.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankRequest {
    /// Its name in logs and errors.
    pub id: RequestId,
    /// On whose behalf; `None` where there are no accounts.
    pub caller: Option<Caller>,
    /// Which model is asked for.
    pub model: String,
    /// What is sought.
    pub query: String,
    /// What is ranked. 1 to [`RERANK_DOCUMENTS_MAX`].
    pub documents: Vec<String>,
    /// What counts as relevant, where the model was trained with instructions.
    pub instruction: Option<String>,
}

impl RerankRequest {
    /// Refuses what no implementation takes. Every implementation of [`Embed`] calls it first.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] or [`Error::TooMany`].
    pub fn validate(&self) -> Result<()> {
        between("documents", self.documents.len(), RERANK_DOCUMENTS_MAX)
    }
}

fn between(what: &'static str, count: usize, limit: usize) -> Result<()> {
    match count {
        0 => Err(out_of_range(what, 0, format!("1 to {limit}"))),
        _ if count > limit => Err(Error::TooMany { what, count, limit }),
        _ => Ok(()),
    }
}

fn out_of_range(name: &'static str, count: usize, allowed: String) -> Error {
    Error::OutOfRange { name, value: count.to_string(), allowed }
}

/// How well each document answers the query.
#[derive(Debug, Clone, PartialEq)]
pub struct Relevance {
    /// 0 to 1, in the order of the documents.
    pub scores: Vec<f32>,
    /// Tokens that were read, special ones too.
    pub prompt_tokens: u32,
}

/// Whatever embeds and ranks: a native engine, an upstream pool, a wrapper around one of them.
pub trait Embed: Send + Sync {
    /// The models that [`Embed::embed`] takes; the built-in one first.
    fn embedding_models(&self) -> Vec<ModelCard>;

    /// The models that [`Embed::rerank`] takes.
    fn reranking_models(&self) -> Vec<ModelCard>;

    /// Refuses a name that nothing embeds by, without any work: whoever counts or charges asks before they do. Who does
    /// not know lets [`Self::embed`] say so.
    ///
    /// # Errors
    /// As [`Self::embed`].
    fn embeds(&self, _model: &str) -> Result<()> {
        Ok(())
    }

    /// The same for [`Self::rerank`].
    ///
    /// # Errors
    /// As [`Self::rerank`].
    fn ranks(&self, _model: &str) -> Result<()> {
        Ok(())
    }

    /// Embeds texts. Refuses before any work what is out of range.
    fn embed(&self, request: EmbedRequest) -> BoxFuture<'_, Result<Embeddings>>;

    /// Ranks documents. Refuses before any work what is out of range.
    fn rerank(&self, request: RerankRequest) -> BoxFuture<'_, Result<Relevance>>;
}
