#!/usr/bin/env python3
"""Our vector buckets and other engines on the same embeddings.

    bench/vector_peers.py setup                # once: the peers from PyPI, into bench/.work/peers
    bench/vector_peers.py run NAME...          # those that have no result yet; no name: all
    bench/vector_peers.py run --again NAME...  # also those that have one
    bench/vector_peers.py table                # the results

SAMPAN_BIN is ours, default target/release/sampan. The embeddings are bench/.work/emb100k: base.npy, queries.npy and
base.jsonl with a bucket (0 to 99, independent of the vector) and a source (correlated with it) for each row. ROWS (100000),
QUERIES (1000) and ROUNDS (3) may be set.

Ours is built once. Then each peer is built, asked in turns with ours, and ended; its result is written before the next
begins, so a run that was cut short goes on where it was. A peer that does not build within BUILD_S (900), or answer within
ANSWER_S, is ended, and that is its result. Queries come one at a time from one thread, ours over HTTP, the others by a call
in their own process; each engine has a process to itself and one setting for all questions (`SETTINGS`). A question ends with
its last query or after ASK_S, whichever is first: `asked` says how many queries a slow engine came to. Engines with a knob
for how hard they look, ours too, are asked at its `EFFORTS` besides, until recall without a filter is 0.95, and then in turns at
those efforts: the ratio of the speeds is the median of the rounds' ratios. Recall is at 10 against exact neighbours among the
rows that the filter lets through. Memory is what the process has more of after the queries than before it began (anonymous
pages, so files that are mapped do not count). `flushes` counts fsync and fdatasync calls while 20 rows are added one by one;
`found_at_once` is how many of them are found by the query right after their add.
"""

import json
import os
import pathlib
import selectors
import statistics
import subprocess
import sys
import tempfile
import time

from vector_engines import ENGINES, K, PACKAGES, ROOT, SETTINGS, fits

WORK = ROOT / "bench/.work"
DATA = WORK / "emb100k"
RESULTS = WORK / "vector_peers"
ROWS = int(os.environ.get("ROWS", "100000"))
QUERIES = int(os.environ.get("QUERIES", "1000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
BATCH = 500
BUILD_S = int(os.environ.get("BUILD_S", "900"))
ANSWER_S = 120
ASK_S = 4
ASKED_MIN = 10
# What every engine with a knob is set to where nothing else is said.
EFFORT = 100
RECALL = 0.95
QUESTIONS = ("none", "tenth", "hundredth", "correlated")


class Failed(Exception):
    """An engine ended, or was too slow."""


def folder_mb(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file()) / 2**20


def flushes(engine, vectors, metadata, first):
    """fsync and fdatasync calls a row, and how many rows are found at once."""
    log = tempfile.NamedTemporaryFile(suffix=".strace")
    command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,msync", "-o", log.name, "-p", str(engine.flushed_pid())]
    try:
        tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        tracer = None
    time.sleep(1)
    found = 0
    for at in range(20):
        vector = vectors[at] * 0.5 + vectors[at + 20] * 0.5
        engine.add(first + at, vector[None], [metadata[at]])
        found += first + at in (engine.query(vector, {}) or [])
    if tracer is None:
        return None, found
    tracer.terminate()
    tracer.wait()
    calls = pathlib.Path(log.name).read_text().count("= 0")
    return calls / 20, found


def read(count):
    """Rows, their metadata, queries, filters, and for each filter the exact neighbours of each query."""
    import numpy

    base = numpy.load(DATA / "base.npy", mmap_mode="r")[:count]
    queries = numpy.load(DATA / "queries.npy")[:QUERIES]
    with open(DATA / "base.jsonl") as lines:
        metadata = [json.loads(line)["meta"] for _, line in zip(range(count), lines)]
    metadata = [{"bucket": row["bucket"], "source": row["source"]} for row in metadata]
    counts = {}
    for row in metadata:
        counts[row["source"]] = counts.get(row["source"], 0) + 1
    source = min(counts, key=lambda each: abs(counts[each] - count / 5))
    filters = [{}, {"bucket": {"$lt": 10}}, {"bucket": 7}, {"source": source}]
    exact = []
    for where in filters:
        rows = [at for at, row in enumerate(metadata) if all(fits(row[field], value) for field, value in where.items())]
        near = numpy.argpartition(-(queries @ numpy.asarray(base[rows]).T), K, axis=1)[:, :K]
        exact.append([{rows[at] for at in each} for each in near])
    return base, metadata, queries, dict(zip(QUESTIONS, zip(filters, exact)))


def ask(engine, queries, where, exact):
    hits, spans = 0, []
    for vector, expected in zip(queries, exact):
        start = time.perf_counter()
        found = engine.query(vector, where)
        spans.append(time.perf_counter() - start)
        if found is None:
            return None
        hits += len(expected & set(found))
        if len(spans) >= ASKED_MIN and sum(spans) > ASK_S:
            break
    middle = sorted(spans)[len(spans) // 2] * 1000
    return {
        "recall": hits / (K * len(spans)), "p50_ms": middle, "per_second": len(spans) / sum(spans), "asked": len(spans),
    }


def serve(name, count):
    """One engine: builds, then answers a line of JSON for each on its input. The answers are marked, since some engines
    print what they like."""
    import numpy

    def answer(value):
        print("ANSWER", json.dumps(value), flush=True)

    base, metadata, queries, questions = read(count)
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        engine = ENGINES[name](folder, base.shape[1])
        try:
            start = time.perf_counter()
            for first in range(0, count, BATCH):
                engine.add(first, numpy.array(base[first : first + BATCH]), metadata[first : first + BATCH])
            engine.finish()
            has_knob = hasattr(engine, "set_effort") and "exact" not in SETTINGS[name]
            answer({"build_s": time.perf_counter() - start, "efforts": engine.EFFORTS if has_knob else []})
            for line in sys.stdin:
                wish = json.loads(line)
                if "question" in wish:
                    if has_knob:
                        engine.set_effort(wish.get("effort", EFFORT))
                    answer(ask(engine, queries, *questions[wish["question"]]))
                    continue
                if has_knob:
                    engine.set_effort(EFFORT)
                facts = {"memory_mb": engine.memory_mb(), "disk_mb": folder_mb(folder)}
                facts["flushes"], facts["found_at_once"] = flushes(engine, numpy.array(base[:40]), metadata, count)
                answer(facts)
        finally:
            engine.close()


class Child:
    """An engine in a process of its own."""

    def __init__(self, name):
        command = [str(WORK / "peers/bin/python"), __file__, "serve", name, str(ROWS)]
        RESULTS.mkdir(exist_ok=True)
        # One of them warns at each query. Unbuffered, so that what was read is what the selector saw.
        with open(RESULTS / f"{name}.log", "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0
            )
        self.read = b""
        self.result = {"name": name, "rows": ROWS, "setting": SETTINGS[name]}
        self.result |= self.answer(BUILD_S)

    def answer(self, limit_s):
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while True:
                line, newline, rest = self.read.partition(b"\n")
                if newline:
                    self.read = rest
                    if line.startswith(b"ANSWER "):
                        return json.loads(line.removeprefix(b"ANSWER "))
                    continue
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.end()
                    raise Failed(f"no answer within {limit_s} s")
                some = self.process.stdout.read(1 << 16)
                if not some:
                    self.end()
                    raise Failed("it ended before its answer")
                self.read += some

    def ask(self, **wish):
        self.process.stdin.write(json.dumps(wish).encode() + b"\n")
        return self.answer(ANSWER_S)

    def keep(self, question, one):
        """Of the rounds the middle one."""
        if one is None:
            return
        self.result.setdefault("rounds", {}).setdefault(question, []).append(one)
        rounds = sorted(self.result["rounds"][question], key=lambda each: each["p50_ms"])
        self.result[question] = rounds[len(rounds) // 2]

    def end(self):
        """Asks it to end, and ends it if it does not."""
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def save(result):
    path = RESULTS / f"{result['name']}.json"
    path.with_suffix(".part").write_text(json.dumps(result, indent=1))
    path.with_suffix(".part").rename(path)


def known():
    """The results of runs with as many rows and rounds."""
    found = {}
    for name in ENGINES:
        path = RESULTS / f"{name}.json"
        result = json.loads(path.read_text()) if path.exists() else {}
        if (result.get("rows"), result.get("of_rounds")) == (ROWS, ROUNDS):
            found[name] = result
    return found


def least_effort(engine):
    """The question without a filter, at the least effort that finds enough."""
    wish = {"question": "none"}
    for effort in engine.result["efforts"]:
        wish["effort"] = effort
        if engine.ask(**wish)["recall"] >= RECALL:
            break
    return wish


def ask_at_recall(engine):
    one = engine.ask(**engine.wish)
    engine.keep("at_recall", {**engine.wish, **one})
    return one


def compare(ours, name):
    """A peer, asked in turns with ours."""
    try:
        peer = Child(name)
    except Failed as why:
        return {"name": name, "rows": ROWS, "of_rounds": ROUNDS, "setting": SETTINGS[name], "failed": f"build: {why}"}
    print(f"  built in {peer.result['build_s']:.0f} s", flush=True)
    result = peer.result
    try:
        for _ in range(ROUNDS):
            for question in QUESTIONS:
                ours.keep(question, ours.ask(question=question))
                peer.keep(question, peer.ask(question=question))
        peer.wish = least_effort(peer)
        result["ratios"] = []
        for _ in range(ROUNDS):
            own, one = ask_at_recall(ours), ask_at_recall(peer)
            result["ratios"].append(own["per_second"] / one["per_second"])
        result |= peer.ask(finish=True)
        peer.end()
    except Failed as why:
        result["failed"] = str(why)
    result["of_rounds"] = ROUNDS
    return result


def run(names, again):
    start = time.monotonic()
    done = {} if again else known()
    peers = [name for name in names if name != "sampan" and name not in done]
    if not peers and "sampan" in done:
        print("everything has a result; run --again measures anew")
        return
    print("build sampan", flush=True)
    try:
        ours = Child("sampan")
    except Failed as why:
        raise SystemExit(f"{why}; {RESULTS}/sampan.log says more") from why
    print(f"  {ours.result['build_s']:.0f} s", flush=True)
    ours.wish = least_effort(ours)
    for _ in range(0 if peers else ROUNDS):
        for question in QUESTIONS:
            ours.keep(question, ours.ask(question=question))
        ask_at_recall(ours)
    for name in peers:
        print(f"{name}, after {time.monotonic() - start:.0f} s", flush=True)
        result = compare(ours, name)
        save(result)
        if "failed" in result:
            print(f"  failed: {result['failed']}", flush=True)
    ours.result |= ours.ask(finish=True)
    ours.end()
    save({**ours.result, "of_rounds": ROUNDS})
    print(f"done after {time.monotonic() - start:.0f} s", flush=True)


def table():
    found = known()
    ours = found.get("sampan")
    if ours is None:
        raise SystemExit("there is no result of ours with as many rows and rounds")
    print("| engine | setting | recall | a tenth | a hundredth | correlated | queries/s at recall 0.95 | ours to theirs "
          "| memory | ours to theirs | disk | flushes a row | at once |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name, one in found.items():
        if "failed" in one:
            print(f"| {name} | {one['setting']} | {one['failed']} |" + " |" * 10)
            continue
        # A slow engine was not asked everything.
        few = {question: one[question]["asked"] for question in QUESTIONS if question in one}
        recall = [
            "no filter" if question not in one else f"{one[question]['recall']:.3f}"
            + (f" ({few[question]} queries)" if few[question] < QUERIES else "")
            for question in QUESTIONS
        ]
        flushed = "?" if one["flushes"] is None else f"{one['flushes']:.1f}"
        ratios = sorted(one.get("ratios", [1.0]))
        effort = f" at {one['at_recall']['effort']}" if "effort" in one["at_recall"] else ""
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {name} | {one['setting']} | {' | '.join(recall)} | {one['at_recall']['per_second']:.0f}{effort} | {ratio} "
              f"| {one['memory_mb']:.0f} MB | {ours['memory_mb'] / max(one['memory_mb'], 1):.2f} | {one['disk_mb']:.0f} MB "
              f"| {flushed} | {one['found_at_once']} of 20 |")


def main():
    arguments = sys.argv[1:] or ["table"]
    if arguments[0] == "setup":
        subprocess.run([sys.executable, "-m", "venv", str(WORK / "peers")], check=True)
        subprocess.run([str(WORK / "peers/bin/python"), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    elif arguments[0] == "serve":
        serve(arguments[1], int(arguments[2]))
    elif arguments[0] == "run":
        names = [name for name in arguments[1:] if name != "--again"]
        unknown = [name for name in names if name not in ENGINES]
        if unknown:
            raise SystemExit(f"no engine is called {unknown[0]}; there are {', '.join(ENGINES)}")
        run(names or list(ENGINES), "--again" in arguments)
    else:
        table()


if __name__ == "__main__":
    main()
