use std::sync::Arc;

use store::sim::{FaultStore, Faults, Tasks};
use store::{Folder, Memory, Store, conformance};

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
