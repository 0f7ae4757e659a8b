"""Trains sampan-nano on a CPU; can be stopped at any moment and goes on from its last checkpoint.

    python train.py --shards SHARDS --run RUN --mix prose=0.4,sgd=0.6 --until 1000 [--decay-from 800]

The learning rate warms up, stays, and falls linearly to a twentieth from `--decay-from` to `--until` (WSD). Stages are
calls with another mix. RUN gets `checkpoint.pt` (model, optimisers, step, chance) and `log.jsonl`.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import signal
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Each worker is one thread; parallel matrices would fight over the cores.

import numpy
import torch

import model as nano
import optimizer

BATCH_TOKENS = 2048
BATCHES_A_STEP = 4
WARMUP_STEPS = 60
FINAL_LR_SHARE = 0.05
MUON_LR, ADAM_LR = 0.02, 0.004
GRADIENT_NORM_MAX = 1.0
POOL = 384
CHECKPOINT_SECONDS = 180
VALIDATION_EVERY = 200
VALIDATION_BATCHES = 6


class Source:
    """Documents of one shard in batches of about `BATCH_TOKENS`, documents of like length together."""

    def __init__(self, path):
        with numpy.load(path) as shard:
            self.ids, self.weights, self.offsets = shard["ids"], shard["weights"], shard["offsets"]
        self.lengths = numpy.diff(self.offsets)

    def batches(self, chance):
        """Endless. Every document comes once an epoch; an epoch is cut into pools, a pool is sorted by length."""
        while True:
            order = chance.permutation(len(self.lengths))
            for start in range(0, len(order), POOL):
                pool = order[start:start + POOL]
                pool = pool[numpy.argsort(self.lengths[pool], kind="stable")]
                groups, group = [], []
                for index in pool:
                    if group and self.lengths[index] * (len(group) + 1) > BATCH_TOKENS:
                        groups.append(group)
                        group = []
                    group.append(index)
                groups.append(group)
                for position in chance.permutation(len(groups)):
                    yield self.tensors(groups[position])

    def tensors(self, group):
        """ids, targets [B, T] int64 and weights [B, T]; padding has weight 0."""
        length = int(self.lengths[group].max())
        ids = numpy.zeros((len(group), length), dtype=numpy.int64)
        weights = numpy.zeros((len(group), length), dtype=numpy.float32)
        for row, index in enumerate(group):
            span = slice(self.offsets[index], self.offsets[index + 1])
            ids[row, : self.lengths[index]] = self.ids[span]
            weights[row, : self.lengths[index]] = self.weights[span] / 100.0
        ids, weights = torch.from_numpy(ids), torch.from_numpy(weights)
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), weights[:, 1:].contiguous()


class Mixer:
    """Batches of several sources, so that each gives its share of the tokens in the long run.

    Always the source that is furthest behind its share: no chance, and any stretch of the run has the mix.
    """

    def __init__(self, shards, mix, seed):
        self.shares = mix
        self.given = dict.fromkeys(mix, 0.0)
        self.streams = {
            name: Source(pathlib.Path(shards) / f"{name}.npz").batches(numpy.random.default_rng([seed, index]))
            for index, name in enumerate(sorted(mix))
        }

    def next(self):
        name = min(self.shares, key=lambda name: self.given[name] / self.shares[name])
        batch = next(self.streams[name])
        self.given[name] += batch[0].numel()
        return name, batch


def gradients(model, parameters, batch):
    with torch.autocast("cpu", torch.bfloat16):
        loss = nano.weighted_loss(model, *batch)
    return loss.item(), torch.autograd.grad(loss, parameters)


def learning_share(step, arguments):
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    if step < arguments.decay_from:
        return 1.0
    left = (arguments.until - step) / max(1, arguments.until - arguments.decay_from)
    return FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * left


@torch.no_grad()
def validate(model, shards, names):
    """Mean loss over a few fixed batches of the held-out shards."""
    result = {}
    for name in names:
        path = pathlib.Path(shards) / f"{name}.npz"
        if not path.exists():
            continue
        batches = Source(path).batches(numpy.random.default_rng(7))
        total = weight = 0.0
        for _ in range(VALIDATION_BATCHES):
            batch = next(batches)
            with torch.autocast("cpu", torch.bfloat16):
                total += nano.weighted_loss(model, *batch).item()
            weight += batch[2].sum().item()
        result[name] = round(total / weight, 4)
    return result


def step_once(model, parameters, opts, mixer, pool):
    """One update from `BATCHES_A_STEP` batches, shared by the workers; gradients are added in a fixed order."""
    named = [mixer.next() for _ in range(BATCHES_A_STEP)]
    results = list(pool.map(lambda item: gradients(model, parameters, item[1]), named))
    weight = sum(batch[2].sum().item() for _, batch in named)
    for index, parameter in enumerate(parameters):
        parameter.grad = sum(grads[index] for _, grads in results).div_(weight)
    torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM_MAX)
    for one in opts:
        one.step()
    losses = {}
    for (name, batch), (loss, _) in zip(named, results):
        losses.setdefault(name, []).append(loss / max(1e-9, batch[2].sum().item()))
    tokens = sum(batch[0].numel() for _, batch in named)
    return sum(loss for loss, _ in results) / weight, losses, tokens


def save(run, model, opts, step, tokens):
    state = {"model": model.state_dict(), "opts": [one.state_dict() for one in opts], "step": step, "tokens": tokens,
             "config": vars(model.config) if hasattr(model.config, "__dict__") else model.config}
    torch.save(state, run / "checkpoint.new")
    os.replace(run / "checkpoint.new", run / "checkpoint.pt")


def load(run, model, opts):
    path = run / "checkpoint.pt"
    if not path.exists():
        return 0, 0
    state = torch.load(path, weights_only=False)
    model.load_state_dict(state["model"])
    for one, held in zip(opts, state["opts"]):
        one.load_state_dict(held)
    return state["step"], state["tokens"]


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--mix", required=True, help="name=share,name=share")
    parser.add_argument("--until", type=int, required=True, help="the step at which this stage ends")
    parser.add_argument("--decay-from", type=int, default=1 << 30)
    parser.add_argument("--seed", type=int, default=20251124)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args(argv)


def main():
    arguments = parse()
    torch.set_num_threads(1)
    run = pathlib.Path(arguments.run)
    run.mkdir(parents=True, exist_ok=True)
    model = nano.SampanNano(nano.Config(), seed=arguments.seed)
    parameters = list(model.parameters())
    opts = optimizer.optimizers(model, MUON_LR, ADAM_LR)
    step, tokens = load(run, model, opts)
    mix = {name: float(share) for name, share in (item.split("=") for item in arguments.mix.split(","))}
    # A resumed run reads in another order, not the same documents again.
    mixer = Mixer(arguments.shards, mix, arguments.seed + step)
    print(f"{sum(p.numel() for p in parameters)} parameters, from step {step}", flush=True)
    saved_at = logged_at = time.monotonic()
    recent, recent_tokens = {}, 0
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    with concurrent.futures.ThreadPoolExecutor(arguments.workers) as pool, open(run / "log.jsonl", "a") as log:
        while step < arguments.until and not stop:
            for one, rate in zip(opts, (MUON_LR, ADAM_LR)):
                one.param_groups[0]["lr"] = rate * learning_share(step, arguments)
            loss, losses, count = step_once(model, parameters, opts, mixer, pool)
            step, tokens, recent_tokens = step + 1, tokens + count, recent_tokens + count
            for name, values in losses.items():
                recent.setdefault(name, []).extend(values)
            if step % 20 == 0 or step == arguments.until:
                now = time.monotonic()
                line = {"step": step, "tokens": tokens, "lr_share": round(learning_share(step, arguments), 4),
                        "loss": {name: round(sum(v) / len(v), 4) for name, v in sorted(recent.items())},
                        "tokens_per_second": round(recent_tokens / (now - logged_at))}
                if step % VALIDATION_EVERY == 0 or step == arguments.until:
                    line["held_out"] = validate(model, arguments.shards, ("prose_val", "sgd_dev", "tasks_held"))
                log.write(json.dumps(line) + "\n")
                log.flush()
                recent, recent_tokens, logged_at = {}, 0, time.monotonic()
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS or step == arguments.until or stop:
                save(run, model, opts, step, tokens)
                saved_at = time.monotonic()


if __name__ == "__main__":
    main()
