"""Ollama's official client."""

import json

import ollama
import pytest

GREEDY = {"temperature": 0, "num_predict": 16}
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
def llama(server):
    return ollama.Client(host=server.url, timeout=120)


@pytest.fixture(scope="session")
def name(llama):
    return llama.list().models[0].model


def test_models(llama, name):
    (one,) = [model for model in llama.list().models if model.model == name]
    assert one.size > 0 and one.details.family and one.modified_at
    shown = llama.show(name)
    assert "completion" in shown.capabilities and shown.modelinfo["general.parameter_count"] > 0
    assert name in [model.model for model in llama.ps().models]


def test_chat(llama, name):
    answer = llama.chat(name, QUESTION, options=GREEDY)
    assert answer.done and answer.done_reason in ("stop", "length") and answer.message.role == "assistant"
    assert answer.prompt_eval_count > 0 and 0 < answer.eval_count <= 16
    assert answer.total_duration >= answer.eval_duration > 0


def test_streaming_says_the_same(llama, name):
    whole = llama.chat(name, QUESTION, options=GREEDY)
    pieces = list(llama.chat(name, QUESTION, options=GREEDY, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert pieces[-1].done and not any(piece.done for piece in pieces[:-1])
    assert pieces[-1].eval_count == whole.eval_count


def test_generate(llama, name):
    whole = llama.generate(name, "Hello, who are you?", options=GREEDY)
    assert whole.response == llama.chat(name, QUESTION, options=GREEDY).message.content
    pieces = llama.generate(name, "Hello, who are you?", options=GREEDY, stream=True)
    assert "".join(piece.response for piece in pieces) == whole.response
    assert llama.generate(name, "Once upon a time", raw=True, options=GREEDY).done


def test_tools(llama, name):
    options = {**GREEDY, "num_predict": 64}
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = llama.chat(name, messages, tools=[WEATHER], options=options)
    for call in answer.message.tool_calls or []:
        assert call.function.name and isinstance(call.function.arguments, dict)
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    messages += [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "21 degrees, sunny", "tool_name": "get_weather"},
    ]
    assert llama.chat(name, messages, tools=[WEATHER], options=options).done


@pytest.mark.parametrize("think", [True, False, "low"])
def test_thinking_is_accepted(llama, name, think):
    assert llama.chat(name, QUESTION, think=think, options=GREEDY).done


def test_latest_is_the_model(llama, name):
    assert llama.chat(name + ":latest", QUESTION, options=GREEDY).done
    assert llama.generate(name).done_reason == "load"


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        ({"model": "no-such-model"}, 404, "model 'no-such-model' not found"),
        ({"format": {"type": "no such type"}}, 400, "JSON schema"),
        ({"options": {"mirostat": 2}}, 400, "mirostat"),
        ({"options": {"num_predict": -7}}, 400, "num_predict"),
        ({"messages": [{"role": "user", "content": "word " * 1_000_000}]}, 400, "tokens"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_refused_by_name(llama, name, settings, status, words, stream):
    with pytest.raises(ollama.ResponseError) as caught:
        answer = llama.chat(**{"model": name, "messages": QUESTION, "stream": stream, **settings})
        list(answer)
    assert caught.value.status_code == status and words in caught.value.error


def test_a_model_that_talks_embeds_nothing(llama, name):
    with pytest.raises(ollama.ResponseError):
        llama.embed(name, "text")


def test_an_answer_in_the_form_of_a_schema(llama, name):
    schema = {"type": "object", "properties": {"mood": {"enum": ["calm", "merry"]}}, "required": ["mood"],
              "additionalProperties": False}
    answer = llama.chat(name, QUESTION, format=schema, options={"temperature": 0, "num_predict": 64})
    assert json.loads(answer.message.content)["mood"] in ("calm", "merry")
