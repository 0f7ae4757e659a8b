//! What may follow in the sequences of a step that go on.

use std::collections::BTreeMap;

use models::Followed;

use super::Worker;
use crate::eyes::IDENTITY_FIRST;
use crate::scheduler::{Input, SequenceId, Slice};
use crate::sight::View;
use crate::speculation::{DRAFT_MAX, GUESS_MAX, PREDICT_MAX};

impl Worker {
    /// Guesses what follows, where it pays. `said`: what each slice's sequence has said in this step.
    pub(super) fn guess(&mut self, plan: &[Slice], views: &[Option<View<'_>>], said: &[Vec<u32>]) {
        let drawing = plan.iter().filter(|slice| slice.draws).count();
        if let Some(drafter) = &mut self.drafter {
            drafter.keep(|id| self.active.contains_key(&id));
        }
        let mut asked = BTreeMap::new();
        for slice in plan.iter().filter(|slice| slice.draws) {
            if let Some(most) = self.guess_one(slice.id, drawing) {
                asked.insert(slice.id, most);
            }
        }
        self.predict(plan, views, said, &asked);
    }

    /// Guesses for one sequence beside `drawing` sequences: what was said before, or what the second model says. If the
    /// model's own predictor is to be asked, says for how many tokens.
    fn guess_one(&mut self, id: SequenceId, drawing: usize) -> Option<usize> {
        let active = self.active.get_mut(&id)?;
        let lookup = active.lookup.as_ref()?;
        // The last token of an answer needs no guess behind it.
        let room = (active.submission.most_tokens - active.output_tokens).saturating_sub(1);
        let guess = lookup.guess(GUESS_MAX.min(room as usize));
        if !guess.is_empty() && self.costs.pays(drawing, guess.len(), lookup.rate()) {
            active.is_drafted = false;
            self.inputs.push(Input::Guessed(id, guess.to_vec()));
            return None;
        }
        let longest = if self.predictor.is_some() { PREDICT_MAX } else { DRAFT_MAX };
        let most = active.draft.length(longest).min(room as usize);
        if most == 0 || (self.predictor.is_none() && self.drafter.is_none()) {
            return None;
        }
        if !self.costs.pays_draft(drawing, most, active.draft.rate()) {
            return None;
        }
        let Some(drafter) = self.drafter.as_mut() else { return Some(most) };
        if active.submission.sight.is_some() {
            return None;
        }
        let began_us = self.clock.monotonic_us();
        let guess = drafter.guess(&self.cpu, id, lookup.tokens(), most);
        if !guess.is_empty() {
            self.costs.note_draft(guess.len(), self.clock.monotonic_us() - began_us);
            active.is_drafted = true;
            self.inputs.push(Input::Guessed(id, guess));
        }
        None
    }

    /// Lets the predictor follow all rows of the step whose next token is known, and guess where it is asked.
    fn predict(
        &mut self,
        plan: &[Slice],
        views: &[Option<View<'_>>],
        said: &[Vec<u32>],
        asked: &BTreeMap<SequenceId, usize>,
    ) {
        let Some(predictor) = &mut self.predictor else { return };
        let (mut ids, mut followed, mut rows) = (Vec::new(), Vec::new(), 0);
        for ((slice, view), said) in plan.iter().zip(views).zip(said) {
            let first_row = rows;
            rows += slice.count + slice.guesses;
            let tokens = self.scheduler.tokens_of(slice.id);
            let end = slice.first + slice.count;
            let mut next = tokens[slice.first + 1..end].to_vec();
            // What a sequence said in this step is not among its tokens yet.
            next.extend_from_slice(if slice.draws { said } else { &tokens[end..=end] });
            next.iter_mut().filter(|token| **token >= IDENTITY_FIRST).for_each(|token| *token = 0);
            if next.is_empty() {
                continue;
            }
            ids.push(slice.id);
            followed.push(Followed {
                rows: first_row..first_row + next.len(),
                next,
                first_position: slice.first,
                blocks: self.scheduler.blocks_of(slice.id),
                places: view.as_ref().map(|view| &*view.places),
                most: asked.get(&slice.id).copied().unwrap_or(0),
            });
        }
        let began_us = self.clock.monotonic_us();
        let guesses = self.model.predict(&self.cpu, predictor, &self.workspace, &followed);
        let guessed: usize = guesses.iter().map(Vec::len).sum();
        if guessed > 0 && plan.iter().all(|slice| slice.draws && slice.count == 1) {
            self.costs.note_draft(guessed, self.clock.monotonic_us() - began_us);
        }
        for (id, guess) in ids.into_iter().zip(guesses).filter(|(_, guess)| !guess.is_empty()) {
            if let Some(active) = self.active.get_mut(&id) {
                active.is_drafted = true;
                self.inputs.push(Input::Guessed(id, guess));
            }
        }
    }
}
