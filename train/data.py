"""Turns the sources into shards of token ids with a weight for each position.

    python data.py --data DATA --tokenizer tokenizer.json --out SHARDS [--only prose,sgd,...]

A shard is one .npz: `ids` (uint16) and `weights` (uint8, 0 to 100: how much predicting this token counts), both flat,
and `offsets` [documents + 1]. Documents are not packed together: a batch holds documents of about one length, each from
position 0, as the model will see a conversation when it is used.
"""

import argparse
import pathlib
import random

import numpy
from tokenizers import Tokenizer

import chat
import corpus

FULL = 100
# Predicting the user's words and the tool list teaches reading; it counts little beside the answers.
PROMPT_WEIGHT = 15
SYSTEM_WEIGHT = 3
TOKENS_MAX = 768
PROSE_WINDOW = 512
PROSE_CHARS = 1_900
THINKING_OFF_SHARE = 0.5


class Shard:
    def __init__(self):
        self.ids, self.weights, self.offsets = [], [], [0]

    def add(self, ids, weights):
        assert len(ids) == len(weights)
        self.ids.append(numpy.asarray(ids, dtype=numpy.uint16))
        self.weights.append(numpy.asarray(weights, dtype=numpy.uint8))
        self.offsets.append(self.offsets[-1] + len(ids))

    def save(self, path):
        numpy.savez(path, ids=numpy.concatenate(self.ids), weights=numpy.concatenate(self.weights),
                    offsets=numpy.asarray(self.offsets, dtype=numpy.int64))
        print(f"{path.name}: {len(self.offsets) - 1} documents, {self.offsets[-1]} tokens", flush=True)


def turn_weights(ids, marks):
    """Weights of a rendered prompt: earlier answers count in full, the user's words little, the system turn least.

    `marks` are the ids of <|im_start|>, <|im_end|>, "assistant" and "system".
    """
    start, end, assistant, system = marks
    weights, current, skip = [], PROMPT_WEIGHT, 0
    for index, token in enumerate(ids):
        if token == start:
            role = ids[index + 1] if index + 1 < len(ids) else None
            current = FULL if role == assistant else SYSTEM_WEIGHT if role == system else PROMPT_WEIGHT
            skip = 3  # <|im_start|>, the role and the line feed are given, never predicted
        weights.append(0 if skip else current)
        skip = max(0, skip - 1)
        if token == end:
            current = 0
    return weights


def encode_chat(tokenizer, messages, tools, thinking_off):
    """Ids and weights of one conversation; the last answer and every earlier one are trained on."""
    prompt, answer = chat.example(messages, tools, enable_thinking=False if thinking_off else None)
    ids = tokenizer.encode(prompt).ids
    marks = [tokenizer.token_to_id(text) for text in ("<|im_start|>", "<|im_end|>", "assistant", "system")]
    weights = turn_weights(ids, marks)
    last = len(ids) - 1 - ids[::-1].index(marks[0])
    weights[last:] = [0] * (len(ids) - last)
    answer_ids = tokenizer.encode(answer).ids
    return ids + answer_ids, weights + [FULL] * len(answer_ids)


def chat_shard(tokenizer, conversations, seed):
    shard, rng, dropped = Shard(), random.Random(seed), 0
    for messages, tools in conversations:
        thinking = bool(messages[-1].get("reasoning_content"))
        ids, weights = encode_chat(tokenizer, messages, tools, not thinking and rng.random() < THINKING_OFF_SHARE)
        if len(ids) > TOKENS_MAX:
            dropped += 1
            continue
        shard.add(ids, weights)
    print(f"longer than {TOKENS_MAX} tokens and left out: {dropped}")
    return shard


def text_shard(tokenizer, texts):
    shard = Shard()
    for text in texts:
        for piece in corpus.paragraphs(text, PROSE_CHARS):
            ids = tokenizer.encode(piece).ids
            for start in range(0, len(ids), PROSE_WINDOW):
                window = ids[start:start + PROSE_WINDOW]
                if len(window) >= 32:
                    shard.add(window, [FULL] * len(window))
    return shard


def build(data, tokenizer, name):
    if name == "prose":
        return text_shard(tokenizer, (chunk["text"] for chunk in corpus.prose(data, "prose_train_a")))
    if name == "python":
        return text_shard(tokenizer, (module["text"] for module in corpus.records(data, "python_stdlib")))
    if name == "prose_val":
        return text_shard(tokenizer, (chunk["text"] for chunk in corpus.prose(data, "prose_val")))
    if name == "sgd":
        return chat_shard(tokenizer, corpus.sgd(data, "sgd_train", "train", seed=2, passes=2), seed=2)
    if name == "sgd_dev":
        return chat_shard(tokenizer, corpus.sgd(data, "sgd_dev", "dev", seed=3), seed=3)
    import tasks
    seed, count = {"tasks": (4, tasks.TRAIN_COUNT), "tasks_held": (5, tasks.HELD_COUNT)}[name]
    return chat_shard(tokenizer, tasks.stream(seed, count, held=name == "tasks_held"), seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--only", default="prose,python,sgd,tasks,prose_val,sgd_dev,tasks_held")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(arguments.tokenizer)
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only.split(","):
        build(arguments.data, tokenizer, name).save(out / f"{name}.npz")


if __name__ == "__main__":
    main()
