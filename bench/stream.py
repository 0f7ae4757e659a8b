#!/usr/bin/env python3
"""Experts from the disk: how much of it decoding uses, on a mixture that is larger than the memory that it is given.

  python bench/stream.py --sampan target/release/sampan [--work bench/.work/stream] [--layers 7] [--expert-memory 2048]
      [--quantised q8-0] [--tokens 16] [--repeat 3]

Makes layers of Qwen3-30B-A3B (128 experts of 9.4 MB in BF16, of which a token uses eight) with random weights: seven are 8.5 GB.
Tokens are drawn by chance, so the router chooses experts with no more favour than its weights have. `sampan bench` measures the
disk in the same run, with the same reads in flight, around the page cache and through it; what decoding needed of experts and had
not in memory, divided by that, is the figure. With --quantised the file is quantised first, and --expert-memory is to be less.
"""
import argparse
import json
import os
import pathlib
import subprocess

HIDDEN, WIDTH, EXPERTS, USED, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY = 2048, 768, 128, 8, 32, 4, 128, 32_768
# Random numbers are written again and again from one piece of this size.
PIECE_BYTES = 64 << 20


def shapes(layers):
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)
    for layer in range(layers):
        stem = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{stem}{name}.weight", (HIDDEN,)
        for name in ("q_norm", "k_norm"):
            yield f"{stem}self_attn.{name}.weight", (HEAD_DIM,)
        for name, rows, columns in (
            ("q_proj", HEADS * HEAD_DIM, HIDDEN), ("k_proj", KV_HEADS * HEAD_DIM, HIDDEN),
            ("v_proj", KV_HEADS * HEAD_DIM, HIDDEN), ("o_proj", HIDDEN, HEADS * HEAD_DIM),
        ):
            yield f"{stem}self_attn.{name}.weight", (rows, columns)
        yield f"{stem}mlp.gate.weight", (EXPERTS, HIDDEN)
        for expert in range(EXPERTS):
            for name, rows, columns in (("gate", WIDTH, HIDDEN), ("up", WIDTH, HIDDEN), ("down", HIDDEN, WIDTH)):
                yield f"{stem}mlp.experts.{expert}.{name}_proj.weight", (rows, columns)


def noise(size, high=0x3C):
    """BF16 numbers of either sign: from 2^-7 to 2^-5, or, with 0x3F, from 1/2 to 2."""
    numbers = bytearray(size)
    numbers[0::2] = os.urandom(size // 2)
    numbers[1::2] = os.urandom(size // 2).translate(bytes(high | (byte & 0x80) for byte in range(256)))
    return numbers


def make(folder, layers):
    folder.mkdir(parents=True)
    config = {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": HIDDEN, "intermediate_size": WIDTH,
        "moe_intermediate_size": WIDTH, "num_experts": EXPERTS, "num_experts_per_tok": USED, "norm_topk_prob": True,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0, "max_position_embeddings": 4096, "tie_word_embeddings": False, "hidden_act": "silu",
        "attention_bias": False, "torch_dtype": "bfloat16",
    }
    header, start, plan = {}, 0, list(shapes(layers))
    for name, shape in plan:
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    piece, ones = memoryview(noise(PIECE_BYTES)), b"\x80\x3f"
    at = 0
    with open(folder / "model.safetensors", "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, shape in plan:
            begin, end = header[name]["data_offsets"]
            size = end - begin
            if len(shape) == 1:
                out.write(ones * (size // 2))
                continue
            if "embed_tokens" in name:
                # Large enough that what a token is outweighs what layers add: else all tokens choose the same experts.
                out.write(noise(size, 0x3F))
                continue
            while size:
                # An odd step, so that no two tensors are alike.
                at = (at + 1_000_002) % PIECE_BYTES
                part = piece[at:at + size]
                out.write(part)
                size -= len(part)
        out.flush()
        os.fsync(out.fileno())
    (folder / "config.json").write_text(json.dumps(config))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sampan", required=True)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("bench/.work/stream"))
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--expert-memory", type=int, default=2048)
    parser.add_argument("--quantised")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    model = arguments.work / f"layers-{arguments.layers}"
    if not (model / "config.json").exists():
        make(model, arguments.layers)
    if arguments.quantised:
        quantised = arguments.work / f"layers-{arguments.layers}.{arguments.quantised}.gguf"
        if not quantised.exists():
            command = [arguments.sampan, "model", "quantize", model, quantised, "--to", arguments.quantised]
            subprocess.run([str(part) for part in command], check=True)
        model = quantised
    if os.geteuid() == 0:
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    command = [arguments.sampan, "bench", "--model", model, "--json", "--expert-memory", arguments.expert_memory]
    command += ["--prompt", 64, "--decode", arguments.tokens, "--depth", 0, "--repeat", arguments.repeat]
    told = json.loads(subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout)
    size = sum(file.stat().st_size for file in (model.iterdir() if model.is_dir() else [model]))
    print(f"{model.name}: {size / 1e9:.1f} GB, {arguments.expert_memory} MiB for experts, "
          f"at most {told['peak_rss_bytes'] / 1e9:.2f} GB in memory, {told['threads']} threads, {told['isa']}")
    for test in told["tests"]:
        print(f"{test['test']}: {test['tokens_per_second']:.2f} tokens/s")
        if experts := test.get("experts"):
            print(json.dumps(experts, indent=2))


if __name__ == "__main__":
    main()
