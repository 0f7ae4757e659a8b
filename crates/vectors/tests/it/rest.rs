//! What happens when nobody writes.

use std::sync::Arc;

use base::Rng;
use store::sim::Tasks;
use store::{Memory, Name, Store};
use vectors::{Compaction, Config, Effort, Index, Key, Metadata, Metric, Query, Row, Shape, Want, verify};

const DIMENSION: usize = 64;

async fn segments(store: &dyn Store) -> usize {
    let all = store.list_after(&Name::parse("i/segments").unwrap(), None, 1_000).await.unwrap();
    all.iter().filter(|entry| entry.name.as_str().ends_with("/head")).count()
}

async fn keys(index: &Index, vector: &[f32]) -> Vec<String> {
    let want = Want::default();
    let query = Query { vector: vector.to_vec(), neighbours: 5, filter: None, want, effort: Effort::FULL };
    index.query(&query).await.unwrap().iter().map(|found| found.key.as_str().to_owned()).collect()
}

/// Two segments of one size become one; those that it was made of go when it is said again that it counts, and a reader
/// that slept meanwhile answers the same.
async fn merge_and_tidy() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let folder = Name::parse("i").unwrap();
    let shape = Shape { dimension: DIMENSION as u32, metric: Metric::Cosine, not_filterable: Vec::new() };
    Index::create(&store, &folder, &shape).await.unwrap();
    let mut rng = Rng::seeded(4);
    let index = Index::open(&store, &folder, Config::default(), &mut rng).await.unwrap();
    let mut asked = Vec::new();
    for generation in 0..2 {
        for batch in 0..3 {
            let rows = (0..100).map(|number| {
                let vector: Box<[f32]> = (0..DIMENSION).map(|_| rng.unit_f64() as f32 - 0.5).collect();
                let key = Key::parse(&format!("{generation}-{batch}-{number}")).unwrap();
                Row { key, vector, metadata: Metadata::default() }
            });
            let rows: Vec<Row> = rows.collect();
            asked.push(rows[7].vector.to_vec());
            index.put(rows).await.unwrap();
        }
        assert!(matches!(index.compact().await.unwrap(), Compaction::Done { rows: 300 }));
    }
    assert_eq!((index.stats().segments, segments(store.as_ref()).await, index.wants_merging()), (2, 2, true));
    let sleeper = Index::open(&store, &folder, Config::default(), &mut rng).await.unwrap();
    let mut before = Vec::new();
    for vector in &asked {
        before.push(keys(&index, vector).await);
    }
    keys(&sleeper, &asked[0]).await;

    assert!(matches!(index.compact_at_rest().await.unwrap(), Compaction::Done { rows: 600 }));
    assert_eq!((index.stats().segments, segments(store.as_ref()).await, index.wants_merging()), (1, 3, false));
    assert_eq!(index.compact_at_rest().await.unwrap(), Compaction::Idle);
    index.tidy().await.unwrap();
    assert_eq!(segments(store.as_ref()).await, 1);
    let manifest = index.stats().manifest;
    index.tidy().await.unwrap();
    assert_eq!(index.stats().manifest, manifest, "there was nothing to do");

    let other = Index::open(&store, &folder, Config::default(), &mut rng).await.unwrap();
    other.tidy().await.unwrap();
    assert_eq!(other.stats().manifest, manifest, "nor for a process that looks for the first time");
    for (vector, before) in asked.iter().zip(&before) {
        let found = keys(&index, vector).await;
        // The row itself; which of the others are found is an estimate that other lists make otherwise.
        assert_eq!(found[0], before[0]);
        assert_eq!((&keys(&sleeper, vector).await, &keys(&other, vector).await), (&found, &found));
    }
    assert_eq!(verify(&store, &folder).await.unwrap().damaged, []);
}

#[test]
fn segments_of_one_size_are_merged_and_the_old_ones_go() {
    Tasks::seeded(1).finish(merge_and_tidy(), 10_000_000);
}

async fn rows_in_the_log() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let folder = Name::parse("i").unwrap();
    let shape = Shape { dimension: 2, metric: Metric::Euclidean, not_filterable: Vec::new() };
    Index::create(&store, &folder, &shape).await.unwrap();
    let index = Index::open(&store, &folder, Config::default(), &mut Rng::seeded(4)).await.unwrap();
    let row =
        |key: &str| Row { key: Key::parse(key).unwrap(), vector: Box::new([1.0, 2.0]), metadata: Metadata::default() };
    index.put(vec![row("a"), row("b")]).await.unwrap();
    let found = verify(&store, &folder).await.unwrap();
    assert_eq!((found.row_bytes, found.log_puts, found.damaged), (0, 2, Vec::new()));
    index.compact().await.unwrap();
    index.put(vec![row("c")]).await.unwrap();
    index.delete(vec![Key::parse("a").unwrap()]).await.unwrap();
    let found = verify(&store, &folder).await.unwrap();
    assert!(found.row_bytes > 0 && found.log_puts == 1, "{found:?}");
}

#[test]
fn verifying_counts_what_only_the_log_holds() {
    Tasks::seeded(1).finish(rows_in_the_log(), 10_000_000);
}
