//! An implementation of [`Embed`] without a model, and the suite that every implementation has to pass.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use base::{RequestId, Rng};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::card;
use crate::{
    EMBED_INPUTS_MAX, Embed, EmbedInput, EmbedRequest, Embeddings, Error, ModelCard, Relevance, RerankRequest, Result,
};

/// Largest difference between a length and 1: sums of a few thousand squares in `f32`.
const UNIT_TOLERANCE: f32 = 1e-3;
/// Largest difference between two computations of one vector: batches may be summed in another order.
const SAME_TOLERANCE: f32 = 1e-3;

/// Embeds by counting words into buckets, and ranks by the share of the query's words that a document has. A word is a
/// token. Remembers the requests; refuses as often as it was told to.
#[derive(Debug)]
pub struct Words {
    embedding: ModelCard,
    reranking: ModelCard,
    refusals: Mutex<VecDeque<Error>>,
    embed_requests: Mutex<Vec<EmbedRequest>>,
    rerank_requests: Mutex<Vec<RerankRequest>>,
}

impl Words {
    /// Numbers of a vector.
    pub const DIMENSIONS: usize = 16;

    /// One that has two models of these names.
    #[must_use]
    pub fn new(embedding: &str, reranking: &str) -> Self {
        Self {
            embedding: card(embedding),
            reranking: card(reranking),
            refusals: Mutex::default(),
            embed_requests: Mutex::default(),
            rerank_requests: Mutex::default(),
        }
    }

    /// Refuses the next requests with these errors.
    #[must_use]
    pub fn refusing(self, errors: Vec<Error>) -> Self {
        Self { refusals: Mutex::new(errors.into()), ..self }
    }

    /// The requests for embeddings so far.
    pub fn embed_requests(&self) -> Vec<EmbedRequest> {
        self.embed_requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests for rankings so far.
    pub fn rerank_requests(&self) -> Vec<RerankRequest> {
        self.rerank_requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn check(&self, model: &str, card: &ModelCard) -> Result<()> {
        if let Some(error) = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            return Err(error);
        }
        if model == card.id { Ok(()) } else { Err(Error::UnknownModel { model: model.to_owned() }) }
    }

    fn embeddings(&self, request: EmbedRequest) -> Result<Embeddings> {
        request.validate()?;
        self.check(&request.model, &self.embedding)?;
        let dimensions = request.dimensions.map_or(Self::DIMENSIONS, |dimensions| dimensions as usize);
        if dimensions > Self::DIMENSIONS {
            let allowed = format!("1 to {}", Self::DIMENSIONS);
            return Err(Error::OutOfRange { name: "dimensions", value: dimensions.to_string(), allowed });
        }
        let counted = request.inputs.iter().map(|input| buckets(input, dimensions));
        let (vectors, tokens): (Vec<_>, Vec<_>) = counted.unzip();
        self.embed_requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        Ok(Embeddings { vectors, prompt_tokens: tokens.iter().sum() })
    }

    fn relevance(&self, request: RerankRequest) -> Result<Relevance> {
        request.validate()?;
        self.check(&request.model, &self.reranking)?;
        let wanted: Vec<&str> = request.query.split_whitespace().collect();
        let score = |document: &String| {
            let found = wanted.iter().filter(|word| document.split_whitespace().any(|other| other == **word)).count();
            found as f32 / wanted.len().max(1) as f32
        };
        let scores = request.documents.iter().map(score).collect();
        let words = |text: &str| text.split_whitespace().count() as u32;
        let prompt_tokens = request.documents.iter().map(|document| words(document) + words(&request.query)).sum();
        self.rerank_requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        Ok(Relevance { scores, prompt_tokens })
    }
}

/// A unit vector, and the tokens that were read: one more than the words, as an end has to be marked.
fn buckets(input: &EmbedInput, dimensions: usize) -> (Vec<f32>, u32) {
    let words: Vec<u64> = match input {
        // FNV-1a, so that the vector of a text never changes.
        EmbedInput::Text(text) => text.split_whitespace().map(|word| word.bytes().fold(FNV_START, fnv)).collect(),
        EmbedInput::Tokens(tokens) => tokens.iter().map(|&token| u64::from(token)).collect(),
    };
    let mut counts = vec![0.0_f32; Words::DIMENSIONS];
    counts[0] = 0.5;
    for word in &words {
        counts[(word % Words::DIMENSIONS as u64) as usize] += 1.0;
    }
    counts.truncate(dimensions);
    let length = counts.iter().map(|count| count * count).sum::<f32>().sqrt();
    (counts.iter().map(|count| count / length).collect(), words.len() as u32 + 1)
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

impl Embed for Words {
    fn embedding_models(&self) -> Vec<ModelCard> {
        vec![self.embedding.clone()]
    }

    fn reranking_models(&self) -> Vec<ModelCard> {
        vec![self.reranking.clone()]
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'_, Result<Embeddings>> {
        async move { self.embeddings(request) }.boxed()
    }

    fn rerank(&self, request: RerankRequest) -> BoxFuture<'_, Result<Relevance>> {
        async move { self.relevance(request) }.boxed()
    }
}

/// What every [`Embed`] does with its first models of each kind: unit vectors in the order of the inputs, the same for
/// the same text whatever stands beside it; scores from 0 to 1 in the order of the documents; and it refuses unknown
/// models and counts out of range.
///
/// # Panics
/// If it does otherwise.
pub async fn embed_conformance(embed: &dyn Embed) {
    if let Some(card) = embed.embedding_models().first() {
        check_vectors(embed, &card.id).await;
    }
    if let Some(card) = embed.reranking_models().first() {
        check_scores(embed, &card.id).await;
    }
}

async fn check_vectors(embed: &dyn Embed, model: &str) {
    let request = |texts: &[&str]| EmbedRequest {
        id: RequestId::random(&mut Rng::seeded(1)),
        caller: None,
        model: model.to_owned(),
        inputs: texts.iter().map(|&text| EmbedInput::Text(text.to_owned())).collect(),
        instruction: None,
        dimensions: None,
        truncate: false,
    };
    let both = embed.embed(request(&["a red boat", "numbers and letters"])).await.expect("texts are embedded");
    let [boat, letters] = both.vectors.as_slice() else { panic!("{} vectors of two texts", both.vectors.len()) };
    assert_eq!(boat.len(), letters.len(), "all vectors have one length");
    assert!(boat != letters, "two texts have two vectors");
    assert!(both.prompt_tokens > 0);
    let alone = embed.embed(request(&["numbers and letters"])).await.expect("a text is embedded");
    assert!(alone.prompt_tokens < both.prompt_tokens);
    let apart = alone.vectors[0].iter().zip(letters).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
    assert!(apart <= SAME_TOLERANCE, "the vector of a text depends on its neighbours by {apart}");
    let short = EmbedRequest { dimensions: Some(4), ..request(&["a red boat"]) };
    let short = embed.embed(short).await.expect("fewer dimensions are made");
    assert_eq!(short.vectors[0].len(), 4);
    for vector in both.vectors.iter().chain(&short.vectors) {
        let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() <= UNIT_TOLERANCE, "a vector of length {length}");
    }
    let tokens = EmbedRequest { inputs: vec![EmbedInput::Tokens(vec![1, 2, 3])], ..request(&[]) };
    assert_eq!(embed.embed(tokens).await.expect("tokens are embedded").vectors[0].len(), boat.len());
    let unknown = EmbedRequest { model: "no such model".to_owned(), ..request(&["a"]) };
    assert!(matches!(embed.embed(unknown).await, Err(Error::UnknownModel { .. })));
    let refused = [
        request(&[]),
        request(&vec!["a"; EMBED_INPUTS_MAX + 1]),
        EmbedRequest { dimensions: Some(0), ..request(&["a"]) },
        EmbedRequest { dimensions: Some(boat.len() as u32 + 1), ..request(&["a"]) },
    ];
    for wrong in refused {
        let why = format!("{} inputs, {:?} dimensions", wrong.inputs.len(), wrong.dimensions);
        let answered = embed.embed(wrong).await;
        assert!(matches!(answered, Err(Error::OutOfRange { .. } | Error::TooMany { .. })), "{why}");
    }
}

async fn check_scores(embed: &dyn Embed, model: &str) {
    let request = |documents: &[&str]| RerankRequest {
        id: RequestId::random(&mut Rng::seeded(1)),
        caller: None,
        model: model.to_owned(),
        query: "red boat".to_owned(),
        documents: documents.iter().map(|&text| text.to_owned()).collect(),
        instruction: None,
    };
    let both = embed.rerank(request(&["a red boat", "letters"])).await.expect("documents are ranked");
    assert_eq!(both.scores.len(), 2);
    assert!(both.scores.iter().all(|score| (0.0..=1.0).contains(score)), "{:?}", both.scores);
    assert!(both.prompt_tokens > 0);
    let alone = embed.rerank(request(&["letters"])).await.expect("a document is ranked");
    let apart = (alone.scores[0] - both.scores[1]).abs();
    assert!(apart <= SAME_TOLERANCE, "the score of a document depends on its neighbours by {apart}");
    let unknown = RerankRequest { model: "no such model".to_owned(), ..request(&["a"]) };
    assert!(matches!(embed.rerank(unknown).await, Err(Error::UnknownModel { .. })));
    assert!(matches!(embed.rerank(request(&[])).await, Err(Error::OutOfRange { .. })));
    let many = vec!["a"; crate::RERANK_DOCUMENTS_MAX + 1];
    assert!(matches!(embed.rerank(request(&many)).await, Err(Error::TooMany { .. })));
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::{Words, embed_conformance};

    #[test]
    fn the_fake_passes_the_suite() {
        let words = Words::new("e", "r");
        embed_conformance(&words).now_or_never().expect("the fake never waits");
        assert_eq!((words.embed_requests().len(), words.rerank_requests().len()), (4, 2));
    }
}
