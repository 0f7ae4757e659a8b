use std::num::NonZeroUsize;

use super::{DeltaCopy, DeltaShape, DeltaSpan, DeltaStates, HeadOrder, delta_convolve, delta_rule};
use crate::{Cpu, CpuOptions, Isa};

const SHAPE: DeltaShape =
    DeltaShape { key_heads: 2, value_heads: 4, key_dim: 16, value_dim: 40, taps: 4, order: HeadOrder::Grouped };
const ROWS: usize = 9;

/// Numbers between -1 and 1 from a linear congruence.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn cpu(isa: Option<Isa>) -> Cpu {
    Cpu::new(CpuOptions { isa, threads: NonZeroUsize::new(2).unwrap(), is_pinned: false }).unwrap()
}

struct Inputs {
    x: Vec<f32>,
    taps: Vec<f32>,
    decay: Vec<f32>,
    strength: Vec<f32>,
}

fn inputs() -> Inputs {
    let gates = ROWS * SHAPE.value_heads;
    Inputs {
        x: numbers(1, ROWS * SHAPE.channels()),
        taps: numbers(2, SHAPE.taps * SHAPE.channels()),
        decay: numbers(3, gates).iter().map(|x| 0.5 + 0.4 * x).collect(),
        strength: numbers(4, gates).iter().map(|x| 0.5 + 0.4 * x).collect(),
    }
}

/// Rows of a sequence in a slot, with nothing uncertain about them.
fn span(slot: u32, rows: usize, is_start: bool) -> DeltaSpan<'static> {
    DeltaSpan { first_row: 0, rows, slot, is_start, guessed: 0, confirmed: 0, copies: &[] }
}

/// Computes the rows of a span from row `first` of the inputs on.
fn compute(cpu: &Cpu, states: &mut DeltaStates, inputs: &Inputs, first: usize, span: DeltaSpan<'_>) -> Vec<f32> {
    let (channels, heads) = (SHAPE.channels(), SHAPE.value_heads);
    let mut mixed = vec![f32::NAN; span.rows * channels];
    let x = &inputs.x[first * channels..][..span.rows * channels];
    delta_convolve(cpu, states, &inputs.taps, x, &[span], &mut mixed);
    let mut out = vec![f32::NAN; span.rows * heads * SHAPE.value_dim];
    let gates = first * heads..(first + span.rows) * heads;
    delta_rule(cpu, states, &mixed, &inputs.decay[gates.clone()], &inputs.strength[gates], &[span], &mut out);
    out
}

/// One sequence in steps of so many rows.
fn run(cpu: &Cpu, inputs: &Inputs, steps: &[usize]) -> Vec<f32> {
    let mut states = DeltaStates::new(SHAPE, 3).unwrap();
    let (mut all, mut first) = (Vec::new(), 0);
    for &rows in steps {
        all.extend(compute(cpu, &mut states, inputs, first, span(1, rows, first == 0)));
        first += rows;
    }
    all
}

/// The definition, in f64.
fn definition(inputs: &Inputs) -> Vec<f64> {
    let (channels, keys) = (SHAPE.channels(), SHAPE.key_heads * SHAPE.key_dim);
    let wide = |x: f32| f64::from(x);
    let mut mixed = vec![0.0_f64; ROWS * channels];
    for (at, mixed) in mixed.iter_mut().enumerate() {
        let (row, channel) = (at / channels, at % channels);
        let sum: f64 = (0..SHAPE.taps)
            .filter(|tap| row + tap + 1 >= SHAPE.taps)
            .map(|tap| {
                let row = row + tap + 1 - SHAPE.taps;
                wide(inputs.x[row * channels + channel]) * wide(inputs.taps[tap * channels + channel])
            })
            .sum();
        *mixed = sum / (1.0 + (-sum).exp());
    }
    let mut out = Vec::new();
    let mut states = vec![vec![0.0_f64; SHAPE.key_dim * SHAPE.value_dim]; SHAPE.value_heads];
    for row in 0..ROWS {
        let unit = |start: usize| -> Vec<f64> {
            let head = &mixed[row * channels + start..][..SHAPE.key_dim];
            let length = (head.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
            head.iter().map(|x| x / length).collect()
        };
        for (head, state) in states.iter_mut().enumerate() {
            let key_head = head / 2;
            let (q, k) = (unit(key_head * SHAPE.key_dim), unit(keys + key_head * SHAPE.key_dim));
            let gate = row * SHAPE.value_heads + head;
            for column in 0..SHAPE.value_dim {
                let v = mixed[row * channels + 2 * keys + head * SHAPE.value_dim + column];
                let at = |i: usize| i * SHAPE.value_dim + column;
                let decayed: Vec<f64> = (0..SHAPE.key_dim).map(|i| state[at(i)] * wide(inputs.decay[gate])).collect();
                let seen: f64 = decayed.iter().zip(&k).map(|(s, k)| s * k).sum();
                let delta = wide(inputs.strength[gate]) * (v - seen);
                let mut read = 0.0;
                for i in 0..SHAPE.key_dim {
                    state[at(i)] = decayed[i] + k[i] * delta;
                    read += state[at(i)] * q[i] / (SHAPE.key_dim as f64).sqrt();
                }
                out.push(read);
            }
        }
    }
    out
}

#[test]
fn every_isa_follows_the_definition_however_the_rows_are_cut() {
    let inputs = inputs();
    let expected = definition(&inputs);
    for isa in Isa::available() {
        let cpu = cpu(Some(isa));
        let whole = run(&cpu, &inputs, &[ROWS]);
        for (index, (found, expected)) in whole.iter().zip(&expected).enumerate() {
            assert!((f64::from(*found) - expected).abs() < 2e-6, "{isa:?} [{index}]: {found} for {expected}");
        }
        for steps in [&[1; ROWS][..], &[4, 5], &[2, 1, 6], &[8, 1]] {
            assert_eq!(run(&cpu, &inputs, steps), whole, "{isa:?} in steps of {steps:?}");
        }
    }
}

/// The rows of `out` from `first` to `end`.
fn rows_of(out: &[f32], first: usize, end: usize) -> &[f32] {
    let width = SHAPE.value_heads * SHAPE.value_dim;
    &out[first * width..end * width]
}

#[test]
fn a_copied_slot_goes_on_as_the_original() {
    let (cpu, inputs) = (cpu(None), inputs());
    let mut states = DeltaStates::new(SHAPE, 2).unwrap();
    compute(&cpu, &mut states, &inputs, 0, span(0, 1, true));
    states.copy_slot(0, 1);
    let after = compute(&cpu, &mut states, &inputs, 1, span(0, 1, false));
    assert_eq!(compute(&cpu, &mut states, &inputs, 1, span(1, 1, false)), after);
}

#[test]
fn guesses_are_taken_in_when_they_are_confirmed_and_not_before() {
    let (cpu, inputs) = (cpu(None), inputs());
    let whole = run(&cpu, &inputs, &[ROWS]);
    // What was guessed instead of rows 3, 4 and so on.
    let mut wrong = Inputs { x: numbers(9, inputs.x.len()), ..self::inputs() };
    for right in 0..=3 {
        let mut states = DeltaStates::new(SHAPE, 2).unwrap();
        compute(&cpu, &mut states, &inputs, 0, span(0, 2, true));
        let known = (3 + right) * SHAPE.channels();
        wrong.x[..known].copy_from_slice(&inputs.x[..known]);
        let out = compute(&cpu, &mut states, &wrong, 2, DeltaSpan { guessed: 3, ..span(0, 4, false) });
        assert_eq!(rows_of(&out, 0, 1 + right), rows_of(&whole, 2, 3 + right), "{right} of three are right");
        let first = 3 + right;
        // The next step guesses as well, and all of it is right.
        let next = DeltaSpan { guessed: 1, confirmed: right, ..span(0, 2, false) };
        let out = compute(&cpu, &mut states, &inputs, first, next);
        assert_eq!(out, rows_of(&whole, first, first + 2), "behind {right}");
        let last = DeltaSpan { confirmed: 1, ..span(0, 1, false) };
        let out = compute(&cpu, &mut states, &inputs, first + 2, last);
        assert_eq!(out, rows_of(&whole, first + 2, first + 3), "and behind that");
    }
}

#[test]
fn a_copy_holds_what_was_known_behind_its_row() {
    let (cpu, inputs) = (cpu(None), inputs());
    let whole = run(&cpu, &inputs, &[ROWS]);
    let mut states = DeltaStates::new(SHAPE, 4).unwrap();
    let copies = [DeltaCopy { rows: 1, slot: 2 }, DeltaCopy { rows: 3, slot: 3 }];
    compute(&cpu, &mut states, &inputs, 0, DeltaSpan { guessed: 2, copies: &copies, ..span(0, 5, true) });
    for (slot, first) in [(2, 1), (3, 3)] {
        let out = compute(&cpu, &mut states, &inputs, first, span(slot, 2, false));
        assert_eq!(out, rows_of(&whole, first, first + 2), "from row {first} on");
    }
    // Behind the second of the confirmed rows, and behind the first new one.
    let copies = [DeltaCopy { rows: 2, slot: 1 }, DeltaCopy { rows: 3, slot: 2 }];
    let next = DeltaSpan { confirmed: 2, copies: &copies, ..span(0, 2, false) };
    assert_eq!(compute(&cpu, &mut states, &inputs, 5, next), rows_of(&whole, 5, 7));
    for (slot, first) in [(1, 5), (2, 6), (0, 7)] {
        let out = compute(&cpu, &mut states, &inputs, first, span(slot, 2, false));
        assert_eq!(out, rows_of(&whole, first, first + 2), "from row {first} on");
    }
}

#[test]
fn tiled_heads_are_the_grouped_ones_in_another_order() {
    let tiled = DeltaShape { order: HeadOrder::Tiled, ..SHAPE };
    assert_eq!([0, 1, 2, 3].map(|head| SHAPE.key_head(head)), [0, 0, 1, 1]);
    assert_eq!([0, 1, 2, 3].map(|head| tiled.key_head(head)), [0, 1, 0, 1]);
}

#[test]
#[should_panic(expected = "share slot")]
fn two_spans_may_not_share_a_slot() {
    let mut states = DeltaStates::new(SHAPE, 1).unwrap();
    let span = span(0, 1, true);
    let x = vec![0.0; SHAPE.channels()];
    let taps = vec![0.0; SHAPE.taps * SHAPE.channels()];
    delta_convolve(&cpu(None), &mut states, &taps, &x, &[span, span], &mut x.clone());
}

#[test]
#[should_panic(expected = "more is confirmed")]
fn nothing_is_confirmed_that_was_not_guessed() {
    let (cpu, inputs) = (cpu(None), inputs());
    let mut states = DeltaStates::new(SHAPE, 1).unwrap();
    compute(&cpu, &mut states, &inputs, 0, span(0, 2, true));
    compute(&cpu, &mut states, &inputs, 2, DeltaSpan { confirmed: 1, ..span(0, 1, false) });
}
