"""Plain completions through the official client."""

import openai
import pytest


@pytest.fixture
def complete(client, model):
    def complete(prompt="Once upon a time", **settings):
        request = {"model": model, "prompt": prompt, "max_tokens": 8, "temperature": 0}
        return client.completions.create(**{**request, **settings})

    return complete


def test_completion(complete):
    answer = complete()
    assert answer.object == "text_completion"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert 0 < answer.usage.completion_tokens <= 8


def test_streaming_says_the_same(complete):
    streamed = "".join(chunk.choices[0].text for chunk in complete(stream=True) if chunk.choices)
    assert streamed == complete().choices[0].text


def test_echo(complete):
    text = complete().choices[0].text
    assert complete(echo=True).choices[0].text == "Once upon a time" + text


def test_logprobs(complete):
    logprobs = complete(logprobs=2).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs)
    assert all(value <= 0 for value in logprobs.token_logprobs)


def test_several_prompts(complete):
    answer = complete(["Once", "Twice"])
    assert [choice.index for choice in answer.choices] == [0, 1]


def test_a_gap_is_filled(complete):
    answer = complete(prompt="def add(a, b):\n", suffix="\n\nprint(add(1, 2))")
    assert answer.choices[0].finish_reason in ("stop", "length")
    with pytest.raises(openai.BadRequestError) as caught:
        complete(suffix="the end", echo=True)
    assert "suffix" in caught.value.body["message"]
