//! The books of this machine: their database, the price list, what they do of themselves, and `sampan admin`.

pub(crate) mod args;
mod catalyst;
mod commands;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::{App, Books, Limited, Limits};
use base::{Clock, Entropy};
use chat::{Caller, Priority};
use ledger::programme::Programmes;
use ledger::{Ledger, Meter, MeterOptions, Metered, Options, PriceList, Tally};
use meta::{Database, Place, Schema};

use crate::accounts;
use crate::machine::{self, SystemEntropy};
use args::BookOptions;

pub(crate) use commands::run;

/// How often the books look after themselves.
const SWEEP: Duration = Duration::from_secs(10);
/// How often limits are read again.
const LIMITS_READ: Duration = Duration::from_secs(2);
/// How often the use of vector buckets is booked.
const TALLY: Duration = Duration::from_secs(1);
/// How often it is counted what they keep.
const HOUR_MS: u64 = 3_600_000;
/// At the end, ends of requests may be booked for so long.
const SETTLE: Duration = Duration::from_secs(5);
/// The file in the data folder.
const FILE: &str = "sampan.db";
/// Whose requests are where there are no accounts.
const NOBODY: &str = "local";

/// The books of a server.
pub(crate) struct Kept {
    pub(crate) meter: Arc<Meter>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) programmes: Programmes,
    pub(crate) database: Database,
    pub(crate) limits: Arc<Limits>,
}

impl Kept {
    /// As the API shows them.
    pub(crate) fn shown(&self) -> Books {
        let (meter, programmes) = (Arc::clone(&self.meter), self.programmes.clone());
        Books { meter, programmes, limits: Arc::clone(&self.limits) }
    }

    /// Whatever answers, within limits and with a bill.
    pub(crate) fn charged<G: ?Sized>(&self, inner: Arc<G>) -> Arc<Limited<Metered<G>>> {
        let metered = Metered::new(Arc::clone(&self.meter), inner);
        Arc::new(Limited::new(Arc::clone(&self.limits), Arc::new(metered)))
    }
}

/// What is in the database.
const SCHEMAS: [Schema; 4] = [meta::SCHEMA, ledger::SCHEMA, meta::VAULT_SCHEMA, meta::RESIDENCE_SCHEMA];

/// Opens the database; `database` names another one than the file in the data folder.
pub(crate) async fn database(data: &Path, database: Option<&str>) -> anyhow::Result<Database> {
    let place = place(data, database)?;
    if let Place::File(file) = &place {
        accounts::protect(file)?;
    }
    Ok(Database::open(place, &SCHEMAS).await?)
}

/// Where the database is.
fn place(data: &Path, database: Option<&str>) -> anyhow::Result<Place> {
    match database {
        Some(text) => Ok(Place::parse(text)?),
        None => {
            std::fs::create_dir_all(data).with_context(|| format!("make the folder {}", data.display()))?;
            Ok(Place::File(data.join(FILE)))
        }
    }
}

/// Makes the database of a backup; there must be none.
async fn restore(data: &Path, database: Option<&str>, file: &Path) -> anyhow::Result<()> {
    let place = place(data, database)?;
    let restored = meta::restore(file, &place, &SCHEMAS).await;
    restored.with_context(|| format!("restore {} to {}", file.display(), place.shown()))?;
    machine::say(&format!("restored {} to {}", file.display(), place.shown()));
    Ok(())
}

/// The price list that was named, or the example.
pub(crate) fn prices(file: Option<&Path>) -> anyhow::Result<(PriceList, String)> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?,
        None => PriceList::EXAMPLE.to_owned(),
    };
    let list = PriceList::parse(&text);
    let name = file.map_or_else(|| "the example".to_owned(), |path| path.display().to_string());
    Ok((list.with_context(|| format!("read the price list {name}"))?, text))
}

/// The books of a database, as this process keeps them.
pub(crate) fn ledger(database: Database, clock: &Arc<dyn Clock>, options: Options) -> Ledger {
    let mut name = [0; 12];
    SystemEntropy.fill(&mut name);
    let owner: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    Ledger::new(database, Arc::clone(clock), &owner, options)
}

/// Opens the books of a server, and starts what they do of themselves.
pub(crate) async fn open(data: &Path, options: &BookOptions, clock: &Arc<dyn Clock>) -> anyhow::Result<Kept> {
    let (prices, text) = prices(options.prices.as_deref())?;
    let credit_line_micro = options.credit.then_some(0);
    let database = database(data, options.place.database.as_deref()).await?;
    let ledger = ledger(database.clone(), clock, Options { credit_line_micro });
    ledger.remember_prices(prices.version(), &text).await?;
    ledger.sweep().await?;
    let programmes = Programmes::new(ledger.clone(), Arc::new(SystemEntropy));
    programmes.first_start().await?;
    tokio::spawn(sweep(ledger.clone(), programmes.clone()));
    let limits = Limits::new(Arc::clone(clock), options.limits.clone());
    limits.set(ledger.limits().await?);
    tokio::spawn(watch_limits(ledger.clone(), Arc::clone(&limits)));
    let nobody = Caller { project: NOBODY.into(), key: NOBODY.into(), priority: Priority::Normal };
    let meter_options =
        MeterOptions { region: options.region.clone(), is_price_required: options.credit, nobody: Some(nobody) };
    let meter = Meter::new(ledger, prices, meter_options, machine::random_seed()?);
    let tally = Arc::new(Tally::new(Arc::clone(&meter)));
    tokio::spawn(book_vectors(Arc::clone(&tally)));
    Ok(Kept { meter, tally, programmes, database, limits })
}

/// Until the process ends.
async fn sweep(ledger: Ledger, programmes: Programmes) {
    loop {
        tokio::time::sleep(SWEEP).await;
        match ledger.sweep().await {
            Ok(swept) if swept == ledger::Swept::default() => {}
            Ok(swept) => tracing::info!(?swept, "the books were swept"),
            Err(error) => tracing::warn!(%error, "the books cannot be swept"),
        }
        if let Err(error) = programmes.watch().await {
            tracing::warn!(%error, "grants cannot be watched");
        }
    }
}

/// Takes up limits that somebody else has set, until the process ends.
async fn watch_limits(ledger: Ledger, limits: Arc<Limits>) {
    loop {
        tokio::time::sleep(LIMITS_READ).await;
        match ledger.limits().await {
            Ok(found) => limits.set(found),
            Err(error) => tracing::warn!(%error, "limits cannot be read; those of before stay in force"),
        }
    }
}

/// Books what vector buckets are used for, until the process ends.
async fn book_vectors(tally: Arc<Tally>) {
    loop {
        tokio::time::sleep(TALLY).await;
        tally.book().await;
    }
}

/// Counts at every full hour what vector buckets keep, until the process ends.
pub(crate) async fn count_kept(app: Arc<App>) {
    let mut hour = app.clock.now_ms() / HOUR_MS;
    loop {
        tokio::time::sleep(TALLY).await;
        let now = app.clock.now_ms() / HOUR_MS;
        if now > hour {
            hour = now;
            if let Err(error) = app.count_kept().await {
                tracing::warn!(%error, "what some buckets keep was not counted for this hour");
            }
        }
    }
}

/// Waits until what has ended is booked.
pub(crate) async fn close(kept: &Kept) {
    if tokio::time::timeout(SETTLE, kept.tally.book()).await.is_err() {
        tracing::warn!("the last second of vector buckets is not booked");
    }
    if tokio::time::timeout(SETTLE, kept.meter.settled()).await.is_err() {
        tracing::warn!("some requests are not booked yet; they will be charged as they were noted");
    }
}
