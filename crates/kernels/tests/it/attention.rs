use kernels::{AttentionShape, Cpu, Isa, KV_BLOCK_TOKENS, KvCache, KvFormat, Scratch, Span, attention, kv_write};

use crate::random::{Random, assert_close, cpus};

const EXACT: f64 = 3e-6;
/// Keys, values, queries and weights rounded to eight bits of mantissa.
const BF16: f64 = 1e-2;
/// Keys, values, queries and weights rounded to int8.
const INT8: f64 = 3e-2;
/// Queries and weights rounded to sixteen bits.
const INT16: f64 = 5e-5;

/// Keys and values of one sequence, and what attention over them should give.
struct Sequence {
    k: Vec<f32>,
    v: Vec<f32>,
    q: Vec<f32>,
    blocks: Vec<u32>,
}

impl Sequence {
    fn new(random: &mut Random, shape: &AttentionShape, tokens: usize, next_block: &mut u32) -> Self {
        let (kv, d) = (tokens * shape.kv_heads * shape.head_dim, tokens * shape.heads * shape.head_dim);
        let mut blocks: Vec<u32> = Vec::new();
        for _ in 0..tokens.div_ceil(KV_BLOCK_TOKENS) {
            blocks.push(*next_block);
            *next_block += 1;
        }
        blocks.reverse();
        let q = random.floats(d).iter().map(|q| q * 3.0).collect();
        Self { k: random.floats(kv), v: random.floats(kv), q, blocks }
    }

    fn expected(&self, shape: &AttentionShape) -> Vec<f64> {
        let (d, heads, kv_heads) = (shape.head_dim, shape.heads, shape.kv_heads);
        let mut out = Vec::new();
        for (position, q) in self.q.chunks(heads * d).enumerate() {
            for (head, q) in q.chunks(d).enumerate() {
                let first = shape.window.map_or(0, |window| (position + 1).saturating_sub(window));
                let at = |j: usize| (j * kv_heads + head / (heads / kv_heads)) * d;
                let score = |j: usize| -> f64 {
                    let k = &self.k[at(j)..at(j) + d];
                    q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>() * f64::from(shape.scale)
                };
                let scores: Vec<f64> = (first..=position).map(score).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for i in 0..d {
                    let value = |(j, w): (usize, &f64)| w * f64::from(self.v[at(first + j) + i]);
                    out.push(weights.iter().enumerate().map(value).sum::<f64>() / sum);
                }
            }
        }
        out
    }
}

/// Runs the rows `from..to` of each sequence as one step; outputs one after the other.
fn step(
    cpu: &Cpu,
    cache: &mut KvCache,
    shape: &AttentionShape,
    sequences: &[(&Sequence, usize, usize)],
    scratch: &mut Scratch,
) -> Vec<f32> {
    let (mut q, mut k, mut v, mut spans) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut first_row = 0;
    for (sequence, from, to) in sequences {
        let (kv, d) = (shape.kv_heads * shape.head_dim, shape.heads * shape.head_dim);
        q.extend(&sequence.q[from * d..to * d]);
        k.extend(&sequence.k[from * kv..to * kv]);
        v.extend(&sequence.v[from * kv..to * kv]);
        spans.push(Span { first_row, rows: to - from, first_position: *from, blocks: &sequence.blocks });
        first_row += to - from;
    }
    kv_write(cpu, cache, &k, &v, &spans);
    let mut out = vec![f32::NAN; q.len()];
    attention(cpu, cache, shape, &q, &spans, &mut out, scratch);
    out
}

fn shapes() -> Vec<AttentionShape> {
    let shape = |heads, kv_heads, head_dim: usize, window| AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        window,
    };
    vec![
        shape(4, 2, 16, None),
        shape(2, 2, 33, None),
        shape(6, 1, 64, Some(70)),
        shape(40, 2, 32, None),
        shape(2, 1, 128, Some(1)),
        shape(4, 2, 128, None),
    ]
}

fn tolerance(format: KvFormat) -> f64 {
    match format {
        KvFormat::F32 => EXACT,
        KvFormat::Bf16 => BF16,
        KvFormat::Int8 => INT8,
    }
}

#[test]
fn prompts_then_single_tokens_equal_the_formula() {
    let mut random = Random(1);
    for cpu in cpus() {
        let mut scratch = Scratch::new();
        for format in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
            for shape in shapes() {
                let mut next_block = 0;
                let sequence = Sequence::new(&mut random, &shape, 150, &mut next_block);
                let mut cache = KvCache::new(shape.kv_heads, shape.head_dim, format, next_block).unwrap();
                let mut found = Vec::new();
                for (from, to) in [(0, 66), (66, 67), (67, 68), (68, 129), (129, 150)] {
                    found.extend(step(&cpu, &mut cache, &shape, &[(&sequence, from, to)], &mut scratch));
                }
                let what = format!("{cpu:?} {format:?} {shape:?}");
                assert_close(&found, &sequence.expected(&shape), tolerance(format), &what);
            }
        }
    }
}

#[test]
fn but_for_the_scalar_bodies_int8_loses_only_what_keys_and_values_lose() {
    let mut random = Random(5);
    for cpu in cpus().iter().filter(|cpu| cpu.isa() != Isa::Scalar) {
        for shape in shapes() {
            let mut next_block = 0;
            let mut sequence = Sequence::new(&mut random, &shape, 150, &mut next_block);
            for x in [&mut sequence.k, &mut sequence.v] {
                // Numbers that int8 holds as they are: the largest of each block makes the scale a power of two.
                for x in x.chunks_mut(shape.head_dim).flat_map(|head| head.chunks_mut(32)) {
                    x.iter_mut().for_each(|x| *x = (*x * 127.0).round() / 64.0);
                    x[0] = 127.0 / 64.0;
                }
            }
            let mut cache = KvCache::new(shape.kv_heads, shape.head_dim, KvFormat::Int8, next_block).unwrap();
            let mut scratch = Scratch::new();
            let mut found = Vec::new();
            for (from, to) in [(0, 66), (66, 67), (67, 129), (129, 150)] {
                found.extend(step(cpu, &mut cache, &shape, &[(&sequence, from, to)], &mut scratch));
            }
            assert_close(&found, &sequence.expected(&shape), INT16, &format!("{cpu:?} {shape:?}"));
        }
    }
}

#[test]
fn a_row_does_not_depend_on_cuts_neighbours_or_threads() {
    let mut random = Random(2);
    let cpus = cpus();
    // One piece, a few long ones, and pieces so short that no kernel for many rows takes them.
    let short_pieces: Vec<usize> = (0..=200).map(|piece| 3 * piece).collect();
    let cuts: [&[usize]; 4] = [&[0, 600], &[0, 350, 600], &[0, 599, 600], &short_pieces];
    for shape in [shapes()[0], shapes()[2], shapes()[5]] {
        for pair in cpus.chunks(2) {
            for format in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
                let mut next_block = 0;
                let long = Sequence::new(&mut random, &shape, 600, &mut next_block);
                let short = Sequence::new(&mut random, &shape, 90, &mut next_block);
                let mut outputs = Vec::new();
                for (index, cuts) in cuts.iter().enumerate() {
                    let mut scratch = Scratch::new();
                    let mut cache = KvCache::new(shape.kv_heads, shape.head_dim, format, next_block).unwrap();
                    let mut out = Vec::new();
                    for cut in cuts.windows(2) {
                        let both = [(&long, cut[0], cut[1]), (&short, 0, 90)];
                        // The short sequence comes along at times.
                        let count = if cut[0] == 0 { 2 } else { 1 };
                        let rows = cut[1] - cut[0];
                        let step = step(&pair[index.min(1)], &mut cache, &shape, &both[..count], &mut scratch);
                        out.extend_from_slice(&step[..rows * shape.heads * shape.head_dim]);
                    }
                    outputs.push(out);
                }
                let what = format!("{:?} {format:?} {shape:?}", pair[0]);
                for out in &outputs[1..] {
                    assert!(out.iter().zip(&outputs[0]).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}");
                }
                assert_close(&outputs[0], &long.expected(&shape), tolerance(format), &what);
            }
        }
    }
}

#[test]
fn what_an_earlier_owner_left_in_a_block_is_not_seen() {
    let mut random = Random(3);
    let shape = shapes()[0];
    for cpu in cpus() {
        let mut scratch = Scratch::new();
        for format in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
            let sequence = Sequence::new(&mut random, &shape, 40, &mut 0);
            let mut bad = Sequence::new(&mut random, &shape, 60, &mut 0);
            bad.v.fill(f32::NAN);
            let mut cache = KvCache::new(shape.kv_heads, shape.head_dim, format, 1).unwrap();
            step(&cpu, &mut cache, &shape, &[(&bad, 0, 60)], &mut scratch);
            let found = step(&cpu, &mut cache, &shape, &[(&sequence, 0, 40)], &mut scratch);
            assert_close(&found, &sequence.expected(&shape), tolerance(format), &format!("{cpu:?} {format:?}"));
        }
    }
}

#[test]
fn a_copied_block_goes_its_own_way() {
    let mut random = Random(4);
    let shape = shapes()[0];
    let cpu = &cpus()[0];
    let mut scratch = Scratch::new();
    let mut first = Sequence::new(&mut random, &shape, 20, &mut 0);
    let mut cache = KvCache::new(shape.kv_heads, shape.head_dim, KvFormat::F32, 2).unwrap();
    assert_eq!(cache.blocks(), 2);
    let whole = step(cpu, &mut cache, &shape, &[(&first, 0, 20)], &mut scratch);
    cache.copy_block(0, 1);
    first.blocks = vec![1];
    let again = step(cpu, &mut cache, &shape, &[(&first, 19, 20)], &mut scratch);
    assert_eq!(again, whole[19 * shape.heads * shape.head_dim..]);
}

#[test]
fn block_sizes_are_as_documented() {
    let cache = |format| KvCache::new(8, 128, format, 1).unwrap().block_bytes();
    assert_eq!(cache(KvFormat::F32), 8 * 64 * 128 * 2 * 4);
    assert_eq!(cache(KvFormat::Bf16), 8 * 64 * 128 * 2 * 2);
    assert_eq!(cache(KvFormat::Int8), 8 * (64 * 128 * 2 * 17 / 16 + 64 * 4));
}

#[test]
#[should_panic(expected = "positions need 2 blocks")]
fn too_few_blocks_are_our_bug() {
    let shape = shapes()[0];
    let mut cache = KvCache::new(2, 16, KvFormat::F32, 4).unwrap();
    let rows = vec![0.0; 70 * shape.kv_heads * shape.head_dim];
    kv_write(&cpus()[0], &mut cache, &rows, &rows, &[Span { first_row: 0, rows: 70, first_position: 0, blocks: &[0] }]);
}
