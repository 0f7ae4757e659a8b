"""Measures retrieval on pairs that training never saw, beside BM25 (k1 1.2, b 0.75, words in lower case).

    python evaluate.py --data DATA --folder ../../fixtures/nano_embed

The documents of a source are all that is searched: 2,000 passages of books, 2,000 answers, 284 functions.
"""

import argparse
import collections
import math
import pathlib
import re

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import encoder
import pairs

MOST = 2000
TOKENS_MAX = 512
WORD = re.compile(r"[a-z0-9]+")


def bm25(queries, documents, k1=1.2, b=0.75):
    """[queries, documents] scores (Robertson and Zaragoza 2009)."""
    words = [WORD.findall(document.lower()) for document in documents]
    mean = sum(map(len, words)) / len(words)
    places = collections.defaultdict(list)
    for index, one in enumerate(words):
        norm = k1 * (1 - b + b * len(one) / mean)
        for word, count in collections.Counter(one).items():
            places[word].append((index, count * (k1 + 1) / (count + norm)))
    scores = torch.zeros(len(queries), len(documents))
    for row, query in enumerate(queries):
        for word in WORD.findall(query.lower()):
            found = places.get(word, [])
            weight = math.log(1 + (len(documents) - len(found) + 0.5) / (len(found) + 0.5))
            for index, score in found:
                scores[row, index] += weight * score
    return scores


def vectors(model, tokenizer, texts):
    found = []
    with torch.no_grad():
        for start in range(0, len(texts), 64):
            ids = [one.ids for one in tokenizer.encode_batch(texts[start:start + 64])]
            found.append(model(encoder.padded(ids, TOKENS_MAX)))
    return torch.cat(found)


def figures(scores):
    """Recall at 1 and 10 and the mean reciprocal rank; the right document of query i is document i."""
    right = scores.diagonal()[:, None]
    # Documents that score as well count as better, but for the right one itself.
    ranks = (scores >= right).sum(1).float()
    return (ranks <= 1).float().mean(), (ranks <= 10).float().mean(), (1 / ranks).mean()


def fused(first, second):
    """Reciprocal rank fusion (Cormack et al. 2009), k 60."""
    ranks = [scores.argsort(1, descending=True).argsort(1).float() + 1 for scores in (first, second)]
    return sum(1 / (60 + rank) for rank in ranks)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer = Tokenizer.from_file(str(arguments.folder / "tokenizer.json"))
    model = encoder.Encoder()
    state = load_file(arguments.folder / "model.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    for name, found in pairs.held_out(arguments.data, arguments.seed, MOST).items():
        queries, documents = [query for query, _ in found], [document for _, document in found]
        lexical = bm25(queries, documents)
        rows = {"BM25": lexical}
        both = [vectors(model, tokenizer, texts) for texts in (queries, documents)]
        for dimensions in encoder.DIMENSIONS:
            query, document = (encoder.unit(one, dimensions) for one in both)
            rows[f"{dimensions} dimensions"] = query @ document.t()
        rows["BM25 and 256 together"] = fused(lexical, rows["256 dimensions"])
        for label, scores in rows.items():
            one, ten, mrr = figures(scores)
            print(f"| {name}, {len(found)} | {label} | {one:.3f} | {ten:.3f} | {mrr:.3f} |")


if __name__ == "__main__":
    main()
