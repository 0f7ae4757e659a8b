#!/usr/bin/env python3
"""A GGUF file of Qwen3-0.6B's exact shape with random weights in BF16: what the speed comparisons run on. With --shape
experts a mixture: 24 layers of 64 experts of width 384, of which a token uses eight; with hybrid one of Qwen3.5-0.8B's
kind: 24 layers of width 1024, three of four gated DeltaNet; with vl the same as without, as the decoder of a model with
vision (rotations in sections, no tower).

  pip install gguf==0.19.0 numpy
  python make_gguf.py --out bench/.work/qwen3-0.6b.bf16.gguf [--seed 1] [--shape dense|experts|hybrid|vl]

The quantised files are made from it by the peer's own tool, for example
  llama-quantize qwen3-0.6b.bf16.gguf qwen3-0.6b.Q4_0.gguf Q4_0
The tokens have invented names: the file measures speed and says nothing.
"""
import argparse
import os

import gguf
import numpy as np

HIDDEN, WIDTH, LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY = 1024, 3072, 28, 16, 8, 128, 151_936
EXPERT_LAYERS, EXPERTS, EXPERTS_USED, EXPERT_WIDTH = 24, 64, 8, 384
# Of the hybrid: layers, width of the network, heads and their width, and those of gated DeltaNet.
HYBRID_LAYERS, HYBRID_WIDTH, HYBRID_HEADS, HYBRID_KV_HEADS, HYBRID_HEAD_DIM = 24, 3584, 8, 2, 256
DELTA_HEADS, DELTA_DIM, DELTA_TAPS, INTERVAL = 16, 128, 4, 4
FAMILIES = {"dense": "qwen3", "experts": "qwen3moe", "hybrid": "qwen35", "vl": "qwen3vl"}
SPREAD = 0.02


def add_matrix(writer, chance, name, *shape):
    values = chance.standard_normal(shape, dtype=np.float32) * np.float32(SPREAD)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    writer.add_tensor(name, halves.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)


def add_ones(writer, name, count):
    writer.add_tensor(name, np.ones(count, np.float32))


def add_layer(writer, chance, index, has_experts):
    prefix = f"blk.{index}."
    add_ones(writer, prefix + "attn_norm.weight", HIDDEN)
    add_ones(writer, prefix + "ffn_norm.weight", HIDDEN)
    add_ones(writer, prefix + "attn_q_norm.weight", HEAD_DIM)
    add_ones(writer, prefix + "attn_k_norm.weight", HEAD_DIM)
    for name, rows, columns in (
        ("attn_q", HEADS * HEAD_DIM, HIDDEN),
        ("attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
        ("attn_v", KV_HEADS * HEAD_DIM, HIDDEN),
        ("attn_output", HIDDEN, HEADS * HEAD_DIM),
    ):
        add_matrix(writer, chance, f"{prefix}{name}.weight", rows, columns)
    if has_experts:
        router = chance.standard_normal((EXPERTS, HIDDEN), dtype=np.float32) * np.float32(SPREAD)
        writer.add_tensor(prefix + "ffn_gate_inp.weight", router)
    shape = [("gate", WIDTH, HIDDEN), ("up", WIDTH, HIDDEN), ("down", HIDDEN, WIDTH)]
    for name, rows, columns in shape:
        if has_experts:
            rows, columns = (EXPERT_WIDTH if size == WIDTH else size for size in (rows, columns))
            add_matrix(writer, chance, f"{prefix}ffn_{name}_exps.weight", EXPERTS, rows, columns)
        else:
            add_matrix(writer, chance, f"{prefix}ffn_{name}.weight", rows, columns)


def add_hybrid_layer(writer, chance, index):
    prefix = f"blk.{index}."
    add_ones(writer, prefix + "attn_norm.weight", HIDDEN)
    add_ones(writer, prefix + "post_attention_norm.weight", HIDDEN)
    values = DELTA_HEADS * DELTA_DIM
    if (index + 1) % INTERVAL:
        for name, rows, columns in (
            ("attn_qkv", 3 * values, HIDDEN),
            ("attn_gate", values, HIDDEN),
            ("ssm_beta", DELTA_HEADS, HIDDEN),
            ("ssm_alpha", DELTA_HEADS, HIDDEN),
            ("ssm_out", HIDDEN, values),
        ):
            add_matrix(writer, chance, f"{prefix}{name}.weight", rows, columns)
        taps = chance.standard_normal((3 * values, DELTA_TAPS), dtype=np.float32) * np.float32(0.5)
        writer.add_tensor(prefix + "ssm_conv1d.weight", taps)
        writer.add_tensor(prefix + "ssm_dt.bias", np.zeros(DELTA_HEADS, np.float32))
        writer.add_tensor(prefix + "ssm_a", -np.ones(DELTA_HEADS, np.float32))
        add_ones(writer, prefix + "ssm_norm.weight", DELTA_DIM)
    else:
        add_ones(writer, prefix + "attn_q_norm.weight", HYBRID_HEAD_DIM)
        add_ones(writer, prefix + "attn_k_norm.weight", HYBRID_HEAD_DIM)
        queries = HYBRID_HEADS * HYBRID_HEAD_DIM
        for name, rows, columns in (
            ("attn_q", 2 * queries, HIDDEN),
            ("attn_k", HYBRID_KV_HEADS * HYBRID_HEAD_DIM, HIDDEN),
            ("attn_v", HYBRID_KV_HEADS * HYBRID_HEAD_DIM, HIDDEN),
            ("attn_output", HIDDEN, queries),
        ):
            add_matrix(writer, chance, f"{prefix}{name}.weight", rows, columns)
    for name, rows, columns in (
        ("gate", HYBRID_WIDTH, HIDDEN), ("up", HYBRID_WIDTH, HIDDEN), ("down", HIDDEN, HYBRID_WIDTH)
    ):
        add_matrix(writer, chance, f"{prefix}ffn_{name}.weight", rows, columns)


def add_hybrid_keys(writer):
    writer.add_ssm_conv_kernel(DELTA_TAPS)
    writer.add_ssm_state_size(DELTA_DIM)
    writer.add_ssm_group_count(DELTA_HEADS)
    writer.add_ssm_time_step_rank(DELTA_HEADS)
    writer.add_ssm_inner_size(DELTA_HEADS * DELTA_DIM)
    writer.add_uint32("qwen35.full_attention_interval", INTERVAL)
    writer.add_rope_dimension_count(HYBRID_HEAD_DIM // 4)
    writer.add_rope_dimension_sections([11, 11, 10, 0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shape", choices=FAMILIES, default="dense")
    arguments = parser.parse_args()
    has_experts, is_hybrid = arguments.shape == "experts", arguments.shape == "hybrid"
    layers = HYBRID_LAYERS if is_hybrid else EXPERT_LAYERS if has_experts else LAYERS
    os.makedirs(os.path.dirname(os.path.abspath(arguments.out)), exist_ok=True)
    chance = np.random.default_rng(arguments.seed)
    writer = gguf.GGUFWriter(arguments.out, FAMILIES[arguments.shape])
    writer.add_block_count(layers)
    if is_hybrid:
        add_hybrid_keys(writer)
    if arguments.shape == "vl":
        writer.add_rope_dimension_sections([24, 20, 20, 0])
        writer.add_uint32("qwen3vl.n_deepstack_layers", 0)
    if has_experts:
        writer.add_expert_count(EXPERTS)
        writer.add_expert_used_count(EXPERTS_USED)
        writer.add_expert_feed_forward_length(EXPERT_WIDTH)
    writer.add_context_length(40_960)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(HYBRID_WIDTH if is_hybrid else WIDTH)
    writer.add_head_count(HYBRID_HEADS if is_hybrid else HEADS)
    writer.add_head_count_kv(HYBRID_KV_HEADS if is_hybrid else KV_HEADS)
    writer.add_key_length(HYBRID_HEAD_DIM if is_hybrid else HEAD_DIM)
    writer.add_value_length(HYBRID_HEAD_DIM if is_hybrid else HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"t{index}" for index in range(VOCABULARY)])
    writer.add_token_types([gguf.TokenType.NORMAL] * VOCABULARY)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    add_matrix(writer, chance, "token_embd.weight", VOCABULARY, HIDDEN)
    add_ones(writer, "output_norm.weight", HIDDEN)
    for index in range(layers):
        if is_hybrid:
            add_hybrid_layer(writer, chance, index)
        else:
            add_layer(writer, chance, index, has_experts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
