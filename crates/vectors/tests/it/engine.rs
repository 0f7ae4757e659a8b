use std::sync::Arc;

use base::Rng;
use serde_json::json;
use store::sim::Tasks;
use store::{Memory, Name, Store};
use vectors::{
    Compaction, Config, Effort, Error, Filter, Index, Key, Metadata, MetadataLimits, Metric, Query, Row, Shape,
};
use vectors::{Language, Span, TextField, TextQuery, Want, verify};

const DIMENSION: u32 = 32;

fn row(number: u64, rng: &mut Rng) -> Row {
    let vector = (0..DIMENSION).map(|_| rng.unit_f64() as f32 - 0.5).collect();
    let json = json!({"bucket": number % 10, "parity": if number.is_multiple_of(2) { "even" } else { "odd" }});
    let metadata = Metadata::from_json(&json, &[], MetadataLimits::default()).unwrap();
    Row { key: Key::parse(&format!("key-{number}")).unwrap(), vector, metadata }
}

fn distance(metric: Metric, left: &[f32], right: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    match metric {
        Metric::Cosine => 1.0 - dot(left, right) / (dot(left, left) * dot(right, right)).sqrt(),
        Metric::Euclidean => left.iter().zip(right).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt(),
    }
}

/// Writes rows in three generations with overwrites and deletes, compacting between, and compares with a plain scan.
async fn check(metric: Metric) {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let folder = Name::parse("bucket/index").unwrap();
    let shape = Shape { dimension: DIMENSION, metric, not_filterable: Vec::new() };
    Index::create(&store, &folder, &shape).await.unwrap();
    assert!(matches!(Index::create(&store, &folder, &shape).await, Err(Error::Conflict { .. })));
    let mut rng = Rng::seeded(2);
    let index = Index::open(&store, &folder, Config::default(), &mut rng).await.unwrap();
    let mut model = std::collections::BTreeMap::new();
    for generation in 0..5 {
        for batch in 0..6 {
            let start = generation * 500 + batch * 200;
            let rows: Vec<Row> = (start..start + 200).map(|number| row(number, &mut rng)).collect();
            model.extend(rows.iter().map(|row| (row.key.clone(), row.clone())));
            index.put(rows).await.unwrap();
        }
        let gone: Vec<Key> = model.keys().step_by(17).take(400).cloned().collect();
        gone.iter().for_each(|key| drop(model.remove(key)));
        index.delete(gone.clone()).await.unwrap();
        assert!(index.get(&gone).await.unwrap().is_empty());
        if generation < 4 {
            assert!(matches!(index.compact().await.unwrap(), Compaction::Done { .. }));
            // Also when its first manifests are gone.
            assert!(matches!(Index::create(&store, &folder, &shape).await, Err(Error::Conflict { .. })));
        }
        assert_eq!(index.stats().rows as usize, model.len());
        let metadata = |row: &Row| row.metadata.to_json().to_string().len();
        let kept = model.values().map(|row| row.vector.len() * 4 + row.key.as_str().len() + metadata(row));
        assert_eq!(index.kept_bytes(), kept.sum::<usize>() as u64);
    }
    let other = Index::open(&store, &folder, Config::default(), &mut rng).await.unwrap();
    for index in [&index, &other] {
        check_reads(index, &model, metric, &mut rng).await;
    }
}

async fn check_reads(index: &Index, model: &std::collections::BTreeMap<Key, Row>, metric: Metric, rng: &mut Rng) {
    let all: Vec<Key> = model.keys().cloned().collect();
    let got = index.get(&all).await.unwrap();
    assert!(got.iter().map(|row| row.as_ref()).eq(model.values()));
    let (mut listed, mut parts) = (Vec::new(), 0);
    for part in 0..4 {
        let mut after = None;
        loop {
            let page = index.list(Span { part, of: 4 }, after.as_ref(), 300).await.unwrap();
            listed.extend(page.keys);
            parts += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    listed.sort_unstable();
    assert_eq!(listed, all);
    assert!(parts > 4);
    for filter in [None, Some(json!({"bucket": 3})), Some(json!({"parity": "odd", "bucket": {"$lt": 4}}))] {
        let filter = filter.map(|json| Filter::parse(&json, &[]).unwrap());
        let (mut right, mut total) = (0, 0);
        for _ in 0..20 {
            let vector = row(0, rng).vector.into_vec();
            let mut expected: Vec<(f32, &Key)> = model
                .values()
                .filter(|row| filter.as_ref().is_none_or(|filter| filter.matches(&row.metadata)))
                .map(|row| (distance(metric, &vector, &row.vector), &row.key))
                .collect();
            expected.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
            let want = Want { vector: true, metadata: true };
            let query = Query { vector, neighbours: 10, filter: filter.clone(), want, effort: Effort::FULL };
            let found = index.query(&query).await.unwrap();
            assert_eq!(found.len(), 10);
            for found in &found {
                let row = &model[&found.key];
                assert_eq!((found.vector.as_ref(), found.metadata.as_ref()), (Some(&row.vector), Some(&row.metadata)));
                assert!((found.distance - distance(metric, &query.vector, &row.vector)).abs() < 1e-4);
            }
            right += found.iter().filter(|found| expected[..10].iter().any(|(_, key)| **key == found.key)).count();
            total += 10;
        }
        // Random vectors have no near neighbours; real ones are easier.
        assert!(right * 100 >= total * 85, "recall {right}/{total} with {filter:?}");
    }
}

#[test]
fn reads_agree_with_a_plain_scan() {
    for metric in [Metric::Cosine, Metric::Euclidean] {
        Tasks::seeded(1).finish(check(metric), 10_000_000);
    }
}

/// A flipped bit in any object of an index is named, and nothing wrong is served.
async fn flip() {
    let folder = Name::parse("i").unwrap();
    let shape = Shape { dimension: DIMENSION, metric: Metric::Cosine, not_filterable: Vec::new() };
    let memory: Arc<dyn Store> = Arc::new(Memory::new());
    Index::create(&memory, &folder, &shape).await.unwrap();
    let mut rng = Rng::seeded(3);
    let index = Index::open(&memory, &folder, Config::default(), &mut rng).await.unwrap();
    let rows: Vec<Row> = (0..40).map(|number| row(number, &mut rng)).collect();
    let field = TextField { field: "parity".to_owned(), language: Language::Standard };
    index.set_text_fields(std::slice::from_ref(&field));
    index.put(rows[..30].to_vec()).await.unwrap();
    index.compact().await.unwrap();
    index.put(rows[30..].to_vec()).await.unwrap();
    let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
    let query = Query {
        vector: rows[0].vector.to_vec(),
        neighbours: 40,
        filter: None,
        want: Want::default(),
        effort: Effort::FULL,
    };
    let words = TextQuery { vector: None, texts: vec![(field, "even".to_owned())], neighbours: 40, filter: None };
    let all = memory.list_after(&folder, None, 1_000).await.unwrap();
    for kind in ["log/", "manifest/", "/newest", "/head", "/filter-", "/rows-", "-root", "-words-", "-lists-"] {
        assert!(all.iter().any(|entry| entry.name.as_str().contains(kind)), "{kind}");
    }
    let newest = Name::parse("i/newest").unwrap();
    // With the newest manifest, which holds heads and filter indexes once more, and without it.
    let without = all.iter().filter(|entry| entry.name.as_str().contains("segments")).map(|entry| (false, entry));
    for (is_twice, entry) in all.iter().map(|entry| (true, entry)).chain(without) {
        if !is_twice {
            memory.delete(&newest).await.unwrap();
        }
        let good = memory.get(&entry.name, 1 << 30).await.unwrap();
        for _ in 0..20 {
            let mut bad = good.to_vec();
            bad[rng.below(good.len() as u64) as usize] ^= 1 << rng.below(8);
            memory.put(&entry.name, bad.into()).await.unwrap();
            let outcome = async {
                let index = Index::open(&memory, &folder, Config::default(), &mut Rng::seeded(1)).await?;
                let by_words = index.query_texts(&words).await?.len();
                Ok::<_, Error>((index.get(&keys).await?, index.query(&query).await?, by_words))
            };
            match outcome.await {
                Err(Error::Corrupt { object, .. }) => assert_eq!(object, entry.name.as_str()),
                Err(error) => panic!("{}: {error}", entry.name),
                // Manifests and log entries are there twice over, in the end.
                Ok((got, found, by_words)) => {
                    // Another word's list is not read.
                    let name = entry.name.as_str();
                    let is_spare = is_twice && (name.contains("/head") || name.contains("/filter-"));
                    assert!(!name.contains("segments") || name.contains("-lists-") || is_spare, "{name}");
                    assert!(got.iter().map(|row| row.as_ref()).eq(&rows) && (found.len(), by_words) == (40, 20));
                }
            }
            let verified = verify(&memory, &folder).await.unwrap();
            let named: Vec<&str> = verified.damaged.iter().map(|damaged| damaged.object.as_str()).collect();
            assert_eq!(named, [entry.name.as_str()]);
        }
        memory.put(&entry.name, good).await.unwrap();
    }
    let verified = verify(&memory, &folder).await.unwrap();
    assert!(verified.damaged.is_empty() && verified.checked >= 4 && verified.row_bytes > 0, "{verified:?}");
}

/// Manifests that a crash tore stand in nobody's way: not in that of a new index, nor of readers, writers and the next
/// compaction of an old one.
async fn torn_manifests() {
    let folder = Name::parse("i").unwrap();
    let shape = Shape { dimension: DIMENSION, metric: Metric::Cosine, not_filterable: Vec::new() };
    let memory: Arc<dyn Store> = Arc::new(Memory::new());
    let manifest = |number: u64| Name::parse(&format!("i/manifest/{number:020}")).unwrap();
    memory.put_create(&manifest(1), vec![0; 20].into()).await.unwrap();
    let mut rng = Rng::seeded(3);
    let torn = Index::open(&memory, &folder, Config::default(), &mut rng).await;
    assert!(matches!(torn, Err(Error::Corrupt { .. })));
    Index::create(&memory, &folder, &shape).await.unwrap();
    assert!(matches!(Index::create(&memory, &folder, &shape).await, Err(Error::Conflict { .. })));
    let index = Index::open(&memory, &folder, Config::default(), &mut rng).await.unwrap();
    let rows: Vec<Row> = (0..60).map(|number| row(number, &mut rng)).collect();
    let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
    for (round, rows) in rows.chunks(20).enumerate() {
        index.put(rows.to_vec()).await.unwrap();
        // Somebody else's compaction dies while it writes its manifest.
        let next = index.stats().manifest + 1;
        memory.put_create(&manifest(next), vec![7; 30].into()).await.unwrap();
        let other = Index::open(&memory, &folder, Config::default(), &mut rng).await.unwrap();
        for index in [&index, &other] {
            assert_eq!(index.get(&keys).await.unwrap().len(), (round + 1) * 20);
            assert_eq!((index.stats().manifest, index.stats().damaged_manifests), (next - 1, 1));
        }
        assert!(matches!(other.compact().await.unwrap(), Compaction::Done { .. }));
        assert_eq!(index.get(&keys).await.unwrap().len(), (round + 1) * 20);
        assert_eq!((index.stats().manifest, index.stats().damaged_manifests), (next + 1, 0));
    }
    assert!(verify(&memory, &folder).await.unwrap().damaged.is_empty());
}

#[test]
fn torn_manifests_block_nobody() {
    Tasks::seeded(1).finish(torn_manifests(), 10_000_000);
}

#[test]
fn a_flipped_bit_is_named_and_never_served() {
    Tasks::seeded(1).finish(flip(), 10_000_000);
}

#[test]
fn batches_have_limits() {
    let run = async {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let folder = Name::parse("i").unwrap();
        let shape = Shape { dimension: DIMENSION, metric: Metric::Cosine, not_filterable: Vec::new() };
        let mut rng = Rng::seeded(3);
        let config = Config { tail_rows_max: 600, ..Config::default() };
        assert!(matches!(Index::open(&store, &folder, config, &mut rng).await, Err(Error::NotFound { .. })));
        Index::create(&store, &folder, &shape).await.unwrap();
        let index = Index::open(&store, &folder, config, &mut rng).await.unwrap();
        let rows: Vec<Row> = (0..501).map(|number| row(number, &mut rng)).collect();
        for bad in [&rows[..0], &rows[..], &[rows[0].clone(), rows[0].clone()][..]] {
            assert!(matches!(index.put(bad.to_vec()).await, Err(Error::Invalid { field: "batch", .. })));
        }
        index.put(rows[..500].to_vec()).await.unwrap();
        assert!(matches!(index.put(rows[..101].to_vec()).await, Err(Error::Busy { .. })));
        index.compact().await.unwrap();
        index.put(rows[..101].to_vec()).await.unwrap();
        assert_eq!(index.stats().rows, 500);
        assert!(index.list(Span::ALL, None, 1_001).await.is_err());
    };
    Tasks::seeded(1).finish(run, 1_000_000);
}

#[test]
fn a_torn_log_entry_counts_as_nothing() {
    let run = async {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let folder = Name::parse("i").unwrap();
        let shape = Shape { dimension: DIMENSION, metric: Metric::Cosine, not_filterable: Vec::new() };
        Index::create(&store, &folder, &shape).await.unwrap();
        let mut rng = Rng::seeded(3);
        let index = Index::open(&store, &folder, Config::default(), &mut rng).await.unwrap();
        let rows: Vec<Row> = (0..3).map(|number| row(number, &mut rng)).collect();
        index.put(rows[..1].to_vec()).await.unwrap();
        let first = Name::parse("i/log/00000000000000000001").unwrap();
        let second = Name::parse("i/log/00000000000000000002").unwrap();
        let whole = store.get(&first, 1 << 20).await.unwrap();
        store.put_create(&second, whole.slice(..30)).await.unwrap();
        index.put(rows[1..].to_vec()).await.unwrap();
        let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
        let other = Index::open(&store, &folder, Config::default(), &mut rng).await.unwrap();
        for index in [&index, &other] {
            assert_eq!(index.get(&keys).await.unwrap().len(), 3);
            assert_eq!(index.stats().log_next, 4);
        }
    };
    Tasks::seeded(1).finish(run, 1_000_000);
}

/// Few dimensions carry too little in one bit each: rows are found all the same.
async fn few_dimensions_find_themselves() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let folder = Name::parse("bucket/few").unwrap();
    let shape = Shape { dimension: 3, metric: Metric::Euclidean, not_filterable: Vec::new() };
    Index::create(&store, &folder, &shape).await.unwrap();
    let mut rng = Rng::seeded(5);
    let index = Index::open(&store, &folder, Config::default(), &mut rng).await.unwrap();
    let rows: Vec<Row> = (0..20_000)
        .map(|number| Row { vector: (0..3).map(|_| rng.unit_f64() as f32).collect(), ..row(number, &mut rng) })
        .collect();
    for batch in rows.chunks(500) {
        index.put(batch.to_vec()).await.unwrap();
    }
    assert!(matches!(index.compact().await.unwrap(), Compaction::Done { .. }));
    for row in rows.iter().step_by(199) {
        let query = Query {
            vector: row.vector.to_vec(),
            neighbours: 2,
            filter: None,
            want: Want::default(),
            effort: Effort::FULL,
        };
        let found = index.query(&query).await.unwrap();
        assert_eq!(found[0].key, row.key);
    }
}

#[test]
fn rows_of_few_dimensions_find_themselves() {
    Tasks::seeded(1).finish(few_dimensions_find_themselves(), 10_000_000);
}

/// Less effort finds less, and says nothing wrong of what it finds.
async fn less_effort() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let folder = Name::parse("bucket/effort").unwrap();
    let shape = Shape { dimension: DIMENSION, metric: Metric::Cosine, not_filterable: Vec::new() };
    Index::create(&store, &folder, &shape).await.unwrap();
    let mut rng = Rng::seeded(6);
    let index = Index::open(&store, &folder, Config::default(), &mut rng).await.unwrap();
    let rows: Vec<Row> = (0..8_000).map(|number| row(number, &mut rng)).collect();
    for batch in rows.chunks(500) {
        index.put(batch.to_vec()).await.unwrap();
    }
    assert!(matches!(index.compact().await.unwrap(), Compaction::Done { .. }));
    let odd = Filter::parse(&json!({"parity": "odd"}), &[]).unwrap();
    let mut right = Vec::new();
    for (percent, filter) in [(1, None), (30, None), (100, None), (1, Some(&odd)), (100, Some(&odd))] {
        let effort = Effort::percent(percent).unwrap();
        let fits = |row: &&Row| filter.is_none_or(|filter| filter.matches(&row.metadata));
        let mut hits = 0;
        for number in 0..30 {
            let vector = row(0, &mut Rng::seeded(100 + number)).vector;
            let far = |row: &Row| distance(Metric::Cosine, &vector, &row.vector);
            let mut expected: Vec<f32> = rows.iter().filter(fits).map(far).collect();
            expected.sort_unstable_by(f32::total_cmp);
            let (filter, want) = (filter.cloned(), Want { vector: true, metadata: true });
            let query = Query { vector: vector.to_vec(), neighbours: 10, filter, want, effort };
            let found = index.query(&query).await.unwrap();
            assert!(found.len() == 10 && found.is_sorted_by_key(|found| found.distance));
            for found in &found {
                let row = rows.iter().find(|row| row.key == found.key).unwrap();
                assert!(fits(&row) && (found.distance - far(row)).abs() < 1e-4);
            }
            hits += found.iter().filter(|found| found.distance < expected[9] + 1e-5).count();
        }
        right.push(hits);
    }
    // Random vectors have no near neighbours, so every list that is passed over shows.
    assert!(right[0] <= right[1] && right[0] < right[2] && right[3] < right[4], "{right:?}");
    assert!(right[2] >= 270 && right[4] >= 270, "{right:?}");
}

#[test]
fn less_effort_finds_less() {
    Tasks::seeded(1).finish(less_effort(), 10_000_000);
    for percent in [i64::MIN, -1, 0, 101, 356] {
        assert!(matches!(Effort::percent(percent), Err(Error::Invalid { field: "effort", .. })), "{percent}");
    }
}
