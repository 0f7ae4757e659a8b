//! The log as a feed, and queries that wait.

use std::sync::Arc;

use base::Rng;
use serde_json::json;
use store::{Memory, Name, Store};
use vectors::{Config, Error, Filter, Index, Key, LOG_KEPT_ENTRIES, Metadata, MetadataLimits, Metric, Op, Row, Shape};
use vectors::{Standing, verify};

fn row(key: &str, vector: [f32; 2], metadata: &serde_json::Value) -> Row {
    let metadata = Metadata::from_json(metadata, &[], MetadataLimits::default()).unwrap();
    Row { key: Key::parse(key).unwrap(), vector: vector.into(), metadata }
}

async fn new_index() -> (Arc<dyn Store>, Name, Index) {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let folder = Name::parse("i").unwrap();
    let shape = Shape { dimension: 2, metric: Metric::Euclidean, not_filterable: Vec::new() };
    Index::create(&store, &folder, &shape).await.unwrap();
    let index = Index::open(&store, &folder, Config::default(), &mut Rng::seeded(1)).await.unwrap();
    (store, folder, index)
}

/// The keys of all entries from `first` on; a key that was removed with a minus.
async fn told(index: &Index, first: u64) -> Vec<String> {
    index.refresh().await.unwrap();
    let mut told = Vec::new();
    let mut number = first;
    while let Some(changes) = index.changes(number).await.unwrap() {
        told.extend(changes.ops().iter().map(|op| match op {
            Op::Put(row) => row.key.as_str().to_owned(),
            Op::Delete(key) => format!("-{}", key.as_str()),
        }));
        number += 1;
        assert_eq!(changes.behind, index.log_next() - number);
    }
    told
}

#[tokio::test]
async fn changes_are_told_in_order_to_whoever_comes_when() {
    let (store, folder, index) = new_index().await;
    let mut news = index.news();
    assert_eq!((*news.borrow_and_update(), index.log_first().await.unwrap()), (1, 1));
    index.put(vec![row("a", [0.0, 0.0], &json!({})), row("b", [0.0, 0.0], &json!({}))]).await.unwrap();
    assert_eq!(*news.borrow_and_update(), 2);
    index.delete(vec![Key::parse("a").unwrap()]).await.unwrap();
    assert_eq!(told(&index, 1).await, ["a", "b", "-a"]);
    for _ in 0..3 {
        index.compact().await.unwrap();
        index.put(vec![row("c", [0.0, 0.0], &json!({}))]).await.unwrap();
    }
    let other = Index::open(&store, &folder, Config::default(), &mut Rng::seeded(2)).await.unwrap();
    for index in [&index, &other] {
        assert_eq!(told(index, 1).await, ["a", "b", "-a", "c", "c", "c"]);
        assert_eq!(told(index, 3).await, ["c", "c", "c"]);
    }
}

#[tokio::test]
async fn the_log_of_the_past_is_kept_within_a_limit() {
    let (store, folder, index) = new_index().await;
    for number in 0..LOG_KEPT_ENTRIES + 10 {
        index.put(vec![row(&number.to_string(), [0.0, 0.0], &json!({}))]).await.unwrap();
    }
    index.compact().await.unwrap();
    assert_eq!(index.log_first().await.unwrap(), 1);
    index.put(vec![row("x", [0.0, 0.0], &json!({}))]).await.unwrap();
    index.compact().await.unwrap();
    assert_eq!(index.log_first().await.unwrap(), 11);
    assert!(matches!(index.changes(10).await, Err(Error::Gone { .. })));
    assert_eq!(told(&index, 11).await.len(), LOG_KEPT_ENTRIES + 1);
    // A zombie that believes the cleared place to be the end of the log.
    let zombie = store.get(&Name::parse("i/log/00000000000000000011").unwrap(), 1 << 20).await.unwrap();
    store.put(&Name::parse("i/log/00000000000000000003").unwrap(), zombie).await.unwrap();
    assert_eq!(index.log_first().await.unwrap(), 11);
    store.delete(&Name::parse("i/log/00000000000000000003").unwrap()).await.unwrap();
    assert!(verify(&store, &folder).await.unwrap().damaged.is_empty());
}

#[test]
fn a_standing_query_takes_what_fits() {
    let shape = Shape { dimension: 2, metric: Metric::Euclidean, not_filterable: Vec::new() };
    let filter = Filter::parse(&json!({"kind": "cat"}), &[]).unwrap();
    let near: Option<(&[f32], f32)> = Some((&[1.0, 0.0], 2.0));
    let (cat, dog) = (row("c", [1.0, 2.0], &json!({"kind": "cat"})), row("d", [1.0, 3.0], &json!({"kind": "dog"})));
    let all = Standing::new(&shape, None, None).unwrap();
    assert!(all.takes_all() && all.fits(&dog) == Some(None));
    let cats = Standing::new(&shape, None, Some(filter.clone())).unwrap();
    assert_eq!((cats.fits(&cat), cats.fits(&dog)), (Some(None), None));
    let both = Standing::new(&shape, near, Some(filter)).unwrap();
    assert_eq!((both.fits(&cat), both.fits(&dog)), (Some(Some(2.0)), None));
    let close = Standing::new(&shape, near, None).unwrap();
    assert_eq!((close.fits(&cat), close.fits(&dog)), (Some(Some(2.0)), None));
    assert!(!close.takes_all());
    for bad in [f32::NAN, -1.0] {
        assert!(Standing::new(&shape, Some((&[1.0, 0.0], bad)), None).is_err());
    }
    assert!(Standing::new(&shape, Some((&[1.0], 1.0)), None).is_err());
}
