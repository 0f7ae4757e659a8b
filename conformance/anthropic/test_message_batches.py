"""Message batches through the official client."""

import time

import anthropic
import pytest


def request(custom_id, model_id, **settings):
    params = {"model": model_id, "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}], **settings}
    return {"custom_id": custom_id, "params": params}


def wait(claude, batch):
    deadline = time.monotonic() + 60
    while (batch := claude.messages.batches.retrieve(batch.id)).processing_status != "ended":
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
    return batch


def test_a_batch(claude, model_id):
    requests = [request(f"r{index}", model_id) for index in range(8)] + [request("wrong", "no-such-model")]
    made = claude.messages.batches.create(requests=requests)
    assert made.processing_status == "in_progress" and made.request_counts.processing == 9
    ended = wait(claude, made)
    assert (ended.request_counts.succeeded, ended.request_counts.errored) == (8, 1)
    results = {result.custom_id: result.result for result in claude.messages.batches.results(made.id)}
    assert len(results) == 9 and results["wrong"].type == "errored"
    assert results["wrong"].error.error.type == "not_found_error"
    assert results["r0"].type == "succeeded" and results["r0"].message.usage.output_tokens > 0
    assert made.id in [batch.id for batch in claude.messages.batches.list(limit=2)]
    assert claude.messages.batches.delete(made.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.batches.retrieve(made.id)


def test_cancelling(claude, model_id):
    requests = [request(f"r{index}", model_id, max_tokens=2000) for index in range(200)]
    made = claude.messages.batches.create(requests=requests)
    assert claude.messages.batches.cancel(made.id).processing_status in ("canceling", "ended")
    ended = wait(claude, made)
    counts = ended.request_counts
    assert counts.succeeded + counts.errored + counts.canceled == 200 and ended.cancel_initiated_at


def test_refused(claude, model_id):
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.batches.create(requests=[])
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.batches.create(requests=[request("a", model_id), request("a", model_id)])
