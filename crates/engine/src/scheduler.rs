//! Which tokens of which sequences the next step computes: a state machine without clock, threads or model.
//!
//! Every step takes, in this order and up to [`Limits::rows_per_step`] rows: the next token of every sequence that is
//! generating, then prompts, in chunks. So a long prompt never holds up the others for longer than one step of bounded
//! size, and prompts of several sequences share a step.
//!
//! Who is first: whoever has the higher priority; among equals whose project has had fewer rows (see `shares`); in a
//! project whoever came first. Whoever waits may take the place of a running sequence of lower priority, or of one
//! whose project has at least two places more than its own: places are shared out evenly too. That low priorities are
//! not forgotten, every [`TURN_STEPS`] steps one of them is raised for good.
//!
//! Cache blocks are taken when they are needed. If there are none, a sequence is put back into the queue with all its
//! tokens, to be computed again (preemption by recomputation): of the lowest priority, of the project that has most,
//! whichever arrived last. The sequence that arrived first among those of the highest priority is never put back and
//! always fits, so something always moves.
//!
//! Whole blocks that were computed are kept after their sequences ended, as long as there is room: a prompt that begins
//! like an earlier one of its project, or a sequence that was put back, begins behind what is still there (see
//! `blocks`). A model with a recurrent state can begin only where its state was kept: see `recurrent`.

mod admission;
mod recurrent;
mod shares;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use chat::Priority;
use kernels::DeltaCopy;

use crate::blocks::Blocks;
use crate::snapshots::Snapshots;
use recurrent::Recurrent;
use shares::Shares;

/// After so many steps one more sequence of low priority counts as one of high priority.
pub const TURN_STEPS: u64 = 64;

/// Names a sequence; ids rise with arrival.
pub type SequenceId = u64;

/// What bounds a step and the cache.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sequences in the cache at once.
    pub sequences_max: usize,
    /// Rows of one step, prompts and generated tokens together.
    pub rows_per_step: usize,
    /// Tokens of one cache block.
    pub block_tokens: usize,
    /// Blocks of the cache.
    pub blocks: u32,
    /// Of a model with a recurrent state: so many states are kept besides those of the sequences in the cache.
    pub snapshots: Option<u32>,
}

/// What happened since the last step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A sequence arrived.
    Arrived {
        /// Its name, higher than all before it.
        id: SequenceId,
        /// Its prompt, one token or more.
        tokens: Vec<u32>,
        /// So many of its first tokens are those of many prompts: they are kept longer than the rest.
        pinned: usize,
        /// Whether it may begin behind what is in the cache; if not, every token is computed.
        reuses: bool,
        /// The project that it is computed for.
        project: Arc<str>,
        /// Whose kept blocks it takes and adds to: in one realm equal tokens are computed alike, and for one project.
        realm: Arc<str>,
        /// Its place among others.
        priority: Priority,
    },
    /// This token was added to a sequence. If it is what was guessed, it is computed already.
    Advanced(SequenceId, u32),
    /// What may follow the last token of a sequence: computed with it if there is room, for nothing if it is wrong.
    Guessed(SequenceId, Vec<u32>),
    /// A sequence is over, for whatever reason. One that is not known is ignored.
    Ended(SequenceId),
    /// The last step was not computed: a sequence of it is over, and nothing of it may be kept.
    Failed(SequenceId),
    /// The reader of a sequence is behind (`true`) or has caught up: it rests, and keeps its blocks.
    Resting(SequenceId, bool),
}

/// Some tokens of a sequence that the next step computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Which sequence.
    pub id: SequenceId,
    /// Position of the first token.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Whether they reach the last token of the sequence, so that the next one can be drawn.
    pub draws: bool,
    /// Guessed tokens that are computed behind them: see [`Scheduler::guesses_of`].
    pub guesses: usize,
    /// So many tokens before the first were guessed in the last step, and right.
    pub confirmed: usize,
}

#[derive(Debug)]
struct Sequence {
    tokens: Vec<u32>,
    computed: usize,
    pinned: usize,
    reuses: bool,
    blocks: Vec<u32>,
    /// How many of its blocks, from the first, are kept for others too.
    kept: usize,
    resting: bool,
    project: Arc<str>,
    realm: Arc<str>,
    priority: Priority,
    /// It counts as one of high priority.
    is_raised: bool,
    /// What may follow the last token.
    guesses: Vec<u32>,
    /// So many of them were computed in the last step.
    computed_guesses: usize,
    recurrent: Recurrent,
}

impl Sequence {
    fn class(&self) -> Priority {
        if self.is_raised { Priority::High } else { self.priority }
    }

    fn push(&mut self, token: u32) {
        self.tokens.push(token);
        if self.computed_guesses > 0 && self.guesses[0] == token {
            self.guesses.remove(0);
            self.computed_guesses -= 1;
            self.computed += 1;
            self.recurrent.confirmed += 1;
        } else {
            self.forget_guesses();
        }
    }

    fn forget_guesses(&mut self) {
        self.guesses.clear();
        self.computed_guesses = 0;
    }

    fn is_prompt(&self) -> bool {
        self.tokens.len() - self.computed > 1
    }

    fn keep_computed(&mut self, blocks: &mut Blocks, block_tokens: usize) {
        while (self.kept + 1) * block_tokens <= self.computed {
            let tokens = &self.tokens[self.kept * block_tokens..(self.kept + 1) * block_tokens];
            blocks.keep(&self.realm, &mut self.blocks, self.kept, tokens);
            self.kept += 1;
            if self.kept * block_tokens <= self.pinned {
                blocks.pin(self.blocks[self.kept - 1]);
            }
        }
        self.recurrent.attach(&self.blocks, blocks);
    }
}

/// The scheduler of one model.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    blocks: Blocks,
    running: BTreeMap<SequenceId, Sequence>,
    waiting: BTreeMap<SequenceId, Sequence>,
    shares: Shares,
    steps: u64,
    /// Who is let in next, whoever else waits.
    promised: Option<SequenceId>,
    preemptions: u64,
    /// Slots of recurrent state that no sequence has.
    free_states: Vec<u32>,
    /// What has to be copied from slot to slot before the next step.
    restored: Vec<(u32, u32)>,
}

impl Scheduler {
    /// An empty scheduler.
    ///
    /// # Panics
    /// If a limit is 0.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        assert!(limits.sequences_max > 0 && limits.rows_per_step > 0, "{limits:?}");
        assert!(limits.block_tokens > 0 && limits.blocks > 0, "{limits:?}");
        let states = limits.sequences_max as u32;
        let snapshots = Snapshots::new(states..states + limits.snapshots.unwrap_or(0));
        Self {
            limits,
            blocks: Blocks::new(limits.blocks, limits.block_tokens, snapshots),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            shares: Shares::default(),
            steps: 0,
            promised: None,
            preemptions: 0,
            free_states: (0..states).rev().collect(),
            restored: Vec::new(),
        }
    }

    /// Tokens that one sequence can have at most.
    #[must_use]
    pub fn capacity_tokens(&self) -> usize {
        self.blocks.count() * self.limits.block_tokens
    }

    /// Sequences that hold blocks, and sequences that wait.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    /// Blocks that nobody holds.
    #[must_use]
    pub fn free_blocks(&self) -> usize {
        self.blocks.available()
    }

    /// Blocks that sequences hold.
    #[must_use]
    pub fn held_blocks(&self) -> usize {
        self.blocks.count() - self.blocks.available()
    }

    /// Blocks that are held or kept for whoever comes with the same beginning.
    #[must_use]
    pub fn used_blocks(&self) -> usize {
        self.blocks.used()
    }

    /// The tokens of a running sequence: its prompt, and what was added.
    ///
    /// # Panics
    /// If the sequence is not running.
    #[must_use]
    pub fn tokens_of(&self, id: SequenceId) -> &[u32] {
        &self.running[&id].tokens
    }

    /// Whether a sequence holds blocks.
    #[must_use]
    pub fn is_running(&self, id: SequenceId) -> bool {
        self.running.contains_key(&id)
    }

    /// How often a sequence was put back.
    #[must_use]
    pub fn preemptions(&self) -> u64 {
        self.preemptions
    }

    /// The blocks of a running sequence, in order.
    ///
    /// # Panics
    /// If the sequence is not running.
    #[must_use]
    pub fn blocks_of(&self, id: SequenceId) -> &[u32] {
        &self.running[&id].blocks
    }

    /// The slot of a running sequence's recurrent state, and what is kept of it besides in the step just planned.
    ///
    /// # Panics
    /// If the sequence is not running.
    #[must_use]
    pub fn state_of(&self, id: SequenceId) -> (u32, &[DeltaCopy]) {
        self.running[&id].recurrent.state()
    }

    /// Recurrent states that have to be copied, from slot to slot and in this order, before the step just planned is
    /// computed; also if there is nothing to compute.
    #[must_use]
    pub fn restored(&self) -> &[(u32, u32)] {
        &self.restored
    }

    /// What is guessed to follow the last token of a running sequence; a slice says how many are computed.
    ///
    /// # Panics
    /// If the sequence is not running.
    #[must_use]
    pub fn guesses_of(&self, id: SequenceId) -> &[u32] {
        &self.running[&id].guesses
    }

    /// Takes note of what happened and decides what the next step computes.
    ///
    /// The caller computes all slices before it calls again. An empty plan means that there is nothing to do until
    /// something arrives or stops resting.
    ///
    /// # Panics
    /// If a sequence arrives empty or with more tokens than the cache has room for.
    pub fn step(&mut self, inputs: impl IntoIterator<Item = Input>) -> Vec<Slice> {
        inputs.into_iter().for_each(|input| self.note(input));
        self.restored.clear();
        self.keep_computed();
        self.shares.settle(self.running.values().chain(self.waiting.values()).map(|sequence| &sequence.project));
        self.steps += 1;
        if self.steps.is_multiple_of(TURN_STEPS) {
            self.raise_one();
        }
        let mut rows = self.limits.rows_per_step;
        let mut planned = Vec::new();
        self.plan_generating(&mut rows, &mut planned);
        self.plan_prompts(&mut rows, &mut planned);
        self.plan_guesses(rows, &mut planned);
        for slice in &planned {
            let sequence = self.running.get_mut(&slice.id).expect("sequences that are put back leave the plan");
            sequence.computed = slice.first + slice.count;
            sequence.guesses.truncate(slice.guesses);
            sequence.computed_guesses = slice.guesses;
            if self.limits.snapshots.is_some() {
                sequence.recurrent.plan(slice, self.limits.block_tokens, &mut self.blocks.snapshots);
            }
            sequence.recurrent.confirmed = 0;
        }
        planned
    }

    fn note(&mut self, input: Input) {
        match input {
            Input::Arrived { id, tokens, pinned, reuses, project, realm, priority } => {
                let count = tokens.len();
                assert!(count > 0 && count <= self.capacity_tokens(), "{count} tokens can never be computed");
                let sequence = Sequence {
                    tokens,
                    computed: 0,
                    pinned,
                    reuses,
                    blocks: Vec::new(),
                    kept: 0,
                    resting: false,
                    project,
                    realm,
                    priority,
                    is_raised: false,
                    guesses: Vec::new(),
                    computed_guesses: 0,
                    recurrent: Recurrent::default(),
                };
                self.waiting.insert(id, sequence);
            }
            Input::Advanced(id, token) => {
                if let Some(sequence) = self.get_mut(id) {
                    sequence.push(token);
                }
            }
            Input::Guessed(id, guesses) => {
                if let Some(sequence) = self.get_mut(id) {
                    (sequence.guesses, sequence.computed_guesses) = (guesses, 0);
                }
            }
            Input::Ended(id) | Input::Failed(id) => {
                if let Some(mut sequence) = self.running.remove(&id) {
                    if matches!(input, Input::Ended(_)) {
                        sequence.keep_computed(&mut self.blocks, self.limits.block_tokens);
                    }
                    self.let_go(&mut sequence);
                }
                self.waiting.remove(&id);
                self.promised = self.promised.filter(|&promised| promised != id);
            }
            Input::Resting(id, resting) => {
                if let Some(sequence) = self.get_mut(id) {
                    sequence.resting = resting;
                }
            }
        }
    }

    /// What the last step computed can be found by others from now on.
    fn keep_computed(&mut self) {
        for sequence in self.running.values_mut() {
            sequence.keep_computed(&mut self.blocks, self.limits.block_tokens);
        }
    }

    fn get_mut(&mut self, id: SequenceId) -> Option<&mut Sequence> {
        self.running.get_mut(&id).or_else(|| self.waiting.get_mut(&id))
    }

    /// Whoever is first among those that have not the highest priority of all becomes one of high priority.
    fn raise_one(&mut self) {
        let all = || self.waiting.values().chain(self.running.values());
        let Some(highest) = all().map(|sequence| sequence.priority).max() else { return };
        let prompts = self.running.iter().filter(|(_, sequence)| sequence.is_prompt());
        let low = self.waiting.iter().chain(prompts).filter(|(_, sequence)| sequence.class() < highest);
        let Some(id) = low.min_by_key(|&(&id, sequence)| (self.shares.of(&sequence.project), id)).map(|(&id, _)| id)
        else {
            return;
        };
        if self.waiting.contains_key(&id) {
            self.promised = self.promised.or(Some(id));
        }
        if let Some(sequence) = self.get_mut(id) {
            sequence.is_raised = true;
        }
    }

    fn plan_generating(&mut self, rows: &mut usize, planned: &mut Vec<Slice>) {
        let mut ready = self.ready(false);
        ready.sort_by_key(|&id| (Reverse(self.running[&id].class()), id));
        for id in ready {
            self.plan(id, 1, rows, planned);
        }
    }

    /// Prompts of running and of waiting sequences, whoever is first. If the first that waits does not fit, the others
    /// that wait do not overtake it.
    fn plan_prompts(&mut self, rows: &mut usize, planned: &mut Vec<Slice>) {
        let mut ready = self.ready(true);
        let mut fits = true;
        // Ends: every round takes one of those that are ready, or lets one in, which takes a row or rests; and whoever
        // takes places from a project that has more leaves no reason to take one back.
        while *rows > 0 {
            ready.retain(|id| self.running.contains_key(id));
            let runs = ready.iter().copied().min_by_key(|&id| self.rank(id, &self.running[&id]));
            let waits = if fits { self.next_waiting() } else { None };
            let goes_on = |id: &SequenceId| {
                let rank = self.rank(*id, &self.running[id]);
                waits.is_none_or(|waits| rank < self.rank(waits, &self.waiting[&waits]))
            };
            if let Some(id) = runs.filter(goes_on) {
                ready.retain(|&other| other != id);
                self.plan(id, usize::MAX, rows, planned);
            } else if let Some(id) = waits {
                fits = self.admit(id, rows, planned);
            } else {
                return;
            }
        }
    }

    /// Gives what is left of the step to guesses: rows and blocks that nobody else wants.
    fn plan_guesses(&mut self, mut rows: usize, planned: &mut [Slice]) {
        let capacity = self.capacity_tokens();
        for slice in planned.iter_mut().filter(|slice| slice.draws && slice.count == 1) {
            let sequence = self.running.get_mut(&slice.id).expect("sequences that are put back leave the plan");
            let tokens = sequence.tokens.len();
            let mut count = sequence.guesses.len().min(rows).min(capacity - tokens);
            let needed = (tokens + count).div_ceil(self.limits.block_tokens);
            while sequence.blocks.len() < needed {
                let Some(block) = self.blocks.take() else { break };
                sequence.blocks.push(block);
            }
            count = count.min(sequence.blocks.len() * self.limits.block_tokens - tokens);
            rows -= count;
            slice.guesses = count;
        }
    }

    /// Running sequences with something to compute that do not rest: those with a prompt before them, or the others.
    fn ready(&self, is_prompt: bool) -> Vec<SequenceId> {
        let is_ready = |sequence: &Sequence| {
            !sequence.resting && sequence.tokens.len() > sequence.computed && sequence.is_prompt() == is_prompt
        };
        self.running.iter().filter(|(_, sequence)| is_ready(sequence)).map(|(&id, _)| id).collect()
    }

    /// Whoever has the least is first.
    fn rank(&self, id: SequenceId, sequence: &Sequence) -> (bool, Reverse<Priority>, u64, SequenceId) {
        (self.promised != Some(id), Reverse(sequence.class()), self.shares.of(&sequence.project), id)
    }

    fn next_waiting(&self) -> Option<SequenceId> {
        self.waiting.iter().min_by_key(|&(&id, sequence)| self.rank(id, sequence)).map(|(&id, _)| id)
    }

    /// Takes back what a sequence holds.
    fn let_go(&mut self, sequence: &mut Sequence) {
        self.blocks.release(&mut sequence.blocks);
        self.free_states.push(sequence.recurrent.slot);
        sequence.recurrent.give_up(&mut self.blocks.snapshots);
    }

    fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.limits.block_tokens)
    }

    /// Plans up to `most` tokens of a running sequence, taking blocks for them.
    fn plan(&mut self, id: SequenceId, most: usize, rows: &mut usize, planned: &mut Vec<Slice>) {
        // It may have been put back while an older sequence was planned.
        let Some(sequence) = self.running.get(&id) else { return };
        let (first, tokens) = (sequence.computed, sequence.tokens.len());
        let count = (tokens - first).min(most).min(*rows);
        if count == 0 || !self.reserve(id, first + count, planned) {
            return;
        }
        let project = Arc::clone(&self.running[&id].project);
        self.shares.charge(&project, count);
        *rows -= count;
        let confirmed = self.running[&id].recurrent.confirmed;
        planned.push(Slice { id, first, count, draws: first + count == tokens, guesses: 0, confirmed });
    }

    /// Gives a sequence blocks for so many tokens, at the cost of others, which leave the plan. False if it was put
    /// back itself.
    fn reserve(&mut self, id: SequenceId, tokens: usize, planned: &mut Vec<Slice>) -> bool {
        let needed = self.blocks_for(tokens);
        // Ends: every round either adds a block or removes a running sequence.
        loop {
            let sequence = self.running.get_mut(&id).expect("only running sequences get blocks");
            if sequence.blocks.len() >= needed {
                return true;
            }
            if let Some(block) = self.blocks.take() {
                sequence.blocks.push(block);
                continue;
            }
            let victim = self.least().expect("one sequence alone always fits");
            self.put_back(victim, planned);
            if victim == id {
                return false;
            }
        }
    }

    /// The running sequence that gives way first, unless it is the only one.
    fn least(&self) -> Option<SequenceId> {
        let (&top, _) = self.running.iter().min_by_key(|&(&id, sequence)| (Reverse(sequence.class()), id))?;
        let mut held: BTreeMap<&str, usize> = BTreeMap::new();
        self.running.values().for_each(|sequence| *held.entry(&sequence.project).or_default() += 1);
        let others = self.running.iter().filter(|&(&id, _)| id != top);
        let rank =
            |&(&id, sequence): &(&SequenceId, &Sequence)| (Reverse(sequence.class()), held[&*sequence.project], id);
        others.max_by_key(rank).map(|(&id, _)| id)
    }

    fn put_back(&mut self, id: SequenceId, planned: &mut Vec<Slice>) {
        let mut sequence = self.running.remove(&id).expect("only running sequences are put back");
        // What it computed before this step can be found again, by itself too, while there is room.
        self.let_go(&mut sequence);
        (sequence.computed, sequence.kept) = (0, 0);
        sequence.forget_guesses();
        self.preemptions += 1;
        planned.retain(|slice| slice.id != id);
        self.waiting.insert(id, sequence);
    }
}

#[cfg(test)]
mod tests;
