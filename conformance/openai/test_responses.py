"""The Responses API through the official client."""

import json
import time

import openai
import pytest

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather at a place.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}


@pytest.fixture
def respond(client, model):
    def respond(text="Hello, who are you?", **settings):
        request = {"model": model, "input": text, "max_output_tokens": 24, "temperature": 0}
        return client.responses.create(**{**request, **settings})

    return respond


def test_a_response(respond):
    answer = respond()
    assert answer.object == "response" and answer.status in ("completed", "incomplete")
    assert answer.usage.input_tokens > 0 and 0 < answer.usage.output_tokens <= 24
    assert answer.output[-1].type in ("message", "function_call", "reasoning")


def test_streaming_says_the_same(client, respond):
    whole = respond()
    events = list(respond(stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text
    assert events[-1].type == f"response.{whole.status}"
    added = [event.item.id for event in events if event.type == "response.output_item.added"]
    assert added == [event.item.id for event in events if event.type == "response.output_item.done"]
    assert client.responses.retrieve(events[-1].response.id).output_text == text


def test_the_clients_own_stream_helper(client, model):
    with client.responses.stream(model=model, input="Hi", max_output_tokens=8, temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert isinstance(text, str)


def test_a_conversation(client, respond):
    first = respond()
    second = respond("And what can you do?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    items = list(client.responses.input_items.list(second.id, order="asc", limit=1))
    assert [item.type for item in items][0] == "message" and len(items) >= 3
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    assert client.responses.retrieve(second.id).id == second.id
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(respond(store=False).id)


def test_the_background(client, respond):
    queued = respond(background=True)
    assert queued.status in ("queued", "in_progress")
    deadline = time.monotonic() + 60
    while (now := client.responses.retrieve(queued.id)).status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert now.status in ("completed", "incomplete") and now.output_text == respond().output_text
    queued = respond("Tell me a long story.", background=True, max_output_tokens=4000, temperature=1.0)
    assert client.responses.cancel(queued.id).status in ("cancelled", "completed", "incomplete")


def test_tools(respond):
    answer = respond("What is the weather in Paris?", tools=[WEATHER], max_output_tokens=64)
    for call in answer.output:
        if call.type == "function_call":
            assert call.name and isinstance(json.loads(call.arguments), dict)
    turn = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "21 degrees, sunny"},
    ]
    assert respond(turn, tools=[WEATHER]).usage.input_tokens > 0


def test_tokens_are_counted(client, model, respond):
    counted = client.responses.input_tokens.count(model=model, input="Hello, who are you?")
    assert counted.input_tokens == respond().usage.input_tokens


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"background": True, "store": False}, "background"),
    ],
)
def test_refused_by_name(respond, settings, param):
    with pytest.raises(openai.BadRequestError) as caught:
        respond(**settings)
    assert caught.value.param == param
