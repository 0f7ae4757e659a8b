"""Alibaba Cloud's official client, `dashscope`, with its base URL changed."""

import json

import dashscope
import pytest
from dashscope import Generation

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather at a place.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTION = [{"role": "user", "content": "Hello, who are you?"}]


@pytest.fixture(scope="session")
def name(server):
    dashscope.base_http_api_url = server.url + "/api/v1"
    return json.loads(server.request("GET", "/v1/models")[1])["data"][0]["id"]


@pytest.fixture
def ask(name):
    def ask(**settings):
        request = {"model": name, "messages": QUESTION, "api_key": "none", "max_tokens": 16, "temperature": 0.0}
        return Generation.call(**{**request, "result_format": "message", **settings})

    return ask


def test_message(ask):
    answer = ask()
    assert answer.status_code == 200 and answer.request_id
    choice = answer.output.choices[0]
    assert choice.finish_reason in ("stop", "length") and choice.message.role == "assistant"
    assert answer.usage.input_tokens > 0 and 0 < answer.usage.output_tokens <= 16


def test_text(ask, name):
    answer = ask(result_format="text")
    assert answer.output.text == ask().output.choices[0].message.content
    assert Generation.call(model=name, prompt="Hi", api_key="none", max_tokens=4).output.finish_reason


@pytest.mark.parametrize("result_format", ["text", "message"])
@pytest.mark.parametrize("incremental", [True, False])
def test_streaming_says_the_same(ask, incremental, result_format):
    def said(output):
        return output.text if result_format == "text" else output.choices[0].message.content

    whole = said(ask(result_format=result_format).output)
    pieces = list(ask(result_format=result_format, stream=True, incremental_output=incremental))
    assert all(piece.status_code == 200 for piece in pieces)
    texts = [said(piece.output) for piece in pieces]
    assert ("".join(texts) if incremental else texts[-1]) == whole
    assert pieces[-1].usage.output_tokens > 0


def test_tools(ask):
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = ask(messages=messages, tools=[WEATHER], max_tokens=64)
    for call in answer.output.choices[0].message.get("tool_calls", []):
        assert call["function"]["name"] and isinstance(json.loads(call["function"]["arguments"]), dict)
    pieces = list(ask(messages=messages, tools=[WEATHER], max_tokens=64, stream=True, incremental_output=True))
    assert pieces[-1].output.choices[0].finish_reason == answer.output.choices[0].finish_reason


@pytest.mark.parametrize("thinking", [True, False])
def test_thinking(ask, thinking):
    assert ask(enable_thinking=thinking).status_code == 200


def test_refusals(ask):
    unknown = ask(model="no-such-model")
    assert (unknown.status_code, unknown.code) == (404, "ModelNotFound") and "no-such-model" in unknown.message
    wrong = ask(thinking_budget=-5)
    assert (wrong.status_code, wrong.code) == (400, "InvalidParameter") and "thinking_budget" in wrong.message
    streamed = list(ask(max_tokens=0, stream=True))
    assert streamed[-1].status_code == 400 and "max_tokens" in streamed[-1].message
    long = ask(messages=[{"role": "user", "content": "word " * 1_000_000}])
    assert long.status_code == 400 and "tokens" in long.message
