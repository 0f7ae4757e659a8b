#!/usr/bin/env python3
"""Our quantised files beside llama.cpp's: the error of every tensor, and whether its reader finds the same logits in ours.

  pip install gguf==0.19.0 numpy
  python bench/quantise/compare.py --sampan target/release/sampan --llama-quantize .../llama-quantize [--llama-server .../llama-server]

Errors are measured on a model of two layers in Qwen3-0.6B's widths, whose weights have heavy tails (Student's t, five degrees of
freedom); both programs read one BF16 file that `sampan model convert` wrote. Logits are those of the built-in model.
"""
import argparse
import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

import gguf
import numpy as np
from gguf import quants

ROOT = pathlib.Path(__file__).parents[2]
HIDDEN, WIDTH, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 1024, 3072, 2, 16, 8, 128
MIXES = {"q8-0": "Q8_0", "q6-k": "Q6_K", "q4-k-m": "Q4_K_M", "q4-0": "Q4_0"}
PROMPT = "The river rose after three days of rain, and the people of the village"


def shapes(vocabulary):
    yield "model.embed_tokens.weight", (vocabulary, HIDDEN)
    yield "lm_head.weight", (vocabulary, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{stem}{name}.weight", (HIDDEN,)
        for name in ("q_norm", "k_norm"):
            yield f"{stem}self_attn.{name}.weight", (HEAD_DIM,)
        for name, rows, columns in (
            ("self_attn.q_proj", HEADS * HEAD_DIM, HIDDEN),
            ("self_attn.k_proj", KV_HEADS * HEAD_DIM, HIDDEN),
            ("self_attn.v_proj", KV_HEADS * HEAD_DIM, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HEADS * HEAD_DIM),
            ("mlp.gate_proj", WIDTH, HIDDEN),
            ("mlp.up_proj", WIDTH, HIDDEN),
            ("mlp.down_proj", HIDDEN, WIDTH),
        ):
            yield f"{stem}{name}.weight", (rows, columns)


def make_model(folder):
    """A checkpoint with the built-in model's tokenizer."""
    folder.mkdir()
    nano = ROOT / "fixtures/nano"
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(nano / name, folder)
    config = json.loads((nano / "config.json").read_text())
    config |= {"hidden_size": HIDDEN, "intermediate_size": WIDTH, "num_hidden_layers": LAYERS, "head_dim": HEAD_DIM}
    config |= {"num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    chance = np.random.default_rng(1)
    header, blobs, start = {}, [], 0
    for name, shape in shapes(config["vocab_size"]):
        values = chance.standard_t(5, shape).astype(np.float32) * np.float32(0.02)
        if len(shape) == 1:
            values = np.ones(shape, np.float32)
        blob = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, start + len(blob)]}
        blobs.append(blob)
        start += len(blob)
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.writelines(blobs)


def tensors(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def numbers(tensor):
    return quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64).ravel()


def compare(truth, ours, theirs):
    """Rows of the table: format, tensors, our error, theirs, the worst ratio of one tensor."""
    truth, ours, theirs = tensors(truth), tensors(ours), tensors(theirs)
    assert truth.keys() == ours.keys() == theirs.keys(), "the same tensors in all three"
    found = {}
    for name, tensor in truth.items():
        formats = {file[name].tensor_type.name for file in (ours, theirs)}
        assert len(formats) == 1, f"{name}: {formats}"
        if formats & {"F32", "BF16", "F16"}:
            continue
        right = numbers(tensor)
        errors = [np.sqrt(np.mean((numbers(file[name]) - right) ** 2) / np.mean(right**2)) for file in (ours, theirs)]
        found.setdefault(formats.pop(), []).append(errors)
    for name, errors in sorted(found.items()):
        errors = np.array(errors)
        yield name, len(errors), *errors.mean(0), (errors[:, 0] / errors[:, 1]).max()


def run(*command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def post(port, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def logits_by_both(sampan, server, file):
    """Log probabilities of the ten tokens that llama.cpp finds most likely, by both; the largest difference."""
    port = free_port()
    command = [server, "-m", file, "--port", port, "--host", "127.0.0.1", "-c", "512", "-t", "2", "--no-warmup"]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        ids = post(port, "/tokenize", {"content": PROMPT})["tokens"]
        asked = {"prompt": ids, "n_predict": 1, "n_probs": 10, "temperature": 0, "cache_prompt": False}
        theirs = post(port, "/completion", asked)["completion_probabilities"][0]["top_logprobs"]
    finally:
        process.terminate()
        process.wait()
    text = ",".join(map(str, ids))
    told = subprocess.run([sampan, "model", "logits", "--model", file, "--tokens", text, "--json"], capture_output=True, check=True)
    row = np.array(json.loads(told.stdout)["logits"][-1], np.float64)
    ours = row - row.max() - np.log(np.exp(row - row.max()).sum())
    return len(ids), max(abs(ours[token["id"]] - token["logprob"]) for token in theirs), theirs[0]["id"] == int(row.argmax())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sampan", required=True, type=pathlib.Path)
    parser.add_argument("--llama-quantize", required=True, type=pathlib.Path)
    parser.add_argument("--llama-server", type=pathlib.Path)
    options = parser.parse_args()
    sampan = options.sampan.resolve()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        make_model(work / "model")
        truth = work / "model.gguf"
        run(sampan, "model", "convert", work / "model", truth)
        print(f"{'mix':8} {'format':6} {'tensors':>7} {'sampan':>9} {'llama.cpp':>9} {'ratio':>7} {'worst':>7}")
        for mix, name in MIXES.items():
            ours, theirs = work / f"{mix}.ours.gguf", work / f"{mix}.theirs.gguf"
            run(sampan, "model", "quantize", truth, ours, "--to", mix)
            run(options.llama_quantize, truth, theirs, name, 2)
            for kind, count, mine, other, worst in compare(truth, ours, theirs):
                print(f"{mix:8} {kind:6} {count:7} {mine:9.5f} {other:9.5f} {mine / other:7.4f} {worst:7.4f}", flush=True)
        if options.llama_server:
            for mix in ("bf16", *MIXES):
                file = work / f"nano.{mix}.gguf"
                how = ["convert"] if mix == "bf16" else ["quantize", "--to", mix]
                run(sampan, "model", how[0], "sampan-nano", file, *how[1:])
                count, off, same = logits_by_both(sampan, options.llama_server, file)
                print(f"logits of sampan-nano, {mix}: {count} tokens, largest difference {off:.4f} nats, same choice: {same}")


if __name__ == "__main__":
    main()
