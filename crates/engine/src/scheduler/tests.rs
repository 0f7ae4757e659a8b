use std::collections::{BTreeMap, BTreeSet};

use super::{Input, Limits, Scheduler, SequenceId, Slice};
use base::Rng;

fn limits(sequences_max: usize, rows_per_step: usize, blocks: u32) -> Limits {
    Limits { sequences_max, rows_per_step, block_tokens: 4, blocks }
}

fn slice(id: SequenceId, first: usize, count: usize, draws: bool) -> Slice {
    Slice { id, first, count, draws }
}

/// A sequence whose prompt is like no other's.
fn arrived(id: SequenceId, tokens: u32) -> Input {
    Input::Arrived { id, tokens: (0..tokens).map(|index| id as u32 * 1000 + index).collect(), reuses: true }
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
    let ask = |id, tokens: std::ops::Range<u32>| Input::Arrived { id, tokens: tokens.collect(), reuses: true };
    assert_eq!(scheduler.step([ask(1, 0..10)]), [slice(1, 0, 10, true)]);
    // Tokens 10 and 11 are its answer: the third block is whole then, and belongs to the conversation.
    assert_eq!(scheduler.step([Input::Advanced(1, 10)]), [slice(1, 10, 1, true)]);
    assert_eq!(scheduler.step([Input::Advanced(1, 11)]), [slice(1, 11, 1, true)]);
    assert_eq!(scheduler.step([Input::Ended(1), ask(2, 0..20)]), [slice(2, 12, 8, true)]);
    assert_eq!(scheduler.step([ask(3, 0..8)]), [slice(3, 4, 4, true)], "the last token is always computed");
    let exact = Input::Arrived { id: 4, tokens: (0..8).collect(), reuses: false };
    assert_eq!(scheduler.step([exact]), [slice(4, 0, 8, true)]);
    scheduler.step([Input::Ended(2), Input::Ended(3), Input::Ended(4)]);
    assert_eq!(scheduler.free_blocks(), 16);
}

#[test]
fn what_a_failed_step_wrote_is_not_kept() {
    let mut scheduler = Scheduler::new(limits(4, 64, 16));
    scheduler.step([arrived(1, 9)]);
    let again = Input::Arrived { id: 2, tokens: (1000..1009).collect(), reuses: true };
    assert_eq!(scheduler.step([Input::Failed(1), again]), [slice(2, 0, 9, true)]);
}

/// A sequence as the simulation knows it.
struct Living {
    tokens: Vec<u32>,
    wanted: usize,
    computed: usize,
}

/// What each place of the cache holds: a digest of the token there and of all before it.
type Memory = BTreeMap<(u32, usize), u64>;

fn digest(before: u64, token: u32) -> u64 {
    (before ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
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
    };
    let mut scheduler = Scheduler::new(limits);
    let capacity = scheduler.capacity_tokens();
    let mut living: BTreeMap<SequenceId, Living> = BTreeMap::new();
    let mut memory = Memory::new();
    let (mut trace, mut inputs, mut next_id, mut idle) = (Vec::new(), Vec::new(), 0, 0);
    for step in 0..4_000 {
        if step < 400 && rng.below(3) == 0 {
            let count = 1 + rng.below(capacity as u64 / 2) as usize;
            // Two letters and a common beginning: many prompts agree for a while.
            let common = rng.below(count as u64 + 1) as usize;
            let tokens: Vec<u32> =
                (0..count).map(|index| if index < common { 7 } else { rng.below(2) as u32 }).collect();
            next_id += 1;
            let wanted = (count + rng.below(30) as usize).min(capacity);
            inputs.push(Input::Arrived { id: next_id, tokens: tokens.clone(), reuses: rng.below(8) > 0 });
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
        if rng.below(50) == 0 {
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
            let tokens = scheduler.tokens_of(slice.id);
            let digests: Vec<u64> = tokens
                .iter()
                .scan(0, |all, &token| {
                    *all = digest(*all, token);
                    Some(*all)
                })
                .collect();
            write(&scheduler, slice, &limits, &mut memory, |position| digests[position]);
        }
        for slice in plan.iter().filter(|slice| slice.draws) {
            let one = living.get_mut(&slice.id).expect("only living sequences are planned");
            if one.tokens.len() == one.wanted {
                inputs.push(Input::Ended(slice.id));
                living.remove(&slice.id);
            } else {
                let token = rng.below(2) as u32;
                one.tokens.push(token);
                inputs.push(Input::Advanced(slice.id, token));
            }
        }
        idle = if plan.is_empty() && !living.is_empty() { idle + 1 } else { 0 };
        assert!(idle < 2, "seed {seed}: nothing moves although {} sequences live", living.len());
        trace.extend(plan);
    }
    assert!(living.is_empty(), "seed {seed}: {:?} never ended", living.keys());
    assert_eq!(scheduler.step(inputs), []);
    assert_eq!(scheduler.free_blocks(), limits.blocks as usize, "seed {seed}: blocks leaked");
    trace
}

fn write(scheduler: &Scheduler, slice: &Slice, limits: &Limits, memory: &mut Memory, value: impl Fn(usize) -> u64) {
    let blocks = scheduler.blocks_of(slice.id);
    for position in slice.first..slice.first + slice.count {
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
    assert!(plan.iter().map(|slice| slice.count).sum::<usize>() <= limits.rows_per_step);
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
        assert!(blocks.len() * limits.block_tokens >= one.computed);
        let own = slice.first / limits.block_tokens..one.computed.div_ceil(limits.block_tokens);
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
