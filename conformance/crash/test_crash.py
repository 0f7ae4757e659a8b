"""kill -9 in the middle of heavy writes, several servers over one store, and bytes that decay.

SAMPAN_CRASHES: how often each kind of store loses its server; default 3.
"""

import http.client
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

CRASHES = int(os.environ.get("SAMPAN_CRASHES", "3"))
DIMENSION = 16
WRITERS = 4
BATCH = 200
READY_WITHIN_S = 60
BIN = os.environ.get("SAMPAN_BIN", "")
INDEX = {"vectorBucketName": "crash", "indexName": "crash"}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Process:
    """A process that is ended by its own id."""

    def __init__(self, command, port, path="/", **variables):
        self.port = port
        self.log = open(os.devnull, "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env={**os.environ, **variables})
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"{command[0]} ended with {self.process.returncode}"
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", path)
                if connection.getresponse().status < 500:
                    return
            except OSError:
                time.sleep(0.02)
        self.kill()
        raise AssertionError(f"{command[0]} was not ready in time")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


class Client:
    """One connection; raises OSError or HTTPException when the server is gone."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def call(self, operation, **body):
        self.connection.request("POST", f"/{operation}", json.dumps(body), {"content-type": "application/json"})
        response = self.connection.getresponse()
        answer = json.loads(response.read() or b"{}")
        return response.status, answer


class Place:
    """Where the vectors lie, and how a server for them is started."""

    def __init__(self, kind, folder):
        self.kind, self.folder = kind, pathlib.Path(folder)
        self.s3 = None
        if kind == "s3":
            port = free_port()
            script = pathlib.Path(__file__).parent.parent / "store" / "server.py"
            self.s3 = Process([sys.executable, str(script), str(port)], port)
            import boto3

            client = boto3.client(
                "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                aws_access_key_id="test", aws_secret_access_key="test",
            )
            client.create_bucket(Bucket="crash")
            self.url = f"s3://crash/vectors?endpoint=http://127.0.0.1:{port}"

    def start(self, name="one"):
        port = free_port()
        data = self.folder if self.kind == "folder" else self.folder / name
        command = [BIN, "up", "--open", "--listen", f"127.0.0.1:{port}", "--data", str(data)]
        if self.s3:
            command += ["--vectors-store", self.url]
        return Process(command, port, "/readyz", AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")

    def compact(self):
        command = [BIN, "vectors", "--data", str(self.folder), "compact", "crash/crash"]
        if self.s3:
            command += ["--vectors-store", self.url]
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        return subprocess.run(command, env={**os.environ, **keys}, timeout=60).returncode

    def stop(self):
        if self.s3:
            self.s3.kill()


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    made = Place(request.param, tmp_path)
    yield made
    made.stop()


def create(client):
    assert client.call("CreateVectorBucket", vectorBucketName="crash")[0] == 200
    shape = {"dataType": "float32", "dimension": DIMENSION, "distanceMetric": "euclidean"}
    assert client.call("CreateIndex", **INDEX, **shape)[0] == 200


class Writer(threading.Thread):
    """Writes its own keys in versions, and deletes some, until the server is gone or it is told to stop. Knows what was
    acknowledged."""

    def __init__(self, number, seed):
        super().__init__()
        self.number, self.random = number, random.Random(seed)
        self.port, self.version = 0, 0
        self.stop = threading.Event()
        # The last version that was acknowledged, and the last that was sent; `None` is deleted.
        self.certain, self.sent = {}, {}

    def again(self, port):
        """A thread runs once: another with the same knowledge."""
        next_one = Writer(self.number, self.random.random())
        next_one.port, next_one.version = port, self.version
        next_one.certain, next_one.sent = self.certain, self.sent
        return next_one

    def run(self):
        client = Client(self.port)
        while not self.stop.is_set():
            try:
                self.round(client)
            except (OSError, http.client.HTTPException):
                return

    def round(self, client):
        self.version += 1
        keys = [f"{self.number}-{self.random.randrange(3000)}" for _ in range(BATCH)]
        keys = list(dict.fromkeys(keys))
        if self.version % 5 == 0:
            keys, value = keys[:50], None
            body = {"keys": keys}
        else:
            value = self.version
            body = {"vectors": [{"key": key, "data": {"float32": [value] * DIMENSION}} for key in keys]}
        for key in keys:
            self.sent[key] = value, self.version
        status, _ = client.call("DeleteVectors" if value is None else "PutVectors", **INDEX, **body)
        # 429: compaction lags; nothing was written.
        assert status in (200, 429, 503), status
        if status == 200:
            self.certain.update({key: (value, self.version) for key in keys})
        elif status == 429:
            time.sleep(0.05)


def check(port, writers):
    """Everything that was acknowledged is there, or what was sent after it. Returns how many keys were looked at."""
    client, looked = Client(port), 0
    for writer in writers:
        keys = list(writer.sent)
        for start in range(0, len(keys), 100):
            some = keys[start : start + 100]
            status, answer = client.call("GetVectors", **INDEX, keys=some, returnData=True)
            assert status == 200, answer
            found = {vector["key"]: int(vector["data"]["float32"][0]) for vector in answer["vectors"]}
            for key in some:
                allowed = {writer.sent[key][0]}
                certain = writer.certain.get(key, (None, 0))
                if certain[1] < writer.sent[key][1]:
                    allowed.add(certain[0])
                assert found.get(key) in allowed, f"{key}: {found.get(key)} is none of {allowed}"
                # It is certain from now on: what was seen must stay.
                writer.certain[key] = found.get(key), writer.sent[key][1]
                writer.sent[key] = writer.certain[key]
            looked += len(some)
    return looked


def test_nothing_that_was_acknowledged_is_lost(place):
    server = place.start()
    create(Client(server.port))
    writers = [Writer(number, number) for number in range(WRITERS)]
    chance, looked = random.Random(7), 0
    for _ in range(CRASHES):
        writers = [writer.again(server.port) for writer in writers]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0.1, 0.7))
        server.kill()
        for writer in writers:
            writer.join()
        server = place.start()
        looked += check(server.port, writers)
    acknowledged = sum(len(writer.certain) for writer in writers)
    server.kill()
    print(f"{place.kind}: {CRASHES} crashes, {acknowledged} keys acknowledged, {looked} looked at, none lost")
    assert acknowledged > 0


def test_several_servers_over_one_store_see_each_other_at_once(place):
    first, second = place.start("one"), place.start("two")
    try:
        create(Client(first.port))
        servers = [Client(first.port), Client(second.port)]
        for version in range(1, 41):
            writer, reader = servers[version % 2], servers[(version + 1) % 2]
            vectors = [{"key": f"k{number}", "data": {"float32": [version] * DIMENSION}} for number in range(5)]
            assert writer.call("PutVectors", **INDEX, vectors=vectors)[0] == 200
            status, answer = reader.call(
                "QueryVectors", **INDEX, topK=5, returnDistance=True, queryVector={"float32": [version] * DIMENSION}
            )
            assert status == 200 and [found["distance"] for found in answer["vectors"]] == [0.0] * 5, answer
        # Both write at once, until one is killed; the other goes on with what both wrote.
        writers = [Writer(0, 1), Writer(1, 2)]
        writers[0].port, writers[1].port = first.port, second.port
        for writer in writers:
            writer.start()
        time.sleep(0.7)
        first.kill()
        writers[0].join()
        time.sleep(0.2)
        check(second.port, writers[:1])
        second.kill()
        writers[1].join()
        second = place.start("two")
        assert check(second.port, writers) > 0
    finally:
        for server in (first, second):
            if server.process.returncode is None:
                server.kill()


def test_others_take_over_from_owners_that_are_killed(place):
    """Three servers write one index. Two are killed while they write, and their writers go on at those that are left."""
    servers = [place.start(name) for name in ("one", "two", "three")]
    try:
        create(Client(servers[0].port))
        writers = [Writer(number, number + 50) for number in range(3)]
        for writer, server in zip(writers, servers):
            writer.port = server.port
            writer.start()
        for dead in (0, 1):
            time.sleep(0.5)
            servers[dead].kill()
            for number, writer in enumerate(writers):
                if writer.port != servers[dead].port:
                    continue
                writer.join()
                writers[number] = writer.again(servers[dead + 1].port)
                # What the dead server acknowledged is there at once, and is written over from here on.
                check(servers[dead + 1].port, [writers[number]])
                before = writers[number].version
                writers[number].start()
                deadline = time.monotonic() + READY_WITHIN_S
                while writers[number].version < before + 3:
                    assert time.monotonic() < deadline, "nobody took over"
                    time.sleep(0.02)
        for writer in writers:
            writer.stop.set()
        for writer in writers:
            writer.join()
        assert check(servers[2].port, writers) > 0
        servers[2].kill()
        assert place.compact() == 0
        servers.append(place.start("four"))
        check(servers[3].port, writers)
    finally:
        for server in servers:
            if server.process.returncode is None:
                server.kill()


def verify(folder):
    command = [BIN, "vectors", "--data", str(folder), "verify", "crash/crash"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_a_byte_that_decays_in_any_object_is_named(tmp_path):
    place = Place("folder", tmp_path)
    server = place.start()
    client = Client(server.port)
    create(client)
    for start in range(0, 2000, 500):
        vectors = [
            {"key": f"k{number}", "data": {"float32": [number] * DIMENSION}, "metadata": {"n": number % 7}}
            for number in range(start, start + 500)
        ]
        assert client.call("PutVectors", **INDEX, vectors=vectors)[0] == 200
    server.kill()
    compact = [BIN, "vectors", "--data", str(tmp_path), "compact", "crash/crash"]
    assert subprocess.run(compact).returncode == 0
    # One entry of the log beside the segments.
    server = place.start()
    assert Client(server.port).call("PutVectors", **INDEX, vectors=vectors[:5])[0] == 200
    server.kill()
    assert verify(tmp_path)[0] == 0, verify(tmp_path)
    objects = [path for path in (tmp_path / "vectors" / "objects" / "data").rglob("*") if path.is_file()]
    kinds = {path.parts[-2] if path.parts[-2] in ("log", "manifest") else path.name for path in objects}
    assert {"log", "manifest", "head", "rows-00000", "filter-00000"} <= kinds, kinds
    chance = random.Random(3)
    for path in objects:
        whole = path.read_bytes()
        place_in_it = chance.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place_in_it] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        status, said = verify(tmp_path)
        name = str(path.relative_to(tmp_path / "vectors" / "objects"))
        assert status != 0 and name in said, f"byte {place_in_it} of {name}: {said}"
        path.write_bytes(whole)
    assert verify(tmp_path)[0] == 0
