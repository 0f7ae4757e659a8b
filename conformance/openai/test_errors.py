"""Requests that must be refused, with the name and the value of what is wrong."""

import json
import re

import openai
import pytest


def refused(ask, kind=openai.BadRequestError, **settings):
    with pytest.raises(kind) as caught:
        ask(**settings)
    body = caught.value.body
    assert set(body) >= {"message", "type", "param", "code"}
    return body


def test_unknown_model(ask):
    body = refused(ask, openai.NotFoundError, model="no-such-model")
    assert body["code"] == "model_not_found" and "no-such-model" in body["message"]


def test_prompt_longer_than_the_context(ask):
    body = refused(ask, text="word " * 1_000_000)
    assert body["code"] == "context_length_exceeded"
    numbers = [int(word.strip(",.")) for word in body["message"].split() if word.strip(",.").isdigit()]
    assert len(numbers) >= 2 and max(numbers) > 100_000, body["message"]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 100_000}, "n"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"top_logprobs": 1000, "logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"stop": [str(number) for number in range(10_000)]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "wizard"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"tool_choice": "maybe"}, "tool_choice"),
    ],
)
def test_refused_by_name(ask, settings, name):
    body = refused(ask, **settings)
    assert name == body["param"] or name in re.findall(r"\w+", body["message"]), body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"model": 7}',
        b"\xff\xfe",
        b'{"model": "m", "messages": [{"role": "user", "content": "\xff"}]}',
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_what_is_no_json_request(server, path, body):
    status, answer = server.request("POST", path, body)
    assert status == 400, answer
    assert json.loads(answer)["error"]["message"]


def test_deep_json(server):
    status, answer = server.request("POST", "/v1/chat/completions", b"[" * 100_000)
    assert status == 400 and json.loads(answer)["error"]["message"]


def test_unknown_routes_and_methods(server):
    assert server.request("GET", "/v1/no-such-thing")[0] == 404
    assert server.request("GET", "/v1/chat/completions")[0] == 405


def test_the_server_still_answers(server, ask):
    assert server.request("GET", "/healthz")[0] == 200
    assert ask().choices
