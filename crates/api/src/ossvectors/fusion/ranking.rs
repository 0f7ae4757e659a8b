//! Rankings and what becomes of several: sums, reciprocal ranks, weighted scores. Pure.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde::Deserialize;
use vectors::{Key, Metadata, Scalar, Value};

/// A vector that was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hit {
    pub(super) key: Key,
    /// The higher, the better.
    pub(super) score: f32,
    /// What fields to sort by are looked up in, if it is at hand.
    pub(super) metadata: Option<Metadata>,
}

/// How scores of a ranking are made comparable to those of another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Normalizer {
    /// As they are.
    #[default]
    None,
    /// The best is 1, the worst 0.
    MinMax,
    /// Divided by the root of the sum of their squares.
    L2,
}

impl Normalizer {
    pub(super) fn apply(self, hits: &mut [Hit]) {
        let scores = || hits.iter().map(|hit| hit.score);
        let (low, high) = (scores().fold(f32::INFINITY, f32::min), scores().fold(f32::NEG_INFINITY, f32::max));
        let length = scores().map(|score| score * score).sum::<f32>().sqrt();
        for hit in hits {
            hit.score = match self {
                Self::None => hit.score,
                Self::MinMax if high > low => (hit.score - low) / (high - low),
                Self::MinMax => 1.0,
                Self::L2 if length > 0.0 => hit.score / length,
                Self::L2 => 0.0,
            };
        }
    }
}

/// Several rankings as one.
#[derive(Debug, Default)]
pub(super) struct Sum(HashMap<Key, Hit>);

impl Sum {
    /// Adds a ranking whose scores count so much.
    pub(super) fn add(&mut self, hits: Vec<Hit>, weight: f32) {
        for hit in hits {
            let sum = self.0.entry(hit.key.clone());
            let sum = sum.or_insert_with(|| Hit { key: hit.key, score: 0.0, metadata: None });
            sum.score += weight * hit.score;
            sum.metadata = sum.metadata.take().or(hit.metadata);
        }
    }

    /// The best first, ties in the order of their keys.
    pub(super) fn ranked(self) -> Vec<Hit> {
        let mut hits: Vec<Hit> = self.0.into_values().collect();
        rank(&mut hits);
        hits
    }
}

/// What ranks count instead of scores.
///
/// Source: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
/// Methods" (2009).
pub(super) fn reciprocal_ranks(hits: &mut [Hit], k: f32) {
    for (place, hit) in hits.iter_mut().enumerate() {
        hit.score = 1.0 / (k + place as f32 + 1.0);
    }
}

/// The best first, ties in the order of their keys.
pub(super) fn rank(hits: &mut [Hit]) {
    hits.sort_unstable_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.key.cmp(&right.key)));
}

/// What answers are ordered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SortKey {
    /// The best first.
    Score,
    /// A metadata field; what has none comes last.
    Field { name: String, is_ascending: bool },
}

/// Orders by the first key, what is equal by the next, and what is equal in all by the vectors' keys.
pub(super) fn sort(hits: &mut [Hit], keys: &[SortKey]) {
    hits.sort_by(|left, right| {
        let by_key = |key: &SortKey| match key {
            SortKey::Score => right.score.total_cmp(&left.score),
            SortKey::Field { name, is_ascending } => by_field(left, right, name, *is_ascending),
        };
        let ordered = keys.iter().map(by_key).find(|order| *order != Ordering::Equal);
        ordered.unwrap_or_else(|| left.key.cmp(&right.key))
    });
}

fn by_field(left: &Hit, right: &Hit, name: &str, is_ascending: bool) -> Ordering {
    let value = |hit: &'_ Hit| -> Option<Scalar> {
        match hit.metadata.as_ref()?.get(name)? {
            Value::One(scalar) => Some(scalar.clone()),
            Value::Many(members) => members.first().cloned(),
        }
    };
    match (value(left), value(right)) {
        (Some(left), Some(right)) => {
            let order = compare(&left, &right);
            if is_ascending { order } else { order.reverse() }
        }
        (left, right) => right.is_some().cmp(&left.is_some()),
    }
}

/// The schema gives every field one type; values of two types are equal.
fn compare(left: &Scalar, right: &Scalar) -> Ordering {
    match (left, right) {
        (Scalar::Text(left), Scalar::Text(right)) => left.cmp(right),
        (Scalar::Bool(left), Scalar::Bool(right)) => left.cmp(right),
        (Scalar::Number(left), Scalar::Number(right)) => {
            left.as_f64().unwrap_or_default().total_cmp(&right.as_f64().unwrap_or_default())
        }
        (Scalar::Text(_) | Scalar::Bool(_) | Scalar::Number(_), _) => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::{Hit, Normalizer, SortKey, Sum, reciprocal_ranks, sort};
    use vectors::{Key, Metadata, MetadataLimits};

    fn hits(scores: &[(&str, f32)]) -> Vec<Hit> {
        let hit = |&(key, score): &(&str, f32)| Hit { key: Key::parse(key).unwrap(), score, metadata: None };
        scores.iter().map(hit).collect()
    }

    fn shown(hits: &[Hit]) -> Vec<(&str, f32)> {
        hits.iter().map(|hit| (hit.key.as_str(), hit.score)).collect()
    }

    #[test]
    fn rankings_add_up() {
        let mut sum = Sum::default();
        sum.add(hits(&[("a", 1.0), ("b", 0.5)]), 2.0);
        sum.add(hits(&[("b", 4.0), ("c", 2.0)]), 1.0);
        assert_eq!(shown(&sum.ranked()), [("b", 5.0), ("a", 2.0), ("c", 2.0)]);
    }

    #[test]
    fn scores_are_made_comparable() {
        let normal = |normalizer: Normalizer, scores: &[(&'static str, f32)]| {
            let mut hits = hits(scores);
            normalizer.apply(&mut hits);
            hits.iter().map(|hit| hit.score).collect::<Vec<_>>()
        };
        let some = [("a", 4.0), ("b", 3.0), ("c", 0.0)];
        assert_eq!(normal(Normalizer::None, &some), [4.0, 3.0, 0.0]);
        assert_eq!(normal(Normalizer::MinMax, &some), [1.0, 0.75, 0.0]);
        assert_eq!(normal(Normalizer::L2, &some), [0.8, 0.6, 0.0]);
        assert_eq!(normal(Normalizer::MinMax, &[("a", 4.0)]), [1.0]);
        assert_eq!(normal(Normalizer::L2, &[("a", 0.0)]), [0.0]);
        assert_eq!(normal(Normalizer::MinMax, &[]), [0.0; 0]);
    }

    #[test]
    fn ranks_count_what_the_paper_says() {
        let mut some = hits(&[("a", 9.0), ("b", 8.0)]);
        reciprocal_ranks(&mut some, 1.0);
        assert_eq!(shown(&some), [("a", 0.5), ("b", 1.0 / 3.0)]);
    }

    #[test]
    fn sorting_knows_missing_fields_and_ties() {
        let mut some = hits(&[("d", 1.0), ("c", 3.0), ("b", 2.0), ("a", 2.0)]);
        for (hit, json) in some.iter_mut().zip([r#"{"n": 2}"#, "{}", r#"{"n": 1}"#, r#"{"n": 1}"#]) {
            let json = serde_json::from_str(json).unwrap();
            hit.metadata = Some(Metadata::from_json(&json, &[], MetadataLimits::default()).unwrap());
        }
        let by = |is_ascending| SortKey::Field { name: "n".to_owned(), is_ascending };
        let order = |hits: &[Hit]| hits.iter().map(|hit| hit.key.as_str().to_owned()).collect::<String>();
        sort(&mut some, &[by(true)]);
        assert_eq!(order(&some), "abdc");
        sort(&mut some, &[by(false), SortKey::Score]);
        assert_eq!(order(&some), "dabc");
        sort(&mut some, &[SortKey::Score]);
        assert_eq!(order(&some), "cabd");
    }
}
