"""Vectors: put, get, delete, list, query, and their limits."""

import base64
import json
import struct

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
import urllib3


def vector(key, *numbers, **metadata):
    return {"key": key, "data": {"float32": numbers}, "metadata": metadata}


def keys_of(answer):
    return [found["key"] for found in answer["vectors"]]


@pytest.fixture
def films(s3, index):
    s3.put_vectors(
        **index,
        vectors=[
            vector("alien", 0, 0, genre="horror", year=1979, cast=["weaver", "holm"], seen=True),
            vector("brazil", 1, 0, genre="comedy", year=1985, plot="x" * 3000),
            vector("clue", 2, 0, genre="comedy", year=1985.5),
            vector("dune", 3, 0, genre="drama", year=2021, seen=False),
            {"key": "empty", "data": {"float32": [4, 0]}},
        ],
    )
    return index


def test_what_was_put_is_there_at_once(s3, films):
    wanted = s3.get_vectors(**films, keys=["dune", "nobody", "alien"], returnData=True, returnMetadata=True)["vectors"]
    assert [found["key"] for found in wanted] == ["dune", "alien"]
    assert wanted[1]["data"] == {"float32": [0.0, 0.0]}
    assert wanted[1]["metadata"] == {"genre": "horror", "year": 1979, "cast": ["weaver", "holm"], "seen": True}
    assert s3.get_vectors(**films, keys=["alien"])["vectors"] == [{"key": "alien"}]
    s3.put_vectors(**films, vectors=[vector("alien", 9, 9, genre="action")])
    (again,) = s3.get_vectors(**films, keys=["alien"], returnData=True, returnMetadata=True)["vectors"]
    assert again["data"]["float32"] == [9, 9] and again["metadata"] == {"genre": "action"}
    s3.delete_vectors(**films, keys=["alien", "nobody"])
    assert s3.get_vectors(**films, keys=["alien"])["vectors"] == []
    arn = s3.get_index(**films)["index"]["indexArn"]
    assert len(s3.get_vectors(indexArn=arn, keys=["dune"])["vectors"]) == 1


def test_queries(s3, films):
    query = {"queryVector": {"float32": [1.1, 0]}, "topK": 3}
    answer = s3.query_vectors(**films, **query, returnDistance=True, returnMetadata=True)
    assert keys_of(answer) == ["brazil", "clue", "alien"] and answer["distanceMetric"] == "euclidean"
    assert abs(answer["vectors"][0]["distance"] - 0.1) < 1e-6 and answer["vectors"][1]["metadata"]["year"] == 1985.5
    bare = s3.query_vectors(**films, **query)
    assert bare["vectors"] == [{"key": "brazil"}, {"key": "clue"}, {"key": "alien"}] and "nextToken" not in bare
    assert len(s3.query_vectors(**films, queryVector={"float32": [0, 0]}, topK=10_000)["vectors"]) == 5
    assert keys_of(s3.query_vectors(**films, **query, queryMode="ENHANCED")) == keys_of(bare)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"genre": "comedy"}, ["brazil", "clue"]),
        ({"genre": {"$eq": "comedy"}}, ["brazil", "clue"]),
        ({"genre": {"$ne": "comedy"}}, ["alien", "dune", "empty"]),
        ({"cast": "holm"}, ["alien"]),
        ({"year": {"$gt": 1985}}, ["clue", "dune"]),
        ({"year": {"$gte": 1985, "$lt": 2021}}, ["brazil", "clue"]),
        ({"year": {"$lte": 1985}}, ["alien", "brazil"]),
        ({"genre": {"$in": ["drama", "horror"]}}, ["alien", "dune"]),
        ({"genre": {"$nin": ["drama", "horror"]}}, ["brazil", "clue", "empty"]),
        ({"seen": {"$exists": True}}, ["alien", "dune"]),
        ({"seen": {"$exists": False}}, ["brazil", "clue", "empty"]),
        ({"seen": False}, ["dune"]),
        ({"$and": [{"genre": "comedy"}, {"year": {"$lt": 1985.2}}]}, ["brazil"]),
        ({"$or": [{"genre": "drama"}, {"year": 1979}]}, ["alien", "dune"]),
        ({"genre": "comedy", "year": 1985}, ["brazil"]),
        ({"year": "1985"}, []),
    ],
)
def test_filters(s3, films, wanted, found):
    answer = s3.query_vectors(**films, queryVector={"float32": [0, 0]}, topK=10, filter=wanted)
    assert keys_of(answer) == found


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"genre": {"$regex": "c"}}, "$regex is no operator"),
        ({"$not": [{"a": 1}]}, "$not is no connective"),
        ({"$and": []}, "$and takes a list"),
        ({"year": {"$gt": "1"}}, "$gt takes a number"),
        ({"plot": "x"}, "was declared not filterable"),
        ({}, "empty"),
    ],
)
def test_filters_that_are_none(s3, films, refused, wanted, words):
    query = {"queryVector": {"float32": [0, 0]}, "topK": 1, "filter": wanted}
    refused("ValidationException", words, s3.query_vectors, **films, **query)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"topK": 0}, "/topK"),
        ({"topK": 10_001}, "between 1 and 10000"),
        ({"queryVector": {"float32": [1]}}, "1 numbers, the index has dimension 2"),
        ({"queryVector": {"float32": [1, float("nan")]}}, "finite"),
        ({"queryMode": "CLASSIC"}, "CLASSIC"),
        ({"queryMode": "OTHER"}, "enum value set"),
        ({"queryTexts": [{"text": "a", "metadataKey": "plot"}]}, "no text search configuration"),
        ({"queryTexts": [{"text": "", "metadataKey": "plot"}]}, "length 0"),
        ({"queryTexts": [{"text": "a" * 1025, "metadataKey": "plot"}]}, "length 1025"),
        ({"queryTexts": [{"text": "a", "metadataKey": "plot"}] * 2}, "another metadata key"),
        ({"queryTexts": []}, "length 0"),
        ({"nextToken": "!"}, "nextToken"),
    ],
)
def test_queries_that_may_not_be(s3, index, refused, arguments, words):
    good = {"queryVector": {"float32": [1, 2]}, "topK": 1}
    codes = "SerializationException" if "nan" in str(arguments) else "ValidationException"
    refused(codes, "" if "nan" in str(arguments) else words, s3.query_vectors, **index, **{**good, **arguments})


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ([vector("a", 1)], "Invalid record for key 'a'"),
        ([vector("a", 1, 1e39)], "finite"),
        ([vector("a", 1, 2), vector("a", 1, 2)], "twice"),
        ([vector("", 1, 2)], "1 to 1024"),
        ([vector("k" * 1025, 1, 2)], "1 to 1024"),
        ([vector("a", 1, 2, big="x" * 4096)], "bytes that can be filtered by, 4096 allowed"),
        ([vector("a", 1, 2, plot="x" * 41_000)], "40960 allowed"),
        ([vector("a", 1, 2, **{f"k{number}": 1 for number in range(51)})], "51 fields, 50 allowed"),
        ([vector("a", 1, 2, deep={"a": 1})], "is not a text"),
        ([vector(str(number), 1, 2) for number in range(501)], "length 501"),
    ],
)
def test_vectors_that_may_not_be(s3, index, refused, vectors, words):
    refused("ValidationException", words, s3.put_vectors, **index, vectors=vectors)
    assert s3.list_vectors(**index)["vectors"] == []


def test_limits_that_are_just_met(s3, index, refused):
    s3.put_vectors(**index, vectors=[vector(f"k{number:04}", number, 0) for number in range(500)])
    s3.put_vectors(**index, vectors=[vector("k" * 1024, 1, 1, small="x" * 4000, plot="y" * 36_000)])
    refused("ValidationException", "length 101", s3.get_vectors, **index, keys=[str(n) for n in range(101)])
    assert len(s3.get_vectors(**index, keys=[f"k{n:04}" for n in range(100)])["vectors"]) == 100
    refused("ValidationException", "length 501", s3.delete_vectors, **index, keys=[str(n) for n in range(501)])
    s3.delete_vectors(**index, keys=[f"k{n:04}" for n in range(500)])
    assert keys_of(s3.list_vectors(**index)) == ["k" * 1024]


def test_a_zero_vector_has_no_direction(s3, bucket, refused):
    s3.create_index(
        vectorBucketName=bucket, indexName="angles", dataType="float32", dimension=2, distanceMetric="cosine"
    )
    index = {"vectorBucketName": bucket, "indexName": "angles"}
    refused("ValidationException", "Invalid record", s3.put_vectors, **index, vectors=[vector("a", 0, 0)])
    s3.put_vectors(**index, vectors=[vector("a", 3, 0), vector("b", 0, 1)])
    answer = s3.query_vectors(**index, queryVector={"float32": [5, 0]}, topK=2, returnDistance=True)
    assert keys_of(answer) == ["a", "b"] and answer["distanceMetric"] == "cosine"
    assert abs(answer["vectors"][1]["distance"] - 1) < 1e-6


def test_listings(s3, index, refused):
    names = {f"k{number}" for number in range(1200)}
    some = sorted(names)
    for start in range(0, 1200, 400):
        s3.put_vectors(**index, vectors=[vector(key, 1, 2, n=1) for key in some[start : start + 400]])
    paginator = s3.get_paginator("list_vectors")
    pages = list(paginator.paginate(**index, PaginationConfig={"PageSize": 500}))
    listed = [found["key"] for page in pages for found in page["vectors"]]
    assert len(pages) == 3 and len(listed) == 1200 and set(listed) == names
    assert len(s3.list_vectors(**index)["vectors"]) == 500
    parts = []
    for segment in range(16):
        pages = paginator.paginate(**index, segmentCount=16, segmentIndex=segment, PaginationConfig={"PageSize": 50})
        parts.append([found["key"] for page in pages for found in page["vectors"]])
    assert sorted(key for part in parts for key in part) == some and all(parts)
    (whole,) = s3.list_vectors(**index, maxResults=1, returnData=True, returnMetadata=True)["vectors"]
    assert whole["data"] == {"float32": [1, 2]} and whole["metadata"] == {"n": 1}
    for bad in ({"maxResults": 1001}, {"segmentCount": 17, "segmentIndex": 0}, {"segmentCount": 2}):
        refused("ValidationException", "validation error", s3.list_vectors, **index, **bad)
    both = {"segmentCount": 2, "segmentIndex": 2}
    refused("ValidationException", "less than segmentCount", s3.list_vectors, **index, **both)
    refused("ValidationException", "nextToken", s3.list_vectors, **index, nextToken="!")


def test_a_page_of_a_listing_ends_at_a_megabyte(s3, index):
    for start in range(0, 60, 20):
        rows = [vector(f"k{number}", 1, 2, plot="x" * 30_000) for number in range(start, start + 20)]
        s3.put_vectors(**index, vectors=rows)
    s3.put_vectors(**index, vectors=[vector(f"l{number}", 1, 2, plot="x" * 30_000) for number in range(20)])
    page = s3.list_vectors(**index, returnMetadata=True)
    assert len(page["vectors"]) < 80 and page["nextToken"]
    rest = s3.list_vectors(**index, returnMetadata=True, nextToken=page["nextToken"])
    assert len(page["vectors"]) + len(rest["vectors"]) == 80


def test_a_large_answer_comes_in_pages(s3, index):
    for start in range(0, 160, 20):
        rows = [vector(f"k{number}", number, 2, plot="x" * 36_000) for number in range(start, start + 20)]
        s3.put_vectors(**index, vectors=rows)
    query = {"queryVector": {"float32": [0, 0]}, "topK": 160, "returnMetadata": True}
    first = s3.query_vectors(**index, **query)
    rest = s3.query_vectors(**index, **query, nextToken=first["nextToken"])
    assert keys_of(first) + keys_of(rest) == [f"k{number}" for number in range(160)] and "nextToken" not in rest


def signed_post(signed, pair, path, body, headers):
    """What no client of the vendor's sends: the bytes are ours, the signature botocore's."""
    request = botocore.awsrequest.AWSRequest("POST", signed.url + path, data=body, headers=headers)
    credentials = botocore.credentials.Credentials(pair["access_key"], pair["secret"])
    botocore.auth.SigV4Auth(credentials, "s3vectors", "us-east-1").add_auth(request)
    return urllib3.request("POST", signed.url + path, body=body, headers=dict(request.headers))


def framed(head, *numbers):
    head = json.dumps(head).encode()
    return struct.pack("<I", len(head)) + head + struct.pack(f"<{len(numbers)}f", *numbers)


def test_binary_bodies_and_base64(s3, signed, pair, index):
    kind = {"Content-Type": "application/vnd.sampan.vectors"}
    head = {**index, "vectors": [{"key": "a", "metadata": {"n": 1}}, {"key": "b"}]}
    answer = signed_post(signed, pair, "/PutVectors", framed(head, 1, 2, 3, 4), kind)
    assert answer.status == 200, answer.data
    numbers = base64.b64encode(struct.pack("<2f", 5, 6)).decode()
    body = json.dumps({**index, "vectors": [{"key": "c", "data": {"float32Base64": numbers}}]})
    assert signed_post(signed, pair, "/PutVectors", body, {"Content-Type": "application/json"}).status == 200
    found = s3.get_vectors(**index, keys=["a", "b", "c"], returnData=True)["vectors"]
    assert [one["data"]["float32"] for one in found] == [[1, 2], [3, 4], [5, 6]]
    body = json.dumps({**index, "keys": ["b", "a"], "returnMetadata": True})
    headers = {"Content-Type": "application/json", "Accept": "application/vnd.sampan.vectors"}
    answer = signed_post(signed, pair, "/GetVectors", body, headers)
    (length,) = struct.unpack("<I", answer.data[:4])
    assert [one["key"] for one in json.loads(answer.data[4 : 4 + length])["vectors"]] == ["b", "a"]
    assert struct.unpack("<4f", answer.data[4 + length :]) == (3, 4, 1, 2)
    answer = signed_post(signed, pair, "/QueryVectors", framed({**index, "topK": 1}, 3, 4), kind)
    assert keys_of(json.loads(answer.data)) == ["b"]
    body = json.dumps({**index, "keys": ["c"], "returnData": True, "dataFormat": "float32Base64"})
    answer = signed_post(signed, pair, "/GetVectors", body, {"Content-Type": "application/json"})
    assert json.loads(answer.data)["vectors"][0]["data"] == {"float32Base64": numbers}
    for bad in (framed(head, 1, 2, 3), b"", b"\xff\xff\xff\xff", framed(head)[:9]):
        assert signed_post(signed, pair, "/PutVectors", bad, kind).status == 400, bad


def test_less_effort_finds_what_is_there(s3, signed, pair, index):
    s3.put_vectors(**index, vectors=[vector(f"k{number}", number, 2) for number in range(30)])
    kind = {"Content-Type": "application/vnd.sampan.vectors"}
    for effort in (1, 50, 100):
        answer = signed_post(signed, pair, "/QueryVectors", framed({**index, "topK": 3, "effort": effort}, 7, 2), kind)
        assert answer.status == 200 and keys_of(json.loads(answer.data))[0] == "k7", answer.data
    words = {"queryTexts": [{"metadataKey": "plot", "text": "alien"}]}
    for bad in ({"effort": 0}, {"effort": 101}, {"effort": "high"}, {"effort": 50, **words}):
        answer = signed_post(signed, pair, "/QueryVectors", framed({**index, "topK": 3, **bad}, 7, 2), kind)
        assert answer.status == 400, answer.data


def test_bodies_that_are_none(signed, pair):
    plain = {"Content-Type": "application/json"}
    for body in ("{", "[]", '{"vectors": 5}', '{"topK": "3"}', "\xff"):
        answer = signed_post(signed, pair, "/QueryVectors", body.encode("latin-1"), plain)
        assert answer.status == 400 and answer.headers["x-amzn-errortype"] in (
            "SerializationException",
            "ValidationException",
        )
    answer = signed_post(signed, pair, "/PutVectors", b" " * ((20 << 20) + 1), plain)
    assert answer.status == 400 and "20971520" in answer.json()["message"]


def test_text_that_cannot_be_embedded_is_refused(signed, pair, index):
    body = json.dumps({**index, "vectors": [{"key": "c", "data": {"text": "a film"}}]})
    answer = signed_post(signed, pair, "/PutVectors", body, {"Content-Type": "application/json"})
    # With a model, its vectors are too long for this index.
    words = ("embedding model", "the index has dimension 2")
    assert answer.status == 400 and any(word in answer.json()["message"] for word in words)
