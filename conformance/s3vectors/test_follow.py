"""What the vendor has not: an index that is followed, and vectors that end. Signed as everything else."""

import json
import time

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

# How long an event may take on a busy machine.
PATIENCE_S = 30


@pytest.fixture
def ask(signed, pair):
    """`ask(path, body)`: a signed request whose answer is a stream."""

    def send(path, body, secret=pair["secret"]):
        url, text = signed.url + path, json.dumps(body)
        request = AWSRequest("POST", url, data=text, headers={"content-type": "application/json"})
        SigV4Auth(Credentials(pair["access_key"], secret), "s3vectors", "us-east-1").add_auth(request)
        return httpx.stream("POST", url, content=text, headers=dict(request.headers), timeout=PATIENCE_S)

    return send


def events(response):
    """The events of a stream: their name and their data."""
    name = None
    for line in response.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        if field == "data":
            yield name, json.loads(value)


def changes(response):
    return ((name, data) for name, data in events(response) if name != "cursor")


def put(s3, index, key, numbers, **metadata):
    s3.put_vectors(vectors=[{"key": key, "data": {"float32": numbers}, "metadata": metadata}], **index)


def test_changes_come_as_they_are_acknowledged(s3, index, ask):
    put(s3, index, "before", [0, 0])
    with ask("/SubscribeVectors", {**index, "returnMetadata": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = events(response)
        name, begin = next(stream)
        assert name == "cursor"
        put(s3, index, "alien", [1, 0], year=1979)
        s3.delete_vectors(keys=["before"], **index)
        assert next(stream) == ("put", {"key": "alien", "metadata": {"year": 1979}})
        assert next(stream) == ("delete", {"key": "before"})
    with ask("/SubscribeVectors", {**index, "cursor": begin["cursor"]}) as response:
        stream = changes(response)
        assert [next(stream)[1]["key"] for _ in range(2)] == ["alien", "before"]
    with ask("/SubscribeVectors", {**index, "cursor": "earliest"}) as response:
        stream = changes(response)
        assert [next(stream)[1]["key"] for _ in range(3)] == ["before", "alien", "before"]


def test_a_standing_query_pushes_what_fits(s3, index, ask):
    wish = {"queryVector": {"float32": [0, 0]}, "maxDistance": 5, "filter": {"year": {"$gte": 1980}}, **index}
    with ask("/SubscribeVectors", wish) as response:
        stream = changes(response)
        put(s3, index, "far", [6, 0], year=1985)
        put(s3, index, "old", [3, 4], year=1979)
        put(s3, index, "fits", [3, 4], year=1985)
        assert next(stream) == ("put", {"key": "fits", "distance": 5.0})


def test_a_stream_ends_with_its_index(s3, index, ask):
    with ask("/SubscribeVectors", index) as response:
        stream = events(response)
        next(stream)
        s3.delete_index(**index)
        name, end = next(stream)
        assert (name, end["code"]) == ("end", "NotFoundException")
        assert list(stream) == []


def test_nobody_follows_with_a_wrong_secret(index, ask):
    with ask("/SubscribeVectors", index, secret="wrong") as response:
        response.read()
        assert (response.status_code, response.headers["x-amzn-errortype"]) == (403, "InvalidSignatureException")


def test_vectors_end_when_they_say_so(s3, index, ask):
    with ask("/PutTimeToLive", {**index, "timeToLive": {"metadataKey": "until"}}) as response:
        assert response.status_code == 200
    put(s3, index, "over", [1, 0], until=time.time() - 1)
    put(s3, index, "soon", [1, 0], until=time.time() + 2)
    put(s3, index, "stays", [1, 0])
    found = s3.query_vectors(queryVector={"float32": [1, 0]}, topK=9, **index)["vectors"]
    assert "over" not in {row["key"] for row in found}
    deadline = time.monotonic() + PATIENCE_S
    while len(s3.list_vectors(**index)["vectors"]) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [row["key"] for row in s3.get_vectors(keys=["over", "soon", "stays"], **index)["vectors"]] == ["stays"]
