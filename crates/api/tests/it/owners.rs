//! Buckets that belong to projects, which see their own and pay for them.

use std::sync::Arc;

use api::App;
use api::buckets::{Access, Buckets, Identity, Owners};
use api::signature::{KeyPair, KeyPairs};
use axum::body::Body;
use axum::http::Request;
use base::{ManualClock, SeededEntropy};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use ledger::usage::{Filter, records};
use ledger::{Ledger, Meter, MeterOptions, Operation, Options, PriceList, Tally, Transaction};
use meta::{Actor, Database, Directory, NewKey, Place, Role, SCHEMA, page_token};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vectors::{BucketName, BucketSettings, Catalogue, Config};

use crate::support::{Reply, Server};

const NOW_MS: u64 = 1_700_000_000_000;
/// A dollar for a vector that is written, two for one that is read.
const PRICES: &str = "price = [{ model = \"*\", vector_write = \"1000000\", vector_read = \"2000000\", \
                      vector_storage = \"0.06\" }]";

struct Nobody;

impl KeyPairs for Nobody {
    fn find<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<KeyPair>> {
        futures::future::ready(None).boxed()
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    server: Server,
    app: Arc<App>,
    ledger: Ledger,
    tally: Arc<Tally>,
    /// Sessions of the owner of the place and of somebody of another organisation.
    sessions: [String; 2],
    projects: [String; 2],
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::File(folder.path().join("meta.db"));
    let database = Database::open(place, &[SCHEMA, ledger::SCHEMA]).await.unwrap();
    let clock = Arc::new(ManualClock::starting_at(NOW_MS));
    let directory = Directory::new(database.clone(), Arc::clone(&clock) as _, Arc::new(SeededEntropy::new(3)));
    let owner = directory.first_start().await.unwrap().unwrap().text;
    let first = directory.first_project().await.unwrap();
    let machine = Actor::machine("test");
    let organisation = directory.new_organisation(&machine, "other").await.unwrap();
    let project = directory.new_project(&machine, &organisation, "songs").await.unwrap();
    let key = directory.new_key(&machine, NewKey::plain(&project, "k", Role::Developer)).await.unwrap().text;
    let mut sessions = [String::new(), String::new()];
    for (session, key) in sessions.iter_mut().zip([owner, key]) {
        *session = directory.sign_in(&key).await.unwrap().1.shown.text;
    }
    let ledger = Ledger::new(database, Arc::clone(&clock) as _, "me", Options::default());
    let meter = Meter::new(ledger.clone(), PriceList::parse(PRICES).unwrap(), MeterOptions::default(), 1);
    let tally = Arc::new(Tally::new(meter));
    let store = Arc::new(store::Memory::new());
    let catalogue = Arc::new(Catalogue::new(store, clock, Config::default(), 8, 1));
    let old = BucketName::parse("old").unwrap();
    catalogue.create_bucket(&old, BucketSettings::default()).await.unwrap();
    let owners = Owners { tally: Arc::clone(&tally), first_project: Some(first.as_str().into()) };
    let buckets = Buckets::new(catalogue, Arc::new(Nobody), Access::Signed, Identity::default()).with_owners(owners);
    let server = Server::built(vec![], |app| app.with_accounts(directory).with_buckets(buckets));
    let app = server.app();
    Bench { _folder: folder, server, app, ledger, tally, sessions, projects: [first, project] }
}

impl Bench {
    async fn send(&self, who: usize, path: &str, body: &Value) -> Reply {
        let session = &self.sessions[who];
        let (cookie, page) = (format!("sampan_session={session}"), page_token(session));
        let headers =
            [("cookie", cookie.as_str()), ("x-sampan-page", page.as_str()), ("content-type", "application/json")];
        self.server.send("POST", path, &headers, body.to_string().into_bytes()).await
    }

    async fn ask(&self, who: usize, path: &str, body: &Value) -> Value {
        let reply = self.send(who, path, body).await;
        assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text);
        reply.json()
    }

    async fn follow_to_the_first_vector(&self, who: usize, index: &Value) {
        let (mut wish, session) = (index.clone(), &self.sessions[who]);
        wish["cursor"] = "earliest".into();
        let request = Request::post("/SubscribeVectors")
            .header("cookie", format!("sampan_session={session}"))
            .header("x-sampan-page", page_token(session))
            .body(Body::from(wish.to_string()))
            .unwrap();
        let mut body = api::router(Arc::clone(&self.app)).oneshot(request).await.unwrap().into_body();
        let mut text = String::new();
        while !text.contains("event: put") {
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            text.push_str(str::from_utf8(&piece).unwrap());
        }
    }

    async fn listed(&self, who: usize) -> Vec<String> {
        let listed = self.ask(who, "/ListVectorBuckets", &json!({})).await;
        let names = listed["vectorBuckets"].as_array().unwrap().iter();
        names.map(|bucket| bucket["vectorBucketName"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bucket_is_its_projects_who_sees_it_and_pays_for_it() {
    let bench = bench().await;
    bench.ask(0, "/CreateVectorBucket", &json!({"vectorBucketName": "films"})).await;
    bench.ask(1, "/CreateVectorBucket", &json!({"vectorBucketName": "songs"})).await;
    assert_eq!(bench.listed(0).await, ["films", "old", "songs"], "whoever runs the place sees every bucket");
    assert_eq!(bench.listed(1).await, ["songs"]);
    for name in ["films", "old"] {
        for path in ["/GetVectorBucket", "/DeleteVectorBucket", "/DeleteVectorBucketPolicy", "/ListIndexes"] {
            let reply = bench.send(1, path, &json!({"vectorBucketName": name})).await;
            assert!(reply.status == 403 && reply.text.contains("another project's"), "{path} {name}: {reply:?}");
        }
    }
    let index = json!({
        "vectorBucketName": "songs", "indexName": "all", "dataType": "float32", "dimension": 2,
        "distanceMetric": "cosine",
    });
    bench.ask(1, "/CreateIndex", &index).await;
    let row = |key: &str| json!({"key": key, "data": {"float32": [1, 2]}, "metadata": {"n": 1}});
    let put = json!({"vectorBucketName": "songs", "indexName": "all", "vectors": [row("a"), row("b")]});
    bench.ask(1, "/PutVectors", &put).await;
    let vector = json!({"float32": [1, 2]});
    let query = |top: u32| json!({"vectorBucketName": "songs", "indexName": "all", "topK": top, "queryVector": vector});
    bench.ask(1, "/QueryVectors", &query(1)).await;
    // Whoever runs the place may look; the bucket's project pays.
    bench.ask(0, "/QueryVectors", &query(5)).await;
    // A follower from the beginning is told of both vectors, which are read; it goes away after the first.
    bench.follow_to_the_first_vector(1, &json!({"vectorBucketName": "songs", "indexName": "all"})).await;
    bench.app.count_kept().await.unwrap();
    bench.tally.book().await;
    let mut found = records(bench.ledger.database(), &Filter::default(), None, 10).await.unwrap();
    found.sort_by(|one, other| (&one.activity, one.units).cmp(&(&other.activity, other.units)));
    let shown: Vec<(&str, i64, i64)> =
        found.iter().map(|record| (record.activity.as_str(), record.units, record.price_micro)).collect();
    let expected = [
        // Two vectors of two numbers, a key of one letter each, {"n":1} twice.
        ("vector_keep", 16 + 2 + 14, 1),
        ("vector_read", 2, 4_000_000),
        ("vector_read", 3, 6_000_000),
        ("vector_write", 2, 2_000_000),
    ];
    assert_eq!(shown, expected);
    assert!(found.iter().all(|record| record.project == bench.projects[1] && record.model == "songs"), "{found:?}");
    assert_eq!(bench.ledger.audit().await.unwrap().findings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_cannot_pay_may_only_delete() {
    let bench = bench().await;
    bench.ask(1, "/CreateVectorBucket", &json!({"vectorBucketName": "songs"})).await;
    let index = json!({
        "vectorBucketName": "songs", "indexName": "all", "dataType": "float32", "dimension": 2,
        "distanceMetric": "cosine",
    });
    bench.ask(1, "/CreateIndex", &index).await;
    let operation = Operation::Open { project: bench.projects[1].clone(), credit_line_micro: Some(0) };
    let (name, actor, memo) = ("line".to_owned(), "test".to_owned(), String::new());
    bench.ledger.book(Transaction { name, operation, actor, memo }).await.unwrap();
    let put = json!({
        "vectorBucketName": "songs", "indexName": "all", "vectors": [{"key": "a", "data": {"float32": [1, 2]}}],
    });
    bench.ask(1, "/PutVectors", &put).await;
    bench.tally.book().await;
    let refused = bench.send(1, "/PutVectors", &put).await;
    assert!(refused.status == 402 && refused.text.contains("credit of project"), "{refused:?}");
    let named = json!({"vectorBucketName": "songs", "indexName": "all"});
    bench.ask(1, "/DeleteIndex", &named).await;
    bench.ask(1, "/DeleteVectorBucket", &json!({"vectorBucketName": "songs"})).await;
}
