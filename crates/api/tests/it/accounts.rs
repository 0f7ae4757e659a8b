//! A server with accounts: who is let in where, and what one project sees of another.

use std::sync::Arc;

use api::App;
use base::{ManualClock, SeededEntropy};
use chat::testing::Script;
use meta::{Actor, Database, Directory, FIRST, NewKey, Place, Role, SCHEMA, Scopes};
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

    /// The id of a project, which is made if need be.
    async fn project(&self, name: &str) -> String {
        let first = self.directory.find_organisation(FIRST).await.unwrap().id;
        // It may be there already.
        let _ = self.directory.new_project(&machine(), &first, name).await;
        self.directory.find_project(name).await.unwrap().id
    }

    /// A key of a project, which is made if need be.
    async fn key(&self, project: &str, role: Role, scopes: Scopes) -> String {
        let new = NewKey { scopes, ..NewKey::plain(&self.project(project).await, "k", role) };
        self.directory.new_key(&machine(), new).await.unwrap().text
    }

    async fn user(&self, project: &str) -> String {
        self.key(project, Role::Developer, Scopes::default()).await
    }

    async fn ask(&self, key: &str, method: &str, path: &str, body: &Value) -> Reply {
        let bearer = format!("Bearer {key}");
        self.server.send(method, path, &[("authorization", &bearer)], body.to_string().into_bytes()).await
    }
}

fn machine() -> Actor {
    Actor::machine("test")
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
    let project = office.project("a").await;
    let expires_ms = Some(1_700_000_000_000 + 60_000);
    let new = |expires_ms| NewKey { expires_ms, ..NewKey::plain(&project, "k", Role::Developer) };
    let revoked = office.directory.new_key(&machine(), new(None)).await.unwrap();
    let expiring = office.directory.new_key(&machine(), new(expires_ms)).await.unwrap();
    let closing = office.user("b").await;
    let status = async |key: &str| office.ask(key, "GET", "/v1/models", &json!({})).await;
    for key in [&revoked.text, &expiring.text, &closing] {
        assert_eq!(status(key).await.status, 200);
    }
    office.directory.revoke_key(&machine(), &revoked.id).await.unwrap();
    office.directory.close_project(&machine(), &office.project("b").await).await.unwrap();
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

#[tokio::test]
async fn projects_members_and_keys_are_made_listed_and_ended() {
    let office = Office::new(vec![]).await;
    let admin = office.key("a", Role::Admin, Scopes::default()).await;
    let ask = async |method: &str, path: &str, body: Value| {
        let reply = office.ask(&admin, method, &format!("/admin/v1/{path}"), &body).await;
        (reply.status.as_u16(), serde_json::from_str(&reply.text).unwrap_or(Value::Null))
    };
    let (status, project) = ask("POST", "projects", json!({"name": "robots"})).await;
    assert_eq!((status, &project["name"]), (201, &json!("robots")), "{project}");
    let id = project["id"].as_str().unwrap();
    let (status, again) = ask("POST", "projects", json!({"name": "robots"})).await;
    assert_eq!((status, &again["error"]["message"]), (409, &json!("project \"robots\" exists already")));
    let wanted = json!({"project": id, "name": "arm", "scopes": {"models": ["m*"]}, "data_region": "eu-west"});
    let (status, made) = ask("POST", "keys", wanted).await;
    assert_eq!((status, &made["role"]), (201, &json!("developer")), "{made}");
    let key = made["key"].as_str().unwrap();
    assert_eq!(office.ask(key, "GET", "/v1/models", &json!({})).await.status, 200);
    let (_, listed) = ask("GET", &format!("keys?project={id}"), json!({})).await;
    let row = &listed["data"][0];
    assert_eq!(
        (&row["id"], &row["data_region"], listed["data"].as_array().unwrap().len()),
        (&made["id"], &json!("eu-west"), 1)
    );
    assert!(!listed.to_string().contains(key), "a key is shown once");
    assert!(
        row["hint"].as_str().unwrap().starts_with("sk-sampan-…")
            && key.ends_with(&row["hint"].as_str().unwrap()["sk-sampan-…".len()..])
    );
    assert_eq!(ask("DELETE", &format!("keys/{}", made["id"].as_str().unwrap()), json!({})).await.0, 204);
    assert_eq!(office.ask(key, "GET", "/v1/models", &json!({})).await.status, 401);
    let (_, page) = ask("GET", "projects?limit=2", json!({})).await;
    assert_eq!((&page["has_more"], page["data"].as_array().unwrap().len()), (&json!(true), 2));
    let (_, rest) = ask("GET", &format!("projects?after={}", page["last_id"].as_str().unwrap()), json!({})).await;
    let both = [&page["data"], &rest["data"]].map(|rows| rows.as_array().unwrap()).into_iter().flatten();
    let ids: std::collections::HashSet<&str> = both.map(|row| row["id"].as_str().unwrap()).collect();
    assert!(rest["has_more"] == false && ids.len() == 3 && ids.contains(id), "{ids:?}");
    let (status, member) =
        ask("POST", "members", json!({"name": "Ann", "email": "ann@example.org", "role": "viewer"})).await;
    assert_eq!(status, 201, "{member}");
    let path = format!("members/{}", member["id"].as_str().unwrap());
    assert_eq!(ask("PATCH", &path, json!({"role": "owner"})).await.0, 403);
    assert_eq!(ask("PATCH", &path, json!({"role": "developer"})).await.0, 200);
    assert_eq!(ask("DELETE", &path, json!({})).await.0, 204);
    assert_eq!(ask("DELETE", &path, json!({})).await.0, 404);
    assert_eq!(ask("DELETE", &format!("projects/{id}"), json!({})).await.0, 204);
    let (status, wrong) = ask("POST", "keys", json!({"name": "k", "colour": "red"})).await;
    assert!(status == 422 && wrong["error"]["message"].as_str().unwrap().contains("colour"), "{wrong}");
    let (status, wrong) = ask("POST", "keys", json!({"name": "k", "role": "root"})).await;
    assert!(status == 400 && wrong["error"]["message"].as_str().unwrap().contains("\"root\""), "{wrong}");
    assert_eq!(ask("GET", "keys?limit=0", json!({})).await.0, 400);
    assert_eq!(ask("PUT", "keys", json!({})).await.0, 405);
}

#[tokio::test]
async fn whoever_does_not_run_the_place_does_not_operate_it() {
    let office = Office::new(vec![]).await;
    let other = office.directory.new_organisation(&machine(), "other").await.unwrap();
    let theirs = office.directory.new_project(&machine(), &other, "theirs").await.unwrap();
    let key = office.directory.new_key(&machine(), NewKey::plain(&theirs, "k", Role::Owner)).await.unwrap().text;
    let status = async |method: &str, path: &str| office.ask(&key, method, path, &json!({})).await.status.as_u16();
    assert_eq!(status("GET", "/admin/v1/requests").await, 403);
    assert_eq!(status("POST", "/admin/v1/organisations").await, 403);
    assert_eq!(status("POST", "/admin/v1/ledger/transactions").await, 403);
    assert_eq!(status("GET", "/admin/v1/members").await, 200);
    let listed = office.ask(&key, "GET", "/admin/v1/organisations", &json!({})).await.json();
    assert_eq!((&listed["data"][0]["id"], listed["data"].as_array().unwrap().len()), (&json!(other), 1));
}

#[tokio::test]
async fn a_page_signs_in_asks_and_signs_out() {
    let office = Office::new(vec![hello()]).await;
    let key = office.user("a").await;
    let session = "/console/session";
    let send = async |method: &str, path: &str, headers: &[(&str, &str)], body: Value| {
        let mut all = vec![("content-type", "application/json"), ("host", "here:1")];
        all.extend_from_slice(headers);
        office.server.send(method, path, &all, body.to_string().into_bytes()).await
    };
    assert_eq!(send("GET", session, &[], json!({})).await.status, 401);
    assert_eq!(send("POST", session, &[], json!({"key": "sk-sampan-0"})).await.status, 401);
    let foreign = [("origin", "http://evil.example")];
    assert_eq!(send("POST", session, &foreign, json!({"key": key})).await.status, 403);
    let signed_in = send("POST", session, &[("origin", "http://here:1")], json!({"key": key})).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text);
    let cookie = signed_in.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && cookie.contains("Max-Age="));
    assert!(!signed_in.text.contains(&key) && !signed_in.text.contains("ss-sampan-"), "{}", signed_in.text);
    let cookie = cookie.split(';').next().unwrap();
    let page = signed_in.json()["page"].as_str().unwrap().to_owned();
    assert_eq!(send("GET", session, &[("cookie", cookie)], json!({})).await.json()["page"], page);
    assert_eq!(send("GET", "/v1/models", &[("cookie", cookie)], json!({})).await.status, 200);
    // A change needs the page's token, and a page of ours.
    let ask =
        async |headers: &[(&str, &str)]| send("POST", "/v1/chat/completions", headers, chat()).await.status.as_u16();
    assert_eq!(ask(&[("cookie", cookie)]).await, 403);
    assert_eq!(ask(&[("cookie", cookie), ("x-sampan-page", "0")]).await, 403);
    let token = ("x-sampan-page", page.as_str());
    assert_eq!(ask(&[("cookie", cookie), token, ("origin", "http://evil.example")]).await, 403);
    assert_eq!(ask(&[("cookie", cookie), token, ("sec-fetch-site", "cross-site")]).await, 403);
    assert_eq!(ask(&[("cookie", cookie), token, ("origin", "http://here:1")]).await, 200);
    let caller = office.server.request().caller.unwrap();
    assert!(caller.key.starts_with("key_"), "a session acts as its key: {caller:?}");
    assert_eq!(send("DELETE", session, &[("cookie", cookie)], json!({})).await.status, 403);
    assert_eq!(send("DELETE", session, &[("cookie", cookie), token], json!({})).await.status, 204);
    assert_eq!(send("GET", "/v1/models", &[("cookie", cookie)], json!({})).await.status, 401);
}
