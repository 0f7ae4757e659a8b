//! A whole answer from its events.

use futures::StreamExt as _;

use crate::{Content, Error, Event, EventStream, Finish, Message, Result, Role, TokenLogprobs, ToolCall};

/// What a stream of events said, all together.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// The assistant's message. Its content is [`Content::None`] if there was no text but a tool call.
    pub message: Message,
    /// Log probabilities of all tokens, if they were asked for.
    pub logprobs: Vec<TokenLogprobs>,
    /// What the caller may want to know.
    pub warnings: Vec<String>,
    /// How it ended.
    pub finish: Finish,
}

/// Folds events into an [`Answer`].
#[derive(Debug, Default)]
pub struct Collector {
    prompt_tokens: Option<u32>,
    text: String,
    reasoning: String,
    tool_calls: Vec<ToolCall>,
    logprobs: Vec<TokenLogprobs>,
    warnings: Vec<String>,
    finish: Option<Finish>,
}

impl Collector {
    /// Takes the next event of the stream.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the event cannot stand here: before `Started`, after `Finished`, or a piece of a call
    /// that has not begun.
    pub fn push(&mut self, event: Event) -> Result<()> {
        let started = self.prompt_tokens.is_some();
        if self.finish.is_some() || started == matches!(event, Event::Started { .. }) {
            return Err(out_of_place(&event));
        }
        match event {
            Event::Started { prompt_tokens } => self.prompt_tokens = Some(prompt_tokens),
            Event::Reasoning(piece) => self.reasoning.push_str(&piece),
            Event::Text(piece) => self.text.push_str(&piece),
            Event::ToolCallStarted { index, id, name } if index as usize == self.tool_calls.len() => {
                self.tool_calls.push(ToolCall { id, name, arguments: String::new() });
            }
            Event::ToolCallArguments { index, ref fragment } => match self.tool_calls.get_mut(index as usize) {
                Some(call) => call.arguments.push_str(fragment),
                None => return Err(out_of_place(&event)),
            },
            Event::ToolCallStarted { .. } => return Err(out_of_place(&event)),
            Event::Logprobs(tokens) => self.logprobs.extend(tokens),
            Event::Warning(warning) => self.warnings.push(warning),
            Event::Finished(finish) => {
                self.prompt_tokens = Some(finish.usage.prompt_tokens);
                self.finish = Some(finish);
            }
        }
        Ok(())
    }

    /// The whole answer.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the stream has not ended in `Finished`: what came is not a whole answer.
    pub fn finish(self) -> Result<Answer> {
        let (Some(prompt_tokens), Some(finish)) = (self.prompt_tokens, self.finish) else {
            return Err(Error::Interrupted { reason: "the stream ended without a final event".to_owned() });
        };
        let mut message = Message::text(Role::Assistant, self.text);
        if message.content == Content::Text(String::new()) && !self.tool_calls.is_empty() {
            message.content = Content::None;
        }
        message.reasoning = (!self.reasoning.is_empty()).then_some(self.reasoning);
        message.tool_calls = self.tool_calls;
        Ok(Answer { prompt_tokens, message, logprobs: self.logprobs, warnings: self.warnings, finish })
    }
}

/// Waits for the whole answer.
///
/// # Errors
/// The stream's own error, or [`Error::Interrupted`] if it is not a stream as [`Event`] describes it.
pub async fn collect(mut stream: EventStream) -> Result<Answer> {
    let mut collector = Collector::default();
    while let Some(event) = stream.next().await {
        collector.push(event?)?;
    }
    collector.finish()
}

fn out_of_place(event: &Event) -> Error {
    Error::Interrupted { reason: format!("the event {event:?} is out of place") }
}

#[cfg(test)]
mod tests {
    use super::Collector;
    use crate::{Content, Event, Finish, FinishReason, Usage};

    fn finished() -> Event {
        let usage = Usage { prompt_tokens: 3, ..Usage::default() };
        Event::Finished(Finish { reason: FinishReason::Stop, stop: None, usage })
    }

    fn started() -> Event {
        Event::Started { prompt_tokens: 3 }
    }

    fn text(piece: &str) -> Event {
        Event::Text(piece.to_owned())
    }

    fn call(index: u32) -> Event {
        Event::ToolCallStarted { index, id: "c".to_owned(), name: "f".to_owned() }
    }

    fn arguments(index: u32, fragment: &str) -> Event {
        Event::ToolCallArguments { index, fragment: fragment.to_owned() }
    }

    #[test]
    fn pieces_become_a_message() {
        let mut collector = Collector::default();
        for event in [started(), text("a"), Event::Reasoning("r".to_owned()), text("b"), call(0), finished()] {
            collector.push(event).unwrap();
        }
        let answer = collector.finish().unwrap();
        assert_eq!(answer.message.content, Content::Text("ab".to_owned()));
        assert_eq!(answer.message.reasoning.as_deref(), Some("r"));
        assert_eq!((answer.prompt_tokens, answer.message.tool_calls.len()), (3, 1));
    }

    #[test]
    fn calls_without_text_have_no_content() {
        let mut collector = Collector::default();
        for event in [started(), call(0), arguments(0, "{"), call(1), arguments(0, "}"), arguments(1, "{}"), finished()]
        {
            collector.push(event).unwrap();
        }
        let message = collector.finish().unwrap().message;
        assert_eq!(message.content, Content::None);
        assert!(message.tool_calls.iter().all(|call| call.arguments == "{}"), "{message:?}");
    }

    #[test]
    fn what_is_no_whole_stream_is_no_answer() {
        let check = |events: Vec<Event>| {
            let mut collector = Collector::default();
            let pushed = events.into_iter().try_for_each(|event| collector.push(event));
            assert!(pushed.and_then(|()| collector.finish()).is_err());
        };
        check(vec![]);
        check(vec![started()]);
        check(vec![started(), text("a")]);
        check(vec![text("a"), started(), finished()]);
        check(vec![started(), started(), finished()]);
        check(vec![started(), finished(), finished()]);
        check(vec![started(), finished(), text("a")]);
        check(vec![started(), arguments(0, "{}"), finished()]);
        check(vec![started(), call(1), finished()]);
    }
}
