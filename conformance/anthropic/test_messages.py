"""Messages through Anthropic's official client."""

import json

import anthropic
import pytest

GREEDY = {"extra_body": {"temperature": 0}}
WEATHER = {
    "name": "get_weather",
    "description": "Weather at a place.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
REASONS = ("end_turn", "max_tokens", "stop_sequence", "tool_use")


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def test_models(claude, model_id):
    listed = list(claude.models.list())
    assert model_id in [one.id for one in listed]
    assert all(one.type == "model" and one.created_at and one.display_name for one in listed)
    assert claude.models.retrieve(model_id).id == model_id


def test_message(create, model_id):
    message = create()
    assert message.type == "message" and message.role == "assistant" and message.model == model_id
    assert message.id.startswith("msg_") and message.stop_reason in REASONS
    assert message.usage.input_tokens > 0 and 0 < message.usage.output_tokens <= 16
    assert message._request_id.startswith("req_")


def test_streaming_says_the_same(claude, create, model_id):
    whole = create(**GREEDY)
    messages = [{"role": "user", "content": "Hello, who are you?"}]
    with claude.messages.stream(model=model_id, max_tokens=16, messages=messages, **GREEDY) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert text_of(streamed) == text_of(whole)
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"


def test_raw_events_are_balanced(create):
    events = list(create(stream=True))
    starts = [event.index for event in events if event.type == "content_block_start"]
    stops = [event.index for event in events if event.type == "content_block_stop"]
    assert starts == stops == list(range(len(starts)))
    assert events[-2].type == "message_delta" and events[-2].delta.stop_reason in REASONS


def test_system(create):
    plain = create().usage
    blocks = [{"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}]
    for system in ("Be short.", blocks):
        usage = create(system=system).usage
        total = usage.input_tokens + (usage.cache_read_input_tokens or 0)
        assert total > plain.input_tokens + (plain.cache_read_input_tokens or 0)


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_tools(create, kind):
    message = create("What is the weather in Paris?", tools=[WEATHER], tool_choice={"type": kind}, max_tokens=64)
    calls = [block for block in message.content if block.type == "tool_use"]
    assert (message.stop_reason == "tool_use") == bool(calls)
    assert not (kind == "none" and calls)
    for call in calls:
        assert call.id and call.name and isinstance(call.input, dict)


def test_tool_loop(create):
    messages = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "21 degrees, sunny"}],
        },
    ]
    assert create(messages=messages, tools=[WEATHER], max_tokens=32).stop_reason in REASONS


def test_thinking_is_accepted(create):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    message = create(thinking=thinking, max_tokens=1100)
    assert all(block.type in ("thinking", "text") for block in message.content)


def test_stop_sequences(create):
    text = text_of(create(max_tokens=32, **GREEDY))
    if len(text) < 4 or not text[2:4].strip():
        pytest.skip("the answer is too short to stop in")
    message = create(max_tokens=32, stop_sequences=[text[2:4]], **GREEDY)
    assert text_of(message) == text[: text.index(text[2:4])]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", text[2:4])


def test_count_tokens(claude, create, model_id):
    messages = [{"role": "user", "content": "Hello, who are you?"}]
    counted = claude.messages.count_tokens(model=model_id, messages=messages).input_tokens
    usage = create().usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert claude.messages.count_tokens(model=model_id, messages=messages, tools=[WEATHER]).input_tokens > counted


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "prefill"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "document"),
        ({"extra_body": {"frobnicate": 1}}, "frobnicate: Extra inputs are not permitted"),
        ({"messages": [{"role": "user", "content": "word " * 1_000_000}]}, "prompt is too long"),
    ],
)
def test_refused_by_name(create, settings, words):
    with pytest.raises(anthropic.BadRequestError) as caught:
        create(**settings)
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert words in caught.value.body["error"]["message"]


def test_unknown_model(create):
    with pytest.raises(anthropic.NotFoundError) as caught:
        create(model="no-such-model")
    assert caught.value.body["error"]["type"] == "not_found_error"


def test_the_cloud_services_address(server, model_id):
    client = anthropic.Anthropic(base_url=server.url + "/apps/anthropic", api_key="none", max_retries=0)
    messages = [{"role": "user", "content": "Hi"}]
    assert client.messages.create(model=model_id, max_tokens=4, messages=messages).stop_reason in REASONS


def test_what_is_no_request(server):
    for body in (b"", b"[]", b"\xff"):
        status, answer = server.request("POST", "/v1/messages", body)
        assert status == 400 and json.loads(answer)["error"]["type"] == "invalid_request_error"
