#!/usr/bin/env python3
"""A GGUF file of Qwen3-0.6B's exact shape with random weights in BF16: what the speed comparisons run on. With --experts
a mixture: 24 layers of 64 experts of width 384, of which a token uses eight.

  pip install gguf==0.19.0 numpy
  python make_gguf.py --out bench/.work/qwen3-0.6b.bf16.gguf [--seed 1] [--experts]

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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--experts", action="store_true")
    arguments = parser.parse_args()
    layers = EXPERT_LAYERS if arguments.experts else LAYERS
    os.makedirs(os.path.dirname(os.path.abspath(arguments.out)), exist_ok=True)
    chance = np.random.default_rng(arguments.seed)
    writer = gguf.GGUFWriter(arguments.out, "qwen3moe" if arguments.experts else "qwen3")
    writer.add_block_count(layers)
    if arguments.experts:
        writer.add_expert_count(EXPERTS)
        writer.add_expert_used_count(EXPERTS_USED)
        writer.add_expert_feed_forward_length(EXPERT_WIDTH)
    writer.add_context_length(40_960)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
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
        add_layer(writer, chance, index, arguments.experts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
