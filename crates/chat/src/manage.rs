//! Which models are loaded, and what they are doing.

use futures::future::BoxFuture;

use crate::{ModelCard, Result};

/// Where a model is between its files and its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelState {
    /// Its files are there; the first request loads it.
    OnDisk,
    /// It is being read.
    Loading {
        /// Layers that are ready.
        layers_done: u32,
        /// All layers; 0 until this is known.
        layers_all: u32,
    },
    /// It answers.
    Loaded,
    /// It could not be loaded. The next request tries again.
    Failed {
        /// Why, in one line.
        reason: String,
    },
}

/// How long a model stays loaded after its last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// Until its memory is needed for another one.
    UntilNeeded,
    /// For so many milliseconds; 0: it goes as soon as nobody uses it.
    Milliseconds(u64),
    /// As long as the program runs, whatever else is asked for.
    Forever,
}

/// A model with its state and its figures. Counters run since the model was loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelStatus {
    /// Name, context, facts.
    pub card: ModelCard,
    /// Further names that requests may use.
    pub aliases: Vec<String>,
    /// Whether it is loaded.
    pub state: ModelState,
    /// How long it stays.
    pub keep_alive: KeepAlive,
    /// When it will leave if nobody asks, milliseconds since the Unix epoch; `None`: no time is set.
    pub expires_ms: Option<u64>,
    /// Memory of its weights, or what they would take, in bytes.
    pub weights_bytes: u64,
    /// Keys and values that are in use or kept for the next one, in bytes.
    pub kv_used_bytes: u64,
    /// Keys and values that there is room for, in bytes.
    pub kv_max_bytes: u64,
    /// Requests that are being computed.
    pub running: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Generated tokens a second over the last seconds in which it computed.
    pub tokens_per_second: f32,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Those of them that did not have to be computed, because an earlier prompt began alike.
    pub cached_tokens: u64,
    /// Tokens that were generated.
    pub output_tokens: u64,
    /// Requests whose prompt began to be computed.
    pub begun: u64,
    /// How long they had waited for that in the engine's queue, together, in microseconds.
    pub waited_us: u64,
    /// Forward passes.
    pub steps: u64,
    /// Sequences that they computed, together: over `steps` the mean size of a batch.
    pub step_sequences: u64,
    /// How often a sequence gave its memory to an older one and was computed again.
    pub preemptions: u64,
    /// Tokens that were guessed ahead.
    pub drafted_tokens: u64,
    /// Those of them that the model agreed with.
    pub accepted_tokens: u64,
    /// How often it was found out which tokens fit a form.
    pub masks: u64,
    /// What that took beside the steps, in microseconds.
    pub masks_us: u64,
    /// By how much steps waited for it.
    pub mask_waits_us: u64,
}

/// Whoever holds models and can load and unload them.
pub trait Manage: Send + Sync {
    /// All models, in the order of [`crate::Generate::models`].
    fn statuses(&self) -> Vec<ModelStatus>;

    /// Loads a model, or waits until it is loaded, and sets how long it stays (`None`: as it is).
    ///
    /// Errors: it is not known, its files are broken, or there is no room for it beside those that must stay.
    fn load<'a>(&'a self, model: &'a str, keep_alive: Option<KeepAlive>) -> BoxFuture<'a, Result<()>>;

    /// Lets go of a model as soon as no request uses it, and answers then. Requests that come before that are served;
    /// later ones load it again.
    fn unload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<()>>;
}
