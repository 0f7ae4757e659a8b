use std::sync::Arc;

use store::sim::{FaultStore, Faults, Tasks};
use store::{CacheSettings, Cached, Credentials, Folder, Location, Memory, Remote, Store, conformance};

#[test]
fn memory_passes_the_suite() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    Tasks::seeded(1).finish(async move { conformance::run(&store).await }, 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_passes_the_suite() {
    let root = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Folder::open(root.path()).unwrap());
    conformance::run(&store).await;
}

#[test]
fn a_faulty_store_passes_the_suite_as_long_as_it_only_delays_and_refuses() {
    for seed in 0..20 {
        let faults = Faults { delay_polls_max: 5, refused: 200, ..Faults::default() };
        let store: Arc<dyn Store> = Arc::new(FaultStore::new(Arc::new(Memory::new()), faults, seed));
        Tasks::seeded(seed).finish(async move { conformance::run(&store).await }, 100_000);
    }
}

/// `conformance/store/run` starts a server and runs this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: SAMPAN_TEST_STORE=s3://bucket/prefix?endpoint=URL"]
async fn a_bucket_passes_the_suite() {
    // A second installation is refused, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "the script that starts the server says where it is")]
    let place = std::env::var("SAMPAN_TEST_STORE").unwrap();
    let location = Location::parse(&place).unwrap();
    let credentials = Credentials { access_key: "test".to_owned(), secret: "test".to_owned(), session_token: None };
    let remote: Arc<dyn Store> = Arc::new(Remote::open(&location, Some(&credentials)).unwrap());
    conformance::run(&remote).await;
    let other = Location { prefix: format!("{}/cached", location.prefix), ..location };
    let remote = Arc::new(Remote::open(&other, Some(&credentials)).unwrap());
    let settings = CacheSettings { memory_bytes: 1 << 20, disk: None };
    let cached: Arc<dyn Store> = Arc::new(Cached::open(remote, &settings, |_| true).unwrap());
    conformance::run(&cached).await;
}
