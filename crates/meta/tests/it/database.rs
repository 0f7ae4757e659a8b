use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::join_all;
use meta::{Batch, Database, Error, Faults, Moment, Place, Row as _, Schema};

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

/// A row, written in one turn by two batches; `expected` says how many rows the second must write.
async fn put_in_one_turn(database: &Database, n: i64, expected: u64) -> Result<u64, Error> {
    let written = database.write_in_one_turn(move |turn| {
        Box::pin(async move {
            let mut first = Batch::new();
            first.add("SELECT COUNT(*) FROM counted", []);
            let counted: i64 = turn.run(first).await?[0].rows[0].try_get(0).map_err(Error::from)?;
            let mut last = Batch::new();
            let put = "INSERT INTO counted (id, n) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            last.add(put, [n.to_string().into(), n.into()]);
            last.expect_written(expected);
            last.add("UPDATE counted SET n = n WHERE id = $1", [n.to_string().into()]);
            let answers = turn.finish(last).await?;
            assert_eq!(answers.len(), 2);
            Ok::<u64, Error>(counted as u64 + answers[1].written)
        })
    });
    written.await
}

#[tokio::test]
async fn a_write_in_one_turn_is_whole_or_nothing_alone_and_among_others() {
    let fresh = fresh().await;
    let database = fresh.open_with(COUNTED, Every::never()).await;
    for n in 0..3 {
        assert_eq!(put_in_one_turn(&database, n, 1).await.unwrap(), n as u64 + 1);
    }
    assert!(matches!(put_in_one_turn(&database, 9, 2).await, Err(Error::Written)), "another number of rows");
    // Nothing is written of it, and nothing of those after it is lost.
    put(&database, 3, false).await.unwrap();
    let many = (4..40).map(|n| put_in_one_turn(&database, n, 1 + u64::from(n % 5 == 0)));
    for (done, n) in join_all(many).await.into_iter().zip(4..) {
        assert_eq!(done.is_err(), n % 5 == 0, "{n}");
    }
    let nothing = database.write_in_one_turn(|_| Box::pin(async { Ok::<u8, Error>(7) })).await;
    assert_eq!(nothing.unwrap(), 7);
    let failed = database.write_in_one_turn(|turn| {
        Box::pin(async move {
            let put = meta::query("INSERT INTO counted (id, n) VALUES ('x', 99)");
            put.execute(turn.connection().await?).await?;
            Err::<(), Error>(Error::Gone)
        })
    });
    assert!(matches!(failed.await, Err(Error::Gone)));
    assert_eq!(numbers(&database).await, (0..40).filter(|n| *n < 4 || n % 5 != 0).collect::<Vec<i64>>());
}

/// A write that breaks off in the middle passes four moments: numbers that share no divisor with four reach every
/// phase.
const NTHS: [u64; 4] = [5, 7, 9, 11];

#[tokio::test]
async fn a_write_in_one_turn_that_breaks_off_is_tried_again_and_counts_once() {
    let fresh = fresh().await;
    for nth in NTHS {
        let database = fresh.open_with(COUNTED, Every::nth(nth)).await;
        for n in 0..20 {
            let mut told = put_in_one_turn(&database, 100 * nth as i64 + n, 1).await;
            for _ in 0..20 {
                match told {
                    Ok(_) => break,
                    // It was made before it broke off.
                    Err(Error::Written) => told = Ok(0),
                    Err(Error::Interrupted { .. }) => told = put_in_one_turn(&database, 100 * nth as i64 + n, 1).await,
                    Err(error) => panic!("{error}"),
                }
            }
            told.unwrap();
        }
    }
    let expected: Vec<i64> = NTHS.into_iter().flat_map(|nth| (0..20).map(move |n| 100 * nth as i64 + n)).collect();
    assert_eq!(numbers(&database_of(&fresh).await).await, expected);
}

async fn database_of(fresh: &crate::support::Fresh) -> Database {
    fresh.open_with(COUNTED, Every::never()).await
}
