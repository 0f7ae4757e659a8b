//! A server with accounts: who is let in where, and what one project sees of another.

use std::sync::Arc;

use api::App;
use base::{ManualClock, SeededEntropy};
use chat::testing::Script;
use meta::{Database, Directory, NewKey, Place, Role, SCHEMA, Scopes};
use serde_json::{Value, json};

use crate::support::{MODEL, Reply, Server, finished, started, text};

/// A server, its directory, and the folder of its database.
struct Office {
    server: Server,
    directory: Directory,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl Office {
    async fn new(scripts: Vec<Script>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::File(folder.path().join("meta.db"));
        let database = Database::open(place, &[SCHEMA]).await.unwrap();
        let clock = Arc::new(ManualClock::starting_at(1_700_000_000_000));
        let directory = Directory::new(database, Arc::clone(&clock) as _, Arc::new(SeededEntropy::new(3)));
        directory.first_start().await.unwrap();
        let accounts = directory.clone();
        let server = Server::built(scripts, |app: App| app.with_accounts(accounts));
        Self { server, directory, clock, _folder: folder }
    }

    /// A key of a project, which is made if need be.
    async fn key(&self, project: &str, role: Role, scopes: Scopes) -> String {
        // It may be there already.
        let _ = self.directory.new_project("test", project).await;
        let new = NewKey { project: project.to_owned(), name: "k".to_owned(), role, scopes, expires_ms: None };
        self.directory.new_key("test", new).await.unwrap().text
    }

    async fn user(&self, project: &str) -> String {
        self.key(project, Role::Developer, Scopes::default()).await
    }

    async fn ask(&self, key: &str, method: &str, path: &str, body: &Value) -> Reply {
        let bearer = format!("Bearer {key}");
        self.server.send(method, path, &[("authorization", &bearer)], body.to_string().into_bytes()).await
    }
}

fn hello() -> Script {
    Script::text(&["Hello"])
}

fn chat() -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]})
}

fn scoped(models: &[&str], dialects: &[&str]) -> Scopes {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Scopes { models: owned(models), dialects: owned(dialects), ..Scopes::default() }
}

#[tokio::test]
async fn a_key_opens_the_door_and_nothing_else_does() {
    let office = Office::new(vec![hello(), hello()]).await;
    let key = office.user("a").await;
    assert_eq!(office.ask(&key, "POST", "/v1/chat/completions", &chat()).await.status, 200);
    let caller = office.server.requests()[0].caller.clone().unwrap();
    assert!(caller.project.starts_with("proj_") && caller.key.starts_with("key_"), "{caller:?}");
    let none = office.server.post("/v1/chat/completions", &chat()).await;
    assert_eq!((none.status.as_u16(), &none.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    let wrong = format!("{}0", &key[..key.len() - 1]);
    for bad in ["", "none", "sk-sampan-", &key[1..], &wrong, &format!("{key}' OR '1'='1")] {
        let refused = office.ask(bad, "POST", "/v1/chat/completions", &chat()).await;
        assert_eq!(refused.status, 401, "{bad:?}");
        assert!(bad.len() < 20 || !refused.text.contains(bad), "a refusal shows the key");
    }
    // Whoever asks whether it lives needs no key, and a route that is not there is not there for anybody.
    assert_eq!(office.server.get("/healthz").await.status, 200);
    assert_eq!(office.server.get("/v1/nothing").await.status, 404);
}

#[tokio::test]
async fn refusals_are_worded_in_every_dialect() {
    let office = Office::new(vec![]).await;
    let refused = async |path: &str, pointer: &str| {
        let reply = office.server.post(path, &json!({})).await;
        assert_eq!(reply.status, 401, "{path}");
        let message = reply.json().pointer(pointer).unwrap().to_string();
        assert!(message.contains("no API key came with the request"), "{path}: {message}");
    };
    refused("/v1/chat/completions", "/error/message").await;
    refused("/v1/messages", "/error/message").await;
    refused("/api/chat", "/error").await;
    refused("/v2/rerank", "/message").await;
    refused("/api/v1/services/aigc/text-generation/generation", "/message").await;
    refused("/admin/v1/models/load", "/error/message").await;
}

#[tokio::test]
async fn a_revoked_an_expired_and_a_closed_key_open_nothing() {
    let office = Office::new(vec![]).await;
    office.directory.new_project("test", "a").await.unwrap();
    let expires_ms = Some(1_700_000_000_000 + 60_000);
    let new = |expires_ms| NewKey {
        project: "a".to_owned(),
        name: "k".to_owned(),
        role: Role::Developer,
        scopes: Scopes::default(),
        expires_ms,
    };
    let revoked = office.directory.new_key("test", new(None)).await.unwrap();
    let expiring = office.directory.new_key("test", new(expires_ms)).await.unwrap();
    let closing = office.user("b").await;
    let status = async |key: &str| office.ask(key, "GET", "/v1/models", &json!({})).await;
    for key in [&revoked.text, &expiring.text, &closing] {
        assert_eq!(status(key).await.status, 200);
    }
    office.directory.revoke_key("test", &revoked.id).await.unwrap();
    office.directory.close_project("test", "b").await.unwrap();
    office.clock.advance_ms(60_000);
    for (key, word) in [(&revoked.text, "revoked"), (&expiring.text, "expired"), (&closing, "closed")] {
        let reply = status(key).await;
        assert!(reply.status == 401 && reply.text.contains(word), "{}", reply.text);
    }
}

#[tokio::test]
async fn roles_and_scopes_hold() {
    let office = Office::new(vec![hello()]).await;
    let viewer = office.key("a", Role::Viewer, Scopes::default()).await;
    assert_eq!(office.ask(&viewer, "GET", "/v1/models", &json!({})).await.status, 200);
    assert_eq!(office.ask(&viewer, "POST", "/v1/chat/completions", &chat()).await.status, 403);
    let load = json!({"model": MODEL});
    let user = office.user("a").await;
    assert_eq!(office.ask(&user, "POST", "/admin/v1/models/load", &load).await.status, 403);
    let ollama = office.key("a", Role::Developer, scoped(&[], &["ollama"])).await;
    assert_eq!(office.ask(&ollama, "POST", "/v1/chat/completions", &chat()).await.status, 403);
    assert_eq!(office.ask(&ollama, "POST", "/api/chat", &chat()).await.status, 200);
    let other = office.key("a", Role::Developer, scoped(&["other*"], &[])).await;
    let listed = office.ask(&other, "GET", "/v1/models", &json!({})).await.json();
    assert_eq!(listed["data"], json!([]));
    let refused = office.ask(&other, "POST", "/v1/chat/completions", &chat()).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
}

#[tokio::test]
async fn no_project_sees_what_another_one_stored() {
    let office = Office::new(vec![hello(), hello()]).await;
    let (ours, theirs) = (office.user("a").await, office.user("b").await);
    let ask = json!({"model": MODEL, "input": "Hi"});
    let stored = office.ask(&ours, "POST", "/v1/responses", &ask).await.json();
    let id = stored["id"].as_str().unwrap();
    let path = format!("/v1/responses/{id}");
    let colleague = office.user("a").await;
    assert_eq!(office.ask(&colleague, "GET", &path, &json!({})).await.json(), stored);
    for (method, path) in [
        ("GET", path.clone()),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/cancel")),
        ("GET", format!("{path}/input_items")),
    ] {
        assert_eq!(office.ask(&theirs, method, &path, &json!({})).await.status, 404, "{method} {path}");
    }
    let next = json!({"model": MODEL, "input": "And?", "previous_response_id": id});
    assert_eq!(office.ask(&theirs, "POST", "/v1/responses", &next).await.status, 404);
    assert_eq!(office.ask(&colleague, "POST", "/v1/responses", &next).await.status, 200);
}

#[tokio::test]
async fn what_runs_in_the_background_runs_for_whoever_asked() {
    let play = vec![Ok(started()), Ok(text("Hi")), Ok(finished(chat::FinishReason::Stop))];
    let office = Office::new(vec![Script::Play(play)]).await;
    let key = office.user("a").await;
    let ask = json!({"model": MODEL, "input": "Hi", "background": true});
    let queued = office.ask(&key, "POST", "/v1/responses", &ask).await.json();
    let path = format!("/v1/responses/{}", queued["id"].as_str().unwrap());
    for _ in 0..1000 {
        if office.ask(&key, "GET", &path, &json!({})).await.json()["status"] == "completed" {
            break;
        }
    }
    assert_eq!(office.ask(&key, "GET", &path, &json!({})).await.json()["status"], "completed");
    assert!(office.server.request().caller.is_some());
    let scoped = office.key("a", Role::Developer, scoped(&["other"], &[])).await;
    assert_eq!(office.ask(&scoped, "POST", "/v1/responses", &ask).await.status, 404);
}
