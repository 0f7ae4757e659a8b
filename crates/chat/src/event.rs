//! What comes back from a model.

/// Log probability of one token.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprob {
    /// Id of the token.
    pub token: u32,
    /// Its bytes; not always whole characters.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability. `None` for the first token of a prompt: nothing stands before it.
    pub logprob: Option<f32>,
}

/// A token with its log probability and the best alternatives, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The token that was drawn, or that the prompt has here.
    pub chosen: Logprob,
    /// The most likely tokens, the drawn one among them if it is.
    pub top: Vec<Logprob>,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model ended its turn, or a stop rule matched.
    Stop,
    /// The token limit or the end of the context was reached.
    Length,
    /// The model called tools.
    ToolCalls,
}

/// Which stop rule matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopMatch {
    /// The model's own end of turn.
    EndOfTurn,
    /// A stop string of the request.
    String(String),
    /// A stop token of the request.
    Token(u32),
}

/// Tokens that were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Those of them whose computation was reused.
    pub cached_tokens: u32,
    /// Generated tokens, reasoning included, the end-of-turn token too.
    pub output_tokens: u32,
    /// Those of them that were reasoning.
    pub reasoning_tokens: u32,
}

/// The last event of a stream that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// Why it ended.
    pub reason: FinishReason,
    /// Which stop rule matched, if one did.
    pub stop: Option<StopMatch>,
    /// What it cost.
    pub usage: Usage,
}

/// One event of a generation.
///
/// A stream is: `Started`, any number of the others, then exactly one `Finished`. An error in place of any of them is
/// the end of the stream; what came before it is not a whole answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The prompt was accepted.
    Started {
        /// Its length in tokens; where only the end of an answer tells it, an estimate. What counts is
        /// [`Finish::usage`].
        prompt_tokens: u32,
    },
    /// A piece of reasoning.
    Reasoning(String),
    /// A piece of the answer. Always whole characters.
    Text(String),
    /// A tool call begins.
    ToolCallStarted {
        /// 0 for the first call of the answer, and so on.
        index: u32,
        /// Name of the call.
        id: String,
        /// Name of the tool.
        name: String,
    },
    /// A piece of the JSON text of a call's arguments.
    ToolCallArguments {
        /// Which call.
        index: u32,
        /// The next piece; all pieces of a call together are its arguments.
        fragment: String,
    },
    /// Log probabilities of the tokens since the last such event. Those of the prompt come first, where it is echoed.
    Logprobs(Vec<TokenLogprobs>),
    /// Something the caller may want to know; the generation goes on.
    Warning(String),
    /// The end of a whole answer.
    Finished(Finish),
}
