//! OpenAI's dialect.

mod refused;
mod streams;
