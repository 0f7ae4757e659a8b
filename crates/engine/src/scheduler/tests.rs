use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use super::{Input, Limits, Scheduler, SequenceId, Slice, TURN_STEPS};
use base::Rng;
use chat::Priority;

fn limits(sequences_max: usize, rows_per_step: usize, blocks: u32) -> Limits {
    Limits { sequences_max, rows_per_step, block_tokens: 4, blocks, snapshots: None }
}

fn slice(id: SequenceId, first: usize, count: usize, draws: bool) -> Slice {
    Slice { id, first, count, draws, guesses: 0, confirmed: 0 }
}

/// A sequence whose prompt is like no other's.
fn arrived(id: SequenceId, tokens: u32) -> Input {
    of("a", Priority::Normal, id, tokens)
}

fn of(project: &str, priority: Priority, id: SequenceId, tokens: u32) -> Input {
    let tokens = (0..tokens).map(|index| id as u32 * 1000 + index).collect();
    let (project, realm) = (Arc::from(project), Arc::from(project));
    Input::Arrived { id, tokens, pinned: 0, reuses: true, project, realm, priority }
}

fn ask(id: SequenceId, tokens: std::ops::Range<u32>, project: &str, reuses: bool) -> Input {
    let (tokens, priority) = (tokens.collect(), Priority::Normal);
    let (project, realm) = (Arc::from(project), Arc::from(project));
    Input::Arrived { id, tokens, pinned: 0, reuses, project, realm, priority }
}

#[test]
fn a_prompt_is_cut_into_chunks_and_only_the_last_one_draws() {
    let mut scheduler = Scheduler::new(limits(4, 8, 16));
    assert_eq!(scheduler.step([arrived(1, 19)]), [slice(1, 0, 8, false)]);
    assert_eq!(scheduler.step([]), [slice(1, 8, 8, false)]);
    assert_eq!(scheduler.step([]), [slice(1, 16, 3, true)]);
    assert_eq!(scheduler.step([]), [], "nothing to do until the drawn token is added");
    assert_eq!(scheduler.step([Input::Advanced(1, 0)]), [slice(1, 19, 1, true)]);
    assert_eq!(scheduler.step([Input::Ended(1)]), []);
    assert_eq!(scheduler.free_blocks(), 16);
}

#[test]
fn a_long_prompt_does_not_hold_up_those_that_generate() {
    let mut scheduler = Scheduler::new(limits(4, 8, 64));
    scheduler.step([arrived(1, 3)]);
    let plan = scheduler.step([Input::Advanced(1, 0), arrived(2, 100)]);
    assert_eq!(plan, [slice(1, 3, 1, true), slice(2, 0, 7, false)]);
    let plan = scheduler.step([Input::Advanced(1, 0), arrived(3, 5)]);
    assert_eq!(plan, [slice(1, 4, 1, true), slice(2, 7, 7, false)]);
}

#[test]
fn the_last_to_arrive_gives_way_and_starts_again() {
    // Two blocks of four tokens: one sequence each, until the first needs a second block.
    let mut scheduler = Scheduler::new(limits(4, 64, 2));
    let plan = scheduler.step([arrived(1, 4), arrived(2, 2)]);
    assert_eq!(plan, [slice(1, 0, 4, true), slice(2, 0, 2, true)]);
    let plan = scheduler.step([Input::Advanced(1, 0), Input::Advanced(2, 0)]);
    assert_eq!(plan, [slice(1, 4, 1, true)]);
    assert_eq!((scheduler.counts(), scheduler.preemptions()), ((1, 1), 1));
    let plan = scheduler.step([Input::Ended(1)]);
    assert_eq!(plan, [slice(2, 0, 3, true)], "all its tokens are computed again");
}

#[test]
fn a_resting_sequence_keeps_its_blocks_and_takes_no_rows() {
    let mut scheduler = Scheduler::new(limits(4, 64, 8));
    scheduler.step([arrived(1, 4)]);
    assert_eq!(scheduler.step([Input::Advanced(1, 0), Input::Resting(1, true)]), []);
    assert_eq!(scheduler.free_blocks(), 7);
    assert_eq!(scheduler.step([Input::Resting(1, false)]), [slice(1, 4, 1, true)]);
}

#[test]
fn a_prompt_begins_behind_what_an_earlier_one_left() {
    let mut scheduler = Scheduler::new(limits(4, 64, 16));
    let of_a = |id, tokens| ask(id, tokens, "a", true);
    assert_eq!(scheduler.step([of_a(1, 0..10)]), [slice(1, 0, 10, true)]);
    // Tokens 10 and 11 are its answer: the third block is whole then, and belongs to the conversation.
    assert_eq!(scheduler.step([Input::Advanced(1, 10)]), [slice(1, 10, 1, true)]);
    assert_eq!(scheduler.step([Input::Advanced(1, 11)]), [slice(1, 11, 1, true)]);
    assert_eq!(scheduler.step([Input::Ended(1), of_a(2, 0..20)]), [slice(2, 12, 8, true)]);
    assert_eq!(scheduler.step([of_a(3, 0..8)]), [slice(3, 4, 4, true)], "the last token is always computed");
    assert_eq!(scheduler.step([ask(4, 0..8, "a", false)]), [slice(4, 0, 8, true)]);
    assert_eq!(scheduler.step([ask(5, 0..20, "b", true)]), [slice(5, 0, 20, true)], "another project learns nothing");
    scheduler.step([2, 3, 4, 5].map(Input::Ended));
    assert_eq!(scheduler.free_blocks(), 16);
}

#[test]
fn what_a_failed_step_wrote_is_not_kept() {
    let mut scheduler = Scheduler::new(limits(4, 64, 16));
    scheduler.step([arrived(1, 9)]);
    let again = ask(2, 1000..1009, "a", true);
    assert_eq!(scheduler.step([Input::Failed(1), again]), [slice(2, 0, 9, true)]);
}

#[test]
fn with_a_recurrent_state_a_prompt_begins_where_one_was_kept() {
    let mut scheduler = Scheduler::new(Limits { snapshots: Some(8), ..limits(4, 64, 32) });
    let of_a = |id, tokens: std::ops::Range<u32>| ask(id, tokens, "a", true);
    scheduler.step([of_a(1, 0..22)]);
    let (slot, copies) = scheduler.state_of(1);
    assert_eq!((slot, copies.len(), copies[0].rows), (0, 1, 20), "behind the last whole block");
    let kept = copies[0].slot;
    assert_eq!(scheduler.step([Input::Ended(1), of_a(2, 0..30)]), [slice(2, 20, 10, true)]);
    assert_eq!(scheduler.restored(), [(kept, scheduler.state_of(2).0)]);
    // It has ten tokens in common with them: two blocks, behind which nothing was kept until now.
    let parting: Vec<u32> = (0..10).chain(50..60).collect();
    let parts = |id, tokens: &[u32]| match of_a(id, 0..1) {
        Input::Arrived { id, pinned, reuses, project, realm, priority, .. } => {
            Input::Arrived { id, tokens: tokens.to_vec(), pinned, reuses, project, realm, priority }
        }
        other => other,
    };
    assert_eq!(scheduler.step([Input::Ended(2), parts(3, &parting)]), [slice(3, 0, 20, true)]);
    let rows = |id| scheduler.state_of(id).1.iter().map(|copy| copy.rows).collect::<Vec<_>>();
    assert_eq!(rows(3), [8, 16, 20], "where they part, behind the prompt, and behind the last block");
    let third: Vec<u32> = (0..10).chain(70..80).collect();
    assert_eq!(scheduler.step([Input::Ended(3), parts(4, &third)]), [slice(4, 8, 12, true)]);
}

#[test]
fn a_sequence_that_is_put_back_goes_on_from_its_last_state() {
    let mut scheduler = Scheduler::new(Limits { snapshots: Some(4), ..limits(4, 64, 4) });
    scheduler.step([arrived(1, 7), arrived(2, 7)]);
    scheduler.step([Input::Advanced(1, 0), Input::Advanced(2, 0)]);
    let plan = scheduler.step([Input::Advanced(1, 0), Input::Advanced(2, 0)]);
    assert_eq!(plan, [slice(1, 8, 1, true)], "there is no third block for the second");
    let plan = scheduler.step([Input::Ended(1)]);
    assert_eq!(plan, [slice(2, 4, 5, true)], "its second block was given to the first");
    assert_eq!(scheduler.restored().len(), 1);
}

/// A sequence as the simulation knows it.
struct Living {
    tokens: Vec<u32>,
    wanted: usize,
    computed: usize,
}

impl Living {
    /// Draws the next token, and more where guesses were right; guesses what follows, now and then. False: it is over.
    fn goes_on(&mut self, slice: &Slice, scheduler: &Scheduler, rng: &mut Rng, inputs: &mut Vec<Input>) -> bool {
        let guesses = &scheduler.guesses_of(slice.id)[..slice.guesses];
        for index in 0..=guesses.len() {
            if self.tokens.len() == self.wanted {
                return false;
            }
            let token = rng.below(2) as u32;
            self.tokens.push(token);
            inputs.push(Input::Advanced(slice.id, token));
            if guesses.get(index) != Some(&token) {
                break;
            }
            self.computed += 1;
        }
        if rng.below(2) == 0 {
            let room = (self.wanted - self.tokens.len()) as u64;
            inputs.push(Input::Guessed(slice.id, (0..rng.below(6).min(room)).map(|_| rng.below(2) as u32).collect()));
        }
        true
    }
}

/// What each place of the cache holds: a digest of the token there and of all before it.
type Memory = BTreeMap<(u32, usize), u64>;

fn digest(before: u64, token: u32) -> u64 {
    (before ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

/// What each slot of recurrent state knows, as a digest of its tokens, and what was guessed behind them.
type States = BTreeMap<u32, (u64, Vec<u32>)>;

fn digest_of(tokens: &[u32]) -> u64 {
    tokens.iter().fold(0, |all, &token| digest(all, token))
}

/// Moves the states on by a step, or spoils them if it was not computed; every one has to know just what stands before
/// the first token.
fn advance_states(scheduler: &Scheduler, plan: &[Slice], is_computed: bool, states: &mut States) {
    for &(from, to) in scheduler.restored() {
        let known = states[&from].0;
        states.insert(to, (known, Vec::new()));
    }
    let mut written = BTreeSet::new();
    for slice in plan {
        let ((slot, copies), tokens) = (scheduler.state_of(slice.id), scheduler.tokens_of(slice.id));
        let known = slice.first - slice.confirmed;
        if known > 0 {
            let (digest, guessed) = &states[&slot];
            assert_eq!(*digest, digest_of(&tokens[..known]), "{slice:?} goes on from a foreign state");
            assert_eq!(guessed[..slice.confirmed], tokens[known..slice.first], "{slice:?} was not guessed");
        }
        let guesses = scheduler.guesses_of(slice.id)[..slice.guesses].to_vec();
        let end = slice.first + slice.count;
        let mut write = |slot: u32, tokens: &[u32], guesses: Vec<u32>| {
            assert!(written.insert(slot), "two write slot {slot}");
            states.insert(slot, if is_computed { (digest_of(tokens), guesses) } else { (u64::MAX, Vec::new()) });
        };
        write(slot, &tokens[..end], guesses);
        for copy in copies {
            assert!(copy.rows > 0 && known + copy.rows <= end, "{slice:?} keeps {copy:?}");
            write(copy.slot, &tokens[..known + copy.rows], Vec::new());
        }
    }
}

/// Two letters and a common beginning: many prompts agree for a while.
fn made_up(rng: &mut Rng, capacity: usize) -> Vec<u32> {
    let count = 1 + rng.below(capacity as u64 / 2) as usize;
    let common = rng.below(count as u64 + 1) as usize;
    (0..count).map(|index| if index < common { 7 } else { rng.below(2) as u32 }).collect()
}

fn somebodys(rng: &mut Rng, id: SequenceId, tokens: Vec<u32>) -> Input {
    let project: Arc<str> = Arc::from(["a", "b", "c"][rng.below(3) as usize]);
    let realm = Arc::clone(&project);
    let priority = [Priority::Background, Priority::Normal, Priority::High][rng.below(3) as usize];
    let pinned = rng.below(1 + tokens.len() as u64) as usize;
    Input::Arrived { id, tokens, pinned, reuses: rng.below(8) > 0, project, realm, priority }
}

/// Plays random arrivals with beginnings in common, lengths, cancellations, rests and failures, and checks after each
/// step what must always hold: above all that every token is computed on the keys of exactly the tokens before it.
fn simulate(seed: u64) -> Vec<Slice> {
    let mut rng = Rng::seeded(seed);
    let limits = Limits {
        sequences_max: 1 + rng.below(6) as usize,
        rows_per_step: 1 + rng.below(24) as usize,
        block_tokens: 1 + rng.below(5) as usize,
        blocks: 4 + rng.below(20) as u32,
        snapshots: (seed % 2 == 1).then(|| rng.below(6) as u32),
    };
    let mut scheduler = Scheduler::new(limits);
    let capacity = scheduler.capacity_tokens();
    let mut living: BTreeMap<SequenceId, Living> = BTreeMap::new();
    let (mut memory, mut states) = (Memory::new(), States::new());
    let (mut trace, mut inputs, mut next_id, mut idle) = (Vec::new(), Vec::new(), 0, 0);
    for step in 0..4_000 {
        if step < 400 && rng.below(3) == 0 {
            next_id += 1;
            let tokens = made_up(&mut rng, capacity);
            let wanted = (tokens.len() + rng.below(30) as usize).min(capacity);
            inputs.push(somebodys(&mut rng, next_id, tokens.clone()));
            living.insert(next_id, Living { tokens, wanted, computed: 0 });
        }
        if rng.below(20) == 0
            && let Some(&id) = living.keys().nth(rng.below(living.len().max(1) as u64) as usize)
        {
            inputs.push(Input::Ended(id));
            living.remove(&id);
        }
        let plan = scheduler.step(inputs.drain(..));
        check_plan(&scheduler, &plan, &limits, &mut living);
        let is_computed = rng.below(50) > 0;
        if limits.snapshots.is_some() {
            advance_states(&scheduler, &plan, is_computed, &mut states);
        }
        if !is_computed {
            // The step was not computed: whatever lies in its blocks now is not what it should be.
            for slice in &plan {
                write(&scheduler, slice, &limits, &mut memory, |_| u64::MAX);
                inputs.push(Input::Failed(slice.id));
                living.remove(&slice.id);
            }
            continue;
        }
        for slice in &plan {
            check_memory(&scheduler, slice, &limits, &memory);
            let tokens = scheduler.tokens_of(slice.id).iter().chain(scheduler.guesses_of(slice.id));
            let digests: Vec<u64> = tokens
                .scan(0, |all, &token| {
                    *all = digest(*all, token);
                    Some(*all)
                })
                .collect();
            write(&scheduler, slice, &limits, &mut memory, |position| digests[position]);
        }
        for slice in plan.iter().filter(|slice| slice.draws) {
            let one = living.get_mut(&slice.id).expect("only living sequences are planned");
            if !one.goes_on(slice, &scheduler, &mut rng, &mut inputs) {
                inputs.push(Input::Ended(slice.id));
                living.remove(&slice.id);
            }
        }
        idle = if plan.is_empty() && !living.is_empty() { idle + 1 } else { 0 };
        assert!(idle < 2, "seed {seed}: nothing moves although {} sequences live", living.len());
        trace.extend(plan);
    }
    assert!(living.is_empty(), "seed {seed}: {:?} never ended", living.keys());
    assert_eq!(scheduler.step(inputs), []);
    assert_eq!(scheduler.free_blocks(), limits.blocks as usize, "seed {seed}: blocks leaked");
    assert_eq!(scheduler.free_states.len(), limits.sequences_max, "seed {seed}: states leaked");
    let kept = scheduler.blocks.snapshots.count();
    assert_eq!(kept, limits.snapshots.unwrap_or(0) as usize, "seed {seed}: snapshots leaked");
    trace
}

fn write(scheduler: &Scheduler, slice: &Slice, limits: &Limits, memory: &mut Memory, value: impl Fn(usize) -> u64) {
    let blocks = scheduler.blocks_of(slice.id);
    for position in slice.first..slice.first + slice.count + slice.guesses {
        let place = (blocks[position / limits.block_tokens], position % limits.block_tokens);
        memory.insert(place, value(position));
    }
}

fn check_memory(scheduler: &Scheduler, slice: &Slice, limits: &Limits, memory: &Memory) {
    let blocks = scheduler.blocks_of(slice.id);
    let mut all = 0;
    for (position, &token) in scheduler.tokens_of(slice.id)[..slice.first].iter().enumerate() {
        all = digest(all, token);
        let place = (blocks[position / limits.block_tokens], position % limits.block_tokens);
        assert_eq!(memory.get(&place), Some(&all), "{slice:?} reads foreign keys at {position}");
    }
}

fn check_plan(scheduler: &Scheduler, plan: &[Slice], limits: &Limits, living: &mut BTreeMap<SequenceId, Living>) {
    assert!(plan.iter().map(|slice| slice.count + slice.guesses).sum::<usize>() <= limits.rows_per_step);
    assert!(scheduler.counts().0 <= limits.sequences_max);
    let mut written = BTreeSet::new();
    for slice in plan {
        let one = living.get_mut(&slice.id).expect("only living sequences are planned");
        let begins = slice.first % limits.block_tokens == 0;
        assert!(slice.first == one.computed || begins, "{slice:?} after {} tokens", one.computed);
        one.computed = slice.first + slice.count;
        assert_eq!(scheduler.tokens_of(slice.id), one.tokens);
        assert_eq!(slice.draws, one.computed == one.tokens.len(), "{slice:?}");
        let blocks = scheduler.blocks_of(slice.id);
        let end = one.computed + slice.guesses;
        assert!(blocks.len() * limits.block_tokens >= end && (slice.guesses == 0 || slice.draws));
        let own = slice.first / limits.block_tokens..end.div_ceil(limits.block_tokens);
        assert!(blocks[own].iter().all(|&block| written.insert(block)), "two sequences write one block");
    }
    for slice in plan {
        let read = &scheduler.blocks_of(slice.id)[..slice.first / limits.block_tokens];
        assert!(read.iter().all(|block| !written.contains(block)), "{slice:?} reads what is being written");
    }
}

#[test]
fn nothing_starves_leaks_or_overlaps_over_many_seeds() {
    for seed in 0..200 {
        simulate(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_plans() {
    assert_eq!(simulate(11), simulate(11));
}

#[test]
fn a_project_that_asks_little_does_not_wait_for_one_that_asks_much() {
    let mut scheduler = Scheduler::new(limits(4, 8, 64));
    scheduler.step((1..=20).map(|id| of("much", Priority::Normal, id, 8)));
    scheduler.step([]);
    scheduler.step([]);
    scheduler.step([]);
    assert_eq!(scheduler.counts(), (4, 16), "all places are taken");
    let plan = scheduler.step([of("little", Priority::Normal, 21, 6)]);
    assert_eq!(plan, [slice(21, 0, 6, true)], "one of the others gave way");
    assert_eq!((scheduler.counts(), scheduler.preemptions()), ((4, 17), 1));
    let plan = scheduler.step([of("little", Priority::Normal, 22, 3), of("little", Priority::Normal, 23, 3)]);
    assert_eq!(plan, [slice(22, 0, 3, true)], "two places each, and no more");
}

#[test]
fn prompts_of_two_projects_are_computed_by_turns() {
    let mut scheduler = Scheduler::new(limits(4, 8, 64));
    scheduler.step([of("a", Priority::Normal, 1, 40), of("a", Priority::Normal, 2, 40)]);
    assert_eq!(scheduler.step([of("b", Priority::Normal, 3, 16)]), [slice(3, 0, 8, false)], "it had nothing yet");
    let rows: Vec<SequenceId> = (0..4).flat_map(|_| scheduler.step([])).map(|slice| slice.id).collect();
    assert_eq!(rows, [1, 3, 1, 1]);
}

#[test]
fn a_batch_gives_way_at_once_and_is_not_forgotten() {
    let mut scheduler = Scheduler::new(limits(1, 8, 64));
    assert_eq!(scheduler.step([of("a", Priority::Background, 1, 4)]), [slice(1, 0, 4, true)]);
    let plan = scheduler.step([Input::Advanced(1, 0), of("a", Priority::Normal, 2, 4)]);
    assert_eq!(plan, [slice(2, 0, 4, true)]);
    // Somebody always waits, and each has one token to say.
    let mut waited = 0;
    for next in 3.. {
        let plan = scheduler.step([Input::Ended(next - 1), of("a", Priority::Normal, next, 4)]);
        if plan[0].id == 1 {
            break;
        }
        waited += 1;
        assert!(waited <= TURN_STEPS, "it was forgotten");
    }
    let plan = scheduler.step([Input::Advanced(1, 0), of("a", Priority::Normal, 9_999, 4)]);
    assert_eq!(plan[0].id, 1, "it is not sent away again");
}

/// Projects that always want more than there is, for so many steps. Rows that each had, by project and priority, and
/// the longest that a sequence was alive.
fn crowd(seed: u64, steps: u64) -> (BTreeMap<(usize, Priority), usize>, u64) {
    let mut rng = Rng::seeded(seed);
    let limits = limits(2 + rng.below(7) as usize, 8 + rng.below(24) as usize, 40);
    let mut scheduler = Scheduler::new(limits);
    // How many requests each keeps open: the third project is greedy.
    let wants =
        [(0, Priority::Normal, 2), (1, Priority::Normal, 4), (2, Priority::Normal, 40), (3, Priority::Background, 9)];
    let mut open: BTreeMap<SequenceId, (usize, Priority, usize, u64)> = BTreeMap::new();
    let (mut inputs, mut next_id, mut had, mut longest) = (Vec::new(), 0, BTreeMap::new(), 0);
    for step in 0..steps {
        for (project, priority, most) in wants {
            while open.values().filter(|one| one.0 == project).count() < most {
                next_id += 1;
                inputs.push(of(&project.to_string(), priority, next_id, 1 + rng.below(30) as u32));
                open.insert(next_id, (project, priority, 1 + rng.below(20) as usize, step));
            }
        }
        for slice in scheduler.step(inputs.drain(..)) {
            let one = open.get_mut(&slice.id).expect("only open requests are planned");
            *had.entry((one.0, one.1)).or_default() += slice.count;
            if slice.draws {
                one.2 -= 1;
                if one.2 == 0 {
                    longest = longest.max(step - one.3);
                    open.remove(&slice.id);
                    inputs.push(Input::Ended(slice.id));
                } else {
                    inputs.push(Input::Advanced(slice.id, 0));
                }
            }
        }
        longest = open.values().map(|one| step - one.3).max().unwrap_or(0).max(longest);
    }
    (had, longest)
}

#[test]
fn projects_have_equal_parts_and_nobody_starves_over_many_seeds() {
    for seed in 0..8 {
        let steps = 3_000;
        let (had, longest) = crowd(seed, steps);
        let normal: Vec<usize> = (0..3).map(|project| had[&(project, Priority::Normal)]).collect();
        let background = had[&(3, Priority::Background)];
        // The first keeps but two requests open, so it may want less than its part.
        assert!(normal[2] * 10 <= normal[1] * 13, "seed {seed}: {normal:?}");
        assert!(normal[2] * 10 <= normal[0] * 20, "seed {seed}: {normal:?}");
        assert!(background > 0 && background * 2 < normal[1], "seed {seed}: {background} of {normal:?}");
        assert!(longest < steps / 2, "seed {seed}: somebody waited for {longest} steps");
    }
}
