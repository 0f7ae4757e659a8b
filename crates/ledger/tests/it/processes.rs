//! Two processes on one database: what one spends, the other knows.

use std::process::{Command, Stdio};
use std::sync::Arc;

use futures::future::join_all;
use ledger::{Error, Ledger, Options, Period, SCHEMA, Scope};
use meta::{Database, Place};

use crate::support::{NOW_MS, deposit, ended, fresh, spent, transaction, wanted};

/// Says to a process of this test that it is one of the two, and which.
const WHICH: &str = "SAMPAN_TEST_SPENDER";
/// Where its database is.
const PLACE: &str = "SAMPAN_TEST_SPENDER_PLACE";
const SPENDERS: usize = 32;
/// Micro-dollars of the budget.
const BUDGET: i64 = 1_009;
/// What one request asks for at most.
const MOST: i64 = 7;

/// Spends until nothing is left, 32 at a time.
async fn spend(place: Place, which: &str) {
    let database = Database::open(place, &[meta::SCHEMA, SCHEMA]).await.unwrap();
    let clock = Arc::new(base::ManualClock::starting_at(NOW_MS));
    let ledger = Ledger::new(database, clock, which, Options { credit_line_micro: Some(0) });
    let spender = |index: usize| {
        let (ledger, which) = (ledger.clone(), which.to_owned());
        async move {
            for round in 0.. {
                let id = format!("{which}-{index}-{round}");
                // Ever less, so that the last micro-dollar is asked for as well.
                let asked = 1 + (index as i64 + round) % MOST;
                match ledger.reserve(wanted(&id, "p", spent(1, asked), spent(1, asked))).await {
                    Ok(_) => drop(ledger.settle(&id, ended(spent(1, asked))).await.unwrap()),
                    Err(Error::OverBudget { .. }) if asked == 1 => break,
                    Err(Error::OverBudget { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    join_all((0..SPENDERS).map(|index| tokio::spawn(spender(index)))).await.into_iter().for_each(|done| done.unwrap());
}

#[expect(clippy::disallowed_methods, reason = "the test starts itself again")]
#[tokio::test]
async fn sixty_four_spenders_in_two_processes_spend_a_budget_to_the_last_and_no_more() {
    if let (Ok(which), Ok(place)) = (std::env::var(WHICH), std::env::var(PLACE)) {
        return spend(Place::parse(&place).unwrap(), &which).await;
    }
    for (scope, period) in [(Scope::project("p"), Period::Day), (Scope::key("key-of-p"), Period::Month)] {
        shared(&scope, period).await;
    }
}

/// Two processes spend what one budget allows.
async fn shared(scope: &Scope, period: Period) {
    let fresh = fresh().await;
    let ledger = fresh.open("parent", Some(0)).await;
    ledger.book(transaction("first", deposit("p", 10 * BUDGET))).await.unwrap();
    ledger.set_budget(scope, period, Some(BUDGET)).await.unwrap();
    let place = match &fresh.place {
        Place::File(file) => file.display().to_string(),
        Place::Postgres(url) => url.clone(),
    };
    let name = "processes::sixty_four_spenders_in_two_processes_spend_a_budget_to_the_last_and_no_more";
    let start = |which: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name]).env(WHICH, which).env(PLACE, &place);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for child in ["one", "two"].map(start) {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the child ran its part");
    }
    assert_eq!(ledger.budgets().await.unwrap()[0].1, BUDGET);
    let audit = ledger.audit().await.unwrap();
    assert_eq!(audit.findings, Vec::<String>::new());
    assert!(audit.reservations > 64, "{audit:?}");
}
