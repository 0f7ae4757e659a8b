"""alibabacloud-oss-v2 with a bucket of its own for every test. The server asks for signatures.

The bucket stands in the host's name. Not every machine resolves `*.localhost`, so the server itself is the client's
proxy: it is asked for `http://BUCKET-ACCOUNT.localhost/` and answers.
"""

import itertools
import json
import pathlib

import alibabacloud_oss_v2 as oss
import alibabacloud_oss_v2.vectors as oss_vectors
import pytest

ACCOUNT = "000000000000"
NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def signed(start_server):
    """A server of its own that refuses what is not signed."""
    running = start_server("--vectors-signed")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def pair(signed):
    return json.loads((pathlib.Path(signed.data.name) / "vectors" / "access-key.json").read_text())


@pytest.fixture(scope="session")
def client_of():
    def client(server, access_key, secret, account=ACCOUNT, **settings):
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(access_key, secret)
        config.region = "cn-hangzhou"
        config.endpoint = "http://localhost"
        config.proxy_host = {"http": server.url}
        config.account_id = account
        config.retry_max_attempts = 1
        for name, value in settings.items():
            setattr(config, name, value)
        return oss_vectors.Client(config)

    return client


@pytest.fixture(scope="session")
def client(signed, pair, client_of):
    return client_of(signed, pair["access_key"], pair["secret"])


@pytest.fixture
def bucket(client):
    name = f"bucket-{next(NUMBERS)}"
    client.put_vector_bucket(oss_vectors.models.PutVectorBucketRequest(bucket=name))
    return name


@pytest.fixture
def index(client, bucket):
    """A two-dimensional index: its bucket and its name, as keyword arguments."""
    request = oss_vectors.models.PutVectorIndexRequest(
        bucket=bucket,
        index_name="films",
        data_type="float32",
        dimension=2,
        distance_metric="euclidean",
        metadata={"nonFilterableMetadataKeys": ["plot"]},
    )
    client.put_vector_index(request)
    return {"bucket": bucket, "index_name": "films"}


@pytest.fixture
def refused():
    """`refused(status, code, words, call, request)`: the call fails so, and its error is returned."""

    def check(status, code, words, call, request):
        with pytest.raises(oss.exceptions.OperationError) as caught:
            call(request)
        error = caught.value.unwrap()
        assert isinstance(error, oss.exceptions.ServiceError), error
        assert (error.status_code, error.code) == (status, code), error
        assert words in error.message and len(error.request_id) == 24, error
        return error

    return check
