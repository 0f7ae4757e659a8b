//! A backup is the books at one moment, whoever writes meanwhile; what is restored from it goes on.

use ledger::{AccountId, SCHEMA};
use meta::{Database, Error, Place, Row as _, Schema};

use crate::support::{Fresh, deposit, ended, fresh, spent, transaction, wanted};

const SCHEMAS: [Schema; 2] = [meta::SCHEMA, SCHEMA];

async fn filled() -> Fresh {
    let fresh = fresh().await;
    let ledger = fresh.open("first", Some(0)).await;
    ledger.book(transaction("deposit", deposit("p", 1_000_000))).await.unwrap();
    ledger.reserve(wanted("open", "p", spent(10, 40), spent(1, 4))).await.unwrap();
    fresh
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_whole_and_goes_on_where_it_was_taken() {
    let fresh = filled().await;
    let ledger = fresh.open("spender", Some(0)).await;
    let (told, mut begun) = tokio::sync::mpsc::channel(1);
    let spender = {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            for index in 0..60 {
                let id = format!("r{index}");
                ledger.reserve(wanted(&id, "p", spent(10, 40), spent(1, 4))).await.unwrap();
                ledger.settle(&id, ended(spent(5, 20))).await.unwrap();
                let _ = told.try_send(());
            }
        })
    };
    begun.recv().await.unwrap();
    let file = fresh.folder().join("a backup.db");
    ledger.database().back_up(&file).await.unwrap();
    spender.await.unwrap();
    let again = ledger.database().back_up(&file).await;
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");

    let other = fresh_with_restored(&file).await;
    let restored = other.open("second", Some(0)).await;
    let audit = restored.audit().await.unwrap();
    assert_eq!(audit.findings, Vec::<String>::new());
    assert!(audit.transactions >= 5, "the deposit, two reservations, a settlement and an account: {audit:?}");
    restored.settle("open", ended(spent(10, 40))).await.unwrap();
    restored.book(transaction("later", deposit("p", 5))).await.unwrap();
    assert_eq!(restored.audit().await.unwrap().findings, Vec::<String>::new());
    let accounts = restored.accounts(Some("p")).await.unwrap();
    assert!(accounts.iter().any(|account| account.id == AccountId::prepaid("p")));
}

async fn fresh_with_restored(file: &std::path::Path) -> Fresh {
    let other = fresh().await;
    meta::restore(file, &other.place, &SCHEMAS).await.unwrap();
    let again = meta::restore(file, &other.place, &SCHEMAS).await;
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    other
}

#[tokio::test]
async fn a_backup_of_a_newer_program_and_what_is_none_are_refused_without_a_trace() {
    let fresh = filled().await;
    let file = fresh.folder().join("backup.db");
    fresh.open("me", Some(0)).await.database().back_up(&file).await.unwrap();
    let other = crate::support::fresh().await;
    let older = Schema { component: "ledger", steps: &SCHEMA.steps[..1] };
    let refused = meta::restore(&file, &other.place, &[meta::SCHEMA, older]).await;
    assert!(matches!(refused, Err(Error::NewerSchema { .. })), "{refused:?}");
    let refused = meta::restore(&file, &other.place, &[meta::SCHEMA]).await;
    assert!(matches!(refused, Err(Error::NewerSchema { known: 0, .. })), "{refused:?}");
    let none = fresh.folder().join("none.db");
    std::fs::write(&none, "a letter").unwrap();
    for file in [none, fresh.folder().join("missing.db")] {
        let refused = meta::restore(&file, &other.place, &SCHEMAS).await;
        let Err(error @ Error::Place { .. }) = refused else { panic!("{refused:?}") };
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
    meta::restore(&file, &other.place, &SCHEMAS).await.unwrap();
}

#[tokio::test]
async fn a_file_and_a_server_take_each_others_backups() {
    let fresh = filled().await;
    let (file, moved) = (fresh.folder().join("backup.db"), fresh.folder().join("moved.db"));
    fresh.open("me", Some(0)).await.database().back_up(&file).await.unwrap();
    let place = Place::File(moved);
    meta::restore(&file, &place, &SCHEMAS).await.unwrap();
    let database = Database::open(place, &SCHEMAS).await.unwrap();
    let mut connection = database.read().await.unwrap();
    let row = meta::query("SELECT COUNT(*) FROM ledger_reservations").fetch_one(&mut *connection).await.unwrap();
    assert_eq!(row.try_get::<i64, _>(0).unwrap(), 1);
}
