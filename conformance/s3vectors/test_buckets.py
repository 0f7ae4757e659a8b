"""Vector buckets and indexes: every operation, every limit, every error."""

import datetime
import json

import pytest


def test_a_bucket_from_its_beginning_to_its_end(s3, refused):
    arn = s3.create_vector_bucket(vectorBucketName="from-the-beginning", tags={"team": "search"})["vectorBucketArn"]
    assert arn == "arn:aws:s3vectors:us-east-1:000000000000:bucket/from-the-beginning"
    for name in ({"vectorBucketName": "from-the-beginning"}, {"vectorBucketArn": arn}):
        found = s3.get_vector_bucket(**name)["vectorBucket"]
        assert (found["vectorBucketName"], found["vectorBucketArn"]) == ("from-the-beginning", arn)
        age = datetime.datetime.now(datetime.timezone.utc) - found["creationTime"]
        assert abs(age.total_seconds()) < 60 and found["defaultIndexMode"] == "ENHANCED"
    message = "A vector bucket with the specified name already exists"
    refused("ConflictException", message, s3.create_vector_bucket, vectorBucketName="from-the-beginning")
    s3.delete_vector_bucket(vectorBucketArn=arn)
    for call in (s3.get_vector_bucket, s3.delete_vector_bucket, s3.list_indexes, s3.get_vector_bucket_policy):
        error = refused("NotFoundException", "The specified vector bucket could not be found", call, vectorBucketArn=arn)
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 404
    s3.create_vector_bucket(vectorBucketName="from-the-beginning")
    s3.delete_vector_bucket(vectorBucketName="from-the-beginning")


def test_buckets_are_listed_in_pages(s3):
    names = [f"listed-{number}" for number in range(5)]
    for name in reversed(names):
        s3.create_vector_bucket(vectorBucketName=name)
    pages = list(s3.get_paginator("list_vector_buckets").paginate(prefix="listed-", PaginationConfig={"PageSize": 2}))
    assert [len(page["vectorBuckets"]) for page in pages] == [2, 2, 1]
    assert [bucket["vectorBucketName"] for page in pages for bucket in page["vectorBuckets"]] == names
    assert s3.list_vector_buckets(prefix="listed-", maxResults=500).get("nextToken") is None
    assert s3.list_vector_buckets(prefix="not-listed")["vectorBuckets"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"vectorBucketName": "ab"}, "length 2 at '/vectorBucketName'"),
        ({"vectorBucketName": "a" * 64}, "length between 3 and 63, inclusive"),
        ({"vectorBucketName": "Capital"}, "Invalid vector bucket name"),
        ({"vectorBucketName": "-ab"}, "Invalid vector bucket name"),
        ({"vectorBucketName": "abc", "encryptionConfiguration": {"sseType": "other"}}, "AES256, aws:kms"),
        ({"vectorBucketName": "abc", "encryptionConfiguration": {"sseType": "aws:kms"}}, "aws:kms is not supported"),
        ({"vectorBucketName": "abc", "tags": {"k" * 129: "v"}}, "length 129"),
        ({"vectorBucketName": "abc", "tags": {"k": "v" * 257}}, "length 257"),
        ({"vectorBucketName": "abc", "tags": {str(number): "v" for number in range(51)}}, "51 tags"),
        ({"vectorBucketName": "abc", "tags": {"aws:k": "v"}}, "reserved"),
        ({"vectorBucketName": "abc", "tags": {"k": "a<b"}}, "character"),
    ],
)
def test_buckets_that_may_not_be(s3, refused, arguments, words):
    error = refused("ValidationException", words, s3.create_vector_bucket, **arguments)
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400 and error["fieldList"][0]["path"].startswith("/")


def test_buckets_are_named_in_one_way(s3, refused, bucket):
    arn = f"arn:aws:s3vectors:us-east-1:000000000000:bucket/{bucket}"
    refused("ValidationException", "but not both", s3.get_vector_bucket)
    refused("ValidationException", "but not both", s3.get_vector_bucket, vectorBucketName=bucket, vectorBucketArn=arn)
    refused("ValidationException", "Invalid ARN", s3.get_vector_bucket, vectorBucketArn="arn:aws:s3:::films")
    other = arn.replace("us-east-1", "eu-west-1")
    refused("NotFoundException", "vector bucket", s3.get_vector_bucket, vectorBucketArn=other)
    refused("ValidationException", "/maxResults", s3.list_vector_buckets, maxResults=501)
    refused("ValidationException", "/maxResults", s3.list_vector_buckets, maxResults=0)
    refused("ValidationException", "nextToken", s3.list_vector_buckets, nextToken="!")


def test_encryption_is_kept(s3):
    wanted = {"sseType": "AES256"}
    s3.create_vector_bucket(vectorBucketName="encrypted", encryptionConfiguration=wanted)
    assert s3.get_vector_bucket(vectorBucketName="encrypted")["vectorBucket"]["encryptionConfiguration"] == wanted
    arguments = {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
    s3.create_index(vectorBucketName="encrypted", indexName="films", **arguments)
    found = s3.get_index(vectorBucketName="encrypted", indexName="films")["index"]
    assert found["encryptionConfiguration"] == wanted


def test_an_index_from_its_beginning_to_its_end(s3, bucket, refused):
    wanted = {"dataType": "float32", "dimension": 4096, "distanceMetric": "cosine"}
    keys = {"nonFilterableMetadataKeys": [f"key{number}" for number in range(10)]}
    made = s3.create_index(vectorBucketName=bucket, indexName="films", metadataConfiguration=keys, **wanted)
    arn = made["indexArn"]
    assert arn == f"arn:aws:s3vectors:us-east-1:000000000000:bucket/{bucket}/index/films"
    for name in ({"vectorBucketName": bucket, "indexName": "films"}, {"indexArn": arn}):
        found = s3.get_index(**name)["index"]
        assert {key: found[key] for key in wanted} == wanted and found["metadataConfiguration"] == keys
        assert found["indexMode"] == "ENHANCED" and found["indexArn"] == arn
    again = {"vectorBucketName": bucket, "indexName": "films", **wanted}
    message = "An index with the specified name already exists"
    assert refused("ConflictException", message, s3.create_index, **again)["ResponseMetadata"]["HTTPStatusCode"] == 409
    refused("ConflictException", "is not empty", s3.delete_vector_bucket, vectorBucketName=bucket)
    s3.delete_index(indexArn=arn)
    for call in (s3.get_index, s3.delete_index, s3.list_vectors):
        refused("NotFoundException", "The specified index could not be found", call, indexArn=arn)
    missing = {"vectorBucketName": "no-such-bucket", "indexName": "films"}
    refused("NotFoundException", "The specified vector bucket could not be found", s3.get_index, **missing)
    s3.delete_vector_bucket(vectorBucketName=bucket)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dimension": 0}, "between 1 and 4096"),
        ({"dimension": 4097}, "between 1 and 4096"),
        ({"dataType": "float16"}, "[float32]"),
        ({"distanceMetric": "dot"}, "[euclidean, cosine]"),
        ({"indexName": "ab"}, "length 2 at '/indexName'"),
        ({"indexName": "Capital"}, "Invalid index name"),
        ({"metadataConfiguration": {"nonFilterableMetadataKeys": [str(n) for n in range(11)]}}, "length 11"),
        ({"metadataConfiguration": {"nonFilterableMetadataKeys": ["k" * 64]}}, "length 64"),
        ({"metadataConfiguration": {"nonFilterableMetadataKeys": ["a", "a"]}}, "twice"),
        ({"metadataConfiguration": {"textSearchConfigurations": [{"metadataKey": "a", "language": "xx"}]}}, "enum value"),
        ({"metadataConfiguration": {"textSearchConfigurations": [{"metadataKey": "a"}] * 2}}, "twice"),
        ({"metadataConfiguration": {"textSearchConfigurations": [{"language": "en"}]}}, "metadataKey"),
    ],
)
def test_indexes_that_may_not_be(s3, bucket, refused, arguments, words):
    good = {"indexName": "films", "dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
    refused("ValidationException", words, s3.create_index, vectorBucketName=bucket, **{**good, **arguments})


def test_indexes_are_listed_in_pages(s3, bucket):
    for name in ("b-two", "b-one", "a-one", "c-one"):
        s3.create_index(
            vectorBucketName=bucket, indexName=name, dataType="float32", dimension=2, distanceMetric="cosine"
        )
    paginator = s3.get_paginator("list_indexes")
    pages = list(paginator.paginate(vectorBucketName=bucket, PaginationConfig={"PageSize": 3}))
    assert [index["indexName"] for page in pages for index in page["indexes"]] == ["a-one", "b-one", "b-two", "c-one"]
    assert len(pages) == 2
    found = s3.list_indexes(vectorBucketName=bucket, prefix="b-")["indexes"]
    assert [index["indexName"] for index in found] == ["b-one", "b-two"]


def test_tags(s3, index, refused):
    bucket = f"arn:aws:s3vectors:us-east-1:000000000000:bucket/{index['vectorBucketName']}"
    for arn in (bucket, f"{bucket}/index/films"):
        assert s3.list_tags_for_resource(resourceArn=arn)["tags"] == {}
        s3.tag_resource(resourceArn=arn, tags={"team": "search", "a b": "c/d"})
        s3.tag_resource(resourceArn=arn, tags={"team": "films"})
        assert s3.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "films", "a b": "c/d"}
        s3.untag_resource(resourceArn=arn, tagKeys=["a b", "unknown"])
        assert s3.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "films"}
        many = {str(number): "v" for number in range(50)}
        refused("ValidationException", "51 tags", s3.tag_resource, resourceArn=arn, tags=many)
    refused("NotFoundException", "index", s3.list_tags_for_resource, resourceArn=f"{bucket}/index/other")
    refused("ValidationException", "Invalid ARN", s3.list_tags_for_resource, resourceArn="arn:aws:s3:::a")


def test_modes(s3, index, refused):
    bucket = index["vectorBucketName"]
    s3.put_vector_bucket_default_index_mode(vectorBucketName=bucket, defaultIndexMode="ENHANCED")
    put = s3.put_vector_bucket_default_index_mode
    refused("ValidationException", "CLASSIC", put, vectorBucketName=bucket, defaultIndexMode="CLASSIC")
    refused("ValidationException", "enum value set", put, vectorBucketName=bucket, defaultIndexMode="OTHER")
    s3.update_index_mode(**index, indexMode="ENHANCED")
    refused("ValidationException", "CLASSIC", s3.update_index_mode, **index, indexMode="CLASSIC")


def statement(effect, action, resource, principal="*"):
    return {"Effect": effect, "Principal": principal, "Action": action, "Resource": resource}


def test_policies_are_enforced(s3, index, refused):
    bucket = index["vectorBucketName"]
    get = s3.get_vector_bucket_policy
    refused("NotFoundException", "vector bucket policy could not be found", get, vectorBucketName=bucket)
    user = {"AWS": "arn:aws:iam::000000000000:user/local"}
    denied = [statement("Deny", ["s3vectors:PutVectors", "s3vectors:Get*"], "*", user)]
    text = json.dumps({"Version": "2012-10-17", "Statement": denied})
    s3.put_vector_bucket_policy(vectorBucketName=bucket, policy=text)
    vectors = [{"key": "a", "data": {"float32": [1, 2]}}]
    error = refused("AccessDeniedException", "s3vectors:PutVectors", s3.put_vectors, **index, vectors=vectors)
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 403
    refused("AccessDeniedException", "s3vectors:GetVectors", s3.get_vectors, **index, keys=["a"])
    refused("AccessDeniedException", "s3vectors:GetVectorBucket", s3.get_vector_bucket, vectorBucketName=bucket)
    query = {"topK": 1, "queryVector": {"float32": [1, 2]}}
    assert s3.query_vectors(**index, **query)["vectors"] == []
    refused("AccessDeniedException", "GetVectors", s3.query_vectors, **index, **query, returnMetadata=True)
    refused("AccessDeniedException", "GetVectors", s3.query_vectors, **index, **query, filter={"a": 1})
    assert s3.list_vectors(**index)["vectors"] == []
    refused("AccessDeniedException", "GetVectors", s3.list_vectors, **index, returnData=True)
    s3.delete_vector_bucket_policy(vectorBucketName=bucket)
    s3.put_vectors(**index, vectors=vectors)

    other = [statement("Deny", "*", f"arn:aws:s3vectors:us-east-1:000000000000:bucket/{bucket}/index/other")]
    text = json.dumps({"Statement": other})
    s3.put_vector_bucket_policy(vectorBucketName=bucket, policy=text)
    assert s3.get_vector_bucket_policy(vectorBucketName=bucket)["policy"] == text
    assert len(s3.get_vectors(**index, keys=["a"])["vectors"]) == 1


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("no json", "no JSON object"),
        (json.dumps({"Statement": []}), "Statement"),
        (json.dumps({"Statement": [{**statement("Allow", "*", "*"), "Condition": {}}]}), "Condition"),
        (json.dumps({"Statement": [statement("Perhaps", "*", "*")]}), "Effect"),
        (json.dumps({"Statement": [statement("Allow", "*", "*")], "Id": "x" * 21000}), "20480 allowed"),
    ],
)
def test_policies_that_cannot_be_enforced(s3, bucket, refused, policy, words):
    refused("ValidationException", words, s3.put_vector_bucket_policy, vectorBucketName=bucket, policy=policy)
