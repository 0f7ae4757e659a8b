//! A request for a generation, with everything that shapes it.

use std::sync::Arc;

use base::RequestId;
use serde_json::{Map, Value};

use crate::{Error, Message, Result, Tool, ToolChoice};

/// Limits that every request is held to before anything is allocated for it.
pub mod limits {
    /// Stop strings in one request. OpenAI documents 4; agents send more.
    pub const STOP_STRINGS_MAX: usize = 64;
    /// Length of one stop string.
    pub const STOP_STRING_BYTES_MAX: usize = 1024;
    /// Alternatives beside a token's log probability.
    pub const TOP_LOGPROBS_MAX: u32 = 20;
    /// Entries of a logit bias.
    pub const LOGIT_BIAS_MAX: usize = 1024;
    /// Tools in one request.
    pub const TOOLS_MAX: usize = 512;
    /// Files beside the one that is written.
    pub const FILES_MAX: usize = 256;
    /// Messages in one request.
    pub const MESSAGES_MAX: usize = 10_000;
}

/// What the model continues.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A conversation, which the model's own template turns into text.
    Messages(Vec<Message>),
    /// Text as it is; control tokens in it are text too.
    Text(String),
    /// Token ids as they are.
    Tokens(Vec<u32>),
}

/// Whether the model reasons before it answers, where it can do both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Thinking {
    /// As the template does when nothing is said.
    #[default]
    Default,
    /// Reason first.
    On,
    /// Answer at once.
    Off,
}

/// How tokens are drawn. `None` means: as the model's `generation_config` says, or else neutral.
///
/// Order: penalties, temperature, top-k, top-p, min-p; presence and frequency penalties are subtracted from the raw
/// logits before everything else.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    /// 0 picks the most likely token.
    pub temperature: Option<f32>,
    /// Keep this many tokens; 0 keeps all.
    pub top_k: Option<u32>,
    /// Keep the smallest set whose probabilities reach this sum.
    pub top_p: Option<f32>,
    /// Keep tokens with at least this fraction of the best one's probability.
    pub min_p: Option<f32>,
    /// Divides positive and multiplies negative logits of every token seen in prompt or output; 1 does nothing.
    pub repetition_penalty: Option<f32>,
    /// Subtracted once from every token that was generated.
    pub presence_penalty: Option<f32>,
    /// Subtracted once for every time that a token was generated.
    pub frequency_penalty: Option<f32>,
    /// Added to the raw logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed, prompt and settings give the same answer.
    pub seed: Option<u64>,
}

/// What ends a generation before the model does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopRules {
    /// Generation ends where one of these appears in the text; the string is not part of the answer.
    pub strings: Vec<String>,
    /// Further token ids that end the generation.
    pub tokens: Vec<u32>,
    /// Ignore the model's own end-of-sequence tokens.
    pub ignore_eos: bool,
}

/// What form the answer must have. The answer is held to it while it is generated, not checked afterwards.
///
/// Reasoning before the answer is free in any case.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Format {
    /// Free text.
    #[default]
    Text,
    /// Some JSON object.
    JsonObject,
    /// A JSON value that this schema accepts.
    JsonSchema(Value),
    /// Text that this regular expression matches as a whole.
    Regex(String),
    /// Text that this Lark grammar accepts.
    Lark(String),
}

/// Who comes first when not all can be served at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Whenever nobody else wants the machine: batches.
    Background,
    /// As usual.
    #[default]
    Normal,
    /// Before others.
    High,
}

/// On whose behalf a request is made. Whoever shares a model among requests is fair between projects, and shows no
/// project what another one computed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The project that pays.
    pub project: Arc<str>,
    /// The name (never the secret) of the key that was shown.
    pub key: Arc<str>,
    /// Its place among others.
    pub priority: Priority,
}

/// A file beside the one that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextFile {
    /// Its path in the repository; may be empty.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

/// A request as every dialect hands it on.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// Its name in logs and errors.
    pub id: RequestId,
    /// On whose behalf; `None` where there are no accounts.
    pub caller: Option<Caller>,
    /// Which model is asked for.
    pub model: String,
    /// What is continued.
    pub prompt: Prompt,
    /// What stands behind the gap that the answer fills, the text prompt being what stands before it. Control tokens
    /// in either are text then.
    pub suffix: Option<String>,
    /// Other files of the repository that a gap is in, for models that were trained to see them. Control tokens in them
    /// are text.
    pub files: Vec<ContextFile>,
    /// Tools that may be called.
    pub tools: Vec<Tool>,
    /// Whether they must be.
    pub tool_choice: ToolChoice,
    /// Whether one answer may call several.
    pub parallel_tool_calls: bool,
    /// Whether to reason first.
    pub thinking: Thinking,
    /// Reasoning that has so many tokens is brought to its end, and the answer follows; `None`: it takes what it takes.
    pub thinking_tokens_max: Option<u32>,
    /// Further variables of the chat template by name, for example `reasoning_effort`.
    pub template_variables: Map<String, Value>,
    /// What form the answer must have.
    pub format: Format,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// What ends the generation.
    pub stop: StopRules,
    /// At most so many tokens are generated; `None`: until the context is full. 0 only with `echo`.
    pub max_tokens: Option<u32>,
    /// `Some(n)`: the log probability of each token, with the `n` best alternatives; with `echo` of the prompt's too.
    pub logprobs: Option<u32>,
    /// The prompt is part of the answer (completions with `echo`).
    pub echo: bool,
    /// Whether next tokens may be guessed ahead where that pays. No answer depends on it, only its speed.
    pub speculates: bool,
}

impl GenerateRequest {
    /// A request with neutral settings.
    #[must_use]
    pub fn new(id: RequestId, model: impl Into<String>, prompt: Prompt) -> Self {
        Self {
            id,
            caller: None,
            model: model.into(),
            prompt,
            suffix: None,
            files: Vec::new(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            thinking: Thinking::Default,
            thinking_tokens_max: None,
            template_variables: Map::new(),
            format: Format::Text,
            sampling: Sampling::default(),
            stop: StopRules::default(),
            max_tokens: None,
            logprobs: None,
            echo: false,
            speculates: true,
        }
    }

    /// Refuses settings that are out of range, by name and value. Every implementation of [`crate::Generate`] calls
    /// it first, so that no dialect can forget.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] or [`Error::TooMany`].
    pub fn validate(&self) -> Result<()> {
        let sampling = &self.sampling;
        within("temperature", sampling.temperature, 0.0, 100.0)?;
        above_zero("top_p", sampling.top_p, 1.0)?;
        within("min_p", sampling.min_p, 0.0, 1.0)?;
        above_zero("repetition_penalty", sampling.repetition_penalty, 100.0)?;
        within("presence_penalty", sampling.presence_penalty, -2.0, 2.0)?;
        within("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0)?;
        for &(_, bias) in &sampling.logit_bias {
            within("logit_bias", Some(bias), -100.0, 100.0)?;
        }
        at_most("logit_bias entries", sampling.logit_bias.len(), limits::LOGIT_BIAS_MAX)?;
        at_most("stop strings", self.stop.strings.len(), limits::STOP_STRINGS_MAX)?;
        for string in &self.stop.strings {
            at_most("bytes in a stop string", string.len(), limits::STOP_STRING_BYTES_MAX)?;
        }
        at_most("tools", self.tools.len(), limits::TOOLS_MAX)?;
        at_most("top_logprobs", self.logprobs.unwrap_or(0) as usize, limits::TOP_LOGPROBS_MAX as usize)?;
        at_most("files", self.files.len(), limits::FILES_MAX)?;
        if let Prompt::Messages(messages) = &self.prompt {
            at_most("messages", messages.len(), limits::MESSAGES_MAX)?;
        }
        // A prompt that is echoed with nothing added is scored.
        if self.max_tokens == Some(0) && !self.echo {
            return Err(Error::OutOfRange {
                name: "max_tokens",
                value: "0".to_owned(),
                allowed: "1 or more".to_owned(),
            });
        }
        Ok(())
    }
}

fn within(name: &'static str, value: Option<f32>, least: f32, most: f32) -> Result<()> {
    check(name, value, (least..=most).contains(&value.unwrap_or(least)), || format!("{least} to {most}"))
}

fn above_zero(name: &'static str, value: Option<f32>, most: f32) -> Result<()> {
    let fits = value.is_none_or(|value| value > 0.0 && value <= most);
    check(name, value, fits, || format!("more than 0, at most {most}"))
}

fn check(name: &'static str, value: Option<f32>, fits: bool, allowed: impl FnOnce() -> String) -> Result<()> {
    match value {
        Some(value) if !fits => Err(Error::OutOfRange { name, value: value.to_string(), allowed: allowed() }),
        Some(_) | None => Ok(()),
    }
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<()> {
    if count > limit { Err(Error::TooMany { what, count, limit }) } else { Ok(()) }
}
