//! Search by words, alone or together with a vector.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::Index;
use super::effort::Effort;
use super::search::{Match, Query, Want, chosen_rows};
use crate::distance::prepare;
use crate::error::tried;
use crate::filter::Filter;
use crate::metadata::Metadata;
use crate::segment::{Of, Wanted, read_rows};
use crate::state::{Live, View};
use crate::text::{Corpus, Question, TextField, TextFields, TextIndex};
use crate::types::{Key, NEIGHBOURS_MAX, Row};
use crate::{Error, Result};

/// How far down a ranking goes that is fused with another.
const FUSED_DEPTH_MIN: usize = 100;
/// How much the first places count for more than later ones. Source: Cormack, Clarke and Büttcher, "Reciprocal Rank
/// Fusion outperforms Condorcet and individual Rank Learning Methods" (2009).
const FUSION: f32 = 60.0;
/// How often a search begins again because a compaction removed a segment under it.
const TRIES_MAX: u32 = 5;

/// What is looked for by words, and by a vector too if there is one.
#[derive(Debug, Clone)]
pub struct TextQuery {
    /// Neighbours of this vector are ranked too, and the two rankings fused.
    pub vector: Option<Vec<f32>>,
    /// Fields and what their texts are asked for.
    pub texts: Vec<(TextField, String)>,
    /// How many rows, 1 to [`NEIGHBOURS_MAX`].
    pub neighbours: usize,
    /// Among which rows.
    pub filter: Option<Filter>,
}

/// A row that was found by words or by its vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Its key.
    pub key: Key,
    /// Its metadata.
    pub metadata: Metadata,
    /// How well each field fits, in the order of the query's; `None` where no word does.
    pub scores: Vec<Option<f32>>,
    /// How far its vector is, if it is among the nearest.
    pub distance: Option<f32>,
    /// Both rankings together, if there were two.
    pub fused: Option<f32>,
}

impl Scored {
    fn total(&self) -> f32 {
        self.scores.iter().flatten().sum()
    }
}

/// How well each row of a segment fits each question; 0 where it does not. `[questions, rows]`
type Scores = Vec<Vec<f32>>;

impl Index {
    /// Says which fields are searched by words: compactions prepare them.
    pub fn set_text_fields(&self, fields: &[TextField]) {
        let mut own = self.text_fields.lock().unwrap_or_else(PoisonError::into_inner);
        if **own != *fields {
            *own = fields.into();
        }
    }

    pub(super) fn text_fields(&self) -> TextFields {
        Arc::clone(&self.text_fields.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Collects the words of fields in segments that have none yet. Says how many segments and fields that were.
    ///
    /// # Errors
    /// Errors of the store; [`Error::Corrupt`] names a damaged object.
    pub async fn prepare_texts(&self) -> Result<usize> {
        let fields = self.text_fields();
        let segments = self.state().segments.clone();
        let mut prepared = 0;
        for live in &segments {
            for field in fields.iter() {
                if live.segment.known_text(field).is_none() {
                    live.segment.text(field).await?;
                    prepared += 1;
                }
            }
        }
        Ok(prepared)
    }

    /// Whether there is something to do for [`Self::prepare_texts`].
    #[must_use]
    pub fn wants_texts(&self) -> bool {
        self.text_fields().iter().any(|field| !self.is_text_ready(field))
    }

    /// Whether the words of a field are at hand in every segment that this process knows.
    #[must_use]
    pub fn is_text_ready(&self, field: &TextField) -> bool {
        self.state().segments.iter().all(|live| live.segment.known_text(field).is_some())
    }

    /// The rows that fit best, best first: by the sum of their fields' scores (BM25), or, with a vector, by both
    /// rankings fused. Sees every write that was acknowledged before the call.
    ///
    /// Cost: beside the query of the vector, a read of each word's rows; and every row in memory is read word by word.
    /// The first search of a field in a segment whose words nobody has collected does that first.
    ///
    /// # Errors
    /// If the query does not fit the index; errors of the store; [`Error::Corrupt`] names a damaged object.
    pub async fn query_texts(&self, query: &TextQuery) -> Result<Vec<Scored>> {
        if !(1..=NEIGHBOURS_MAX).contains(&query.neighbours) {
            let why = format!("{}, 1 to {NEIGHBOURS_MAX} allowed", query.neighbours);
            return Err(Error::Invalid { field: "neighbours", why });
        }
        if let Some(vector) = &query.vector {
            self.shape.check_vector(vector)?;
        }
        self.counters[2].fetch_add(1, Ordering::Relaxed);
        let questions: Vec<Question> = query.texts.iter().map(|(field, text)| Question::new(field, text)).collect();
        let mut tries = 0;
        // Ends: each round counts a try.
        loop {
            self.refresh().await?;
            let view = self.view();
            match self.search_texts(&view, query, &questions).await {
                Err(Error::Store { source, .. }) if source.is_not_found() && tries < TRIES_MAX => tries += 1,
                answer => return answer,
            }
        }
    }

    async fn search_texts(&self, view: &View, query: &TextQuery, questions: &[Question]) -> Result<Vec<Scored>> {
        let depth = match &query.vector {
            Some(_) => query.neighbours.max(FUSED_DEPTH_MIN),
            None => query.neighbours,
        };
        let mut found = ranked_by_words(view, query.filter.as_ref(), questions, depth).await?;
        if let Some(vector) = &query.vector {
            let want = Want { vector: false, metadata: true };
            let near = Query {
                vector: vector.clone(),
                neighbours: depth,
                filter: query.filter.clone(),
                want,
                effort: Effort::FULL,
            };
            let near = self.search(view, &near, &prepare(vector, self.shape.metric)).await?;
            found = fuse(found, near, questions.len());
        }
        found.truncate(query.neighbours);
        Ok(found)
    }
}

/// The rows that hold any of the words, best first, ties in the order of their keys.
async fn ranked_by_words(
    view: &View,
    filter: Option<&Filter>,
    questions: &[Question],
    depth: usize,
) -> Result<Vec<Scored>> {
    let tail: Vec<&Arc<Row>> = view.tail.live().collect();
    let mut in_segments: Vec<Scores> = vec![Scores::new(); view.segments.len()];
    let mut in_tail: HashMap<u32, Vec<Option<f32>>> = HashMap::new();
    for (place, question) in questions.iter().enumerate() {
        let mut corpus = Corpus::new(question);
        let counted = count_tail(&tail, question, &mut corpus);
        let texts = open_all(&view.segments, question, &mut corpus).await?;
        // The statistics are of all rows, whatever the filter.
        let fits = |row: u32| filter.is_none_or(|filter| filter.matches(&tail[row as usize].metadata));
        for (row, length, counts) in counted.into_iter().filter(|&(row, _, _)| fits(row)) {
            let score: f32 = counts.iter().map(|&(term, count)| corpus.score(term, count, length)).sum();
            in_tail.entry(row).or_insert_with(|| vec![None; questions.len()])[place] = Some(score);
        }
        for ((live, text), scores) in view.segments.iter().zip(&texts).zip(&mut in_segments) {
            scores.push(score_segment(live, text, question, &corpus).await?);
        }
    }
    let of_tail = |(row, scores): (u32, _)| of_row(&tail[row as usize].key, &tail[row as usize].metadata, scores);
    let mut found: Vec<Scored> = in_tail.into_iter().map(of_tail).collect();
    found.append(&mut read_best(view, filter, in_segments, depth).await?);
    found.sort_unstable_by(|left, right| right.total().total_cmp(&left.total()).then_with(|| left.key.cmp(&right.key)));
    found.truncate(depth);
    Ok(found)
}

fn of_row(key: &Key, metadata: &Metadata, scores: Vec<Option<f32>>) -> Scored {
    Scored { key: key.clone(), metadata: metadata.clone(), scores, distance: None, fused: None }
}

/// How often which terms stand in which rows in memory: the row, its length, terms with their counts.
type Counted = Vec<(u32, u32, Vec<(usize, u32)>)>;

fn count_tail(tail: &[&Arc<Row>], question: &Question, corpus: &mut Corpus) -> Counted {
    let mut counted = Counted::new();
    for (row, place) in tail.iter().zip(0..) {
        let (mut length, mut counts) = (0, vec![0; question.terms.len()]);
        question.field.words(&row.metadata, |word| {
            length += 1;
            if let Ok(term) = question.terms.binary_search_by(|term| term.as_ref().cmp(word)) {
                counts[term] += 1;
            }
        });
        corpus.documents += u64::from(length > 0);
        corpus.length += u64::from(length);
        let held: Vec<(usize, u32)> = counts.into_iter().enumerate().filter(|&(_, count)| count > 0).collect();
        held.iter().for_each(|&(term, _)| corpus.with_term[term] += 1);
        if !held.is_empty() {
            counted.push((place, length, held));
        }
    }
    counted
}

async fn open_all(segments: &[Live], question: &Question, corpus: &mut Corpus) -> Result<Vec<Arc<TextIndex>>> {
    let mut texts = Vec::with_capacity(segments.len());
    for live in segments {
        let text = live.segment.text(&question.field).await?;
        corpus.documents += u64::from(text.documents);
        corpus.length += text.length;
        for (term, with_term) in question.terms.iter().zip(&mut corpus.with_term) {
            *with_term += text.find(term).map_or(0, |place| u64::from(place.rows));
        }
        texts.push(text);
    }
    Ok(texts)
}

/// How well each row of a segment fits, also of those that are dead. `[rows]`
async fn score_segment(live: &Live, text: &TextIndex, question: &Question, corpus: &Corpus) -> Result<Vec<f32>> {
    let places: Vec<_> =
        question.terms.iter().enumerate().filter_map(|(term, word)| Some((term, text.find(word)?))).collect();
    let wanted: Vec<_> = places
        .iter()
        .map(|&(_, place)| text.range(place).map(|(name, range)| (name, vec![range])))
        .collect::<Result<_>>()?;
    let lists = live.segment.store.get_many(&wanted).await.map_err(tried("read the words of a segment"))?;
    let mut scores = vec![0.0; live.segment.head.rows as usize];
    for (&(term, place), bytes) in places.iter().zip(lists.iter().flatten()) {
        text.list(place, bytes, |row, count| {
            let row = row as usize;
            scores[row] += corpus.score(term, count, u32::from(text.lengths[row]));
        })?;
    }
    Ok(scores)
}

/// Reads the documents of the best rows of segments that fit the filter.
async fn read_best(
    view: &View,
    filter: Option<&Filter>,
    in_segments: Vec<Scores>,
    depth: usize,
) -> Result<Vec<Scored>> {
    let mut best: Vec<(f32, usize, u32)> = Vec::new();
    for (place, (live, scores)) in view.segments.iter().zip(&in_segments).enumerate() {
        let total = |row: u32| scores.iter().map(|of_question| of_question[row as usize]).sum::<f32>();
        let rows = chosen_rows(live, filter);
        best.extend(rows.iter().map(|row| (total(row), place, row)).filter(|&(score, _, _)| score > 0.0));
    }
    best.sort_unstable_by(|left, right| right.0.total_cmp(&left.0).then((left.1, left.2).cmp(&(right.1, right.2))));
    best.truncate(depth);
    let wanted: Vec<Wanted<'_>> = best
        .iter()
        .map(|&(_, place, row)| Wanted { segment: &view.segments[place].segment, row, of: Of::Document })
        .collect();
    let mut found = Vec::with_capacity(best.len());
    for (bytes, (_, place, row)) in read_rows(&wanted).await?.iter().zip(best) {
        let (key, metadata) = view.segments[place].segment.document(row, bytes)?;
        // The filter index knows texts by their hashes; the metadata has the last word.
        if filter.is_none_or(|filter| filter.matches(&metadata)) {
            let scores = in_segments[place].iter().map(|of_question| of_question[row as usize]);
            found.push(of_row(&key, &metadata, scores.map(|score| (score > 0.0).then_some(score)).collect()));
        }
    }
    Ok(found)
}

/// One ranking of two.
fn fuse(by_words: Vec<Scored>, near: Vec<Match>, questions: usize) -> Vec<Scored> {
    let points = |rank: usize| 1.0 / (FUSION + rank as f32 + 1.0);
    let mut all: HashMap<Key, Scored> = HashMap::new();
    for (rank, mut row) in by_words.into_iter().enumerate() {
        row.fused = Some(points(rank));
        all.insert(row.key.clone(), row);
    }
    for (rank, row) in near.into_iter().enumerate() {
        let known = all
            .entry(row.key.clone())
            .or_insert_with(|| of_row(&row.key, &row.metadata.unwrap_or_default(), vec![None; questions]));
        known.distance = Some(row.distance);
        known.fused = Some(known.fused.unwrap_or_default() + points(rank));
    }
    let mut found: Vec<Scored> = all.into_values().collect();
    let fused = |row: &Scored| row.fused.unwrap_or_default();
    found.sort_unstable_by(|left, right| fused(right).total_cmp(&fused(left)).then_with(|| left.key.cmp(&right.key)));
    found
}
