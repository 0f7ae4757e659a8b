use std::sync::Arc;

use base::{Clock, ManualClock};
use serde_json::json;
use store::sim::{FaultStore, Faults, Tasks};
use store::{Memory, Store};

use super::{BucketName, BucketSettings, Catalogue, FRESH_US, IndexName, IndexSettings, Select};
use crate::types::{Key, Metric, Row, Shape};
use crate::{Config, Error, Metadata, MetadataLimits, Result};

const ALL: Select<'_> = Select { prefix: "", after: "", limit: 1_000 };

struct World {
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        Self { store: Arc::new(Memory::new()), clock: Arc::new(ManualClock::starting_at(1_700_000_000_000)) }
    }

    fn process(&self, seed: u64) -> Catalogue {
        let clock: Arc<ManualClock> = Arc::clone(&self.clock);
        Catalogue::new(Arc::clone(&self.store), clock, Config::default(), 2, seed)
    }
}

fn bucket_name(text: &str) -> BucketName {
    BucketName::parse(text).unwrap()
}

fn index_name(text: &str) -> IndexName {
    IndexName::parse(text).unwrap()
}

fn shape() -> Shape {
    Shape { dimension: 2, metric: Metric::Cosine, not_filterable: Vec::new() }
}

async fn create_index(catalogue: &Catalogue, bucket: &str, name: &str) -> Result<()> {
    let bucket = catalogue.bucket(&bucket_name(bucket)).await?;
    catalogue.create_index(&bucket, &index_name(name), shape(), IndexSettings::default()).await.map(drop)
}

#[tokio::test]
async fn buckets_and_indexes_come_and_go() {
    let world = World::new();
    let one = world.process(1);
    let name = bucket_name("films");
    one.create_bucket(&name, BucketSettings::default()).await.unwrap();
    assert!(matches!(one.create_bucket(&name, BucketSettings::default()).await, Err(Error::Conflict { .. })));
    create_index(&one, "films", "plots").await.unwrap();
    assert!(matches!(create_index(&one, "films", "plots").await, Err(Error::Conflict { .. })));
    assert!(matches!(create_index(&one, "books", "plots").await, Err(Error::NotFound { .. })));
    assert!(matches!(one.delete_bucket(&name).await, Err(Error::Conflict { why: "is not empty", .. })));
    let bucket = one.bucket(&name).await.unwrap();
    let entry = one.index(&bucket, &index_name("plots")).await.unwrap();
    let metadata = Metadata::from_json(&json!({}), &[], MetadataLimits::default()).unwrap();
    let row = Row { key: Key::parse("a").unwrap(), vector: vec![1.0, 0.0].into(), metadata };
    one.open(&entry).await.unwrap().put(vec![row]).await.unwrap();

    one.delete_index(&bucket, &index_name("plots")).await.unwrap();
    assert!(matches!(one.open(&entry).await, Err(Error::NotFound { .. })));
    assert!(matches!(one.index(&bucket, &index_name("plots")).await, Err(Error::NotFound { .. })));
    create_index(&one, "films", "plots").await.unwrap();
    let entry = one.index(&bucket, &index_name("plots")).await.unwrap();
    let key = Key::parse("a").unwrap();
    assert!(one.open(&entry).await.unwrap().get(&[key]).await.unwrap().is_empty());
    one.delete_index(&bucket, &index_name("plots")).await.unwrap();
    one.delete_bucket(&name).await.unwrap();
    assert!(matches!(one.bucket(&name).await, Err(Error::NotFound { .. })));
    assert!(one.list_buckets(ALL).await.unwrap().found.is_empty());
    let data = super::place(&["data"]).unwrap();
    assert!(world.store.list_after(&data, None, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn another_process_sees_changes_after_a_moment() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    let name = bucket_name("films");
    one.create_bucket(&name, BucketSettings::default()).await.unwrap();
    assert_eq!(two.bucket(&name).await.unwrap().created_ms, 1_700_000_000_000);
    let policy = Some("{}".to_owned());
    let set = |settings: &mut BucketSettings| {
        settings.policy.clone_from(&policy);
        Ok(())
    };
    one.update_bucket(&name, set).await.unwrap();
    assert_eq!(one.bucket(&name).await.unwrap().settings.policy, policy);
    world.clock.advance_ms(FRESH_US / 1_000);
    assert_eq!(two.bucket(&name).await.unwrap().settings.policy, policy);
    two.delete_bucket(&name).await.unwrap();
    assert!(matches!(one.update_bucket(&name, set).await, Err(Error::NotFound { .. })));
    two.create_bucket(&name, BucketSettings::default()).await.unwrap();
    world.clock.advance_ms(FRESH_US / 1_000);
    assert_eq!(one.bucket(&name).await.unwrap().settings.policy, None);
}

#[tokio::test]
async fn listings_are_in_the_order_of_names_and_paged() {
    let world = World::new();
    let one = world.process(1);
    for name in ["b", "a-b", "a", "a.b", "c"] {
        one.create_bucket(&bucket_name(&format!("x{name}x")), BucketSettings::default()).await.unwrap();
    }
    let names = async |select: Select<'_>| {
        let page = one.list_buckets(select).await.unwrap();
        (page.found.iter().map(|bucket| bucket.name.to_string()).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(names(ALL).await.0, ["xa-bx", "xa.bx", "xax", "xbx", "xcx"]);
    assert_eq!(names(Select { limit: 2, ..ALL }).await, (vec!["xa-bx".to_owned(), "xa.bx".to_owned()], true));
    assert_eq!(names(Select { prefix: "xa", after: "xa-bx", limit: 2 }).await.0, ["xa.bx", "xax"]);
    assert!(!names(Select { prefix: "xa", after: "xa-bx", limit: 2 }).await.1);
}

/// Two processes at once, interleaved by a seed over a store that loses replies: a bucket that is gone holds no index.
#[test]
fn a_bucket_never_goes_with_an_index_in_it() {
    let mut both = [0_u32; 2];
    for seed in 0..200 {
        let world = World::new();
        let setup = world.process(99);
        let mut tasks = Tasks::seeded(seed);
        let created = async move { setup.create_bucket(&bucket_name("films"), BucketSettings::default()).await };
        tasks.finish(created, 100).unwrap();
        let faults = Faults { delay_polls_max: 3, refused: 5, lost_reply: 5, torn: 0 };
        let faulty: Arc<dyn Store> = Arc::new(FaultStore::new(Arc::clone(&world.store), faults, seed));
        let process = |seed| {
            Catalogue::new(Arc::clone(&faulty), Arc::clone(&world.clock) as Arc<dyn Clock>, Config::default(), 2, seed)
        };
        let (deleter, creator) = (process(1), process(2));
        let (say, heard) = futures::channel::oneshot::channel();
        tasks.spawn(async move {
            // The other side lives until the test ends.
            let _ = say.send(deleter.delete_bucket(&bucket_name("films")).await.is_ok());
        });
        let created = tasks.finish(async move { create_index(&creator, "films", "plots").await.is_ok() }, 10_000);
        let deleted = tasks.finish(async move { heard.await.unwrap() }, 10_000);
        assert!(!(created && deleted), "seed {seed}");
        both[0] += u32::from(created);
        both[1] += u32::from(deleted);
    }
    assert!(both.iter().all(|&won| won > 20), "{both:?}");
}

#[tokio::test]
async fn no_more_indexes_stay_open_than_allowed() {
    let world = World::new();
    let one = world.process(1);
    one.create_bucket(&bucket_name("films"), BucketSettings::default()).await.unwrap();
    let bucket = one.bucket(&bucket_name("films")).await.unwrap();
    for number in 0..5 {
        let name = format!("plots{number}");
        create_index(&one, "films", &name).await.unwrap();
        let entry = one.index(&bucket, &index_name(&name)).await.unwrap();
        drop(one.open(&entry).await.unwrap());
    }
    assert_eq!(one.pool.open_count(), 2);
}

#[tokio::test]
async fn an_index_that_rests_is_compacted() {
    let world = World::new();
    let one = world.process(1);
    one.create_bucket(&bucket_name("films"), BucketSettings::default()).await.unwrap();
    create_index(&one, "films", "plots").await.unwrap();
    let bucket = one.bucket(&bucket_name("films")).await.unwrap();
    let entry = one.index(&bucket, &index_name("plots")).await.unwrap();
    let row = |number: u32| {
        let key = Key::parse(&number.to_string()).unwrap();
        Row { key, vector: vec![number as f32, 1.0].into(), metadata: Metadata::default() }
    };
    for start in [0, 300] {
        one.open(&entry).await.unwrap().put((start..start + 300).map(row).collect()).await.unwrap();
        one.compact_resting(|_, error| panic!("{error}")).await;
        assert_eq!(one.open(&entry).await.unwrap().stats().segments, 0);
    }
    one.compact_resting(|_, error| panic!("{error}")).await;
    assert_eq!(one.open(&entry).await.unwrap().stats().segments, 1);
}

#[test]
fn names_have_rules() {
    for bad in ["ab", "Films", "-ab", "ab-", "a_b", "a/b", "a b", "", &"a".repeat(64)] {
        assert!(BucketName::parse(bad).is_err(), "{bad}");
    }
    for good in ["abc", "a.b-c", "123"] {
        assert_eq!(BucketName::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", ".a", "a.", "a/b", "ä", &"a".repeat(64)] {
        assert!(IndexName::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(IndexName::parse("Plots_1").unwrap().to_string(), "Plots_1");
}
