//! The folder of models: what is shared, what is removed, what is noticed.

use hub::{Depot, Options, Removed, Wanted};

use crate::hub::{Hub, assert_is_there, model, numbers, options, pulled};

#[test]
fn the_same_bytes_lie_there_once_and_go_with_the_last_who_needs_them() {
    let hub = Hub::with(&model(), &[]);
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    pulled(&depot, &hub.source(), &options()).0.unwrap();
    let second = Options { name: Some("Second".to_owned()), ..options() };
    assert_eq!(pulled(&depot, &hub.source(), &second).0.unwrap().fetched_bytes, 0);
    assert_is_there(&depot, "Second", &model());
    assert_eq!(depot.remove("Tiny").unwrap(), Removed::default());
    assert_is_there(&depot, "Second", &model());
    assert_eq!(depot.remove("Second").unwrap(), Removed { files: 4, bytes: 80_003 });
    assert_eq!(depot.models().unwrap(), []);
    assert_eq!(depot.remove("Second").unwrap_err().kind(), base::Kind::NotFound);
    assert_eq!(depot.remove("../x").unwrap_err().kind(), base::Kind::NotFound);
}

#[test]
fn a_pull_of_what_is_there_fetches_and_changes_nothing() {
    let hub = Hub::with(&model(), &[]);
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    pulled(&depot, &hub.source(), &options()).0.unwrap();
    let later = Options { now_ms: 99, ..options() };
    assert_eq!(pulled(&depot, &hub.source(), &later).0.unwrap().fetched_bytes, 0);
    assert_eq!(depot.record("Tiny").unwrap().pulled_ms, 7);
}

#[test]
fn a_newer_revision_takes_the_place_of_the_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    pulled(&depot, &Hub::with(&model(), &[]).source(), &options()).0.unwrap();
    let mut newer = model();
    newer[3].1 = numbers(12_345, 9);
    let hub = Hub::with(&newer, &[]);
    assert_eq!(pulled(&depot, &hub.source(), &options()).0.unwrap().fetched_bytes, 12_345);
    assert_is_there(&depot, "Tiny", &newer);
    // The old bytes are nobody's.
    assert_eq!(depot.remove_unfinished().unwrap(), Removed { files: 1, bytes: 30_001 });
    assert_is_there(&depot, "Tiny", &newer);
}

#[test]
fn a_changed_file_is_noticed_and_only_it_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    let hub = Hub::with(&model(), &[]);
    pulled(&depot, &hub.source(), &options()).0.unwrap();
    let path = folder.path().join("Tiny/model-2.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[17] ^= 4;
    let mut writable = std::fs::metadata(&path).unwrap().permissions();
    assert!(writable.readonly(), "a pulled file is not written by accident");
    std::os::unix::fs::PermissionsExt::set_mode(&mut writable, 0o644);
    std::fs::set_permissions(&path, writable).unwrap();
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_file(folder.path().join("Tiny/config.json")).unwrap();
    let faults = depot.verify("Tiny", &mut |_| ()).unwrap();
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(paths, ["config.json", "model-2.safetensors"], "{faults:?}");
    assert_eq!(pulled(&depot, &hub.source(), &options()).0.unwrap().fetched_bytes, 30_001);
    assert_is_there(&depot, "Tiny", &model());
}

#[test]
fn a_name_that_something_else_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    let hub = Hub::with(&model(), &[]);
    std::fs::create_dir(folder.path().join("Tiny")).unwrap();
    let taken = pulled(&depot, &hub.source(), &options()).0.unwrap_err();
    assert_eq!(taken.kind(), base::Kind::Conflict, "{taken}");
    std::fs::remove_dir(folder.path().join("Tiny")).unwrap();
    pulled(&depot, &hub.source(), &options()).0.unwrap();
    let other = Wanted::parse("Somebody/Tiny").unwrap();
    let taken = hub::pull(&depot, &hub.source(), &other, &options(), &|_| ()).unwrap_err();
    assert_eq!(taken.kind(), base::Kind::Conflict, "{taken}");
    let wrong = Options { name: Some("../x".to_owned()), ..options() };
    assert_eq!(pulled(&depot, &hub.source(), &wrong).0.unwrap_err().kind(), base::Kind::Invalid);
}

#[test]
fn files_with_the_same_bytes_are_fetched_once() {
    let same = numbers(9_000, 5);
    let files =
        [("config.json", b"{}".to_vec()), ("a.safetensors", same.clone()), ("b.safetensors", same), ("c.txt", vec![])];
    let hub = Hub::with(&files, &[]);
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    pulled(&depot, &hub.source(), &options()).0.unwrap();
    assert_is_there(&depot, "Tiny", &files);
    assert_eq!(hub.sent_bytes(), 9_002);
}

#[test]
fn records_that_are_none_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    std::fs::create_dir(folder.path().join("Odd")).unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("Odd/.sampan.json"), text).unwrap();
    let record = |path: &str, blake3: &str| {
        let file = format!(r#"{{"path":"{path}","size_bytes":1,"blake3":"{blake3}"}}"#);
        let head = r#""source":"x","repository":"a/b","revision":"r","pulled_ms":1,"main":null"#;
        format!(r#"{{"format":1,{head},"files":[{file}]}}"#)
    };
    let hash = "00".repeat(32);
    write(&record("a", &hash));
    assert_eq!(depot.models().unwrap().len(), 1);
    for wrong in ["", "{", "[]", &record("../a", &hash), &record("a", "zz"), &record("a", &hash).replace(":1,", ":2,")]
    {
        write(wrong);
        let error = depot.models().unwrap_err();
        assert_eq!(error.kind(), base::Kind::Corrupt, "{wrong}: {error}");
    }
}
