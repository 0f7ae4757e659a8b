"""Answers in a form: the client's own parsing has to succeed, whatever the model would rather say."""

import json
import re

import pytest

CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "inhabitants": {"type": "integer", "minimum": 0, "maximum": 99_999_999},
        "kind": {"enum": ["port", "capital", "village"]},
    },
    "required": ["name", "inhabitants", "kind"],
    "additionalProperties": False,
}


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}}


def check(city):
    assert set(city) == set(CITY["required"])
    assert len(city["name"]) <= 20 and 0 <= city["inhabitants"] <= 99_999_999
    assert city["kind"] in CITY["properties"]["kind"]["enum"]


@pytest.mark.parametrize("temperature", [0, 1])
def test_schema(ask, temperature):
    answer = ask("Tell me of a city.", response_format=schema_format(CITY), max_tokens=400, temperature=temperature,
                 seed=7)
    assert answer.choices[0].finish_reason == "stop"
    check(json.loads(answer.choices[0].message.content))


def test_schema_streamed(ask):
    chunks = list(ask("Tell me of a city.", response_format=schema_format(CITY), max_tokens=400, stream=True))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len(pieces) > 3
    check(json.loads("".join(pieces)))


def test_json_object(ask):
    answer = ask("Say something in JSON.", response_format={"type": "json_object"}, max_tokens=300)
    content = answer.choices[0].message.content
    # Where the model does not find an end it is cut, which is said.
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(content), dict)
    assert content.lstrip().startswith("{")


@pytest.mark.parametrize("field", [{"guided_regex": "[0-9]{3}-[a-f]{4}"},
                                   {"structured_outputs": {"regex": "[0-9]{3}-[a-f]{4}"}}])
def test_regular_expression(ask, field):
    answer = ask("A number?", extra_body=field, max_tokens=64)
    assert re.fullmatch("[0-9]{3}-[a-f]{4}", answer.choices[0].message.content)


def test_grammar(ask):
    answer = ask("Yes or no?", extra_body={"guided_grammar": 'start: "perhaps" | "certainly"'}, max_tokens=32)
    assert answer.choices[0].message.content in ("perhaps", "certainly")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "rate"}}])
def test_forced_call(ask, choice):
    parameters = {"type": "object", "properties": {"stars": {"type": "integer", "minimum": 1, "maximum": 5}},
                  "required": ["stars"], "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "rate", "strict": True, "parameters": parameters}}
    answer = ask("Good morning.", tools=[tool], tool_choice=choice, parallel_tool_calls=False, max_tokens=200)
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "rate" and 1 <= json.loads(call.function.arguments)["stars"] <= 5


def test_what_cannot_be_held_is_refused(ask):
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        ask("Hi", response_format=schema_format({"type": "no such type"}))
    assert "no such type" in str(refused.value)
