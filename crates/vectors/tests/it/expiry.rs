//! Rows that end by themselves.

use std::sync::Arc;

use base::{Clock, ManualClock, Rng};
use serde_json::json;
use store::{Memory, Name, Store};
use vectors::{
    Compaction, Config, Effort, Index, Key, Metadata, MetadataLimits, Metric, Query, Row, Shape, Span, Want,
};

fn row(number: usize, until: &serde_json::Value) -> Row {
    let metadata = Metadata::from_json(&json!({"until": until}), &[], MetadataLimits::default()).unwrap();
    Row { key: Key::parse(&number.to_string()).unwrap(), vector: [number as f32, 1.0].into(), metadata }
}

/// How many rows each kind of read sees.
async fn seen(index: &Index) -> [usize; 4] {
    let keys: Vec<Key> = (0..100).map(|number| Key::parse(&number.to_string()).unwrap()).collect();
    let query =
        Query { vector: vec![0.0, 0.0], neighbours: 100, filter: None, want: Want::default(), effort: Effort::FULL };
    [
        index.get(&keys).await.unwrap().len(),
        index.query(&query).await.unwrap().len(),
        index.list(Span::ALL, None, 1_000).await.unwrap().keys.len(),
        index.stats().rows as usize,
    ]
}

#[tokio::test]
async fn a_row_that_is_over_is_gone_at_once_and_its_place_after_a_compaction() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let folder = Name::parse("i").unwrap();
    let shape = Shape { dimension: 2, metric: Metric::Euclidean, not_filterable: Vec::new() };
    Index::create(&store, &folder, &shape).await.unwrap();
    let index = Index::open(&store, &folder, Config::default(), &mut Rng::seeded(1)).await.unwrap();
    let manual = Arc::new(ManualClock::starting_at(1_000_000));
    let clock = Arc::clone(&manual) as Arc<dyn Clock>;
    // Half of them end at second 1,010; the rest never does, whatever the field holds.
    let until = [json!(1_010), json!("1000"), json!([1_010, 5_000]), json!(2e9)];
    let rows = (0..100).map(|number| row(number, &until[number % 4])).collect();
    index.put(rows).await.unwrap();
    assert!(matches!(index.compact().await.unwrap(), Compaction::Done { rows: 100 }));
    index.put((90..100).map(|number| row(number, &until[number % 4])).collect()).await.unwrap();
    index.set_time_to_live(Some("until"), &clock);
    manual.advance_ms(9_999);
    assert_eq!((seen(&index).await, index.wants_sweeping()), ([100; 4], false));
    manual.advance_ms(1);
    assert_eq!(seen(&index).await, [50; 4]);
    let other = Index::open(&store, &folder, Config::default(), &mut Rng::seeded(2)).await.unwrap();
    assert_eq!(seen(&other).await, [100; 4], "who was not told keeps them");
    index.put(vec![row(0, &json!(1_020))]).await.unwrap();
    assert_eq!(seen(&index).await, [51; 4], "a key may come back");
    assert!(index.wants_sweeping());
    assert!(matches!(index.compact().await.unwrap(), Compaction::Done { rows: 51 }));
    other.refresh().await.unwrap();
    assert_eq!(seen(&other).await, [51; 4], "nobody sees what was swept");
    manual.advance_ms(10_000);
    assert_eq!(seen(&index).await, [50; 4]);
    index.set_time_to_live(None, &clock);
    assert_eq!(seen(&index).await, [51; 4]);
}
