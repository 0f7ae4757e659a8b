//! Fusion indexes through the router: put, get, list, delete, and every way to ask.

use api::buckets::Access;
use axum::Router;
use axum::http::Request;
use serde_json::{Value, json};

use crate::buckets::{app, filled, post, send};

const HOST: &str = "films-000000000000.localhost";

async fn oss(router: &Router, operation: &str, body: &Value) -> (u16, Value) {
    let request = Request::post(format!("/?{operation}")).header("host", HOST).body(body.to_string().into()).unwrap();
    let (status, answer) = send(router, request).await;
    (status, if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer).unwrap() })
}

async fn done(router: &Router, operation: &str, body: &Value) -> Value {
    let (status, answer) = oss(router, operation, body).await;
    assert!(status < 300, "{operation} {body}: {answer}");
    answer
}

/// An index of goods, each with one vector of its text, one of its looks, or both.
async fn goods() -> Router {
    let router = filled(app(Access::Open)).await;
    let fields = json!([
        {"name": "text", "type": "vector", "dataType": "float32", "dimension": 2, "distanceMetric": "cosine"},
        {"name": "looks", "type": "vector", "dataType": "float32", "dimension": 3, "distanceMetric": "cosine"},
        {"name": "title", "type": "string", "exactMatch": true, "text": {"enabled": true, "analyzer": "standard"}},
        {"name": "brand", "type": "string"}, {"name": "price", "type": "double"},
        {"name": "user", "type": "string", "isPartitionKey": true},
    ]);
    let index = json!({"indexName": "goods", "mode": "fusion", "schemaConfiguration": {"fields": fields}});
    done(&router, "putVectorIndexFusion", &index).await;
    let row = |key: &str, data: Value, title: &str, brand: &str, price: f64, user: &str| {
        json!({"key": key, "data": data, "metadata": {
            "title": title, "brand": brand, "price": price, "user": user, "note": "kept"}})
    };
    let vectors = [
        row("phone", json!({"text": [1, 0], "looks": [0, 0, 1]}), "wireless phone", "ant", 300.0, "u1"),
        row("radio", json!({"text": [0, 1]}), "wireless radio", "bee", 50.0, "u1"),
        row("kettle", json!({"looks": [0, 1, 1]}), "red kettle", "bee", 20.0, "u2"),
        row("book", json!({}), "the red book", "ant", 10.0, "u2"),
    ];
    done(&router, "putVectors", &json!({"indexName": "goods", "vectors": vectors})).await;
    router
}

async fn found(router: &Router, query: &Value) -> Vec<String> {
    let mut query = query.clone();
    query["indexName"] = "goods".into();
    let answer = done(router, "queryVectorsFusion", &query).await;
    answer["vectors"].as_array().unwrap().iter().map(|hit| hit["key"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn vectors_come_back_as_they_were_sent() {
    let router = goods().await;
    let keys =
        json!({"indexName": "goods", "keys": ["phone", "book", "none"], "returnData": true, "returnMetadata": true});
    let answer = done(&router, "getVectors", &keys).await;
    let phone = json!({"title": "wireless phone", "brand": "ant", "price": 300.0, "user": "u1", "note": "kept"});
    assert_eq!(answer["vectors"][0]["data"], json!({"text": [1.0, 0.0], "looks": [0.0, 0.0, 1.0]}));
    assert_eq!(answer["vectors"][0]["metadata"], phone);
    assert_eq!((&answer["vectors"][1]["key"], &answer["vectors"][1]["data"]), (&json!("book"), &json!({})));
    assert_eq!(answer["vectors"].as_array().unwrap().len(), 2);
    let listed = done(&router, "listVectors", &json!({"indexName": "goods", "returnMetadata": true})).await;
    let mut keys: Vec<_> =
        listed["vectors"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["book", "kettle", "phone", "radio"]);
    let shown = done(&router, "getVectorIndex", &json!({"indexName": "goods"})).await;
    assert_eq!((&shown["index"]["mode"], &shown["index"]["dimension"]), (&json!("fusion"), &Value::Null));
    assert_eq!(shown["index"]["schemaConfiguration"]["fields"][0]["name"], "text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_written_again_or_deleted_leaves_nothing_behind() {
    let router = goods().await;
    let looks = json!({"knn": {"field": "looks", "queryVector": [0, 0, 1]}});
    assert_eq!(found(&router, &looks).await, ["phone", "kettle"]);
    let vectors = json!([{"key": "phone", "data": {"text": [1, 0]}, "metadata": {"brand": "ant"}}]);
    done(&router, "putVectors", &json!({"indexName": "goods", "vectors": vectors})).await;
    assert_eq!(found(&router, &looks).await, ["kettle"]);
    done(&router, "deleteVectors", &json!({"indexName": "goods", "keys": ["kettle"]})).await;
    assert_eq!(found(&router, &looks).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_way_to_ask() {
    let router = goods().await;
    let text = json!({"field": "text", "queryVector": [1, 0.1]});
    let looks = json!({"field": "looks", "queryVector": [0, 1, 1], "boost": 5});
    let with_filter = json!({"field": "text", "queryVector": [1, 0.1], "filter": {"price": {"$range": {"lt": 100}}}});
    let words = json!({"title": {"$textMatch": {"value": "red wireless"}}});
    let rrf = json!({"rrf": {"k": 1, "windowSize": 10, "retrievers": [
        {"retriever": {"knn": text}, "weight": 1.0},
        {"retriever": {"simple": {"query": {"title": {"$textMatch": "radio"}}}}, "weight": 5},
    ]}});
    let weight = json!({"weight": {"windowSize": 10, "retrievers": [
        {"retriever": {"knn": text}, "weight": 0.1, "normalizer": "minMax"},
        {"retriever": {"simple": {"query": {"brand": "bee"}}}, "weight": 0.9, "normalizer": "minMax"},
    ]}});
    let cases: &[(Value, &[&str])] = &[
        (json!({"knn": text}), &["phone", "radio"]),
        (json!({"knn": [text, looks]}), &["phone", "kettle", "radio"]),
        (json!({"knn": with_filter}), &["radio"]),
        (json!({"knn": text, "partitionKeys": ["u2"]}), &[]),
        (
            json!({"knn": text, "query": {"brand": {"$eq": {"value": "bee", "boost": 3}}}}),
            &["radio", "kettle", "phone"],
        ),
        (json!({"query": {"brand": "ant"}}), &["book", "phone"]),
        (json!({"query": {"title": "red kettle"}}), &["kettle"]),
        (json!({"query": {"brand": {"$ne": "ant"}}, "sort": [{"price": {"order": "asc"}}]}), &["kettle", "radio"]),
        (
            json!({"query": {"price": {"$gt": 0}}, "sort": [{"price": {"order": "desc"}}], "limit": 2}),
            &["phone", "radio"],
        ),
        (json!({"query": {"$and": [words, {"brand": "bee"}]}}), &["kettle", "radio"]),
        (json!({"query": {"title": {"$textMatch": {"value": "red book", "operator": "and"}}}}), &["book"]),
        (json!({"retriever": rrf}), &["radio", "phone"]),
        (json!({"retriever": weight}), &["kettle", "radio", "phone"]),
    ];
    for (query, keys) in cases {
        assert_eq!(found(&router, query).await, *keys, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_show_scores_pages_and_what_was_asked_for() {
    let router = goods().await;
    let near = json!({"indexName": "goods", "knn": {"field": "text", "queryVector": [2, 0], "topK": 1}});
    let answer = done(&router, "queryVectorsFusion", &near).await;
    assert_eq!(answer, json!({"vectors": [{"key": "phone", "score": 1.0}]}));
    let mut query = json!({"indexName": "goods", "query": {"price": {"$exists": true}}, "limit": 3,
        "returnMetadata": true, "returnMetadataFields": ["brand"]});
    let first = done(&router, "queryVectorsFusion", &query).await;
    assert_eq!(first["vectors"][0], json!({"key": "book", "score": 1.0, "metadata": {"brand": "ant"}}));
    query["nextToken"] = first["nextToken"].clone();
    let last = done(&router, "queryVectorsFusion", &query).await;
    assert_eq!((last["vectors"][0]["key"].as_str(), last.get("nextToken")), (Some("radio"), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_kind_of_index_is_asked_in_its_own_way() {
    let router = goods().await;
    let (status, answer) =
        oss(&router, "queryVectors", &json!({"indexName": "goods", "topK": 1, "queryVector": {"float32": [1, 2]}}))
            .await;
    assert!(status == 400 && answer.to_string().contains("QueryVectorsFusion"), "{answer}");
    let (status, answer) = oss(&router, "queryVectorsFusion", &json!({"indexName": "plots", "query": {"n": 1}})).await;
    assert!(status == 400 && answer.to_string().contains("no fusion index"), "{answer}");
    let wish = json!({"vectorBucketName": "films", "indexName": "goods"});
    let (status, answer) = post(&router, "/ListVectors", wish.to_string()).await;
    assert!(status == 400 && String::from_utf8_lossy(&answer).contains("fusion"));
    let batch = json!({"indexName": "goods", "vectors": [{"key": "x", "data": {"float32": [1, 2]}}]});
    let (status, answer) = oss(&router, "putVectors", &batch).await;
    assert!(status == 400 && answer.to_string().contains("no vector field"), "{answer}");
}
