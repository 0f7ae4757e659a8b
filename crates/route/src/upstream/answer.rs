//! An answer while it arrives: puts events in the order that `chat::Event` promises.

use std::collections::VecDeque;

use chat::{Event, Finish, FinishReason, StopMatch, Usage};

use crate::Fault;

/// Calls in one answer at most.
const CALLS_MAX: usize = 1_024;

/// Events that are ready, and what was said before them.
#[derive(Debug)]
pub(crate) struct Draft {
    ready: VecDeque<Event>,
    /// Tokens of the prompt as we guess them, until the upstream says how many there are.
    prompt_estimate: u32,
    started: bool,
    finished: bool,
    /// By our index: the upstream's own number of the call.
    calls: Vec<u64>,
    output_bytes: usize,
}

impl Draft {
    pub(crate) fn new(prompt_estimate: u32) -> Self {
        let (ready, calls) = (VecDeque::new(), Vec::new());
        Self { ready, prompt_estimate, started: false, finished: false, calls, output_bytes: 0 }
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Whether the prompt was accepted.
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// Whether the answer is complete.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The prompt was accepted; `prompt_tokens` if the upstream said how many it has.
    pub(crate) fn start(&mut self, prompt_tokens: Option<u32>) {
        if !self.started {
            self.started = true;
            let prompt_tokens = prompt_tokens.unwrap_or(self.prompt_estimate);
            self.prompt_estimate = prompt_tokens;
            self.ready.push_back(Event::Started { prompt_tokens });
        }
    }

    pub(crate) fn text(&mut self, piece: String) {
        self.output_bytes += piece.len();
        if !piece.is_empty() {
            self.ready.push_back(Event::Text(piece));
        }
    }

    pub(crate) fn reasoning(&mut self, piece: String) {
        self.output_bytes += piece.len();
        if !piece.is_empty() {
            self.ready.push_back(Event::Reasoning(piece));
        }
    }

    /// The call that the upstream numbers `number`, if it began.
    pub(crate) fn call(&self, number: u64) -> Option<u32> {
        self.calls.iter().position(|&known| known == number).map(|index| index as u32)
    }

    /// Begins a call.
    pub(crate) fn begin_call(&mut self, number: u64, id: String, name: String) -> Result<u32, Fault> {
        if self.calls.len() >= CALLS_MAX {
            return Err(Fault::Garbage { what: format!("more than {CALLS_MAX} tool calls") });
        }
        if name.is_empty() {
            return Err(Fault::Garbage { what: "a tool call without a name".to_owned() });
        }
        let index = self.calls.len() as u32;
        // Some servers give no ids; a result has to name its call all the same.
        let id = if id.is_empty() { format!("call_{index}") } else { id };
        self.calls.push(number);
        self.ready.push_back(Event::ToolCallStarted { index, id, name });
        Ok(index)
    }

    pub(crate) fn arguments(&mut self, index: u32, fragment: String) {
        self.output_bytes += fragment.len();
        if !fragment.is_empty() {
            self.ready.push_back(Event::ToolCallArguments { index, fragment });
        }
    }

    /// The answer is complete. Without the upstream's figures the usage is a guess, and said to be one.
    pub(crate) fn finish(&mut self, reason: FinishReason, stop: Option<StopMatch>, usage: Option<Usage>) {
        let usage = usage.unwrap_or_else(|| {
            let words = "the upstream reported no usage; the numbers of tokens are estimates";
            self.ready.push_back(Event::Warning(words.to_owned()));
            let output_tokens = tokens_of_bytes(self.output_bytes);
            Usage { prompt_tokens: self.prompt_estimate, output_tokens, ..Usage::default() }
        });
        let reason = match reason {
            // Some servers say `stop` after a call.
            FinishReason::Stop if !self.calls.is_empty() => FinishReason::ToolCalls,
            other => other,
        };
        let cached_tokens = usage.cached_tokens.min(usage.prompt_tokens);
        let reasoning_tokens = usage.reasoning_tokens.min(usage.output_tokens);
        let usage = Usage { cached_tokens, reasoning_tokens, ..usage };
        self.finished = true;
        self.ready.push_back(Event::Finished(Finish { reason, stop, usage }));
    }
}

/// A number of tokens that an upstream sent.
pub(crate) fn tokens(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// About how many tokens so many bytes of text are. English has about four bytes a token in byte-pair vocabularies;
/// it is a guess where nobody counted, never a bill where somebody did.
pub(crate) fn tokens_of_bytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX)
}
