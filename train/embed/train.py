"""Trains sampan-nano-embed by contrast: a query must be nearer to its own document than to the others of the batch.

    python tokenizer.py --data DATA --out run/tokenizer.json
    python train.py --data DATA --run run --bag-minutes 12 --minutes 40

First the words are trained as a bag, which is fast; then the layer joins, which begins by adding nothing. One batch
comes from one source, half of them from neighbouring passages of few books, so that the others of the batch are like
the right one. It can be stopped at any moment and goes on from its last checkpoint.
"""

import argparse
import pathlib
import random
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import encoder
import pairs

TEMPERATURE = 0.05
QUERY_TOKENS, DOCUMENT_TOKENS = 48, 112  # what a step pays for; texts may be longer when the model is used
SHARES = {"prose": 0.6, "dialogues": 0.2, "functions": 0.2}
BAG = {"batch": 512, "rate": 0.006}
LAYER = {"batch": 160, "rate": 0.0015}
NEIGHBOURS = 32  # pairs in a row of one book
STRIDE = 3  # every third passage of them: neighbours overlap in meaning
WARM_UP = 0.03
SAVE_EVERY_S = 60


def encoded(tokenizer, sources):
    def ids(texts):
        return [one.ids for one in tokenizer.encode_batch_fast(texts)]
    return {name: list(zip(ids([query for query, _ in found]), ids([document for _, document in found])))
            for name, found in sources.items()}


def draw(rng, found, batch, in_rows):
    """A batch of distinct pairs: anywhere, or in rows of neighbours."""
    if not in_rows:
        return rng.sample(found, batch)
    span = NEIGHBOURS * STRIDE
    starts = rng.sample(range(len(found) // span), batch // NEIGHBOURS)
    return [pair for start in starts for pair in found[start * span:(start + 1) * span:STRIDE]]


def loss_of(vectors_of, batch):
    queries = vectors_of(encoder.padded([query for query, _ in batch], QUERY_TOKENS))
    documents = vectors_of(encoder.padded([document for _, document in batch], DOCUMENT_TOKENS))
    target = torch.arange(len(batch))
    total = 0.0
    for dimensions in encoder.DIMENSIONS:
        scores = encoder.unit(queries, dimensions) @ encoder.unit(documents, dimensions).t() / TEMPERATURE
        total = total + (F.cross_entropy(scores, target) + F.cross_entropy(scores.t(), target)) / 2
    return total / len(encoder.DIMENSIONS)


def save(path, state):
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").rename(path)


def phase(name, settings, budget_s, model, vectors_of, sources, path, state):
    """Trains for so many seconds of work, counted over all starts of the program."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["rate"], weight_decay=0.0, betas=(0.9, 0.98))
    mine = state.setdefault(name, {"step": 0, "seconds": 0.0, "pairs": 0})
    if "optimizer" in mine:
        optimizer.load_state_dict(mine["optimizer"])
    rng = random.Random(f"{name} {mine['step']}")
    last, saved_at, mean = time.process_time(), time.monotonic(), None
    while mine["seconds"] < budget_s:
        done = mine["seconds"] / budget_s
        for group in optimizer.param_groups:
            group["lr"] = settings["rate"] * max(min(done / WARM_UP, 1 - done), 0.01)
        (source,) = rng.choices(list(SHARES), SHARES.values())
        in_rows = source == "prose" and rng.random() < 0.5
        loss = loss_of(vectors_of, draw(rng, sources[source], settings["batch"], in_rows))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        now = time.process_time()
        mine["seconds"] += now - last
        last = now
        mine["step"] += 1
        mine["pairs"] += settings["batch"]
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if mine["step"] % 50 == 0:
            print(f"{name} step {mine['step']} pairs {mine['pairs']} {mine['seconds']:.0f} s loss {mean:.3f}", flush=True)
        if time.monotonic() - saved_at > SAVE_EVERY_S or mine["seconds"] >= budget_s:
            save(path, {**state, "model": model.state_dict(), name: {**mine, "optimizer": optimizer.state_dict()}})
            saved_at = time.monotonic()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--run", required=True, type=pathlib.Path)
    parser.add_argument("--bag-minutes", type=float, default=12)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20251125)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    tokenizer = Tokenizer.from_file(str(arguments.run / "tokenizer.json"))
    model = encoder.Encoder()
    path = arguments.run / "checkpoint.pt"
    state = torch.load(path, weights_only=False) if path.exists() else {}
    if state:
        model.load_state_dict(state["model"])
    sources = encoded(tokenizer, pairs.training(arguments.data, arguments.seed))
    print({name: len(found) for name, found in sources.items()}, flush=True)
    phase("bag", BAG, arguments.bag_minutes * 60, model, model.bag, sources, path, state)

    def with_context(ids):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(ids)

    phase("layer", LAYER, arguments.minutes * 60, model, with_context, sources, path, state)


if __name__ == "__main__":
    main()
