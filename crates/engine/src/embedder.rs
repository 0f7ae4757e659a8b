//! Models that turn texts into vectors or rank documents, as requests see them.
//!
//! There is no scheduler here: a request's texts are computed in groups of a few hundred tokens, and between two groups
//! another request may come in, or a reader that left be noticed. A text's vector does not depend on its group.

mod decoder;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chat::{Caller, EmbedInput, EmbedRequest, Embeddings, Error, Relevance, RerankRequest};
use kernels::{Cpu, Precision};
use models::bert::{Bert, BertFiles};
use models::embedding;

use crate::Result;
use crate::places::Places;

pub(crate) use decoder::Decoder;

/// Tokens of all texts of one request: as OpenAI's.
const TOKENS_MAX: usize = 300_000;
/// Tokens that an encoder computes together. What attention needs grows with the square of a text, not of the group.
const ENCODER_GROUP_TOKENS: usize = 2048;

/// A loaded model that embeds or ranks.
pub(crate) struct Embedder {
    shared: Arc<Shared>,
    places: Arc<Places>,
}

struct Shared {
    cpu: Arc<Cpu>,
    model: Model,
    prompt_tokens: AtomicU64,
}

enum Model {
    Encoder(Box<Bert>),
    Decoder(Box<Decoder>),
}

/// Says that nobody waits for the result any more, when it is dropped.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Embedder {
    pub(crate) fn encoder(cpu: Arc<Cpu>, files: &BertFiles, precision: Precision, places: Arc<Places>) -> Result<Self> {
        let bert = Bert::load(&cpu, files, precision)?;
        Ok(Self::new(cpu, Model::Encoder(Box::new(bert)), places))
    }

    pub(crate) fn decoder(cpu: Arc<Cpu>, decoder: Decoder, places: Arc<Places>) -> Self {
        Self::new(cpu, Model::Decoder(Box::new(decoder)), places)
    }

    fn new(cpu: Arc<Cpu>, model: Model, places: Arc<Places>) -> Self {
        let shared = Shared { cpu, model, prompt_tokens: AtomicU64::new(0) };
        Self { shared: Arc::new(shared), places }
    }

    /// Requests that are being computed or wait for others.
    pub(crate) fn in_flight(&self) -> usize {
        self.places.taken()
    }

    /// Tokens of the longest text.
    pub(crate) fn tokens_max(&self) -> usize {
        self.shared.model.tokens_max()
    }

    /// Tokens of all texts since the model was loaded.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        self.shared.prompt_tokens.load(Ordering::Relaxed)
    }

    /// Embeds the texts of a request; its model name is not looked at.
    pub(crate) async fn embed(&self, request: EmbedRequest) -> chat::Result<Embeddings> {
        self.run(request.caller.clone(), move |shared, is_left| shared.embed(&request, is_left)).await
    }

    /// Ranks the documents of a request; its model name is not looked at.
    pub(crate) async fn rerank(&self, request: RerankRequest) -> chat::Result<Relevance> {
        self.run(request.caller.clone(), move |shared, is_left| shared.rerank(&request, is_left)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        caller: Option<Caller>,
        compute: impl FnOnce(&Shared, &AtomicBool) -> chat::Result<T> + Send + 'static,
    ) -> chat::Result<T> {
        let place = self.places.take(caller.as_ref())?;
        let (shared, is_left) = (Arc::clone(&self.shared), Arc::new(AtomicBool::new(false)));
        let _wanted = Wanted(Arc::clone(&is_left));
        let computed = tokio::task::spawn_blocking(move || {
            let _place = place;
            compute(&shared, &is_left)
        });
        computed.await.map_err(|_| Error::Interrupted { reason: "the computation of vectors panicked".to_owned() })?
    }
}

impl Shared {
    fn embed(&self, request: &EmbedRequest, is_left: &AtomicBool) -> chat::Result<Embeddings> {
        let width = self.width();
        let dimensions = request.dimensions.map_or(width, |dimensions| dimensions as usize);
        if dimensions > width {
            let (value, allowed) = (dimensions.to_string(), format!("1 to {width}"));
            return Err(Error::OutOfRange { name: "dimensions", value, allowed });
        }
        let encode = |input: &EmbedInput| self.encode(input, request);
        let texts = request.inputs.iter().map(encode).collect::<chat::Result<Vec<_>>>()?;
        let prompt_tokens = self.count(&texts)?;
        let rows = self.rows(&texts, is_left)?;
        let vectors = rows.iter().map(|row| embedding::unit(row, dimensions)).collect();
        Ok(Embeddings { vectors, prompt_tokens })
    }

    fn rerank(&self, request: &RerankRequest, is_left: &AtomicBool) -> chat::Result<Relevance> {
        let Model::Decoder(decoder) = &self.model else { return Err(no_ranking()) };
        let instruction = request.instruction.as_deref().unwrap_or(embedding::DEFAULT_INSTRUCTION);
        let pair = |document: &String| decoder.encode_pair(instruction, &request.query, document);
        let pairs = request.documents.iter().map(pair).collect::<chat::Result<Vec<_>>>()?;
        let prompt_tokens = self.count(&pairs)?;
        let scores = decoder.scores(&self.rows(&pairs, is_left)?).ok_or_else(no_ranking)?;
        Ok(Relevance { scores, prompt_tokens })
    }

    /// The tokens of a text as the model expects it, no more than it can read.
    fn encode(&self, input: &EmbedInput, request: &EmbedRequest) -> chat::Result<Vec<u32>> {
        let (mut tokens, most) = match (&self.model, input) {
            (model, EmbedInput::Tokens(tokens)) => {
                let vocabulary = model.vocabulary();
                if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                    return Err(Error::UnknownToken { token, vocabulary });
                }
                (tokens.clone(), model.tokens_max())
            }
            // Encoders of this class were not trained with instructions.
            (Model::Encoder(bert), EmbedInput::Text(text)) => {
                let broken = |why: models::Error| Error::TokenizerBroken { reason: why.to_string() };
                (bert.encode(text).map_err(broken)?, bert.tokens_max())
            }
            (Model::Decoder(decoder), EmbedInput::Text(text)) => {
                (decoder.encode_text(request.instruction.as_deref(), text)?, decoder.tokens_max())
            }
        };
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if tokens.len() > most {
            if !request.truncate {
                return Err(Error::PromptTooLong { prompt_tokens: tokens.len(), context_tokens: most });
            }
            // The token that ends a text is what some models read it at.
            let end = tokens[tokens.len() - 1];
            tokens.truncate(most);
            tokens[most - 1] = end;
        }
        Ok(tokens)
    }

    fn count(&self, texts: &[Vec<u32>]) -> chat::Result<u32> {
        let count: usize = texts.iter().map(Vec::len).sum();
        if count > TOKENS_MAX {
            return Err(Error::TooMany { what: "tokens in all texts", count, limit: TOKENS_MAX });
        }
        self.prompt_tokens.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count as u32)
    }

    /// A row of hidden numbers for each text, not yet a unit vector.
    fn rows(&self, texts: &[Vec<u32>], is_left: &AtomicBool) -> chat::Result<Vec<Vec<f32>>> {
        let (tokens_max, texts_max) = match &self.model {
            Model::Encoder(_) => (ENCODER_GROUP_TOKENS, usize::MAX),
            Model::Decoder(_) => (decoder::GROUP_TOKENS, decoder::GROUP_TEXTS),
        };
        let mut rows = Vec::with_capacity(texts.len());
        for group in groups(texts, tokens_max, texts_max) {
            if is_left.load(Ordering::Relaxed) {
                return Err(Error::Interrupted { reason: "nobody waits for these vectors".to_owned() });
            }
            match &self.model {
                Model::Encoder(bert) => {
                    let texts: Vec<&[u32]> = group.iter().map(Vec::as_slice).collect();
                    let failed = |why: models::Error| Error::Interrupted { reason: why.to_string() };
                    rows.extend(bert.embed(&self.cpu, &texts).map_err(failed)?);
                }
                Model::Decoder(decoder) => rows.extend(decoder.rows(&self.cpu, group, is_left)?),
            }
        }
        Ok(rows)
    }

    fn width(&self) -> usize {
        match &self.model {
            Model::Encoder(bert) => bert.dimensions(),
            Model::Decoder(decoder) => decoder.width(),
        }
    }
}

impl Model {
    fn vocabulary(&self) -> usize {
        match self {
            Self::Encoder(bert) => bert.vocabulary(),
            Self::Decoder(decoder) => decoder.vocabulary(),
        }
    }

    fn tokens_max(&self) -> usize {
        match self {
            Self::Encoder(bert) => bert.tokens_max(),
            Self::Decoder(decoder) => decoder.tokens_max(),
        }
    }
}

fn no_ranking() -> Error {
    Error::Unsupported { what: "ranking".to_owned(), why: "this model has no answers to rank by".to_owned() }
}

/// Texts in a row, no more than this, with no more tokens than this together; a longer one is a group of its own.
fn groups(texts: &[Vec<u32>], tokens_max: usize, texts_max: usize) -> Vec<&[Vec<u32>]> {
    let (mut groups, mut first, mut tokens) = (Vec::new(), 0, 0);
    for (index, text) in texts.iter().enumerate() {
        if index > first && (tokens + text.len() > tokens_max || index - first == texts_max) {
            groups.push(&texts[first..index]);
            (first, tokens) = (index, 0);
        }
        tokens += text.len();
    }
    groups.push(&texts[first..]);
    groups
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn groups_are_whole_texts_in_order() {
        let texts: Vec<Vec<u32>> = [3, 3, 5, 20, 1, 1, 1].map(|count| vec![0; count]).to_vec();
        let sizes: Vec<Vec<usize>> =
            groups(&texts, 10, 2).into_iter().map(|group| group.iter().map(Vec::len).collect()).collect();
        assert_eq!(sizes, [vec![3, 3], vec![5], vec![20], vec![1, 1], vec![1]]);
    }
}
