//! Answers whose form no grammar can guarantee: generated, checked, and generated again.
//!
//! Nothing is shown before an answer is whole and fits, so the reader waits longer for the first piece. What all
//! attempts generated is counted, for it was computed.

use std::collections::VecDeque;
use std::sync::Arc;

use chat::{Error, Event, EventStream, GenerateRequest, Result};
use futures::{StreamExt as _, stream};

use crate::constraint::Held;
use crate::engine::Door;

/// Attempts at one answer.
const TRIES_MAX: u32 = 6;
/// An attempt at this temperature at least differs from the one before it.
const RETRY_TEMPERATURE: f32 = 0.7;

/// What one attempt came to.
enum Attempt {
    Whole(VecDeque<Event>),
    Missed { reason: String, output_tokens: u32 },
}

/// The events of the first attempt that fits. `first` is an attempt that is running already.
pub(crate) fn stream(door: Door, request: GenerateRequest, held: Arc<Held>, first: EventStream) -> EventStream {
    let whole = stream::once(async move {
        match settle(&door, request, held, first).await {
            Ok(events) => events.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        }
    });
    Box::pin(whole.flat_map(stream::iter))
}

async fn settle(
    door: &Door,
    mut request: GenerateRequest,
    held: Arc<Held>,
    first: EventStream,
) -> Result<VecDeque<Event>> {
    let (mut events, mut spent, mut tries) = (first, 0, 1);
    loop {
        let (reason, output_tokens) = match play(events).await? {
            Attempt::Whole(mut events) => {
                if let Some(Event::Finished(finish)) = events.back_mut() {
                    finish.usage.output_tokens += spent;
                }
                return Ok(events);
            }
            Attempt::Missed { reason, output_tokens } => (reason, output_tokens),
        };
        spent += output_tokens;
        if tries == TRIES_MAX {
            return Err(Error::FormMissed { tries, output_tokens: spent, reason });
        }
        tries += 1;
        let sampling = &mut request.sampling;
        sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(1));
        sampling.temperature = Some(sampling.temperature.map_or(RETRY_TEMPERATURE, |t| t.max(RETRY_TEMPERATURE)));
        (_, events) = door.submit(&request, Some(Arc::clone(&held))).await?;
    }
}

/// Plays an attempt to its end.
async fn play(mut events: EventStream) -> Result<Attempt> {
    let mut said = VecDeque::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => said.push_back(event),
            Err(Error::FormMissed { reason, output_tokens, .. }) => {
                return Ok(Attempt::Missed { reason, output_tokens });
            }
            Err(error) => return Err(error),
        }
    }
    match said.back() {
        Some(Event::Finished(_)) => Ok(Attempt::Whole(said)),
        Some(_) | None => Err(Error::Interrupted { reason: "the stream of an attempt ended early".to_owned() }),
    }
}
