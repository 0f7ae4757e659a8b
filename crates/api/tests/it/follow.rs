//! Indexes that are followed: changes as they come, standing queries, and where a reader takes up again.

use std::sync::Arc;

use api::buckets::{Access, SUBSCRIPTIONS_MAX};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use chat::testing::Words;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::buckets::{app, ask, filled, post};

/// A stream of events that is read.
struct Events {
    body: Body,
    text: String,
}

/// An event: its id, its name, its data.
type Event = (String, String, Value);

impl Events {
    async fn begin(router: &Router, extra: &Value) -> Self {
        Self::begin_after(router, extra, None).await
    }

    async fn begin_after(router: &Router, extra: &Value, last_event_id: Option<&str>) -> Self {
        let mut request = Request::post("/SubscribeVectors");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = router.clone().oneshot(request.body(Body::from(wish(extra))).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        while !self.text.contains("\n\n") {
            let frame: Bytes = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text.push_str(str::from_utf8(&frame).unwrap());
        }
        let (event, rest) = self.text.split_once("\n\n").unwrap();
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
        let event = (field("id: "), field("event: "), serde_json::from_str(&field("data: ")).unwrap());
        self.text = rest.to_owned();
        Some(event)
    }

    /// The next change, whatever cursors come before it.
    async fn change(&mut self) -> (String, Value) {
        loop {
            let (_, name, data) = self.next().await.unwrap();
            if name != "cursor" {
                return (name, data);
            }
        }
    }
}

fn wish(extra: &Value) -> String {
    let mut wish = json!({"vectorBucketName": "films", "indexName": "plots"});
    wish.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    wish.to_string()
}

async fn put(router: &Router, vectors: &Value) {
    let put = json!({"vectorBucketName": "films", "indexName": "plots", "vectors": vectors});
    ask(router, "/PutVectors", &put).await;
}

async fn refused(router: &Router, extra: &Value) -> String {
    let (status, answer) = post(router, "/SubscribeVectors", wish(extra)).await;
    assert_eq!(status, 400, "{extra}");
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn changes_are_told_and_taken_up_again() {
    let router = filled(app(Access::Open)).await;
    let mut events = Events::begin(&router, &json!({"cursor": "earliest", "returnMetadata": true})).await;
    assert_eq!(events.change().await, ("put".to_owned(), json!({"key": "a", "metadata": {"n": 1}})));
    let mut live = Events::begin(&router, &json!({"returnData": true})).await;
    assert_eq!(live.next().await.unwrap().1, "cursor");
    let two = json!([{"key": "b", "data": {"float32": [3, 4]}}, {"key": "c", "data": {"float32": [5, 6]}}]);
    put(&router, &two).await;
    ask(&router, "/DeleteVectors", &json!({"vectorBucketName": "films", "indexName": "plots", "keys": ["a"]})).await;
    let (after_b, name, data) = live.next().await.unwrap();
    assert_eq!((name.as_str(), data), ("put", json!({"key": "b", "data": {"float32": [3.0, 4.0]}})));
    assert_eq!(events.change().await.1["key"], "b");
    assert_eq!(events.change().await.1["key"], "c");
    assert_eq!(events.change().await, ("delete".to_owned(), json!({"key": "a"})));
    for mut again in [
        Events::begin(&router, &json!({"cursor": after_b})).await,
        Events::begin_after(&router, &json!({}), Some(&after_b)).await,
    ] {
        assert_eq!(again.change().await.1, json!({"key": "c"}));
        assert_eq!(again.change().await.0, "delete");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn standing_queries_push_what_fits() {
    let router = filled(app(Access::Open)).await;
    let near = json!({"queryVector": {"float32": [0, 0]}, "maxDistance": 5, "filter": {"n": {"$gte": 2}}});
    let mut events = Events::begin(&router, &near).await;
    put(
        &router,
        &json!([
            {"key": "b", "data": {"float32": [3, 4]}, "metadata": {"n": 1}},
            {"key": "c", "data": {"float32": [3, 5]}, "metadata": {"n": 2}},
            {"key": "d", "data": {"float32": [3, 4]}, "metadata": {"n": 2}},
        ]),
    )
    .await;
    assert_eq!(events.change().await, ("put".to_owned(), json!({"key": "d", "distance": 5.0})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_standing_query_may_be_a_text() {
    let router = api::router(Arc::new(app(Access::Open).with_embed(Arc::new(Words::new("words", "ranks")))));
    ask(&router, "/CreateVectorBucket", &json!({"vectorBucketName": "films"})).await;
    let index = json!({
        "vectorBucketName": "films", "indexName": "plots", "dataType": "float32", "dimension": Words::DIMENSIONS,
        "distanceMetric": "cosine",
    });
    ask(&router, "/CreateIndex", &index).await;
    let wish = json!({"queryVector": {"text": "a monster in space"}, "maxDistance": 0.01});
    let mut events = Events::begin(&router, &wish).await;
    put(&router, &json!([{"key": "clue", "data": {"text": "murder at dinner"}}])).await;
    put(&router, &json!([{"key": "alien", "data": {"text": "a monster in space"}}])).await;
    assert_eq!(events.change().await.1["key"], "alien");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reader_that_lags_is_let_go_with_a_cursor() {
    let router = filled(app(Access::Open)).await;
    let mut events = Events::begin(&router, &json!({})).await;
    assert_eq!(events.next().await.unwrap().1, "cursor");
    put(&router, &json!([{"key": "first", "data": {"float32": [0, 0]}}])).await;
    assert_eq!(events.change().await.1["key"], "first");
    for number in 0..600 {
        put(&router, &json!([{"key": number.to_string(), "data": {"float32": [0, 0]}}])).await;
    }
    let mut told = 0;
    let end = loop {
        match events.next().await.unwrap() {
            (_, name, data) if name == "end" => break data,
            (_, name, _) => told += u32::from(name == "put"),
        }
    };
    assert_eq!((&end["code"], told), (&json!("Behind"), 0));
    assert_eq!(events.next().await, None);
    let mut again = Events::begin(&router, &json!({"cursor": end["cursor"]})).await;
    for number in 0..600 {
        assert_eq!(again.change().await.1["key"], number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_ends_with_its_index_and_with_the_right_to_read_it() {
    let router = filled(app(Access::Open)).await;
    let mut events = Events::begin(&router, &json!({})).await;
    events.next().await.unwrap();
    ask(&router, "/DeleteIndex", &json!({"vectorBucketName": "films", "indexName": "plots"})).await;
    let (_, name, end) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &end["code"]), ("end", &json!("NotFoundException")));
    assert_eq!(events.next().await, None);
    let router = filled(app(Access::Open)).await;
    let mut events = Events::begin(&router, &json!({})).await;
    events.next().await.unwrap();
    let deny = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Principal": "*", "Action": "s3vectors:ListVectors", "Resource": "*"},
    ]});
    let policy = json!({"vectorBucketName": "films", "policy": deny.to_string()});
    ask(&router, "/PutVectorBucketPolicy", &policy).await;
    assert_eq!(events.next().await.unwrap().2["code"], "AccessDeniedException");
    assert_eq!(post(&router, "/SubscribeVectors", wish(&json!({}))).await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn counters_are_told_as_they_change() {
    let router = filled(app(Access::Open)).await;
    let mut events = Events::begin(&router, &json!({"counters": true})).await;
    let (name, before) = events.change().await;
    assert_eq!((name.as_str(), &before["rows"], &before["puts"]), ("counters", &json!(1), &json!(1)));
    put(&router, &json!([{"key": "b", "data": {"float32": [3, 4]}}])).await;
    loop {
        let (name, now) = events.change().await;
        if name == "counters" {
            break assert_eq!((&now["rows"], &now["commits"], &now["queries"]), (&json!(2), &json!(2), &json!(0)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rows_end_when_they_say_so() {
    let router = filled(app(Access::Open)).await;
    let of_index = json!({"vectorBucketName": "films", "indexName": "plots"});
    let until = |field: &Value| {
        let mut wish = of_index.clone();
        wish["timeToLive"] = field.clone();
        wish
    };
    ask(&router, "/PutTimeToLive", &until(&json!({"metadataKey": "n"}))).await;
    let shown = ask(&router, "/GetIndex", &of_index).await;
    assert_eq!(shown["index"]["timeToLive"], json!({"metadataKey": "n"}));
    // It ended one second after 1970 began.
    assert_eq!(ask(&router, "/ListVectors", &of_index).await["vectors"], json!([]));
    ask(&router, "/PutTimeToLive", &until(&Value::Null)).await;
    assert_eq!(ask(&router, "/ListVectors", &of_index).await["vectors"], json!([{"key": "a"}]));
    let mut index = json!({
        "vectorBucketName": "films", "indexName": "ends", "dataType": "float32", "dimension": 2,
        "distanceMetric": "cosine", "metadataConfiguration": {"nonFilterableMetadataKeys": ["end"]},
        "timeToLive": {"metadataKey": "end"},
    });
    let (status, answer) = post(&router, "/CreateIndex", index.to_string()).await;
    assert!(status == 400 && String::from_utf8_lossy(&answer).contains("not filterable"));
    index["timeToLive"] = json!({"metadataKey": "until"});
    ask(&router, "/CreateIndex", &index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_makes_no_sense_is_refused_by_name() {
    let router = filled(app(Access::Open)).await;
    for (wish, named) in [
        (json!({"cursor": "yesterday"}), "Invalid cursor"),
        (json!({"queryVector": {"float32": [1, 2]}}), "maxDistance"),
        (json!({"maxDistance": 1}), "maxDistance"),
        (json!({"queryVector": {"float32": [1]}, "maxDistance": 1}), "dimension 2"),
        (json!({"queryVector": {"float32": [1, 2]}, "maxDistance": -1}), "-1"),
        (json!({"filter": {"n": {"$no": 1}}}), "$no"),
        (json!({"queryvector": {}}), "queryvector"),
    ] {
        let answer = refused(&router, &wish).await;
        assert!(answer.contains(named), "{answer}");
    }
    let mut all = Vec::new();
    for _ in 0..SUBSCRIPTIONS_MAX {
        all.push(Events::begin(&router, &json!({})).await);
    }
    assert_eq!(post(&router, "/SubscribeVectors", wish(&json!({}))).await.0, 429);
    all.pop();
    drop(Events::begin(&router, &json!({})).await);
}
