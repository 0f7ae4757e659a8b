"""Files and batches through the official client."""

import io
import json
import time

import openai
import pytest

OVER = ("completed", "failed", "expired", "cancelled")


def upload(client, lines, name="in.jsonl"):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return client.files.create(file=(name, text.encode()), purpose="batch")


def line_of(custom_id, url, body):
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def wait(client, batch):
    deadline = time.monotonic() + 60
    while (batch := client.batches.retrieve(batch.id)).status not in OVER:
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
    return batch


def run(client, endpoint, lines):
    made = client.batches.create(
        input_file_id=upload(client, lines).id, endpoint=endpoint, completion_window="24h", metadata={"of": "a test"}
    )
    assert made.object == "batch" and made.metadata == {"of": "a test"}
    return wait(client, made)


def lines_of(client, file):
    return [json.loads(line) for line in client.files.content(file).text.splitlines()]


def test_files(client):
    made = client.files.create(file=io.BytesIO(b"a\nb\n"), purpose="user_data", expires_after={
        "anchor": "created_at", "seconds": 3600,
    })
    assert made.bytes == 4 and made.expires_at == made.created_at + 3600
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).content == b"a\nb\n"
    assert made.id in [file.id for file in client.files.list(purpose="user_data")]
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}, "chat.completion"),
        ("/v1/completions", {"prompt": "Once", "max_tokens": 8}, "text_completion"),
        ("/v1/responses", {"input": "Hi", "max_output_tokens": 8}, "response"),
    ],
)
def test_batches(client, model, endpoint, body, kind):
    lines = [line_of(f"r{index}", endpoint, {"model": model, **body}) for index in range(12)]
    lines.append(line_of("wrong", endpoint, {**body, "model": "no such model"}))
    batch = run(client, endpoint, lines)
    assert batch.status == "completed" and batch.errors is None
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (13, 12, 1)
    good = lines_of(client, batch.output_file_id)
    assert sorted(line["custom_id"] for line in good) == sorted(f"r{index}" for index in range(12))
    assert all(line["response"]["body"]["object"] == kind and line["error"] is None for line in good)
    (bad,) = lines_of(client, batch.error_file_id)
    assert bad["custom_id"] == "wrong" and bad["response"]["status_code"] == 404
    assert batch.id in [other.id for other in client.batches.list(limit=2)]


def test_an_input_that_is_wrong(client, model):
    line = line_of("a", "/v1/completions", {"model": model, "prompt": "Hi"})
    batch = run(client, "/v1/completions", [line, line])
    assert batch.status == "failed" and batch.errors.data[0].code == "duplicate_custom_id"
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(input_file_id=batch.input_file_id, endpoint="/v1/images", completion_window="24h")
    assert caught.value.param == "endpoint"


def test_cancelling(client, model):
    body = {"model": model, "prompt": "Once", "max_tokens": 1000, "ignore_eos": True}
    lines = [line_of(f"r{index}", "/v1/completions", body) for index in range(200)]
    made = client.batches.create(
        input_file_id=upload(client, lines).id, endpoint="/v1/completions", completion_window="24h"
    )
    assert client.batches.cancel(made.id).status in ("cancelling", "cancelled")
    batch = wait(client, made)
    assert batch.status == "cancelled" and batch.cancelled_at
