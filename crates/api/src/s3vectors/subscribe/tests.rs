use std::sync::Arc;

use base::ManualClock;
use store::Memory;
use vectors::{BucketName, BucketSettings, Catalogue, Config, IndexEntry, IndexName, IndexSettings, Metric, Shape};

use super::Cursor;

async fn index() -> Arc<IndexEntry> {
    let clock = Arc::new(ManualClock::starting_at(1_700_000_000_000));
    let catalogue = Catalogue::new(Arc::new(Memory::new()), clock, Config::default(), 8, 1);
    let bucket =
        catalogue.create_bucket(&BucketName::parse("films").unwrap(), BucketSettings::default()).await.unwrap();
    let shape = Shape { dimension: 2, metric: Metric::Cosine, not_filterable: Vec::new() };
    catalogue.create_index(&bucket, &IndexName::parse("plots").unwrap(), shape, IndexSettings::default()).await.unwrap()
}

#[tokio::test]
async fn cursors_are_good_for_one_index() {
    let index = index().await;
    let cursor = Cursor { entry: 17, op: 3 };
    assert_eq!(Cursor::parse(&cursor.text(&index), &index), Some(cursor));
    let mut other = IndexEntry::clone(&index);
    other.created_ms = 1;
    assert_eq!(Cursor::parse(&cursor.text(&index), &other), None);
    for bad in ["1700000000000.1", "1700000000000.0.0", "1700000000000.1.0.0", "1700000000000.x.0", ""] {
        assert_eq!(Cursor::parse(&super::token(bad), &index), None, "{bad}");
    }
    assert_eq!(Cursor::parse("!", &index), None);
}
