"""boto3 with a bucket and an index of its own for every test. The server asks for signatures."""

import itertools
import json
import pathlib

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def signed(start_server):
    """A server of its own that refuses what is not signed."""
    running = start_server("--vectors-signed", "--filterable-bytes", "4096")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def pair(signed):
    return json.loads((pathlib.Path(signed.data.name) / "vectors" / "access-key.json").read_text())


@pytest.fixture(scope="session")
def client_of():
    def client(url, access_key, secret, region="us-east-1"):
        return boto3.client(
            "s3vectors",
            endpoint_url=url,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
            # The server must refuse by itself what the client would not send.
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
        )

    return client


@pytest.fixture(scope="session")
def s3(signed, pair, client_of):
    return client_of(signed.url, pair["access_key"], pair["secret"])


@pytest.fixture
def bucket(s3):
    name = f"bucket-{next(NUMBERS)}"
    s3.create_vector_bucket(vectorBucketName=name)
    return name


@pytest.fixture
def index(s3, bucket):
    """The names of a two-dimensional index, as keyword arguments."""
    s3.create_index(
        vectorBucketName=bucket,
        indexName="films",
        dataType="float32",
        dimension=2,
        distanceMetric="euclidean",
        metadataConfiguration={"nonFilterableMetadataKeys": ["plot"]},
    )
    return {"vectorBucketName": bucket, "indexName": "films"}


@pytest.fixture
def refused():
    """`refused(code, words, call, **arguments)`: the call fails so, and its error is returned."""

    def check(code, words, call, **arguments):
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        error = caught.value.response
        assert error["Error"]["Code"] == code, error
        assert words in error["Error"]["Message"], error
        assert len(error["ResponseMetadata"]["RequestId"]) == 24
        return error

    return check
