//! The thread that owns a model's cache and computes its steps.

mod guesses;
mod step;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use base::{Clock, RequestId};
use chat::{Event, Finish, FinishReason, Priority, StopMatch, Usage};
use kernels::Cpu;
use models::{Adapter, KvPool, LogitRows, Predictor, Qwen3, Recurrence, Sequence, Workspace};
use tokio::sync::mpsc::Sender;

use crate::budget::Budget;
use crate::constraint::{Constraint, Mask, Next};
use crate::drafter::Drafter;
use crate::figures::{Figures, Pace};
use crate::output::{Output, Scored, logprobs_of};
use crate::places::Place;
use crate::sampler::Sampler;
use crate::scheduler::{Input, Scheduler, SequenceId, Slice};
use crate::sight::{Sight, View};
use crate::speculation::{Costs, Lookup, Trust};
use step::Step;

/// Events that wait for their reader.
pub(crate) const EVENTS_MAX: usize = 256;
/// With less room than this a sequence rests; one token makes far fewer events.
const EVENTS_ROOM: usize = 32;
/// A reader that takes nothing for so long is taken for dead.
const STALLED_MS_MAX: u64 = 120_000;
/// How often resting readers are looked at when there is nothing else to do.
const REST_POLL: Duration = Duration::from_millis(5);

pub(crate) enum Command {
    Submit(Box<Submission>),
    Stop,
}

/// A request that is ready to be computed.
pub(crate) struct Submission {
    pub(crate) id: RequestId,
    /// The project that it is computed for; all who have none are one.
    pub(crate) project: Arc<str>,
    /// Whose kept blocks it may take.
    pub(crate) realm: Arc<str>,
    /// What it is computed with besides the model.
    pub(crate) adapter: Option<Arc<Adapter>>,
    /// Its place among others.
    pub(crate) priority: Priority,
    pub(crate) tokens: Vec<u32>,
    /// So many of the first are the system prompt and the tools.
    pub(crate) head: usize,
    /// The pictures among the tokens.
    pub(crate) sight: Option<Arc<Sight>>,
    pub(crate) sampler: Sampler,
    pub(crate) most_tokens: u32,
    /// The model's own ends of a turn.
    pub(crate) ending_tokens: Vec<u32>,
    /// Further tokens that end this request.
    pub(crate) stop_tokens: Vec<u32>,
    pub(crate) logprobs: Option<u32>,
    /// The log probabilities of the prompt are wanted too.
    pub(crate) scores_prompt: bool,
    /// Logits at and beyond this belong to no token.
    pub(crate) vocabulary: usize,
    pub(crate) output: Output,
    /// How long it may reason.
    pub(crate) budget: Option<Budget>,
    /// The form that the answer must have.
    pub(crate) constraint: Option<Constraint>,
    /// Whether its next tokens may be guessed.
    pub(crate) may_guess: bool,
    pub(crate) events: Sender<chat::Result<Event>>,
    /// Frees the request's place when the sequence is dropped.
    pub(crate) place: Place,
}

struct Active {
    submission: Submission,
    prompt_tokens: u32,
    output_tokens: u32,
    /// Tokens of the prompt that were in the cache already; `None` until its first step.
    cached_tokens: Option<u32>,
    /// So many tokens of the prompt need no score, or have it.
    scored: usize,
    arrived_us: u64,
    resting_since_us: Option<u64>,
    /// The tokens that the next draw may take, or why there are none.
    mask: Result<Option<Mask>, String>,
    /// Where guesses come from, if any are made.
    lookup: Option<Lookup>,
    /// How far the second model's guesses are to be trusted.
    draft: Trust,
    /// The last guess is the second model's.
    is_drafted: bool,
}

/// What a draw led to.
enum Advance {
    Token(u32),
    Finished(Finish),
    /// The answer has not the form that was asked for.
    Missed(String),
}

pub(crate) struct Worker {
    name: String,
    model: Qwen3,
    kv: KvPool,
    cpu: Arc<Cpu>,
    clock: Arc<dyn Clock>,
    scheduler: Scheduler,
    commands: Receiver<Command>,
    figures: Arc<Figures>,
    pace: Pace,
    active: BTreeMap<SequenceId, Active>,
    inputs: Vec<Input>,
    workspace: Workspace,
    costs: Costs,
    drafter: Option<Drafter>,
    predictor: Option<Predictor>,
    next_id: SequenceId,
}

impl Worker {
    pub(crate) fn new(
        name: String,
        model: Qwen3,
        kv: KvPool,
        cpu: Arc<Cpu>,
        clock: Arc<dyn Clock>,
        scheduler: Scheduler,
        commands: Receiver<Command>,
    ) -> Self {
        Self {
            name,
            model,
            kv,
            cpu,
            clock,
            scheduler,
            commands,
            figures: Arc::default(),
            pace: Pace::default(),
            active: BTreeMap::new(),
            inputs: Vec::new(),
            workspace: Workspace::default(),
            costs: Costs::default(),
            drafter: None,
            predictor: None,
            next_id: 0,
        }
    }

    /// The same with a second model that guesses, or a predictor of its own.
    pub(crate) fn with_guessers(self, drafter: Option<Drafter>, predictor: Option<Predictor>) -> Self {
        Self { drafter, predictor, ..self }
    }

    /// What is done here, for others to look at.
    pub(crate) fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Runs until it is told to stop or nobody can send any more.
    pub(crate) fn run(mut self) {
        let mut idle = true;
        while self.receive(idle) {
            self.look_at_readers();
            let plan = self.scheduler.step(self.inputs.drain(..));
            self.scheduler.restored().iter().for_each(|&(from, to)| self.kv.copy_slot(from, to));
            self.show_state();
            idle = plan.is_empty();
            if idle {
                continue;
            }
            let began_us = self.clock.monotonic_us();
            // A panic is our bug. It must cost the sequences of this step, not the server.
            let step = AssertUnwindSafe(|| self.compute(&plan));
            let drawn = catch_unwind(step).unwrap_or_else(|_| {
                tracing::error!(model = self.name, "a step panicked; its sequences are ended");
                self.fail_all("a step panicked");
                0
            });
            let took_us = self.clock.monotonic_us() - began_us;
            if plan.iter().all(|slice| slice.draws && slice.count == 1) {
                self.costs.note(plan.iter().map(|slice| 1 + slice.guesses).sum(), took_us);
            }
            self.pace.add(drawn, took_us);
            self.figures.set_rate(&self.pace);
        }
        // Before anything is let go of: whoever sees its events end early looks here for the reason.
        self.figures.note_stop();
    }

    fn show_state(&self) {
        let (running, waiting) = self.scheduler.counts();
        self.figures.running.set(running as u64);
        self.figures.waiting.set(waiting as u64);
        self.figures.blocks_used.set(self.scheduler.used_blocks() as u64);
        self.figures.blocks_held.set(self.scheduler.held_blocks() as u64);
        self.figures.preemptions.set(self.scheduler.preemptions());
    }

    /// Takes what arrived; waits for something if there is nothing to compute. False: stop.
    fn receive(&mut self, idle: bool) -> bool {
        if idle && self.inputs.is_empty() {
            let first = if self.active.is_empty() {
                self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.commands.recv_timeout(REST_POLL)
            };
            let goes_on = match first {
                Ok(command) => self.take(command),
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            if !goes_on {
                return false;
            }
        }
        while let Ok(command) = self.commands.try_recv() {
            if !self.take(command) {
                return false;
            }
        }
        true
    }

    fn take(&mut self, command: Command) -> bool {
        match command {
            Command::Stop => false,
            Command::Submit(submission) => {
                let id = self.next_id;
                self.next_id += 1;
                let mut submission = *submission;
                let tokens = std::mem::take(&mut submission.tokens);
                let prompt_tokens = tokens.len();
                let tokens = match &submission.sight {
                    Some(sight) => sight.identities(tokens),
                    None => tokens,
                };
                let reuses = !submission.scores_prompt;
                let (project, realm) = (Arc::clone(&submission.project), Arc::clone(&submission.realm));
                let priority = submission.priority;
                let guesses = submission.may_guess && submission.constraint.is_none();
                let lookup = guesses.then(|| Lookup::new(&tokens, submission.vocabulary));
                let pinned = submission.head;
                self.inputs.push(Input::Arrived { id, tokens, pinned, reuses, project, realm, priority });
                let active = Active {
                    output_tokens: 0,
                    cached_tokens: None,
                    prompt_tokens: prompt_tokens as u32,
                    scored: if submission.scores_prompt { 0 } else { prompt_tokens },
                    arrived_us: self.clock.monotonic_us(),
                    resting_since_us: None,
                    mask: Ok(None),
                    lookup,
                    draft: Trust::default(),
                    is_drafted: false,
                    submission,
                };
                self.active.insert(id, active);
                true
            }
        }
    }

    /// Drops sequences whose reader left, and lets those rest whose reader is behind.
    fn look_at_readers(&mut self) {
        let now_us = self.clock.monotonic_us();
        let inputs = &mut self.inputs;
        self.active.retain(|&id, active| {
            let events = &active.submission.events;
            let behind = events.capacity() < EVENTS_ROOM;
            let stalled_us = active.resting_since_us.map_or(0, |since| now_us - since);
            if events.is_closed() || (behind && stalled_us > STALLED_MS_MAX * 1000) {
                tracing::info!(request.id = %active.submission.id, "the reader left");
                inputs.push(Input::Ended(id));
                return false;
            }
            if behind != active.resting_since_us.is_some() {
                inputs.push(Input::Resting(id, behind));
                active.resting_since_us = behind.then_some(now_us);
            }
            true
        });
    }

    /// Computes a step and draws what is due; says how many tokens that were.
    fn compute(&mut self, plan: &[Slice]) -> u64 {
        let beside = |slice: &Slice| {
            let submission = &self.active[&slice.id].submission;
            (submission.sight.clone(), submission.adapter.clone())
        };
        let (sights, adapters): (Vec<_>, Vec<_>) = plan.iter().map(beside).unzip();
        let tokens: Vec<Vec<u32>> = plan.iter().map(|slice| self.tokens_of(slice)).collect();
        let views = plan.iter().zip(&sights).zip(&tokens);
        let views = views.map(|((slice, sight), tokens)| Some(sight.as_ref()?.view(tokens, slice.first)));
        let views: Vec<Option<View<'_>>> = views.collect();
        let parts = plan.iter().zip(&tokens).zip(&views).zip(&adapters);
        let batch = parts.map(|(((slice, tokens), view), adapter)| Sequence {
            tokens: view.as_ref().map_or(tokens, |view| &view.tokens),
            prompt_tokens: self.active[&slice.id].prompt_among(slice),
            first_position: slice.first,
            blocks: self.scheduler.blocks_of(slice.id),
            state: recurrence(&self.scheduler, slice),
            places: view.as_ref().map(|view| &*view.places),
            inserted: view.as_ref().map_or(&[], |view| &view.inserted),
            adapter: adapter.as_deref(),
            logits: self.active[&slice.id].rows_wanted(slice),
        });
        let batch: Vec<Sequence<'_>> = batch.collect();
        let drawing: Vec<_> = plan.iter().filter(|slice| slice.draws).map(|slice| slice.id).collect();
        let (model, cpu, kv, workspace) = (&self.model, &*self.cpu, &mut self.kv, &mut self.workspace);
        let watch = (&*self.clock, &*self.figures);
        let began_us = self.clock.monotonic_us();
        self.figures.note_step(batch.len());
        with_masks(&mut self.active, &drawing, watch, || {
            model.forward(cpu, kv, &batch, workspace);
        });
        if let Some(error) = self.workspace.failure() {
            tracing::error!(model = self.name, error = base::chain(&error), "a step failed; its sequences are ended");
            self.fail_all("the files of the model could not be read");
            return 0;
        }
        let mut rows = self.workspace.logits().chunks_exact(self.model.config().vocabulary);
        let mut step = Step {
            name: &self.name,
            figures: &self.figures,
            scheduler: &self.scheduler,
            inputs: &mut self.inputs,
            active: &mut self.active,
            began_us,
            now_us: self.clock.monotonic_us(),
            drawn: 0,
        };
        let said: Vec<Vec<u32>> = plan.iter().map(|slice| step.take(slice, &mut rows)).collect();
        let drawn = step.drawn;
        self.guess(plan, &views, &said);
        drawn
    }

    fn tokens_of(&self, slice: &Slice) -> Vec<u32> {
        let mut tokens = self.scheduler.tokens_of(slice.id)[slice.first..slice.first + slice.count].to_vec();
        tokens.extend_from_slice(&self.scheduler.guesses_of(slice.id)[..slice.guesses]);
        tokens
    }

    /// Ends every sequence that may have been touched by a step that went wrong.
    fn fail_all(&mut self, why: &str) {
        for (id, active) in std::mem::take(&mut self.active) {
            active.end(Err(chat::Error::Interrupted { reason: why.to_owned() }));
            self.inputs.push(Input::Failed(id));
        }
        self.workspace = Workspace::default();
    }
}

/// What a sequence does with its recurrent state in a step.
fn recurrence<'a>(scheduler: &'a Scheduler, slice: &Slice) -> Recurrence<'a> {
    let (slot, copies) = scheduler.state_of(slice.id);
    Recurrence { slot, guessed: slice.guesses, confirmed: slice.confirmed, copies }
}

/// Runs the forward pass, and beside it, on a thread of its own, finds out what the constrained sequences may say next.
fn with_masks<T>(
    active: &mut BTreeMap<SequenceId, Active>,
    drawing: &[SequenceId],
    (clock, figures): (&dyn Clock, &Figures),
    forward: impl FnOnce() -> T,
) -> T {
    let is_held =
        |(id, active): &(&SequenceId, &mut Active)| drawing.contains(id) && active.submission.constraint.is_some();
    let held: Vec<&mut Active> = active.iter_mut().filter(is_held).map(|(_, active)| active).collect();
    if held.is_empty() {
        return forward();
    }
    std::thread::scope(|scope| {
        let masks = scope.spawn(move || {
            let (began_us, found) = (clock.monotonic_us(), held.len());
            held.into_iter().for_each(Active::find_mask);
            figures.note_masks(found, clock.monotonic_us() - began_us);
        });
        let computed = forward();
        let began_us = clock.monotonic_us();
        if let Err(panic) = masks.join() {
            resume_unwind(panic);
        }
        figures.mask_waits_us.add(clock.monotonic_us() - began_us);
        computed
    })
}

impl Active {
    fn find_mask(&mut self) {
        if let Some(constraint) = &mut self.submission.constraint {
            self.mask = constraint.mask();
        }
    }

    /// How many tokens of a slice belong to the prompt.
    fn prompt_among(&self, slice: &Slice) -> usize {
        (self.prompt_tokens as usize).saturating_sub(slice.first).min(slice.count)
    }

    fn rows_wanted(&self, slice: &Slice) -> LogitRows {
        // The row of a token scores the token behind it.
        let scores = self.scored < self.prompt_tokens as usize && self.scored <= slice.first + slice.count;
        if scores || slice.guesses > 0 {
            LogitRows::All
        } else if slice.draws {
            LogitRows::Last
        } else {
            LogitRows::None
        }
    }

    /// Says how likely the tokens of the prompt were, from the rows of the tokens before them.
    fn score<'a>(&mut self, slice: &Slice, tokens: &[u32], rows: impl Iterator<Item = &'a [f32]>) {
        let Submission { vocabulary, logprobs, output, .. } = &mut self.submission;
        let mut scored = Vec::new();
        if self.scored == 0 {
            scored.push(Scored::first(tokens[0]));
        }
        let first = self.scored.max(1);
        // A prompt that was put back comes again from its beginning; what was said of it is not said twice.
        for (position, row) in (slice.first + 1..).zip(rows) {
            if (first..self.prompt_tokens as usize).contains(&position) {
                scored.push(logprobs_of(&row[..*vocabulary], tokens[position], logprobs.unwrap_or(0) as usize));
            }
        }
        self.scored += scored.len();
        output.scored_prompt(&scored);
        for event in self.submission.output.take() {
            self.send(Ok(event));
        }
    }

    /// Draws the next token from its logits and sends what it says.
    fn advance(&mut self, logits: &[f32]) -> Advance {
        let submission = &mut self.submission;
        if submission.most_tokens == 0 {
            return Advance::Finished(self.finish(FinishReason::Length, None));
        }
        let logits = &logits[..submission.vocabulary];
        let mask = match std::mem::replace(&mut self.mask, Ok(None)) {
            Ok(mask) => mask,
            Err(reason) => return Advance::Missed(reason),
        };
        let (reasons, spent) = (submission.output.in_reasoning(), submission.output.reasoning_tokens());
        let token = match submission.budget.as_mut().and_then(|budget| budget.forced(reasons, spent)) {
            Some(token) => {
                submission.sampler.record(token);
                token
            }
            None => submission.sampler.draw_allowed(logits, mask.as_ref().map(Mask::words)),
        };
        self.output_tokens += 1;
        let mut stop = if submission.ending_tokens.contains(&token) {
            Some(StopMatch::EndOfTurn)
        } else if submission.stop_tokens.contains(&token) {
            Some(StopMatch::Token(token))
        } else {
            let logprobs = submission.logprobs.map(|top| logprobs_of(logits, token, top as usize));
            let stopped = submission.output.push(token, logprobs).map(StopMatch::String);
            match submission.constraint.as_mut().map(|held| held.accept(token, submission.output.in_reasoning())) {
                Some(Err(reason)) => return Advance::Missed(reason),
                Some(Ok(Next::Over)) => stopped.or(Some(StopMatch::EndOfTurn)),
                Some(Ok(Next::More)) | None => stopped,
            }
        };
        let full = self.output_tokens >= submission.most_tokens;
        if stop.is_some() || full {
            submission.output.finish();
            // What was held back can complete a stop string.
            stop = submission.output.stopped().map(StopMatch::String).or(stop);
        }
        for event in submission.output.take() {
            if let Some(constraint) = &mut self.submission.constraint {
                constraint.hears(&event);
            }
            self.send(Ok(event));
        }
        let is_whole = matches!(stop, Some(StopMatch::EndOfTurn | StopMatch::Token(_)));
        if let Some(Err(reason)) = self.submission.constraint.as_ref().filter(|_| is_whole).map(Constraint::verdict) {
            return Advance::Missed(reason);
        }
        let output = &self.submission.output;
        let reason = match &stop {
            Some(StopMatch::String(_)) => FinishReason::Stop,
            Some(_) if output.called_tools() => FinishReason::ToolCalls,
            Some(_) => FinishReason::Stop,
            None if full => FinishReason::Length,
            None => return Advance::Token(token),
        };
        Advance::Finished(self.finish(reason, stop))
    }

    fn finish(&self, reason: FinishReason, stop: Option<StopMatch>) -> Finish {
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens.unwrap_or(0),
            output_tokens: self.output_tokens,
            reasoning_tokens: self.submission.output.reasoning_tokens(),
        };
        Finish { reason, stop, usage }
    }

    /// Sends the last event. The request's place is free before its reader can know that it is over.
    fn end(self, last: chat::Result<Event>) {
        let Submission { id, place, events, .. } = self.submission;
        drop(place);
        if events.try_send(last).is_err() {
            tracing::debug!(request.id = %id, "the last event found no reader");
        }
    }

    /// A reader that is gone, or has no room although it was given time, is noticed before the next step.
    fn send(&self, event: chat::Result<Event>) {
        if self.submission.events.try_send(event).is_err() {
            tracing::debug!(request.id = %self.submission.id, "an event found no reader");
        }
    }
}
