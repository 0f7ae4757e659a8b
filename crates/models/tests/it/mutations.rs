//! The mistakes that implementations make, made on purpose: the goldens must see every one.
//!
//! What a mistake does to the logits is known from the reference, in which each was made too (`fixtures/README.md`,
//! `sensitivity.json`): the same number here says that it is that mistake which was made, and no other.

use serde_json::{Value, json};

use crate::goldens::EXACT_RELATIVE_MAX;
use crate::mutant::{Mutant, Part};

/// How near the number of the reference is hit.
pub(crate) const NEAR: f64 = 0.05;

/// `relative`: what the reference shows with this mistake.
fn seen(what: &str, mutant: &Mutant, relative: f64) {
    let found = mutant.off("chat");
    assert!(found > EXACT_RELATIVE_MAX, "{what} is not seen: {found:.2e}");
    assert!((found / relative - 1.0).abs() < NEAR, "{what}: {found:.4e}, the reference shows {relative:.4e}");
}

fn refused(what: &str, mutant: &Mutant) {
    assert!(!mutant.loads(), "{what} is not seen");
}

const DENSE: &str = "tiny/qwen3_dense";
const NEXT: &str = "tiny/qwen3_next";
/// Width of a head in the tiny models.
const HEAD: usize = 32;

#[test]
fn without_a_mistake_nothing_is_seen() {
    for fixture in [DENSE, NEXT, "tiny/qwen3_moe", "tiny/qwen3_yarn", "tiny/qwen3_sliding"] {
        let off = Mutant::of(fixture).off("chat");
        assert!(off <= EXACT_RELATIVE_MAX, "{fixture}: {off:.2e}");
    }
}

#[test]
fn norms_of_heads() {
    let ones = |part: &mut Part| part.map(|_| 1.0);
    seen("weights ignored", &Mutant::of(DENSE).each("q_norm.weight", ones).each("k_norm.weight", ones), 0.711_317);
    seen("epsilon of 1e-5", &Mutant::of(DENSE).set("rms_norm_eps", json!(1e-5)), 5.5e-5);
}

#[test]
fn rotations() {
    seen("base of 10000", &Mutant::of(DENSE).set("rope_theta", json!(10_000)), 0.870_284);
    // Rows that are paired as neighbours come where the halves are paired.
    let neighbours = |row: usize| row / HEAD * HEAD + row % HEAD % (HEAD / 2) * 2 + row % HEAD / (HEAD / 2);
    let pair = |part: &mut Part| part.gather_rows(neighbours);
    let endings = ["q_proj.weight", "k_proj.weight", "q_norm.weight", "k_norm.weight"];
    let interleaved = endings.iter().fold(Mutant::of(DENSE), |mutant, ending| mutant.each(ending, pair));
    seen("neighbours paired", &interleaved, 0.949_424);
    seen("partial rotation ignored", &Mutant::of(NEXT).set("partial_rotary_factor", json!(1.0)), 0.080_243);
}

#[test]
fn heads() {
    // The scale is a factor of every query, so of the weights of its norm: sqrt(32 / 16).
    let scaled = Mutant::of(DENSE).each("q_norm.weight", |part| part.map(|weight| weight * 2.0_f32.sqrt()));
    seen("scale from the hidden width", &scaled, 0.421_241);
    // Heads 0 1 2 3 share keys as 0 0 1 1; to share as 0 1 0 1 they stand as 0 2 1 3.
    let spread = |index: usize| [0, 2, 1, 3][index / HEAD] * HEAD + index % HEAD;
    let modulo = Mutant::of(DENSE)
        .each("q_proj.weight", |part| part.gather_rows(spread))
        .each("o_proj.weight", |part| part.gather_columns(spread));
    seen("key head by remainder", &modulo, 1.263_353);
    refused("head width from the hidden width", &Mutant::of(DENSE).set("head_dim", Value::Null));
}

#[test]
fn feed_forward_and_head() {
    seen("gate and up swapped", &Mutant::of(DENSE).swap("gate_proj", "up_proj"), 0.970_719);
    refused("a head of its own expected", &Mutant::of(DENSE).set("tie_word_embeddings", json!(false)));
}

#[test]
fn long_contexts() {
    let yarn = || Mutant::of("tiny/qwen3_yarn");
    seen("ignored", &yarn().set("rope_scaling", Value::Null), 0.880_415);
    let with = |field: &str, value: f64| {
        let mut mutant = yarn();
        mutant.config["rope_scaling"][field] = json!(value);
        mutant
    };
    seen("no factor of cosine and sine", &with("attention_factor", 1.0), 0.366_562);
    seen("factor from the lengths", &with("factor", 80.0 / 64.0), 0.842_222);
}

#[test]
fn windows() {
    let sliding = || Mutant::of("tiny/qwen3_sliding");
    seen("ignored", &sliding().set("use_sliding_window", json!(false)), 0.783_406);
    seen("one too wide", &sliding().set("sliding_window", json!(9)), 0.322_32);
    seen("one too narrow", &sliding().set("sliding_window", json!(7)), 0.327_917);
    let layers = json!(["sliding_attention", "full_attention", "full_attention"]);
    seen("on the wrong layers", &sliding().set("layer_types", layers), 1.182_958);
}

#[test]
fn mixtures() {
    let moe = || Mutant::of("tiny/qwen3_moe");
    seen("not made to sum to one", &moe().set("norm_topk_prob", json!(false)), 0.270_997);
    seen("one expert too few", &moe().set("num_experts_per_tok", json!(2)), 0.437_57);
    let mixed = || Mutant::of("tiny/qwen3_moe_mixed");
    seen("made to sum to one", &mixed().set("norm_topk_prob", json!(true)), 0.115_073);
    refused("every layer a mixture", &mixed().set("decoder_sparse_step", json!(1)));
    refused("dense layers by name ignored", &mixed().set("mlp_only_layers", json!([])));
    // sigmoid(0) is a half: twice the shared expert's output is the output without its gate.
    let ungated = Mutant::of(NEXT)
        .each("shared_expert_gate.weight", |part| part.map(|_| 0.0))
        .each("shared_expert.down_proj.weight", |part| part.map(|weight| 2.0 * weight));
    seen("shared expert without its gate", &ungated, 0.865_701);
}

#[test]
fn norms_of_hybrids() {
    let minus = |part: &mut Part| part.map(|weight| weight - 1.0);
    let endings = ["layernorm.weight", "q_norm.weight", "k_norm.weight", "model.norm.weight"];
    let centred = endings.iter().fold(Mutant::of(NEXT), |mutant, ending| mutant.each(ending, minus));
    seen("one plus weight forgotten", &centred, 1.012_822);
    let gated = Mutant::of(NEXT).each("linear_attn.norm.weight", |part| part.map(|weight| weight + 1.0));
    seen("one plus weight in the gated norm", &gated, 0.893_496);
}

#[test]
fn gated_delta_net() {
    seen("decay left out", &Mutant::of(NEXT).each("A_log", |part| part.map(|_| -100.0)), 1.037_16);
    seen("dt_bias left out", &Mutant::of(NEXT).each("dt_bias", |part| part.map(|_| 0.0)), 0.883_777);
    let reversed = Mutant::of(NEXT).each("conv1d.weight", |part| part.gather_columns(|tap| 3 - tap));
    seen("convolution reversed", &reversed, 1.210_563);
    // Of each of two key heads: 16 rows of queries, 16 of keys, 48 of values, 48 of the gate.
    let flat = |row: usize| {
        let (group, within) = (row / 128, row % 128);
        match within {
            0..16 => group * 16 + within,
            16..32 => 32 + group * 16 + within - 16,
            32..80 => 64 + group * 48 + within - 32,
            _ => 160 + group * 48 + within - 80,
        }
    };
    let flat = Mutant::of(NEXT).each("in_proj_qkvz.weight", |part| part.gather_rows(flat));
    seen("projections split flat", &flat, 1.305_627);
}

/// Value heads 0 1 2 3 belong to key heads 0 0 1 1; to be taken for those of 0 1 0 1 they stand as 0 2 1 3.
#[test]
fn heads_of_gated_delta_net() {
    const HYBRID: &str = "tiny/qwen3_5";
    let heads = |before: usize, width: usize| {
        move |row: usize| match row.checked_sub(before) {
            Some(row) => before + [0, 2, 1, 3][row / width] * width + row % width,
            None => row,
        }
    };
    let tiled = Mutant::of(HYBRID)
        .each("in_proj_qkv.weight", |part| part.gather_rows(heads(64, 24)))
        .each("conv1d.weight", |part| part.gather_rows(heads(64, 24)))
        .each("in_proj_z.weight", |part| part.gather_rows(heads(0, 24)))
        .each("in_proj_a.weight", |part| part.gather_rows(heads(0, 1)))
        .each("in_proj_b.weight", |part| part.gather_rows(heads(0, 1)))
        .each("A_log", |part| part.gather_rows(heads(0, 1)))
        .each("dt_bias", |part| part.gather_rows(heads(0, 1)))
        .each("linear_attn.out_proj.weight", |part| part.gather_columns(heads(0, 24)));
    seen("key heads tiled", &tiled, 1.079_373);
    let minus = |part: &mut Part| part.map(|weight| weight - 1.0);
    let endings = ["layernorm.weight", "q_norm.weight", "k_norm.weight", "language_model.norm.weight"];
    let centred = endings.iter().fold(Mutant::of(HYBRID), |mutant, ending| mutant.each(ending, minus));
    seen("one plus weight forgotten", &centred, 1.016_51);
}

#[test]
fn gated_attention() {
    let model = "layers.3.self_attn.q_proj.weight";
    let halves = |row: usize| row / 64 * 64 + (row + HEAD) % 64;
    let swapped = Mutant::of(NEXT).each(model, |part| part.gather_rows(halves));
    seen("query and gate swapped", &swapped, 0.186_027);
    // sigmoid(0) is a half: twice the output is the output without its gate.
    let gates = |part: &mut Part| {
        let width = part.bytes.len() / part.shape[0];
        let rows = part.bytes.chunks_exact_mut(width).enumerate().filter(|(row, _)| row % 64 >= HEAD);
        rows.for_each(|(_, row)| row.fill(0));
    };
    let ungated = Mutant::of(NEXT)
        .each(model, gates)
        .each("layers.3.self_attn.o_proj.weight", |part| part.map(|weight| 2.0 * weight));
    seen("output without its gate", &ungated, 0.177_264);
    let flat = |row: usize| row % 64 / HEAD * 128 + row / 64 * HEAD + row % HEAD;
    let flat = Mutant::of(NEXT).each(model, |part| part.gather_rows(flat));
    seen("query and gate split across heads", &flat, 0.168_71);
}

/// What a mistake in unpacking makes is noise: far beyond any rounding.
fn garbled(what: &str, mutant: &Mutant) {
    let found = mutant.off("case");
    assert!(found > 0.1, "{what} is hardly seen: {found:.2e}");
}

#[test]
fn packed_weights() {
    assert!(Mutant::of("quant/gptq_int4_desc_act").off("case") <= EXACT_RELATIVE_MAX);
    let divided = Mutant::of("quant/fp8").each("weight_scale_inv", |part| part.map(f32::recip));
    garbled("FP8 scale divided by", &divided);
    // A zero is stored less one: without adding it again, what is read is one less.
    let less =
        |_: usize, word: u32| (0..8).map(|at| ((word >> (4 * at)).wrapping_sub(1) & 15) << (4 * at)).sum::<u32>();
    garbled("GPTQ zero without one more", &Mutant::of("quant/gptq_int4").each("qzeros", |part| part.words(less)));
    let order = |at: usize, _: u32| at as u32 / 128;
    let assumed = Mutant::of("quant/gptq_int4_desc_act").each("g_idx", |part| part.words(order));
    garbled("GPTQ groups assumed in order", &assumed);
    let straight = |_: usize, word: u32| {
        let taken = [0, 2, 4, 6, 1, 3, 5, 7].into_iter().enumerate();
        taken.map(|(to, from)| (word >> (4 * from) & 15) << (4 * to)).sum::<u32>()
    };
    garbled("AWQ order ignored", &Mutant::of("quant/awq").each("qweight", |part| part.words(straight)));
}
