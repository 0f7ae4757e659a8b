"""Draws the loss curve of a run.

    python curve.py --run RUN --out loss.png
"""

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

NAMES = {"tasks": "generated conversations and tasks", "sgd": "tool dialogues (SGD)", "prose": "prose",
         "tasks_held": "the same, held-out tools", "sgd_dev": "the same, held-out dialogues", "prose_val": "the same, held-out books"}
COLOURS = {"tasks": "#1a7f5a", "sgd": "#2f6fd0", "prose": "#b0662b", "tasks_held": "#1a7f5a", "sgd_dev": "#2f6fd0", "prose_val": "#b0662b"}


def read(run):
    """The lines of the log by step; a stretch that was computed twice counts as it was the second time."""
    lines = {}
    for text in (run / "log.jsonl").read_text().splitlines():
        line = json.loads(text)
        lines[line["step"]] = line
    return [lines[step] for step in sorted(lines)]


def series(lines, field, name):
    points = [(line["tokens"] / 1e6, line[field][name]) for line in lines if name in line.get(field, {})]
    return tuple(zip(*points)) or ((), ())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    lines = read(arguments.run)
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for name in ("prose", "sgd", "tasks"):
        axes.plot(*series(lines, "loss", name), color=COLOURS[name], linewidth=1, label=NAMES[name])
    for name in ("prose_val", "sgd_dev", "tasks_held"):
        axes.plot(*series(lines, "held_out", name), color=COLOURS[name], linestyle="none", marker="o", markersize=4, label=NAMES[name])
    decay = [line["tokens"] / 1e6 for line in lines if line["step"] > 100 and line["lr_share"] < 1]
    if decay:
        axes.axvspan(decay[0], decay[-1], color="#000000", alpha=0.06, linewidth=0, label="learning rate falls")
    axes.set(xlabel="million tokens", ylabel="cross entropy a token, nats", yscale="log")
    axes.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.tight_layout()
    figure.savefig(arguments.out, dpi=120)


if __name__ == "__main__":
    main()
