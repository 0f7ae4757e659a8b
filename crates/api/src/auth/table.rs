//! Every method of every route, asked with every key that must not open it.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use base::{ManualClock, SeededEntropy};
use chat::testing::Scripted;
use meta::{Actor, Database, Directory, NewKey, Place, Role, SCHEMA, Scopes};
use serde_json::Value;
use tower::ServiceExt as _;

use super::Dialect;
use super::rules::tests::routes;
use super::rules::{Found, Rule, of};
use crate::{App, router};

const NOW_MS: u64 = 1_700_000_000_000;
/// Bytes of a refusal.
const REFUSAL_BYTES_MAX: usize = 1 << 16;

/// A server, its directory, and a project of the organisation that runs it and of another.
struct Office {
    router: Router,
    directory: Directory,
    host: String,
    other: String,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl Office {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(Place::File(folder.path().join("meta.db")), &[SCHEMA]).await.unwrap();
        let clock = Arc::new(ManualClock::starting_at(NOW_MS));
        let directory = Directory::new(database, Arc::clone(&clock) as _, Arc::new(SeededEntropy::new(3)));
        directory.first_start().await.unwrap();
        let host = directory.first_project().await.unwrap();
        let organisation = directory.new_organisation(&machine(), "other").await.unwrap();
        let other = directory.new_project(&machine(), &organisation, "theirs").await.unwrap();
        let app = App::new(Arc::new(Scripted::new("m", Vec::new())), Arc::clone(&clock) as _, 1);
        let router = router(Arc::new(app.with_accounts(directory.clone())));
        Self { router, directory, host, other, clock, _folder: folder }
    }

    async fn key(&self, new: NewKey) -> String {
        self.directory.new_key(&machine(), new).await.unwrap().text
    }

    async fn ours(&self, role: Role) -> String {
        self.key(NewKey::plain(&self.host, "k", role)).await
    }

    async fn theirs(&self, role: Role) -> String {
        self.key(NewKey::plain(&self.other, "k", role)).await
    }

    async fn ask(&self, method: &Method, route: &str, key: Option<&str>) -> (StatusCode, Body) {
        let mut request = Request::builder().method(method).uri(address(route)).header("host", "localhost");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.header("content-type", "application/json").body(Body::from("{}")).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        (answer.status(), answer.into_body())
    }

    /// Asks everything that has such a rule, and expects a refusal in the dialect's own form each time.
    async fn refused(&self, who: &str, key: Option<&str>, status: u16, falls: impl Fn(Rule) -> bool) {
        let mut asked = 0;
        for (method, route) in routes() {
            let Found::Rule(rule) = of(&method, &route) else { panic!("{method} {route} has no rule") };
            if !falls(rule) {
                continue;
            }
            asked += 1;
            let (found, body) = self.ask(&method, &route, key).await;
            assert_eq!(found.as_u16(), status, "{who}: {method} {route}");
            let body = to_bytes(body, REFUSAL_BYTES_MAX).await.unwrap();
            if method == Method::HEAD {
                continue;
            }
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert!(is_worded(Dialect::of(&address(&route), &HeaderMap::new()), &body), "{who}: {route}: {body}");
            assert!(key.is_none_or(|key| !body.to_string().contains(key)), "{who}: {route} shows the key");
        }
        assert!(asked > 0, "{who}: no route falls under it");
    }
}

fn machine() -> Actor {
    Actor::machine("test")
}

/// An address of a route.
fn address(route: &str) -> String {
    route.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/")
}

/// Whether a refusal has the dialect's own form.
fn is_worded(dialect: Dialect, body: &Value) -> bool {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    match dialect {
        Dialect::OpenAi => text("/error/message") && text("/error/type"),
        Dialect::Anthropic => body["type"] == "error" && text("/error/type") && text("/error/message"),
        Dialect::Ollama => text("/error"),
        Dialect::Cohere => text("/message"),
        Dialect::DashScope => text("/code") && text("/message") && text("/request_id"),
        Dialect::S3Vectors | Dialect::Admin => text("/error/message"),
    }
}

/// Whether a key is asked for.
fn needs_key(rule: Rule) -> bool {
    !matches!(rule, Rule::Public | Rule::Signed)
}

#[tokio::test]
async fn what_is_no_good_key_opens_no_route() {
    let office = Office::new().await;
    let plain = || NewKey::plain(&office.host, "k", Role::Owner);
    let revoked = office.directory.new_key(&machine(), plain()).await.unwrap();
    office.directory.revoke_key(&machine(), &revoked.id).await.unwrap();
    let expired = office.key(NewKey { expires_ms: Some(NOW_MS + 1), ..plain() }).await;
    office.clock.advance_ms(1);
    let unknown = format!("sk-sampan-{}", "0".repeat(64));
    office.refused("no key", None, 401, needs_key).await;
    for (who, key) in [("unknown", &unknown), ("revoked", &revoked.text), ("expired", &expired)] {
        office.refused(who, Some(key), 401, needs_key).await;
    }
    let signed = routes().into_iter().filter(|(method, route)| of(method, route) == Found::Rule(Rule::Signed));
    for (method, route) in signed {
        assert!(!office.ask(&method, &route, None).await.0.is_success(), "{method} {route}");
    }
}

#[tokio::test]
async fn a_role_that_is_too_low_and_a_place_that_is_not_theirs_open_no_route() {
    let office = Office::new().await;
    let developer = office.ours(Role::Developer).await;
    let viewer = office.ours(Role::Viewer).await;
    let (admin, billing) = (office.ours(Role::Admin).await, office.ours(Role::Billing).await);
    let (their_owner, their_billing) = (office.theirs(Role::Owner).await, office.theirs(Role::Billing).await);
    let manages = |rule| matches!(rule, Rule::Manage | Rule::Operate);
    office
        .refused("viewer", Some(&viewer), 403, |rule| rule == Rule::Use || rule == Rule::Money || manages(rule))
        .await;
    office.refused("developer", Some(&developer), 403, |rule| rule == Rule::Money || manages(rule)).await;
    office.refused("admin", Some(&admin), 403, |rule| rule == Rule::Money).await;
    office.refused("billing", Some(&billing), 403, |rule| rule == Rule::Use || manages(rule)).await;
    office.refused("their owner", Some(&their_owner), 403, |rule| matches!(rule, Rule::Operate | Rule::Money)).await;
    office.refused("their billing", Some(&their_billing), 403, |rule| matches!(rule, Rule::Money | Rule::Use)).await;
}

#[tokio::test]
async fn a_key_of_another_dialect_opens_no_route_and_an_owners_opens_all() {
    let office = Office::new().await;
    let scoped = |dialect: &str| Scopes { dialects: vec![dialect.to_owned()], ..Scopes::default() };
    let ollama = NewKey { scopes: scoped("ollama"), ..NewKey::plain(&office.host, "k", Role::Owner) };
    let openai = NewKey { scopes: scoped("openai"), ..NewKey::plain(&office.host, "k", Role::Owner) };
    let (ollama, openai, owner) = (office.key(ollama).await, office.key(openai).await, office.ours(Role::Owner).await);
    for (method, route) in routes() {
        let Found::Rule(rule) = of(&method, &route) else { panic!("{method} {route} has no rule") };
        if !needs_key(rule) {
            continue;
        }
        let dialect = Dialect::of(&address(&route), &HeaderMap::new());
        let wrong = if dialect == Dialect::Ollama { &openai } else { &ollama };
        let (status, body) = office.ask(&method, &route, Some(wrong)).await;
        let body: Value = serde_json::from_slice(&to_bytes(body, REFUSAL_BYTES_MAX).await.unwrap()).unwrap();
        assert!(status == 403 && is_worded(dialect, &body), "{method} {route}: {status} {body}");
        let (status, _) = office.ask(&method, &route, Some(&owner)).await;
        assert!(status != 401 && status != 403, "{method} {route}: {status} for an owner");
    }
}

#[tokio::test]
async fn headers_that_are_not_one_key_open_nothing() {
    let office = Office::new().await;
    let owner = office.ours(Role::Owner).await;
    let two = format!("Bearer {owner} {owner}");
    let list = format!("Bearer {owner}, Bearer {owner}");
    let quoted = format!("Bearer \"{owner}\"");
    let basic = format!("Basic {owner}");
    let cut = format!("Bearer {owner}\t0");
    for value in [&two, &list, &quoted, &basic, &cut] {
        let request = Request::get("/v1/models").header("authorization", value.as_str()).body(Body::empty()).unwrap();
        let answer = office.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 401, "{value:?}");
    }
    // What would end a header and begin another one cannot be a header's value at all.
    let injected = format!("Bearer {owner}\r\nx-api-key: {owner}");
    assert!(Request::get("/v1/models").header("authorization", injected).body(Body::empty()).is_err());
}
