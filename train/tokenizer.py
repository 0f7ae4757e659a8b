"""Trains the byte-level BPE of sampan-nano: Qwen3's normaliser, split pattern and added tokens, a small vocabulary.

    python tokenizer.py --data DATA --out tokenizer.json
"""

import argparse
import itertools
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import chat
import corpus

VOCAB_SIZE = 8192
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# In Qwen3's order; only the first fourteen are `special` (hidden by skip_special_tokens).
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]
NOT_SPECIAL = [
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
]
PROSE_CHARS = 6_000_000
PROSE_CHARS_A_CHUNK = 4_000
SGD_DIALOGUES = 4_000
# Names that the tasks use often and the books do not: repeated so that they become single tokens.
WORDS_REPEATED = 40


def empty():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def training_text(data):
    taken = 0
    for chunk in corpus.prose(data, "prose_train_a"):
        piece = chunk["text"][:PROSE_CHARS_A_CHUNK]
        taken += len(piece)
        if taken > PROSE_CHARS:
            break
        yield piece
    for messages, tools in itertools.islice(corpus.sgd(data, "sgd_train", "train", seed=1), SGD_DIALOGUES):
        yield chat.render(messages, tools)
    words = (pathlib.Path(__file__).parent / "words.txt").read_text(encoding="utf-8")
    for _ in range(WORDS_REPEATED):
        yield words


def train(data):
    tokenizer = empty()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL) - len(NOT_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(data), trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in NOT_SPECIAL])
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with prose_train_a.jsonl.zst and so on")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    train(arguments.data).save(arguments.out)


if __name__ == "__main__":
    main()
