//! Pulls that nobody waits for.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::ManualClock;
use hub::{Depot, Options, Order, Progress, Queue, Source, Stage, WAITING_MAX, Wanted};

use crate::hub::{Behaviour, Fault, Hub, assert_is_there, assert_nothing_is_there, model, options};

struct Running {
    queue: Queue,
    depot: Depot,
    /// Names of models that arrived.
    arrived: Receiver<String>,
    _folder: tempfile::TempDir,
}

fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::new(folder.path());
    let (sender, arrived) = channel();
    let sender = Mutex::new(sender);
    let told = Box::new(move |pulled: &hub::Pulled| {
        sender.lock().unwrap().send(pulled.name.clone()).unwrap();
        if pulled.name == "unwanted" { Err("nobody wants it".to_owned()) } else { Ok(()) }
    });
    let queue = Queue::start(depot.clone(), Arc::new(ManualClock::starting_at(1_000)), told).unwrap();
    Running { queue, depot, arrived, _folder: folder }
}

fn order(hub: &Hub, model: &str, name: &str) -> Order {
    let source: Box<dyn Source> = Box::new(hub.source());
    Order {
        source,
        wanted: Wanted::parse(model).unwrap(),
        options: Options { name: Some(name.to_owned()), ..options() },
    }
}

/// A pull that is tried again and again and stands before all others until it is stopped.
fn blocked(running: &Running) -> (Hub, Progress) {
    let hub = Hub::start(Behaviour { always: Some(Fault::Status(503)), ..behaviour() });
    let stubborn = Options { retries: 1_000, wait: Duration::from_secs(600), ..options() };
    let pull = running.queue.order(Order { options: stubborn, ..order(&hub, "Qwen/First", "first") }).unwrap();
    (hub, pull)
}

fn behaviour() -> Behaviour {
    let files = model().into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
    Behaviour { files, ..Behaviour::default() }
}

/// Waits until a pull is over.
fn ended(queue: &Queue, id: u64) -> Progress {
    loop {
        let found = queue.list().into_iter().find(|progress| progress.id == id).unwrap();
        if found.over_ms.is_some() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn models_are_pulled_one_after_another_and_told_of() {
    let hub = Hub::with(&model(), &[Fault::Status(503)]);
    let running = start();
    let (_slow, before) = blocked(&running);
    let first = running.queue.order(order(&hub, "Qwen/Tiny", "one")).unwrap();
    let second = running.queue.order(order(&hub, "Qwen/Tiny@main", "two")).unwrap();
    let again = running.queue.order(order(&hub, "Qwen/Tiny@main", "three")).unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!((again.id, again.name.as_deref()), (second.id, Some("two")), "it was on its way already");
    assert!(running.queue.stop(before.id).is_some());
    let done = ended(&running.queue, second.id);
    assert_eq!((done.state, done.files, done.whole_files), (Stage::Done, 4, 4));
    assert_eq!((done.size_bytes, done.here_bytes, done.why), (80_003, 80_003, None));
    assert_eq!(ended(&running.queue, first.id).state, Stage::Done);
    assert_eq!(running.arrived.iter().take(2).collect::<Vec<_>>(), ["one", "two"]);
    assert_is_there(&running.depot, "two", &model());
    assert_eq!(running.queue.list().iter().map(|pull| pull.id).collect::<Vec<_>>(), [second.id, first.id, before.id]);
}

#[test]
fn what_fails_says_why_and_the_next_one_is_pulled() {
    let broken = Hub::start(Behaviour { always: Some(Fault::Status(403)), ..behaviour() });
    let hub = Hub::with(&model(), &[]);
    let running = start();
    let failing = running.queue.order(order(&broken, "Qwen/Tiny", "one")).unwrap();
    let unwanted = running.queue.order(order(&hub, "Qwen/Tiny", "unwanted")).unwrap();
    let failed = ended(&running.queue, failing.id);
    assert_eq!(failed.state, Stage::Failed);
    assert!(failed.why.unwrap().contains("403"));
    let refused = ended(&running.queue, unwanted.id);
    assert_eq!((refused.state, refused.why.as_deref()), (Stage::Failed, Some("nobody wants it")));
}

#[test]
fn a_pull_is_stopped_where_it_is_and_goes_on_from_there() {
    // The first answer says nothing after 3,000 bytes; the pull is stopped meanwhile.
    let hub = Hub::with(&model(), &[Fault::Cut(3_000), Fault::Status(503), Fault::Status(503), Fault::Status(503)]);
    let running = start();
    let patient = Options { retries: 1_000, wait: Duration::from_secs(600), ..options() };
    let slow =
        Order { options: Options { name: Some("one".to_owned()), ..patient }, ..order(&hub, "Qwen/Tiny", "one") };
    let first = running.queue.order(slow).unwrap();
    let waits = running.queue.order(order(&hub, "Qwen/Other", "two")).unwrap();
    let stopped = running.queue.stop(waits.id).unwrap();
    assert_eq!((stopped.state, stopped.over_ms), (Stage::Stopped, Some(1_000)), "it had not begun");
    // It waits for ten minutes before the next try, unless it is told to stop.
    while running.queue.list().last().unwrap().why.is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(running.queue.stop(first.id).is_some());
    let progress = ended(&running.queue, first.id);
    assert_eq!((progress.state, progress.why), (Stage::Stopped, None));
    assert_nothing_is_there(&running.depot);
    let again = running.queue.order(order(&hub, "Qwen/Tiny", "one")).unwrap();
    assert_eq!(ended(&running.queue, again.id).state, Stage::Done);
    assert_eq!(hub.sent_bytes(), 80_003, "what was there was not fetched again");
    assert_eq!(running.queue.stop(4_711), None);
}

#[test]
fn only_so_many_wait() {
    let running = start();
    let (hub, first) = blocked(&running);
    while running.queue.list()[0].state == Stage::Waiting {
        std::thread::sleep(Duration::from_millis(5));
    }
    for number in 0..WAITING_MAX {
        running.queue.order(order(&hub, &format!("Qwen/Model{number}"), "x")).unwrap();
    }
    let refused = running.queue.order(order(&hub, "Qwen/Last", "x")).unwrap_err();
    assert!(refused.to_string().contains("pulls that wait: 33, 32 allowed"), "{refused}");
    assert!(running.queue.stop(first.id).is_some());
}
