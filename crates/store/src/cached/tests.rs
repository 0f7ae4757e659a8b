use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{BLOCK_BYTES, CacheSettings, Cached};
use crate::sim::{FaultStore, Faults};
use crate::{Memory, Name, Store, conformance};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A cache before a store that counts, which holds one object of these many bytes.
async fn over(length: usize, disk: Option<&Path>) -> (Cached, FaultStore, Bytes) {
    let store = FaultStore::new(Arc::new(Memory::new()), Faults::default(), 1);
    let bytes: Bytes = (0..length).map(|place| (place * 7 / 5) as u8).collect();
    store.put(&name("fixed/a"), bytes.clone()).await.unwrap();
    store.put(&name("other/a"), bytes.clone()).await.unwrap();
    let settings =
        CacheSettings { memory_bytes: 1 << 20, disk: disk.map(|folder| (folder.to_owned(), 4 * BLOCK_BYTES)) };
    let cached = Cached::open(Arc::new(store.clone()), &settings, |name| name.as_str().starts_with("fixed/"));
    (cached.unwrap(), store, bytes)
}

async fn part(cached: &Cached, object: &str, range: Range<u64>) -> crate::Result<Bytes> {
    Ok(cached.get_ranges(&name(object), std::slice::from_ref(&range)).await?.pop().unwrap())
}

#[tokio::test]
async fn a_cache_passes_the_suite() {
    for is_fixed in [|_: &Name| true, |name: &Name| name.as_str().contains('a')] {
        let folder = tempfile::tempdir().unwrap();
        let settings = CacheSettings { memory_bytes: 1 << 20, disk: Some((folder.path().to_owned(), 1 << 20)) };
        let cached = Cached::open(Arc::new(Memory::new()), &settings, is_fixed).unwrap();
        let store: Arc<dyn Store> = Arc::new(cached);
        conformance::run(&store).await;
    }
}

#[tokio::test]
async fn what_was_read_is_not_fetched_again_unless_it_may_change() {
    let (cached, store, bytes) = over(200_000, None).await;
    for _ in 0..3 {
        let found = part(&cached, "fixed/a", 40_000..150_000).await.unwrap();
        assert_eq!(found, bytes.slice(40_000..150_000));
    }
    let calls = store.calls();
    assert_eq!(part(&cached, "fixed/a", 50_000..50_001).await.unwrap(), bytes.slice(50_000..50_001));
    assert_eq!(store.calls(), calls);
    part(&cached, "other/a", 0..1).await.unwrap();
    part(&cached, "other/a", 0..1).await.unwrap();
    assert_eq!(store.calls(), calls + 2);
}

#[tokio::test]
async fn the_disk_outlives_the_process_holds_no_more_than_it_may_and_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (cached, _, bytes) = over(200_000, Some(folder.path())).await;
    part(&cached, "fixed/a", 0..200_000).await.unwrap();
    drop(cached);
    let (cached, store, _) = over(200_000, Some(folder.path())).await;
    assert!(cached.disk.as_ref().unwrap().bytes() <= 4 * BLOCK_BYTES);
    let calls = store.calls();
    let last = 190_000..200_000;
    assert_eq!(part(&cached, "fixed/a", last.clone()).await.unwrap(), bytes.slice(190_000..200_000));
    assert_eq!(store.calls(), calls, "the last block came from the disk");
    drop(cached);
    let mut damaged = 0;
    for file in
        std::fs::read_dir(folder.path()).unwrap().filter_map(|entry| std::fs::read_dir(entry.unwrap().path()).ok())
    {
        for file in file {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[100] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 1);
    let (cached, store, _) = over(200_000, Some(folder.path())).await;
    let calls = store.calls();
    assert_eq!(part(&cached, "fixed/a", last).await.unwrap(), bytes.slice(190_000..200_000));
    assert_eq!(store.calls(), calls + 2, "a range beyond the end is asked for twice");
}

#[tokio::test]
async fn a_folder_has_one_user() {
    let folder = tempfile::tempdir().unwrap();
    let (_first, _, _) = over(10, Some(folder.path())).await;
    let settings = CacheSettings { memory_bytes: 0, disk: Some((folder.path().to_owned(), 1)) };
    let refused = Cached::open(Arc::new(Memory::new()), &settings, |_| true).unwrap_err();
    assert!(refused.to_string().starts_with("lock "), "{refused}");
}

proptest! {
    #[test]
    fn any_range_is_what_the_store_says(length in 0_usize..150_000,
                                        bounds in prop::collection::vec((0_u64..160_000, 0_u64..70_000), 1..5)) {
        let ranges: Vec<Range<u64>> = bounds.iter().map(|&(start, length)| start..start + length).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (cached, store, _) = over(length, None).await;
            let object = name("fixed/a");
            match (cached.get_ranges(&object, &ranges).await, store.get_ranges(&object, &ranges).await) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(_)) => assert_eq!(found.kind(), base::Kind::Corrupt),
                (found, expected) => panic!("{found:?} {expected:?}"),
            }
        });
    }
}
