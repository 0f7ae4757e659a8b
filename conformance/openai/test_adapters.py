"""Adapters are models by their names, and a second model that guesses ahead changes no answer."""

import pathlib

import openai
import pytest

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures"
BASE = f"big={FIXTURES / 'tiny/qwen3_dense'}"
ADAPTERS = ["--adapter", f"all=big@{FIXTURES / 'adapters/all'}", "--adapter", f"some=big@{FIXTURES / 'adapters/some'}"]


def client_of(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def adapted(start_server):
    server = start_server("--model", BASE, *ADAPTERS)
    yield client_of(server)
    server.stop()


@pytest.fixture(scope="module")
def drafted(start_server):
    server = start_server("--model", BASE, *ADAPTERS, "--draft", f"big={FIXTURES / 'tiny/qwen3_yarn'}")
    yield client_of(server)
    server.stop()


def said(client, model, **settings):
    """An answer with its log probabilities, in which two models differ even where they say the same."""
    request = {"prompt": list(range(3, 40)), "max_tokens": 24, "temperature": 0, "logprobs": 1}
    answer = client.completions.create(model=model, **{**request, **settings}, extra_body={"ignore_eos": True})
    assert answer.model == model
    assert answer.usage.completion_tokens == 24
    return answer.choices[0].text, answer.choices[0].logprobs.token_logprobs


def test_adapters_are_listed_and_chosen_by_their_names(adapted):
    names = [model.id for model in adapted.models.list()]
    assert {"big", "all", "some"} <= set(names)
    assert adapted.models.retrieve("some").id == "some"
    answers = {model: said(adapted, model) for model in ("big", "all", "some")}
    assert answers["big"] != answers["all"] != answers["some"] != answers["big"]
    assert answers["some"] == said(adapted, "some")
    with pytest.raises(openai.NotFoundError):
        said(adapted, "none")


def test_an_adapter_chats_and_streams(adapted):
    request = {"model": "all", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "temperature": 0}
    whole = adapted.chat.completions.create(**request)
    assert whole.model == "all"
    chunks = list(adapted.chat.completions.create(**request, stream=True))
    assert {chunk.model for chunk in chunks} == {"all"}
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == (whole.choices[0].message.content or "")


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1, "seed": 7}])
def test_a_draft_changes_no_answer(adapted, drafted, sampling):
    for model in ("big", "some"):
        assert said(drafted, model, **sampling) == said(adapted, model, **sampling)


def test_nothing_is_guessed_where_a_request_forbids_it(drafted):
    request = {"model": "big", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "temperature": 0}
    plain = drafted.chat.completions.create(**request, extra_body={"speculate": False})
    assert plain.choices[0].message == drafted.chat.completions.create(**request).choices[0].message
