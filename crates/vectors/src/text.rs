//! Full text: which words a metadata field holds, and how well they fit a question (BM25).
//!
//! A segment's words lie beside its rows, in objects of their own (`postings`): they are made when the segment is
//! written or, for a field that is declared later, afterwards. Whatever makes them makes the same bytes, so processes
//! need not agree on who does. Rows in memory are read word by word with each question.

mod analysis;
mod dictionary;
mod postings;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use analysis::tokens;
#[cfg(test)]
pub(crate) use dictionary::examples;
pub(crate) use dictionary::{TextIndex, damaged_texts, fuzz};

use crate::metadata::{Metadata, Scalar};
use crate::{Error, Result};

/// Fields of an index that may be searched by words; the limit of Amazon S3 Vectors.
pub const TEXT_FIELDS_MAX: usize = 10;
/// Changes when words are taken from texts in another way: objects that were written before are then not found.
const ANALYSIS_VERSION: u32 = 1;
/// How quickly more of a word in one text counts for less; the usual value.
const K1: f32 = 1.2;
/// How much longer texts count for less; the usual value.
const B: f32 = 0.75;

/// Of which language texts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Words as they are, of any language.
    #[default]
    Standard,
    /// English.
    En,
    /// French.
    Fr,
    /// Spanish.
    Es,
    /// Portuguese.
    Pt,
    /// Italian.
    It,
    /// German.
    De,
    /// Dutch.
    Nl,
    /// Chinese.
    Zh,
    /// Japanese.
    Ja,
    /// Korean.
    Ko,
}

impl Language {
    /// Every language that has a code, with its code.
    pub const CODES: [(&'static str, Self); 10] = [
        ("en", Self::En),
        ("fr", Self::Fr),
        ("es", Self::Es),
        ("pt", Self::Pt),
        ("it", Self::It),
        ("de", Self::De),
        ("nl", Self::Nl),
        ("zh", Self::Zh),
        ("ja", Self::Ja),
        ("ko", Self::Ko),
    ];

    /// The language of a code.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        Self::CODES.iter().find(|(other, _)| *other == code).map(|&(_, language)| language)
    }

    /// The code of a language; `None` for [`Self::Standard`].
    #[must_use]
    pub fn code(self) -> Option<&'static str> {
        Self::CODES.iter().find(|(_, other)| *other == self).map(|&(code, _)| code)
    }
}

/// A metadata field that is searched by words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextField {
    /// Its name.
    pub field: String,
    /// Of which language its texts are.
    pub language: Language,
}

impl TextField {
    /// Checks that there are not too many, none twice, and that their names are names.
    ///
    /// # Errors
    /// [`Error::Invalid`] says which rule is broken.
    pub fn check(fields: &[Self]) -> Result<()> {
        let invalid = |why| Error::Invalid { field: "text_fields", why };
        if fields.len() > TEXT_FIELDS_MAX {
            return Err(invalid(format!("{} fields, {TEXT_FIELDS_MAX} allowed", fields.len())));
        }
        for (place, field) in fields.iter().enumerate() {
            if !(1..=63).contains(&field.field.len()) {
                return Err(invalid(format!("a name of {} bytes, 1 to 63 allowed", field.field.len())));
            }
            if fields[..place].iter().any(|other| other.field == field.field) {
                return Err(invalid(format!("{:?} is given twice", field.field)));
            }
        }
        Ok(())
    }

    /// How many of a question's words a row's field holds, and of how many; each word counts once.
    #[must_use]
    pub fn matched(&self, metadata: &Metadata, question: &str) -> (usize, usize) {
        let terms = Question::new(self, question).terms;
        let mut held = vec![false; terms.len()];
        self.words(metadata, |word| {
            if let Ok(term) = terms.binary_search_by(|term| term.as_ref().cmp(word)) {
                held[term] = true;
            }
        });
        (held.into_iter().filter(|held| *held).count(), terms.len())
    }

    /// Names the objects of this field's words in the folder of a segment.
    fn stem(&self) -> String {
        let text = format!("{ANALYSIS_VERSION} {} {}", self.language.code().unwrap_or("standard"), self.field);
        format!("text-{:016x}", crate::codec::hash64(text.as_bytes()))
    }

    /// The words of a row's field. Texts of a list are read one after the other.
    pub(crate) fn words(&self, metadata: &Metadata, mut each: impl FnMut(&str)) {
        for member in metadata.get(&self.field).map_or(&[][..], |value| value.members()) {
            match member {
                Scalar::Text(text) => tokens(text, self.language, &mut each),
                Scalar::Number(_) | Scalar::Bool(_) => {}
            }
        }
    }
}

/// A question to one field, as words.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) field: TextField,
    /// Sorted, each once.
    pub(crate) terms: Vec<Box<str>>,
}

impl Question {
    pub(crate) fn new(field: &TextField, text: &str) -> Self {
        let mut terms: Vec<Box<str>> = Vec::new();
        tokens(text, field.language, &mut |term: &str| terms.push(term.into()));
        terms.sort_unstable();
        terms.dedup();
        Self { field: field.clone(), terms }
    }
}

/// What is known of all texts of a field: how many there are, and how often words stand in them.
#[derive(Debug, Clone)]
pub(crate) struct Corpus {
    pub(crate) documents: u64,
    /// Words of all of them.
    pub(crate) length: u64,
    /// How many hold each term of the question.
    pub(crate) with_term: Vec<u64>,
}

impl Corpus {
    pub(crate) fn new(question: &Question) -> Self {
        Self { documents: 0, length: 0, with_term: vec![0; question.terms.len()] }
    }

    /// What a text gains by holding a term so often.
    ///
    /// Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the
    /// logarithm of one more, as Lucene has it, so that a word in more than half of the texts does not count against
    /// one.
    pub(crate) fn score(&self, term: usize, count: u32, length: u32) -> f32 {
        let (all, with) = (self.documents as f32, self.with_term[term] as f32);
        let rarity = (1.0 + (all - with + 0.5).max(0.0) / (with + 0.5)).ln();
        let mean = self.length as f32 / all.max(1.0);
        let count = count as f32;
        rarity * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length as f32 / mean.max(1.0)))
    }
}

/// Text fields of an index that is open, shared with whoever changes them.
pub(crate) type TextFields = Arc<[TextField]>;

#[cfg(test)]
mod tests;
