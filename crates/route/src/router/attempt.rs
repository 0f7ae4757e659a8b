//! One request at one pool, from the place it takes to the outcome that the pool is judged by.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::Kind;
use chat::{Event, EventStream, GenerateRequest};
use futures::Stream;

use super::{Member, Shared, locked};
use crate::Fault;

/// Why a pool did not begin to answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// An upstream, by its name.
    Fault(String, Fault),
    /// This machine.
    Local(chat::Error),
}

impl Failure {
    /// Whether another target may do better.
    pub(super) fn may_be_retried(&self) -> bool {
        match self {
            Self::Fault(_, fault) => fault.may_be_retried(),
            // A request that this machine cannot hold may fit elsewhere.
            Self::Local(error) => {
                matches!(error.kind(), Kind::Exhausted | Kind::Unavailable | Kind::NotFound)
                    || matches!(error, chat::Error::PromptTooLong { .. } | chat::Error::Unsupported { .. })
            }
        }
    }

    /// As callers see it.
    pub(super) fn error(self) -> chat::Error {
        match self {
            Self::Fault(pool, fault) => fault.of_pool(&pool),
            Self::Local(error) => error,
        }
    }
}

/// Why a pool is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    First,
    Retry,
    Hedge,
}

/// A place at a pool. Whoever lets go of it without an outcome went away.
pub(super) struct Running {
    shared: Arc<Shared>,
    pool: usize,
    began_us: u64,
    is_judged: bool,
}

impl Running {
    /// Takes note of a place that was taken.
    pub(super) fn begin(shared: Arc<Shared>, pool: usize, how: How) -> Self {
        {
            let counts = &mut locked(&shared.states)[pool].counts;
            counts.retried += u64::from(how == How::Retry);
            counts.hedged += u64::from(how == How::Hedge);
        }
        let began_us = shared.clock.monotonic_us();
        Self { shared, pool, began_us, is_judged: false }
    }

    fn answered(&self) {
        let first_byte_us = self.shared.clock.monotonic_us().saturating_sub(self.began_us);
        locked(&self.shared.states)[self.pool].answered(first_byte_us);
    }

    fn finished(&mut self) {
        let state = &mut locked(&self.shared.states)[self.pool];
        state.breaker.succeeded();
        state.counts.finished += 1;
        self.is_judged = true;
    }

    fn failed(&mut self, is_sickness: bool) {
        let now_ms = self.shared.clock.now_ms();
        let state = &mut locked(&self.shared.states)[self.pool];
        state.counts.failed += 1;
        match is_sickness {
            true => state.breaker.failed(now_ms),
            false => state.breaker.abandoned(now_ms),
        }
        self.is_judged = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let now_ms = self.shared.clock.now_ms();
        let state = &mut locked(&self.shared.states)[self.pool];
        state.running = state.running.saturating_sub(1);
        if !self.is_judged {
            state.breaker.abandoned(now_ms);
            state.counts.abandoned += 1;
        }
    }
}

/// Asks the pool. The stream that comes back keeps the place until it ends.
pub(super) async fn attempt(mut running: Running, request: GenerateRequest) -> Result<EventStream, Failure> {
    let shared = Arc::clone(&running.shared);
    let outcome = match &shared.members[running.pool] {
        Member::Local(generate) => generate.generate(request).await.map_err(Failure::Local),
        Member::Upstream(upstream) => {
            let name = upstream.name();
            upstream.generation(&request).await.map_err(|fault| Failure::Fault(name.to_owned(), fault))
        }
    };
    match outcome {
        Ok(events) => {
            running.answered();
            Ok(Box::pin(Watched { events, running, is_over: false }))
        }
        Err(failure) => {
            let is_sickness = match &failure {
                Failure::Fault(_, fault) => {
                    if let Fault::Busy { retry_after_ms, .. } = fault {
                        let now_ms = shared.clock.now_ms();
                        locked(&shared.states)[running.pool].is_busy(now_ms, *retry_after_ms);
                    }
                    tracing::warn!(pool = shared.configured.pools[running.pool].name, error = %fault, "a pool failed");
                    fault.is_sickness()
                }
                Failure::Local(error) => matches!(error.kind(), Kind::Internal | Kind::Corrupt),
            };
            running.failed(is_sickness);
            Err(failure)
        }
    }
}

/// A stream that tells how its pool did.
struct Watched {
    events: EventStream,
    running: Running,
    is_over: bool,
}

impl Stream for Watched {
    type Item = chat::Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.events.as_mut().poll_next(context);
        if self.is_over {
            return polled;
        }
        match &polled {
            Poll::Ready(Some(Ok(Event::Finished(_)))) => {
                self.is_over = true;
                self.running.finished();
            }
            Poll::Ready(Some(Err(error))) => {
                self.is_over = true;
                let is_sickness = matches!(error.kind(), Kind::Internal | Kind::Corrupt | Kind::Unavailable);
                self.running.failed(is_sickness);
            }
            Poll::Ready(Some(Ok(_)) | None) | Poll::Pending => {}
        }
        polled
    }
}
