//! Requests that are booked at the same time: each has its own end, whatever becomes of the others.

use futures::future::join_all;
use ledger::{AccountId, Error};

use crate::support::{deposit, ended, fresh, spent, transaction, wanted};

#[tokio::test]
async fn whoever_is_refused_refuses_nobody_else() {
    let fresh = fresh().await;
    let ledger = fresh.open("me", Some(0)).await;
    ledger.book(transaction("paid", deposit("p", 100))).await.unwrap();
    let ask = |index: usize| {
        // Of every three one has nothing at all, and the last asks for what another one has asked for already.
        let (id, project) = (format!("r{}", index.min(13)), if index.is_multiple_of(3) { "poor" } else { "p" });
        let ledger = &ledger;
        async move { ledger.reserve(wanted(&id, project, spent(1, 30), spent(1, 1))).await }
    };
    let asked = join_all((0..15).map(ask)).await;
    let made: Vec<usize> = (0..14).filter(|&index| asked[index].is_ok()).collect();
    assert_eq!(made.len(), 3, "{asked:?}");
    assert_eq!(asked[13].is_ok(), asked[14].is_ok(), "{asked:?}");
    let refused = asked.iter().filter(|one| matches!(one, Err(Error::Insufficient { .. }))).count();
    assert_eq!(refused, asked.iter().filter(|one| one.is_err()).count(), "{asked:?}");
    let ids: Vec<String> = made.iter().map(|index| format!("r{index}")).collect();
    let settled = join_all(ids.iter().map(|id| ledger.settle(id, ended(spent(1, 20))))).await;
    assert!(settled.iter().all(|one| one.as_ref().is_ok_and(|charge| charge.value_micro == 20)), "{settled:?}");
    let accounts = ledger.accounts(Some("p")).await.unwrap();
    let left = accounts.iter().find(|account| account.id == AccountId::prepaid("p")).unwrap().balance;
    assert_eq!(left, 40);
    assert_eq!(ledger.audit().await.unwrap().findings, Vec::<String>::new());
}

#[tokio::test]
async fn what_another_process_has_ended_is_not_ended_again_with_the_others() {
    let fresh = fresh().await;
    let (here, there) = (fresh.open("here", Some(0)).await, fresh.open("there", Some(0)).await);
    here.book(transaction("paid", deposit("p", 1_000))).await.unwrap();
    let ids: Vec<String> = (0..8).map(|index| format!("r{index}")).collect();
    let reserve = |id: &String| here.reserve(wanted(id, "p", spent(1, 100), spent(1, 1)));
    join_all(ids.iter().map(reserve)).await.into_iter().for_each(|made| assert!(made.is_ok()));
    there.settle("r1", ended(spent(1, 60))).await.unwrap();
    there.release("r2").await.unwrap();
    let settled = join_all(ids.iter().map(|id| here.settle(id, ended(spent(1, 10))))).await;
    for (id, settled) in ids.iter().zip(&settled) {
        match (id.as_str(), settled) {
            ("r1", Ok(charge)) => assert_eq!(charge.value_micro, 60),
            ("r2", Err(Error::State { .. })) => {}
            (_, Ok(charge)) if id != "r2" => assert_eq!(charge.value_micro, 10),
            (id, settled) => panic!("{id}: {settled:?}"),
        }
    }
    let audit = here.audit().await.unwrap();
    assert_eq!((audit.findings, audit.reservations), (Vec::<String>::new(), 8));
}
