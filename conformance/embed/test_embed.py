"""Embeddings and rankings through the clients of every vendor; skipped where no model does either."""

import json
import math

import cohere
import dashscope
import ollama
import openai
import pytest

TEXTS = ["A red boat lies on the river.", "Interest rates rose again."]


@pytest.fixture(scope="session")
def embedder(server):
    """The first model that embeds."""
    for card in json.loads(server.request("GET", "/v1/models")[1])["data"]:
        shown = server.request("POST", "/api/show", json.dumps({"model": card["id"]}))[1]
        if "embedding" in json.loads(shown).get("capabilities", []):
            return card["id"]
    pytest.skip("no model embeds")


@pytest.fixture(scope="session")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


def close(one, other):
    return len(one) == len(other) and all(abs(a - b) < 1e-3 for a, b in zip(one, other))


def test_every_dialect_embeds_alike(server, client, embedder):
    # The client asks for base64 and decodes it, unless it is told otherwise.
    coded = client.embeddings.create(model=embedder, input=TEXTS)
    plain = client.embeddings.create(model=embedder, input=TEXTS, encoding_format="float")
    vectors = [item.embedding for item in plain.data]
    assert all(close(one.embedding, other) for one, other in zip(coded.data, vectors))
    assert plain.usage.prompt_tokens > 0
    assert all(abs(math.hypot(*vector) - 1) < 1e-3 for vector in vectors)
    llama = ollama.Client(host=server.url)
    assert all(close(*pair) for pair in zip(llama.embed(embedder, TEXTS).embeddings, vectors))
    assert close(llama.embeddings(embedder, TEXTS[0]).embedding, vectors[0])
    dashscope.base_http_api_url = server.url + "/api/v1"
    answer = dashscope.TextEmbedding.call(model=embedder, input=TEXTS, api_key="none")
    assert answer.status_code == 200, answer
    assert all(close(item["embedding"], vector) for item, vector in zip(answer.output["embeddings"], vectors))


def test_fewer_dimensions(client, embedder):
    (item,) = client.embeddings.create(model=embedder, input=TEXTS[0], dimensions=16).data
    assert len(item.embedding) == 16 and abs(math.hypot(*item.embedding) - 1) < 1e-3


def test_what_cannot_be_embedded_is_refused(server, client):
    model = client.models.list().data[0].id
    for settings in ({"input": ""}, {"input": []}, {"input": "a", "model": model, "dimensions": 10**6}):
        with pytest.raises((openai.BadRequestError, openai.NotFoundError)):
            client.embeddings.create(**{"model": model, **settings})


def test_rerank_is_spoken(server):
    """Cohere's client reads an answer where a model ranks, and the reason where none does."""
    for client in (cohere.Client("none", base_url=server.url), cohere.ClientV2("none", base_url=server.url)):
        with pytest.raises((cohere.BadRequestError, cohere.NotFoundError)) as caught:
            client.rerank(model="no-such-model", query="boat", documents=TEXTS)
        assert "message" in caught.value.body
