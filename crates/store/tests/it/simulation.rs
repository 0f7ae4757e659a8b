use std::sync::{Arc, Mutex};

use bytes::Bytes;
use store::sim::{FaultStore, Faults, Tasks};
use store::{Error, Memory, Name, Store};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Eight tasks race for names over a store with every fault; the trace says who saw what in which order.
fn trace(seed: u64) -> Vec<String> {
    let faults = Faults { delay_polls_max: 4, refused: 100, lost_reply: 100, torn: 100 };
    let store = FaultStore::new(Arc::new(Memory::new()), faults, seed);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Tasks::seeded(seed);
    let mut ids = Vec::new();
    for task in 0..8_u8 {
        let (store, seen) = (store.clone(), Arc::clone(&seen));
        ids.push(tasks.spawn(async move {
            for number in 0..10 {
                let object = name(&format!("n/{number}"));
                let answer = store.put_create(&object, Bytes::from(vec![task; 10])).await;
                let found = store.get(&object, 100).await;
                seen.lock().unwrap().push(format!("{task} {number} {answer:?} {found:?}"));
            }
        }));
    }
    for _ in 0..200 {
        tasks.step();
    }
    assert!(tasks.kill(ids[3]));
    while tasks.step() {}
    drop(tasks);
    Arc::into_inner(seen).expect("every task is gone").into_inner().unwrap()
}

#[test]
fn a_seed_names_one_run() {
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}

#[test]
fn each_fault_happens_as_it_is_described() {
    let inner: Arc<dyn Store> = Arc::new(Memory::new());
    let always = move |faults: Faults| FaultStore::new(Arc::clone(&inner), faults, 3);
    let bytes = Bytes::from_static(b"0123456789");
    Tasks::seeded(0).finish(
        async move {
            let refused = always(Faults { refused: 1000, ..Faults::default() });
            let lost = always(Faults { lost_reply: 1000, ..Faults::default() });
            let torn = always(Faults { torn: 1000, ..Faults::default() });
            for (store, text) in [(&refused, "refused"), (&lost, "lost"), (&torn, "torn")] {
                let answer = store.put_create(&name(text), bytes.clone()).await;
                assert!(matches!(answer, Err(Error::Unavailable { .. })), "{text}: {answer:?}");
                assert_eq!(store.calls(), 1);
            }
            lost.set_faults(Faults::default());
            assert!(matches!(lost.get(&name("refused"), 100).await, Err(Error::NotFound { .. })));
            assert_eq!(lost.get(&name("lost"), 100).await.unwrap(), bytes);
            let left = lost.get(&name("torn"), 100).await.unwrap();
            assert!(left.len() < 10 && bytes.starts_with(&left), "{left:?}");
        },
        10_000,
    );
}
