//! What becomes of the logits of a step.

use std::collections::BTreeMap;

use chat::{Event, Usage};
use models::LogitRows;

use super::{Active, Advance};
use crate::figures::Figures;
use crate::scheduler::{Input, Scheduler, SequenceId, Slice};

/// A step whose logits are there.
pub(super) struct Step<'a> {
    pub(super) name: &'a str,
    pub(super) figures: &'a Figures,
    pub(super) scheduler: &'a Scheduler,
    pub(super) inputs: &'a mut Vec<Input>,
    pub(super) active: &'a mut BTreeMap<SequenceId, Active>,
    pub(super) began_us: u64,
    pub(super) now_us: u64,
    /// Tokens that were drawn.
    pub(super) drawn: u64,
}

impl Step<'_> {
    /// Takes the rows of a slice and draws from them; returns what was drawn, without what ended the sequence.
    pub(super) fn take<'r>(&mut self, slice: &Slice, rows: &mut impl Iterator<Item = &'r [f32]>) -> Vec<u32> {
        let mut said = Vec::new();
        let active = self.active.get_mut(&slice.id).expect("only active sequences are planned");
        if active.cached_tokens.is_none() {
            active.cached_tokens = Some(slice.first as u32);
            self.figures.note_begin(self.began_us.saturating_sub(active.arrived_us));
            self.figures.prompt_tokens.add(u64::from(active.prompt_tokens));
            self.figures.cached_tokens.add(slice.first as u64);
        }
        if slice.guesses == 0 && active.rows_wanted(slice) == LogitRows::All {
            let scoring = slice.count - usize::from(slice.draws);
            active.score(slice, self.scheduler.tokens_of(slice.id), rows.by_ref().take(scoring));
        }
        if !slice.draws {
            return said;
        }
        let rows: Vec<&[f32]> = rows.by_ref().take(1 + slice.guesses).collect();
        let guesses = &self.scheduler.guesses_of(slice.id)[..slice.guesses];
        let mut right = 0;
        for (index, row) in rows.into_iter().enumerate() {
            let advance = active.advance(row);
            self.drawn += 1;
            self.figures.output_tokens.add(1);
            let Advance::Token(token) = advance else {
                self.figures.note_guesses(guesses.len(), right);
                self.end(slice.id, advance);
                return said;
            };
            said.push(token);
            self.inputs.push(Input::Advanced(slice.id, token));
            if let Some(lookup) = &mut active.lookup {
                lookup.push(token);
                active.draft.pass();
            }
            if guesses.get(index) != Some(&token) {
                break;
            }
            right += 1;
        }
        self.figures.note_guesses(guesses.len(), right);
        match &mut active.lookup {
            Some(_) if !guesses.is_empty() && active.is_drafted => active.draft.learn(guesses.len(), right),
            Some(lookup) if !guesses.is_empty() => lookup.learn(guesses.len(), right),
            Some(_) | None => {}
        }
        said
    }

    /// Ends a sequence with its last event.
    fn end(&mut self, id: SequenceId, advance: Advance) {
        let active = self.active.remove(&id).expect("it was just looked at");
        self.inputs.push(Input::Ended(id));
        let finish = match advance {
            Advance::Finished(finish) => finish,
            Advance::Missed(reason) => {
                let output_tokens = active.output_tokens;
                return active.end(Err(chat::Error::FormMissed { tries: 1, output_tokens, reason }));
            }
            Advance::Token(_) => unreachable!("a sequence with a next token goes on"),
        };
        let Usage { prompt_tokens, output_tokens, .. } = finish.usage;
        tracing::info!(
            request.id = %active.submission.id,
            model = self.name,
            tokens.in = prompt_tokens,
            tokens.out = output_tokens,
            elapsed_ms = (self.now_us - active.arrived_us) / 1000,
            "generation finished"
        );
        active.end(Ok(Event::Finished(finish)));
    }
}
