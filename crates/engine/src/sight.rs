//! Where the pictures of one sequence stand among its tokens.

use std::ops::Range;
use std::sync::Arc;

use models::Inserted;
use models::vision::{Features, Placed};

use crate::eyes::{IDENTITY_FIRST, Seen};

/// The pictures of a prompt, and the places of its tokens.
pub(crate) struct Sight {
    placed: Placed,
    runs: Vec<Run>,
}

/// The placeholder tokens of one frame pair.
struct Run {
    tokens: Range<usize>,
    features: Arc<Features>,
    /// The first of the features that stands there.
    first: usize,
    identity: u32,
}

/// What a step has to know of some tokens of a sequence.
pub(crate) struct View<'a> {
    /// Placeholders have an id that exists; what it says is overwritten.
    pub(crate) tokens: Vec<u32>,
    pub(crate) places: Vec<[u32; 3]>,
    pub(crate) inserted: Vec<Inserted<'a>>,
}

impl Sight {
    /// `placed` is where the pictures' runs of placeholders were found.
    pub(crate) fn new(placed: Placed, seen: &[Seen]) -> Self {
        let mut starts = placed.starts.iter();
        let mut runs = Vec::with_capacity(placed.starts.len());
        for one in seen {
            let [pairs, ..] = one.features.grid;
            let count = features_per_pair(&one.features);
            for (pair, &start) in (0..pairs).zip(&mut starts) {
                let (features, identity) = (Arc::clone(&one.features), one.identity);
                runs.push(Run { tokens: start..start + count, features, first: pair * count, identity });
            }
        }
        Self { placed, runs }
    }

    /// The prompt as the prefix cache is to know it: with the numbers of pictures in the places of placeholders.
    pub(crate) fn identities(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        for run in &self.runs {
            tokens[run.tokens.clone()].fill(run.identity);
        }
        tokens
    }

    /// What there is to know of the tokens from position `first` on.
    pub(crate) fn view(&self, tokens: &[u32], first: usize) -> View<'_> {
        let end = first + tokens.len();
        let place = |position: usize| match self.placed.positions.get(position) {
            Some(&place) => place,
            // What is generated follows the prompt one by one.
            None => [self.placed.next + (position - self.placed.positions.len()) as u32; 3],
        };
        let inserted = self.runs.iter().filter(|run| run.tokens.start < end && run.tokens.end > first).map(|run| {
            let (from, to) = (run.tokens.start.max(first), run.tokens.end.min(end));
            Inserted {
                row: from - first,
                features: &run.features,
                first: run.first + from - run.tokens.start,
                count: to - from,
            }
        });
        View {
            tokens: tokens.iter().map(|&token| if token >= IDENTITY_FIRST { 0 } else { token }).collect(),
            places: (first..end).map(place).collect(),
            inserted: inserted.collect(),
        }
    }
}

fn features_per_pair(features: &Features) -> usize {
    let [_, rows, columns] = features.grid;
    rows * columns / (models::picture::MERGE * models::picture::MERGE)
}
