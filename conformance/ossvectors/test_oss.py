"""Every operation of the client's vector module, their limits and their errors."""

import datetime
import inspect
import json
import types

import alibabacloud_oss_v2 as oss
import alibabacloud_oss_v2.vectors as oss_vectors
import pytest

m = oss_vectors.models


def vector(key, *numbers, **metadata):
    return {"key": key, "data": {"float32": list(numbers)}, "metadata": metadata}


def keys_of(result):
    return [found["key"] for found in result.vectors]


def test_a_bucket_from_its_beginning_to_its_end(client, refused):
    put = m.PutVectorBucketRequest(bucket="from-the-beginning", bucket_tagging="a=b&c=d")
    assert client.put_vector_bucket(put).status_code == 200
    info = client.get_vector_bucket(m.GetVectorBucketRequest(bucket="from-the-beginning")).bucket_info
    assert info.name == "acs:ossvector:us-east-1:000000000000:from-the-beginning"
    age = datetime.datetime.now(datetime.timezone.utc) - info.creation_date
    assert abs(age.total_seconds()) < 60 and info.location == "oss-us-east-1" and info.region == "us-east-1"
    refused(409, "BucketAlreadyExists", "exists already", client.put_vector_bucket, put)
    delete = m.DeleteVectorBucketRequest(bucket="from-the-beginning")
    assert client.delete_vector_bucket(delete).status_code == 204
    refused(404, "NoSuchBucket", "from-the-beginning", client.delete_vector_bucket, delete)
    get = m.GetVectorBucketRequest(bucket="from-the-beginning")
    refused(404, "NoSuchBucket", "from-the-beginning", client.get_vector_bucket, get)


def test_buckets_are_listed_in_pages(client):
    for number in range(3):
        group = "grouped" if number == 1 else None
        name = f"listed-{number}"
        client.put_vector_bucket(m.PutVectorBucketRequest(bucket=name, resource_group_id=group))
    paginator = client.list_vector_buckets_paginator(limit=2)
    pages = list(paginator.iter_page(m.ListVectorBucketsRequest(prefix="listed-")))
    names = [bucket.name.rsplit(":", 1)[1] for page in pages for bucket in page.buckets]
    assert [len(page.buckets) for page in pages] == [2, 1] and names == ["listed-0", "listed-1", "listed-2"]
    grouped = client.list_vector_buckets(m.ListVectorBucketsRequest(resource_group_id="grouped", max_keys=5))
    assert [bucket.resource_group_id for bucket in grouped.buckets] == ["grouped"] and not grouped.is_truncated


def test_limits_of_listings(client, bucket, refused):
    for bad in (0, 1001):
        refused(400, "InvalidArgument", "max-keys", client.list_vector_buckets, m.ListVectorBucketsRequest(max_keys=bad))
    request = m.ListVectorIndexesRequest(bucket=bucket, max_results=501)
    refused(400, "InvalidArgument", "maxResults", client.list_vector_indexes, request)


def test_an_index_from_its_beginning_to_its_end(client, index, refused):
    get = m.GetVectorIndexRequest(**index)
    found = client.get_vector_index(get).index
    assert (found["indexName"], found["dataType"], found["dimension"]) == ("films", "float32", 2)
    assert found["distanceMetric"] == "euclidean" and found["status"] == "enable"
    assert found["metadata"] == {"nonFilterableMetadataKeys": ["plot"]} and found["createTime"].endswith("Z")
    again = m.PutVectorIndexRequest(dimension=2, distance_metric="cosine", data_type="float32", **index)
    refused(409, "VectorIndexAlreadyExists", "films", client.put_vector_index, again)
    delete = m.DeleteVectorBucketRequest(bucket=index["bucket"])
    refused(409, "BucketNotEmpty", "not empty", client.delete_vector_bucket, delete)
    client.delete_vector_index(m.DeleteVectorIndexRequest(**index))
    refused(404, "NoSuchVectorIndex", "films", client.get_vector_index, get)
    refused(404, "NoSuchVectorIndex", "films", client.delete_vector_index, m.DeleteVectorIndexRequest(**index))
    client.delete_vector_bucket(delete)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dimension": 0}, "dimension is 0"),
        ({"dimension": 4097}, "dimension is 4097"),
        ({"data_type": "float16"}, "dataType"),
        ({"distance_metric": "dot"}, "distanceMetric"),
        ({"index_name": "1st"}, "a letter first"),
        ({"index_name": "a-b"}, "a letter first"),
        ({"index_name": "a" * 64}, "1 to 63"),
        ({"index_name": None}, "indexName is missing"),
        ({"metadata": {"nonFilterableMetadataKeys": [str(number) for number in range(11)]}}, "11 names"),
    ],
)
def test_indexes_that_may_not_be(client, bucket, refused, changes, words):
    good = {"index_name": "films", "data_type": "float32", "dimension": 2, "distance_metric": "cosine"}
    request = m.PutVectorIndexRequest(bucket=bucket, **{**good, **changes})
    refused(400, "InvalidArgument", words, client.put_vector_index, request)


def test_indexes_are_listed_in_pages(client, bucket):
    for name in ("btwo", "bone", "aone"):
        request = m.PutVectorIndexRequest(bucket=bucket, index_name=name, dimension=2, distance_metric="cosine")
        client.put_vector_index(request)
    paginator = client.list_vector_indexes_paginator(limit=2)
    pages = list(paginator.iter_page(m.ListVectorIndexesRequest(bucket=bucket)))
    assert [found["indexName"] for page in pages for found in page.indexes] == ["aone", "bone", "btwo"]
    found = client.list_vector_indexes(m.ListVectorIndexesRequest(bucket=bucket, prefix="b")).indexes
    assert [one["indexName"] for one in found] == ["bone", "btwo"]


@pytest.fixture
def films(client, index):
    vectors = [
        vector("alien", 0, 0, genre="horror", cast=["weaver", "holm"]),
        vector("brazil", 1, 0, genre="comedy", plot="x" * 3000),
        vector("clue", 2, 0, genre="comedy", year=1985),
    ]
    assert client.put_vectors(m.PutVectorsRequest(vectors=vectors, **index)).status_code == 200
    return index


def test_vectors_come_and_go(client, films):
    get = m.GetVectorsRequest(keys=["clue", "nobody", "alien"], return_data=True, return_metadata=True, **films)
    found = client.get_vectors(get).vectors
    assert [one["key"] for one in found] == ["clue", "alien"] and found[0]["data"] == {"float32": [2, 0]}
    assert found[1]["metadata"] == {"genre": "horror", "cast": ["weaver", "holm"]}
    client.delete_vectors(m.DeleteVectorsRequest(keys=["alien", "nobody"], **films))
    assert keys_of(client.get_vectors(m.GetVectorsRequest(keys=["clue", "alien"], **films))) == ["clue"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, ["alien", "brazil", "clue"]),
        ({}, ["alien", "brazil", "clue"]),
        ({"genre": {"$eq": "comedy"}}, ["brazil", "clue"]),
        ({"genre": {"$ne": "comedy"}}, ["alien"]),
        ({"genre": {"$in": ["horror", "drama"]}}, ["alien"]),
        ({"genre": {"$nin": ["horror"]}}, ["brazil", "clue"]),
        ({"cast": {"$exists": True}}, ["alien"]),
        ({"cast": {"$eq": "holm"}}, ["alien"]),
        ({"$and": [{"genre": {"$eq": "comedy"}}, {"year": {"$gte": 1980}}]}, ["clue"]),
        ({"$or": [{"genre": {"$eq": "horror"}}, {"year": {"$eq": 1985}}]}, ["alien", "clue"]),
    ],
)
def test_queries(client, films, wanted, found):
    vector_ = {"float32": [0, 0]}
    request = m.QueryVectorsRequest(
        filter=wanted, query_vector=vector_, top_k=5, return_distance=True, return_metadata=True, **films
    )
    result = client.query_vectors(request)
    assert keys_of(result) == found and all("distance" in one and "metadata" in one for one in result.vectors)
    bare = client.query_vectors(m.QueryVectorsRequest(query_vector=vector_, top_k=1, **films)).vectors
    assert bare == [{"key": "alien"}]


def test_listings(client, index):
    names = sorted(f"k{number}" for number in range(700))
    for start in (0, 350):
        rows = [vector(key, 1, 2) for key in names[start : start + 350]]
        client.put_vectors(m.PutVectorsRequest(vectors=rows, **index))
    pages = list(client.list_vectors_paginator(limit=300).iter_page(m.ListVectorsRequest(return_data=True, **index)))
    assert len(pages) == 3 and sorted(key for page in pages for key in keys_of(page)) == names
    parts = [
        keys_of(client.list_vectors(m.ListVectorsRequest(segment_count=4, segment_index=part, **index)))
        for part in range(4)
    ]
    assert sorted(key for part in parts for key in part) == names and all(parts)


def test_what_may_not_be(client, index, refused):
    def put(*vectors):
        return m.PutVectorsRequest(vectors=list(vectors), **index)

    for request, words in [
        (put(), "0 vectors"),
        (put(*(vector(str(number), 1, 2) for number in range(501))), "501 vectors"),
        (put(vector("a", 1)), "the index has dimension 2"),
        (put(vector("", 1, 2)), "1 to 1024"),
        (put(vector("k" * 1025, 1, 2)), "1 to 1024"),
        (put(vector("a", 1, 2), vector("a", 1, 2)), "twice"),
        (put(vector("a", 1, 2, big="x" * 2048)), "2048 allowed"),
        (put(vector("a", 1, 2, plot="x" * 41_000)), "40960 allowed"),
    ]:
        refused(400, "InvalidArgument", words, client.put_vectors, request)
    many = [str(number) for number in range(101)]
    refused(400, "InvalidArgument", "101 keys", client.get_vectors, m.GetVectorsRequest(keys=many, **index))
    refused(400, "InvalidArgument", "0 keys", client.delete_vectors, m.DeleteVectorsRequest(keys=[], **index))
    request = m.ListVectorsRequest(max_results=1001, **index)
    refused(400, "InvalidArgument", "maxResults", client.list_vectors, request)
    request = m.ListVectorsRequest(segment_count=2, segment_index=2, **index)
    refused(400, "InvalidArgument", "segmentIndex", client.list_vectors, request)
    query = {"query_vector": {"float32": [1, 2]}, **index}
    for changes, words in [
        ({"top_k": 0}, "topK is 0"),
        ({"top_k": 10_001}, "topK is 10001"),
        ({}, "topK is missing"),
        ({"top_k": 1, "query_vector": {"float32": [1]}}, "dimension 2"),
        ({"top_k": 1, "query_vector": None}, "queryVector is missing"),
        ({"top_k": 1, "filter": {"plot": {"$eq": "x"}}}, "not filterable"),
        ({"top_k": 1, "filter": {"a": {"$in": ["x" * 70_000]}}}, "65536"),
        ({"top_k": 1, "index_name": "other"}, None),
    ]:
        request = m.QueryVectorsRequest(**{**query, **changes})
        if words is None:
            refused(404, "NoSuchVectorIndex", "other", client.query_vectors, request)
        else:
            refused(400, "InvalidArgument", words, client.query_vectors, request)


@pytest.fixture
def goods(client, bucket):
    """A fusion index of goods: two vector fields, a text, and fields with types."""
    fields = [
        {"name": "text", "type": "vector", "dataType": "float32", "dimension": 2, "distanceMetric": "cosine"},
        {"name": "looks", "type": "vector", "dataType": "float32", "dimension": 3, "distanceMetric": "cosine"},
        {"name": "title", "type": "string", "exactMatch": True, "text": {"enabled": True, "analyzer": "standard"}},
        {"name": "brand", "type": "string"},
        {"name": "price", "type": "double"},
        {"name": "user", "type": "string", "isPartitionKey": True},
    ]
    request = m.PutVectorIndexFusionRequest(bucket=bucket, index_name="goods", schema_configuration={"fields": fields})
    assert client.put_vector_index_fusion(request).status_code == 200
    index = {"bucket": bucket, "index_name": "goods"}

    def good(key, data, title, brand, price, user):
        return {"key": key, "data": data, "metadata": {"title": title, "brand": brand, "price": price, "user": user}}

    vectors = [
        good("phone", {"text": [1, 0], "looks": [0, 0, 1]}, "无线 耳机 headphones", "ant", 300.0, "u1"),
        good("radio", {"text": [0, 1]}, "wireless radio", "bee", 50.0, "u1"),
        good("kettle", {"looks": [0, 1, 1]}, "red kettle", "bee", 20.0, "u2"),
        good("book", {}, "the red book", "ant", 10.0, "u2"),
    ]
    assert client.put_vectors(m.PutVectorsRequest(vectors=vectors, **index)).status_code == 200
    return index


TEXT = {"field": "text", "queryVector": [1, 0.1], "topK": 10, "numCandidates": 100}
LOOKS = {"field": "looks", "queryVector": [0, 1, 1], "boost": 5.0}


def leaf(value):
    return {"simple": {"query": {"title": {"$textMatch": {"value": value}}}}}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"knn": TEXT}, ["phone", "radio"]),
        ({"knn": [TEXT, LOOKS]}, ["phone", "kettle", "radio"]),
        ({"knn": {**TEXT, "filter": {"$and": {"clauses": [{"price": {"$range": {"lt": 100}}}]}}}}, ["radio"]),
        ({"knn": TEXT, "partition_keys": ["u2"]}, []),
        ({"knn": TEXT, "query": {"brand": {"$in": {"value": ["bee"], "boost": 3.0}}}}, ["radio", "kettle", "phone"]),
        ({"query": {"title": {"$textMatch": {"value": "耳机", "boost": 4.0}}}}, ["phone"]),
        ({"query": {"title": {"$eq": "red kettle"}}}, ["kettle"]),
        ({"query": {"price": {"$gt": 0}}, "sort": [{"price": {"order": "asc"}}], "limit": 3}, ["book", "kettle", "radio"]),
        (
            {"query": {"$or": {"clauses": [{"brand": "ant"}, {"title": {"$textMatch": {"value": "red", "boost": 4}}}]}}},
            ["book", "kettle", "phone"],
        ),
        (
            {"retriever": {"rrf": {"k": 50, "windowSize": 100, "retrievers": [
                {"retriever": {"knn": TEXT}, "weight": 1.0}, {"retriever": leaf("radio"), "weight": 5.0},
            ]}}},
            ["radio", "phone"],
        ),
        (
            {"retriever": {"weight": {"windowSize": 100, "retrievers": [
                {"retriever": {"knn": TEXT}, "weight": 0.7, "normalizer": "minMax"},
                {"retriever": leaf("radio"), "weight": 0.3, "normalizer": "minMax"},
            ]}}},
            ["phone", "radio"],
        ),
        ({"retriever": leaf("red kettle")}, ["kettle", "book"]),
    ],
)
def test_fusion_queries(client, goods, asked, found):
    request = m.QueryVectorsFusionRequest(return_metadata=True, return_metadata_fields=["brand"], **asked, **goods)
    result = client.query_vectors_fusion(request)
    assert keys_of(result) == found
    assert all(set(one["metadata"]) == {"brand"} and one["score"] >= 0 for one in result.vectors)
    scores = [one["score"] for one in result.vectors]
    assert asked.get("sort") or scores == sorted(scores, reverse=True)


def test_a_fusion_index_from_its_beginning_to_its_end(client, goods, refused):
    found = client.get_vector_index(m.GetVectorIndexRequest(**goods)).index
    assert found["mode"] == "fusion" and len(found["schemaConfiguration"]["fields"]) == 6
    get = m.GetVectorsRequest(keys=["phone", "book"], return_data=True, return_metadata=True, **goods)
    phone, book = client.get_vectors(get).vectors
    assert phone["data"] == {"text": [1, 0], "looks": [0, 0, 1]} and phone["metadata"]["price"] == 300
    assert book["data"] == {} and book["metadata"]["title"] == "the red book"
    assert sorted(keys_of(client.list_vectors(m.ListVectorsRequest(**goods)))) == ["book", "kettle", "phone", "radio"]
    client.delete_vectors(m.DeleteVectorsRequest(keys=["phone"], **goods))
    looks = m.QueryVectorsFusionRequest(knn={"field": "looks", "queryVector": [0, 0, 1]}, **goods)
    assert keys_of(client.query_vectors_fusion(looks)) == ["kettle"]
    everything = {"query": {"price": {"$exists": True}}, "limit": 2, **goods}
    first = client.query_vectors_fusion(m.QueryVectorsFusionRequest(**everything))
    last = client.query_vectors_fusion(m.QueryVectorsFusionRequest(next_token=first.next_token, **everything))
    assert keys_of(first) + keys_of(last) == ["book", "kettle", "radio"] and last.next_token is None
    standard = m.QueryVectorsRequest(query_vector={"float32": [1, 2]}, top_k=1, **goods)
    refused(400, "InvalidArgument", "QueryVectorsFusion", client.query_vectors, standard)
    client.delete_vector_index(m.DeleteVectorIndexRequest(**goods))
    refused(404, "NoSuchVectorIndex", "goods", client.query_vectors_fusion, looks)


def test_fusion_requests_that_may_not_be(client, bucket, goods, refused):
    for fields, status, words in [
        ([], 400, "0 fields"),
        ([{"name": "v", "type": "vector", "dimension": 5000}], 400, "5000"),
        ([{"name": "v", "type": "vector", "dimension": 2, "dimensions": 2}], 400, "dimensions"),
        ([{"name": "place", "type": "geoPoint"}], 501, "geoPoint"),
    ]:
        code = "InvalidArgument" if status == 400 else "NotImplemented"
        schema = {"fields": fields}
        request = m.PutVectorIndexFusionRequest(bucket=bucket, index_name="bad", schema_configuration=schema)
        refused(status, code, words, client.put_vector_index_fusion, request)
    for asked, words in [
        ({}, "one of knn, query and retriever"),
        ({"knn": [TEXT] * 4}, "4 vector searches"),
        ({"knn": {**TEXT, "field": "brand"}}, "no vector field"),
        ({"knn": {**TEXT, "queryVector": [1]}}, "its dimension is 2"),
        ({"query": {"other": 1}}, "no field of the schema"),
        ({"retriever": leaf("x"), "query": {"brand": "x"}}, "cannot be given with"),
        ({"knn": TEXT, "limit": 0}, "limit is 0"),
    ]:
        request = m.QueryVectorsFusionRequest(**asked, **goods)
        refused(400, "InvalidArgument", words, client.query_vectors_fusion, request)
    put = m.PutVectorsRequest(vectors=[{"key": "a", "data": {"text": [1, 2]}, "metadata": {"price": "x"}}], **goods)
    refused(400, "InvalidArgument", "type double", client.put_vectors, put)


def test_policies_are_enforced(client, index, refused):
    bucket = index["bucket"]
    get = m.GetBucketPolicyRequest(bucket=bucket)
    refused(404, "NoSuchBucketPolicy", "no policy", client.get_bucket_policy, get)
    resource = f"acs:ossvector:us-east-1:000000000000:{bucket}/*"
    statement = {"Effect": "Deny", "Principal": ["*"], "Action": ["oss:PutVectors"], "Resource": [resource]}
    text = json.dumps({"Version": "1", "Statement": [statement]})
    client.put_bucket_policy(m.PutBucketPolicyRequest(bucket=bucket, body=text))
    assert json.loads(client.get_bucket_policy(get).body) == json.loads(text)
    put = m.PutVectorsRequest(vectors=[vector("a", 1, 2)], **index)
    refused(403, "AccessDenied", "oss:PutVectors", client.put_vectors, put)
    client.list_vectors(m.ListVectorsRequest(**index))
    client.delete_bucket_policy(m.DeleteBucketPolicyRequest(bucket=bucket))
    client.put_vectors(put)
    bad = m.PutBucketPolicyRequest(bucket=bucket, body="{}")
    refused(400, "InvalidArgument", "Statement", client.put_bucket_policy, bad)


def test_logging(client, bucket):
    get = m.GetBucketLoggingRequest(bucket=bucket)
    assert client.get_bucket_logging(get).bucket_logging_status.logging_enabled is None
    enabled = m.LoggingEnabled(target_bucket="logs", target_prefix="films/", logging_role="role")
    status = m.BucketLoggingStatus(logging_enabled=enabled)
    client.put_bucket_logging(m.PutBucketLoggingRequest(bucket=bucket, bucket_logging_status=status))
    found = client.get_bucket_logging(get).bucket_logging_status.logging_enabled
    assert (found.target_bucket, found.target_prefix, found.logging_role) == ("logs", "films/", "role")
    client.delete_bucket_logging(m.DeleteBucketLoggingRequest(bucket=bucket))
    assert client.get_bucket_logging(get).bucket_logging_status.logging_enabled is None


def test_both_vendors_speak_of_the_same_buckets(client, films, signed, pair):
    import boto3

    s3 = boto3.client(
        "s3vectors",
        endpoint_url=signed.url,
        region_name="us-east-1",
        aws_access_key_id=pair["access_key"],
        aws_secret_access_key=pair["secret"],
    )
    names = {"vectorBucketName": films["bucket"], "indexName": "films0"}
    s3.create_index(**names, dataType="float32", dimension=2, distanceMetric="euclidean")
    s3.put_vectors(**names, vectors=[{"key": "dune", "data": {"float32": [3, 0]}}])
    get = m.GetVectorsRequest(bucket=films["bucket"], index_name="films0", keys=["dune"], return_data=True)
    assert client.get_vectors(get).vectors[0]["data"] == {"float32": [3, 0]}


def test_signatures_that_do_not_count(signed, pair, client_of, refused):
    request = m.ListVectorBucketsRequest()
    wrong = client_of(signed, pair["access_key"], "wrong")
    refused(403, "SignatureDoesNotMatch", "signature", wrong.list_vector_buckets, request)
    refused(403, "SignatureDoesNotMatch", "signature", wrong.get_vector_bucket, m.GetVectorBucketRequest(bucket="abc"))
    nobody = client_of(signed, "LTAINOBODY", "secret")
    refused(403, "InvalidAccessKeyId", "does not exist", nobody.list_vector_buckets, request)
    anonymous = client_of(signed, "", "", credentials_provider=oss.credentials.AnonymousCredentialsProvider())
    refused(403, "AccessDenied", "sign", anonymous.get_vector_bucket, m.GetVectorBucketRequest(bucket="abc"))
    other = client_of(signed, pair["access_key"], pair["secret"], account="123")
    refused(403, "AccessDenied", "account_id is 000000000000", other.put_vector_bucket, m.PutVectorBucketRequest(bucket="abc"))


class Tampering:
    """The client's own transport, with a request changed after it was signed."""

    def __init__(self, change):
        self.inner = oss.transport.RequestsHttpClient(proxy_host=None)
        self.change = change

    def send(self, request, **kwargs):
        self.change(request)
        return self.inner.send(request, **kwargs)

    def open(self):
        self.inner.open()

    def close(self):
        self.inner.close()


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda request: setattr(request, "body", b'{"maxResults": 2}'), 400, "InvalidDigest"),
        (lambda request: request.headers.update({"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}), 403, "SignatureDoesNotMatch"),
        (lambda request: request.headers.update({"x-oss-date": "20200101T000000Z"}), 400, "InvalidArgument"),
        (lambda request: request.headers.update({"x-oss-meta-a": "b"}), 403, "SignatureDoesNotMatch"),
        (lambda request: setattr(request, "url", request.url + "&a=b"), 403, "SignatureDoesNotMatch"),
    ],
)
def test_tampered_requests(signed, pair, client_of, bucket, refused, change, status, code):
    tampering = Tampering(change)
    tampering.inner = oss.transport.RequestsHttpClient(proxy_host={"http": signed.url})
    client = client_of(signed, pair["access_key"], pair["secret"], http_client=tampering)
    refused(status, code, "", client.list_vector_indexes, m.ListVectorIndexesRequest(bucket=bucket, max_results=1))


@pytest.mark.parametrize("minutes", [-16, 16])
def test_skewed_clocks(signed, pair, client_of, refused, monkeypatch, minutes):
    from alibabacloud_oss_v2.signer import vectors_v4

    class Skewed(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.now(tz) + datetime.timedelta(minutes=minutes)

    client = client_of(signed, pair["access_key"], pair["secret"])
    fake = types.SimpleNamespace(datetime=Skewed, timezone=datetime.timezone, timedelta=datetime.timedelta)
    monkeypatch.setattr(vectors_v4, "datetime", fake)
    request = m.ListVectorBucketsRequest()
    refused(403, "RequestTimeTooSkewed", "too large", client.list_vector_buckets, request)


def test_an_open_server_asks_nobody(server, client_of):
    client = client_of(server, "anybody", "anything")
    client.put_vector_bucket(m.PutVectorBucketRequest(bucket="open-to-everybody"))
    assert client.get_vector_bucket(m.GetVectorBucketRequest(bucket="open-to-everybody")).bucket_info.name


def test_names_of_others_are_refused(signed):
    status, body = signed.request("GET", "/?bucketInfo", headers={"host": "films-000000000000.example.com"})
    assert status == 403 and b"localhost" in body


def test_every_operation_of_the_client_is_served(client):
    """About a bucket that is not there, each says so or that something is missing, or makes it: none is unknown."""
    asked = 0
    for name, call in inspect.getmembers(client, inspect.ismethod):
        kind = inspect.signature(call).parameters.get("request")
        if name.startswith("_") or kind is None:
            continue
        request = kind.annotation()
        needed = {"bucket": "not-there", "index_name": "nothing", "body": "{}", "schema_configuration": {"fields": []}}
        for field in needed.keys() & request._attribute_map.keys():
            setattr(request, field, needed[field])
        asked += 1
        try:
            call(request)
        except oss.exceptions.OperationError as error:
            answer = error.unwrap()
            assert isinstance(answer, oss.exceptions.ServiceError), f"{name}: {answer}"
            assert answer.code != "MethodNotAllowed" and answer.status_code in (400, 404), f"{name}: {answer}"
    assert asked == 21
