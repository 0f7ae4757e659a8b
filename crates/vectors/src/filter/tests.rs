use serde_json::{Value as Json, json};

use super::Filter;
use crate::metadata::{Metadata, MetadataLimits};

fn metadata(json: &Json) -> Metadata {
    Metadata::from_json(json, &[], MetadataLimits::default()).unwrap()
}

/// Which of these rows fit.
fn check(filter: &Json, expected: &[usize]) {
    let rows = [
        json!({"genre": "drama", "year": 2020, "tags": ["a", "b"], "ok": true}),
        json!({"genre": "comedy", "year": 1999.5, "tags": [], "ok": false}),
        json!({"genre": ["drama", 7], "year": "2020"}),
        json!({}),
    ];
    let parsed = Filter::parse(filter, &[]).unwrap();
    let found: Vec<usize> = (0..rows.len()).filter(|&row| parsed.matches(&metadata(&rows[row]))).collect();
    assert_eq!(found, expected, "{filter}");
}

#[test]
fn each_operator_means_what_its_page_says() {
    check(&json!({"genre": "drama"}), &[0, 2]);
    check(&json!({"genre": {"$eq": "drama"}}), &[0, 2]);
    check(&json!({"genre": {"$ne": "drama"}}), &[1, 3]);
    check(&json!({"genre": 7}), &[2]);
    check(&json!({"tags": {"$eq": "b"}}), &[0]);
    check(&json!({"ok": true}), &[0]);
    check(&json!({"ok": {"$ne": true}}), &[1, 2, 3]);
    check(&json!({"year": 2020}), &[0]);
    check(&json!({"year": 2020.0}), &[0]);
    check(&json!({"year": {"$gt": 1999.5}}), &[0]);
    check(&json!({"year": {"$gte": 1999.5}}), &[0, 1]);
    check(&json!({"year": {"$lt": 2020}}), &[1]);
    check(&json!({"year": {"$lte": 2020}}), &[0, 1]);
    check(&json!({"genre": {"$gt": 6}}), &[2]);
    check(&json!({"genre": {"$in": ["comedy", 7]}}), &[1, 2]);
    check(&json!({"genre": {"$in": []}}), &[]);
    check(&json!({"genre": {"$nin": ["comedy", 7]}}), &[0, 3]);
    check(&json!({"genre": {"$nin": []}}), &[0, 1, 2, 3]);
    check(&json!({"tags": {"$exists": true}}), &[0, 1]);
    check(&json!({"tags": {"$exists": false}}), &[2, 3]);
}

#[test]
fn tests_combine() {
    check(&json!({"genre": "drama", "year": 2020}), &[0]);
    check(&json!({"year": {"$gte": 1990, "$lt": 2000}}), &[1]);
    check(&json!({"$or": [{"genre": "comedy"}, {"year": "2020"}]}), &[1, 2]);
    check(&json!({"$and": [{"genre": "drama"}, {"$or": [{"ok": true}, {"genre": 7}]}]}), &[0, 2]);
    check(&json!({"$and": [{"genre": "drama"}], "ok": true}), &[0]);
}

#[test]
fn what_is_not_in_the_language_is_refused() {
    let mut deep = json!({"a": 1});
    for _ in 0..16 {
        deep = json!({"$and": [deep]});
    }
    let wide: Vec<Json> = (0..1025).map(|number| json!({"a": number})).collect();
    let bad = [
        json!(1),
        json!([]),
        json!({}),
        json!({"$and": []}),
        json!({"$or": {"a": 1}}),
        json!({"$not": [{"a": 1}]}),
        json!({"a": {}}),
        json!({"a": null}),
        json!({"a": [1]}),
        json!({"a": {"$eq": [1]}}),
        json!({"a": {"$like": "x"}}),
        json!({"a": {"$gt": "x"}}),
        json!({"a": {"$in": 1}}),
        json!({"a": {"$in": [[1]]}}),
        json!({"a": {"$exists": 1}}),
        json!({"a": {"b": 1}}),
        json!({"$and": [1]}),
        json!({"$or": wide}),
        deep,
    ];
    for filter in bad {
        assert!(Filter::parse(&filter, &[]).is_err(), "{filter}");
    }
    assert!(Filter::parse(&json!({"text": "x"}), &["text".to_owned()]).is_err());
}
