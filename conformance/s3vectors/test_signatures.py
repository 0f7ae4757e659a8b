"""Signatures that do not count, and servers that ask for none."""

import datetime
import json
import pathlib

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
import urllib3

BODY = b'{"maxResults": 5}'


def signed_headers(signed, pair, **changes):
    """The headers of a signed ListVectorBuckets; `changes` are its access key, secret, service and clock."""
    wanted = {"access_key": pair["access_key"], "secret": pair["secret"], "service": "s3vectors", "skew_s": 0, **changes}
    headers = {"Content-Type": "application/json"}
    request = botocore.awsrequest.AWSRequest("POST", signed.url + "/ListVectorBuckets", data=BODY, headers=headers)
    credentials = botocore.credentials.Credentials(wanted["access_key"], wanted["secret"])
    auth = botocore.auth.SigV4Auth(credentials, wanted["service"], "us-east-1")
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=wanted["skew_s"])
    request.context["timestamp"] = now.strftime(botocore.auth.SIGV4_TIMESTAMP)
    auth._modify_request_before_signing(request)
    del request.headers["X-Amz-Date"]
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    text = auth.string_to_sign(request, auth.canonical_request(request))
    auth._inject_signature_to_request(request, auth.signature(text, request))
    return dict(request.headers)


def post(signed, headers, body=BODY, path="/ListVectorBuckets"):
    answer = urllib3.request("POST", signed.url + path, body=body, headers=headers)
    return answer.status, answer.headers.get("x-amzn-errortype")


def test_a_good_signature(signed, pair):
    assert post(signed, signed_headers(signed, pair)) == (200, None)
    for skew_s in (-14 * 60, 14 * 60):
        assert post(signed, signed_headers(signed, pair, skew_s=skew_s)) == (200, None)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"secret": "wrong"}, 403, "InvalidSignatureException"),
        ({"access_key": "AKIDNOBODY"}, 403, "UnrecognizedClientException"),
        ({"skew_s": -16 * 60}, 403, "InvalidSignatureException"),
        ({"skew_s": 16 * 60}, 403, "InvalidSignatureException"),
        ({"service": "s3"}, 400, "IncompleteSignatureException"),
    ],
)
def test_signatures_that_do_not_count(signed, pair, changes, status, code):
    assert post(signed, signed_headers(signed, pair, **changes)) == (status, code)


def test_replays_of_something_else(signed, pair):
    headers = signed_headers(signed, pair)
    mismatch = (403, "InvalidSignatureException")
    assert post(signed, headers, body=b'{"maxResults": 6}') == mismatch
    assert post(signed, headers, path="/ListVectorBuckets?a=1") == mismatch
    assert post(signed, {**headers, "Content-Type": "text/plain"}) == mismatch
    later = headers["X-Amz-Date"][:-2] + str((int(headers["X-Amz-Date"][-2]) + 1) % 10) + "Z"
    assert post(signed, {**headers, "X-Amz-Date": later}) == mismatch
    assert post(signed, {**headers, "X-Amz-Target": "other"}) == (400, "IncompleteSignatureException")
    assert post(signed, {**headers, "X-Amz-Content-Sha256": "0" * 64})[0] in (400, 403)
    cut = headers["Authorization"].rsplit(",", 1)[0]
    assert post(signed, {**headers, "Authorization": cut}) == (400, "IncompleteSignatureException")


def test_no_signature(signed, pair):
    headers = signed_headers(signed, pair)
    del headers["Authorization"]
    assert post(signed, headers) == (403, "MissingAuthenticationTokenException")


def test_presigned_requests(signed, pair, client_of):
    arn = "arn:aws:s3vectors:us-east-1:000000000000:bucket/presigned"
    client = client_of(signed.url, pair["access_key"], pair["secret"])
    client.create_vector_bucket(vectorBucketName="presigned", tags={"a": "b"})
    url = client.generate_presigned_url("list_tags_for_resource", Params={"resourceArn": arn}, ExpiresIn=60)
    answer = urllib3.request("GET", url)
    assert (answer.status, answer.json()) == (200, {"tags": {"a": "b"}})
    assert urllib3.request("GET", url.replace("presigned", "presignee")).status == 403
    assert urllib3.request("GET", url.replace("Expires=60", "Expires=90")).status == 403
    assert urllib3.request("GET", url.replace("Expires=60", "Expires=0")).status == 400


def test_any_region_may_be_signed_for(signed, pair, client_of):
    client = client_of(signed.url, pair["access_key"], pair["secret"], region="eu-central-1")
    assert "vectorBuckets" in client.list_vector_buckets()


def test_an_open_server_asks_nobody_but_believes_no_forgery(server, client_of):
    stranger = client_of(server.url, "anybody", "anything")
    stranger.create_vector_bucket(vectorBucketName="open-to-all")
    assert post(server, {"Content-Type": "application/json"}) == (200, None)
    own = {"access_key": json_pair(server)["access_key"], "secret": "wrong"}
    assert post(server, signed_headers(server, own)) == (403, "InvalidSignatureException")


def json_pair(server):
    path = pathlib.Path(server.data.name) / "vectors" / "access-key.json"
    assert path.stat().st_mode & 0o777 == 0o600
    return json.loads(path.read_text())
