//! OpenAI's dialect.

mod batches;
mod infill;
mod refused;
mod responses;
mod streams;
