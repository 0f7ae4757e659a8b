//! A grant from the application to its end.

use std::sync::Arc;

use base::SeededEntropy;
use ledger::calendar::DAY_MS;
use ledger::programme::{Application, Company, Decision, Programmes};
use ledger::{Error, Ledger};

use crate::support::{ended, fresh, spent, wanted};

fn application(project: &str, company: &str) -> Application {
    Application {
        programme: "catalyst".to_owned(),
        project: project.to_owned(),
        company: Company {
            name: company.to_owned(),
            founded: "2022-03-01".to_owned(),
            stage: "seed".to_owned(),
            country: "JP".to_owned(),
        },
        tokens: 4_000,
        micro: 8_000,
        note: "robots that fold sails".to_owned(),
    }
}

fn all_of_it() -> Decision {
    Decision { tokens: 4_000, micro: 8_000, reason: "good".to_owned() }
}

async fn programmes(ledger: &Ledger) -> Programmes {
    let programmes = Programmes::new(ledger.clone(), Arc::new(SeededEntropy::new(1)));
    programmes.first_start().await.unwrap();
    programmes.first_start().await.unwrap();
    programmes
}

async fn spend(ledger: &Ledger, id: &str, tokens: u64) {
    ledger.reserve(wanted(id, "p", spent(tokens, 10), spent(1, 1))).await.unwrap();
    ledger.settle(id, ended(spent(tokens, 10))).await.unwrap();
}

#[tokio::test]
async fn a_grant_comes_in_parts_warns_forecasts_and_can_be_taken_back() {
    let fresh = fresh().await;
    let ledger = fresh.open("me", Some(0)).await;
    let programmes = programmes(&ledger).await;
    let filed = programmes.file("founder", application("p", "Kite")).await.unwrap();
    let grant = programmes.grant("reviewer", &filed, all_of_it()).await.unwrap();
    let again = programmes.grant("reviewer", &filed, all_of_it()).await;
    assert!(matches!(again, Err(Error::State { what: "application", .. })), "{again:?}");
    let first = programmes.standing(&grant).await.unwrap();
    let left: Vec<(i64, i64)> = first.tranches.iter().map(|part| (part.tokens_left, part.micro_left)).collect();
    assert_eq!(left, [(1_000, 2_000), (0, 0), (0, 0)]);

    spend(&ledger, "a", 600).await;
    let alerts = programmes.watch().await.unwrap();
    assert_eq!((alerts.len(), alerts[0].percent, alerts[0].unit.as_str()), (1, 50, "token"));
    spend(&ledger, "b", 360).await;
    let percents: Vec<i64> = programmes.watch().await.unwrap().iter().map(|alert| alert.percent).collect();
    assert_eq!(percents, [80, 95]);
    assert!(programmes.watch().await.unwrap().is_empty());

    fresh.clock.advance_ms(2 * DAY_MS);
    programmes.release("reviewer", &grant, 2, "seen in the shop").await.unwrap();
    assert!(programmes.release("reviewer", &grant, 2, "again").await.is_err());
    assert!(matches!(programmes.release("reviewer", &grant, 9, "").await, Err(Error::Missing { .. })));
    let standing = programmes.standing(&grant).await.unwrap();
    assert_eq!(standing.burned.iter().map(|burn| burn.tokens).sum::<i64>(), 960);
    assert!(standing.used_up_ms.is_some());

    programmes.claw_back("auditor", &grant, "resold").await.unwrap();
    let refused = ledger.reserve(wanted("c", "p", spent(1, 1), spent(1, 1))).await;
    assert!(matches!(refused, Err(Error::Insufficient { .. })), "{refused:?}");
    assert!(programmes.release("reviewer", &grant, 3, "late").await.is_err());
    assert!(programmes.claw_back("auditor", &grant, "again").await.is_err());
    let end = programmes.standing(&grant).await.unwrap();
    let actions: Vec<(&str, &str)> =
        end.trail.iter().map(|event| (event.actor.as_str(), event.action.as_str())).collect();
    assert_eq!(
        actions,
        [
            ("founder", "application filed"),
            ("reviewer", "application granted"),
            ("reviewer", "tranche released"),
            ("reviewer", "tranche released"),
            ("auditor", "grant clawed back"),
        ]
    );
    assert_eq!(ledger.audit().await.unwrap().findings, Vec::<String>::new());
}

#[tokio::test]
async fn who_had_a_grant_or_asks_for_too_much_is_refused() {
    let fresh = fresh().await;
    let ledger = fresh.open("me", Some(0)).await;
    let programmes = programmes(&ledger).await;
    let filed = programmes.file("founder", application("p", "Kite")).await.unwrap();
    let second = programmes.file("founder", application("p", "Kite")).await.unwrap();
    programmes.grant("reviewer", &filed, all_of_it()).await.unwrap();
    let too_late = programmes.grant("reviewer", &second, all_of_it()).await;
    assert!(matches!(too_late, Err(Error::NotEligible { .. })), "{too_late:?}");
    programmes.reject("reviewer", &second, "one is enough").await.unwrap();
    for (project, company) in [("p", "Other"), ("q", " kite ")] {
        let refused = programmes.file("founder", application(project, company)).await;
        assert!(matches!(refused, Err(Error::NotEligible { .. })), "{refused:?}");
    }
    let much = Application { tokens: 2_000_000_001, ..application("q", "Other") };
    assert!(matches!(programmes.file("founder", much).await, Err(Error::Wrong { field: "tokens", .. })));
    let other = programmes.file("founder", application("q", "Other")).await.unwrap();
    let more = Decision { micro: 120_000_000_001, ..all_of_it() };
    assert!(matches!(programmes.grant("reviewer", &other, more).await, Err(Error::Wrong { field: "dollars", .. })));
    assert_eq!(programmes.applications().await.unwrap().len(), 3);
}
