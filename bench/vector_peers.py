#!/usr/bin/env python3
"""Our vector buckets and other engines on the same embeddings.

    bench/vector_peers.py setup                # once: the peers from PyPI, into bench/.work/peers
    bench/vector_peers.py run NAME...          # each in a process of its own; no name: all of them
    bench/vector_peers.py table                # the last result of everything that was run

Everything is built first, one engine after the other; then they are asked in turns, ROUNDS (3) times. With PAUSE=1 it waits
for a line on its input in between, so that a machine that is not one's own can be made quiet. What is known is written after
every round.

SAMPAN_BIN is ours, default target/release/sampan. The embeddings are bench/.work/emb100k: base.npy, queries.npy, gt.npy and
base.jsonl with a bucket (0 to 99, independent of the vector) and a source (correlated with it) for each row.

Every engine runs at one setting for all questions, told in `SETTINGS`; queries come one at a time from one thread, ours over
HTTP, the others by a call in their own process. Engines with a knob for how hard they look are asked at `EFFORTS` besides,
until recall without a filter is 0.95; then all are asked in turns again, each at that effort, and the ratio of the speeds is
the median of the rounds' ratios. Recall is at 10 against exact neighbours among the rows that the filter lets through. Memory
is what the process has more of after the queries than before it began (anonymous pages, so files that are mapped do not
count). `flushes` counts fsync and
fdatasync calls while 20 rows are added one by one; `lag` is whether a row is found by the query right after its add.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "bench/.work"
DATA = WORK / "emb100k"
RESULTS = WORK / "vector_peers"
PACKAGES = "numpy faiss-cpu hnswlib usearch lancedb chromadb sqlite-vec zvec qdrant-client pysqlite3-binary".split()
QUERIES = int(os.environ.get("QUERIES", "200"))
K = 10
BATCH = 500
EFFORTS = [10, 15, 20, 30, 45, 70, 100, 150]
RECALL = 0.95
SETTINGS = {
    "sampan": "default",
    "faiss": "HNSW M=16 efConstruction=100 efSearch=100",
    "hnswlib": "M=16 ef_construction=100 ef=100",
    "usearch": "defaults, expansion_search=100",
    "lancedb": "IVF_HNSW_SQ, 16 partitions, ef=100, nprobes=8, prefilter",
    "chroma": "defaults, ef_search=100",
    "sqlite-vec": "exact",
    "zvec": "HNSW m=16 ef_construction=100 ef=100",
    "qdrant": "local mode, exact",
}


def anonymous_mb(pid="self"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this kernel does not tell anonymous memory")


class Sampan:
    """Over HTTP, binary bodies."""

    def __init__(self, folder, dimension):
        import http.client
        import socket

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        binary = os.environ.get("SAMPAN_BIN", str(ROOT / "target/release/sampan"))
        self.server = subprocess.Popen(
            [binary, "up", "--open", "--listen", f"127.0.0.1:{port}", "--data", folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        for _ in range(200):
            try:
                self.connection.request("GET", "/readyz")
                self.connection.getresponse().read()
                break
            except OSError:
                self.connection.close()
                time.sleep(0.1)
        self.names = {"vectorBucketName": "peers", "indexName": "peers"}
        self.call("CreateVectorBucket", {"vectorBucketName": "peers"})
        shape = {"dataType": "float32", "dimension": dimension, "distanceMetric": "cosine"}
        self.call("CreateIndex", {**self.names, **shape})
        self.before = anonymous_mb(self.server.pid)

    def call(self, operation, body, numbers=None):
        text = json.dumps(body).encode()
        kind = "application/json"
        if numbers is not None:
            kind = "application/vnd.sampan.vectors"
            text = len(text).to_bytes(4, "little") + text + numbers.tobytes()
        while True:
            self.connection.request("POST", f"/{operation}", text, {"content-type": kind})
            answer = self.connection.getresponse()
            bytes_ = answer.read()
            if answer.status == 429:
                time.sleep(0.05)
                continue
            assert answer.status == 200, bytes_
            return json.loads(bytes_)

    def add(self, first, vectors, metadata):
        rows = [{"key": str(first + at), "metadata": row} for at, row in enumerate(metadata)]
        self.call("PutVectors", {**self.names, "vectors": rows}, vectors)

    def finish(self):
        # The compactor waits until nobody has written for some seconds.
        time.sleep(25)

    def query(self, vector, where):
        body = {**self.names, "topK": K}
        if where:
            body["filter"] = where
        return [int(row["key"]) for row in self.call("QueryVectors", body, vector)["vectors"]]

    def memory_mb(self):
        return anonymous_mb(self.server.pid) - self.before

    def flushed_pid(self):
        return self.server.pid

    def close(self):
        self.server.terminate()
        self.server.wait()


class InProcess:
    def __init__(self):
        self.before = anonymous_mb()
        self.effort = 100

    def set_effort(self, effort):
        self.effort = effort

    def memory_mb(self):
        return anonymous_mb() - self.before

    def flushed_pid(self):
        return os.getpid()

    def finish(self):
        pass

    def close(self):
        pass


class Faiss(InProcess):
    """A graph in memory. Filters are sets of row numbers, made beforehand."""

    def __init__(self, folder, dimension):
        import faiss

        self.faiss = faiss
        super().__init__()
        self.index = faiss.IndexHNSWFlat(dimension, 16, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction, self.index.hnsw.efSearch = 100, 100
        self.metadata, self.sets = [], {}

    def add(self, first, vectors, metadata):
        self.index.add(vectors)
        self.metadata.extend(metadata)

    def query(self, vector, where):
        import numpy

        settings = self.faiss.SearchParametersHNSW(efSearch=self.effort)
        if where:
            name = json.dumps(where)
            if name not in self.sets:
                (field, value), = where.items()
                rows = [at for at, row in enumerate(self.metadata) if fits(row[field], value)]
                self.sets[name] = self.faiss.IDSelectorBatch(numpy.array(rows))
            settings.sel = self.sets[name]
        return [int(found) for found in self.index.search(vector[None], K, params=settings)[1][0] if found >= 0]


class Hnswlib(InProcess):
    """A graph in memory. A filter is a Python function called for each row that is looked at."""

    def __init__(self, folder, dimension):
        import hnswlib

        super().__init__()
        self.index = hnswlib.Index(space="cosine", dim=dimension)
        self.index.init_index(max_elements=110_000, M=16, ef_construction=100)
        self.index.set_ef(100)
        self.metadata = []

    def set_effort(self, effort):
        self.index.set_ef(effort)

    def add(self, first, vectors, metadata):
        self.index.add_items(vectors, range(first, first + len(vectors)), num_threads=2)
        self.metadata.extend(metadata)

    def query(self, vector, where):
        test = None
        if where:
            (field, value), = where.items()
            metadata = self.metadata

            def test(label):
                return fits(metadata[label][field], value)

        try:
            return [int(found) for found in self.index.knn_query(vector, k=K, num_threads=1, filter=test)[0][0]]
        except RuntimeError:
            # It finds fewer than it was asked for, and says nothing of those.
            return []


class Usearch(InProcess):
    """A graph in memory; its Python binding has no filter."""

    def __init__(self, folder, dimension):
        from usearch.index import Index

        super().__init__()
        self.index = Index(ndim=dimension, metric="cos", dtype="f32", expansion_search=100)

    def set_effort(self, effort):
        self.index.expansion_search = effort

    def add(self, first, vectors, metadata):
        import numpy

        self.index.add(numpy.arange(first, first + len(vectors)), vectors, threads=2)

    def query(self, vector, where):
        return None if where else [int(found) for found in self.index.search(vector, K, threads=1).keys]


class Lancedb(InProcess):
    def __init__(self, folder, dimension):
        import lancedb

        super().__init__()
        self.db, self.table, self.dimension = lancedb.connect(folder), None, dimension

    def add(self, first, vectors, metadata):
        import pyarrow

        flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), self.dimension)
        rows = pyarrow.table({
            "id": list(range(first, first + len(vectors))), "vector": flat,
            "bucket": [row["bucket"] for row in metadata], "source": [row["source"] for row in metadata],
        })
        if self.table is None:
            self.table = self.db.create_table("peers", rows)
        else:
            self.table.add(rows)

    def finish(self):
        self.table.optimize()
        self.table.create_index(
            metric="cosine", vector_column_name="vector", index_type="IVF_HNSW_SQ", num_partitions=16, m=16,
            ef_construction=100,
        )

    def query(self, vector, where):
        asked = self.table.search(vector).distance_type("cosine").limit(K).nprobes(8).ef(self.effort).select(["id"])
        if where:
            asked = asked.where(sql(where), prefilter=True)
        return [row["id"] for row in asked.to_list()]


class Chroma(InProcess):
    def __init__(self, folder, dimension):
        import chromadb

        super().__init__()
        settings = chromadb.config.Settings(anonymized_telemetry=False)
        client = chromadb.PersistentClient(path=folder, settings=settings)
        self.rows = client.create_collection("peers", configuration={"hnsw": {"space": "cosine", "ef_search": 100}})

    def set_effort(self, effort):
        self.rows.modify(configuration={"hnsw": {"ef_search": effort}})

    def add(self, first, vectors, metadata):
        self.rows.add(
            ids=[str(first + at) for at in range(len(vectors))], embeddings=vectors,
            metadatas=[{"bucket": row["bucket"], "source": row["source"]} for row in metadata],
        )

    def query(self, vector, where):
        asked = {field: {"$lt": value["$lt"]} if isinstance(value, dict) else value for field, value in where.items()}
        found = self.rows.query(query_embeddings=[vector], n_results=K, where=asked or None, include=[])
        return [int(key) for key in found["ids"][0]]


class SqliteVec(InProcess):
    def __init__(self, folder, dimension):
        import pysqlite3 as sqlite3
        import sqlite_vec

        super().__init__()
        self.db = sqlite3.connect(f"{folder}/peers.db")
        self.db.enable_load_extension(True)
        sqlite_vec.load(self.db)
        columns = f"embedding float[{dimension}] distance_metric=cosine, bucket integer, source text"
        self.db.execute(f"create virtual table peers using vec0({columns})")

    def add(self, first, vectors, metadata):
        rows = [
            (first + at, vector.tobytes(), row["bucket"], row["source"])
            for at, (vector, row) in enumerate(zip(vectors, metadata))
        ]
        self.db.executemany("insert into peers(rowid, embedding, bucket, source) values (?, ?, ?, ?)", rows)
        self.db.commit()

    def query(self, vector, where):
        text = "select rowid from peers where embedding match ? and k = ?" + (f" and {sql(where)}" if where else "")
        return [row[0] for row in self.db.execute(text, (vector.tobytes(), K))]


class Zvec(InProcess):
    def __init__(self, folder, dimension):
        import zvec

        self.zvec = zvec
        super().__init__()
        kind, text = zvec.DataType.INT64, zvec.DataType.STRING
        graph = zvec.HnswIndexParam(metric_type=zvec.MetricType.COSINE, m=16, ef_construction=100)
        schema = zvec.CollectionSchema(
            name="peers",
            fields=[
                zvec.FieldSchema("bucket", kind, index_param=zvec.InvertIndexParam()),
                zvec.FieldSchema("source", text, index_param=zvec.InvertIndexParam()),
            ],
            vectors=zvec.VectorSchema("embedding", zvec.DataType.VECTOR_FP32, dimension, index_param=graph),
        )
        self.rows = zvec.create_and_open(path=f"{folder}/peers", schema=schema)

    def add(self, first, vectors, metadata):
        self.rows.insert([
            self.zvec.Doc(
                id=str(first + at), vectors={"embedding": vector.tolist()},
                fields={"bucket": row["bucket"], "source": row["source"]},
            )
            for at, (vector, row) in enumerate(zip(vectors, metadata))
        ])

    def finish(self):
        self.rows.optimize()

    def close(self):
        # It writes once more, into a folder that must still be there.
        del self.rows

    def query(self, vector, where):
        asked = self.zvec.VectorQuery("embedding", vector=vector.tolist(), param=self.zvec.HnswQueryParam(ef=self.effort))
        found = self.rows.query(asked, topk=K, filter=sql(where) if where else None)
        return [int(row.id) for row in found]


class Qdrant(InProcess):
    def __init__(self, folder, dimension):
        from qdrant_client import QdrantClient, models

        self.models = models
        super().__init__()
        self.client = QdrantClient(path=folder)
        vectors = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
        self.client.create_collection("peers", vectors_config=vectors)

    def add(self, first, vectors, metadata):
        points = self.models.Batch(
            ids=list(range(first, first + len(vectors))), vectors=vectors.tolist(),
            payloads=[{"bucket": row["bucket"], "source": row["source"]} for row in metadata],
        )
        self.client.upsert("peers", points)

    def query(self, vector, where):
        conditions = []
        for field, value in where.items():
            if isinstance(value, dict):
                conditions.append(self.models.FieldCondition(key=field, range=self.models.Range(lt=value["$lt"])))
            else:
                conditions.append(self.models.FieldCondition(key=field, match=self.models.MatchValue(value=value)))
        wanted = self.models.Filter(must=conditions) if conditions else None
        found = self.client.query_points("peers", query=vector.tolist(), query_filter=wanted, limit=K)
        return [point.id for point in found.points]


ENGINES = {
    "sampan": Sampan, "faiss": Faiss, "hnswlib": Hnswlib, "usearch": Usearch, "lancedb": Lancedb, "chroma": Chroma,
    "sqlite-vec": SqliteVec, "zvec": Zvec, "qdrant": Qdrant,
}


def fits(found, wanted):
    return found < wanted["$lt"] if isinstance(wanted, dict) else found == wanted


def sql(where):
    (field, value), = where.items()
    if isinstance(value, dict):
        return f"{field} < {value['$lt']}"
    return f"{field} = '{value}'" if isinstance(value, str) else f"{field} = {value}"


def folder_mb(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file()) / 2**20


def flushes(engine, vectors, metadata, first):
    """fsync and fdatasync calls a row, and whether each row is found at once."""
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
    questions = {"none": {}, "tenth": {"bucket": {"$lt": 10}}, "hundredth": {"bucket": 7}, "correlated": {"source": source}}
    exact = {}
    for question, where in questions.items():
        rows = [at for at, row in enumerate(metadata) if all(fits(row[field], value) for field, value in where.items())]
        near = numpy.argpartition(-(queries @ numpy.asarray(base[rows]).T), K, axis=1)[:, :K]
        exact[question] = [{rows[at] for at in each} for each in near]
    return base, metadata, queries, questions, exact


def ask(engine, queries, where, exact):
    hits, spans = 0, []
    for vector, expected in zip(queries, exact):
        start = time.perf_counter()
        found = engine.query(vector, where)
        spans.append(time.perf_counter() - start)
        if found is None:
            return None
        hits += len(expected & set(found))
    middle = sorted(spans)[len(spans) // 2] * 1000
    return {"recall": hits / (K * len(queries)), "p50_ms": middle, "per_second": len(spans) / sum(spans)}


def serve(name, count):
    """One engine: builds, then answers a line of JSON for each on its input. The answers are marked, since some engines
    print what they like."""
    import numpy

    def answer(value):
        print("ANSWER", json.dumps(value), flush=True)

    base, metadata, queries, questions, exact = read(count)
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        engine = ENGINES[name](folder, base.shape[1])
        start = time.perf_counter()
        for first in range(0, count, BATCH):
            engine.add(first, numpy.array(base[first : first + BATCH]), metadata[first : first + BATCH])
        engine.finish()
        has_knob = hasattr(engine, "set_effort") and "exact" not in SETTINGS[name]
        answer({"build_s": time.perf_counter() - start, "efforts": has_knob})
        for line in sys.stdin:
            wish = json.loads(line)
            if "question" in wish:
                if "effort" in wish:
                    engine.set_effort(wish["effort"])
                answer(ask(engine, queries, questions[wish["question"]], exact[wish["question"]]))
                continue
            facts = {"memory_mb": engine.memory_mb(), "disk_mb": folder_mb(folder)}
            facts["flushes"], facts["found_at_once"] = flushes(engine, numpy.array(base[:40]), metadata, count)
            answer(facts)
        engine.close()


class Child:
    """An engine in a process of its own."""

    def __init__(self, name, count):
        command = [str(WORK / "peers/bin/python"), __file__, "serve", name, str(count)]
        # One of them warns at each query.
        environment = {**os.environ, "RUST_LOG": "error"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.result = {"name": name, "rows": count, "setting": SETTINGS[name], **self.answer()}

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise SystemExit("an engine has ended before its answer")

    def ask(self, **wish):
        self.process.stdin.write(json.dumps(wish) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def keep(self, question, one):
        """Of the rounds the middle one."""
        self.result.setdefault("rounds", {}).setdefault(question, []).append(one)
        rounds = sorted(self.result["rounds"][question], key=lambda each: each["p50_ms"])
        self.result[question] = rounds[len(rounds) // 2]

    def save(self):
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{self.result['name']}.json").write_text(json.dumps(self.result, indent=1))

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def run(names, count):
    children = []
    for name in names:
        print(f"build {name}", flush=True)
        children.append(Child(name, count))
        print(f"  {children[-1].result['build_s']:.0f} s", flush=True)
        children[-1].save()
    if os.environ.get("PAUSE"):
        print("everything is built; a line on the input begins", flush=True)
        sys.stdin.readline()
    rounds = int(os.environ.get("ROUNDS", "3"))
    for _ in range(rounds):
        for question in ("none", "tenth", "hundredth", "correlated"):
            for child in children:
                one = child.ask(question=question)
                if one is not None:
                    child.keep(question, one)
                child.save()
    wishes = [{"question": "none"} for _ in children]
    for child, wish in zip(children, wishes):
        for effort in EFFORTS if child.result["efforts"] else []:
            wish["effort"] = effort
            if child.ask(**wish)["recall"] >= RECALL:
                break
    for _ in range(rounds):
        for child, wish in zip(children, wishes):
            child.keep("at_recall", {**wish, **child.ask(**wish)})
            child.save()
    for child in children:
        child.result |= child.ask(finish=True)
        child.save()
        child.end()


def speeds(one):
    return [each["per_second"] for each in one["rounds"]["at_recall"]]


def table():
    found = {name: RESULTS / f"{name}.json" for name in ENGINES}
    found = {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}
    ours = found["sampan"]
    print("| engine | setting | recall | a tenth | a hundredth | correlated | queries/s at recall 0.95 | ours to theirs "
          "| memory | ours to theirs | disk | flushes a row | at once |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name, one in found.items():
        recall = [f"{one[question]['recall']:.3f}" if question in one else "no filter" for question in
                  ("none", "tenth", "hundredth", "correlated")]
        flushed = "?" if one["flushes"] is None else f"{one['flushes']:.1f}"
        ratio = statistics.median(left / right for left, right in zip(speeds(ours), speeds(one)))
        print(f"| {name} | {one['setting']} | {' | '.join(recall)} | {one['at_recall']['per_second']:.0f} | {ratio:.2f} "
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
        run(arguments[1:] or list(ENGINES), int(os.environ.get("ROWS", "100000")))
    else:
        table()


if __name__ == "__main__":
    main()
