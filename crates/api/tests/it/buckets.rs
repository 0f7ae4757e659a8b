//! Vector buckets over a store in memory: both dialects, and whatever bytes come.

use std::sync::Arc;

use api::buckets::{Access, Buckets, Identity};
use api::signature::{KeyPair, KeyPairs};
use api::{App, router};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use base::{ManualClock, Rng};
use chat::testing::{Scripted, Words};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use store::Memory;
use tower::ServiceExt as _;
use vectors::{Catalogue, Config};

struct Nobody;

impl KeyPairs for Nobody {
    fn find<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<KeyPair>> {
        futures::future::ready(None).boxed()
    }
}

pub(crate) fn app(access: Access) -> App {
    let clock = Arc::new(ManualClock::starting_at(1_700_000_000_000));
    let store = Arc::new(Memory::new());
    let catalogue = Arc::new(Catalogue::new(store, Arc::clone(&clock) as _, Config::default(), 8, 1));
    let buckets = Buckets::new(catalogue, Arc::new(Nobody), access, Identity::default());
    App::new(Arc::new(Scripted::new("m", Vec::new())), clock, 1).with_buckets(buckets)
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> (u16, Vec<u8>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

pub(crate) async fn post(router: &Router, path: &str, body: impl Into<Body>) -> (u16, Vec<u8>) {
    send(router, Request::post(path).body(body.into()).unwrap()).await
}

pub(crate) async fn ask(router: &Router, path: &str, body: &Value) -> Value {
    let (status, answer) = post(router, path, body.to_string()).await;
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&answer));
    serde_json::from_slice(&answer).unwrap()
}

/// A router with the bucket `films` and its index `plots`.
pub(crate) async fn filled(app: App) -> Router {
    let router = router(Arc::new(app));
    ask(&router, "/CreateVectorBucket", &json!({"vectorBucketName": "films"})).await;
    let index = json!({
        "vectorBucketName": "films", "indexName": "plots", "dataType": "float32", "dimension": 2,
        "distanceMetric": "euclidean",
    });
    ask(&router, "/CreateIndex", &index).await;
    let vectors = json!([{"key": "a", "data": {"float32": [1, 2]}, "metadata": {"n": 1}}]);
    let put = json!({"vectorBucketName": "films", "indexName": "plots", "vectors": vectors});
    ask(&router, "/PutVectors", &put).await;
    router
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn both_dialects_answer() {
    let router = filled(app(Access::Open)).await;
    let query = json!({
        "vectorBucketName": "films", "indexName": "plots", "topK": 3, "queryVector": {"float32": [1, 2]},
        "filter": {"n": 1}, "returnDistance": true,
    });
    let found = ask(&router, "/QueryVectors", &query).await;
    assert_eq!(found, json!({"vectors": [{"key": "a", "distance": 0.0}], "distanceMetric": "euclidean"}));
    let listed = ask(&router, "/ListVectorBuckets", &json!({})).await;
    assert_eq!(listed["vectorBuckets"][0]["creationTime"], 1_700_000_000.0);
    let host = "films-000000000000.localhost";
    let request = Request::post("/?getVectors").header("host", host);
    let (status, answer) =
        send(&router, request.body(r#"{"indexName": "plots", "keys": ["a"], "returnData": true}"#.into()).unwrap())
            .await;
    assert_eq!((status, answer.as_slice()), (200, &br#"{"vectors":[{"key":"a","data":{"float32":[1.0,2.0]}}]}"#[..]));
    let request = Request::get("/?bucketInfo").header("host", "gone-000000000000.localhost");
    let (status, answer) = send(&router, request.body(Body::empty()).unwrap()).await;
    let error: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((status, &error["Error"]["Code"]), (404, &"NoSuchBucket".into()));
    let (status, _) =
        send(&router, Request::get("/readyz").header("host", "localhost").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn without_a_signature_nobody_is_let_in() {
    let router = router(Arc::new(app(Access::Signed)));
    let (status, answer) = post(&router, "/ListVectorBuckets", "{}").await;
    assert_eq!((status, String::from_utf8_lossy(&answer).contains("Missing")), (403, true));
    let request = Request::get("/?bucketInfo").header("host", "films-000000000000.localhost");
    assert_eq!(send(&router, request.body(Body::empty()).unwrap()).await.0, 403);
}

#[tokio::test]
async fn a_server_without_buckets_says_so() {
    let clock = Arc::new(ManualClock::starting_at(0));
    let router = router(Arc::new(App::new(Arc::new(Scripted::new("m", Vec::new())), clock, 1)));
    assert_eq!(post(&router, "/ListVectorBuckets", "{}").await.0, 503);
}

/// Pieces of requests, cut, changed and put together by a seed: every one is answered, none with our fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn foreign_bytes_are_answered() {
    let router = filled(app(Access::Open)).await;
    let names = r#"{"vectorBucketName": "films", "indexName": "plots""#;
    let good = [
        format!(r#"{names}, "topK": 1, "queryVector": {{"float32": [1, 2]}}, "filter": {{"a": {{"$in": [1]}}}}}}"#),
        format!(r#"{names}, "vectors": [{{"key": "b", "data": {{"float32Base64": "AACAPwAAIMA="}}}}]}}"#),
        format!(r#"{names}, "keys": ["a", "b"], "nextToken": "YQ", "segmentCount": 2, "segmentIndex": 1}}"#),
        r#"{"vectorBucketArn": "arn:aws:s3vectors:us-east-1:000000000000:bucket/films", "policy": "{}"}"#.to_owned(),
    ];
    let paths = [
        "/QueryVectors",
        "/PutVectors",
        "/GetVectors",
        "/ListVectors",
        "/DeleteVectors",
        "/GetIndex",
        "/ListIndexes",
        "/PutVectorBucketPolicy",
        "/CreateIndex",
        "/CreateVectorBucket",
        "/tags/arn%3Aaws%3As3vectors%3A",
        "/?putVectors",
        "/?queryVectors",
        "/?listVectors",
        "/?putVectorIndex",
        "/?logging&x-oss-signature-version=OSS4-HMAC-SHA256",
    ];
    let mut rng = Rng::seeded(5);
    for _ in 0..600 {
        let mut body = good[rng.below(good.len() as u64) as usize].clone().into_bytes();
        for _ in 0..rng.below(4) {
            let at = rng.below(body.len() as u64) as usize;
            body[at] = [b'"', b'{', b']', 0, 0xff, b'9', b'-'][rng.below(7) as usize];
        }
        body.truncate(body.len() - rng.below(3) as usize * 7);
        let path = paths[rng.below(paths.len() as u64) as usize];
        let mut request = Request::post(path);
        if path.starts_with("/?") {
            request = request.header("host", "films-000000000000.localhost");
        }
        if rng.below(3) == 0 {
            request = request.header("content-type", "application/vnd.sampan.vectors");
        }
        if rng.below(4) == 0 {
            request = request.header("authorization", "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, x");
        }
        let (status, answer) = send(&router, request.body(body.into()).unwrap()).await;
        assert!(status < 500, "{path}: {status} {}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn texts_are_embedded() {
    let router = router(Arc::new(app(Access::Open).with_embed(Arc::new(Words::new("words", "ranks")))));
    ask(&router, "/CreateVectorBucket", &json!({"vectorBucketName": "films"})).await;
    let index = json!({
        "vectorBucketName": "films", "indexName": "plots", "dataType": "float32", "dimension": Words::DIMENSIONS,
        "distanceMetric": "cosine",
    });
    ask(&router, "/CreateIndex", &index).await;
    let vectors = json!([
        {"key": "alien", "data": {"text": "a monster in space"}},
        {"key": "clue", "data": {"text": "murder at dinner"}},
    ]);
    ask(&router, "/PutVectors", &json!({"vectorBucketName": "films", "indexName": "plots", "vectors": vectors})).await;
    let query = json!({
        "vectorBucketName": "films", "indexName": "plots", "topK": 1, "queryVector": {"text": "a monster in space"},
    });
    assert_eq!(ask(&router, "/QueryVectors", &query).await["vectors"], json!([{"key": "alien"}]));
    let index = json!({
        "vectorBucketName": "films", "indexName": "short", "dataType": "float32", "dimension": 3,
        "distanceMetric": "cosine",
    });
    ask(&router, "/CreateIndex", &index).await;
    let vectors = json!([{"key": "alien", "data": {"text": "a monster"}}]);
    let put = json!({"vectorBucketName": "films", "indexName": "short", "vectors": vectors}).to_string();
    let (status, answer) = post(&router, "/PutVectors", put).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(status == 400 && answer.contains("dimension 3"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_index_is_counted() {
    let router = filled(app(Access::Open)).await;
    let counts = async |path: &str| {
        let (status, answer) = send(&router, Request::get(path).body(Body::empty()).unwrap()).await;
        (status, serde_json::from_slice::<Value>(&answer).unwrap())
    };
    let (status, counted) = counts("/admin/v1/vectors/films/plots").await;
    assert_eq!((status, &counted["rows"], &counted["tail_rows"]), (200, &1.into(), &1.into()));
    for (path, expected, word) in [("films/none", 404, "none"), ("none/plots", 404, "none"), ("X/plots", 400, "X")] {
        let (status, answer) = counts(&format!("/admin/v1/vectors/{path}")).await;
        assert_eq!(status, expected, "{path}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(word), "{answer}");
    }
}
