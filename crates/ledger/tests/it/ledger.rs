//! Reserve, settle, release in the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::join_all;
use ledger::limit::{Holder, Limit, Measure};
use ledger::usage::{By, Filter, records, totals};
use ledger::{AccountId, Error, Operation, Period, Scope, Unit};

use crate::support::{NOW_MS, deposit, ended, fresh, spent, transaction, wanted};

async fn balance(ledger: &ledger::Ledger, id: &AccountId) -> i64 {
    ledger.accounts(None).await.unwrap().into_iter().find(|account| account.id == *id).unwrap().balance
}

async fn audit(ledger: &ledger::Ledger) {
    assert_eq!(ledger.audit().await.unwrap().findings, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_reserved_is_settled_once_and_the_rest_comes_back() {
    let fresh = fresh().await;
    let ledger = fresh.open("me", Some(0)).await;
    let paid = transaction("first", deposit("p", 1_000));
    ledger.book(paid.clone()).await.unwrap();
    assert!(ledger.book(paid).await.unwrap().is_replay);
    let other = ledger.book(transaction("first", deposit("p", 2_000))).await;
    assert!(matches!(other, Err(Error::State { .. })), "{other:?}");
    let mark = ledger.reserve(wanted("r", "p", spent(100, 400), spent(1, 4))).await.unwrap();
    ledger.durable(mark).await.unwrap();
    assert_eq!(balance(&ledger, &AccountId::prepaid("p")).await, 600);
    let refused = ledger.reserve(wanted("s", "p", spent(100, 601), spent(1, 4))).await;
    assert!(matches!(refused, Err(Error::Insufficient { .. })), "{refused:?}");
    let first = ledger.settle("r", ended(spent(30, 120))).await.unwrap();
    let again = ledger.settle("r", ended(spent(90, 390))).await.unwrap();
    assert_eq!((first.value_micro, again.value_micro), (120, 120));
    assert!(ledger.release("r").await.is_err());
    ledger.reserve(wanted("u", "p", spent(100, 880), spent(1, 4))).await.unwrap();
    ledger.release("u").await.unwrap();
    ledger.release("u").await.unwrap();
    assert_eq!(balance(&ledger, &AccountId::prepaid("p")).await, 880);
    assert!(matches!(ledger.settle("never", ended(spent(1, 1))).await, Err(Error::Missing { .. })));
    let kept = records(ledger.database(), &Filter::default(), None, 10).await.unwrap();
    assert_eq!(
        (kept.len(), kept[0].tokens_out, kept[0].price_micro, kept[0].outcome.as_str()),
        (1, 30, 120, "finished")
    );
    let days = totals(ledger.database(), &Filter::default(), By::Day).await.unwrap();
    assert_eq!((days.len(), days[0].requests, days[0].price_micro), (1, 1, 120));
    audit(&ledger).await;
}

#[tokio::test]
async fn an_end_that_somebody_else_has_booked_is_read_and_changes_nothing() {
    let fresh = fresh().await;
    // Each remembers what it reserved itself, and nothing of the other.
    let (here, there) = (fresh.open("here", Some(0)).await, fresh.open("there", Some(0)).await);
    here.book(transaction("first", deposit("p", 1_000))).await.unwrap();
    let most = spent(100, 100);
    for id in ["settled", "released", "taken", "left"] {
        here.reserve(wanted(id, "p", most, most)).await.unwrap();
    }
    let charge = there.settle("settled", ended(spent(50, 40))).await.unwrap();
    assert_eq!(charge.value_micro, 40);
    there.release("released").await.unwrap();
    assert_eq!(here.settle("settled", ended(spent(90, 90))).await.unwrap().value_micro, 40);
    let refused = here.settle("released", ended(spent(90, 90))).await;
    assert!(matches!(refused, Err(Error::State { .. })), "{refused:?}");
    // More than was reserved is read, too: the accounts have to pay for it.
    assert_eq!(here.settle("taken", ended(spent(120, 120))).await.unwrap().value_micro, 110);
    here.release("left").await.unwrap();
    here.release("left").await.unwrap();
    there.release("left").await.unwrap();
    let prepaid = here.accounts(Some("p")).await.unwrap().into_iter().find(|account| account.id.pays()).unwrap();
    assert_eq!(prepaid.balance, 1_000 - 40 - 110);
    assert_eq!(here.audit().await.unwrap().findings, Vec::<String>::new());
}

#[tokio::test]
async fn what_tokens_cannot_pay_is_paid_in_money() {
    let fresh = fresh().await;
    let ledger = fresh.open("me", Some(0)).await;
    ledger.book(transaction("first", deposit("p", 1_000))).await.unwrap();
    let account = AccountId::grant("one", Unit::Token);
    let (project, expires_ms) = ("p".to_owned(), None);
    let grant = Operation::Grant { account, project, amount: 100, starts_ms: 0, expires_ms };
    ledger.book(transaction("grant", grant)).await.unwrap();
    ledger.reserve(wanted("r", "p", spent(100, 400), spent(1, 4))).await.unwrap();
    // It cost something and had no tokens: the grant that was reserved pays nothing, the deposit does.
    let charge = ledger.settle("r", ended(spent(0, 10))).await.unwrap();
    assert_eq!((charge.paid_tokens, charge.paid_micro, charge.written_off_micro), (0, 10, 0));
    assert_eq!(balance(&ledger, &AccountId::prepaid("p")).await, 990);
    audit(&ledger).await;
}

#[tokio::test]
async fn without_a_limit_everything_is_counted_and_nothing_refused() {
    let fresh = fresh().await;
    let ledger = fresh.open("me", None).await;
    ledger.reserve(wanted("r", "p", spent(100, 400), spent(1, 4))).await.unwrap();
    ledger.settle("r", ended(spent(100, 400))).await.unwrap();
    assert_eq!(balance(&ledger, &AccountId::prepaid("p")).await, -400);
    audit(&ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_spenders_never_spend_one_more_than_there_is() {
    let fresh = fresh().await;
    // Two processes, as far as the database sees; on a file the second one waits for its turn.
    let ledgers = [fresh.open("one", Some(0)).await, fresh.open("other", Some(0)).await];
    ledgers[0].book(transaction("first", deposit("p", 1_000))).await.unwrap();
    ledgers[0].set_budget(&Scope::project("p"), Period::Day, Some(777)).await.unwrap();
    let spent_micro = Arc::new(AtomicI64::new(0));
    let spender = |index: usize| {
        let (ledger, spent_micro) = (ledgers[index % 2].clone(), Arc::clone(&spent_micro));
        async move {
            for round in 0..8 {
                let id = format!("{index}-{round}");
                match ledger.reserve(wanted(&id, "p", spent(1, 10), spent(1, 1))).await {
                    Ok(_) => {
                        let charge = ledger.settle(&id, ended(spent(1, 3 + round))).await.unwrap();
                        spent_micro.fetch_add(charge.value_micro, Ordering::SeqCst);
                    }
                    Err(Error::OverBudget { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    join_all((0..64).map(|index| tokio::spawn(spender(index)))).await.into_iter().for_each(|done| done.unwrap());
    let spent_micro = spent_micro.load(Ordering::SeqCst);
    assert!((767..=777).contains(&spent_micro), "{spent_micro}");
    let budgets = ledgers[1].budgets().await.unwrap();
    assert_eq!(budgets[0].1, spent_micro);
    assert_eq!(balance(&ledgers[0], &AccountId::prepaid("p")).await, 1_000 - spent_micro);
    audit(&ledgers[0]).await;
}

#[tokio::test]
async fn a_budget_holds_across_restarts_and_counts_what_was_used_before_it() {
    let fresh = fresh().await;
    let ledger = fresh.open("one", None).await;
    ledger.reserve(wanted("r", "p", spent(1, 60), spent(1, 1))).await.unwrap();
    ledger.settle("r", ended(spent(1, 60))).await.unwrap();
    ledger.set_budget(&Scope::key("key-of-p"), Period::Month, Some(100)).await.unwrap();
    drop(ledger);
    let ledger = fresh.open("two", None).await;
    let refused = ledger.reserve(wanted("s", "p", spent(1, 41), spent(1, 1))).await;
    assert!(matches!(&refused, Err(error @ Error::OverBudget { .. }) if error.to_string().contains("monthly")));
    ledger.reserve(wanted("s", "p", spent(1, 40), spent(1, 1))).await.unwrap();
    // November ends: the window of the reservation stays its own.
    fresh.clock.advance_ms(20 * ledger::calendar::DAY_MS);
    ledger.settle("s", ended(spent(1, 10))).await.unwrap();
    assert_eq!(ledger.budgets().await.unwrap()[0].1, 0);
    ledger.reserve(wanted("t", "p", spent(1, 100), spent(1, 1))).await.unwrap();
    assert!(ledger.reserve(wanted("u", "p", spent(1, 1), spent(1, 1))).await.is_err());
    audit(&ledger).await;
}

#[tokio::test]
async fn what_a_dead_process_left_open_is_charged_as_it_was_noted() {
    let fresh = fresh().await;
    let dead = fresh.open("dead", Some(0)).await;
    dead.book(transaction("first", deposit("p", 1_000))).await.unwrap();
    dead.sweep().await.unwrap();
    for id in ["r", "s"] {
        dead.reserve(wanted(id, "p", spent(100, 400), spent(10, 40))).await.unwrap();
    }
    dead.note("s", spent(50, 200)).await.unwrap();
    let heir = fresh.open("heir", Some(0)).await;
    assert_eq!(heir.sweep().await.unwrap().interrupted, 0);
    fresh.clock.advance_ms(ledger::DEAD_AFTER_MS + 1);
    assert_eq!(heir.sweep().await.unwrap().interrupted, 2);
    assert_eq!(heir.sweep().await.unwrap().interrupted, 0);
    assert_eq!(balance(&heir, &AccountId::prepaid("p")).await, 760);
    // It was not dead after all: what it tells changes nothing any more.
    assert_eq!(dead.settle("s", ended(spent(60, 240))).await.unwrap().value_micro, 200);
    let kept = records(heir.database(), &Filter::default(), None, 10).await.unwrap();
    assert!(kept.iter().all(|record| record.outcome == "interrupted"));
    audit(&heir).await;
}

#[tokio::test]
async fn grants_end_and_are_taken_back_with_what_comes_back_later() {
    let fresh = fresh().await;
    let ledger = fresh.open("me", Some(0)).await;
    let grant = |name: &str| Operation::Grant {
        account: AccountId::grant(name, Unit::Token),
        project: "p".to_owned(),
        amount: 1_000,
        starts_ms: 0,
        expires_ms: Some(NOW_MS + 5_000),
    };
    for name in ["one", "two"] {
        ledger.book(transaction(name, grant(name))).await.unwrap();
    }
    ledger.reserve(wanted("r", "p", spent(1_500, 99), spent(1, 1))).await.unwrap();
    let claw = Operation::ClawBack { account: AccountId::grant("two", Unit::Token) };
    ledger.book(transaction("claw", claw)).await.unwrap();
    assert!(ledger.reserve(wanted("s", "p", spent(1, 1), spent(1, 1))).await.is_err());
    let charge = ledger.settle("r", ended(spent(1_100, 70))).await.unwrap();
    assert_eq!((charge.paid_tokens, charge.paid_micro, charge.value_micro), (1_100, 0, 70));
    assert_eq!(ledger.sweep().await.unwrap().ended_grants, 1);
    fresh.clock.advance_ms(5_000);
    ledger.sweep().await.unwrap();
    assert_eq!(balance(&ledger, &AccountId::grant("two", Unit::Token)).await, 0);
    assert_eq!(balance(&ledger, &AccountId::parse("house:clawed-back:token").unwrap()).await, 900);
    audit(&ledger).await;
}

#[tokio::test]
async fn an_audit_sees_what_somebody_changed_behind_its_back() {
    let fresh = fresh().await;
    let ledger = fresh.open("me", Some(0)).await;
    ledger.book(transaction("first", deposit("p", 1_000))).await.unwrap();
    ledger.reserve(wanted("r", "p", spent(100, 400), spent(10, 40))).await.unwrap();
    ledger.settle("r", ended(spent(10, 40))).await.unwrap();
    audit(&ledger).await;
    for (change, finding) in [
        ("UPDATE ledger_accounts SET balance = balance + 1 WHERE id = 'prepaid:p:micro'", "a balance is not"),
        ("UPDATE ledger_entries SET amount = amount - 1 WHERE account = 'house:cash:micro'", "do not sum to zero"),
        ("UPDATE ledger_reservations SET value_micro = 441", "more than the overrun"),
        ("UPDATE usage_hours SET price_micro = 0", "the hours do not"),
        ("DELETE FROM ledger_transactions WHERE name = 'settle:r'", "no transaction ended it"),
    ] {
        let changed = ledger.database().write(move |connection| {
            Box::pin(async move { meta::query(change).execute(connection).await.map_err(meta::Error::from) })
        });
        changed.await.unwrap();
        let findings = ledger.audit().await.unwrap().findings;
        assert!(findings.iter().any(|found| found.contains(finding)), "{finding}: {findings:?}");
    }
}

#[tokio::test]
async fn limits_stand_with_the_accounts() {
    let fresh = fresh().await;
    let ledger = fresh.open("one", None).await;
    let limit = |text| Limit::parse(text).unwrap();
    for text in ["key:*=requests:60", "model:m=concurrent:2", "key:*=requests:70:7"] {
        ledger.set_limit(limit(text)).await.unwrap();
    }
    assert_eq!(ledger.limits().await.unwrap(), [limit("key:*=requests:70:7"), limit("model:m=concurrent:2")]);
    let each = Holder::parse("key:*").unwrap();
    ledger.lift_limit(&each, Measure::Requests).await.unwrap();
    let again = ledger.lift_limit(&each, Measure::Requests).await.unwrap_err();
    assert_eq!(again.to_string(), "limit \"key:* requests\" does not exist");
    assert_eq!(ledger.limits().await.unwrap().len(), 1);
}
