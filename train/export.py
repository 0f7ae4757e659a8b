"""Writes a checkpoint as a Hugging Face folder that transformers and Sampan both load as Qwen3ForCausalLM.

    python export.py --run RUN --tokenizer tokenizer.json --out ../fixtures/nano
"""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

import chat
import model as nano
import tokenizer as recipe


def config_json(config, eos, end_of_text):
    """The published layout (transformers 4.x): rope_theta and torch_dtype at top level."""
    return {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": end_of_text, "eos_token_id": eos, "head_dim": config.head_dim, "hidden_act": "silu",
        "hidden_size": config.hidden_size, "initializer_range": 0.02, "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings, "max_window_layers": config.num_hidden_layers,
        "model_type": "qwen3", "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers, "num_key_value_heads": config.num_key_value_heads,
        "rms_norm_eps": config.rms_norm_eps, "rope_scaling": None, "rope_theta": config.rope_theta,
        "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False,
        "vocab_size": config.vocab_size,
    }


def generation_config_json(eos, end_of_text):
    return {"bos_token_id": end_of_text, "do_sample": True, "eos_token_id": [eos, end_of_text],
            "pad_token_id": end_of_text, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "transformers_version": "4.51.0"}


def tokenizer_config_json(tokenizer):
    added = {}
    for texts, special in ((recipe.SPECIAL, True), (recipe.NOT_SPECIAL, False)):
        for text in texts:
            added[str(tokenizer.token_to_id(text))] = {"content": text, "lstrip": False, "normalized": False,
                                                       "rstrip": False, "single_word": False, "special": special}
    return {
        "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
        "additional_special_tokens": recipe.SPECIAL[1:], "bos_token": None, "chat_template": chat.TEMPLATE,
        "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
        "model_max_length": nano.Config().max_position_embeddings, "pad_token": "<|endoftext|>", "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
    }


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def export(run, tokenizer_path, out):
    out.mkdir(parents=True, exist_ok=True)
    state = torch.load(run / "checkpoint.pt", weights_only=False)
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    eos, end_of_text = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    config = nano.Config()
    assert tokenizer.get_vocab_size() == config.vocab_size
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in sorted(state["model"].items())}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    write_json(out / "config.json", config_json(config, eos, end_of_text))
    write_json(out / "generation_config.json", generation_config_json(eos, end_of_text))
    write_json(out / "tokenizer_config.json", tokenizer_config_json(tokenizer))
    if tokenizer_path.resolve() != (out / "tokenizer.json").resolve():
        shutil.copyfile(tokenizer_path, out / "tokenizer.json")
    print(f"step {state['step']}, {state['tokens']} tokens, {sum(t.numel() for t in weights.values())} parameters")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=pathlib.Path)
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    export(arguments.run, arguments.tokenizer, arguments.out)


if __name__ == "__main__":
    main()
