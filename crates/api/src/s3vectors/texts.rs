//! Full-text search on the wire: which fields, what they are asked for, and scores.

use vectors::{IndexEntry, Language, Opened, Scored, TEXT_FIELDS_MAX, TextField};

use super::error::{Check, Failure};
use super::types::{Bm25Score, FoundRow, QueryScores, QueryText, TextSearchConfiguration};

/// The longest question to one field, in characters; the vendor's limit.
const QUESTION_CHARS_MAX: usize = 1024;

/// Fields that are to be searched by words.
pub(super) fn fields(check: &mut Check, path: &str, wire: &[TextSearchConfiguration]) -> Vec<TextField> {
    check.length(path, wire.len(), 0..=TEXT_FIELDS_MAX);
    let codes = Language::CODES.map(|(code, _)| code);
    let mut fields: Vec<TextField> = Vec::new();
    for (place, one) in wire.iter().enumerate() {
        let path = format!("{path}/{place}");
        let key = check.required(&format!("{path}/metadataKey"), one.metadata_key.clone()).unwrap_or_default();
        check.length(&format!("{path}/metadataKey"), key.len(), 1..=63);
        check.one_of(&format!("{path}/language"), one.language.as_deref(), &codes);
        if fields.iter().any(|other| other.field == key) {
            check.add(&path, format!("the key {key:?} is given twice"));
        }
        let language = one.language.as_deref().and_then(Language::of_code).unwrap_or_default();
        fields.push(TextField { field: key, language });
    }
    fields
}

/// The fields of an index, with whether they can be searched without building something first.
pub(super) fn configurations(fields: &[TextField], index: Option<&Opened>) -> Option<Vec<TextSearchConfiguration>> {
    let one = |field: &TextField| TextSearchConfiguration {
        metadata_key: Some(field.field.clone()),
        language: field.language.code().map(str::to_owned),
        status: index.map(|index| if index.is_text_ready(field) { "ACTIVE" } else { "BUILDING" }.to_owned()),
    };
    (!fields.is_empty()).then(|| fields.iter().map(one).collect())
}

/// What fields are asked for, checked by itself.
pub(super) fn check(check: &mut Check, wire: &[QueryText]) {
    check.length("/queryTexts", wire.len(), 1..=TEXT_FIELDS_MAX);
    for (place, one) in wire.iter().enumerate() {
        let path = format!("/queryTexts/{place}");
        let text = check.required(&format!("{path}/text"), one.text.as_deref()).unwrap_or_default();
        check.length(&format!("{path}/text"), text.chars().count(), 1..=QUESTION_CHARS_MAX);
        let key = check.required(&format!("{path}/metadataKey"), one.metadata_key.as_deref());
        if wire[..place].iter().any(|other| other.metadata_key.as_deref() == key) {
            check.add(&path, "each entry must name another metadata key");
        }
    }
}

/// What the fields of an index are asked for.
pub(super) fn questions(entry: &IndexEntry, wire: &[QueryText]) -> Result<Vec<(TextField, String)>, Failure> {
    let one = |(place, one): (usize, &QueryText)| {
        let key = one.metadata_key.as_deref().unwrap_or_default();
        let field = entry.settings.texts.iter().find(|field| field.field == key);
        let unknown = || {
            let why = format!("the metadata key {key:?} has no text search configuration");
            Failure::field(&format!("/queryTexts/{place}/metadataKey"), why)
        };
        Ok((field.ok_or_else(unknown)?.clone(), one.text.clone().unwrap_or_default()))
    };
    wire.iter().enumerate().map(one).collect()
}

/// What of a row that was found is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    pub(super) distance: bool,
    pub(super) metadata: bool,
    pub(super) scores: bool,
}

/// A row that was found by words.
pub(super) fn found(row: &Scored, questions: &[(TextField, String)], shown: Shown) -> FoundRow {
    let matched = questions.iter().zip(&row.scores);
    let scores = QueryScores {
        fused: row.fused,
        bm25_scores: matched
            .filter_map(|((field, _), score)| Some(Bm25Score { metadata_key: field.field.clone(), score: (*score)? }))
            .collect(),
        vector_distance: row.distance,
    };
    FoundRow {
        key: row.key.as_str().to_owned(),
        distance: row.distance.filter(|_| shown.distance),
        metadata: shown.metadata.then(|| row.metadata.to_json()),
        scores: shown.scores.then_some(scores),
    }
}
