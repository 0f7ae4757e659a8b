//! Processes that come and go around one faulty store, and an auditor who knows what each key may hold.
//!
//! Each task owns some keys, so its own operations are in order and every read of an own key has a set of allowed
//! answers: the last acknowledged value, or any value whose outcome is unknown since. An unknown value that was seen
//! counts from then on. A task that opens the index anew, in another "process", must see all of that.
//!
//! In every second run the log is cleared as soon as it may be, so that writers who slept meet slots that were used and
//! cleared; in the others all of it stays, and a follower and the log itself must tell the same as the index.
//!
//! Torn writes are drawn too, although the store promises that there are none: log entries, manifests and segments that
//! are cut short with the answer "not available" must cost nobody anything.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use base::{Clock, ManualClock, Rng};
use serde_json::json;
use store::sim::{FaultStore, Faults, Tasks, pause};
use store::{Memory, Name, Store};
use vectors::{
    Compaction, Config, Effort, Error, Index, Key, LOG_KEPT_ENTRIES, Metadata, MetadataLimits, Metric, Op, Query, Row,
    Shape,
};
use vectors::{Since, Want};

type Trace = Arc<Mutex<Vec<String>>>;

/// An index as a process finds it.
#[derive(Clone)]
struct Place {
    store: Arc<dyn Store>,
    folder: Name,
    config: Config,
}

/// What a key may hold: `None` is "not there".
type Allowed = Vec<Option<u32>>;

/// The time, and when which values of which keys are over.
#[derive(Default)]
struct Times {
    clock: Arc<ManualClock>,
    over_ms: Mutex<HashMap<(Key, u32), u64>>,
}

impl Times {
    fn is_over(&self, key: &Key, value: u32, now_ms: u64) -> bool {
        self.over_ms.lock().unwrap().get(&(key.clone(), value)).is_some_and(|&over_ms| over_ms <= now_ms)
    }

    fn set(&self, index: &Index) {
        index.set_time_to_live(Some("until"), &(Arc::clone(&self.clock) as Arc<dyn Clock>));
    }
}

struct Actor {
    times: Arc<Times>,
    name: u64,
    store: Arc<dyn Store>,
    folder: Name,
    config: Config,
    rng: Rng,
    allowed: BTreeMap<u64, Allowed>,
    next_value: u32,
    trace: Trace,
}

fn row(key: &Key, value: u32, over_ms: Option<u64>) -> Row {
    let vector = [value as f32, 1.0, 0.0, 0.0].into();
    let json = over_ms.map_or_else(|| json!({}), |over_ms| json!({"until": over_ms as f64 / 1e3}));
    let metadata = Metadata::from_json(&json, &[], MetadataLimits::default()).unwrap();
    Row { key: key.clone(), vector, metadata }
}

/// How an index is opened where its log is kept for followers, or cleared as soon as it may be.
fn config(clears: bool) -> Config {
    let kept = Config::default();
    if clears { Config { log_kept_entries: 1, ..kept } } else { kept }
}

async fn open(store: &Arc<dyn Store>, folder: &Name, config: Config, rng: &mut Rng) -> Index {
    // Ends: the store refuses some calls, not all.
    loop {
        match Index::open(store, folder, config, rng).await {
            Ok(index) => return index,
            Err(error) => assert_eq!(error.kind(), base::Kind::Unavailable, "{error:?}"),
        }
    }
}

impl Actor {
    fn key(&self, number: u64) -> Key {
        Key::parse(&format!("{}-{number}", self.name)).unwrap()
    }

    fn note(&self, what: &str) {
        self.trace.lock().unwrap().push(format!("{} {what}", self.name));
    }

    async fn run(mut self, mut shared: Arc<Index>) {
        for _ in 0..12 {
            match self.rng.below(11) {
                0..4 => self.write(&shared).await,
                4..8 => self.read(&shared).await,
                8 => self.search(&shared, Since::default(), self.times.clock.now_ms()).await,
                9 => {
                    shared = Arc::new(open(&self.store, &self.folder, self.config, &mut self.rng).await);
                    self.times.set(&shared);
                }
                _ => self.open_and_search().await,
            }
            self.times.clock.advance_ms(self.rng.below(50));
        }
        self.read(&shared).await;
    }

    async fn write(&mut self, index: &Index) {
        let number = self.rng.below(3);
        let key = self.key(number);
        self.next_value += 1;
        let value = if self.rng.below(3) == 0 { None } else { Some(self.next_value) };
        let outcome = match value {
            Some(value) => {
                let over_ms = (self.rng.below(3) == 0).then(|| self.times.clock.now_ms() + self.rng.below(500));
                if let Some(over_ms) = over_ms {
                    self.times.over_ms.lock().unwrap().insert((key.clone(), value), over_ms);
                }
                index.put(vec![row(&key, value, over_ms)]).await
            }
            None => index.delete(vec![key]).await,
        };
        self.note(&format!("write {number} {value:?} {}", outcome.is_ok()));
        let allowed = self.allowed.entry(number).or_insert_with(|| vec![None]);
        match outcome {
            Ok(()) => *allowed = vec![value],
            Err(Error::Unknown | Error::Store { .. }) => allowed.push(value),
            // Certainly not written.
            Err(Error::Contended { .. } | Error::Busy { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    /// `since_ms` is when the read began.
    fn audit(&mut self, number: u64, seen: Option<u32>, since_ms: u64) {
        self.note(&format!("read {number} {seen:?}"));
        let (key, now_ms) = (self.key(number), self.times.clock.now_ms());
        let times = Arc::clone(&self.times);
        assert!(!seen.is_some_and(|value| times.is_over(&key, value, since_ms)), "key {number}: {seen:?} is over");
        let may_be_over = |value: &u32| times.is_over(&key, *value, now_ms);
        if seen.is_none() && self.allowed.get(&number).is_some_and(|all| all.iter().flatten().any(may_be_over)) {
            return;
        }
        let allowed = self.allowed.entry(number).or_insert_with(|| vec![None]);
        assert!(allowed.contains(&seen), "actor {}: key {number} holds {seen:?}, may hold {allowed:?}", self.name);
        // Later unknown writes may still take effect; what was written before the value seen may not come back.
        let place = allowed.iter().position(|value| *value == seen).unwrap();
        let later_none = allowed.iter().skip(place + 1).copied();
        *allowed = std::iter::once(seen).chain(later_none).collect();
    }

    async fn read(&mut self, index: &Index) {
        let number = self.rng.below(3);
        let since_ms = self.times.clock.now_ms();
        match index.get(&[self.key(number)]).await {
            Ok(rows) => self.audit(number, rows.first().map(|row| row.vector[0] as u32), since_ms),
            Err(error) => assert_eq!(error.kind(), base::Kind::Unavailable, "{error:?}"),
        }
    }

    /// What was acknowledged before the opening must be found, whatever is written meanwhile.
    async fn open_and_search(&mut self) {
        let since_ms = self.times.clock.now_ms();
        match Index::open_for_query(&self.store, &self.folder, self.config, &mut self.rng).await {
            Ok((index, since)) => {
                self.times.set(&index);
                pause(self.rng.below(20)).await;
                self.search(&index, since, since_ms).await;
            }
            Err(error) => assert_eq!(error.kind(), base::Kind::Unavailable, "{error:?}"),
        }
    }

    async fn search(&mut self, index: &Index, since: Since, since_ms: u64) {
        let want = Want { vector: true, metadata: false };
        let query = Query { vector: vec![0.0; 4], neighbours: 100, filter: None, want, effort: Effort::FULL };
        match index.query_since(&query, since).await {
            Ok(found) => {
                for number in 0..3 {
                    let key = self.key(number);
                    let seen = found.iter().find(|found| found.key == key);
                    self.audit(number, seen.map(|found| found.vector.as_ref().unwrap()[0] as u32), since_ms);
                }
            }
            Err(error) => assert_eq!(error.kind(), base::Kind::Unavailable, "{error:?}"),
        }
    }
}

async fn compactor(place: Place, mut rng: Rng, trace: Trace, times: Arc<Times>) {
    let index = open(&place.store, &place.folder, place.config, &mut rng).await;
    times.set(&index);
    for _ in 0..6 {
        pause(rng.below(40)).await;
        let outcome = match rng.below(3) {
            0 => index.compact().await,
            1 => index.compact_at_rest().await,
            _ => index.tidy().await.map(|()| Compaction::Idle),
        };
        trace.lock().unwrap().push(format!("compact {outcome:?}"));
        if let Err(error) = outcome {
            assert_eq!(error.kind(), base::Kind::Unavailable, "{error:?}");
        }
    }
}

/// Entries of the log as a follower saw them: their numbers, and what they made of which keys.
type Followed = Vec<(u64, Vec<(Key, Option<u32>)>)>;

/// Follows an index from its first entry to where it ends now, or until the log does not hold what comes next.
async fn follow(index: &Index, followed: &mut Followed) {
    let mut number = followed.last().map_or(1, |(number, _)| number + 1);
    // Ends: each round goes one entry on, or fails, or finds none.
    loop {
        match index.changes(number).await {
            Ok(Some(changes)) => {
                let value = |op: &Op| match op {
                    Op::Put(row) => Some(row.vector[0] as u32),
                    Op::Delete(_) => None,
                };
                followed.push((number, changes.ops().iter().map(|op| (op.key().clone(), value(op))).collect()));
                number += 1;
            }
            Ok(None) | Err(Error::Gone { .. }) => return,
            Err(error) => return assert_eq!(error.kind(), base::Kind::Unavailable, "{error:?}"),
        }
    }
}

async fn follower(place: Place, mut rng: Rng, seen: Arc<Mutex<Followed>>) {
    let mut index = open(&place.store, &place.folder, place.config, &mut rng).await;
    let mut followed = Followed::new();
    for _ in 0..12 {
        pause(rng.below(30)).await;
        if rng.below(4) == 0 {
            index = open(&place.store, &place.folder, place.config, &mut rng).await;
        }
        // What it does not learn now it learns the next time.
        let _ = index.refresh().await;
        follow(&index, &mut followed).await;
    }
    *seen.lock().unwrap() = followed;
}

/// In the end, the log tells the same as the index, and as it told the one who followed it.
async fn audit_log(place: Place, seen: Followed, times: Arc<Times>) {
    let index = open(&place.store, &place.folder, place.config, &mut Rng::seeded(1)).await;
    times.set(&index);
    index.refresh().await.unwrap();
    if place.config.log_kept_entries < LOG_KEPT_ENTRIES {
        return;
    }
    let mut all = Followed::new();
    follow(&index, &mut all).await;
    assert_eq!(all.len() as u64 + 1, index.log_next(), "the log has no gap");
    assert_eq!(seen, all[..seen.len()], "a follower saw what counts");
    let mut told = BTreeMap::new();
    for (key, value) in all.into_iter().flat_map(|(_, ops)| ops) {
        told.insert(key, value);
    }
    let keys: Vec<Key> = told.keys().cloned().collect();
    let held: BTreeMap<Key, u32> =
        index.get(&keys).await.unwrap().iter().map(|row| (row.key.clone(), row.vector[0] as u32)).collect();
    let now_ms = times.clock.now_ms();
    told.retain(|key, value| value.is_some_and(|value| !times.is_over(key, value, now_ms)));
    assert_eq!(told.into_iter().map(|(key, value)| (key, value.unwrap())).collect::<BTreeMap<_, _>>(), held);
    assert_eq!(index.stats().rows, held.len() as u64);
}

/// One run: three actors in two processes, two compactors, one of which dies, and another actor's process dies.
fn simulate(seed: u64) -> Vec<String> {
    let memory: Arc<dyn Store> = Arc::new(Memory::new());
    let folder = Name::parse("i").unwrap();
    let shape = Shape { dimension: 4, metric: Metric::Euclidean, not_filterable: Vec::new() };
    let mut tasks = Tasks::seeded(seed);
    let setup = (Arc::clone(&memory), folder.clone());
    tasks.finish(async move { Index::create(&setup.0, &setup.1, &shape).await.unwrap() }, 1_000);
    let mut rng = Rng::seeded(seed ^ 0x5eed);
    let faults = Faults { delay_polls_max: 4, refused: 20, lost_reply: 20, torn: 20 };
    let faulty: Arc<dyn Store> = Arc::new(FaultStore::new(Arc::clone(&memory), faults, rng.next_u64()));
    let trace = Trace::default();
    let times = Arc::new(Times::default());
    let place = Place { store: faulty, folder, config: config(seed % 2 == 1) };
    let first = {
        let (place, seed) = (place.clone(), rng.next_u64());
        let opened = async move { open(&place.store, &place.folder, place.config, &mut Rng::seeded(seed)).await };
        Arc::new(tasks.finish(opened, 100_000))
    };
    times.set(&first);
    let mut mortal = Vec::new();
    for name in 0..4 {
        let actor = Actor {
            name,
            store: Arc::clone(&place.store),
            folder: place.folder.clone(),
            config: place.config,
            rng: Rng::seeded(rng.next_u64()),
            allowed: BTreeMap::new(),
            next_value: 0,
            times: Arc::clone(&times),
            trace: Arc::clone(&trace),
        };
        let id = tasks.spawn(actor.run(Arc::clone(&first)));
        if name == 3 {
            mortal.push(id);
        }
    }
    for _ in 0..2 {
        let rng = Rng::seeded(rng.next_u64());
        mortal.push(tasks.spawn(compactor(place.clone(), rng, Arc::clone(&trace), Arc::clone(&times))));
    }
    let seen = Arc::new(Mutex::new(Followed::new()));
    tasks.spawn(follower(place.clone(), Rng::seeded(rng.next_u64()), Arc::clone(&seen)));
    for step in 0..200_000_u64 {
        if step == 400 {
            tasks.kill(mortal[0]);
            tasks.kill(mortal[1]);
        }
        if !tasks.step() {
            let seen = seen.lock().unwrap().clone();
            tasks.finish(audit_log(Place { store: memory, ..place }, seen, Arc::clone(&times)), 100_000);
            let trace = trace.lock().unwrap().clone();
            return trace;
        }
    }
    panic!("seed {seed}: the run did not end");
}

fn check_seeds(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        assert!(outcome.is_ok(), "seed {seed} failed");
    }
}

#[test]
fn two_hundred_seeds_lose_nothing_and_bring_nothing_back() {
    check_seeds(0..200);
}

/// `.ci/nightly` runs it.
#[test]
#[ignore = "slow: 10,000 runs take minutes"]
fn ten_thousand_seeds_lose_nothing_and_bring_nothing_back() {
    const THREADS: u64 = 4;
    std::thread::scope(|scope| {
        for first in 0..THREADS {
            scope.spawn(move || check_seeds((first..10_000).step_by(THREADS as usize)));
        }
    });
}

#[test]
fn a_seed_names_one_run() {
    assert_eq!(simulate(7), simulate(7));
}
