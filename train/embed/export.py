"""Writes a checkpoint as a folder that sentence-transformers and Sampan both load.

    python export.py --run run --out ../../fixtures/nano_embed
"""

import argparse
import dataclasses
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file

import encoder

CONFIG = {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute",
          "pad_token_id": encoder.PAD, "torch_dtype": "bfloat16", "hidden_dropout_prob": 0.0,
          "attention_probs_dropout_prob": 0.0}
POOLING = {"word_embedding_dimension": 256, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
           "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False,
           "pooling_mode_weightedmean_tokens": False, "pooling_mode_lasttoken": False, "include_prompt": True}
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
           {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
           {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "out"):
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    saved = torch.load(arguments.run / "checkpoint.pt", weights_only=False)
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in sorted(saved["model"].items())}
    save_file(weights, arguments.out / "model.safetensors", metadata={"format": "pt"})
    (arguments.out / "model.safetensors").chmod(0o644)
    write(arguments.out / "config.json", CONFIG | dataclasses.asdict(encoder.Config()))
    write(arguments.out / "modules.json", MODULES)
    write(arguments.out / "1_Pooling" / "config.json", POOLING)
    shutil.copyfile(arguments.run / "tokenizer.json", arguments.out / "tokenizer.json")
    for name in ("bag", "layer"):
        if name in saved:
            done = saved[name]
            print(f"{name}: {done['step']} steps, {done['pairs']} pairs, {done['seconds']:.0f} s")
    print(f"{sum(tensor.numel() for tensor in weights.values())} parameters")


if __name__ == "__main__":
    main()
