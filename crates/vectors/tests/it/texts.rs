//! Search by words against a plain scan, and both rankings fused.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base::Rng;
use serde_json::json;
use store::{Memory, Name, Store};
use vectors::{Config, Filter, Index, Key, Language, Metadata, MetadataLimits, Metric, Row, Scored, Shape, TextField};
use vectors::{TextQuery, verify};

const WORDS: [&str; 12] = ["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op", "qr", "st", "uv", "wx"];

fn field(name: &str) -> TextField {
    TextField { field: name.to_owned(), language: Language::Standard }
}

fn row(number: u64, rng: &mut Rng) -> Row {
    let mut text = |most: u64| -> String {
        let count = rng.below(most);
        // Small numbers are likelier: some words are common and some rare.
        let mut word = || {
            let most = rng.below(12) + 1;
            WORDS[rng.below(most) as usize]
        };
        let words: Vec<&str> = (0..count).map(|_| word()).collect();
        words.join(" ")
    };
    let json = json!({"title": text(4), "body": text(30), "part": number % 3});
    let metadata = Metadata::from_json(&json, &[], MetadataLimits::default()).unwrap();
    let vector = (0..8).map(|_| rng.unit_f64() as f32 - 0.5).collect();
    Row { key: Key::parse(&format!("{number:04}")).unwrap(), vector, metadata }
}

/// Scores of every row by the formula, as plainly as it can be written. `counted` are the rows that statistics are of.
fn plain(counted: &[&Row], field: &str, query: &[&str]) -> HashMap<Key, f32> {
    let words = |row: &Row| -> Vec<String> {
        let text = row.metadata.to_json()[field].as_str().unwrap().to_owned();
        text.split_whitespace().map(str::to_owned).collect()
    };
    let texts: Vec<(Key, Vec<String>)> = counted.iter().map(|row| (row.key.clone(), words(row))).collect();
    let all = texts.iter().filter(|(_, words)| !words.is_empty()).count() as f32;
    let mean = texts.iter().map(|(_, words)| words.len()).sum::<usize>() as f32 / all;
    let mut scores = HashMap::new();
    for term in query {
        let with = texts.iter().filter(|(_, words)| words.iter().any(|word| word == term)).count() as f32;
        let rarity = (1.0 + (all - with + 0.5) / (with + 0.5)).ln();
        for (key, words) in &texts {
            let count = words.iter().filter(|word| word == term).count() as f32;
            if count > 0.0 {
                let score = rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * words.len() as f32 / mean));
                *scores.entry(key.clone()).or_default() += score;
            }
        }
    }
    scores
}

fn check_order(found: &[Scored], expected: &HashMap<Key, f32>, count: usize) {
    let mut sorted: Vec<f32> = expected.values().copied().collect();
    sorted.sort_unstable_by(|left, right| right.total_cmp(left));
    assert_eq!(found.len(), count.min(expected.len()));
    for (row, best) in found.iter().zip(sorted) {
        let own: f32 = row.scores.iter().flatten().sum();
        assert!((own - expected[&row.key]).abs() < 1e-3, "{row:?} is {}", expected[&row.key]);
        assert!((own - best).abs() < 1e-3, "{row:?} stands where {best} should");
    }
}

async fn filled(config: Config) -> (Arc<dyn Store>, Name, Index, BTreeMap<Key, Row>) {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let folder = Name::parse("bucket/index").unwrap();
    let shape = Shape { dimension: 8, metric: Metric::Euclidean, not_filterable: Vec::new() };
    Index::create(&store, &folder, &shape).await.unwrap();
    let mut rng = Rng::seeded(5);
    let index = Index::open(&store, &folder, config, &mut rng).await.unwrap();
    let mut rows = BTreeMap::new();
    for generation in 0..3 {
        // The first segment is written before the fields are declared.
        if generation == 1 {
            index.set_text_fields(&[field("title"), field("body")]);
        }
        let some: Vec<Row> = (0..300).map(|number| row(generation * 300 + number, &mut rng)).collect();
        rows.extend(some.iter().map(|row| (row.key.clone(), row.clone())));
        index.put(some).await.unwrap();
        if generation < 2 {
            index.compact().await.unwrap();
        }
    }
    (store, folder, index, rows)
}

fn query(texts: &[(&str, &str)], neighbours: usize) -> TextQuery {
    let texts = texts.iter().map(|&(name, text)| (field(name), text.to_owned())).collect();
    TextQuery { vector: None, texts, neighbours, filter: None }
}

#[tokio::test]
async fn words_find_what_a_plain_scan_finds() {
    let (store, folder, index, rows) = filled(Config::default()).await;
    let all: Vec<&Row> = rows.values().collect();
    assert!(!index.is_text_ready(&field("body")));
    assert!(index.prepare_texts().await.unwrap() > 0);
    assert!(index.is_text_ready(&field("body")) && index.prepare_texts().await.unwrap() == 0);
    for words in [&["wx"][..], &["ab", "uv"], &["nowhere"], &["st", "nowhere", "gh"]] {
        let found = index.query_texts(&query(&[("body", &words.join(" "))], 20)).await.unwrap();
        check_order(&found, &plain(&all, "body", words), 20);
    }
    let both = index.query_texts(&query(&[("body", "wx uv"), ("title", "ab")], 1_000)).await.unwrap();
    let mut expected = plain(&all, "body", &["wx", "uv"]);
    for (key, score) in plain(&all, "title", &["ab"]) {
        *expected.entry(key).or_default() += score;
    }
    check_order(&both, &expected, 1_000);
    let filter = Some(Filter::parse(&json!({"part": 1}), &[]).unwrap());
    let filtered = index.query_texts(&TextQuery { filter, ..query(&[("body", "ab")], 1_000) }).await.unwrap();
    let of_part = |key: &Key| rows[key].metadata.to_json()["part"] == 1;
    let expected = plain(&all, "body", &["ab"]).into_iter().filter(|(key, _)| of_part(key)).collect();
    check_order(&filtered, &expected, 1_000);
    assert_eq!(verify(&store, &folder).await.unwrap().damaged, []);
}

#[tokio::test]
async fn what_was_deleted_is_not_found_and_every_process_finds_the_same() {
    let (store, folder, index, _) = filled(Config::default()).await;
    let before = index.query_texts(&query(&[("title", "ab")], 1_000)).await.unwrap();
    let gone: Vec<Key> = before.iter().step_by(2).map(|row| row.key.clone()).take(500).collect();
    index.delete(gone.clone()).await.unwrap();
    let after = index.query_texts(&query(&[("title", "ab")], 1_000)).await.unwrap();
    assert_eq!(after.len(), before.len() - gone.len());
    assert!(after.iter().all(|row| !gone.contains(&row.key)));
    index.compact().await.unwrap();
    let mut rng = Rng::seeded(9);
    let other = Index::open(&store, &folder, Config::default(), &mut rng).await.unwrap();
    let asked = query(&[("title", "ab")], 1_000);
    assert_eq!(index.query_texts(&asked).await.unwrap(), other.query_texts(&asked).await.unwrap());
}

#[tokio::test]
async fn two_rankings_are_fused() {
    let (_, _, index, rows) = filled(Config::default()).await;
    let near = rows.values().next().unwrap();
    let by_words = index.query_texts(&query(&[("body", "wx")], 100)).await.unwrap();
    let vector = Some(near.vector.to_vec());
    let found = index.query_texts(&TextQuery { vector, ..query(&[("body", "wx")], 20) }).await.unwrap();
    assert_eq!(found.len(), 20);
    assert!(found.iter().map(|row| row.fused).is_sorted_by(|left, right| left >= right));
    let nearest = found.iter().find(|row| row.key == near.key).expect("the vector itself is among the first");
    assert!(nearest.distance.is_some_and(|distance| distance < 1e-3));
    let first = found.iter().find(|row| row.key == by_words[0].key).expect("so is the best of the words");
    assert_eq!(first.scores, by_words[0].scores);
    let best = 1.0 / 61.0;
    assert!(first.fused.is_some_and(|fused| fused >= best) && nearest.fused.is_some_and(|fused| fused >= best));
}
