use meta::{Error, FIRST, NewKey, Role, Scopes};

use crate::support::{NOW_MS, directory, fresh};

fn wanted(name: &str) -> NewKey {
    let scopes = Scopes { models: vec!["qwen3*".to_owned()], ..Scopes::default() };
    NewKey { project: FIRST.to_owned(), name: name.to_owned(), role: Role::Developer, scopes, expires_ms: None }
}

#[tokio::test]
async fn the_first_start_makes_one_owner_and_no_second_one() {
    let fresh = fresh().await;
    let (directory, _) = directory(fresh.open().await);
    let shown = directory.first_start().await.unwrap().unwrap();
    assert!(directory.first_start().await.unwrap().is_none());
    let owner = directory.authenticate(&shown.text).await.unwrap();
    assert_eq!((owner.role, &*owner.key), (Role::Owner, shown.id.as_str()));
    let further = directory.new_owner_key().await.unwrap();
    assert_eq!(directory.authenticate(&further.text).await.unwrap().project, owner.project);
    assert!(!format!("{shown:?}").contains(&shown.text), "a key is not printed by accident");
}

#[tokio::test]
async fn a_key_opens_what_it_says_until_it_is_revoked() {
    let fresh = fresh().await;
    let (directory, _) = directory(fresh.open().await);
    directory.first_start().await.unwrap();
    let shown = directory.new_key("test", wanted("laptop")).await.unwrap();
    let principal = directory.authenticate(&shown.text).await.unwrap();
    assert!(principal.scopes.allows_model("qwen3-0.6b") && !principal.scopes.allows_model("other"));
    let listed = directory.keys().await.unwrap();
    let key = listed.iter().find(|key| key.id == shown.id).unwrap();
    assert_eq!((key.name.as_str(), key.role, key.created_ms), ("laptop", Role::Developer, NOW_MS));
    assert!(shown.text.ends_with(&key.hint));
    directory.revoke_key("test", &shown.id).await.unwrap();
    assert!(matches!(directory.authenticate(&shown.text).await, Err(Error::Revoked { .. })));
    assert!(matches!(directory.revoke_key("test", &shown.id).await, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn a_key_ends_with_its_time_or_its_project() {
    let fresh = fresh().await;
    let (directory, clock) = directory(fresh.open().await);
    directory.first_start().await.unwrap();
    directory.new_project("test", "robots").await.unwrap();
    assert!(matches!(directory.new_project("test", "robots").await, Err(Error::Exists { .. })));
    let short = NewKey { expires_ms: Some(NOW_MS + 1000), ..wanted("short") };
    let short = directory.new_key("test", short).await.unwrap();
    let other = NewKey { project: "robots".to_owned(), ..wanted("arm") };
    let other = directory.new_key("test", other).await.unwrap();
    let first = directory.authenticate(&short.text).await.unwrap();
    assert_ne!(first.project, directory.authenticate(&other.text).await.unwrap().project);
    clock.advance_ms(1000);
    assert!(matches!(directory.authenticate(&short.text).await, Err(Error::Expired { .. })));
    directory.close_project("test", "robots").await.unwrap();
    assert!(matches!(directory.authenticate(&other.text).await, Err(Error::Closed { what: "project", .. })));
    assert!(directory.new_key("test", NewKey { project: "robots".to_owned(), ..wanted("leg") }).await.is_err());
}

#[tokio::test]
async fn what_is_no_key_opens_nothing() {
    let fresh = fresh().await;
    let (directory, _) = directory(fresh.open().await);
    directory.first_start().await.unwrap();
    let never_made = format!("sk-sampan-{}", "0".repeat(64));
    for text in ["", "sk-sampan-", "' OR '1'='1", "sk-sampan-'; DROP TABLE keys; --", "\0", &never_made] {
        assert!(matches!(directory.authenticate(text).await, Err(Error::UnknownKey)), "{text:?}");
    }
    for name in ["", "two\nlines", &"x".repeat(200)] {
        assert!(matches!(directory.new_project("test", name).await, Err(Error::Wrong { .. })), "{name:?}");
    }
    let hostile = "'); DROP TABLE keys; --";
    directory.new_project(hostile, hostile).await.unwrap();
    assert!(directory.projects().await.unwrap().iter().any(|project| project.name == hostile));
    assert_eq!(directory.keys().await.unwrap().len(), 1);
}
