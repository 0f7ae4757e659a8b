//! Whatever stands in a text that reaches the directory or the books: it is a value, never a part of a statement.

use std::sync::Arc;

use api::{App, Books, Limits};
use base::{Clock, ManualClock, SeededEntropy};
use ledger::programme::Programmes;
use ledger::{Ledger, Meter, MeterOptions, Options, PriceList};
use meta::testing::empty_schema;
use meta::{Actor, Database, Directory, KeyFilter, Page, Place, SCHEMA};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::support::Server;

/// Cases of one run; each makes some thirty requests.
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

/// A file, or an empty schema of a server where there is one.
#[expect(clippy::disallowed_methods, reason = "the script that starts a server says where it is")]
async fn place(folder: &std::path::Path) -> Place {
    match std::env::var("SAMPAN_TEST_POSTGRES") {
        Ok(url) => empty_schema(&url, "hostile").await.unwrap(),
        Err(_) => Place::File(folder.join("meta.db")),
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn no_text_is_ever_a_part_of_a_statement() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (server, directory, ledger, key) = runtime.block_on(async {
        let database = Database::open(place(folder.path()).await, &[SCHEMA, ledger::SCHEMA]).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::starting_at(1_700_000_000_000));
        let (ledger, books) = books(&database, &clock).await;
        let directory = Directory::new(database, clock, Arc::new(SeededEntropy::new(3)));
        let key = directory.first_start().await.unwrap().unwrap().text;
        let accounts = directory.clone();
        let server = Server::built(vec![], |app: App| app.with_accounts(accounts).with_books(books));
        (server, directory, ledger, key)
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
        assert_eq!(ledger.audit().await.unwrap().findings, Vec::<String>::new());
        assert!(ledger.budgets().await.unwrap().iter().any(|(budget, _)| budget.scope.as_str() == "project:kept"));
    });
}

/// Books with something in them that must be there afterwards.
async fn books(database: &Database, clock: &Arc<dyn Clock>) -> (Ledger, Books) {
    let ledger = Ledger::new(database.clone(), Arc::clone(clock), "me", Options::default());
    ledger.set_budget(&ledger::Scope::project("kept"), ledger::Period::Day, Some(1)).await.unwrap();
    let programmes = Programmes::new(ledger.clone(), Arc::new(SeededEntropy::new(4)));
    programmes.first_start().await.unwrap();
    let prices = PriceList::parse(PriceList::EXAMPLE).unwrap();
    let meter = Meter::new(ledger.clone(), prices, MeterOptions::default(), 1);
    (ledger, Books { meter, programmes, limits: Limits::new(Arc::clone(clock), Vec::new()) })
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
    for (method, path, body) in asked.into_iter().chain(of_the_books(one, other)) {
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let path = format!("/admin/v1/{path}");
        let reply = server.send(method, &path, &headers, body.to_string().into_bytes()).await;
        assert!(!reply.status.is_server_error(), "{method} {path} {body}: {} {}", reply.status, reply.text);
    }
}

/// The same for the books: their routes, and every text that they take.
fn of_the_books(one: &str, other: &str) -> Vec<(&'static str, String, Value)> {
    let (first, second) = (encoded(one), encoded(other));
    let company = json!({"name": one, "founded": "2023-01-01", "stage": "seed", "country": "BR"});
    let nowhere = json!({"name": one, "founded": other, "stage": one, "country": other});
    let application = |company: &Value, programme: &str| {
        let who = json!({"programme": programme, "project": other, "company": company});
        let mut asked = json!({"tokens": 5, "dollars": "1", "note": one});
        asked.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
        asked
    };
    let mut asked = vec![
        ("POST", "programmes/apply".to_owned(), application(&company, "catalyst")),
        ("POST", "programmes/apply".to_owned(), application(&nowhere, one)),
        ("POST", "programmes/define".to_owned(), json!({"definition": one})),
    ];
    for name in [one, "deposit"] {
        let body = json!({"name": one, "kind": name, "project": other, "dollars": "1", "memo": one});
        asked.push(("POST", "ledger/transactions".to_owned(), body));
    }
    for kind in ["project", "key"] {
        let (holder, scope) = (format!("{kind}:{one}"), format!("{kind}:{other}"));
        let limit = json!({"holder": holder, "measure": "requests", "amount": 5});
        asked.push(("POST", "limits/set".to_owned(), limit));
        asked.push(("POST", "limits/set".to_owned(), json!({"holder": one, "measure": other, "amount": null})));
        asked.push(("POST", "budgets/set".to_owned(), json!({"scope": scope, "period": "day", "dollars": "1"})));
        asked.push(("POST", "budgets/set".to_owned(), json!({"scope": one, "period": other, "dollars": one})));
    }
    for by in ["request", "hour", "day", "all", &second] {
        asked.push(("GET", format!("usage?by={by}&project={first}&key={second}&model={first}"), json!({})));
    }
    asked.push(("GET", format!("usage?by=request&after_ms=1&after={first}"), json!({})));
    asked.push(("GET", format!("usage?from={first}&to={second}&format={first}"), json!({})));
    asked.push(("GET", format!("ledger/accounts?project={first}"), json!({})));
    for path in [format!("invoices/{first}/2026-11"), format!("invoices/{first}/{second}")] {
        asked.push(("GET", path, json!({})));
    }
    asked.push(("GET", format!("programmes/grants/{first}"), json!({})));
    for (path, body) in [
        (format!("applications/{first}/grant"), json!({"tokens": 1, "dollars": "1", "reason": other})),
        (format!("applications/{first}/reject"), json!({"reason": other})),
        (format!("grants/{first}/release"), json!({"tranche": 1, "evidence": other})),
        (format!("grants/{first}/claw-back"), json!({"reason": other})),
    ] {
        asked.push(("POST", format!("programmes/{path}"), body));
    }
    asked
}
