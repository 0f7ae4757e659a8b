//! The crate through its public face, on Qwen's real vocabulary and templates.

#![expect(clippy::unwrap_used, reason = "a test that fails may say so in any way")]

mod fixtures;
mod prompts;
mod smoke;
