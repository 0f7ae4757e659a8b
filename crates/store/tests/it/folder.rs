use std::fs;
use std::path::Path;

use bytes::Bytes;
use store::{Error, Folder, Name, Store};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn scratch_folders(root: &Path) -> usize {
    fs::read_dir(root.join("tmp")).unwrap().count()
}

#[tokio::test]
async fn objects_outlive_the_process_that_wrote_them() {
    let root = tempfile::tempdir().unwrap();
    let first = Folder::open(root.path()).unwrap();
    first.put_create(&name("a/b"), Bytes::from_static(b"kept")).await.unwrap();
    drop(first);
    let second = Folder::open(root.path()).unwrap();
    assert_eq!(second.get(&name("a/b"), 10).await.unwrap(), &b"kept"[..]);
}

#[tokio::test]
async fn what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not() {
    let root = tempfile::tempdir().unwrap();
    let dead = root.path().join("tmp/1-0");
    fs::create_dir_all(&dead).unwrap();
    fs::write(dead.join("lock"), b"").unwrap();
    fs::write(dead.join("7"), b"half an obj").unwrap();
    let living = Folder::open(root.path()).unwrap();
    assert!(!dead.exists());
    let other = Folder::open(root.path()).unwrap();
    assert_eq!(scratch_folders(root.path()), 2);
    for folder in [&living, &other] {
        folder.put(&name("x"), Bytes::from_static(b"1")).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_but_the_lock_is_left_after_writes() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    folder.put(&name("x"), Bytes::from_static(b"1")).await.unwrap();
    folder.put_create(&name("y"), Bytes::from_static(b"1")).await.unwrap();
    assert!(matches!(folder.put_create(&name("y"), Bytes::new()).await, Err(Error::Exists { .. })));
    let own = fs::read_dir(root.path().join("tmp")).unwrap().next().unwrap().unwrap().path();
    let left: Vec<_> = fs::read_dir(own).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[tokio::test]
async fn a_stranger_s_files_are_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    fs::create_dir_all(root.path().join("objects/a")).unwrap();
    fs::write(root.path().join("objects/a/not a name"), b"x").unwrap();
    assert!(folder.list_after(&name("a"), None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_errors_say_what_could_not_be_done() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    folder.put(&name("a"), Bytes::from_static(b"1")).await.unwrap();
    let refused = folder.put(&name("a/b"), Bytes::from_static(b"1")).await.unwrap_err();
    assert_eq!(refused.kind(), base::Kind::Unavailable);
    assert!(matches!(folder.get(&name("a/b"), 10).await, Err(Error::NotFound { .. })));
}
