#!/usr/bin/env python3
"""The memory of a server that takes vectors and answers queries over HTTP.

    bench/vector_peers.py setup                                   # once; this needs its numpy
    bench/.work/peers/bin/python bench/vector_memory.py           # 100,000 rows, four connections
    ROWS=1000000 CLIENTS=2 bench/.work/peers/bin/python bench/vector_memory.py

SAMPAN_BIN is the program, default target/release/sampan. The embeddings are those of vector_peers.py. More rows than there are
embeddings are those again with normal noise of 0.02 on every number, scaled to length 1.

CLIENTS connections write batches of 500 with two fields of metadata as binary bodies; after REST_S (25) of rest each asks 500 queries, and
500 with a filter that a tenth fits; after 12 s more it is seen what the server holds. Each line is a moment: resident
(VmRSS), of that anonymous (RssAnon), and the most so far (VmHWM), in MB, and what of it was not there before the first write.
"""

import json
import os
import tempfile
import threading
import time

import numpy

from vector_engines import ROOT, Sampan

DATA = ROOT / "bench/.work/emb100k"
ROWS = int(os.environ.get("ROWS", "100000"))
CLIENTS = int(os.environ.get("CLIENTS", "4"))
BATCH = 500
REST_S = int(os.environ.get("REST_S", "25"))
NOISE = 0.02


def held(pid):
    """Resident, anonymous and the most, in MB."""
    with open(f"/proc/{pid}/status") as lines:
        values = dict(line.split(":", 1) for line in lines)
    return [int(values[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "VmHWM")]


class Moments:
    def __init__(self, pid):
        self.pid, self.before = pid, None

    def tell(self, moment):
        now = held(self.pid)
        self.before = self.before or now
        above = [here - there for here, there in zip(now, self.before)]
        names = ("resident", "anonymous", "most")
        shown = ", ".join(f"{name} {here:.0f} ({more:+.0f})" for name, here, more in zip(names, now, above))
        print(f"{moment}: {shown}", flush=True)


def rows(base, first):
    """Rows first to first + BATCH."""
    places = numpy.arange(first, min(first + BATCH, ROWS))
    some = numpy.array(base[places % len(base)])
    again = places >= len(base)
    if again.any():
        some[again] += numpy.random.default_rng(first).normal(0, NOISE, (again.sum(), some.shape[1])).astype("f4")
        some[again] /= numpy.linalg.norm(some[again], axis=1, keepdims=True)
    return some


def by_all(work):
    """Work on as many connections; an error of one is an error of all."""
    errors = []

    def guarded():
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def main():
    base = numpy.load(DATA / "base.npy", mmap_mode="r")
    queries = numpy.load(DATA / "queries.npy")[:500]
    with open(DATA / "base.jsonl") as lines:
        metadata = [json.loads(line)["meta"] for line in lines]
    metadata = [{"bucket": row["bucket"], "source": row["source"]} for row in metadata]
    firsts, lock = iter(range(0, ROWS, BATCH)), threading.Lock()
    with tempfile.TemporaryDirectory() as folder:
        server = Sampan(folder, base.shape[1])
        try:
            time.sleep(2)
            moments = Moments(server.server.pid)
            moments.tell("before")

            def put():
                connection = server.connect()
                while True:
                    with lock:
                        first = next(firsts, None)
                    if first is None:
                        return
                    some = rows(base, first)
                    fields = [metadata[(first + at) % len(base)] for at in range(len(some))]
                    server.add(first, some, fields, connection)

            def asked(where):
                def work():
                    connection = server.connect()
                    for vector in queries:
                        server.query(vector, where, connection)

                return work

            start = time.monotonic()
            by_all(put)
            moments.tell(f"{ROWS} rows put in {time.monotonic() - start:.1f} s")
            time.sleep(REST_S)
            moments.tell(f"after {REST_S} s")
            by_all(asked({}))
            by_all(asked({"bucket": {"$lt": 10}}))
            moments.tell(f"after {2 * len(queries) * CLIENTS} queries")
            time.sleep(12)
            moments.tell("after 12 s")
        finally:
            server.close()


if __name__ == "__main__":
    main()
