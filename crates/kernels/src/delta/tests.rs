use std::num::NonZeroUsize;

use super::{DeltaShape, DeltaSpan, DeltaStates, delta_convolve, delta_rule};
use crate::{Cpu, CpuOptions, Isa};

const SHAPE: DeltaShape = DeltaShape { key_heads: 2, value_heads: 4, key_dim: 16, value_dim: 40, taps: 4 };
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

/// One sequence in steps of so many rows.
fn run(cpu: &Cpu, inputs: &Inputs, steps: &[usize]) -> Vec<f32> {
    let mut states = DeltaStates::new(SHAPE, 3).unwrap();
    let (channels, heads) = (SHAPE.channels(), SHAPE.value_heads);
    let (mut all, mut first) = (Vec::new(), 0);
    for &rows in steps {
        let span = DeltaSpan { first_row: 0, rows, slot: 1, is_start: first == 0 };
        let mut mixed = vec![f32::NAN; rows * channels];
        delta_convolve(
            cpu,
            &mut states,
            &inputs.taps,
            &inputs.x[first * channels..][..rows * channels],
            &[span],
            &mut mixed,
        );
        let mut out = vec![f32::NAN; rows * heads * SHAPE.value_dim];
        let gates = first * heads..(first + rows) * heads;
        delta_rule(cpu, &mut states, &mixed, &inputs.decay[gates.clone()], &inputs.strength[gates], &[span], &mut out);
        all.extend(out);
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

#[test]
fn a_copied_slot_goes_on_as_the_original() {
    let (cpu, inputs, channels, heads) = (cpu(None), inputs(), SHAPE.channels(), SHAPE.value_heads);
    let mut states = DeltaStates::new(SHAPE, 2).unwrap();
    let step = |states: &mut DeltaStates, row: usize, slot: u32| {
        let span = DeltaSpan { first_row: 0, rows: 1, slot, is_start: row == 0 };
        let mut mixed = vec![0.0; channels];
        delta_convolve(&cpu, states, &inputs.taps, &inputs.x[row * channels..][..channels], &[span], &mut mixed);
        let mut out = vec![0.0; heads * SHAPE.value_dim];
        let gates = row * heads..(row + 1) * heads;
        delta_rule(&cpu, states, &mixed, &inputs.decay[gates.clone()], &inputs.strength[gates], &[span], &mut out);
        out
    };
    step(&mut states, 0, 0);
    states.copy_slot(0, 1);
    let after = step(&mut states, 1, 0);
    assert_eq!(step(&mut states, 1, 1), after);
}

#[test]
#[should_panic(expected = "share slot")]
fn two_spans_may_not_share_a_slot() {
    let mut states = DeltaStates::new(SHAPE, 1).unwrap();
    let span = DeltaSpan { first_row: 0, rows: 1, slot: 0, is_start: true };
    let x = vec![0.0; SHAPE.channels()];
    let taps = vec![0.0; SHAPE.taps * SHAPE.channels()];
    delta_convolve(&cpu(None), &mut states, &taps, &x, &[span, span], &mut x.clone());
}
