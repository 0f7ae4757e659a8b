//! A fresh database, whichever it is, and books in it.

use std::sync::Arc;

use base::ManualClock;
use ledger::usage::{Activity, Ended, Outcome, Spent, Subject};
use ledger::{Direction, Ledger, Operation, Options, Quantities, SCHEMA, Transaction, Wanted};
use meta::testing::empty_schema;
use meta::{Database, Faults, Place};
use tempfile::TempDir;

/// The time at which every test begins.
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

/// A database of one test.
pub(crate) struct Fresh {
    pub(crate) place: Place,
    pub(crate) clock: Arc<ManualClock>,
    folder: TempDir,
}

/// A place that holds nothing yet: a file, or a schema of its own on the server.
#[expect(clippy::disallowed_methods, reason = "the script that starts a server says where it is")]
pub(crate) async fn fresh() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let place = match std::env::var("SAMPAN_TEST_POSTGRES") {
        Ok(url) => empty_schema(&url, "ledger").await.unwrap(),
        Err(_) => Place::File(folder.path().join("sampan.db")),
    };
    Fresh { place, clock: Arc::new(ManualClock::starting_at(NOW_MS)), folder }
}

impl Fresh {
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) async fn open(&self, owner: &str, credit_line_micro: Option<i64>) -> Ledger {
        self.open_with(owner, credit_line_micro, None).await
    }

    pub(crate) async fn open_with(
        &self,
        owner: &str,
        credit_line_micro: Option<i64>,
        faults: Option<Arc<dyn Faults>>,
    ) -> Ledger {
        let database = Database::open_with(self.place.clone(), &[meta::SCHEMA, SCHEMA], faults).await.unwrap();
        let clock: Arc<dyn base::Clock> = Arc::<ManualClock>::clone(&self.clock);
        Ledger::new(database, clock, owner, Options { credit_line_micro })
    }
}

pub(crate) fn transaction(name: &str, operation: Operation) -> Transaction {
    Transaction { name: name.to_owned(), operation, actor: "test".to_owned(), memo: String::new() }
}

pub(crate) fn deposit(project: &str, amount_micro: i64) -> Operation {
    Operation::Deposit { project: project.to_owned(), amount_micro }
}

pub(crate) fn spent(tokens: u64, cost_micro: i64) -> Spent {
    Spent { quantities: Quantities::of(Direction::Output, tokens), cost_micro }
}

pub(crate) fn wanted(id: &str, project: &str, most: Spent, noted: Spent) -> Wanted {
    let subject = Subject {
        model: "m".to_owned(),
        region: "r".to_owned(),
        activity: Activity::Generate,
        is_batch: false,
        trace: "t".to_owned(),
        prices: "p".to_owned(),
    };
    Wanted { id: id.to_owned(), project: project.to_owned(), key: format!("key-of-{project}"), subject, most, noted }
}

pub(crate) fn ended(spent: Spent) -> Ended {
    Ended { spent, outcome: Outcome::Finished, latency_ms: 7 }
}
