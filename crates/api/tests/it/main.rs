//! The dialects over a scripted model: what goes in, what comes out, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod accounts;
mod anthropic;
mod buckets;
mod console;
mod dashscope;
mod elsewhere;
mod embed;
mod follow;
mod fusion;
mod hostile;
mod keeping;
mod leaving;
mod limits;
mod observe;
mod ollama;
mod openai;
mod owners;
mod picture_files;
mod pulls;
mod support;
