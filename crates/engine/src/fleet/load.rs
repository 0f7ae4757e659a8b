//! What a model needs, and bringing it into memory.

use std::path::Path;
use std::sync::Arc;

use chat::ModelStatus;
use models::Checkpoint;

use super::{Machine, Opened, Role, Source};
use crate::embedder::{Decoder, Embedder};
use crate::places::Places;
use crate::{Engine, Error, Files, Options, Result, engine};

/// With less room than this for keys and values a model is not worth loading.
const KV_BYTES_MIN: u64 = 16 << 20;

/// A model in memory.
pub(super) enum Loaded {
    Generates(Box<Engine>),
    Computes { embedder: Embedder, bytes: u64, kv_bytes: u64 },
}

/// Memory that a model is going to take.
pub(super) fn needed_bytes(opened: &Opened, role: Role, machine: &Machine) -> Result<u64> {
    let weights_bytes = match (opened, role) {
        (Opened::Decoder(checkpoint), Role::Generates) => machine.options.weights_bytes(checkpoint),
        (opened, _) => opened.packed_bytes(machine.options.precision),
    };
    let kv_bytes = match (opened, role) {
        (Opened::Encoder(_), _) => 0,
        (Opened::Decoder(checkpoint), Role::Generates) => {
            engine::cache_bytes(checkpoint, options(checkpoint, machine))?
        }
        (Opened::Decoder(checkpoint), Role::Embeds | Role::Ranks) => {
            Decoder::memory_bytes(&checkpoint.config, machine.options.kv_format)?
        }
    };
    Ok(weights_bytes + kv_bytes)
}

/// The machine's options, with no more for keys and values than what the weights leave.
fn options(checkpoint: &Checkpoint, machine: &Machine) -> Options {
    let weights_bytes = machine.options.weights_bytes(checkpoint);
    let left = machine.memory_bytes.saturating_sub(weights_bytes).max(KV_BYTES_MIN);
    Options { kv_bytes: machine.options.kv_bytes.min(left), ..machine.options }
}

pub(super) fn load(
    name: &str,
    source: &Source,
    role: Role,
    machine: &Machine,
    draft: Option<&Path>,
    progress: impl FnMut(usize, usize),
) -> Result<Loaded> {
    let Machine { cpu, clock, .. } = machine;
    // The files may have changed since the program started.
    let mut opened = source.open()?;
    if let Opened::Decoder(checkpoint) = &mut opened {
        checkpoint.weight_cache.clone_from(&machine.weight_cache);
    }
    let size_bytes = opened.size_bytes();
    if source.role(name, &opened) != role {
        return Err(Error::Changed { name: name.to_owned() });
    }
    let places = || Places::new(machine.options.requests_max, machine.options.project_requests_max);
    match opened {
        Opened::Encoder(files) => {
            let embedder = Embedder::encoder(Arc::clone(cpu), &files, machine.options.precision, places())?;
            Ok(Loaded::Computes { embedder, bytes: size_bytes, kv_bytes: 0 })
        }
        Opened::Decoder(checkpoint) if role == Role::Generates => {
            let options = options(&checkpoint, machine);
            let draft = draft.map(Checkpoint::open).transpose()?;
            let files = Files { checkpoint: &checkpoint, draft: draft.as_ref() };
            let engine = Engine::start(name, files, Arc::clone(cpu), Arc::clone(clock), options, progress)?;
            Ok(Loaded::Generates(Box::new(engine)))
        }
        Opened::Decoder(checkpoint) => {
            let Options { precision, kv_format, .. } = machine.options;
            let kv_bytes = Decoder::memory_bytes(&checkpoint.config, kv_format)?;
            let decoder = Decoder::load(cpu, &checkpoint, precision, kv_format, progress)?;
            let bytes = decoder.size_bytes();
            Ok(Loaded::Computes { embedder: Embedder::decoder(Arc::clone(cpu), decoder, places()), bytes, kv_bytes })
        }
    }
}

impl Loaded {
    pub(super) fn engine(&self) -> chat::Result<&Engine> {
        match self {
            Self::Generates(engine) => Ok(engine),
            Self::Computes { .. } => Err(wrong_role("generating")),
        }
    }

    pub(super) fn embedder(&self) -> chat::Result<&Embedder> {
        match self {
            Self::Computes { embedder, .. } => Ok(embedder),
            Self::Generates(_) => Err(wrong_role("embedding")),
        }
    }

    /// Embeddings take milliseconds and are not cut off.
    pub(super) fn stop(&self) {
        match self {
            Self::Generates(engine) => engine.stop(),
            Self::Computes { .. } => {}
        }
    }

    pub(super) fn context_tokens(&self) -> Option<u32> {
        match self {
            Self::Generates(engine) => Some(engine.card().context_tokens),
            Self::Computes { embedder, .. } => u32::try_from(embedder.tokens_max()).ok(),
        }
    }

    /// Memory that it takes when its cache is full.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Generates(engine) => engine.weights_bytes() + engine.kv_bytes(),
            Self::Computes { bytes, kv_bytes, .. } => bytes + kv_bytes,
        }
    }

    /// Puts down the figures of a loaded model.
    pub(super) fn describe(&self, status: &mut ModelStatus) {
        match self {
            Self::Generates(engine) => {
                let figures = engine.figures();
                status.weights_bytes = engine.weights_bytes();
                status.kv_used_bytes = engine.kv_used_bytes();
                status.kv_max_bytes = engine.kv_bytes();
                status.running = figures.running.get() as u32;
                status.waiting += figures.waiting.get() as u32;
                status.tokens_per_second = figures.tokens_per_second();
                status.prompt_tokens = figures.prompt_tokens.get();
                status.cached_tokens = figures.cached_tokens.get();
                status.output_tokens = figures.output_tokens.get();
                status.begun = figures.begun.get();
                status.waited_us = figures.waited_us.get();
                status.steps = figures.steps.get();
                status.step_sequences = figures.step_sequences.get();
                status.preemptions = figures.preemptions.get();
                status.drafted_tokens = figures.drafted_tokens.get();
                status.accepted_tokens = figures.accepted_tokens.get();
                status.masks = figures.masks.get();
                status.masks_us = figures.masks_us.get();
                status.mask_waits_us = figures.mask_waits_us.get();
            }
            Self::Computes { embedder, bytes, kv_bytes } => {
                status.weights_bytes = *bytes;
                status.kv_max_bytes = *kv_bytes;
                status.running = embedder.in_flight() as u32;
                status.prompt_tokens = embedder.prompt_tokens();
            }
        }
    }
}

/// Models are found by name and role, so this is not seen.
fn wrong_role(what: &str) -> chat::Error {
    chat::Error::Unsupported { what: what.to_owned(), why: "this model is for something else".to_owned() }
}
