"""Chat completions through the official client."""

import json
import math
import time

import pytest

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather at a place.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_models(client, model):
    listed = client.models.list().data
    assert model in [one.id for one in listed]
    assert all(one.object == "model" and one.created > 0 and one.owned_by for one in listed)
    assert client.models.retrieve(model).id == model


def test_answer(ask, model):
    answer = ask()
    assert answer.object == "chat.completion" and answer.id and answer.model == model
    assert abs(answer.created - time.time()) < 60
    (choice,) = answer.choices
    assert choice.index == 0 and choice.message.role == "assistant"
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 16
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_max_tokens(ask):
    answer = ask(max_tokens=1)
    assert answer.usage.completion_tokens == 1
    answer = ask(max_tokens=None, max_completion_tokens=2)
    assert answer.usage.completion_tokens <= 2


def test_streaming_says_the_same(ask):
    whole = ask()
    chunks = list(ask(stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text_of(chunks) == (whole.choices[0].message.content or "")
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason and not any(reasons[:-1])
    assert all(chunk.usage is None for chunk in chunks)


def test_include_usage(ask):
    whole = ask()
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_stream_ends_with_done(server, model):
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "stream": True}
    status, raw = server.request("POST", "/v1/chat/completions", json.dumps(body))
    assert status == 200
    events = [event for event in raw.decode().split("\n\n") if event and not event.startswith(":")]
    assert events[-1] == "data: [DONE]"
    assert all(json.loads(event.removeprefix("data: ")) for event in events[:-1])


def test_several_messages_and_roles(ask):
    messages = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": " there"}]},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "And now?", "name": "ann"},
    ]
    assert ask(messages=messages).usage.prompt_tokens > ask(messages=messages[-1:]).usage.prompt_tokens


def test_control_tokens_in_a_message_are_text(ask):
    plain = ask("a b").usage.prompt_tokens
    spelled = ask("a <|im_end|> b").usage.prompt_tokens
    assert spelled > plain + 2, "the letters of <|im_end|> are several tokens"


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_tools_are_accepted(ask, choice):
    answer = ask("What is the weather in Paris?", tools=[WEATHER], tool_choice=choice, max_tokens=64)
    message = answer.choices[0].message
    if choice == "none":
        assert not message.tool_calls
    for call in message.tool_calls or []:
        assert call.type == "function" and call.id and call.function.name
        assert isinstance(json.loads(call.function.arguments), dict)


def test_streamed_tool_calls_say_the_same(ask):
    settings = {"tools": [WEATHER], "max_tokens": 64}
    whole = ask("What is the weather in Paris?", **settings).choices[0]
    calls = {}
    reason = None
    for chunk in ask("What is the weather in Paris?", stream=True, **settings):
        for delta in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(delta.index, {"name": "", "arguments": ""})
            call["name"] += delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
        reason = chunk.choices[0].finish_reason or reason
    expected = [(call.function.name, call.function.arguments) for call in whole.message.tool_calls or []]
    assert [(call["name"], call["arguments"]) for _, call in sorted(calls.items())] == expected
    assert reason == whole.finish_reason
    assert (reason == "tool_calls") == bool(calls)


def test_tool_loop(ask):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    messages = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees, sunny"},
    ]
    answer = ask(messages=messages, tools=[WEATHER])
    assert answer.usage.prompt_tokens > ask(messages=messages[:1], tools=[WEATHER]).usage.prompt_tokens


def test_logprobs(ask):
    answer = ask(logprobs=True, top_logprobs=3, max_tokens=4)
    tokens = answer.choices[0].logprobs.content
    assert 0 < len(tokens) <= 4
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        best = [one.logprob for one in token.top_logprobs]
        assert best == sorted(best, reverse=True)
        assert math.isclose(token.logprob, best[0], abs_tol=1e-4), "temperature 0 takes the best"
        assert token.bytes is not None


def test_streamed_logprobs(ask):
    chunks = ask(logprobs=True, top_logprobs=1, max_tokens=4, stream=True)
    logprobs = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices]
    tokens = [token for piece in logprobs if piece for token in piece.content]
    whole = ask(logprobs=True, top_logprobs=1, max_tokens=4).choices[0].logprobs.content
    assert [token.token for token in tokens] == [token.token for token in whole]


def test_stop_strings(ask):
    text = ask(max_tokens=32).choices[0].message.content or ""
    if len(text) < 4:
        pytest.skip("the answer is too short to stop in")
    stop = text[2:4]
    answer = ask(max_tokens=32, stop=[stop, "never in there"])
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    assert text_of(ask(max_tokens=32, stop=stop, stream=True)) == text[: text.index(stop)]


def test_a_seed_repeats(ask):
    settings = {"temperature": 1.5, "seed": 7, "max_tokens": 24}
    first, again = (ask(**settings).choices[0].message.content for _ in range(2))
    assert first == again
    others = {ask(**{**settings, "seed": seed}).choices[0].message.content for seed in range(8, 14)}
    assert others - {first}, "six other seeds all say the same"


def test_choices(ask):
    answer = ask(n=3, temperature=1.0, seed=1, max_tokens=4)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_a_cancelled_stream_frees_its_slot(ask):
    for _ in range(20):
        stream = ask(stream=True, max_tokens=2000, temperature=1.0, extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
    start = time.monotonic()
    assert ask(max_tokens=4).choices
    assert time.monotonic() - start < 20, "twenty abandoned answers still run"
