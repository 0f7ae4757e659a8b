//! An answer under way.

use chat::{Event, EventStream};
use futures::StreamExt as _;
use tokio::sync::oneshot;

use super::NOTED_AHEAD;
use super::open::{Open, Pieces, counted};
use crate::Result;
use crate::price::{Direction, Quantities};
use crate::usage::Outcome;

type Told = oneshot::Receiver<Result<()>>;

/// An answer with its reservation.
pub(super) struct Answering {
    open: Open,
    events: EventStream,
    /// Until the reservation lies on the disk.
    durable: Option<Told>,
    prompt_tokens: u64,
    pieces: Pieces,
    output_most: u64,
    /// Output that may leave.
    noted_tokens: u64,
    /// Output that may leave soon.
    noting: Option<(u64, Told)>,
    is_over: bool,
}

impl Answering {
    pub(super) fn stream(open: Open, events: EventStream, durable: Told, output_most: u64) -> EventStream {
        let noted_tokens = output_most.min(NOTED_AHEAD);
        let answering = Self {
            open,
            events,
            durable: Some(durable),
            prompt_tokens: 0,
            pieces: Pieces::default(),
            output_most,
            noted_tokens,
            noting: None,
            is_over: false,
        };
        futures::stream::unfold(answering, |mut answering| async move {
            let event = answering.next().await?;
            Some((event, answering))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<chat::Result<Event>> {
        if self.is_over {
            return None;
        }
        let event = match self.events.next().await {
            Some(Ok(event)) => event,
            Some(Err(error)) => return Some(Err(self.failed(error).await)),
            None => {
                let reason = "the stream of events ended without its last one".to_owned();
                return Some(Err(self.failed(chat::Error::Interrupted { reason }).await));
            }
        };
        match &event {
            Event::Started { prompt_tokens } => {
                self.prompt_tokens = u64::from(*prompt_tokens);
                self.open.left = self.left();
                self.open.is_answering();
                return Some(Ok(event));
            }
            Event::Text(text) | Event::Reasoning(text) | Event::ToolCallArguments { fragment: text, .. } => {
                self.pieces.add(text);
            }
            Event::ToolCallStarted { name, .. } => self.pieces.add(name),
            Event::Logprobs(_) | Event::Warning(_) => {}
            Event::Finished(_) => {}
        }
        if let Err(error) = self.may_leave().await {
            tracing::error!(%error, reservation = self.open.id, "an answer is held back: its reservation was not kept");
            return Some(Err(self.failed(chat::Error::BooksClosed).await));
        }
        self.open.left = self.left();
        if let Event::Finished(finish) = &event {
            self.is_over = true;
            self.open.settle(counted(&finish.usage), Outcome::Finished).await;
        }
        Some(Ok(event))
    }

    fn left(&self) -> Quantities {
        let output = self.pieces.tokens().min(self.output_most);
        Quantities::of(Direction::Input, self.prompt_tokens).with(Direction::Output, output)
    }

    /// Waits until the reservation is on the disk and the next piece is noted.
    async fn may_leave(&mut self) -> Result<()> {
        if let Some(durable) = self.durable.take() {
            told(durable).await?;
        }
        let tokens = self.pieces.tokens().min(self.output_most);
        if self.noting.is_none() && self.noted_tokens < self.output_most && tokens + NOTED_AHEAD / 2 > self.noted_tokens
        {
            let ahead = (tokens + 2 * NOTED_AHEAD).min(self.output_most);
            let prompt = Quantities::of(Direction::Input, self.prompt_tokens);
            self.noting = Some((ahead, self.open.note(prompt.with(Direction::Output, ahead))));
        }
        while tokens > self.noted_tokens {
            let Some((ahead, noted)) = self.noting.take() else { break };
            told(noted).await?;
            self.noted_tokens = ahead;
        }
        if let Some((ahead, noted)) = &mut self.noting
            && let Ok(done) = noted.try_recv()
        {
            done?;
            self.noted_tokens = *ahead;
            self.noting = None;
        }
        Ok(())
    }

    /// Ends with an error: what left before it is charged, and where nothing did, nothing.
    async fn failed(&mut self, error: chat::Error) -> chat::Error {
        self.is_over = true;
        let counted = match &error {
            // They were generated, more than once even; whoever asked for a form that is missed pays once.
            chat::Error::FormMissed { output_tokens, .. } => u64::from(*output_tokens).min(self.output_most),
            _ => self.pieces.tokens().min(self.output_most),
        };
        match counted {
            0 => self.open.release().await,
            _ => self.open.settle(self.left().with(Direction::Output, counted), Outcome::Failed).await,
        }
        error
    }
}

async fn told(waiting: Told) -> Result<()> {
    waiting.await.unwrap_or_else(|_| Err(meta::Error::Gone.into()))
}
