//! OpenAI's dialect.

mod refused;
mod responses;
mod streams;
