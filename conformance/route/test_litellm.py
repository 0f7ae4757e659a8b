"""LiteLLM as a foreign pool behind us, and as a foreign client before us."""

import json
import os
import subprocess
import textwrap

import pytest
from anthropic import Anthropic
from openai import OpenAI

QUESTION = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture(scope="module")
def client(front):
    return OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0)


def ask(client, model, **more):
    return client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16, temperature=0, **more)


def test_a_foreign_pool_answers_as_its_upstream_does(client, back):
    direct = ask(OpenAI(base_url=f"{back.url}/v1", api_key="none"), "sampan-nano")
    through = ask(client, "foreign")
    assert through.choices[0].message.content == direct.choices[0].message.content
    assert through.usage.prompt_tokens == direct.usage.prompt_tokens
    assert through.usage.completion_tokens == direct.usage.completion_tokens


def test_a_foreign_pool_streams_with_one_usage(client):
    chunks = list(ask(client, "foreign", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens > 0
    assert sum(1 for chunk in chunks if chunk.usage) == 1
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]


def test_every_dialect_reaches_the_pools(front):
    client = Anthropic(base_url=front.url, api_key="none")
    for model in ["foreign", "by-anthropic", "sampan-nano"]:
        message = client.messages.create(model=model, messages=QUESTION, max_tokens=16)
        assert message.content[0].text
        assert message.usage.input_tokens > 0


def test_models_of_pools_are_listed(client):
    assert {"sampan-nano", "foreign", "by-anthropic", "gone"} <= {model.id for model in client.models.list()}


def test_a_pool_that_is_gone_is_followed_by_the_fallback(client, front):
    assert ask(client, "gone").choices[0].message.content
    status, body = front.request("GET", "/admin/v1/routes")
    assert status == 200
    choices = [entry["choice"] for entry in json.loads(body)["recent"] if entry["model"] == "gone"]
    assert {choice["pool"] for choice in choices} == {"closed", "litellm"}


def test_litellm_is_a_client_of_ours(front):
    program = textwrap.dedent(
        """
        import litellm, sys
        where = {"api_base": sys.argv[1] + "/v1", "api_key": "none", "max_tokens": 16, "temperature": 0}
        ask = [{"role": "user", "content": "Who are you?"}]
        whole = litellm.completion("openai/foreign", messages=ask, **where)
        pieces = litellm.completion("openai/foreign", messages=ask, stream=True, **where)
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
        assert text == whole.choices[0].message.content, (text, whole)
        assert whole.usage.completion_tokens > 0
        try:
            litellm.completion("openai/nobody", messages=ask, **where)
        except litellm.NotFoundError:
            print("good")
        """
    )
    python = os.path.join(os.path.dirname(os.environ["LITELLM"]), "python")
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [python, "-c", program, front.url]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.strip().endswith("good"), done.stdout + done.stderr
