//! How many times, one after the other, the store is asked: what counts when it is far away.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base::{ManualClock, Rng};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::join;
use store::{Entry, Memory, Name, Result, Store};
use tokio::time::{Instant, sleep};
use vectors::{BucketName, BucketSettings, Catalogue, FRESH_US, IndexEntry, IndexName, IndexSettings};
use vectors::{Config, Effort, Index, Key, Metadata, Metric, Query, Row, Shape, Want};

/// How long a round trip takes, on a clock that runs only while everybody waits.
const TRIP: Duration = Duration::from_secs(1);

/// A store at a distance.
#[derive(Debug)]
struct Far(Memory);

impl Store for Far {
    fn get<'a>(&'a self, name: &'a Name, limit_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        async move {
            sleep(TRIP).await;
            self.0.get(name, limit_bytes).await
        }
        .boxed()
    }

    fn get_ranges<'a>(&'a self, name: &'a Name, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>>> {
        async move {
            sleep(TRIP).await;
            self.0.get_ranges(name, ranges).await
        }
        .boxed()
    }

    fn put_create<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        async move {
            sleep(TRIP).await;
            self.0.put_create(name, bytes).await
        }
        .boxed()
    }

    fn put<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        async move {
            sleep(TRIP).await;
            self.0.put(name, bytes).await
        }
        .boxed()
    }

    fn list_after<'a>(
        &'a self,
        folder: &'a Name,
        after: Option<&'a Name>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>>> {
        async move {
            sleep(TRIP).await;
            self.0.list_after(folder, after, limit).await
        }
        .boxed()
    }

    fn delete<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<()>> {
        async move {
            sleep(TRIP).await;
            self.0.delete(name).await
        }
        .boxed()
    }
}

/// Round trips of a call, and its answer.
async fn trips<T>(call: impl Future<Output = T>) -> (u32, T) {
    let start = Instant::now();
    let answer = call.await;
    (u32::try_from(start.elapsed().as_millis() / TRIP.as_millis()).unwrap(), answer)
}

fn rows(from: u64, rng: &mut Rng) -> Vec<Row> {
    let row = |number: u64| Row {
        key: Key::parse(&number.to_string()).unwrap(),
        vector: (0..64).map(|_| rng.unit_f64() as f32 - 0.5).collect(),
        metadata: Metadata::default(),
    };
    (from..from + 500).map(row).collect()
}

#[tokio::test(start_paused = true)]
async fn a_first_query_is_two_round_trips_and_a_write_is_two() {
    let store: Arc<dyn Store> = Arc::new(Far(Memory::new()));
    let folder = Name::parse("data/index").unwrap();
    let shape = Shape { dimension: 64, metric: Metric::Cosine, not_filterable: Vec::new() };
    Index::create(&store, &folder, &shape).await.unwrap();
    let mut rng = Rng::seeded(1);
    let writer = Index::open(&store, &folder, Config::default(), &mut rng).await.unwrap();
    for generation in 0..3 {
        writer.put(rows(generation * 500, &mut rng)).await.unwrap();
        writer.compact().await.unwrap();
    }
    let segments = writer.stats().segments;
    assert!(segments > 1);
    let (opening, reader) = trips(Index::open(&store, &folder, Config::default(), &mut rng)).await;
    let reader = reader.unwrap();
    // The newest manifest with its segments, beside a listing of manifests and one of the log.
    assert_eq!(opening, 1);
    let vector = rows(0, &mut rng)[0].vector.to_vec();
    let want = Want { vector: true, metadata: true };
    let query = Query { vector, neighbours: 10, filter: None, want, effort: Effort::FULL };
    let (first, found) = trips(reader.query(&query)).await;
    assert_eq!((first, found.unwrap().len()), (2, 10));
    // The entry of the log, and whether a newer manifest says that it does not count.
    let (write, done) = trips(writer.put(rows(9_000, &mut rng))).await;
    done.unwrap();
    assert_eq!(write, 2);
    let (stale, found) = trips(reader.query(&query)).await;
    let expected = writer.query(&query).await.unwrap();
    assert_eq!(found.unwrap(), expected, "a reader sees what another wrote");
    // One to see that there is more; what that is, the entry, manifests. The rows are those of the first query.
    assert_eq!(stale, 4);
}

/// A bucket with an index of 500 rows in a far store, and the clock of everybody who uses it.
struct Films {
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    bucket: BucketName,
    index: IndexName,
}

impl Films {
    async fn new() -> Self {
        let (bucket, index) = (BucketName::parse("films").unwrap(), IndexName::parse("plots").unwrap());
        let clock = Arc::new(ManualClock::starting_at(1_700_000_000_000));
        let films = Self { store: Arc::new(Far(Memory::new())), clock, bucket, index };
        let writer = films.catalogue(1);
        let bucket = writer.create_bucket(&films.bucket, BucketSettings::default()).await.unwrap();
        let shape = Shape { dimension: 64, metric: Metric::Cosine, not_filterable: Vec::new() };
        let entry = writer.create_index(&bucket, &films.index, shape, IndexSettings::default()).await.unwrap();
        let opened = writer.open(&entry).await.unwrap();
        opened.put(rows(0, &mut Rng::seeded(1))).await.unwrap();
        opened.compact().await.unwrap();
        films
    }

    fn catalogue(&self, seed: u64) -> Catalogue {
        Catalogue::new(Arc::clone(&self.store), Arc::clone(&self.clock) as _, Config::default(), 8, seed)
    }

    async fn find(&self, catalogue: &Catalogue) -> vectors::Result<Arc<IndexEntry>> {
        catalogue.look_ahead(&self.bucket, &self.index).await;
        let bucket = catalogue.bucket(&self.bucket).await?;
        catalogue.index(&bucket, &self.index).await
    }

    /// Until nothing that was read counts as fresh.
    fn pass_time(&self) {
        self.clock.advance_ms(FRESH_US / 1_000);
    }

    /// As a server does it.
    async fn query(&self, catalogue: &Catalogue) -> usize {
        let Some(known) = catalogue.remembered(&self.bucket, &self.index) else {
            return self.found_in(catalogue, &self.find(catalogue).await.unwrap()).await;
        };
        let (found, holds) = join!(self.found_in(catalogue, &known.index), catalogue.still_holds(&known));
        assert!(holds);
        found
    }

    async fn found_in(&self, catalogue: &Catalogue, entry: &IndexEntry) -> usize {
        let vector = rows(0, &mut Rng::seeded(1))[0].vector.to_vec();
        let query = Query { vector, neighbours: 10, filter: None, want: Want::default(), effort: Effort::FULL };
        catalogue.open(entry).await.unwrap().query_since_open(&query).await.unwrap().len()
    }

    /// Writes more rows, which lie in the log.
    async fn write(&self, from: u64) {
        let writer = self.catalogue(100 + from);
        let entry = self.find(&writer).await.unwrap();
        writer.open(&entry).await.unwrap().put(rows(from, &mut Rng::seeded(from))).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_an_index_is_checked_in_one_round_trip() {
    let films = Films::new().await;
    let (reader, writer) = (films.catalogue(2), films.catalogue(3));
    // A listing and a document, of the bucket and then of the index.
    assert_eq!(trips(films.find(&reader)).await.0, 4);
    assert_eq!(trips(films.find(&reader)).await.0, 0);
    films.pass_time();
    assert_eq!(trips(films.find(&reader)).await.0, 1);
    let bucket = writer.bucket(&films.bucket).await.unwrap();
    let change = |settings: &mut IndexSettings| {
        settings.time_to_live = Some("ends".to_owned());
        Ok(())
    };
    writer.update_index(&bucket, &films.index, change).await.unwrap();
    films.pass_time();
    let (changed, entry) = trips(films.find(&reader)).await;
    assert_eq!((changed, entry.unwrap().settings.time_to_live.as_deref()), (3, Some("ends")));
    writer.delete_index(&bucket, &films.index).await.unwrap();
    films.pass_time();
    assert!(matches!(films.find(&reader).await, Err(vectors::Error::NotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_first_query_after_a_start_is_two_round_trips() {
    let films = Films::new().await;
    let [unknown, known, open] = [2, 3, 4].map(|seed| films.catalogue(seed));
    assert_eq!(known.open_ahead(0).await.unwrap(), 0);
    assert_eq!(open.open_ahead(1).await.unwrap(), 1);
    // Until nothing of what the start read counts as fresh.
    films.pass_time();
    // Bucket and index, and beside them the index, or small rows; whole rows beside manifests.
    for catalogue in [&known, &open] {
        assert_eq!(trips(films.query(catalogue)).await, (2, 10));
        films.pass_time();
        assert_eq!(trips(films.query(catalogue)).await, (2, 10));
    }
    // The bucket, the index, opening it, and the query.
    assert_eq!(trips(films.query(&unknown)).await, (2 + 2 + 1 + 1, 10));
}

#[tokio::test(start_paused = true)]
async fn rows_in_the_log_are_a_round_trip_more_unless_a_start_has_read_them() {
    let films = Films::new().await;
    films.write(1_000).await;
    let [known, open] = [3, 4].map(|seed| films.catalogue(seed));
    assert_eq!(known.open_ahead(0).await.unwrap(), 0);
    assert_eq!(open.open_ahead(1).await.unwrap(), 1);
    films.pass_time();
    assert_eq!(trips(films.query(&open)).await, (2, 10));
    assert_eq!(trips(films.query(&known)).await, (3, 10));
}

#[tokio::test(start_paused = true)]
async fn whoever_opens_an_index_sees_what_was_written_before() {
    let films = Films::new().await;
    for compacts in [false, true] {
        let from = 1_000 + 500 * u64::from(compacts);
        films.write(from).await;
        let reader = films.catalogue(20 + from);
        let entry = films.find(&reader).await.unwrap();
        let opened = reader.open(&entry).await.unwrap();
        let mut written = from;
        if compacts {
            // What the opening saw of the log is old now, and a newer manifest says so.
            written = 3_000;
            films.write(written).await;
            let compactor = films.catalogue(30);
            compactor.open(&films.find(&compactor).await.unwrap()).await.unwrap().compact().await.unwrap();
        }
        let vector = rows(written, &mut Rng::seeded(written))[7].vector.to_vec();
        let query = Query { vector, neighbours: 1, filter: None, want: Want::default(), effort: Effort::FULL };
        let found = opened.query_since_open(&query).await.unwrap();
        assert_eq!(found[0].key.as_str(), (written + 7).to_string());
    }
}
