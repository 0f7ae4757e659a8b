//! How many times, one after the other, the store is asked: what counts when it is far away.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base::Rng;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use store::{Entry, Memory, Name, Result, Store};
use tokio::time::{Instant, sleep};
use vectors::{Config, Index, Key, Metadata, Metric, Query, Row, Shape, Want};

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
    // Manifests, the manifest, heads beside filter indexes.
    assert_eq!(opening, 3);
    let vector = rows(0, &mut rng)[0].vector.to_vec();
    let want = Want { vector: true, metadata: true };
    let query = Query { vector, neighbours: 10, filter: None, want };
    let (first, found) = trips(reader.query(&query)).await;
    assert_eq!((first, found.unwrap().len()), (2, 10));
    // The entry of the log, and whether a newer manifest says that it does not count.
    let (write, done) = trips(writer.put(rows(9_000, &mut rng))).await;
    done.unwrap();
    assert_eq!(write, 2);
    let (stale, found) = trips(reader.query(&query)).await;
    let expected = writer.query(&query).await.unwrap();
    assert_eq!(found.unwrap(), expected, "a reader sees what another wrote");
    // One to see that there is more; two to see how much; the entry, the end of the log, manifests; then the search.
    assert!(stale <= 9, "{stale} round trips");
}
