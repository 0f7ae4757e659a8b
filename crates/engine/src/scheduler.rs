//! Which tokens of which sequences the next step computes: a state machine without clock, threads or model.
//!
//! Every step takes, in this order and up to [`Limits::rows_per_step`] rows: the next token of every sequence that is
//! generating, then prompts in order of arrival, in chunks. So a long prompt never holds up the others for longer
//! than one step of bounded size, and prompts of several sequences share a step.
//!
//! Cache blocks are taken when they are needed. If there are none, the sequence that arrived last is put back into the
//! queue with all its tokens, to be computed again (preemption by recomputation). The sequence that arrived first is
//! never put back and always fits, so something always moves.
//!
//! Whole blocks that were computed are kept after their sequences ended, as long as there is room: a prompt that begins
//! like an earlier one, or a sequence that was put back, begins behind what is still there (see `blocks`).

use std::collections::{BTreeMap, VecDeque};

use crate::blocks::Blocks;

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
        /// Whether it may begin behind what is in the cache; if not, every token is computed.
        reuses: bool,
    },
    /// This token was added to a sequence.
    Advanced(SequenceId, u32),
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
}

#[derive(Debug)]
struct Sequence {
    tokens: Vec<u32>,
    computed: usize,
    reuses: bool,
    blocks: Vec<u32>,
    /// How many of its blocks, from the first, are kept for others too.
    kept: usize,
    resting: bool,
}

impl Sequence {
    fn keep_computed(&mut self, blocks: &mut Blocks, block_tokens: usize) {
        while (self.kept + 1) * block_tokens <= self.computed {
            let tokens = &self.tokens[self.kept * block_tokens..(self.kept + 1) * block_tokens];
            blocks.keep(&mut self.blocks, self.kept, tokens);
            self.kept += 1;
        }
    }
}

/// The scheduler of one model.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    blocks: Blocks,
    running: BTreeMap<SequenceId, Sequence>,
    waiting: VecDeque<(SequenceId, Sequence)>,
    preemptions: u64,
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
        Self {
            limits,
            blocks: Blocks::new(limits.blocks, limits.block_tokens),
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            preemptions: 0,
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

    /// Takes note of what happened and decides what the next step computes.
    ///
    /// The caller computes all slices before it calls again. An empty plan means that there is nothing to do until
    /// something arrives or stops resting.
    ///
    /// # Panics
    /// If a sequence arrives empty or with more tokens than the cache has room for.
    pub fn step(&mut self, inputs: impl IntoIterator<Item = Input>) -> Vec<Slice> {
        inputs.into_iter().for_each(|input| self.note(input));
        self.keep_computed();
        let mut rows = self.limits.rows_per_step;
        let mut planned = Vec::new();
        self.plan_generating(&mut rows, &mut planned);
        self.plan_prompts(&mut rows, &mut planned);
        self.admit(&mut rows, &mut planned);
        for slice in &planned {
            let sequence = self.running.get_mut(&slice.id).expect("sequences that are put back leave the plan");
            sequence.computed = slice.first + slice.count;
        }
        planned
    }

    fn note(&mut self, input: Input) {
        match input {
            Input::Arrived { id, tokens, reuses } => {
                let count = tokens.len();
                assert!(count > 0 && count <= self.capacity_tokens(), "{count} tokens can never be computed");
                let sequence = Sequence { tokens, computed: 0, reuses, blocks: Vec::new(), kept: 0, resting: false };
                self.waiting.push_back((id, sequence));
            }
            Input::Advanced(id, token) => {
                if let Some(sequence) = self.get_mut(id) {
                    sequence.tokens.push(token);
                }
            }
            Input::Ended(id) | Input::Failed(id) => {
                if let Some(mut sequence) = self.running.remove(&id) {
                    if matches!(input, Input::Ended(_)) {
                        sequence.keep_computed(&mut self.blocks, self.limits.block_tokens);
                    }
                    self.blocks.release(&mut sequence.blocks);
                }
                self.waiting.retain(|(waiting, _)| *waiting != id);
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
        let waiting = self.waiting.iter_mut().find(|(waiting, _)| *waiting == id).map(|(_, sequence)| sequence);
        self.running.get_mut(&id).or(waiting)
    }

    fn plan_generating(&mut self, rows: &mut usize, planned: &mut Vec<Slice>) {
        let ids: Vec<SequenceId> = self.ready(|left| left == 1);
        for id in ids {
            self.plan(id, 1, rows, planned);
        }
    }

    fn plan_prompts(&mut self, rows: &mut usize, planned: &mut Vec<Slice>) {
        for id in self.ready(|left| left > 1) {
            self.plan(id, usize::MAX, rows, planned);
        }
    }

    /// Running sequences that do not rest, by arrival, whose number of tokens to compute fits.
    fn ready(&self, fits: impl Fn(usize) -> bool) -> Vec<SequenceId> {
        let is_ready = |sequence: &Sequence| !sequence.resting && fits(sequence.tokens.len() - sequence.computed);
        self.running.iter().filter(|(_, sequence)| is_ready(sequence)).map(|(&id, _)| id).collect()
    }

    /// Lets waiting sequences in, in order, while their whole prompt fits into free blocks.
    fn admit(&mut self, rows: &mut usize, planned: &mut Vec<Slice>) {
        while *rows > 0 && self.running.len() < self.limits.sequences_max {
            let Some((_, next)) = self.waiting.front() else { return };
            let reused = self.reusable(next);
            // Blocks that others hold cost nothing; those that are only kept are room that is lost.
            let shared = reused.iter().filter(|&&block| !self.blocks.is_idle(block)).count();
            if self.blocks_for(next.tokens.len()) - shared > self.blocks.available() {
                return;
            }
            let (id, mut sequence) = self.waiting.pop_front().expect("there is a first one");
            reused.iter().for_each(|&block| self.blocks.hold(block));
            sequence.computed = reused.len() * self.limits.block_tokens;
            sequence.kept = reused.len();
            sequence.blocks = reused;
            let rests = sequence.resting;
            self.running.insert(id, sequence);
            if !rests {
                self.plan(id, usize::MAX, rows, planned);
            }
        }
    }

    /// The blocks behind which a waiting sequence can begin; its last token is always computed.
    fn reusable(&self, sequence: &Sequence) -> Vec<u32> {
        if !sequence.reuses {
            return Vec::new();
        }
        self.blocks.beginning(&sequence.tokens[..sequence.tokens.len() - 1])
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
        *rows -= count;
        planned.push(Slice { id, first, count, draws: first + count == tokens });
    }

    /// Gives a sequence blocks for so many tokens, at the cost of later ones, which leave the plan. False if it was put
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
            let (&last, _) = self.running.last_key_value().expect("this sequence is running");
            self.put_back(last);
            planned.retain(|slice| slice.id != last);
            if last == id {
                return false;
            }
        }
    }

    fn put_back(&mut self, id: SequenceId) {
        let mut sequence = self.running.remove(&id).expect("only running sequences are put back");
        self.blocks.release(&mut sequence.blocks);
        (sequence.computed, sequence.kept) = (0, 0);
        self.preemptions += 1;
        let place = self.waiting.partition_point(|(waiting, _)| *waiting < id);
        self.waiting.insert(place, (id, sequence));
    }
}

#[cfg(test)]
mod tests;
