//! What a model's text means: reasoning, answer, tool calls, and where it stops.
//!
//! The parser is fed with pieces of text as the detokenizer hands them out, control tokens as text included
//! (`<think>`, `<tool_call>`), the end-of-turn token not. However the text is cut into pieces, the events say the same.
//!
//! * **Reasoning** is what stands in `<think>…</think>` at the very beginning; the prompt may have opened it already.
//!   Whitespace around it belongs to the format. Later tags are text.
//! * **Tool calls** come out when they are complete and well-formed, all at once. A call cannot be taken back once it
//!   has begun, and a model may break off at the last brace, so nothing of it is shown before it is known to be one.
//!   A malformed call comes out as the text that it is, with a warning; nothing is repaired. Whitespace before and
//!   after a call belongs to the format.
//! * **Stop strings** apply to the visible answer: not to reasoning, not inside a tool call, and no string spans one.
//!   They are looked for after reasoning and calls have been taken out.
//! * Everything is handed out as early as that allows: what is held back could be the start of a tag or of a stop
//!   string, or is whitespace that may turn out to stand before a tool call.

mod json;
mod schema;
mod stop;
mod xml;

use crate::{Event, GenerateRequest, Rendered, Template, Tool, ToolChoice, ToolFormat};
use stop::StopMatcher;

const THINK: &str = "<think>";
const THINK_END: &str = "</think>";
const CALL: &str = "<tool_call>";
const CALL_END: &str = "</tool_call>";

/// Bytes of one tool call. Longer ones come out as text.
pub const TOOL_CALL_BYTES_MAX: usize = 4 << 20;

/// Larger pieces are taken in chunks: what follows a malformed call is looked at again, so a piece that is nothing but
/// malformed calls would else cost the square of its length.
const CHUNK_BYTES: usize = 1024;

/// How an output begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opening {
    /// Everything is text, `<think>` too: a completion that is not a conversation.
    #[default]
    Text,
    /// `<think>` may open the reasoning.
    MayReason,
    /// The prompt has opened the reasoning already.
    Reasoning,
}

/// What a parser has to know of prompt and request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutputOptions {
    /// How the output begins.
    pub opening: Opening,
    /// How tool calls are written; `None`: they are text.
    pub tool_format: Option<ToolFormat>,
    /// The tools of the request; their schemas say how XML arguments are typed.
    pub tools: Vec<Tool>,
    /// What the ids of calls begin with; their index follows.
    pub call_id_prefix: String,
    /// The answer ends before the first of these.
    pub stop_strings: Vec<String>,
}

impl OutputOptions {
    /// The options for the answer to a conversation.
    #[must_use]
    pub fn chat(request: &GenerateRequest, template: &Template, rendered: &Rendered) -> Self {
        let calls = !request.tools.is_empty() && request.tool_choice != ToolChoice::None;
        Self {
            opening: if rendered.ends_in_reasoning() { Opening::Reasoning } else { Opening::MayReason },
            tool_format: template.tool_format().filter(|_| calls),
            tools: request.tools.clone(),
            call_id_prefix: format!("call_{}_", request.id),
            stop_strings: request.stop.strings.clone(),
        }
    }

    /// The options for a completion of plain text or tokens.
    #[must_use]
    pub fn completion(request: &GenerateRequest) -> Self {
        Self { stop_strings: request.stop.strings.clone(), ..Self::default() }
    }
}

/// The streaming parser of one answer.
#[derive(Debug)]
pub struct OutputParser {
    state: State,
    tool_format: Option<ToolFormat>,
    tools: Vec<Tool>,
    call_id_prefix: String,
    calls: u32,
    /// Input that is not decided yet: at most a piece of a tag.
    pending: String,
    /// Whitespace at the end of what was decided; what follows says whether it counts.
    space: String,
    /// Whitespace before the last call. It counts only if text follows the call.
    space_before_call: String,
    stop: StopMatcher,
    stopped: Option<String>,
    events: Vec<Event>,
}

#[derive(Debug)]
enum State {
    /// Only whitespace has come so far.
    Opening,
    /// `begun`: something else than whitespace has come.
    Reasoning {
        begun: bool,
    },
    /// `skip_space`: a tag was just closed.
    Text {
        skip_space: bool,
    },
    Json(json::Call),
    Xml(xml::Call),
    /// A stop string was found.
    Stopped,
}

/// What a tool call's parser says after each piece.
enum Progress {
    /// Not yet complete.
    More,
    /// The call is complete. `used` bytes of the piece belong to it.
    Done { used: usize, name: String, arguments: String },
    /// This is no call. `at`: how much of the call's whole text, this piece included, is certainly no tag; what follows
    /// is looked at again.
    Broken { at: usize, why: &'static str },
}

impl OutputParser {
    /// A parser at the beginning of an answer.
    #[must_use]
    pub fn new(options: OutputOptions) -> Self {
        let state = match options.opening {
            Opening::Text => State::Text { skip_space: false },
            Opening::MayReason => State::Opening,
            Opening::Reasoning => State::Reasoning { begun: false },
        };
        Self {
            state,
            tool_format: options.tool_format,
            tools: options.tools,
            call_id_prefix: options.call_id_prefix,
            calls: 0,
            pending: String::new(),
            space: String::new(),
            space_before_call: String::new(),
            stop: StopMatcher::new(options.stop_strings),
            stopped: None,
            events: Vec::new(),
        }
    }

    /// Takes the next piece and returns what has become certain: `Reasoning`, `Text`, `ToolCallStarted`,
    /// `ToolCallArguments` and `Warning` events. After a stop string has been found there are none.
    pub fn push(&mut self, piece: &str) -> Vec<Event> {
        let mut rest = piece;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.ceil_char_boundary(CHUNK_BYTES));
            self.pending.push_str(chunk);
            while self.step() {}
            rest = after;
        }
        std::mem::take(&mut self.events)
    }

    /// The output is over: returns what was held back.
    pub fn finish(&mut self) -> Vec<Event> {
        let rest = std::mem::take(&mut self.pending);
        match std::mem::replace(&mut self.state, State::Text { skip_space: false }) {
            State::Opening | State::Text { .. } => self.text(&rest),
            State::Reasoning { begun } => {
                self.reasoning(&rest, begun);
                self.space.clear();
            }
            State::Json(call) => self.broken(&call.into_text(), "it has no end"),
            State::Xml(call) => self.broken(&call.into_text(), "it has no end"),
            State::Stopped => self.state = State::Stopped,
        }
        let space = std::mem::take(&mut self.space);
        self.visible(&space);
        if !matches!(self.state, State::Stopped) {
            let held = self.stop.flush();
            self.emit_text(held);
        }
        std::mem::take(&mut self.events)
    }

    /// The stop string that was found, if one was: the answer is over.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// How many tools were called.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Whether the next token belongs to the reasoning.
    #[must_use]
    pub fn in_reasoning(&self) -> bool {
        matches!(self.state, State::Reasoning { .. })
    }

    /// Decides as much of `pending` as one state can. False: more input is needed.
    fn step(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let pending = std::mem::take(&mut self.pending);
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Opening => self.step_opening(&pending),
            State::Reasoning { begun } => self.step_reasoning(&pending, begun),
            State::Text { skip_space } => self.step_text(&pending, skip_space),
            State::Json(mut call) => {
                let progress = call.push(&pending);
                self.step_call(progress, &pending, State::Json(call))
            }
            State::Xml(mut call) => {
                let progress = call.push(&pending, &self.tools);
                self.step_call(progress, &pending, State::Xml(call))
            }
            State::Stopped => false,
        }
    }

    fn step_opening(&mut self, pending: &str) -> bool {
        let rest = pending.trim_start();
        self.space.push_str(&pending[..pending.len() - rest.len()]);
        if let Some(after) = rest.strip_prefix(THINK) {
            self.space.clear();
            after.clone_into(&mut self.pending);
            self.state = State::Reasoning { begun: false };
            return true;
        }
        rest.clone_into(&mut self.pending);
        if THINK.starts_with(rest) {
            self.state = State::Opening;
            return false;
        }
        self.state = State::Text { skip_space: false };
        true
    }

    fn step_reasoning(&mut self, pending: &str, begun: bool) -> bool {
        if let Some(at) = pending.find(THINK_END) {
            self.reasoning(&pending[..at], begun);
            self.space.clear();
            pending[at + THINK_END.len()..].clone_into(&mut self.pending);
            self.state = State::Text { skip_space: true };
            return true;
        }
        let (certain, held) = pending.split_at(pending.len() - held_back(pending, THINK_END));
        held.clone_into(&mut self.pending);
        let begun = self.reasoning(certain, begun);
        self.state = State::Reasoning { begun };
        false
    }

    /// Hands out reasoning but for the whitespace at its edges. Returns whether it has begun.
    fn reasoning(&mut self, text: &str, begun: bool) -> bool {
        let text = if begun { text } else { text.trim_start() };
        let shown = text.trim_end();
        if !shown.is_empty() {
            let space = std::mem::take(&mut self.space);
            match self.events.last_mut() {
                Some(Event::Reasoning(last)) => last.extend([space.as_str(), shown]),
                _ => self.events.push(Event::Reasoning(space + shown)),
            }
        }
        self.space.push_str(&text[shown.len()..]);
        begun || !shown.is_empty()
    }

    fn step_text(&mut self, pending: &str, skip_space: bool) -> bool {
        let rest = if skip_space { pending.trim_start() } else { pending };
        self.state = State::Text { skip_space: skip_space && rest.is_empty() };
        let Some(format) = self.tool_format else {
            self.text(rest);
            return false;
        };
        if let Some(at) = rest.find(CALL) {
            self.text(&rest[..at]);
            if matches!(self.state, State::Stopped) {
                return false;
            }
            let space = std::mem::take(&mut self.space);
            self.space_before_call.push_str(&space);
            rest[at + CALL.len()..].clone_into(&mut self.pending);
            self.state = match format {
                ToolFormat::Json => State::Json(json::Call::default()),
                ToolFormat::Xml => State::Xml(xml::Call::default()),
            };
            return true;
        }
        let (certain, held) = rest.split_at(rest.len() - held_back(rest, CALL));
        held.clone_into(&mut self.pending);
        self.text(certain);
        false
    }

    fn step_call(&mut self, progress: Progress, pending: &str, state: State) -> bool {
        match progress {
            Progress::More => {
                self.state = state;
                false
            }
            Progress::Done { used, name, arguments } => {
                self.call(name, arguments);
                pending[used..].clone_into(&mut self.pending);
                self.state = State::Text { skip_space: true };
                true
            }
            Progress::Broken { at, why } => {
                let whole = match state {
                    State::Json(call) => call.into_text(),
                    State::Xml(call) => call.into_text(),
                    _ => unreachable!("only calls make progress"),
                };
                whole[at..].clone_into(&mut self.pending);
                self.state = State::Text { skip_space: false };
                self.broken(&whole[..at], why);
                true
            }
        }
    }

    fn call(&mut self, name: String, arguments: String) {
        let held = self.stop.flush();
        self.emit_text(held);
        let index = self.calls;
        self.calls += 1;
        let id = format!("{}{index}", self.call_id_prefix);
        self.events.push(Event::ToolCallStarted { index, id, name });
        self.events.push(Event::ToolCallArguments { index, fragment: arguments });
    }

    /// What looked like a call was none.
    fn broken(&mut self, body: &str, why: &str) {
        self.events.push(Event::Warning(format!("a tool call is malformed and stays text: {why}")));
        self.text(&format!("{CALL}{body}"));
    }

    /// Hands out text of the answer. Where calls are looked for, whitespace at its end waits for what follows.
    fn text(&mut self, text: &str) {
        let shown = if self.tool_format.is_some() { text.trim_end() } else { text };
        if !shown.is_empty() {
            let mut space = std::mem::take(&mut self.space_before_call);
            space.push_str(&std::mem::take(&mut self.space));
            self.visible(&space);
            self.visible(shown);
        }
        self.space.push_str(&text[shown.len()..]);
    }

    /// Hands out text up to the first stop string.
    fn visible(&mut self, text: &str) {
        if text.is_empty() || self.stopped.is_some() {
            return;
        }
        let mut shown = String::new();
        self.stopped = self.stop.push(text, &mut shown);
        self.emit_text(shown);
        if self.stopped.is_some() {
            self.pending.clear();
            self.space.clear();
            self.state = State::Stopped;
        }
    }

    fn emit_text(&mut self, text: String) {
        match self.events.last_mut() {
            _ if text.is_empty() => {}
            Some(Event::Text(last)) => last.push_str(&text),
            _ => self.events.push(Event::Text(text)),
        }
    }
}

/// Length of the longest end of `text` with which `tag` begins.
fn held_back(text: &str, tag: &str) -> usize {
    let most = text.len().min(tag.len() - 1);
    (1..=most).rev().find(|&length| text.as_bytes().ends_with(&tag.as_bytes()[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests;
