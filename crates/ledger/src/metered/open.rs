//! A reservation that is booked to its end exactly once, whatever happens to whoever holds it.

use std::sync::Arc;
use std::time::Duration;

use meta::Mark;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{Meter, Order};
use crate::price::{Direction, Quantities};
use crate::usage::{Ended, Outcome, Spent};
use crate::{Error, Result};

/// Times that an end is booked while the database is away, with growing pauses. After that it stays open, and is
/// charged as it was noted when this process has ended.
const TRIES_MAX: u32 = 10;
/// The first pause.
const PAUSE: Duration = Duration::from_millis(50);

/// How far a reservation has come.
enum Stage {
    /// It may or may not be in the books: asked for, not answered.
    Asked,
    /// It is in the books, and nothing of the answer has left.
    Made,
    /// The answer is under way.
    Answering,
    /// Somebody books its end, or it was never made.
    Over,
}

/// A reservation that is open. Dropped, it is released, or charged what has left by then.
pub(super) struct Open {
    pub(super) meter: Arc<Meter>,
    pub(super) order: Order,
    pub(super) id: String,
    stage: Stage,
    /// What has left by now.
    pub(super) left: Quantities,
    start_us: u64,
    runtime: Handle,
}

impl Open {
    /// Before it is asked for. Must be called inside a tokio runtime.
    pub(super) fn new(meter: Arc<Meter>, order: Order) -> Self {
        let (id, start_us) = (meter.new_id(), meter.ledger.clock().monotonic_us());
        let left = Quantities::default();
        Self { meter, order, id, stage: Stage::Asked, left, start_us, runtime: Handle::current() }
    }

    /// The books refused it.
    pub(super) fn never_made<T>(&mut self, error: chat::Error) -> chat::Result<T> {
        self.stage = Stage::Over;
        Err(error)
    }

    /// It is in the books.
    pub(super) fn is_made(&mut self) {
        self.stage = Stage::Made;
    }

    /// Something of the answer is about to leave, or its prompt was read.
    pub(super) fn is_answering(&mut self) {
        self.stage = Stage::Answering;
    }

    /// Waits for the disk, from now on, whether anybody looks or not.
    pub(super) fn durable(&self, mark: Mark) -> oneshot::Receiver<Result<()>> {
        let (told, durable) = oneshot::channel();
        let meter = Arc::clone(&self.meter);
        self.runtime.spawn(async move { told.send(meter.ledger.durable(mark).await) });
        durable
    }

    /// Notes more than has left.
    pub(super) fn note(&self, quantities: Quantities) -> oneshot::Receiver<Result<()>> {
        let (told, noted) = oneshot::channel();
        let (meter, id, spent) = (Arc::clone(&self.meter), self.id.clone(), self.order.spent(quantities));
        self.runtime.spawn(async move {
            let done = match spent {
                Ok(spent) => meter.ledger.note(&id, spent).await,
                Err(error) => Err(error),
            };
            told.send(done)
        });
        noted
    }

    /// Gives everything back.
    pub(super) async fn release(&mut self) {
        self.end(None).await;
    }

    /// Charges what was used, and answers when that is booked, or will be as soon as the database is there again.
    pub(super) async fn settle(&mut self, quantities: Quantities, outcome: Outcome) {
        self.end(Some((quantities, outcome))).await;
    }

    async fn end(&mut self, used: Option<(Quantities, Outcome)>) {
        // An error means that the task ended without a word, which it logged.
        let _ = self.begin_end(used).await;
    }

    /// Books the end in a task of its own, so that it happens also if nobody waits for it.
    fn begin_end(&mut self, used: Option<(Quantities, Outcome)>) -> oneshot::Receiver<()> {
        let (told, done) = oneshot::channel();
        self.stage = Stage::Over;
        let ended = used.map(|(quantities, outcome)| {
            let elapsed_us = self.meter.ledger.clock().monotonic_us().saturating_sub(self.start_us);
            // It had a price when it was reserved, and less of it is used.
            let spent = self.order.spent(quantities).unwrap_or(Spent { quantities, cost_micro: 0 });
            Ended { spent, outcome, latency_ms: elapsed_us / 1000 }
        });
        let (meter, id) = (Arc::clone(&self.meter), self.id.clone());
        self.meter.ending.send_modify(|ending| *ending += 1);
        self.runtime.spawn(async move {
            book_end(&meter, &id, ended, told).await;
            meter.ending.send_modify(|ending| *ending -= 1);
        });
        done
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let used = match self.stage {
            Stage::Over => return,
            Stage::Asked | Stage::Made => None,
            Stage::Answering => Some((self.left, Outcome::Left)),
        };
        // Nobody waits.
        drop(self.begin_end(used));
    }
}

async fn book_end(meter: &Meter, id: &str, ended: Option<Ended>, told: oneshot::Sender<()>) {
    let mut told = Some(told);
    for attempt in 0..TRIES_MAX {
        let done = match ended {
            Some(ended) => meter.ledger.settle(id, ended).await.map(|_| ()),
            None => meter.ledger.release(id).await,
        };
        // Whoever waits is told after the first try: the answer is theirs, and the rest is ours.
        if let Some(told) = told.take() {
            let _ = told.send(());
        }
        match done {
            Ok(()) => return,
            // It was asked for, and never made.
            Err(Error::Missing { .. }) if ended.is_none() => return,
            Err(error) if error.kind() == base::Kind::Unavailable => {
                tracing::warn!(reservation = id, %error, attempt, "the end of a request cannot be booked yet");
            }
            Err(error) => {
                tracing::error!(reservation = id, %error, "the end of a request cannot be booked");
                return;
            }
        }
        tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
    }
    tracing::error!(reservation = id, "the end of a request was not booked; it will be charged as it was noted");
}

/// The output of a stream by its pieces, for an answer that was cut, which tells no counts: a piece is a token at
/// least, and four bytes are one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pieces {
    count: u64,
    bytes: u64,
}

/// Bytes of a token, about: of English and of Chinese text alike.
const TOKEN_BYTES: u64 = 4;

impl Pieces {
    pub(super) fn add(&mut self, text: &str) {
        self.count += 1;
        self.bytes += text.len() as u64;
    }

    pub(super) fn tokens(self) -> u64 {
        self.count.max(self.bytes / TOKEN_BYTES)
    }
}

/// What a whole answer used.
pub(super) fn counted(usage: &chat::Usage) -> Quantities {
    let cached = usage.cached_tokens.min(usage.prompt_tokens);
    Quantities::of(Direction::Input, u64::from(usage.prompt_tokens - cached))
        .with(Direction::CachedInput, u64::from(cached))
        .with(Direction::Output, u64::from(usage.output_tokens))
}
