//! The contract of [`Store`] as a suite. Every store passes it: memory, folder, a faulty one, S3.
//!
//! Each check works in a folder of its own, so one store can run them all.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use crate::{Error, Name, Result, Store};

/// Runs every check.
///
/// # Panics
/// If the store breaks the contract.
pub async fn run(store: &Arc<dyn Store>) {
    reads_what_was_written(store.as_ref()).await;
    creates_once(store.as_ref()).await;
    one_of_many_creators_wins(store).await;
    answers_ranges(store.as_ref()).await;
    lists_in_order(store.as_ref()).await;
    deletes(store.as_ref()).await;
    refuses_what_is_too_large(store.as_ref()).await;
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("the suite's names are valid")
}

/// Calls until the store is available. Only for calls that may happen twice.
macro_rules! retried {
    ($call:expr) => {{
        // Ends: a store that refuses each of 1,000 calls is not one that the suite can judge.
        let mut tries = 0;
        loop {
            match $call.await {
                Err(Error::Unavailable { .. }) if tries < 1_000 => tries += 1,
                answer => break answer,
            }
        }
    }};
}

async fn read(store: &dyn Store, name: &Name) -> Result<Bytes> {
    retried!(store.get(name, 1 << 20))
}

async fn reads_what_was_written(store: &dyn Store) {
    let (object, absent) = (name("read/a/b"), name("read/none"));
    assert!(matches!(read(store, &absent).await, Err(Error::NotFound { .. })));
    assert!(matches!(read(store, &name("read/a")).await, Err(Error::NotFound { .. })), "a folder is no object");
    for text in ["first", "", "a longer second text"] {
        retried!(store.put(&object, Bytes::from_static(text.as_bytes()))).expect("put");
        assert_eq!(read(store, &object).await.expect("get"), text.as_bytes());
    }
}

async fn creates_once(store: &dyn Store) {
    let object = name("create/one");
    retried!(store.put_create(&object, Bytes::from_static(b"mine"))).expect("create");
    let again = retried!(store.put_create(&object, Bytes::from_static(b"mine")));
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    let other = retried!(store.put_create(&object, Bytes::from_static(b"theirs")));
    assert!(matches!(other, Err(Error::Exists { .. })), "{other:?}");
    assert_eq!(read(store, &object).await.expect("get"), &b"mine"[..]);
    retried!(store.delete(&object)).expect("delete");
    retried!(store.put_create(&object, Bytes::from_static(b"new"))).expect("a name is free again after a delete");
}

async fn one_of_many_creators_wins(store: &Arc<dyn Store>) {
    let object = name("create/race");
    let tries = (0_u8..16).map(|number| {
        let (store, object) = (Arc::clone(store), object.clone());
        async move { retried!(store.put_create(&object, Bytes::from(vec![number; 1000]))) }
    });
    let answers = join_all(tries).await;
    let winners: Vec<usize> = (0..answers.len()).filter(|&index| answers[index].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    let stored = read(store.as_ref(), &object).await.expect("get");
    assert_eq!(stored, vec![winners[0] as u8; 1000]);
    let losers = answers.iter().filter(|answer| matches!(answer, Err(Error::Exists { .. }))).count();
    assert_eq!(losers, 15, "{answers:?}");
}

fn ranges(bounds: &[(u64, u64)]) -> Vec<std::ops::Range<u64>> {
    bounds.iter().map(|&(start, end)| start..end).collect()
}

async fn answers_ranges(store: &dyn Store) {
    let object = name("ranges/object");
    retried!(store.put(&object, Bytes::from_static(b"0123456789"))).expect("put");
    let parts = retried!(store.get_ranges(&object, &[7..10, 0..2, 5..5, 1..3])).expect("ranges");
    assert_eq!(parts, [&b"789"[..], b"01", b"", b"12"]);
    assert!(retried!(store.get_ranges(&object, &[])).expect("no ranges").is_empty());
    let other = name("ranges/other");
    retried!(store.put(&other, Bytes::from_static(b"abc"))).expect("put");
    let wanted =
        [(other.clone(), ranges(&[(1, 3)])), (object.clone(), ranges(&[(9, 10), (0, 1)])), (other, Vec::new())];
    let many = retried!(store.get_many(&wanted)).expect("ranges of several objects");
    assert_eq!(many, [vec![&b"bc"[..]], vec![b"9", b"0"], vec![]]);
    let absent =
        retried!(store.get_many(&[(object.clone(), ranges(&[(0, 1)])), (name("ranges/none"), ranges(&[(0, 1)]))]));
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
    let short = retried!(store.get_ranges(&object, &[0..2, 9..11]));
    assert!(matches!(short, Err(Error::Short { size_bytes: 10, end: 11, .. })), "{short:?}");
    let clipped = retried!(store.get_clipped(&object, &[8..12, 0..2, 10..11, 70..90])).expect("clipped ranges");
    assert_eq!(clipped, [&b"89"[..], b"01", b"", b""]);
    let absent = retried!(store.get_clipped(&name("ranges/none"), &ranges(&[(0, 1)])));
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
    let absent = retried!(store.get_ranges(&name("ranges/none"), &[0..1, 0..2]));
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
}

async fn lists_in_order(store: &dyn Store) {
    // `-` and `.` sort before `/`: a listing by folders would have another order.
    let sorted = ["list/a-b", "list/a.b", "list/a/b", "list/a/c/d", "list/a0", "list/b"];
    for text in sorted.iter().rev().chain(&["listing/x", "list-2/x"]) {
        retried!(store.put(&name(text), Bytes::from_static(b"12"))).expect("put");
    }
    let listed = async |folder: &str, after: Option<&str>, limit: usize| {
        let after = after.map(name);
        let entries = retried!(store.list_after(&name(folder), after.as_ref(), limit)).expect("list");
        assert!(entries.iter().all(|entry| entry.size_bytes == 2));
        entries.into_iter().map(|entry| entry.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed("list", None, 100).await, sorted);
    assert_eq!(listed("list", None, 2).await, sorted[..2]);
    assert_eq!(listed("list", Some("list/a.b"), 2).await, sorted[2..4]);
    assert_eq!(listed("list", Some("list/a/a"), 100).await, sorted[2..]);
    assert_eq!(listed("list", Some("list/b"), 100).await, [""; 0]);
    assert_eq!(listed("list/a", None, 100).await, sorted[2..4]);
    assert_eq!(listed("list", Some("a"), 1).await, sorted[..1]);
    assert_eq!(listed("list/none", None, 100).await, [""; 0]);
}

async fn deletes(store: &dyn Store) {
    let object = name("delete/one");
    retried!(store.put(&object, Bytes::from_static(b"x"))).expect("put");
    retried!(store.delete(&object)).expect("delete");
    retried!(store.delete(&object)).expect("deleting what is not there is fine");
    assert!(matches!(read(store, &object).await, Err(Error::NotFound { .. })));
    assert!(retried!(store.list_after(&name("delete"), None, 10)).expect("list").is_empty());
}

async fn refuses_what_is_too_large(store: &dyn Store) {
    let object = name("large/one");
    retried!(store.put(&object, Bytes::from_static(b"12345"))).expect("put");
    let refused = retried!(store.get(&object, 4));
    assert!(matches!(refused, Err(Error::TooLarge { size_bytes: 5, limit_bytes: 4, .. })), "{refused:?}");
    let large = Bytes::from(vec![0; crate::OBJECT_BYTES_MAX as usize + 1]);
    let refused = retried!(store.put(&object, large.clone()));
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert_eq!(read(store, &object).await.expect("get"), &b"12345"[..]);
}
