use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{FilterIndex, FilterIndexBuilder, sortable};
use crate::filter::Filter;
use crate::metadata::{Metadata, MetadataLimits};

/// Few values, so that they meet; more than 16 rows of some.
fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(json!("x")),
        Just(json!("y")),
        Just(json!("1")),
        Just(json!(true)),
        Just(json!(false)),
        (-2_i64..3).prop_map(|number| json!(number)),
        Just(json!(-0.0)),
        Just(json!(0.5)),
    ]
}

fn row() -> impl Strategy<Value = Json> {
    let value = prop_oneof![3 => scalar(), 1 => prop::collection::vec(scalar(), 0..3).prop_map(Json::from)];
    prop::collection::btree_map("[abc]", value, 0..3).prop_map(|fields| Json::Object(fields.into_iter().collect()))
}

fn field_test() -> impl Strategy<Value = Json> {
    let list = prop::collection::vec(scalar(), 0..3);
    prop_oneof![
        scalar(),
        ("\\$(eq|ne)", scalar()).prop_map(|(operator, value)| json!({operator: value})),
        ("\\$(in|nin)", list).prop_map(|(operator, values)| json!({operator: values})),
        ("\\$(gt|gte|lt|lte)", -2_i64..3).prop_map(|(operator, value)| json!({operator: value})),
        (-2_i64..3, -2_i64..3).prop_map(|(low, high)| json!({"$gte": low, "$lt": high})),
        any::<bool>().prop_map(|wanted| json!({"$exists": wanted})),
    ]
}

fn filter() -> impl Strategy<Value = Json> {
    let leaf = prop::collection::btree_map("[abcd]", field_test(), 1..3)
        .prop_map(|fields| Json::Object(fields.into_iter().collect()));
    leaf.prop_recursive(3, 12, 3, |inner| {
        ("\\$(and|or)", prop::collection::vec(inner, 1..4)).prop_map(|(operator, parts)| json!({operator: parts}))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn the_index_answers_as_the_naive_scan_does(rows in prop::collection::vec(row(), 1..80), filter in filter()) {
        let filter = Filter::parse(&filter, &[]).unwrap();
        let rows: Vec<Metadata> =
            rows.iter().map(|row| Metadata::from_json(row, &[], MetadataLimits::default()).unwrap()).collect();
        let mut builder = FilterIndexBuilder::default();
        rows.iter().for_each(|row| builder.push(row, &[]));
        let index = builder.finish();
        let naive: Vec<u32> =
            (0..rows.len() as u32).filter(|&row| filter.matches(&rows[row as usize])).collect();
        prop_assert_eq!(index.rows(&filter).iter().collect::<Vec<_>>(), naive);
        prop_assert_eq!(FilterIndex::decode(&index.encode(), rows.len() as u32), Some(index));
    }
}

#[test]
fn fields_that_are_not_filterable_are_left_out() {
    let mut builder = FilterIndexBuilder::default();
    let row = Metadata::from_json(&json!({"text": "long", "a": 1}), &[], MetadataLimits::default()).unwrap();
    builder.push(&row, &["text".to_owned()]);
    let index = builder.finish();
    let exists = |field: &str| index.rows(&Filter::parse(&json!({field: {"$exists": true}}), &[]).unwrap()).count();
    assert_eq!((exists("text"), exists("a")), (0, 1));
}

#[test]
fn numbers_sort_by_value() {
    let sorted = [f64::NEG_INFINITY, -1e300, -1.5, -f64::MIN_POSITIVE, 0.0, 1e-300, 2.0, f64::INFINITY];
    assert!(sorted.windows(2).all(|pair| sortable(pair[0]) < sortable(pair[1])));
    assert_eq!(sortable(-0.0), sortable(0.0));
}
