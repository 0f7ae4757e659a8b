//! What a request costs beside its answer: key check, reservation, settlement, on SQLite in a folder of the disk.
//!
//! Prints medians, one request after another, and how many a second 64 at a time make; and how long wrong keys take,
//! which must not tell how much of them is right. Not through `divan`: the work is
//! async, and the tail matters as much as the middle.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark measures and prints"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{Clock, ManualClock, SeededEntropy};
use futures::future::join_all;
use ledger::usage::{Activity, Ended, Outcome, Spent, Subject};
use ledger::{Direction, Ledger, Operation, Options, Quantities, Transaction, Wanted};
use meta::{Database, Directory, Place};

const WARM: usize = 200;
const REQUESTS: usize = 3000;
const SPENDERS: usize = 64;

fn wanted(id: String, project: &str) -> Wanted {
    let subject = Subject {
        model: "m".to_owned(),
        region: String::new(),
        activity: Activity::Generate,
        is_batch: false,
        trace: id.clone(),
        prices: "p".to_owned(),
    };
    Wanted { id, project: project.to_owned(), key: "k".to_owned(), subject, most: spent(500), noted: spent(100) }
}

fn spent(cost_micro: i64) -> Spent {
    let quantities = Quantities::of(Direction::Input, 100).with(Direction::Output, 50);
    Spent { quantities, cost_micro }
}

fn ended() -> Ended {
    Ended { spent: spent(120), outcome: Outcome::Finished, latency_ms: 5 }
}

/// Key check, reservation, settlement, one after another, in microseconds.
async fn one(directory: &Directory, ledger: &Ledger, key: &str, id: String) -> [Duration; 3] {
    let start = Instant::now();
    let principal = directory.authenticate(key).await.unwrap();
    let checked = start.elapsed();
    ledger.reserve(wanted(id.clone(), &principal.project)).await.unwrap();
    let reserved = start.elapsed();
    ledger.settle(&id, ended()).await.unwrap();
    [checked, reserved - checked, start.elapsed() - reserved]
}

/// Wrong keys of which ever more is right, in turns, so that whatever disturbs one disturbs all.
async fn wrong_keys(directory: &Directory, key: &str, rounds: usize) {
    let wrong = [0, 1, 2, 4].map(|quarters| {
        // How a key begins is no secret.
        let right = meta::KEY_PREFIX.len() + (key.len() - meta::KEY_PREFIX.len() - 1) * quarters / 4;
        let rest: String = key[right..].chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect();
        format!("{}{rest}", &key[..right])
    });
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..rounds {
        for (text, times) in wrong.iter().zip(&mut times) {
            let start = Instant::now();
            assert!(directory.authenticate(text).await.is_err());
            times.push(start.elapsed());
        }
    }
    for (right, times) in ["nothing", "a quarter", "a half", "all but the last"].iter().zip(&mut times) {
        times.sort_unstable();
        let (middle, high) = (times[(times.len() - 1) / 2].as_nanos(), times[(times.len() - 1) * 9 / 10].as_nanos());
        println!("wrong key, {right} right: p50 {middle} ns  p90 {high} ns");
    }
}

fn at(sorted: &[Duration], percent: usize) -> u128 {
    sorted[(sorted.len() - 1) * percent / 100].as_micros()
}

#[tokio::main]
async fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let requests = if is_test { 10 } else { REQUESTS };
    let folder = tempfile::tempdir_in(".").unwrap();
    let place = Place::File(folder.path().join("sampan.db"));
    let database = Database::open(place, &[meta::SCHEMA, ledger::SCHEMA]).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::starting_at(1_700_000_000_000));
    let directory = Directory::new(database.clone(), Arc::clone(&clock), Arc::new(SeededEntropy::new(1)));
    let key = directory.first_start().await.unwrap().unwrap().text;
    let project = directory.authenticate(&key).await.unwrap().project;
    let ledger = Ledger::new(database, clock, "bench", Options { credit_line_micro: Some(0) });
    let operation = Operation::Deposit { project: project.to_string(), amount_micro: 1_000_000_000_000 };
    let (name, actor) = ("first".to_owned(), "bench".to_owned());
    ledger.book(Transaction { name, operation, actor, memo: String::new() }).await.unwrap();
    // As a task, since that is where a server's requests run: another thread would be woken for every answer.
    let (asks, books, bearer) = (directory.clone(), ledger.clone(), key.clone());
    let one_by_one = tokio::spawn(async move {
        let mut parts = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        for index in 0..requests + WARM {
            let times = one(&asks, &books, &bearer, format!("one-{index}")).await;
            if index >= WARM {
                times.iter().zip(&mut parts).for_each(|(time, part)| part.push(*time));
                parts[3].push(times.iter().sum());
            }
        }
        parts
    });
    let mut parts = one_by_one.await.unwrap();
    for (name, part) in ["key check", "reserve", "settle", "all three"].into_iter().zip(&mut parts) {
        part.sort_unstable();
        println!("{name:10} p50 {:5} us  p99 {:5} us", at(part, 50), at(part, 99));
    }
    wrong_keys(&directory, &key, requests).await;
    let start = Instant::now();
    let spender = |spender: usize| {
        let (directory, ledger, key) = (directory.clone(), ledger.clone(), key.clone());
        tokio::spawn(async move {
            for index in 0..requests.div_ceil(SPENDERS) {
                one(&directory, &ledger, &key, format!("many-{spender}-{index}")).await;
            }
        })
    };
    join_all((0..SPENDERS).map(spender)).await.into_iter().for_each(|done| done.unwrap());
    let made = requests.div_ceil(SPENDERS) * SPENDERS;
    println!("{SPENDERS} at a time: {} requests/s", made as u128 * 1000 / start.elapsed().as_millis().max(1));
    assert!(ledger.audit().await.unwrap().findings.is_empty());
}
