//! Whatever answers requests, with a bill: [`Metered`] stands around a [`Generate`] or an [`Embed`].
//!
//! Before a request what it may cost at most is reserved; its prompt counts by its bytes, which no tokenizer exceeds,
//! and only a project that cannot afford that has it counted exactly. Afterwards what it really used is charged, once:
//! * a whole answer by the counts of whoever answered, before its last event is handed on;
//! * an answer that was cut, or that nobody read on, by its prompt and what left of it ([`Pieces`]);
//! * an answer that failed before anything left, or that was refused, not at all.
//!
//! Nothing of an answer leaves before its reservation is on the disk, and nothing beyond what was noted with it: the
//! note runs ahead of the answer by [`NOTED_AHEAD`] tokens. So the end of the machine leaves nothing unbilled.

pub(crate) mod bound;
mod embedded;
mod open;
mod stream;
mod tally;

use std::sync::{Arc, Mutex, PoisonError};

use base::{RequestId, Rng};
use chat::{Caller, EventStream, Generate, GenerateRequest, ModelCard, Priority};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use meta::Mark;
use tokio::sync::watch;

use crate::price::{Direction, Price, PriceList, Quantities};
use crate::usage::{Activity, Spent, Subject};
use crate::{Error, Ledger, Result, Wanted};

use open::Open;
use stream::Answering;

pub use tally::Tally;

/// Tokens that are noted before they leave. A note is a write that the disk is waited for, every so many tokens, while
/// the answer goes on.
pub const NOTED_AHEAD: u64 = 256;

/// The context of a model that is not listed, because it is asked for by an alias, or does not tell it.
const CONTEXT_UNKNOWN: u64 = 1 << 18;

/// How requests are charged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeterOptions {
    /// Where this process computes, for prices and records.
    pub region: String,
    /// What has no price is refused, a model or what is asked of it; otherwise it costs nothing.
    pub is_price_required: bool,
    /// Who pays for requests without a caller; `None`: nobody, they are not even counted.
    pub nobody: Option<Caller>,
}

/// What all metered requests of a process share.
pub struct Meter {
    ledger: Ledger,
    prices: PriceList,
    options: MeterOptions,
    ids: Mutex<Rng>,
    /// Ends of requests that are being booked.
    ending: watch::Sender<usize>,
}

impl Meter {
    /// A meter that books in this ledger. `seed` makes names of reservations; it must differ between processes.
    #[must_use]
    pub fn new(ledger: Ledger, prices: PriceList, options: MeterOptions, seed: u64) -> Arc<Self> {
        let ids = Mutex::new(Rng::seeded(seed));
        Arc::new(Self { ledger, prices, options, ids, ending: watch::Sender::new(0) })
    }

    /// The books.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The prices in force.
    #[must_use]
    pub fn prices(&self) -> &PriceList {
        &self.prices
    }

    /// Waits until the end of every request that has ended is booked.
    pub async fn settled(&self) {
        // The sender lives as long as we do.
        let _ = self.ending.subscribe().wait_for(|ending| *ending == 0).await;
    }

    /// Who pays for a request.
    fn payer(&self, caller: Option<&Caller>) -> Option<Caller> {
        caller.or(self.options.nobody.as_ref()).cloned()
    }

    fn price(&self, model: &str) -> Result<Price> {
        match self.prices.price(model, &self.options.region, self.ledger.clock().now_ms()) {
            priced if self.options.is_price_required => priced,
            Err(Error::NoPrice { .. }) => Ok(Price::free()),
            priced => priced.map(Price::or_free),
        }
    }

    fn new_id(&self) -> String {
        // A poisoned lock means that a thread panicked between two draws; the generator is still good.
        let id = RequestId::random(&mut self.ids.lock().unwrap_or_else(PoisonError::into_inner));
        // In the order of time, so that what is written together lies together in an index.
        format!("res_{:011x}{id}", self.ledger.clock().now_ms())
    }
}

/// Who asks for what, at which price.
struct Order {
    caller: Caller,
    subject: Subject,
    price: Price,
}

impl Order {
    fn new(meter: &Meter, caller: &Caller, model: &str, activity: Activity, trace: RequestId) -> chat::Result<Self> {
        let subject = Subject {
            model: model.to_owned(),
            region: meter.options.region.clone(),
            activity,
            is_batch: caller.priority == Priority::Background,
            trace: trace.to_string(),
            prices: meter.prices.version().to_owned(),
        };
        Ok(Self { caller: caller.clone(), price: meter.price(model).map_err(refused)?, subject })
    }

    fn spent(&self, quantities: Quantities) -> Result<Spent> {
        Ok(Spent { quantities, cost_micro: self.price.cost(&quantities, self.subject.tariff())? })
    }

    fn wanted(&self, id: &str, most: Spent, noted: Spent) -> Wanted {
        Wanted {
            id: id.to_owned(),
            project: self.caller.project.to_string(),
            key: self.caller.key.to_string(),
            subject: self.subject.clone(),
            most,
            noted,
        }
    }
}

/// Whatever answers, with a bill for every request that somebody pays for.
pub struct Metered<G: ?Sized> {
    meter: Arc<Meter>,
    inner: Arc<G>,
}

impl<G: ?Sized> Metered<G> {
    /// Stands around `inner`.
    #[must_use]
    pub fn new(meter: Arc<Meter>, inner: Arc<G>) -> Self {
        Self { meter, inner }
    }
}

impl<G: Generate + ?Sized> Metered<G> {
    async fn answer(&self, request: GenerateRequest) -> chat::Result<EventStream> {
        let Some(caller) = self.meter.payer(request.caller.as_ref()) else {
            return self.inner.generate(request).await;
        };
        request.validate()?;
        // Of a pool that does not tell its context nothing is known: otherwise nothing would be set aside.
        let known = self.inner.context_tokens(&request.model).filter(|&tokens| tokens > 0);
        let context = known.map_or(CONTEXT_UNKNOWN, u64::from);
        let order = Order::new(&self.meter, &caller, &request.model, Activity::Generate, request.id)?;
        let prompt_most = bound::prompt(&request).map_or(context, |bound| bound.min(context));
        let mut open = Open::new(Arc::clone(&self.meter), order);
        let mark = match self.reserve(&open, &request, prompt_most, context).await {
            Err(Error::Insufficient { .. } | Error::OverBudget { .. }) => {
                // Perhaps it is only the bound that cannot be afforded.
                let counted = match self.inner.count_tokens(request.clone()).await {
                    Ok(counted) => u64::from(counted),
                    Err(error) => return open.never_made(error),
                };
                match self.reserve(&open, &request, counted, context).await {
                    Ok(mark) => mark,
                    Err(error) => return open.never_made(refused(error)),
                }
            }
            Err(error) => return Err(refused(error)),
            Ok(mark) => mark,
        };
        open.is_made();
        let output_most = output_most(&request, context);
        let durable = open.durable(mark);
        match self.inner.generate(request).await {
            Ok(events) => Ok(Answering::stream(open, events, durable, output_most)),
            Err(error) => {
                open.release().await;
                Err(error)
            }
        }
    }

    async fn reserve(&self, open: &Open, request: &GenerateRequest, prompt: u64, context: u64) -> Result<Mark> {
        let output = output_most(request, context);
        let of = |output: u64| Quantities::of(Direction::Input, prompt).with(Direction::Output, output);
        let (most, noted) = (open.order.spent(of(output))?, open.order.spent(of(output.min(NOTED_AHEAD)))?);
        self.meter.ledger.reserve(open.order.wanted(&open.id, most, noted)).await
    }
}

impl<G: Generate + ?Sized> Generate for Metered<G> {
    fn models(&self) -> Vec<ModelCard> {
        self.inner.models()
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<EventStream>> {
        self.answer(request).boxed()
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<u32>> {
        self.inner.count_tokens(request)
    }
}

fn output_most(request: &GenerateRequest, context: u64) -> u64 {
    request.max_tokens.map_or(context, |most| u64::from(most).min(context))
}

/// Why the books refuse a request, as whoever asked sees it.
fn refused(error: Error) -> chat::Error {
    match error {
        Error::Insufficient { .. } | Error::OverBudget { .. } => chat::Error::OutOfCredit { reason: error.to_string() },
        Error::NoPrice { .. } => chat::Error::Unsupported { what: "this model".to_owned(), why: error.to_string() },
        error => {
            tracing::error!(%error, "a request cannot be booked");
            chat::Error::BooksClosed
        }
    }
}
