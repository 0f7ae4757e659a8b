//! Vectors that are counted and booked in sums.

use std::sync::Arc;

use base::ManualClock;
use chat::{Caller, Priority};
use ledger::usage::{Activity, Filter, Record, records};
use ledger::{Ledger, Meter, MeterOptions, Options, PriceList, Tally};

use crate::support::{Fresh, NOW_MS, deposit, fresh, transaction};

/// A dollar for a vector that is written, two for one that is read, three for each gigabyte in an hour.
const PRICES: &str = "price = [{ model = \"*\", vector_write = \"1000000\", vector_read = \"2000000\", \
                      vector_storage = \"2190\" }]";

fn caller(project: &str) -> Caller {
    Caller { project: project.into(), key: "k".into(), priority: Priority::Normal }
}

struct Bench {
    _fresh: Fresh,
    ledger: Ledger,
    tally: Tally,
}

fn tally(ledger: &Ledger, seed: u64) -> Tally {
    let options = MeterOptions { region: "home".to_owned(), is_price_required: true, nobody: Some(caller("local")) };
    Tally::new(Meter::new(ledger.clone(), PriceList::parse(PRICES).unwrap(), options, seed))
}

async fn bench(dollars: i64) -> Bench {
    let fresh = fresh().await;
    let ledger = fresh.open("me", Some(0)).await;
    ledger.book(transaction("first", deposit("p", dollars * 1_000_000))).await.unwrap();
    let tally = tally(&ledger, 1);
    Bench { _fresh: fresh, ledger, tally }
}

impl Bench {
    /// What was booked, by activity, and what is wrong with it.
    async fn booked(&self) -> Vec<Record> {
        assert_eq!(self.ledger.audit().await.unwrap().findings, Vec::<String>::new());
        let mut found = records(self.ledger.database(), &Filter::default(), None, 100).await.unwrap();
        found.sort_by(|one, other| (&one.activity, one.units).cmp(&(&other.activity, other.units)));
        found
    }
}

#[tokio::test]
async fn vectors_are_booked_in_sums_of_a_bucket() {
    let bench = bench(100).await;
    let (p, tally) = (caller("p"), &bench.tally);
    for _ in 0..3 {
        tally.add(Some(&p), "b", Activity::VectorWrite, 5);
        tally.add(Some(&p), "b", Activity::VectorRead, 2);
    }
    tally.add(Some(&p), "other", Activity::VectorRead, 1);
    tally.add(Some(&p), "b", Activity::VectorRead, 0);
    tally.book().await;
    tally.book().await;
    let shown: Vec<_> = bench
        .booked()
        .await
        .into_iter()
        .map(|record| (record.activity, record.model, record.units, record.paid_micro / 1_000_000, record.outcome))
        .collect();
    let row = |activity: &str, bucket: &str, units, dollars| {
        (activity.to_owned(), bucket.to_owned(), units, dollars, "finished".to_owned())
    };
    assert_eq!(
        shown,
        [row("vector_read", "other", 1, 2), row("vector_read", "b", 6, 12), row("vector_write", "b", 15, 15)]
    );
}

#[tokio::test]
async fn who_cannot_pay_is_refused_from_then_on_and_owes_what_was_done() {
    let bench = bench(10).await;
    let (p, tally) = (caller("p"), &bench.tally);
    assert_eq!(tally.check(Some(&p)), Ok(()));
    tally.add(Some(&p), "b", Activity::VectorWrite, 11);
    tally.book().await;
    let reason = tally.check(Some(&p)).unwrap_err();
    assert!(reason.contains("credit of project p"), "{reason}");
    assert_eq!(tally.check(Some(&caller("q"))), Ok(()));
    assert_eq!(bench.booked().await.len(), 0);
    bench.ledger.book(transaction("second", deposit("p", 5_000_000))).await.unwrap();
    tally.book().await;
    assert_eq!(tally.check(Some(&p)), Ok(()));
    assert_eq!(bench.booked().await[0].units, 11);
}

#[tokio::test]
async fn what_is_kept_counts_once_an_hour_whoever_tells_it() {
    let bench = bench(100).await;
    let other = tally(&bench.ledger, 2);
    for tally in [&bench.tally, &bench.tally, &other] {
        tally.keep(Some(&caller("p")), "b", 1_000_000_000);
        tally.book().await;
    }
    let clock = Arc::new(ManualClock::starting_at(NOW_MS + 3_600_000));
    let later = Ledger::new(bench.ledger.database().clone(), clock, "later", Options { credit_line_micro: Some(0) });
    let later = tally(&later, 3);
    later.keep(Some(&caller("p")), "b", 2_000_000_000);
    later.keep(Some(&caller("p")), "empty", 0);
    later.book().await;
    let shown: Vec<_> =
        bench.booked().await.iter().map(|record| (record.activity.clone(), record.units, record.paid_micro)).collect();
    let row = |bytes, micro| ("vector_keep".to_owned(), bytes, micro);
    assert_eq!(shown, [row(1_000_000_000, 3_000_000), row(2_000_000_000, 6_000_000)]);
}

#[tokio::test]
async fn nobody_in_particular_is_who_pays_where_there_are_no_accounts() {
    let bench = bench(1).await;
    bench.ledger.book(transaction("local", deposit("local", 1_000_000))).await.unwrap();
    bench.tally.add(None, "b", Activity::VectorWrite, 1);
    bench.tally.book().await;
    assert_eq!(bench.booked().await[0].project, "local");
}
