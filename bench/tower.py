#!/usr/bin/env python3
"""The vision tower beside Hugging Face transformers', on the same picture and the same weights, in turns.

    bench/tower.py make                             # once: a checkpoint of Qwen3-VL-2B's tower with random weights
    bench/tower.py run [--size 1024] [--pairs 5]    # a pair is one run of each; prints medians and the pairs' ratio

Needs torch, transformers and safetensors, and `cargo build --release -p sampan` (or SAMPAN_BIN). Transformers runs with
BF16 weights and with F32, after a warm run each; the faster one counts. Both compute the tower only: pixels are
resized and cut before the clock starts."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time

BENCH = pathlib.Path(__file__).resolve().parent
FOLDER = BENCH / ".work" / "qwen3-vl-2b-tower"
# Tower of Qwen3-VL-2B and 4B; the decoder behind it has one layer, since it is not measured.
VISION = dict(depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16, out_hidden_size=2048, patch_size=16,
              temporal_patch_size=2, spatial_merge_size=2, in_channels=3, num_position_embeddings=2304,
              deepstack_visual_indexes=[5, 11, 17], hidden_act="gelu_pytorch_tanh")
TEXT = dict(hidden_size=2048, intermediate_size=256, num_hidden_layers=3, num_attention_heads=16, num_key_value_heads=8,
            head_dim=128, vocab_size=1024, max_position_embeddings=4096, rope_theta=5e6, rms_norm_eps=1e-6,
            rope_scaling={"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True},
            tie_word_embeddings=True)


def config():
    from transformers import Qwen3VLConfig

    return Qwen3VLConfig(text_config=dict(TEXT), vision_config=dict(VISION), image_token_id=1000, video_token_id=1001,
                         vision_start_token_id=998, vision_end_token_id=999, tie_word_embeddings=True)


def make():
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    torch.manual_seed(1)
    model = Qwen3VLForConditionalGeneration(config()).to(torch.bfloat16)
    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(FOLDER, safe_serialization=True)
    print(FOLDER)


def theirs(size, threads, dtype):
    """A function that runs transformers' tower once and says what it took."""
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    torch.set_num_threads(threads)
    whole = Qwen3VLForConditionalGeneration.from_pretrained(FOLDER, dtype=dtype, attn_implementation="sdpa").eval()
    tower = whole.model.visual
    side = size // 16
    pixels = torch.rand(side * side, 1536).to(dtype) * 2 - 1
    grid = torch.tensor([[1, side, side]])

    def once():
        with torch.inference_mode():
            began = time.perf_counter()
            tower(pixels, grid_thw=grid)
            return (time.perf_counter() - began) * 1000

    return once


def ours(size, threads):
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", BENCH.parent / "target"))
    program = os.environ.get("SAMPAN_BIN", target / "release" / "sampan")
    words = [program, "bench", "--model", FOLDER, "--prompt", 1, "--decode", 1, "--picture", f"{size}x{size}",
             "--repeat", 1, "--threads", threads, "--json"]
    report = json.loads(subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout)
    return next(row["elapsed_ms"] for row in report["tests"] if row["test"].startswith("picture"))


def run(arguments):
    import torch

    size = arguments.size // 32 * 32
    kinds = {"BF16": torch.bfloat16, "F32": torch.float32}
    tried = {}
    for name, dtype in kinds.items():
        once = theirs(size, arguments.threads, dtype)
        once()
        tried[name] = once()
        del once
    better = min(tried, key=tried.get)
    once = theirs(size, arguments.threads, kinds[better])
    once()
    pairs = [(ours(size, arguments.threads), once()) for _ in range(arguments.pairs)]
    mine, their = (statistics.median(column) for column in zip(*pairs))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"| picture | threads | pairs | sampan ms | transformers ms | times as fast |")
    print(f"|---|---|---|---|---|---|")
    print(f"| {size} x {size} | {arguments.threads} | {len(pairs)} | {mine:.0f} | {their:.0f} ({better}) | {ratio:.2f} |")
    print("transformers, one run:", ", ".join(f"{name} {took:.0f} ms" for name, took in tried.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("make", "run"))
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    make() if arguments.action == "make" else run(arguments)


if __name__ == "__main__":
    main()
