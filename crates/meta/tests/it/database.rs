use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::join_all;
use meta::{Database, Error, Faults, Moment, Place, Row as _, Schema};

use crate::support::fresh;

const COUNTED: Schema =
    Schema { component: "counted", steps: &["CREATE TABLE counted (id TEXT PRIMARY KEY, n BIGINT NOT NULL)"] };

/// Breaks at every so many moments, or never.
struct Every(u64, AtomicU64);

impl Every {
    fn nth(nth: u64) -> Arc<Self> {
        Arc::new(Self(nth, AtomicU64::new(0)))
    }

    fn never() -> Arc<Self> {
        Self::nth(u64::MAX)
    }
}

impl Faults for Every {
    fn strikes(&self, _: Moment) -> bool {
        self.1.fetch_add(1, Ordering::SeqCst) % self.0 == self.0 - 1
    }
}

async fn put(database: &Database, n: i64, fails: bool) -> Result<(), Error> {
    let written = database.write_soon(move |connection| {
        Box::pin(async move {
            let put = "INSERT INTO counted (id, n) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            meta::query(put).bind(n.to_string()).bind(n).execute(&mut *connection).await?;
            if fails { Err(Error::Missing { what: "row", name: n.to_string() }) } else { Ok(()) }
        })
    });
    written.await
}

async fn numbers(database: &Database) -> Vec<i64> {
    let mut connection = database.read().await.unwrap();
    let rows = meta::query("SELECT n FROM counted ORDER BY n").fetch_all(&mut *connection).await.unwrap();
    rows.iter().map(|row| row.try_get(0).unwrap()).collect()
}

#[tokio::test]
async fn a_write_that_fails_undoes_itself_and_nothing_of_its_neighbours() {
    let fresh = fresh().await;
    let database = fresh.open_with(COUNTED, Every::never()).await;
    let done = join_all((0..40).map(|n| put(&database, n, n % 3 == 0))).await;
    for (n, done) in done.iter().enumerate() {
        assert_eq!(done.is_err(), n % 3 == 0, "{n}");
    }
    assert_eq!(numbers(&database).await, (0..40).filter(|n| n % 3 != 0).collect::<Vec<i64>>());
}

#[tokio::test]
async fn whoever_tries_again_after_a_break_loses_and_doubles_nothing() {
    let fresh = fresh().await;
    let database = fresh.open_with(COUNTED, Every::nth(7)).await;
    for n in 0..60 {
        let mut told = put(&database, n, false).await;
        for _ in 0..10 {
            match told {
                Ok(()) => break,
                Err(Error::Interrupted { .. }) => told = put(&database, n, false).await,
                Err(error) => panic!("{error}"),
            }
        }
        told.unwrap();
    }
    assert_eq!(numbers(&database).await, (0..60).collect::<Vec<i64>>());
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_a_newer_schema_is_refused() {
    const NEWER: Schema =
        Schema { component: "counted", steps: &[COUNTED.steps[0], "ALTER TABLE counted ADD COLUMN later BIGINT"] };
    let fresh = fresh().await;
    let database = fresh.open_with(COUNTED, Every::never()).await;
    put(&database, 7, false).await.unwrap();
    drop(database);
    let newer = fresh.open_with(NEWER, Every::never()).await;
    assert_eq!(numbers(&newer).await, [7]);
    let refused = Database::open(fresh.place.clone(), &[COUNTED]).await;
    let Err(error @ Error::NewerSchema { found: 2, known: 1, .. }) = refused else { panic!("it was opened") };
    assert!(error.to_string().contains("use a newer program"), "{error}");
}

#[tokio::test]
async fn a_place_that_cannot_be_is_named_without_its_password() {
    assert!(Place::parse("mysql://localhost/x").is_err());
    let place = Place::parse("postgres://me:hush@localhost:1/x").unwrap();
    assert!(!place.shown().contains("hush"));
    let Err(error) = Database::open(place, &[]).await else { panic!("nothing listens on port 1") };
    assert!(!error.to_string().contains("hush") && error.to_string().contains("localhost:1"), "{error}");
    let nowhere = Place::File("/no/such/folder/x.db".into());
    let Err(error) = Database::open(nowhere, &[]).await else { panic!("there is no such folder") };
    assert!(error.to_string().contains("/no/such/folder/x.db"), "{error}");
}
