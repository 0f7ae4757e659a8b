"""Makes the vocabulary of sampan-nano-embed: WordPiece in lower case, from the training text.

    python tokenizer.py --data DATA --out run/tokenizer.json
"""

import argparse
import pathlib
import random

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import pairs

VOCABULARY = 16384
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SHARES = {"prose": 90_000, "dialogues": 40_000, "functions": 40_000}  # pairs of each source that are read


def make(sources, rng):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=SPECIALS, min_frequency=3,
                                        limit_alphabet=400, show_progress=False)
    texts = (" ".join(pair) for name, found in sources.items()
             for pair in rng.sample(found, min(SHARES[name], len(found))))
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=20251125)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    make(pairs.training(arguments.data, arguments.seed), random.Random(arguments.seed)).save(str(arguments.out))


if __name__ == "__main__":
    main()
