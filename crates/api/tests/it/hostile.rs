//! Whatever stands in a text that reaches the directory: it is a value, never a part of a statement.

use std::sync::Arc;

use api::App;
use base::{ManualClock, SeededEntropy};
use meta::{Actor, Database, Directory, KeyFilter, Page, Place, SCHEMA};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::support::Server;

/// Cases of one run; each makes a dozen requests.
const CASES: u32 = 24;

/// What breaks out of a statement, if anything does, among anything at all.
fn hostile() -> impl Strategy<Value = String> {
    let known = [
        "' OR '1'='1",
        "'; DROP TABLE keys; --",
        "\" OR \"\"=\"",
        "1; DELETE FROM projects",
        "$1",
        "?1",
        ":a",
        "%",
        "_",
        "\\",
        "\0",
        "\u{feff}",
        "x' UNION SELECT hash FROM keys --",
        "{id}",
        "NULL",
        "\r\nx-api-key: k",
    ];
    prop_oneof![any::<String>(), proptest::sample::select(known.to_vec()).prop_map(str::to_owned)]
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn no_text_is_ever_a_part_of_a_statement() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (server, directory, key) = runtime.block_on(async {
        let place = Place::File(folder.path().join("meta.db"));
        let database = Database::open(place, &[SCHEMA]).await.unwrap();
        let clock = Arc::new(ManualClock::starting_at(1_700_000_000_000));
        let directory = Directory::new(database, clock, Arc::new(SeededEntropy::new(3)));
        let key = directory.first_start().await.unwrap().unwrap().text;
        let accounts = directory.clone();
        (Server::built(vec![], |app: App| app.with_accounts(accounts)), directory, key)
    });
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let tried = runner.run(&(hostile(), hostile()), |(one, other)| {
        runtime.block_on(ask_everything(&server, &key, &one, &other));
        Ok(())
    });
    tried.unwrap();
    runtime.block_on(async {
        let machine = Actor::machine("test");
        let keys = directory.keys(&machine, &KeyFilter::default(), &Page::default()).await.unwrap();
        assert!(keys.items.iter().all(|key| key.revoked_ms.is_none()), "somebody else's key was revoked");
        let members = directory.members(&machine, None, &Page::default()).await.unwrap().items;
        assert!(members.iter().any(|member| member.name == "owner"), "the owner was removed");
        directory.authenticate(&key).await.unwrap();
    });
}

async fn ask_everything(server: &Server, key: &str, one: &str, other: &str) {
    let bearer = format!("Bearer {key}");
    let (first, second) = (encoded(one), encoded(other));
    let asked = [
        ("POST", "organisations".to_owned(), json!({"name": one})),
        ("POST", "projects".to_owned(), json!({"name": one, "organisation": other})),
        ("POST", "projects".to_owned(), json!({"name": other})),
        ("POST", "members".to_owned(), json!({"name": one, "email": other, "role": "viewer"})),
        ("POST", "members".to_owned(), json!({"name": one, "role": other})),
        ("POST", "keys".to_owned(), json!({"name": one, "scopes": {"models": [other]}, "data_region": other})),
        ("POST", "keys".to_owned(), json!({"name": "k", "project": one, "role": other})),
        ("GET", format!("projects?organisation={first}&after={second}"), json!({})),
        ("GET", format!("members?organisation={first}&after={second}"), json!({})),
        ("GET", format!("keys?project={first}&organisation={second}"), json!({})),
        ("GET", format!("organisations?after={first}&limit={second}"), json!({})),
        ("DELETE", format!("keys/{first}"), json!({})),
        ("DELETE", format!("members/{first}"), json!({})),
        ("PATCH", format!("members/{second}"), json!({"role": one})),
        ("DELETE", format!("projects/{second}"), json!({})),
        ("DELETE", format!("organisations/{first}"), json!({})),
    ];
    for (method, path, body) in asked {
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let path = format!("/admin/v1/{path}");
        let reply = server.send(method, &path, &headers, body.to_string().into_bytes()).await;
        assert!(!reply.status.is_server_error(), "{method} {path} {body}: {} {}", reply.status, reply.text);
    }
}
