//! Random operations while the database breaks off at any write: nothing is lost, nothing is doubled.
//!
//! Every worker has a project of its own and its own copy of the pure books, in which it does the same. After a break
//! nobody knows whether the operation was made, so it is sent again by the same name, sometimes after opening the
//! database anew. Rounds differ in how many work at a time: many are booked together, one by itself is not.
//! `SAMPAN_CRASH_OPERATIONS` says how many operations there are, `SAMPAN_CRASH_SEED` which; a few
//! hundred where they do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Rng;
use futures::stream::{self, StreamExt as _};
use ledger::{AccountId, Books, Error, Ledger, Operation, Reserve, State, Unit};
use meta::{Faults, Moment};

use crate::support::{Fresh, ended, fresh, spent, transaction, wanted};

const WORKERS: usize = 64;
const OPERATIONS: u64 = 640;
/// One of so many moments breaks.
const BREAKS: u64 = 20;
const TRIES_MAX: usize = 200;
/// Workers at a time, round by round, and the percentage of all operations that are done in it.
const ROUNDS: [(usize, u64); 4] = [(WORKERS, 45), (1, 5), (2, 5), (WORKERS, 45)];

/// Breaks at random moments, by a seed.
struct Chance {
    rng: Mutex<Rng>,
    breaks: AtomicU64,
}

impl Faults for Chance {
    fn strikes(&self, _: Moment) -> bool {
        let strikes = self.rng.lock().unwrap().below(BREAKS) == 0;
        self.breaks.fetch_add(u64::from(strikes), Ordering::Relaxed);
        strikes
    }
}

/// What one worker knows must be in the books.
struct Worker {
    project: String,
    rng: Rng,
    books: Books,
    open: Vec<String>,
    next: u64,
    again: u64,
}

impl Worker {
    fn new(seed: u64, index: usize) -> Self {
        let project = format!("p{index}");
        let mut books = Books::new();
        let open = Operation::Open { project: project.clone(), credit_line_micro: Some(0) };
        let change = books.apply("open", &open, 0).unwrap();
        books.commit("open", &change);
        Self { project, rng: Rng::seeded(seed * 1000 + index as u64), books, open: Vec::new(), next: 0, again: 0 }
    }

    async fn step(&mut self, ledger: &Ledger) {
        let name = format!("{}-{}", self.project, self.next);
        self.next += 1;
        let amount = 1 + self.rng.below(2_000) as i64;
        let operation = match self.rng.below(20) {
            0 | 1 => Operation::Deposit { project: self.project.clone(), amount_micro: amount },
            2 => Operation::Grant {
                account: AccountId::grant(&name, if self.rng.below(2) == 0 { Unit::Micro } else { Unit::Token }),
                project: self.project.clone(),
                amount,
                starts_ms: 0,
                expires_ms: None,
            },
            3..=10 => {
                let most = spent(self.rng.below(900), self.rng.below(900) as i64).used();
                Operation::Reserve(Reserve {
                    id: name.clone(),
                    project: self.project.clone(),
                    key: format!("key-of-{}", self.project),
                    most,
                })
            }
            kind if !self.open.is_empty() => {
                let reservation = self.open.swap_remove(self.rng.below(self.open.len() as u64) as usize);
                let used = spent(self.rng.below(1_000), self.rng.below(1_000) as i64).used();
                if kind < 18 { Operation::Settle { reservation, used } } else { Operation::Release { reservation } }
            }
            _ => return,
        };
        let now_ms = ledger.clock().now_ms();
        let expected = self.books.apply(&name, &operation, now_ms);
        let told = self.tell(ledger, &name, &operation).await;
        match (expected, told) {
            (Ok(change), Ok(())) => {
                if let Some(State::Open) = change.reservation.as_ref().map(|reservation| reservation.state) {
                    self.open.push(name.clone());
                }
                self.books.commit(&name, &change);
            }
            (Err(expected), Err(told)) => assert_eq!(expected.to_string(), told.to_string()),
            (expected, told) => panic!("{operation:?}: expected {expected:?}, told {told:?}"),
        }
    }

    /// Sends an operation until somebody knows what became of it.
    async fn tell(&mut self, ledger: &Ledger, name: &str, operation: &Operation) -> Result<(), Error> {
        let mut last = None;
        for _ in 0..TRIES_MAX {
            let told = match operation {
                Operation::Reserve(reserve) => {
                    let most = spent(reserve.most.tokens as u64, reserve.most.cost_micro);
                    ledger.reserve(wanted(name, &self.project, most, spent(0, 0))).await.map(drop)
                }
                Operation::Settle { reservation, used } => {
                    let used = spent(used.tokens as u64, used.cost_micro);
                    ledger.settle(reservation, ended(used)).await.map(|_| ())
                }
                Operation::Release { reservation } => ledger.release(reservation).await,
                other => ledger.book(transaction(name, other.clone())).await.map(|_| ()),
            };
            match told {
                Err(error) if error.is_unknown() => {
                    self.again += 1;
                    last = Some(error);
                }
                told => return told,
            }
        }
        panic!("{operation:?} broke {TRIES_MAX} times: {last:?}");
    }

    /// Every balance is the one that the pure books have. What holds nothing may not be there yet.
    async fn compare(&self, ledger: &Ledger) {
        let accounts = ledger.accounts(Some(&self.project)).await.unwrap();
        let told: BTreeMap<_, _> = accounts.iter().map(|account| (&account.id, account.balance)).collect();
        for account in self.books.accounts.values().filter(|account| account.project.is_some()) {
            assert_eq!(told.get(&account.id).copied().unwrap_or(0), account.balance, "{}", account.id);
        }
        assert!(accounts.iter().all(|account| self.books.accounts.contains_key(&account.id)), "{accounts:?}");
    }
}

/// Every worker does so many steps, so many workers at a time.
async fn round(fresh: &Fresh, workers: Vec<Worker>, steps: u64, at_a_time: usize, faults: &Arc<Chance>) -> Vec<Worker> {
    let shared: Arc<dyn Faults> = Arc::<Chance>::clone(faults);
    let ledger = fresh.open_with("crash", Some(0), Some(shared)).await;
    let work = |mut worker: Worker| {
        let ledger = ledger.clone();
        let working = tokio::spawn(async move {
            for _ in 0..steps {
                worker.step(&ledger).await;
            }
            worker
        });
        async { working.await.unwrap() }
    };
    stream::iter(workers).map(work).buffered(at_a_time).collect().await
}

#[expect(clippy::disallowed_methods, reason = "the number of operations is asked for from outside")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_with_breaks_lose_and_double_nothing() {
    let asked = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let operations = asked("SAMPAN_CRASH_OPERATIONS").unwrap_or(OPERATIONS);
    let seed = asked("SAMPAN_CRASH_SEED").unwrap_or(7);
    let fresh = fresh().await;
    let faults = Arc::new(Chance { rng: Mutex::new(Rng::seeded(seed)), breaks: AtomicU64::new(0) });
    let mut workers: Vec<Worker> = (0..WORKERS).map(|index| Worker::new(seed, index)).collect();
    for (at_a_time, percent) in ROUNDS {
        let steps = (operations * percent).div_ceil(100 * WORKERS as u64);
        workers = round(&fresh, workers, steps, at_a_time, &faults).await;
    }
    let ledger = fresh.open("auditor", Some(0)).await;
    let mut again = 0;
    for worker in &workers {
        worker.compare(&ledger).await;
        again += worker.again;
    }
    let audit = ledger.audit().await.unwrap();
    assert_eq!(audit.findings, Vec::<String>::new());
    let breaks = faults.breaks.load(Ordering::Relaxed);
    assert!(breaks > 0 && again > 0, "{breaks} breaks, {again} times sent again");
    let done: u64 = workers.iter().map(|worker| worker.next).sum();
    println!("seed {seed}: {done} operations, {breaks} breaks, {again} sent again, 0 lost, 0 doubled: {audit:?}");
}
