//! OpenAI's dialect.

mod batches;
mod refused;
mod responses;
mod streams;
