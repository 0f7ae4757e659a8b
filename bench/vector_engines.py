"""Vector engines behind one small interface: ours over HTTP, the others by calls in the process that uses them.

An engine is made with an empty folder and a dimension. `add(first, vectors, metadata)` adds rows with the keys `first` and
so on, `finish()` is called once after them, `query(vector, where)` answers the keys of the K nearest (`None`: the engine has no
filter), `memory_mb()` says by how much the process has grown since the engine was made, `close()` ends it. Those with a
knob for how hard they look have `set_effort`.
"""

import json
import os
import pathlib
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
K = 10
PACKAGES = "numpy faiss-cpu hnswlib usearch lancedb chromadb sqlite-vec zvec qdrant-client pysqlite3-binary".split()
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


class Connection:
    """One kept-alive connection: a request leaves in one piece, and of an answer's head only status and length are read. What
    Python's own client does besides takes as long as the answer."""

    def __init__(self, port):
        self.host = f"127.0.0.1:{port}"
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method, path, kind="", body=b""):
        head = f"{method} {path} HTTP/1.1\r\nhost: {self.host}\r\n"
        if body:
            head += f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n"
        self.socket.sendall(head.encode() + b"\r\n" + body)
        read = self.more()
        while b"\r\n\r\n" not in read:
            read += self.more()
        head, _, answer = read.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        while len(answer) < length:
            answer += self.more()
        return int(head[9:12]), answer

    def more(self):
        some = self.socket.recv(1 << 20)
        if not some:
            raise ConnectionError("the server closed the connection")
        return some


class Sampan:
    """Over HTTP, binary bodies."""

    EFFORTS = [10, 12, 14, 16, 17, 18, 20, 25, 30, 40, 50, 60, 80]

    def __init__(self, folder, dimension):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        binary = os.environ.get("SAMPAN_BIN", str(ROOT / "target/release/sampan"))
        self.server = subprocess.Popen(
            [binary, "up", "--open", "--listen", f"127.0.0.1:{self.port}", "--data", folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        self.connection, self.effort = None, 100
        for _ in range(200):
            try:
                self.connection = self.connect()
                break
            except OSError:
                time.sleep(0.1)
        self.connection.ask("GET", "/readyz")
        self.names = {"vectorBucketName": "peers", "indexName": "peers"}
        self.call("CreateVectorBucket", {"vectorBucketName": "peers"})
        shape = {"dataType": "float32", "dimension": dimension, "distanceMetric": "cosine"}
        self.call("CreateIndex", {**self.names, **shape})
        self.before = anonymous_mb(self.server.pid)

    def connect(self):
        return Connection(self.port)

    def set_effort(self, effort):
        self.effort = effort

    def call(self, operation, body, numbers=None, connection=None):
        connection = connection or self.connection
        text = json.dumps(body).encode()
        kind = "application/json"
        if numbers is not None:
            kind = "application/vnd.sampan.vectors"
            text = len(text).to_bytes(4, "little") + text + numbers.tobytes()
        while True:
            status, answer = connection.ask("POST", f"/{operation}", kind, text)
            if status == 429:
                time.sleep(0.05)
                continue
            assert status == 200, answer
            return json.loads(answer)

    def add(self, first, vectors, metadata, connection=None):
        rows = [{"key": str(first + at), "metadata": row} for at, row in enumerate(metadata)]
        self.call("PutVectors", {**self.names, "vectors": rows}, vectors, connection)

    def finish(self):
        # The compactor waits until nobody has written for some seconds, merges, and some seconds later removes.
        time.sleep(45)

    def query(self, vector, where, connection=None):
        body = {**self.names, "topK": K}
        if self.effort != 100:
            body["effort"] = self.effort
        if where:
            body["filter"] = where
        return [int(row["key"]) for row in self.call("QueryVectors", body, vector, connection)["vectors"]]

    def memory_mb(self):
        return anonymous_mb(self.server.pid) - self.before

    def flushed_pid(self):
        return self.server.pid

    def close(self):
        self.server.terminate()
        self.server.wait()


class InProcess:
    EFFORTS = [10, 15, 20, 25, 30, 32, 34, 36, 40, 45, 50, 60, 70, 100, 150]

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
