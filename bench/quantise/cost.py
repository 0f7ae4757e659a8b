#!/usr/bin/env python3
"""What quantising costs: time and the most memory, on a model of Qwen3-0.6B's shape with random weights in BF16 (1.2 GB).

  python bench/quantise/cost.py --sampan target/release/sampan [--work bench/.work/quantise] [--text README.md]
                                [--llama-quantize bench/.work/build/native/bin/llama-quantize]

With llama-quantize each mix is also written by it, in turn, with as many threads, from the same numbers as a GGUF file in BF16.
Without a text a tensor at a time is in memory; with one the model is loaded to read it, and afterwards the quantised one, which is
compared with what the first one predicted. The memory is that of the process, with pages of the file that it reads.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import time

ROOT = pathlib.Path(__file__).parents[2]
HIDDEN, WIDTH, LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY = 1024, 3072, 28, 16, 8, 128, 151_936
MIXES = {"q8-0": "Q8_0", "q6-k": "Q6_K", "q4-k-m": "Q4_K_M", "q4-0": "Q4_0"}  # ours and llama.cpp's names


def shapes():
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{stem}{name}.weight", (HIDDEN,)
        for name in ("q_norm", "k_norm"):
            yield f"{stem}self_attn.{name}.weight", (HEAD_DIM,)
        for name, rows, columns in (
            ("self_attn.q_proj", HEADS * HEAD_DIM, HIDDEN), ("self_attn.k_proj", KV_HEADS * HEAD_DIM, HIDDEN),
            ("self_attn.v_proj", KV_HEADS * HEAD_DIM, HIDDEN), ("self_attn.o_proj", HIDDEN, HEADS * HEAD_DIM),
            ("mlp.gate_proj", WIDTH, HIDDEN), ("mlp.up_proj", WIDTH, HIDDEN), ("mlp.down_proj", HIDDEN, WIDTH),
        ):
            yield f"{stem}{name}.weight", (rows, columns)


def noise(size):
    """BF16 numbers of either sign between 2^-7 and 2^-5."""
    numbers = bytearray(size)
    numbers[0::2] = os.urandom(size // 2)
    numbers[1::2] = os.urandom(size // 2).translate(bytes(0x3C | (byte & 0x80) for byte in range(256)))
    return numbers


def make(folder):
    folder.mkdir(parents=True)
    nano = ROOT / "fixtures/nano"
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(nano / name, folder)
    config = json.loads((nano / "config.json").read_text())
    config |= {"hidden_size": HIDDEN, "intermediate_size": WIDTH, "num_hidden_layers": LAYERS, "head_dim": HEAD_DIM}
    config |= {"num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "tie_word_embeddings": True}
    config |= {"vocab_size": VOCABULARY}
    (folder / "config.json").write_text(json.dumps(config))
    header, start, plan = {}, 0, list(shapes())
    for name, shape in plan:
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, shape in plan:
            begin, end = header[name]["data_offsets"]
            out.write(b"\x80\x3f" * ((end - begin) // 2) if len(shape) == 1 else noise(end - begin))


def theirs(program, source, out, mix, threads):
    """Seconds of llama-quantize."""
    began = time.perf_counter()
    subprocess.run([program, source, out, mix, str(threads)], check=True, capture_output=True)
    took = time.perf_counter() - began
    out.unlink()
    return took


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sampan", required=True)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "bench/.work/quantise")
    parser.add_argument("--text", type=pathlib.Path, default=ROOT / "README.md")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--llama-quantize", type=pathlib.Path)
    parser.add_argument("--plain", action="store_true", help="without the rows that read a text")
    arguments = parser.parse_args()
    model = arguments.work / "shape-0.6b"
    if not (model / "model.safetensors").exists():
        make(model)
    size = (model / "model.safetensors").stat().st_size
    other = arguments.llama_quantize
    if other:
        source = arguments.work / "shape-0.6b.gguf"
        if not source.exists():
            subprocess.run([arguments.sampan, "model", "convert", model, source, "--type", "bf16"], check=True,
                           capture_output=True)
    print(f"| mix | text | size | time | most memory |{' llama-quantize | times as fast |' if other else ''}\n"
          f"|---|---|---|---|---|{'---|---|' if other else ''}")
    for mix, their_name in MIXES.items():
        for has_text in (False,) if arguments.plain else (False, True):
            out = arguments.work / f"out.{mix}.gguf"
            out.unlink(missing_ok=True)
            command = [arguments.sampan, "model", "quantize", model, out, "--to", mix, "--json",
                       "--threads", arguments.threads]
            if has_text:
                command += ["--calibrate", arguments.text, "--windows", arguments.windows, "--precision", "fast"]
            told = subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout
            told = json.loads(told)
            share = f"{told['size_bytes'] / size * 100:.0f} %"
            print(f"| {mix} | {'read' if has_text else '-'} | {told['size_bytes'] / 1e6:.0f} MB ({share}) "
                  f"| {told['elapsed_ms'] / 1000:.1f} s | {told['peak_rss_bytes'] / 1e9:.2f} GB |", end="")
            out.unlink()
            if other and not has_text:
                took = theirs(other, source, out, their_name, arguments.threads)
                print(f" {took:.1f} s | {took / told['elapsed_ms'] * 1000:.2f} |", end="")
            elif other:
                print(" | |", end="")
            print(flush=True)


if __name__ == "__main__":
    main()
