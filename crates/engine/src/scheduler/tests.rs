use std::collections::{BTreeMap, BTreeSet};

use super::{Input, Limits, Scheduler, SequenceId, Slice};
use base::Rng;

fn limits(sequences_max: usize, rows_per_step: usize, blocks: u32) -> Limits {
    Limits { sequences_max, rows_per_step, block_tokens: 4, blocks }
}

fn slice(id: SequenceId, first: usize, count: usize, draws: bool) -> Slice {
    Slice { id, first, count, draws }
}

#[test]
fn a_prompt_is_cut_into_chunks_and_only_the_last_one_draws() {
    let mut scheduler = Scheduler::new(limits(4, 8, 16));
    assert_eq!(scheduler.step(&[Input::Arrived { id: 1, tokens: 19 }]), [slice(1, 0, 8, false)]);
    assert_eq!(scheduler.step(&[]), [slice(1, 8, 8, false)]);
    assert_eq!(scheduler.step(&[]), [slice(1, 16, 3, true)]);
    assert_eq!(scheduler.step(&[]), [], "nothing to do until the drawn token is added");
    assert_eq!(scheduler.step(&[Input::Advanced(1)]), [slice(1, 19, 1, true)]);
    assert_eq!(scheduler.step(&[Input::Ended(1)]), []);
    assert_eq!(scheduler.free_blocks(), 16);
}

#[test]
fn a_long_prompt_does_not_hold_up_those_that_generate() {
    let mut scheduler = Scheduler::new(limits(4, 8, 64));
    scheduler.step(&[Input::Arrived { id: 1, tokens: 3 }]);
    let plan = scheduler.step(&[Input::Advanced(1), Input::Arrived { id: 2, tokens: 100 }]);
    assert_eq!(plan, [slice(1, 3, 1, true), slice(2, 0, 7, false)]);
    let plan = scheduler.step(&[Input::Advanced(1), Input::Arrived { id: 3, tokens: 5 }]);
    assert_eq!(plan, [slice(1, 4, 1, true), slice(2, 7, 7, false)]);
}

#[test]
fn the_last_to_arrive_gives_way_and_starts_again() {
    // Two blocks of four tokens: one sequence each, until the first needs a second block.
    let mut scheduler = Scheduler::new(limits(4, 64, 2));
    let plan = scheduler.step(&[Input::Arrived { id: 1, tokens: 4 }, Input::Arrived { id: 2, tokens: 2 }]);
    assert_eq!(plan, [slice(1, 0, 4, true), slice(2, 0, 2, true)]);
    let plan = scheduler.step(&[Input::Advanced(1), Input::Advanced(2)]);
    assert_eq!(plan, [slice(1, 4, 1, true)]);
    assert_eq!((scheduler.counts(), scheduler.preemptions()), ((1, 1), 1));
    let plan = scheduler.step(&[Input::Ended(1)]);
    assert_eq!(plan, [slice(2, 0, 3, true)], "all its tokens are computed again");
}

#[test]
fn a_resting_sequence_keeps_its_blocks_and_takes_no_rows() {
    let mut scheduler = Scheduler::new(limits(4, 64, 8));
    scheduler.step(&[Input::Arrived { id: 1, tokens: 4 }]);
    assert_eq!(scheduler.step(&[Input::Advanced(1), Input::Resting(1, true)]), []);
    assert_eq!(scheduler.free_blocks(), 7);
    assert_eq!(scheduler.step(&[Input::Resting(1, false)]), [slice(1, 4, 1, true)]);
}

/// Plays random arrivals, lengths, cancellations and rests, and checks after each step what must always hold.
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
    let mut length: BTreeMap<SequenceId, usize> = BTreeMap::new();
    let mut wanted: BTreeMap<SequenceId, usize> = BTreeMap::new();
    let mut computed: BTreeMap<SequenceId, usize> = BTreeMap::new();
    let (mut trace, mut inputs, mut next_id, mut idle) = (Vec::new(), Vec::new(), 0, 0);
    for step in 0..4_000 {
        if step < 400 && rng.below(3) == 0 {
            let tokens = 1 + rng.below(capacity as u64 / 2) as usize;
            next_id += 1;
            inputs.push(Input::Arrived { id: next_id, tokens });
            length.insert(next_id, tokens);
            wanted.insert(next_id, (tokens + rng.below(30) as usize).min(capacity));
        }
        if rng.below(20) == 0
            && let Some(&id) = length.keys().nth(rng.below(length.len().max(1) as u64) as usize)
        {
            inputs.push(Input::Ended(id));
            length.remove(&id);
        }
        let plan = scheduler.step(&inputs);
        inputs.clear();
        check_plan(&scheduler, &plan, &limits, &length, &mut computed);
        for slice in plan.iter().filter(|slice| slice.draws) {
            let tokens = length.get_mut(&slice.id).expect("only living sequences are planned");
            if *tokens == wanted[&slice.id] {
                inputs.push(Input::Ended(slice.id));
                length.remove(&slice.id);
            } else {
                *tokens += 1;
                inputs.push(Input::Advanced(slice.id));
            }
        }
        idle = if plan.is_empty() && !length.is_empty() { idle + 1 } else { 0 };
        assert!(idle < 2, "seed {seed}: nothing moves although {} sequences live", length.len());
        trace.extend(plan);
    }
    assert!(length.is_empty(), "seed {seed}: {length:?} never ended");
    assert_eq!(scheduler.step(&inputs), []);
    assert_eq!(scheduler.free_blocks(), limits.blocks as usize, "seed {seed}: blocks leaked");
    trace
}

fn check_plan(
    scheduler: &Scheduler,
    plan: &[Slice],
    limits: &Limits,
    length: &BTreeMap<SequenceId, usize>,
    computed: &mut BTreeMap<SequenceId, usize>,
) {
    assert!(plan.iter().map(|slice| slice.count).sum::<usize>() <= limits.rows_per_step);
    assert!(scheduler.counts().0 <= limits.sequences_max);
    let mut held = BTreeSet::new();
    for slice in plan {
        let done = computed.entry(slice.id).or_insert(0);
        assert!(slice.first == *done || slice.first == 0, "{slice:?} after {done} tokens");
        *done = slice.first + slice.count;
        assert_eq!(slice.draws, *done == length[&slice.id], "{slice:?}");
        let blocks = scheduler.blocks_of(slice.id);
        assert!(blocks.len() * limits.block_tokens >= *done);
        assert!(blocks.iter().all(|&block| held.insert(block)), "a block has two owners");
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
