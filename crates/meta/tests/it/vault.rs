use std::sync::Arc;

use base::{ManualClock, SeededEntropy};
use meta::{Database, Directory, Error, FIRST, NewPair, Scopes, VAULT_SCHEMA, Vault};

use crate::support::{Fresh, NOW_MS, fresh};

async fn opened(fresh: &Fresh) -> (Database, Arc<ManualClock>) {
    let database = Database::open(fresh.place.clone(), &[meta::SCHEMA, VAULT_SCHEMA]).await.unwrap();
    let clock = Arc::new(ManualClock::starting_at(NOW_MS));
    let directory = Directory::new(database.clone(), Arc::clone(&clock) as _, Arc::new(SeededEntropy::new(1)));
    directory.first_start().await.unwrap();
    (database, clock)
}

fn vault(database: &Database, clock: &Arc<ManualClock>, key: u8) -> Vault {
    let entropy = Arc::new(SeededEntropy::new(2));
    Vault::new(database.clone(), Arc::clone(clock) as _, entropy, &[key; meta::SEAL_KEY_BYTES])
}

fn wanted(expires_ms: Option<u64>) -> NewPair {
    let scopes = Scopes { buckets: vec!["films*".to_owned()], ..Scopes::default() };
    NewPair { project: FIRST.to_owned(), name: "arm".to_owned(), scopes, expires_ms }
}

#[tokio::test]
async fn a_pair_comes_back_until_it_is_revoked_or_over() {
    let fresh = fresh().await;
    let (database, clock) = opened(&fresh).await;
    let vault = vault(&database, &clock, 1);
    let shown = vault.new_pair("test", wanted(None)).await.unwrap();
    assert!(!format!("{shown:?}").contains(&shown.secret));
    let open = vault.pair(&shown.access_key).await.unwrap().unwrap();
    assert_eq!((&open.secret, &open.names), (&shown.secret, &[FIRST.to_owned(), "arm".to_owned()]));
    assert!(open.scopes.allows_bucket("films-2026") && !open.scopes.allows_bucket("other"));
    assert!(!format!("{open:?}").contains(&shown.secret));
    for unknown in ["", "SAMPAN", "AKIA", &shown.access_key.to_lowercase()] {
        assert!(vault.pair(unknown).await.unwrap().is_none(), "{unknown}");
    }
    let short = vault.new_pair("test", wanted(Some(NOW_MS + 1000))).await.unwrap();
    assert!(vault.pair(&short.access_key).await.unwrap().is_some());
    clock.advance_ms(1000);
    assert!(vault.pair(&short.access_key).await.unwrap().is_none());
    vault.revoke_pair("test", &shown.access_key).await.unwrap();
    assert!(vault.pair(&shown.access_key).await.unwrap().is_none());
    assert!(matches!(vault.revoke_pair("test", &shown.access_key).await, Err(Error::Missing { .. })));
    let listed = vault.pairs().await.unwrap();
    assert_eq!((listed.len(), listed[0].revoked_ms), (2, Some(NOW_MS + 1000)));
    let nowhere = NewPair { project: "nowhere".to_owned(), ..wanted(None) };
    assert!(matches!(vault.new_pair("test", nowhere).await, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn nothing_opens_without_the_key_and_nothing_lies_open() {
    let fresh = fresh().await;
    let (database, clock) = opened(&fresh).await;
    let (right, wrong) = (vault(&database, &clock, 1), vault(&database, &clock, 2));
    let shown = right.new_pair("test", wanted(None)).await.unwrap();
    right.keep("test", "openrouter", "sk-or-0123456789").await.unwrap();
    assert!(matches!(right.keep("test", "openrouter", "other").await, Err(Error::Exists { .. })));
    assert_eq!(right.secrets().await.unwrap(), [("openrouter".to_owned(), "sk-or-0123456789".to_owned())]);
    assert!(matches!(wrong.pair(&shown.access_key).await, Err(Error::Sealed)));
    assert!(matches!(wrong.secrets().await, Err(Error::Sealed)));
    // Who needs no secret needs no key.
    assert_eq!(wrong.secret_names().await.unwrap(), [("openrouter".to_owned(), NOW_MS)]);
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup.db");
    database.back_up(&backup).await.unwrap();
    let bytes = std::fs::read(&backup).unwrap();
    for secret in [shown.secret.as_bytes(), b"sk-or-0123456789"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "a secret lies open");
    }
    right.forget("test", "openrouter").await.unwrap();
    assert!(matches!(right.forget("test", "openrouter").await, Err(Error::Missing { .. })));
    for (name, secret) in [("", "x"), ("a", ""), ("a", "x".repeat(5000).as_str())] {
        assert!(matches!(right.keep("test", name, secret).await, Err(Error::Wrong { .. })), "{name}");
    }
}
