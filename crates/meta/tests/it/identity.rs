use std::sync::Arc;

use meta::{Actor, Directory, Error, FIRST, KeyFilter, NewKey, NewMember, Page, Role, Scopes};

use crate::support::{NOW_MS, directory, fresh};

fn machine() -> Actor {
    Actor::machine("test")
}

fn wanted(project: &str, name: &str) -> NewKey {
    let scopes = Scopes { models: vec!["qwen3*".to_owned()], ..Scopes::default() };
    NewKey { scopes, ..NewKey::plain(project, name, Role::Developer) }
}

/// Whoever bears a new key of this project, and its text.
async fn bearer(directory: &Directory, new: NewKey) -> (Actor, String) {
    let shown = directory.new_key(&machine(), new).await.unwrap();
    (Actor::bearer(Arc::new(directory.authenticate(&shown.text).await.unwrap())), shown.text)
}

async fn bearer_as(directory: &Directory, project: &str, role: Role) -> Actor {
    bearer(directory, NewKey::plain(project, "k", role)).await.0
}

#[tokio::test]
async fn the_first_start_makes_one_owner_and_no_second_one() {
    let fresh = fresh().await;
    let (directory, _) = directory(fresh.open().await);
    let shown = directory.first_start().await.unwrap().unwrap();
    assert!(directory.first_start().await.unwrap().is_none());
    let owner = directory.authenticate(&shown.text).await.unwrap();
    assert_eq!((owner.role, &*owner.key, owner.runs_place), (Role::Owner, shown.id.as_str(), true));
    let further = directory.new_owner_key().await.unwrap();
    assert_eq!(directory.authenticate(&further.text).await.unwrap().project, owner.project);
    assert!(!format!("{shown:?}").contains(&shown.text), "a key is not printed by accident");
    let members = directory.members(&machine(), None, &Page::default()).await.unwrap().items;
    assert_eq!((members.len(), members[0].role), (1, Role::Owner));
}

#[tokio::test]
async fn a_key_opens_what_it_says_until_it_is_revoked() {
    let fresh = fresh().await;
    let (directory, _) = directory(fresh.open().await);
    directory.first_start().await.unwrap();
    let project = directory.first_project().await.unwrap();
    let shown = directory.new_key(&machine(), wanted(&project, "laptop")).await.unwrap();
    let principal = directory.authenticate(&shown.text).await.unwrap();
    assert!(principal.scopes.allows_model("qwen3-0.6b") && !principal.scopes.allows_model("other"));
    // A write that answers comes after the one that noted the use.
    directory.new_key(&machine(), wanted(&project, "other")).await.unwrap();
    let listed = directory.keys(&machine(), &KeyFilter::default(), &Page::default()).await.unwrap().items;
    let key = listed.iter().find(|key| key.id == shown.id).unwrap();
    assert_eq!((key.name.as_str(), key.role, key.created_ms), ("laptop", Role::Developer, NOW_MS));
    assert_eq!((key.used_ms, key.project_name.as_str()), (Some(NOW_MS), FIRST));
    assert!(shown.text.ends_with(&key.hint));
    directory.revoke_key(&machine(), &shown.id).await.unwrap();
    assert!(matches!(directory.authenticate(&shown.text).await, Err(Error::Revoked { .. })));
    assert!(matches!(directory.revoke_key(&machine(), &shown.id).await, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn a_key_ends_with_its_time_its_project_or_its_organisation() {
    let fresh = fresh().await;
    let (directory, clock) = directory(fresh.open().await);
    directory.first_start().await.unwrap();
    let first = directory.find_organisation(FIRST).await.unwrap().id;
    let robots = directory.new_project(&machine(), &first, "robots").await.unwrap();
    assert!(matches!(directory.new_project(&machine(), &first, "robots").await, Err(Error::Exists { .. })));
    let short = NewKey { expires_ms: Some(NOW_MS + 1000), ..wanted(&robots, "short") };
    let past = NewKey { expires_ms: Some(NOW_MS), ..wanted(&robots, "past") };
    assert!(matches!(directory.new_key(&machine(), past).await, Err(Error::Wrong { field: "expires_ms", .. })));
    let (_, short) = bearer(&directory, short).await;
    let (_, arm) = bearer(&directory, wanted(&robots, "arm")).await;
    clock.advance_ms(1000);
    assert!(matches!(directory.authenticate(&short).await, Err(Error::Expired { .. })));
    directory.close_project(&machine(), &robots).await.unwrap();
    assert!(matches!(directory.authenticate(&arm).await, Err(Error::Closed { what: "project", .. })));
    assert!(matches!(directory.close_project(&machine(), &robots).await, Err(Error::Missing { .. })));
    assert!(directory.new_key(&machine(), wanted(&robots, "leg")).await.is_err());
    let other = directory.new_organisation(&machine(), "other").await.unwrap();
    let theirs = directory.new_project(&machine(), &other, "robots").await.unwrap();
    let (_, leg) = bearer(&directory, wanted(&theirs, "leg")).await;
    directory.close_organisation(&machine(), &other).await.unwrap();
    assert!(matches!(directory.authenticate(&leg).await, Err(Error::Closed { what: "organisation", .. })));
    assert!(directory.close_organisation(&machine(), &first).await.is_err(), "it runs the installation");
}

#[tokio::test]
async fn names_are_unique_in_an_organisation_and_ids_everywhere() {
    let fresh = fresh().await;
    let (directory, _) = directory(fresh.open().await);
    directory.first_start().await.unwrap();
    let first = directory.find_organisation(FIRST).await.unwrap().id;
    let other = directory.new_organisation(&machine(), "other").await.unwrap();
    assert!(matches!(directory.new_organisation(&machine(), "other").await, Err(Error::Exists { .. })));
    let ours = directory.new_project(&machine(), &first, "robots").await.unwrap();
    let theirs = directory.new_project(&machine(), &other, "robots").await.unwrap();
    assert_eq!(directory.find_project(&theirs).await.unwrap().organisation, other);
    let error = directory.find_project("robots").await.unwrap_err().to_string();
    assert!(error.contains(&ours) && error.contains(&theirs), "{error}");
    directory.close_project(&machine(), &ours).await.unwrap();
    assert_eq!(directory.find_project("robots").await.unwrap().id, theirs);
}

#[tokio::test]
async fn no_key_makes_one_that_does_more() {
    let fresh = fresh().await;
    let (directory, _) = directory(fresh.open().await);
    directory.first_start().await.unwrap();
    let first = directory.find_organisation(FIRST).await.unwrap().id;
    let (ours, theirs) = (
        directory.new_project(&machine(), &first, "a").await.unwrap(),
        directory.new_project(&machine(), &first, "b").await.unwrap(),
    );
    let refused = async |maker: &Actor, new: NewKey, word: &str| {
        let error = directory.new_key(maker, new).await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    };
    let admin = bearer_as(&directory, &ours, Role::Admin).await;
    refused(&admin, NewKey::plain(&ours, "k", Role::Owner), "the role owner").await;
    refused(&admin, NewKey::plain(&ours, "k", Role::Billing), "the role billing").await;
    directory.new_key(&admin, NewKey::plain(&theirs, "k", Role::Admin)).await.unwrap();
    let developer = bearer_as(&directory, &ours, Role::Developer).await;
    refused(&developer, NewKey::plain(&ours, "k", Role::Admin), "the role admin").await;
    refused(&developer, NewKey::plain(&theirs, "k", Role::Developer), "does not exist").await;
    directory.new_key(&developer, NewKey::plain(&ours, "k", Role::Viewer)).await.unwrap();
    let viewer = bearer_as(&directory, &ours, Role::Viewer).await;
    refused(&viewer, NewKey::plain(&ours, "k", Role::Viewer), "the role viewer").await;
    let scoped = NewKey { expires_ms: Some(NOW_MS + 1000), ..wanted(&ours, "scoped") };
    let (scoped, _) = bearer(&directory, scoped).await;
    refused(&scoped, NewKey::plain(&ours, "k", Role::Developer), "models reach further").await;
    refused(&scoped, wanted(&ours, "k"), "ends after its own end").await;
    directory.new_key(&scoped, NewKey { expires_ms: Some(NOW_MS + 999), ..wanted(&ours, "k") }).await.unwrap();
}

#[tokio::test]
async fn nobody_sees_or_changes_another_organisation() {
    let fresh = fresh().await;
    let (directory, _) = directory(fresh.open().await);
    directory.first_start().await.unwrap();
    let first = directory.find_organisation(FIRST).await.unwrap().id;
    let host = directory.first_project().await.unwrap();
    let other = directory.new_organisation(&machine(), "other").await.unwrap();
    let theirs = directory.new_project(&machine(), &other, "theirs").await.unwrap();
    let owner = bearer_as(&directory, &theirs, Role::Owner).await;
    let page = Page::default();
    assert_eq!(directory.organisations(&owner, &page).await.unwrap().items.len(), 1);
    assert_eq!(directory.projects(&owner, None, &page).await.unwrap().items[0].id, theirs);
    assert!(directory.projects(&owner, Some(&first), &page).await.unwrap().items.is_empty());
    assert!(directory.members(&owner, None, &page).await.unwrap().items.is_empty());
    assert_eq!(directory.keys(&owner, &KeyFilter::default(), &page).await.unwrap().items.len(), 1);
    let missing = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Missing { .. })), "{result:?}");
    missing(directory.close_project(&owner, &host).await);
    missing(directory.new_project(&owner, &first, "x").await.map(|_| ()));
    missing(directory.new_key(&owner, NewKey::plain(&host, "k", Role::Viewer)).await.map(|_| ()));
    let of_host = KeyFilter { project: Some(host.clone()), ..KeyFilter::default() };
    let hosts = directory.keys(&machine(), &of_host, &page).await.unwrap().items[0].id.clone();
    missing(directory.revoke_key(&owner, &hosts).await);
    let member = directory.members(&machine(), None, &page).await.unwrap().items[0].id.clone();
    missing(directory.change_member(&owner, &member, Role::Viewer).await);
    assert!(matches!(directory.new_organisation(&owner, "third").await, Err(Error::NotAllowed { .. })));
    // Whoever runs the place sees everything.
    let host = bearer_as(&directory, &host, Role::Admin).await;
    assert_eq!(directory.organisations(&host, &page).await.unwrap().items.len(), 2);
    directory.new_project(&host, &other, "helped").await.unwrap();
    let developer = bearer_as(&directory, &theirs, Role::Developer).await;
    assert_eq!(directory.projects(&developer, None, &page).await.unwrap().items.len(), 1);
    assert!(matches!(directory.members(&developer, None, &page).await, Err(Error::NotAllowed { .. })));
}

#[tokio::test]
async fn members_join_change_and_go_and_one_owner_stays() {
    let fresh = fresh().await;
    let (directory, _) = directory(fresh.open().await);
    directory.first_start().await.unwrap();
    let first = directory.find_organisation(FIRST).await.unwrap().id;
    let new = |email: &str, role| NewMember {
        organisation: first.clone(),
        name: "Ann".to_owned(),
        email: Some(email.to_owned()),
        role,
    };
    let ann = directory.new_member(&machine(), new("Ann@example.org", Role::Viewer)).await.unwrap();
    assert!(matches!(
        directory.new_member(&machine(), new("ann@example.org", Role::Viewer)).await,
        Err(Error::Exists { .. })
    ));
    for email in ["ann", "@example.org", "a b@example.org", "a@b@example.org", "ann@host"] {
        assert!(directory.new_member(&machine(), new(email, Role::Viewer)).await.is_err(), "{email}");
    }
    let admin = bearer_as(&directory, &directory.first_project().await.unwrap(), Role::Admin).await;
    assert!(matches!(directory.change_member(&admin, &ann, Role::Owner).await, Err(Error::NotAllowed { .. })));
    directory.change_member(&admin, &ann, Role::Developer).await.unwrap();
    let listed = directory.members(&admin, Some(&first), &Page::default()).await.unwrap().items;
    let owner = listed.iter().find(|member| member.role == Role::Owner).unwrap().id.clone();
    assert!(matches!(directory.remove_member(&admin, &owner).await, Err(Error::NotAllowed { .. })));
    assert!(matches!(directory.remove_member(&machine(), &owner).await, Err(Error::Wrong { .. })));
    directory.change_member(&machine(), &ann, Role::Owner).await.unwrap();
    directory.remove_member(&machine(), &owner).await.unwrap();
    assert!(matches!(directory.remove_member(&machine(), &owner).await, Err(Error::Missing { .. })));
    let (principal, session) = directory.sign_in_as("ANN@example.org").await.unwrap();
    assert_eq!((principal.role, &*principal.key), (Role::Owner, ann.as_str()));
    assert_eq!(directory.authenticate_session(&session.shown.text).await.unwrap(), principal);
}

#[tokio::test]
async fn a_session_ends_with_its_time_its_key_or_its_end() {
    let fresh = fresh().await;
    let (directory, clock) = directory(fresh.open().await);
    let shown = directory.first_start().await.unwrap().unwrap();
    let (principal, session) = directory.sign_in(&shown.text).await.unwrap();
    assert_eq!(directory.authenticate_session(&session.shown.text).await.unwrap(), principal);
    assert_eq!(principal, directory.authenticate(&shown.text).await.unwrap());
    let ended = |result: Result<meta::Principal, Error>| assert!(matches!(result, Err(Error::UnknownSession)));
    for text in ["", "ss-sampan-", &shown.text, &session.shown.text[1..]] {
        ended(directory.authenticate_session(text).await);
    }
    directory.sign_out(&session.shown.text).await.unwrap();
    ended(directory.authenticate_session(&session.shown.text).await);
    let (_, session) = directory.sign_in(&shown.text).await.unwrap();
    clock.advance_ms(meta::SESSION_MS);
    ended(directory.authenticate_session(&session.shown.text).await);
    let (_, session) = directory.sign_in(&shown.text).await.unwrap();
    directory.revoke_key(&machine(), &shown.id).await.unwrap();
    assert!(matches!(directory.authenticate_session(&session.shown.text).await, Err(Error::Revoked { .. })));
    assert!(directory.sign_in(&shown.text).await.is_err());
}

#[tokio::test]
async fn lists_come_in_pages_that_miss_and_repeat_nothing() {
    let fresh = fresh().await;
    let (directory, _) = directory(fresh.open().await);
    directory.first_start().await.unwrap();
    let first = directory.find_organisation(FIRST).await.unwrap().id;
    for n in 0..7 {
        directory.new_project(&machine(), &first, &format!("p{n}")).await.unwrap();
    }
    let all = directory.projects(&machine(), None, &Page::default()).await.unwrap();
    assert!(!all.has_more && all.items.len() == 8);
    let mut seen = Vec::new();
    let mut page = Page { after: None, limit: 3 };
    loop {
        let found = directory.projects(&machine(), None, &page).await.unwrap();
        page.after = found.items.last().map(|project| project.id.clone());
        seen.extend(found.items);
        if !found.has_more {
            break;
        }
    }
    assert_eq!(seen, all.items);
    for limit in [0, 1001] {
        let refused = directory.projects(&machine(), None, &Page { after: None, limit }).await;
        assert!(matches!(refused, Err(Error::Wrong { field: "limit", .. })));
    }
}

#[tokio::test]
async fn what_is_no_key_opens_nothing() {
    let fresh = fresh().await;
    let (directory, _) = directory(fresh.open().await);
    directory.first_start().await.unwrap();
    let first = directory.find_organisation(FIRST).await.unwrap().id;
    let never_made = format!("sk-sampan-{}", "0".repeat(64));
    for text in ["", "sk-sampan-", "' OR '1'='1", "sk-sampan-'; DROP TABLE keys; --", "\0", &never_made] {
        assert!(matches!(directory.authenticate(text).await, Err(Error::UnknownKey)), "{text:?}");
    }
    for name in ["", "two\nlines", &"x".repeat(200)] {
        assert!(matches!(directory.new_project(&machine(), &first, name).await, Err(Error::Wrong { .. })), "{name:?}");
    }
    let hostile = "'); DROP TABLE keys; --";
    directory.new_project(&Actor::machine(hostile), &first, hostile).await.unwrap();
    let projects = directory.projects(&machine(), None, &Page::default()).await.unwrap().items;
    assert!(projects.iter().any(|project| project.name == hostile));
    assert_eq!(directory.keys(&machine(), &KeyFilter::default(), &Page::default()).await.unwrap().items.len(), 1);
}
