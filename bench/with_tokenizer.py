#!/usr/bin/env python3
"""Copies a GGUF file and gives it the tokenizer of Qwen3 (fixtures/tokenizer) and a plain chat template, so that a server
can be asked in words. The weights stay as they are.

  bench/.work/venv/bin/python bench/with_tokenizer.py FROM.gguf TO.gguf
"""
import json
import pathlib
import sys

import gguf

TOKENIZER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "tokenizer"
END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|im_end|>"
KIND = gguf.TokenType
TEMPLATE = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def tokens_of(tokenizer, count):
    tokens, kinds = [f"[PAD{index}]" for index in range(count)], [KIND.UNUSED] * count
    for token, index in tokenizer["model"]["vocab"].items():
        tokens[index], kinds[index] = token, KIND.NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = KIND.CONTROL if added["special"] else KIND.USER_DEFINED
    return tokens, kinds


def main():
    source, target = sys.argv[1:]
    reader = gguf.GGUFReader(source)
    tokenizer = json.loads((TOKENIZER / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(target, "qwen3")
    for field in reader.fields.values():
        if field.name.startswith(("GGUF.", "tokenizer.")) or field.name == "general.architecture":
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=element)
    count = next(int(tensor.shape[1]) for tensor in reader.tensors if tensor.name == "token_embd.weight")
    tokens, kinds = tokens_of(tokenizer, count)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index(END_OF_TEXT))
    writer.add_eos_token_id(tokens.index(END_OF_TURN))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
