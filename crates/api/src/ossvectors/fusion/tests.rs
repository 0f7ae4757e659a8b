use std::collections::BTreeMap;

use serde_json::{Value, json};
use vectors::{Key, Metadata, MetadataLimits, Op};

use super::query::Expression;
use super::schema::{Schema, owner};
use super::wire::{Plan, QueryFusion};

fn schema() -> Schema {
    Schema::parse(&json!({"fields": [
        {"name": "words", "type": "vector", "dimension": 2, "distanceMetric": "cosine", "dataType": "float32"},
        {"name": "looks", "type": "vector", "dimension": 3, "distanceMetric": "cosine"},
        {"name": "title", "type": "string", "exactMatch": true, "text": {"enabled": true, "analyzer": "standard"}},
        {"name": "body", "type": "string", "exactMatch": false, "text": {"enabled": true}},
        {"name": "brand", "type": "string"}, {"name": "price", "type": "double"}, {"name": "stock", "type": "long"},
        {"name": "tags", "type": "string", "isArray": true}, {"name": "user", "type": "string", "isPartitionKey": true},
    ]}))
    .unwrap()
}

fn put(key: &str, data: &[(&str, &[f32])], metadata: &Value) -> Result<Vec<Op>, String> {
    let data: BTreeMap<_, _> = data.iter().map(|&(name, numbers)| (name.to_owned(), numbers.to_vec())).collect();
    schema().put(key, data, Some(metadata), MetadataLimits::default())
}

#[test]
fn schemas_that_may_not_be() {
    let vector = json!({"name": "v", "type": "vector", "dimension": 2});
    for (fields, named) in [
        (json!([]), "0 fields"),
        (json!([{"name": "v", "type": "vector"}]), "is 0, it must be 1 to 4096"),
        (json!([{"name": "v", "type": "vector", "dimension": 4097}]), "4097"),
        (json!([{"name": "v", "type": "vector", "dimension": 2, "dataType": "float16"}]), "dataType"),
        (json!([{"name": "v", "type": "vector", "dimension": 2, "distanceMetric": "dot"}]), "dot"),
        (json!([vector, vector]), "each once"),
        (json!([{"name": "$v", "type": "long"}]), "no $ or _ first"),
        (json!([{"name": "place", "type": "geoPoint"}]), "geoPoint"),
        (json!([{"name": "n", "type": "long", "text": {"enabled": true}}]), "only a string"),
        (json!([{"name": "n", "type": "string", "exactMatch": false}]), "found by nothing"),
        (json!([{"name": "n", "type": "string", "text": {"enabled": true, "analyzer": "split"}}]), "split"),
        (json!([{"name": "n", "type": "string", "misspelled": 1}]), "misspelled"),
        (json!([vector, {"name": "w", "type": "vector", "dimension": 2, "distanceMetric": "cosine"}]), "another"),
    ] {
        let refused = Schema::parse(&json!({"fields": fields})).unwrap_err();
        assert!(format!("{refused:?}").contains(named), "{fields}: {refused:?}");
    }
}

#[test]
fn a_vector_of_two_fields_is_two_rows() {
    let metadata = json!({"title": "red car", "brand": "b"});
    let ops = put("a", &[("looks", &[1.0, 2.0, 3.0]), ("words", &[4.0, 5.0])], &metadata).unwrap();
    let [Op::Put(main), Op::Delete(absent), Op::Put(looks)] = ops.as_slice() else { panic!("{ops:?}") };
    assert_eq!((main.key.as_str(), &*main.vector), ("a", &[4.0, 5.0, 0.0][..]));
    assert_eq!((owner(absent), owner(&looks.key)), (main.key.clone(), main.key.clone()));
    assert_eq!(schema().vector_of(main), Some(("words", &[4.0, 5.0][..])));
    assert_eq!(schema().vector_of(looks), Some(("looks", &[1.0, 2.0, 3.0][..])));
    assert!(main.metadata.get("title").is_some() && looks.metadata.get("title").is_none());
    assert!(looks.metadata.get("brand").is_some() && looks.metadata.get("\u{1}title").is_some());
    // What it had before goes, whichever of its rows that was.
    let ops = put("a", &[], &json!({})).unwrap();
    assert!(matches!(ops.as_slice(), [Op::Put(_), Op::Delete(_), Op::Delete(_)]), "{ops:?}");
    let Op::Put(main) = &ops[0] else { panic!("a main row") };
    assert_eq!(schema().vector_of(main), None);
}

/// A key, the numbers of a field, metadata, and what the refusal names.
type Refused<'a> = (&'a str, (&'a str, &'a [f32]), Value, &'a str);

#[test]
fn vectors_that_do_not_fit_are_refused() {
    let cases: &[Refused<'_>] = &[
        ("a", ("words", &[1.0]), json!({}), "its dimension is 2"),
        ("a", ("words", &[0.0, 0.0]), json!({}), "its length is 0"),
        ("a", ("other", &[1.0]), json!({}), "\"other\" is no vector field"),
        ("\u{1}a", ("words", &[1.0, 2.0]), json!({}), "control character"),
        ("a", ("words", &[1.0, 2.0]), json!({"\u{1}of": "x"}), "control character"),
        ("a", ("words", &[1.0, 2.0]), json!({"stock": 1.5}), "type long"),
        ("a", ("words", &[1.0, 2.0]), json!({"brand": ["x"]}), "type string"),
        ("a", ("words", &[1.0, 2.0]), json!({"tags": [1]}), "list of them"),
        ("a", ("words", &[1.0, 2.0]), json!([]), "not an object"),
        ("a", ("words", &[1.0, 2.0]), json!({"brand": "x".repeat(3000)}), "2048 allowed"),
    ];
    for (key, data, metadata, named) in cases {
        let refused = put(key, &[*data], metadata).unwrap_err();
        assert!(refused.contains(named), "{refused}");
    }
}

fn parsed(json: &Value) -> Result<Expression, String> {
    Expression::parse(&schema(), json)
}

fn score(json: &Value, metadata: &Value, words: &[Option<f32>]) -> Option<f32> {
    let metadata = Metadata::from_json(metadata, &[], MetadataLimits::default()).unwrap();
    parsed(json).unwrap().score(&metadata, words)
}

/// An expression, what its texts score by themselves, and what it scores.
type Scored<'a> = (Value, &'a [Option<f32>], Option<f32>);

#[test]
fn clauses_add_up() {
    let row = json!({"brand": "b", "price": 5, "title": "red car", "\u{1}title": "red car"});
    let cases: &[Scored<'_>] = &[
        (json!({"brand": "b"}), &[], Some(1.0)),
        (
            json!({"brand": {"$in": {"value": ["b"], "boost": 3}}, "price": {"$range": {"gte": 5, "lt": 6}}}),
            &[],
            Some(4.0),
        ),
        (json!({"$or": {"clauses": [{"brand": "x"}, {"price": {"$gt": {"value": 1, "boost": 0.5}}}]}}), &[], Some(0.5)),
        (json!({"$and": [{"brand": "x"}, {"price": 5}]}), &[], None),
        (json!({"title": {"$eq": "red car"}}), &[], Some(1.0)),
        (json!({"title": {"$textMatch": {"value": "car", "boost": 2}}}), &[Some(1.5)], Some(3.0)),
        (json!({"title": {"$textMatch": "boat"}}), &[None], None),
        (json!({"title": {"$textMatch": {"value": "red boat", "operator": "and"}}}), &[Some(1.0)], None),
        (json!({"title": {"$textMatch": {"value": "red big car", "minShouldMatch": "2"}}}), &[Some(1.0)], Some(1.0)),
        (json!({"title": {"$textMatch": {"value": "red big boat", "minShouldMatch": "60%"}}}), &[Some(1.0)], Some(1.0)),
        (json!({"title": {"$textMatch": {"value": "red big boat", "minShouldMatch": 2}}}), &[Some(1.0)], None),
        (json!({"$or": [{"title": {"$textMatch": "boat"}}, {"brand": "b"}]}), &[None], Some(1.0)),
    ];
    for (query, words, expected) in cases {
        assert_eq!(score(query, &row, words), *expected, "{query}");
    }
}

#[test]
fn what_must_hold_anyway_is_known() {
    let text = json!({"title": {"$textMatch": "car"}});
    let either = parsed(&json!({"$or": [text, {"brand": "b"}]})).unwrap();
    assert!(either.filter().is_none() && !either.needs_words());
    let both = parsed(&json!({"$and": [text, {"brand": "b"}]})).unwrap();
    assert!(both.filter().is_some() && both.needs_words());
}

#[test]
fn expressions_that_may_not_be() {
    for (query, named) in [
        (json!(1), "an object"),
        (json!({}), "empty"),
        (json!({"$not": {"brand": "b"}}), "$not"),
        (json!({"$and": []}), "not empty"),
        (json!({"other": 1}), "no field of the schema"),
        (json!({"body": "x"}), "exactMatch is false"),
        (json!({"brand": {"$textMatch": "x"}}), "not searched by words"),
        (json!({"brand": {"$like": "x"}}), "$like"),
        (json!({"brand": {"$eq": {"value": "x", "weight": 1}}}), "\"weight\""),
        (json!({"price": {"$range": {}}}), "no bound"),
        (json!({"price": {"$gt": "1"}}), "takes a number"),
        (json!({"price": {"$gt": {"value": 1, "boost": -1}}}), "boost is -1"),
        (json!({"title": {"$textMatch": {"value": ""}}}), "1 to 1024"),
        (json!({"title": {"$textMatch": {"value": "x", "operator": "xor"}}}), "operator"),
        (json!({"title": {"$textMatch": {"value": "x", "minShouldMatch": "many"}}}), "\"many\""),
    ] {
        let refused = parsed(&query).unwrap_err();
        assert!(refused.contains(named), "{query}: {refused}");
    }
    let words = json!({"title": {"$textMatch": "x"}});
    assert!(Expression::parse_filter(&schema(), &words).unwrap_err().contains("$textMatch"));
}

#[test]
fn requests_that_may_not_be() {
    let knn = json!({"field": "words", "queryVector": [1, 2]});
    let with = |name: &str, value: Value| {
        let mut changed = knn.clone();
        changed[name] = value;
        json!({"knn": changed})
    };
    for (query, named) in [
        (json!({}), "one of knn, query and retriever"),
        (json!({"knn": [knn, knn, knn, knn]}), "4 vector searches"),
        (json!({"knn": []}), "0 vector searches"),
        (with("field", json!("brand")), "no vector field"),
        (with("queryVector", json!([1])), "its dimension is 2"),
        (with("topK", json!(0)), "topK is 0"),
        (with("numCandidates", json!(5)), "at least topK, 10"),
        (with("futureParam", json!(5)), "futureParam"),
        (with("boost", json!(-1)), "boost is -1"),
        (json!({"knn": knn, "limit": 1001}), "limit is 1001"),
        (json!({"knn": knn, "nextToken": "MQ"}), "without knn only"),
        (json!({"query": {"brand": "b"}, "nextToken": "!"}), "none of ours"),
        (json!({"query": {"brand": "b"}, "sort": [{"_score": {"order": "asc"}}]}), "desc only"),
        (json!({"query": {"brand": "b"}, "sort": [{"body": {}}]}), "exactMatch"),
        (json!({"query": {"brand": "b"}, "partitionKeys": []}), "0 partitionKeys"),
        (json!({"retriever": {"knn": knn}, "query": {"brand": "b"}}), "cannot be given with"),
        (json!({"retriever": {"knn": knn, "simple": {"query": {}}}}), "retriever:"),
        (json!({"retriever": {"rrf": {"retrievers": []}}}), "0 retrievers"),
        (
            json!({"retriever": {"rrf": {"retrievers": [{"retriever": {"knn": knn}, "normalizer": "l2"}]}}}),
            "no normalizer",
        ),
        (json!({"retriever": {"weight": {"retrievers": [{"retriever": {"knn": knn}, "normalizer": "l3"}]}}}), "l3"),
    ] {
        let wire: QueryFusion = serde_json::from_value(query.clone()).unwrap();
        let refused = format!("{:?}", Plan::parse(schema(), wire).unwrap_err());
        assert!(refused.contains(named), "{query}: {refused}");
    }
    assert!(serde_json::from_value::<QueryFusion>(json!({"futureParam": 1})).is_err());
    assert_eq!(owner(&Key::parse("plain").unwrap()).as_str(), "plain");
}
