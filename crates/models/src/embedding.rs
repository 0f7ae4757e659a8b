//! What embedding and reranking models make of hidden states and logits, and the texts that they were trained on.
//!
//! A Qwen3-Embedding vector is the hidden state of the last token behind the final norm, cut to the wanted dimensions
//! and made a unit vector. A Qwen3-Reranker score is the share of "yes" in the softmax over the answers "no" and "yes".
//! Sources: the model cards of Qwen3-Embedding and Qwen3-Reranker, as recorded in their configurations.

/// What a query is for, where a caller does not say.
pub const DEFAULT_INSTRUCTION: &str = "Given a web search query, retrieve relevant passages that answer the query";
/// The token that ends what is embedded; the tokenizer does not add it by itself.
pub const EMBEDDING_END: &str = "<|endoftext|>";
/// The answers of a reranker.
pub const RERANK_ANSWERS: [&str; 2] = ["no", "yes"];

/// A query as the embedding model expects it. Documents are embedded as they are.
#[must_use]
pub fn query_text(instruction: &str, query: &str) -> String {
    format!("Instruct: {instruction}\nQuery:{query}")
}

/// What surrounds the parts of a reranking prompt, control tokens included.
pub const RERANK_PREFIX: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the \
    Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";
/// The end of a reranking prompt.
pub const RERANK_SUFFIX: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/// The middle of a reranking prompt: plain text, in which control tokens must not be read.
#[must_use]
pub fn rerank_text(instruction: &str, query: &str, document: &str) -> String {
    format!("<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}")
}

/// The first `dimensions` numbers, divided by their length. A vector of zeros stays as it is.
///
/// # Panics
/// If the vector is shorter.
#[must_use]
pub fn unit(hidden: &[f32], dimensions: usize) -> Vec<f32> {
    let cut = &hidden[..dimensions];
    let length = cut.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    cut.iter().map(|x| (f64::from(*x) * scale) as f32).collect()
}

/// The mean of the rows `[n, width]` of a sequence, for models that pool so.
///
/// # Panics
/// If there is no row.
#[must_use]
pub fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let count = rows.len() / width;
    assert!(count > 0 && rows.len() == count * width, "rows are [n, {width}]");
    (0..width).map(|i| rows.iter().skip(i).step_by(width).sum::<f32>() / count as f32).collect()
}

/// How relevant a document is, from the logits of "no" and "yes": the softmax's share of "yes".
#[must_use]
pub fn relevance(no: f32, yes: f32) -> f32 {
    1.0 / (1.0 + (no - yes).exp())
}
